//! Topics that are deleted and created again under their names, below drivers, producers and consumers that are open.

use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use octopus_loader::{Consumer, Driver, Error, Event, NewEvent, Producer, Status, Topic};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::json;

use crate::hosts::{reading_programs, run_host};
use crate::kafka::{self, Kafka, unique};
use crate::proxy::{ProxiedKafka, Request};
use crate::support::{Log, PATIENCE, driver_with, eventually, octopus, one_replica, read};

/// Within which open handles use the new topic.
const PICKED_UP: Duration = Duration::from_secs(30);

fn bare_driver(bootstrap: &str) -> Driver {
    let config = json!({"kafka": {"bootstrap.servers": bootstrap}, "disable_info_topic": true});
    octopus().driver(config).unwrap()
}

fn push(producer: &Producer, numbers: std::ops::Range<u64>) {
    for number in numbers {
        producer.push_forget(&NewEvent::json(&json!({"number": number}))).unwrap();
    }
    producer.flush().unwrap().wait(PATIENCE).unwrap();
}

fn number(event: &Event) -> u64 {
    event.json().unwrap()["number"].as_u64().unwrap()
}

fn create(driver: &Driver, name: &str) -> Topic {
    driver.create_topic(name, &one_replica()).unwrap();
    driver.open_topic(name).unwrap()
}

/// Deletes the topic, and creates it again before clients notice.
fn recreate(driver: &Driver, name: &str) {
    driver.delete_topic(name).unwrap();
    eventually("the name to be free", || driver.create_topic(name, &one_replica()).is_ok());
}

/// Reads until events with all these numbers have come. Gives the numbers of all that came, and the errors in between.
fn read_all(consumer: &Consumer, wanted: std::ops::Range<u64>) -> (Vec<u64>, Vec<Error>) {
    let started = Instant::now();
    let (mut numbers, mut errors) = (Vec::new(), Vec::new());
    while !wanted.clone().all(|number| numbers.contains(&number)) {
        assert!(started.elapsed() < PICKED_UP, "{wanted:?}: only {numbers:?} came, and {errors:?}");
        match consumer.next(Duration::from_millis(500)) {
            Ok(Some(event)) => numbers.push(number(&event)),
            Ok(None) => {}
            Err(error) => errors.push(error),
        }
    }
    (numbers, errors)
}

/// Each restart of a broker raises the leader epochs of its partitions; those of the new topic begin at 0.
#[test]
fn recreated_topic_with_a_lower_leader_epoch_is_used_by_open_handles() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("recreated");
    let _ = fs::remove_dir_all(&folder);
    let folder = folder.to_str().unwrap();
    let kafka = Kafka::start(&["--dir", folder]);
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
    let _kafka = Kafka::start(&["--dir", folder, "--port", port]);
    push(&producer, 3..6);
    read_all(&consumer, 3..6);

    // By somebody else.
    let other = driver_with(settings, &Log::default());
    recreate(&other, &name);
    let started = Instant::now();
    // Those on their way may fail.
    eventually("a push to be delivered", || {
        let pushed = producer.push(&NewEvent::json(&json!({"number": 100})));
        pushed.and_then(|future| future.wait(Duration::from_secs(5))).is_ok()
    });
    push(&producer, 101..106);
    read_all(&consumer, 100..106);
    assert!(started.elapsed() < PICKED_UP, "{:?}", started.elapsed());
    assert!(driver.list_topics().unwrap().get(&name).is_some());
    driver.open_topic(&name).unwrap();
    create(&driver, &unique("another"));
}

#[test]
fn acknowledgement_of_a_deleted_topic_does_not_skip_events_of_the_new_one() {
    let driver = bare_driver(Kafka::shared().bootstrap());
    // A broker that hears late of the deletion forgets what was committed before it did.
    let committed = std::iter::repeat_with(|| commit_into_a_recreated_topic(&driver)).take(20).flatten().next();
    let (name, group) = committed.expect("no commit came after the broker knew of the deletion");
    push(&driver.open_topic(&name).unwrap().producer("new").make().unwrap(), 100..160);

    let consumer = driver.open_topic(&name).unwrap().consumer(&group).make().unwrap();
    let (numbers, errors) = read_all(&consumer, 100..160);
    assert_eq!(numbers, (100..160).collect::<Vec<_>>());
    let statuses: Vec<_> = errors.iter().map(|error| error.status).collect();
    assert_eq!(statuses, [Status::RecordsLost], "{errors:?}");
    assert!(errors[0].message.contains(&name) && errors[0].message.contains(&group), "{}", errors[0]);
}

/// Kafka commits by name: what a consumer read of the old topic, into the new one. Gives topic and group if the position is there.
fn commit_into_a_recreated_topic(driver: &Driver) -> Option<(String, String)> {
    let (name, group) = (unique("acknowledged"), unique("group"));
    let topic = create(driver, &name);
    push(&topic.producer("writer").make().unwrap(), 0..20);
    let consumer = topic.consumer(&group).make().unwrap();
    let events = read(&consumer, 20);
    recreate(driver, &name);
    events[19].acknowledge().ok()?;
    consumer.commit(PATIENCE).unwrap();
    drop(consumer);
    (kafka::committed_offset(Kafka::shared().bootstrap(), &group, &name, 0) == Some(20)).then_some((name, group))
}

