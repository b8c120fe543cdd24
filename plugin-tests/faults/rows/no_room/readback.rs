//! What is in a topic, as librdkafka's consumer in this process reads it; the plugin has no part in that.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};
use serde_json::Value;

use crate::run::{Failure, OrFail, Result, check};

/// An event, and where it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub partition: u32,
    pub offset: u64,
    pub whose: String,
    pub number: u32,
}

/// All events, which must be so many; more that come at once are given too.
pub fn all(bootstrap: &str, topic: &str, partitions: i32, count: usize, at_most: Duration) -> Result<Vec<Place>> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "readback")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .create()
        .or_fail("making a consumer to read back with")?;
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset(topic, partition, Offset::Beginning).or_fail("naming a partition")?;
    }
    consumer.assign(&list).or_fail("reading back")?;
    let began = Instant::now();
    let (mut places, mut ended) = (Vec::new(), BTreeSet::new());
    while ended.len() < partitions as usize {
        check(began.elapsed() < at_most, format_args!("read {} of {count} events back in {at_most:?}", places.len()))?;
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                let payload = message.payload().ok_or_else(|| Failure::new("a record has bytes"))?;
                let (partition, offset) = (message.partition() as u32, message.offset() as u64);
                places.push(place(payload, partition, offset)?);
            }
            Some(Err(rdkafka::error::KafkaError::PartitionEOF(partition))) => drop(ended.insert(partition)),
            Some(Err(why)) => return Err(Failure::new(format_args!("reading back: {why}"))),
            None => {}
        }
    }
    check(places.len() == count, format_args!("{count} events are there, not {}", places.len()))?;
    Ok(places)
}

/// Takes the metadata out of a record: a JSON text behind 16 bytes of headers and the 8 of its length (src/record.rs).
fn place(payload: &[u8], partition: u32, offset: u64) -> Result<Place> {
    const START: usize = 24;
    let length = payload.get(16..START).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
    let text = length.and_then(|length| payload.get(START..START + length as usize));
    let text = text.ok_or_else(|| Failure::new(format_args!("the record at {offset} has metadata")))?;
    let metadata: Value = serde_json::from_slice(text).or_fail("reading metadata")?;
    let whose = metadata["whose"].as_str().unwrap_or("first").to_owned();
    Ok(Place { partition, offset, whose, number: metadata["number"].as_u64().unwrap_or(0) as u32 })
}

/// Of one thread, in its order.
pub fn is_in_order(places: &BTreeSet<Place>) -> Result<()> {
    let mut next: BTreeMap<&str, u32> = BTreeMap::new();
    for place in places {
        let expected = next.entry(&place.whose).or_default();
        check(place.number == *expected, format_args!("{expected} comes next of its thread, not {place:?}"))?;
        *expected += 1;
    }
    Ok(())
}
