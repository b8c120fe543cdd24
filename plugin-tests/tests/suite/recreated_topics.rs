//! Topics that are deleted and recreated under the same name while drivers, producers and consumers
//! are open.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use octopus_loader::{Consumer, Driver, Error, Event, NewEvent, Producer, Rebalance, Status, Topic};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::json;

use crate::hosts::{reading_programs, run_host};
use crate::kafka::{self, Kafka, unique};
use crate::proxy::{ApiKey, ProxiedKafka};
use crate::support::{Log, TIMEOUT, driver_with, eventually, octopus, one_replica, read};

/// Within this time open handles use the new topic.
const MAX_PICKUP_TIME: Duration = Duration::from_secs(30);
/// How long a rebalance callback of the host takes: longer than it takes to read a few events.
const SLOW_CALLBACK: Duration = Duration::from_secs(2);

fn bare_driver(bootstrap: &str) -> Driver {
    let config = json!({"kafka": {"bootstrap.servers": bootstrap}, "disable_info_topic": true});
    octopus().driver(config).unwrap()
}

fn push(producer: &Producer, numbers: std::ops::Range<u64>) {
    for number in numbers {
        producer.push_forget(&NewEvent::json(&json!({"number": number}))).unwrap();
    }
    producer.flush().unwrap().wait(TIMEOUT).unwrap();
}

fn number(event: &Event) -> u64 {
    event.json().unwrap()["number"].as_u64().unwrap()
}

fn create(driver: &Driver, name: &str) -> Topic {
    driver.create_topic(name, &one_replica()).unwrap();
    driver.open_topic(name).unwrap()
}

/// Deletes the topic and creates it again before clients notice the deletion.
fn recreate(driver: &Driver, name: &str) {
    driver.delete_topic(name).unwrap();
    eventually("the name to be free", || driver.create_topic(name, &one_replica()).is_ok());
}

/// Reads until events with all numbers in `wanted` have arrived. Returns the numbers of all events
/// and the errors.
fn read_all(consumer: &Consumer, wanted: std::ops::Range<u64>) -> (Vec<u64>, Vec<Error>) {
    let started = Instant::now();
    let (mut numbers, mut errors) = (Vec::new(), Vec::new());
    while !wanted.clone().all(|number| numbers.contains(&number)) {
        assert!(
            started.elapsed() < MAX_PICKUP_TIME,
            "{wanted:?}: only {numbers:?} arrived, with the errors {errors:?}"
        );
        match consumer.next(Duration::from_millis(500)) {
            Ok(Some(event)) => numbers.push(number(&event)),
            Ok(None) => {}
            Err(error) => errors.push(error),
        }
    }
    (numbers, errors)
}

