//! Record batches that can't be decoded: what a consumer reports, what it skips, and where it
//! continues.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use octopus_loader::{Consumer, Driver, Error, NewEvent, Producer, SkippedOffsets, Status, Topic};
use octopus_testkit::log_segment::{self, Batch};
use serde_json::json;

use crate::hosts::{reading_programs, run_host};
use crate::kafka::{Kafka, unique};
use crate::support::{Log, TIMEOUT, driver_with, eventually, topic_of};

const EVENTS_PER_BATCH: u64 = 3;
const BATCHES: u64 = 6;
/// The offsets of the damaged batch.
const DAMAGED: SkippedOffsets = SkippedOffsets { partition: 0, first: 6, last: 8 };

/// A broker whose log the tests can change. It ends with the test process, which holds its stdin
/// open.
struct Broker {
    kafka: Kafka,
    folder: PathBuf,
    driver: Driver,
}

static BROKER: LazyLock<Broker> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("damaged-data");
    let _ = fs::remove_dir_all(&folder);
    let kafka = Kafka::start(&["--dir", folder.to_str().unwrap()]).unwrap();
    let settings = json!({"kafka": {"bootstrap.servers": kafka.bootstrap()}, "disable_info_topic": true});
    Broker { kafka, folder: folder.join("broker-1"), driver: driver_with(settings, &Log::default()) }
});

impl Broker {
    fn batch(&self, topic: &Topic, offset: u64) -> Batch {
        Batch::find(&self.folder, topic.name(), 0, offset)
    }
}

/// Creates a topic with batches of three numbered events each.
fn topic_with_batches(compression: &str) -> (Topic, Producer) {
    let topic = topic_of(&BROKER.driver, "damaged", 1);
    let producer =
        topic.producer("writer").kafka("linger.ms", 60_000).kafka("compression.type", compression).make().unwrap();
    for batch in 0..BATCHES {
        write_batch(&producer, batch * EVENTS_PER_BATCH);
    }
    for batch in 0..BATCHES {
        let found = BROKER.batch(&topic, batch * EVENTS_PER_BATCH);
        assert_eq!((found.base_offset, found.record_count), (batch * EVENTS_PER_BATCH, EVENTS_PER_BATCH as u32));
    }
    (topic, producer)
}

fn write_batch(producer: &Producer, first: u64) {
    for number in first..first + EVENTS_PER_BATCH {
        let event = json!({"number": number, "text": "as compressible as text is, as text is"});
        producer.push_forget(&NewEvent::json(&event).data(&[number as u8; 100])).unwrap();
    }
    producer.flush().unwrap().wait(TIMEOUT).unwrap();
}

/// Reads and acknowledges events until `count` have arrived. Returns their ids, and the errors in
/// between.
fn read_with_errors(consumer: &Consumer, count: usize) -> (Vec<u64>, Vec<Error>) {
    let started = Instant::now();
    let (mut ids, mut errors) = (Vec::new(), Vec::new());
    while ids.len() < count {
        assert!(started.elapsed() < TIMEOUT, "only {ids:?} arrived, and {errors:?}");
        match consumer.next(TIMEOUT) {
            Ok(Some(event)) => {
                assert_eq!(event.json().unwrap()["number"], event.id());
                event.acknowledge().unwrap();
                ids.push(event.id());
            }
            Ok(None) => {}
            Err(error) => errors.push(error),
        }
    }
    (ids, errors)
}

fn all_ids_except(skipped: SkippedOffsets) -> Vec<u64> {
    (0..BATCHES * EVENTS_PER_BATCH).filter(|id| !(skipped.first..=skipped.last).contains(id)).collect()
}

/// Damages the third of six batches, and checks that a consumer reports and skips it.
fn assert_is_reported_and_skipped(what: &str, compression: &str, damage: impl FnOnce(&mut Batch)) {
    let (topic, _producer) = topic_with_batches(compression);
    let mut batch = BROKER.batch(&topic, DAMAGED.first);
    damage(&mut batch);
    batch.write();

    assert_reads_all_except(what, &topic.consumer(&unique("reader")).make().unwrap(), DAMAGED);
}

/// Expects one report of the damaged offsets, and all other events.
fn assert_reads_all_except(what: &str, consumer: &Consumer, damaged: SkippedOffsets) {
    let expected = all_ids_except(damaged);
    let (ids, errors) = read_with_errors(consumer, expected.len());
    assert_eq!(ids, expected, "{what}");
    let skipped: Vec<_> = errors.iter().map(|error| (error.status, error.skipped, error.retriable)).collect();
    assert_eq!(skipped, [(Status::DamagedData, Some(damaged), false)], "{what}: {errors:?}");
    let end = BATCHES * EVENTS_PER_BATCH;
    assert_eq!((consumer.position(0).unwrap(), consumer.lag(0).unwrap()), (end, 0), "{what}");
    consumer.commit(TIMEOUT).unwrap();
    assert_eq!(consumer.committed(0).unwrap(), Some(end), "{what}");
    consumer.close(TIMEOUT).unwrap();
}

