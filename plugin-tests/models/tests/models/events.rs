//! Events for the models.

use std::sync::Arc;

use octopus_models::components::Provided;
use octopus_models::config::RecordFormats;
use octopus_models::event::{ChunkBuilder, RecordReading, SharedEvent};
use octopus_models::kafka::librdkafka::message::Message;
use octopus_models::kafka::librdkafka::pinned_responses::PinnedResponses;
use octopus_models::kafka::librdkafka::record::{Fetched, Payload, RawRecord};
use octopus_models::positions::{DeliveryOrder, Positions};
use octopus_models::record::{EventRecord, Metadata, Record as _};

/// Positions with the partitions 0 and 1 assigned, from offset 0 on.
pub fn positions() -> Arc<Positions> {
    let positions = Arc::new(Positions::default());
    positions.assign(0, 1, Some(0), None);
    positions.assign(1, 1, Some(0), None);
    positions
}

/// The next events of a partition, in one chunk. The data of each is its offset.
pub fn events(positions: &Arc<Positions>, partition: u32, count: u8) -> Vec<SharedEvent> {
    let records: Vec<_> = (0..count).map(|_| record(positions, partition)).collect();
    let mut chunk = ChunkBuilder::for_leading(&records, positions).expect("there are records");
    assert_eq!(chunk.remaining(), records.len());
    let reading = RecordReading { formats: RecordFormats::Diaspora, serializer: &Provided::BuiltIn };
    records.into_iter().map(|record| chunk.read(record, &reading).unwrap()).collect()
}

fn record(positions: &Positions, partition: u32) -> RawRecord<'static> {
    let offset = positions.next(partition).expect("the partition is assigned");
    let DeliveryOrder::InOrder(assignment) = positions.lock().deliver(partition, offset) else {
        panic!("the offset is the next one");
    };
    let mut bytes = Vec::new();
    let data = [&[offset as u8][..]];
    EventRecord::new(Metadata::Json("{}"), data.into_iter()).encode(|part| bytes.extend_from_slice(part));
    let payload = Payload::Fetched(Fetched::new(Message(bytes), &PinnedResponses));
    RawRecord { payload, partition, offset, assignment }
}