/// Each restart of a broker raises the leader epochs of its partitions; those of a new topic begin
/// at 0.
#[test]
fn open_handles_use_a_recreated_topic_with_lower_epoch() {
    // Of this process, since a fault row may run the same test beside the suite.
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("recreated-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    let folder = folder.to_str().unwrap();
    let kafka = Kafka::start(&["--dir", folder]).unwrap();
    let bootstrap = kafka.bootstrap().to_owned();
    let port = bootstrap.rsplit_once(':').unwrap().1;
    let settings = json!({"kafka": {"bootstrap.servers": bootstrap}});
    let driver = driver_with(settings.clone(), &Log::default());
    let name = unique("recreated");
    let topic = create(&driver, &name);
    let producer = topic.producer("writer").make().unwrap();
    let consumer = topic.consumer(&unique("reader")).make().unwrap();
    push(&producer, 0..3);
    read_all(&consumer, 0..3);
    drop(kafka);
    let _kafka = Kafka::start(&["--dir", folder, "--port", port]).unwrap();
    push(&producer, 3..6);
    read_all(&consumer, 3..6);

    let other = driver_with(settings, &Log::default());
    recreate(&other, &name);
    let started = Instant::now();
    // Pushes that are in flight during the deletion may fail.
    eventually("a push to be delivered", || {
        let pushed = producer.push(&NewEvent::json(&json!({"number": 100})));
        pushed.and_then(|future| future.wait(Duration::from_secs(5))).is_ok()
    });
    push(&producer, 101..106);
    read_all(&consumer, 100..106);
    assert!(started.elapsed() < MAX_PICKUP_TIME, "{:?}", started.elapsed());
    assert!(driver.list_topics().unwrap().get(&name).is_some());
    driver.open_topic(&name).unwrap();
    create(&driver, &unique("another"));
}

/// The consumer has given its partition up when it learns of the new topic, and gets it back before
/// any other member: its position, the end of the old topic, does not count any more. Events are
/// read while the host's rebalance callback still runs, and the first one is the topic's first.
#[test]
fn topic_recreated_after_a_revocation_is_read_from_its_beginning() {
    let revoked = Arc::new(AtomicBool::new(false));
    let is_revoked = revoked.clone();
    let config = json!({"kafka": {"bootstrap.servers": Kafka::shared().bootstrap()}, "disable_info_topic": true});
    let builder = octopus().driver_builder(config);
    let builder = builder.rebalance(move |_, what, _| {
        let is_assigned_again = what == Rebalance::Assigned && is_revoked.load(Ordering::Relaxed);
        is_revoked.store(what != Rebalance::Assigned, Ordering::Relaxed);
        if is_assigned_again {
            thread::sleep(SLOW_CALLBACK);
        }
    });
    let driver = builder.create().unwrap();
    let name = unique("revoked");
    let topic = create(&driver, &name);
    push(&topic.producer("writer").make().unwrap(), 0..6);
    let consumer = topic.consumer(&unique("reader")).make().unwrap();
    read_all(&consumer, 0..6);

    driver.delete_topic(&name).unwrap();
    let started = Instant::now();
    while !revoked.load(Ordering::Relaxed) {
        assert!(started.elapsed() < TIMEOUT, "no revocation");
        // Reports the deleted topic.
        let _ = consumer.next(Duration::from_millis(100));
    }
    push(&create(&bare_driver(Kafka::shared().bootstrap()), &name).producer("new").make().unwrap(), 100..120);
    let (numbers, errors) = read_all(&consumer, 100..120);
    assert_eq!(numbers, (100..120).collect::<Vec<_>>());
    let lost = errors.iter().filter(|error| error.status == Status::RecordsLost).count();
    assert_eq!(lost, 1, "{errors:?}");
}

/// A consumer of the new topic reports lost records and reads all events instead of starting at the
/// offset of the old topic.
#[test]
fn commit_from_a_deleted_topic_skips_nothing_in_the_new_one() {
    let driver = bare_driver(Kafka::shared().bootstrap());
    // A broker that learns late of the deletion then also deletes offsets that were committed
    // meanwhile, so that several attempts may be necessary.
    let committed = std::iter::repeat_with(|| commit_into_a_recreated_topic(&driver)).take(20).flatten().next();
    let (name, group) = committed.expect("a commit after the broker learned of the deletion");
    push(&driver.open_topic(&name).unwrap().producer("new").make().unwrap(), 100..160);

    let consumer = driver.open_topic(&name).unwrap().consumer(&group).make().unwrap();
    let (numbers, errors) = read_all(&consumer, 100..160);
    assert_eq!(numbers, (100..160).collect::<Vec<_>>());
    let statuses: Vec<_> = errors.iter().map(|error| error.status).collect();
    assert_eq!(statuses, [Status::RecordsLost], "{errors:?}");
    assert!(errors[0].message.contains(&name) && errors[0].message.contains(&group), "{}", errors[0]);
}

/// Acknowledges an event of a deleted topic. Kafka stores committed offsets by topic name, so that
/// the offset can apply to the new topic. Returns the topic and the group if it does.
fn commit_into_a_recreated_topic(driver: &Driver) -> Option<(String, String)> {
    let (name, group) = (unique("acknowledged"), unique("group"));
    let topic = create(driver, &name);
    push(&topic.producer("writer").make().unwrap(), 0..20);
    let consumer = topic.consumer(&group).make().unwrap();
    let events = read(&consumer, 20);
    recreate(driver, &name);
    events[19].acknowledge().ok()?;
    consumer.commit(TIMEOUT).unwrap();
    drop(consumer);
    (kafka::committed_offset(Kafka::shared().bootstrap(), &group, &name, 0) == Some(20)).then_some((name, group))
}

/// Other clients commit without metadata or with metadata of their own.
#[test]
fn offsets_committed_by_other_clients_are_used() {
    let bootstrap = Kafka::shared().bootstrap();
    let driver = bare_driver(bootstrap);
    for metadata in ["", "octopus", "{\"by\": \"another client\"}"] {
        let name = unique("foreign");
        let topic = create(&driver, &name);
        push(&topic.producer("writer").make().unwrap(), 0..10);
        let group = unique("group");
        let other: BaseConsumer =
            ClientConfig::new().set("bootstrap.servers", bootstrap).set("group.id", &group).create().unwrap();
        let mut offsets = TopicPartitionList::new();
        let mut partition = offsets.add_partition(&name, 0);
        partition.set_offset(Offset::Offset(6)).unwrap();
        partition.set_metadata(metadata);
        other.commit(&offsets, CommitMode::Sync).unwrap();
        drop(other);

        let consumer = topic.consumer(&group).make().unwrap();
        assert_eq!(read_all(&consumer, 6..10).0, [6, 7, 8, 9], "{metadata:?}");
    }
}

/// Kafka's tool for topics and another client's query for committed offsets agree on the id.
#[test]
fn commit_has_the_topic_id_in_its_metadata() {
    let bootstrap = Kafka::shared().bootstrap();
    let name = unique("identified");
    let topic = create(&bare_driver(bootstrap), &name);
    push(&topic.producer("writer").make().unwrap(), 0..1);
    let group = unique("group");
    let consumer = topic.consumer(&group).make().unwrap();
    read(&consumer, 1)[0].acknowledge().unwrap();
    consumer.close(TIMEOUT).unwrap();

    let described = kafka::topic_config(bootstrap, &name);
    let id = described.split_once("TopicId: ").unwrap().1.split_whitespace().next().unwrap();
    let other: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", bootstrap).set("group.id", &group).create().unwrap();
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition(&name, 0);
    let committed = other.committed_offsets(offsets, TIMEOUT).unwrap();
    let committed = committed.find_partition(&name, 0).unwrap();
    assert_eq!((committed.offset(), committed.metadata()), (Offset::Offset(1), &*format!("octopus topic-id={id}")));
}

/// The consumer stays open meanwhile. Acknowledgements of events of the old topic are stale.
#[test]
fn consumer_starts_over_in_a_recreated_topic() {
    assert_starts_over("classic");
}

/// With `group.protocol=consumer` the broker assigns partitions by topic id.
#[test]
fn consumer_protocol_member_starts_over_in_a_recreated_topic() {
    assert_starts_over("consumer");
}

fn assert_starts_over(group_protocol: &str) {
    let driver = bare_driver(Kafka::shared().bootstrap());
    let name = unique("over");
    let topic = create(&driver, &name);
    push(&topic.producer("writer").make().unwrap(), 0..10);
    let consumer = topic.consumer(&unique("group")).kafka("group.protocol", group_protocol).make().unwrap();
    let old = read(&consumer, 10);
    recreate(&driver, &name);
    push(&driver.open_topic(&name).unwrap().producer("new").make().unwrap(), 100..130);
    let (numbers, errors) = read_all(&consumer, 100..130);
    let start = numbers.iter().rposition(|number| *number == 100).unwrap();
    assert_eq!(numbers[start..], (100..130).collect::<Vec<_>>(), "{numbers:?}");
    assert!(errors.iter().any(|error| error.status == Status::RecordsLost), "{errors:?}");
    assert_eq!(old[9].acknowledge().unwrap_err().status, Status::Stale);
    consumer.commit(TIMEOUT).unwrap();
    assert_eq!(consumer.committed(0).unwrap(), None);
}

/// Nothing arrives that would show the consumer that the topic is another one. Its position and the
/// acknowledgements of the old topic's events must not count for the new one.
#[test]
fn position_in_an_empty_recreated_topic_is_its_beginning() {
    let driver = bare_driver(Kafka::shared().bootstrap());
    let name = unique("empty");
    let topic = create(&driver, &name);
    push(&topic.producer("writer").make().unwrap(), 0..10);
    let consumer = topic.consumer(&unique("group")).make().unwrap();
    let old = read(&consumer, 10);
    recreate(&driver, &name);
    let mut lost = Vec::new();
    eventually("the position to be the beginning", || {
        match consumer.next(Duration::from_millis(100)) {
            Ok(event) => assert!(event.is_none(), "the new topic is empty"),
            Err(error) => lost.extend((error.status == Status::RecordsLost).then_some(error)),
        }
        consumer.position(0).ok() == Some(0)
    });
    if lost.is_empty() {
        lost.extend(consumer.next(Duration::from_secs(1)).err());
    }
    assert!(matches!(&lost[..], [error] if error.status == Status::RecordsLost), "{lost:?}");
    assert_eq!(old[9].acknowledge().unwrap_err().status, Status::Stale);
    consumer.commit(TIMEOUT).unwrap();
    assert_eq!(consumer.committed(0).unwrap(), None);
}

type TopicId = [u8; 16];

/// The state of a broker that lags behind and reports the id of the deleted topic.
struct LaggingBroker {
    old: TopicId,
    new: TopicId,
    /// How often the broker reported the old id.
    reports: u32,
}

static LAGGING: Mutex<Option<LaggingBroker>> = Mutex::new(None);

fn report_old_topic_id(response: &mut [u8]) {
    let mut lagging = LAGGING.lock().unwrap();
    let Some(LaggingBroker { old, new, reports }) = &mut *lagging else { return };
    for at in 0..response.len().saturating_sub(new.len()) {
        if response[at..].starts_with(new) {
            response[at..at + new.len()].copy_from_slice(old);
            *reports += 1;
        }
    }
}

fn topic_id(bootstrap: &str, name: &str) -> TopicId {
    let described = kafka::topic_config(bootstrap, name);
    let id = described.split_once("TopicId: ").unwrap().1.split_whitespace().next().unwrap();
    URL_SAFE_NO_PAD.decode(id).unwrap().try_into().unwrap()
}

/// Metadata responses with the id of the deleted topic are ignored.
#[test]
fn replaced_topic_is_not_used_again_when_a_broker_lags_behind() {
    let kafka = ProxiedKafka::start();
    kafka.corrupt_responses("lagging", ApiKey::Metadata, |response| {
        report_old_topic_id(response);
        // The next responses are to be changed too.
        false
    });
    let driver = bare_driver(kafka.bootstrap());
    let name = unique("lagging");
    let topic = create(&driver, &name);
    let old = topic_id(kafka.bootstrap(), &name);
    push(&topic.producer("writer").make().unwrap(), 0..10);
    let consumer = topic.consumer(&unique("group")).kafka("client.id", "lagging").make().unwrap();
    read_all(&consumer, 0..10);
    recreate(&driver, &name);
    let producer = driver.open_topic(&name).unwrap().producer("new").make().unwrap();
    push(&producer, 100..110);
    read_all(&consumer, 100..110);

    let new = topic_id(kafka.bootstrap(), &name);
    *LAGGING.lock().unwrap() = Some(LaggingBroker { old, new, reports: 0 });
    let reports = || LAGGING.lock().unwrap().as_ref().map_or(0, |lagging| lagging.reports);
    let (mut numbers, mut errors) = (Vec::new(), Vec::new());
    // Three metadata responses: the consumer requests the topic id, receives the old one and
    // requests the leaders.
    eventually("the consumer to receive the old topic id", || {
        match consumer.next(Duration::from_millis(100)) {
            Ok(event) => numbers.extend(event.iter().map(number)),
            Err(error) => errors.push(error),
        }
        reports() >= 3
    });
    push(&producer, 110..120);
    let (more, further_errors) = read_all(&consumer, 110..120);
    numbers.extend(more);
    errors.extend(further_errors);
    assert_eq!(numbers, (110..120).collect::<Vec<_>>(), "{errors:?}");
    assert!(errors.is_empty(), "{errors:?}");
}

/// The programs are those that users write: a loop around one call, in each language.
#[test]
fn ordinary_programs_read_on_in_a_recreated_topic() {
    let bootstrap = Kafka::shared().bootstrap();
    let driver = bare_driver(bootstrap);
    for (language, mut program) in reading_programs() {
        let (name, group) = (unique("reading"), unique("group"));
        let topic = create(&driver, &name);
        push(&topic.producer("writer").make().unwrap(), 0..3);
        program.args([bootstrap, &name, &group, "6"]);
        let running = thread::spawn(move || run_host(&program));
        eventually("the first events are committed", || {
            kafka::committed_offset(bootstrap, &group, &name, 0) == Some(3)
        });
        recreate(&driver, &name);
        push(&driver.open_topic(&name).unwrap().producer("writer").make().unwrap(), 0..3);
        let printed = running.join().unwrap();
        let events: Vec<_> = printed.lines().filter(|line| line.starts_with("event")).collect();
        let expected = ["event 0", "event 1", "event 2"].repeat(2);
        assert_eq!(events, expected, "{language}: {printed}");
    }
}