#[test]
fn damaged_batch_is_reported_once_and_skipped() {
    assert_is_reported_and_skipped("a bit of a record", "none", |batch| {
        let last = batch.bytes.len() - 10;
        batch.bytes[last] ^= 0x40;
    });
    assert_is_reported_and_skipped("the checksum", "none", |batch| batch.bytes[log_segment::CHECKSUM] ^= 1);
}

#[test]
fn batch_with_a_wrong_header_is_reported_once_and_skipped() {
    assert_is_reported_and_skipped("magic byte", "none", |batch| batch.bytes[log_segment::MAGIC] = 7);
    for (count, what) in [(2, "too few records"), (6, "too many records"), (u32::MAX, "a negative number of records")] {
        assert_is_reported_and_skipped(what, "none", |batch| {
            batch.set_number(log_segment::RECORD_COUNT, count);
            batch.renew_checksum();
        });
    }
    assert_is_reported_and_skipped("an unknown codec", "none", |batch| {
        batch.bytes[log_segment::ATTRIBUTES + 1] |= 7;
        batch.renew_checksum();
    });
}

/// The checksum does not cover the base offset.
#[test]
fn batch_with_a_wrong_offset_is_reported_once_and_skipped() {
    for (byte, bit) in [(0, 0x80), (2, 1), (5, 1), (7, 1), (7, 2), (7, 4), (7, 8), (7, 16)] {
        assert_is_reported_and_skipped(&format!("bits {bit:#x} of byte {byte} of the offset"), "none", |batch| {
            batch.bytes[byte] ^= bit;
        });
    }
}

/// With small fetches, the damaged batch is the only one in its fetch response.
#[test]
fn batch_that_claims_offsets_of_the_next_is_reported() {
    for claimed in [1, 2, 3, 6, 9] {
        assert_is_reported_by_all_fetch_sizes(&format!("base offset too high by {claimed}"), |batch| {
            batch.bytes[7] += claimed
        });
        assert_is_reported_by_all_fetch_sizes(&format!("last offset too high by {claimed}"), |batch| {
            batch.set_number(log_segment::LAST_OFFSET_DELTA, EVENTS_PER_BATCH as u32 - 1 + u32::from(claimed));
            batch.renew_checksum();
        });
    }
}

/// Reads with fetch sizes from one batch to all batches in a response.
fn assert_is_reported_by_all_fetch_sizes(what: &str, damage: impl Fn(&mut Batch)) {
    let (topic, _producer) = topic_with_batches("none");
    let mut batch = BROKER.batch(&topic, DAMAGED.first);
    damage(&mut batch);
    batch.write();
    for bytes in [1, 1_000, 1_000_000] {
        let consumer = topic.consumer(&unique("reader")).kafka("max.partition.fetch.bytes", bytes);
        assert_reads_all_except(&format!("{what}, fetched by {bytes} bytes"), &consumer.make().unwrap(), DAMAGED);
    }
}

#[test]
fn batch_with_a_wrong_record_is_reported_once_and_skipped() {
    let check_record_length = |what: &str, length: [u8; 2]| {
        assert_is_reported_and_skipped(what, "none", |batch| {
            // Each record is longer than 63 bytes, so its length takes two bytes.
            assert!(batch.bytes[log_segment::RECORDS] & 0x80 != 0);
            batch.bytes[log_segment::RECORDS..log_segment::RECORDS + 2].copy_from_slice(&length);
            batch.renew_checksum();
        });
    };
    check_record_length("a record that is longer than the batch", [0xfe, 0x7f]);
    check_record_length("a record with a negative length", [0x81, 0x00]);
    check_record_length("a record that is shorter than its key and value", [0x90, 0x00]);
    assert_is_reported_and_skipped("a record with a byte more or less", "none", |batch| {
        batch.bytes[log_segment::RECORDS] ^= 2;
        batch.renew_checksum();
    });
}

#[test]
fn damaged_compressed_batch_is_reported_once_and_skipped() {
    for codec in ["gzip", "snappy", "lz4", "zstd"] {
        assert_is_reported_and_skipped(codec, codec, |batch| {
            let last = batch.bytes.len() - 10;
            batch.bytes[last] ^= 0x40;
        });
        assert_is_reported_and_skipped(codec, codec, |batch| {
            batch.bytes[log_segment::RECORDS..].fill(0xa5);
            batch.renew_checksum();
        });
    }
}

