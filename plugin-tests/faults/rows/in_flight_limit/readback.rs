//! Reads a topic back with librdkafka's consumer in this process, without the plugin.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};
use serde_json::Value;

use crate::run::{Failure, OrFail, Result, check};

/// An event and its offset.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct StoredEvent {
    pub partition: u32,
    pub offset: u64,
    pub thread: String,
    pub number: u32,
}

/// Reads all events, of which there must be `count`.
pub fn all(bootstrap: &str, topic: &str, partitions: i32, count: usize, timeout: Duration) -> Result<Vec<StoredEvent>> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "readback")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .create()
        .or_fail("creating a consumer to read back")?;
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset(topic, partition, Offset::Beginning).or_fail("adding a partition to the list")?;
    }
    consumer.assign(&list).or_fail("reading back")?;
    let started = Instant::now();
    let (mut events, mut ended) = (Vec::new(), BTreeSet::new());
    while ended.len() < partitions as usize {
        check(
            started.elapsed() < timeout,
            format_args!("read {} of {count} events back in {timeout:?}", events.len()),
        )?;
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                let payload = message.payload().ok_or_else(|| Failure::new("a record has a payload"))?;
                let (partition, offset) = (message.partition() as u32, message.offset() as u64);
                events.push(parse_event(payload, partition, offset)?);
            }
            Some(Err(rdkafka::error::KafkaError::PartitionEOF(partition))) => drop(ended.insert(partition)),
            Some(Err(why)) => return Err(Failure::new(format_args!("reading back: {why}"))),
            None => {}
        }
    }
    check(events.len() == count, format_args!("{count} events are stored, not {}", events.len()))?;
    Ok(events)
}

/// Parses the metadata of a record: JSON after 16 bytes of headers and 8 bytes of its length
/// (src/record.rs).
fn parse_event(payload: &[u8], partition: u32, offset: u64) -> Result<StoredEvent> {
    const START: usize = 24;
    let length = payload.get(16..START).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
    let text = length.and_then(|length| payload.get(START..START + length as usize));
    let text = text.ok_or_else(|| Failure::new(format_args!("the record at offset {offset} has metadata")))?;
    let metadata: Value = serde_json::from_slice(text).or_fail("reading metadata")?;
    let thread = metadata["whose"].as_str().unwrap_or("first").to_owned();
    Ok(StoredEvent { partition, offset, thread, number: metadata["number"].as_u64().unwrap_or(0) as u32 })
}

/// Checks that each thread's events are in the order of their pushes.
pub fn check_order(events: &BTreeSet<StoredEvent>) -> Result<()> {
    let mut next: BTreeMap<&str, u32> = BTreeMap::new();
    for event in events {
        let expected = next.entry(&event.thread).or_default();
        check(event.number == *expected, format_args!("event {expected} of the thread is next, not {event:?}"))?;
        *expected += 1;
    }
    Ok(())
}