/// Other clients commit without metadata, or with their own.
#[test]
fn committed_positions_of_other_clients_count() {
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

/// By Kafka's own tool for topics, and another client of groups.
#[test]
fn commit_has_the_topic_id_in_its_metadata() {
    let bootstrap = Kafka::shared().bootstrap();
    let name = unique("identified");
    let topic = create(&bare_driver(bootstrap), &name);
    push(&topic.producer("writer").make().unwrap(), 0..1);
    let group = unique("group");
    let consumer = topic.consumer(&group).make().unwrap();
    read(&consumer, 1)[0].acknowledge().unwrap();
    consumer.close(PATIENCE).unwrap();

    let described = kafka::topic_config(bootstrap, &name);
    let id = described.split_once("TopicId: ").unwrap().1.split_whitespace().next().unwrap();
    let other: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", bootstrap).set("group.id", &group).create().unwrap();
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition(&name, 0);
    let committed = other.committed_offsets(offsets, PATIENCE).unwrap();
    let committed = committed.find_partition(&name, 0).unwrap();
    assert_eq!((committed.offset(), committed.metadata()), (Offset::Offset(1), &*format!("octopus topic-id={id}")));
}

/// A consumer that is there all the time starts over in the new topic, and what it acknowledged in the old one is dropped.
#[test]
fn consumer_starts_over_in_a_recreated_topic() {
    assert_starts_over("classic");
}

/// There the broker assigns partitions by the topics' ids.
#[test]
fn member_of_the_new_group_protocol_starts_over_in_a_recreated_topic() {
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
    let from_the_start = numbers.iter().rposition(|number| *number == 100).unwrap();
    assert_eq!(numbers[from_the_start..], (100..130).collect::<Vec<_>>(), "{numbers:?}");
    assert!(errors.iter().any(|error| error.status == Status::RecordsLost), "{errors:?}");
    assert_eq!(old[9].acknowledge().unwrap_err().status, Status::Stale);
    consumer.commit(PATIENCE).unwrap();
    assert_eq!(consumer.committed(0).unwrap(), None);
}

type Id = [u8; 16];

/// A broker that lags behind: it tells of the topic before.
struct Lagging {
    before: Id,
    now: Id,
    /// How often it has done so.
    times: u32,
}

static LAGGING: Mutex<Option<Lagging>> = Mutex::new(None);

fn report_the_topic_before(response: &mut [u8]) {
    let mut lagging = LAGGING.lock().unwrap();
    let Some(Lagging { before, now, times }) = &mut *lagging else { return };
    for at in 0..response.len().saturating_sub(now.len()) {
        if response[at..].starts_with(now) {
            response[at..at + now.len()].copy_from_slice(before);
            *times += 1;
        }
    }
}

fn topic_id(bootstrap: &str, name: &str) -> Id {
    let described = kafka::topic_config(bootstrap, name);
    let id = described.split_once("TopicId: ").unwrap().1.split_whitespace().next().unwrap();
    URL_SAFE_NO_PAD.decode(id).unwrap().try_into().unwrap()
}

#[test]
fn replaced_topic_is_not_used_again_when_a_broker_lags_behind() {
    let kafka = ProxiedKafka::start();
    kafka.spoil("lagging", Request::Metadata, |response| {
        report_the_topic_before(response);
        // The next one, too.
        false
    });
    let driver = bare_driver(kafka.bootstrap());
    let name = unique("lagging");
    let topic = create(&driver, &name);
    let before = topic_id(kafka.bootstrap(), &name);
    push(&topic.producer("writer").make().unwrap(), 0..10);
    let consumer = topic.consumer(&unique("group")).kafka("client.id", "lagging").make().unwrap();
    read_all(&consumer, 0..10);
    recreate(&driver, &name);
    let producer = driver.open_topic(&name).unwrap().producer("new").make().unwrap();
    push(&producer, 100..110);
    read_all(&consumer, 100..110);

    let now = topic_id(kafka.bootstrap(), &name);
    *LAGGING.lock().unwrap() = Some(Lagging { before, now, times: 0 });
    let times = || LAGGING.lock().unwrap().as_ref().map_or(0, |lagging| lagging.times);
    let (mut numbers, mut errors) = (Vec::new(), Vec::new());
    // The consumer asks for the id, learns of the old one, and asks for the leaders.
    eventually("the consumer to hear of the old topic", || {
        match consumer.next(Duration::from_millis(100)) {
            Ok(event) => numbers.extend(event.iter().map(number)),
            Err(error) => errors.push(error),
        }
        times() >= 3
    });
    push(&producer, 110..120);
    let (more, further_errors) = read_all(&consumer, 110..120);
    numbers.extend(more);
    errors.extend(further_errors);
    assert_eq!(numbers, (110..120).collect::<Vec<_>>(), "{errors:?}");
    assert!(errors.is_empty(), "{errors:?}");
}

/// As their users write them: a loop around one call, in each language.
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