/// A stored block that is not marked as the last one, with nothing behind it: a decoder that waits
/// for the last block never finishes.
#[test]
fn gzip_stream_without_an_end_is_reported_once_and_skipped() {
    assert_is_reported_and_skipped("gzip without an end", "gzip", |batch| {
        let records = &mut batch.bytes[log_segment::RECORDS..];
        let size = (records.len() - 15) as u16;
        let header = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0];
        let stream = [&header[..], &size.to_le_bytes(), &(!size).to_le_bytes()].concat();
        records[..stream.len()].copy_from_slice(&stream);
        batch.renew_checksum();
    });
}

/// A file name in the header of the gzip stream pads it, so that the batch keeps its size.
#[test]
fn batch_decompressing_to_nothing_is_reported_and_skipped() {
    assert_is_reported_and_skipped("gzip of nothing", "gzip", |batch| {
        let records = &mut batch.bytes[log_segment::RECORDS..];
        let (header, end) = ([0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 3], [0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let name = records.len() - header.len() - end.len();
        records.copy_from_slice(&[&header[..], &vec![b'x'; name], &end].concat());
        batch.renew_checksum();
    });
}

/// Message sets from before Kafka 0.11, which brokers send as they are stored on disk.
#[test]
fn events_in_messages_of_old_formats_are_read() {
    for (magic, is_compressed) in [(0, false), (0, true), (1, false), (1, true)] {
        let (topic, _) = topic_with_messages(magic, is_compressed);
        let consumer = topic.consumer(&unique("reader")).make().unwrap();
        let (ids, errors) = read_with_errors(&consumer, (BATCHES * EVENTS_PER_BATCH) as usize);
        assert_eq!(
            (ids, errors),
            ((0..BATCHES * EVENTS_PER_BATCH).collect(), vec![]),
            "version {magic}, compressed: {is_compressed}"
        );
    }
}

#[test]
fn damaged_old_format_message_is_reported_once_and_skipped() {
    let second = SkippedOffsets { partition: 0, first: 7, last: 7 };
    for magic in [0, 1] {
        let assert_is_reported = |what: &str, is_compressed, fetched: &[u32], damage: &dyn Fn(&mut [u8])| {
            let (topic, mut batches) = topic_with_messages(magic, is_compressed);
            let batch = &mut batches[2];
            let (begin, skipped) = if is_compressed { (0, DAMAGED) } else { (batch.second_message(), second) };
            damage(&mut batch.bytes[begin..]);
            batch.write();
            for &bytes in fetched {
                let consumer =
                    topic.consumer(&unique("reader")).kafka("max.partition.fetch.bytes", bytes).make().unwrap();
                let what = format!("version {magic}, compressed: {is_compressed}, fetched by {bytes} bytes: {what}");
                assert_reads_all_except(&what, &consumer, skipped);
            }
        };
        for is_compressed in [false, true] {
            let (by_all, by_one) = ([1_000_000], [1, 1_000_000]);
            assert_is_reported("the checksum", is_compressed, &by_one, &|message| {
                message[log_segment::OLD_CHECKSUM] ^= 1
            });
            for (byte, bit) in [(0, 0x80), (2, 1), (5, 1), (7, 1), (7, 2), (7, 4), (7, 8), (7, 16)] {
                // Kafka's broker fails all fetches after a compressed message with a negative
                // offset.
                if is_compressed && byte == 0 {
                    continue;
                }
                let what = format!("bits {bit:#x} of byte {byte} of the offset");
                assert_is_reported(&what, is_compressed, &by_all, &|message| message[byte] ^= bit);
            }
        }
    }
}

/// Creates a topic whose batches are messages of an old format on the broker's disk.
fn topic_with_messages(magic: u8, is_compressed: bool) -> (Topic, Vec<Batch>) {
    let (topic, _producer) = topic_with_batches("none");
    let mut batches = Batch::all(&BROKER.folder, topic.name(), 0);
    for batch in &mut batches {
        batch.turn_into_messages(magic, is_compressed);
        batch.write();
    }
    (topic, batches)
}

/// The broker follows the lengths of batches to find an offset, so it may not find the batches
/// after a damaged length.
#[test]
fn batch_unreadable_by_the_broker_is_reported_and_skipped() {
    for length in [0, 48, 60, 200, 0x7000_0000, u32::MAX] {
        let (topic, producer) = topic_with_batches("none");
        let mut batch = BROKER.batch(&topic, DAMAGED.first);
        batch.set_number(log_segment::LENGTH, length);
        batch.write();
        let consumer = topic.consumer(&unique("reader")).make().unwrap();
        let started = Instant::now();
        let end = BATCHES * EVENTS_PER_BATCH;
        let (mut ids, mut skipped) = (Vec::new(), Vec::<SkippedOffsets>::new());
        while ids.last().copied().max(skipped.last().map(|skipped| skipped.last)) < Some(end - 1) {
            assert!(started.elapsed() < TIMEOUT, "length {length}: only {ids:?} arrived, {skipped:?} are skipped");
            match consumer.next(Duration::from_millis(200)) {
                Ok(event) => ids.extend(event.map(|event| event.id())),
                Err(error) => {
                    assert_eq!(error.status, Status::DamagedData, "length {length}: {error}");
                    skipped.extend(error.skipped);
                }
            }
        }
        let [skipped] = skipped[..] else { panic!("length {length}: {skipped:?}") };
        assert_eq!(skipped.first, DAMAGED.first, "length {length}");
        assert!(skipped.last >= DAMAGED.last, "length {length}: {skipped:?}");
        assert_eq!(ids, all_ids_except(skipped), "length {length}: {skipped:?}");
        println!("length {length}: {skipped:?} in {:?}", started.elapsed());
        write_batch(&producer, end);
    }
}

#[test]
fn damage_at_the_end_is_reported_and_later_records_are_read() {
    let (topic, producer) = topic_with_batches("none");
    let first = (BATCHES - 1) * EVENTS_PER_BATCH;
    let end = BATCHES * EVENTS_PER_BATCH;
    let mut batch = BROKER.batch(&topic, first);
    *batch.bytes.last_mut().unwrap() ^= 1;
    batch.write();
    let consumer = topic.consumer(&unique("reader")).make().unwrap();
    let (ids, errors) = read_with_errors(&consumer, first as usize);
    assert_eq!((ids, errors), ((0..first).collect(), vec![]));
    let error = consumer.next(TIMEOUT).unwrap_err();
    let skipped = SkippedOffsets { partition: 0, first, last: end - 1 };
    assert_eq!((error.status, error.skipped), (Status::DamagedData, Some(skipped)), "{error}");
    assert_eq!(consumer.position(0).unwrap(), end);
    write_batch(&producer, end);
    let (ids, errors) = read_with_errors(&consumer, 3);
    assert_eq!((ids, errors), ((end..end + 3).collect(), vec![]));
}

#[test]
fn consumer_stopped_at_damage_continues_after_a_seek() {
    let (topic, _producer) = topic_with_batches("none");
    let mut batch = BROKER.batch(&topic, DAMAGED.first);
    *batch.bytes.last_mut().unwrap() ^= 1;
    batch.write();
    let group = unique("reader");
    let consumer = topic.consumer(&group).option("on_damaged", "stop").make().unwrap();
    let (ids, errors) = read_with_errors(&consumer, DAMAGED.first as usize);
    assert_eq!((ids, errors), ((0..DAMAGED.first).collect(), vec![]));
    eventually("the end of the damage is found", || {
        let result = consumer.next(Duration::from_millis(500));
        result.is_err_and(|error| error.skipped == Some(DAMAGED))
    });
    for _ in 0..3 {
        let error = consumer.next(Duration::from_millis(10)).unwrap_err();
        assert_eq!((error.status, error.skipped), (Status::DamagedData, Some(DAMAGED)), "{error}");
    }
    assert_eq!(consumer.position(0).unwrap(), DAMAGED.first);
    consumer.seek(0, DAMAGED.last + 1).unwrap();
    let (ids, errors) = read_with_errors(&consumer, 9);
    assert_eq!((ids, errors), ((DAMAGED.last + 1..18).collect(), vec![]));
}

#[test]
fn unknown_on_damaged_value_is_rejected() {
    let (topic, _producer) = topic_with_batches("none");
    for value in [json!("ignore"), json!(1), json!(null)] {
        let error = topic.consumer("reader").option("on_damaged", value).make().unwrap_err();
        assert_eq!(error.status, Status::InvalidConfiguration);
        assert!(error.message.contains("on_damaged") && error.message.contains("\"stop\""), "{error}");
    }
}

/// Programs as users write them: a loop around one call, in each language.
#[test]
fn ordinary_programs_skip_damaged_batches_and_continue() {
    let (topic, _producer) = topic_with_batches("none");
    let mut batch = BROKER.batch(&topic, DAMAGED.first);
    let last = batch.bytes.len() - 10;
    batch.bytes[last] ^= 0x40;
    batch.write();

    let events = |ids: std::ops::Range<u64>| ids.map(|id| format!("event {id}\n")).collect::<String>();
    let expected = format!(
        "{}skipped {} to {} of partition 0\n{}",
        events(0..DAMAGED.first),
        DAMAGED.first,
        DAMAGED.last,
        events(DAMAGED.last + 1..BATCHES * EVENTS_PER_BATCH),
    );
    let wanted = all_ids_except(DAMAGED).len().to_string();
    for (language, mut program) in reading_programs() {
        program.args([BROKER.kafka.bootstrap(), topic.name(), &unique("reading"), &wanted]);
        assert_eq!(run_host(&program), expected, "{language}");
    }
}
