//! How events share chunks, and when a chunk is freed. Pinned responses need a real Kafka; the
//! suite tests them.

use std::collections::HashSet;
use std::sync::Arc;
use std::thread;

use super::{ChunkBuilder, RecordReading, SharedEvent};
use crate::components::Provided;
use crate::config::RecordFormats;
use crate::kafka::librdkafka::record::{Payload, RawRecord};
use crate::positions::{DeliveryOrder, Positions};
use crate::record::{EventRecord, Metadata, Record as _};
use crate::support::error::{Kind, Result};

fn payload(data: &[u8]) -> Vec<u8> {
    let record = EventRecord::new(Metadata::Json(r#"{"a":1}"#), [data].into_iter());
    let mut bytes = Vec::new();
    record.encode(|part| bytes.extend_from_slice(part));
    bytes
}

fn positions() -> Arc<Positions> {
    let positions = Arc::new(Positions::default());
    positions.assign(0, 1, Some(0), None);
    positions
}

fn read_all(payloads: &[Vec<u8>], positions: &Arc<Positions>) -> Vec<Result<SharedEvent>> {
    let reading = RecordReading { formats: RecordFormats::Diaspora, serializer: &Provided::BuiltIn };
    let records = payloads.iter().enumerate().map(|(offset, payload)| {
        let mut guard = positions.lock();
        if guard.next(0) > Some(offset as u64) {
            guard.start_over(0, offset as u64, None);
        }
        let DeliveryOrder::InOrder(assignment) = guard.deliver(0, offset as u64) else { panic!("not in order") };
        let payload = Payload::Given(payload);
        RawRecord { payload, partition: 0, offset: offset as u64, assignment }
    });
    let mut rest = records.collect::<Vec<_>>().into_iter();
    let mut read = Vec::new();
    while let Some(mut chunk) = ChunkBuilder::for_leading(rest.as_slice(), positions) {
        read.extend(rest.by_ref().take(chunk.remaining()).map(|record| chunk.read(record, &reading)));
    }
    read
}

fn chunks(events: &[SharedEvent]) -> usize {
    events.iter().map(|event| event.chunk).collect::<HashSet<_>>().len()
}

fn events(payloads: &[Vec<u8>], positions: &Arc<Positions>) -> Vec<SharedEvent> {
    read_all(payloads, positions).into_iter().map(|event| event.unwrap_or_else(|error| panic!("{error}"))).collect()
}

#[test]
fn small_events_share_chunks_and_each_has_its_own_bytes() {
    let payloads: Vec<_> = (0..200u8).map(|number| payload(&[number; 50])).collect();
    let events = events(&payloads, &positions());
    assert_eq!((events.len(), chunks(&events)), (200, 4));
    for (number, event) in events.iter().enumerate() {
        assert_eq!((event.offset(), event.data()), (number as u64, &[number as u8; 50][..]));
        assert_eq!(event.metadata(), Some(r#"{"a":1}"#));
        event.acknowledge().unwrap();
    }
}

#[test]
fn only_a_single_event_exceeds_the_chunk_size() {
    let large = |number| payload(&vec![number; 10_000]);
    let together = events(&[large(1), large(2), payload(b"x"), payload(&[3; 100_000]), payload(b"y")], &positions());
    assert_eq!(chunks(&together), 4, "the third event shares the chunk of the second");
    assert_eq!(together[3].data(), [3; 100_000]);
}

#[test]
fn chunk_is_freed_with_its_last_event_in_any_order() {
    let positions = positions();
    let mut held = events(&(0..10).map(|_| payload(b"data")).collect::<Vec<_>>(), &positions);
    held.push(held[3].clone());
    assert_eq!(Arc::strong_count(&positions), 2, "one chunk");
    while held.len() > 1 {
        drop(held.remove(held.len() / 2));
    }
    assert_eq!((held[0].data(), Arc::strong_count(&positions)), (&b"data"[..], 2));
    drop(held);
    assert_eq!(Arc::strong_count(&positions), 1);
}

#[test]
fn malformed_records_do_not_affect_other_events() {
    let positions = positions();
    let payloads = [payload(b"a"), b"short".to_vec(), payload(b"b"), vec![0; 17]];
    let read = read_all(&payloads, &positions);
    let outcomes: Vec<_> =
        read.iter().map(|event| event.as_ref().map(|event| event.data()).map_err(|error| error.kind())).collect();
    assert_eq!(outcomes, [Ok(&b"a"[..]), Err(Kind::MalformedRecord), Ok(&b"b"[..]), Err(Kind::MalformedRecord)]);
    drop(read);
    drop(read_all(&payloads[1..2], &positions));
    assert_eq!(Arc::strong_count(&positions), 1, "chunks without events are freed, too");
}

#[test]
fn threads_release_events_of_one_chunk_concurrently() {
    let positions = positions();
    for _ in 0..200 {
        let mut held = events(&(0..64).map(|_| payload(b"data")).collect::<Vec<_>>(), &positions);
        thread::scope(|scope| {
            while !held.is_empty() {
                let share = held.split_off(held.len().saturating_sub(16));
                scope.spawn(move || share.iter().for_each(|event| assert_eq!(event.clone().data(), b"data")));
            }
        });
        assert_eq!(Arc::strong_count(&positions), 1);
        positions.seek(0, 0);
    }
}

#[test]
fn reference_survives_the_round_trip_through_a_pointer() {
    let positions = positions();
    let event = events(&[payload(b"data")], &positions).remove(0);
    let pointer = event.into_raw();
    // SAFETY: `pointer` came from `into_raw` above.
    let again = unsafe { SharedEvent::from_raw(pointer) };
    assert_eq!((again.data(), again.as_ptr()), (&b"data"[..], pointer));
}
