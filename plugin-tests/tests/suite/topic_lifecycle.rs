//! Creation of topics by racing, failing and killed creators; deletion, emptying and listing of
//! topics.

use std::process::{Child, Command};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use octopus_loader::{Driver, NewEvent, Status};
use serde_json::{Value, json};

use crate::kafka::{self, Kafka, unique};
use crate::proxy::{ApiKey, FaultInjection, HeldMessage, ProxiedKafka};
use crate::support::{Log, TIMEOUT, driver, driver_with, eventually, octopus, one_replica};

/// How long an info topic without its topic is reserved for its creator.
const LEASE: Duration = Duration::from_secs(30);

/// A component that identifies the creator of a topic. No component of its type is registered,
/// which only pushes require.
fn mark(of: impl Into<Value>) -> Value {
    json!({"type": "mark", "of": of.into()})
}

fn components_in_kafka(bootstrap: &str, info_topic: &str) -> Vec<Value> {
    let records = kafka::kcat_read(bootstrap, info_topic);
    records.iter().map(|record| serde_json::from_slice(&record.value).unwrap()).collect()
}

/// The other creators get the error that the topic exists.
#[test]
fn one_of_eight_creators_wins_and_its_components_are_stored() {
    let name = unique("race");
    let drivers: Vec<_> = (0..8).map(|_| driver()).collect();
    let start = Barrier::new(drivers.len());
    let create = |index: usize, driver: &Driver| {
        start.wait();
        driver.create_topic(&name, &one_replica().partitions(index as u32 + 1).validator(mark(index)))
    };
    let create = &create;
    let outcomes: Vec<_> = thread::scope(|scope| {
        let creators: Vec<_> =
            drivers.iter().enumerate().map(|(index, driver)| scope.spawn(move || create(index, driver))).collect();
        creators.into_iter().map(|creator| creator.join().unwrap()).collect()
    });
    let winners: Vec<_> = (0..8).filter(|index| outcomes[*index].is_ok()).collect();
    assert_eq!(winners.len(), 1, "{outcomes:?}");
    for error in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
        assert_eq!(error.status, Status::TopicExists, "{error}");
        assert!(error.message.contains(&name), "{error}");
    }
    let topic = driver().open_topic(&name).unwrap();
    assert_eq!(topic.components()["validator"], mark(winners[0]));
    assert_eq!(topic.partition_count() as usize, winners[0] + 1);
    let info = components_in_kafka(Kafka::shared().bootstrap(), &format!("__info_{name}"));
    assert_eq!(info.len(), 3, "another creator wrote to the info topic: {info:?}");
}

/// The creator is killed before or after the broker processes each of its requests. The topic has
/// the components of the creator that created it.
#[test]
fn creator_killed_at_any_step_is_succeeded_by_another() {
    let kafka = ProxiedKafka::start();
    // A creator creates the info topic first and the topic second.
    let steps = [
        (ApiKey::CreateTopics, 1, HeldMessage::Request),
        (ApiKey::CreateTopics, 1, HeldMessage::Response),
        (ApiKey::Produce, 1, HeldMessage::Request),
        (ApiKey::Produce, 1, HeldMessage::Response),
        (ApiKey::CreateTopics, 2, HeldMessage::Request),
        (ApiKey::CreateTopics, 2, HeldMessage::Response),
    ];
    let kafka = &kafka;
    thread::scope(|scope| {
        for step in steps {
            scope.spawn(move || kill_and_create_again(kafka, step));
        }
    });
}

fn kill_and_create_again(kafka: &ProxiedKafka, step: (ApiKey, usize, HeldMessage)) {
    let name = unique("killed");
    let fault = kafka.inject_fault(&name, step.0, step.1, step.2);
    Creator::start(kafka, &name).kill_when(&fault);
    if step.0 == ApiKey::Produce {
        let records = components_in_kafka(kafka.bootstrap(), &format!("__info_{name}")).len();
        let written = if step.2 == HeldMessage::Response { 3 } else { 0 };
        assert_eq!(records, written, "{step:?}: one request writes all records");
    }

    // The lease of the killed creator takes half of the default timeout of 60 s.
    let config = json!({"kafka": {"bootstrap.servers": kafka.bootstrap()}, "timeout_ms": 180_000});
    let driver = octopus().driver(config).unwrap();
    let winner = match driver.create_topic(&name, &one_replica().validator(mark("second"))) {
        Ok(()) => "second",
        Err(error) if error.status == Status::TopicExists => "first",
        Err(error) => panic!("{step:?}: {error}"),
    };
    let is_created = step == (ApiKey::CreateTopics, 2, HeldMessage::Response);
    assert_eq!(winner == "first", is_created, "{step:?}");
    assert_eq!(driver.open_topic(&name).unwrap().components()["validator"], mark(winner), "{step:?}");
    let info = components_in_kafka(kafka.bootstrap(), &format!("__info_{name}"));
    let default = json!({"type": "default"});
    assert_eq!(info, [mark(winner), default.clone(), default], "{step:?}");
}

/// A process that creates a topic; its `client.id` is the name of the topic.
struct Creator(Child);

impl Creator {
    fn start(kafka: &ProxiedKafka, name: &str) -> Self {
        let config = json!({"kafka": {"bootstrap.servers": kafka.bootstrap(), "client.id": name}});
        let process = Command::new(env!("CARGO_BIN_EXE_creator"))
            .args([&config.to_string(), name, &mark("first").to_string()])
            .env(plugin_tests::LIBRARY_VARIABLE, octopus().path())
            .spawn();
        Creator(process.expect("the creator is built"))
    }

    fn kill_when(mut self, fault: &FaultInjection) {
        let held = fault.wait(TIMEOUT);
        // SIGKILL leaves the process no chance to clean up.
        self.0.kill().unwrap();
        self.0.wait().unwrap();
        assert!(held, "the creator never sent the request at which it is killed");
    }
}

#[test]
fn orphaned_info_topic_after_its_lease_is_taken_over_at_once() {
    let kafka = Kafka::shared();
    let name = unique("stale");
    let info = format!("__info_{name}");
    kafka::create_topic(kafka.bootstrap(), &info, 1, &[]);
    kafka::write_aged(kafka.bootstrap(), &info, 3, LEASE + Duration::from_secs(5));
    let started = Instant::now();
    driver().create_topic(&name, &one_replica().validator(mark("new"))).unwrap();
    assert!(started.elapsed() < LEASE / 2, "{:?}", started.elapsed());
    assert_eq!(driver().open_topic(&name).unwrap().components()["validator"], mark("new"));
}

/// At most one of them succeeds, and the topic has the components of exactly one.
#[test]
fn one_of_eight_creators_takes_over_an_orphaned_info_topic() {
    let kafka = Kafka::shared();
    let name = unique("stale-race");
    let info = format!("__info_{name}");
    kafka::create_topic(kafka.bootstrap(), &info, 1, &[]);
    kafka::write_aged(kafka.bootstrap(), &info, 3, 2 * LEASE);
    let outcomes: Vec<_> = thread::scope(|scope| {
        let name = &name;
        let create = move |index: u32| driver().create_topic(name, &one_replica().validator(mark(index)));
        let creators: Vec<_> = (0..8).map(|index| scope.spawn(move || create(index))).collect();
        creators.into_iter().map(|creator| creator.join().unwrap()).collect()
    });
    let creator = driver().open_topic(&name).unwrap().components()["validator"]["of"].clone();
    let winners: Vec<_> = (0..8).filter(|index| outcomes[*index].is_ok()).collect();
    // No creator has to succeed: two that start within milliseconds can each receive the error that
    // the topic exists.
    assert!(winners.len() <= 1 && winners.iter().all(|winner| creator == json!(winner)), "{creator}: {outcomes:?}");
    assert!(creator.is_u64(), "{creator}");
}

/// A topic that cannot be an info topic blocks the creation and is not changed.
#[test]
fn foreign_topic_named_like_an_info_topic_is_kept() {
    let kafka = Kafka::shared();
    let (several, full) = (unique("several"), unique("full"));
    kafka::create_topic(kafka.bootstrap(), &format!("__info_{several}"), 2, &[]);
    kafka::create_topic(kafka.bootstrap(), &format!("__info_{full}"), 1, &[]);
    kafka::write_aged(kafka.bootstrap(), &format!("__info_{full}"), 4, 2 * LEASE);
    for (name, why) in [(&several, "2 partitions"), (&full, "more than 3 records")] {
        let info = format!("__info_{name}");
        let error = driver().create_topic(name, &one_replica()).unwrap_err();
        assert_eq!(error.status, Status::InvalidArgument);
        assert!(error.message.contains(&info) && error.message.contains(why), "{error}");
        assert!(driver().topic_exists(&info).unwrap() && !driver().topic_exists(name).unwrap());
    }
    assert_eq!(kafka::kcat_read(kafka.bootstrap(), &format!("__info_{full}")).len(), 4);
}

#[test]
fn create_with_a_short_timeout_reports_another_creator() {
    let kafka = Kafka::shared();
    let name = unique("busy");
    kafka::create_topic(kafka.bootstrap(), &format!("__info_{name}"), 1, &[]);
    let driver = driver_with(json!({"timeout_ms": 1000}), &Log::default());
    let error = driver.create_topic(&name, &one_replica()).unwrap_err();
    assert!(error.status == Status::Unreachable && error.retriable, "{error}");
    assert!(error.message.contains("another creator"), "{error}");
}

#[test]
fn name_with_the_info_topic_prefix_is_rejected() {
    let name = unique("own");
    driver().create_topic(&name, &one_replica()).unwrap();
    let info = format!("__info_{name}");
    for error in [driver().create_topic(&info, &one_replica()), driver().delete_topic(&info)].map(Result::unwrap_err) {
        assert_eq!(error.status, Status::InvalidArgument);
        assert!(error.message.contains("info_topic_prefix"), "{error}");
    }
    assert!(driver().topic_exists(&info).unwrap());
    let other = driver_with(json!({"info_topic_prefix": "about-"}), &Log::default());
    other.create_topic(&unique("__info_fine"), &one_replica()).unwrap();
}

#[test]
fn deleted_topic_frees_its_name_and_info_topic_at_once() {
    let driver = driver();
    let name = unique("deleted");
    for round in 0..3 {
        driver.create_topic(&name, &one_replica().partitions(round + 1).validator(mark(round))).unwrap();
        let topic = driver.open_topic(&name).unwrap();
        assert_eq!((topic.partition_count(), &topic.components()["validator"]), (round + 1, &mark(round)));
        assert_eq!(driver.list_topics().unwrap()[&name]["validator"], mark(round));
        driver.delete_topic(&name).unwrap();
        assert!(!driver.topic_exists(&name).unwrap());
        assert!(!driver.topic_exists(&format!("__info_{name}")).unwrap());
        assert_eq!(driver.list_topics().unwrap().get(&name), None);
    }
}

/// The deletion of a topic that exists only in another namespace is an error that names it.
#[test]
fn deleting_a_topic_affects_only_its_namespace() {
    let name = unique("spaces");
    let lab = driver_with(json!({"namespace": "lab"}), &Log::default());
    lab.create_topic(&name, &one_replica()).unwrap();
    let error = driver().delete_topic(&name).unwrap_err();
    assert_eq!(error.status, Status::UnknownTopic);
    assert!(error.message.contains(&name), "{error}");
    driver().create_topic(&name, &one_replica()).unwrap();
    lab.delete_topic(&name).unwrap();
    assert!(!lab.topic_exists(&name).unwrap());
    assert!(!driver().topic_exists(&format!("lab.__info_{name}")).unwrap());
    driver().open_topic(&name).unwrap();
}

#[test]
fn topic_without_info_topic_can_be_deleted() {
    let kafka = Kafka::shared();
    let name = unique("plain");
    kafka::create_topic(kafka.bootstrap(), &name, 2, &[]);
    driver().delete_topic(&name).unwrap();
    assert!(!driver().topic_exists(&name).unwrap());
}

/// Topics with a missing or invalid info topic have default components, and a warning is logged
/// once.
#[test]
fn list_topics_returns_a_namespaces_topics_with_components() {
    let kafka = Kafka::shared();
    let (space, log) = (unique("space"), Log::default());
    let driver = driver_with(json!({"namespace": space}), &log);
    let serializer = json!({"schema": {"type": "object"}, "type": "schema"});
    driver.create_topic("a", &one_replica().partitions(3).serializer(serializer.clone())).unwrap();
    driver.create_topic("b", &one_replica()).unwrap();
    driver_with(json!({"namespace": format!("{space}.inner")}), &log).create_topic("c", &one_replica()).unwrap();
    self::driver().create_topic(&unique("elsewhere"), &one_replica()).unwrap();
    // A topic without an info topic, one whose info topic is incomplete, one whose info topic is
    // invalid, and an info topic without its topic.
    kafka::create_topic(kafka.bootstrap(), &format!("{space}.bare"), 1, &[]);
    for name in ["short", "invalid", "orphan"] {
        kafka::create_topic(kafka.bootstrap(), &format!("{space}.__info_{name}"), 1, &[]);
    }
    for name in ["short", "invalid"] {
        kafka::create_topic(kafka.bootstrap(), &format!("{space}.{name}"), 1, &[]);
    }
    for record in [&b"{}"[..], b"not JSON", b"{}"] {
        kafka::kcat_write(kafka.bootstrap(), &format!("{space}.__info_invalid"), 0, record);
    }

    let default = json!({"type": "default"});
    let plain = |partitions: u32| json!({"validator": default, "selector": default, "serializer": default, "num_partitions": partitions});
    let mut a = plain(3);
    a["serializer"] = serializer;
    for _ in 0..2 {
        let listed = driver.list_topics().unwrap();
        assert_eq!(listed, json!({"a": a, "b": plain(1), "short": plain(1), "invalid": plain(1)}));
    }
    for (name, why) in [("short", "lacks records"), ("invalid", "not json")] {
        let warned =
            log.count(|line| line.contains("warn") && line.contains(&format!("\"{name}\"")) && line.contains(why));
        assert_eq!(warned, 1, "{name}: {log:?}");
    }
}

#[test]
fn topic_creation_does_not_linger_on_its_info_topic() {
    let driver = driver();
    // A busy machine may delay any one creation, but not all of them; a linger would delay each by
    // a second.
    let measure_creation = || {
        let started = Instant::now();
        driver.create_topic(&unique("quickly"), &one_replica()).unwrap();
        started.elapsed()
    };
    let fastest = (0..5).map(|_| measure_creation()).min().unwrap();
    assert!(fastest < Duration::from_millis(600), "{fastest:?}");
}

#[test]
fn five_hundred_topics_are_listed_within_three_seconds() {
    const TOPICS: usize = 500;
    const CREATORS: usize = 8;
    let driver = driver_with(json!({"namespace": unique("many"), "timeout_ms": 60_000}), &Log::default());
    thread::scope(|scope| {
        for creator in 0..CREATORS {
            let driver = &driver;
            scope.spawn(move || {
                for number in (creator..TOPICS).step_by(CREATORS) {
                    driver.create_topic(&format!("t{number}"), &one_replica().validator(mark(number))).unwrap();
                }
            });
        }
    });
    let started = Instant::now();
    let listed = driver.list_topics().unwrap();
    let duration = started.elapsed();
    println!("listed {TOPICS} topics in {duration:?}");
    assert_eq!(listed.as_object().unwrap().len(), TOPICS);
    for number in 0..TOPICS {
        assert_eq!(listed[format!("t{number}")]["validator"], mark(number));
    }
    assert!(duration < Duration::from_secs(3), "{duration:?}");
}

#[test]
fn expiring_or_compacted_info_topic_is_warned_of_once() {
    let kafka = Kafka::shared();
    for (config, setting) in [
        (&[][..], "retention.ms=604800000"),
        (&[("retention.ms", "-1"), ("cleanup.policy", "compact")], "cleanup.policy=compact"),
        (&[("retention.ms", "-1"), ("retention.bytes", "1000")], "retention.bytes=1000"),
    ] {
        let (name, log) = (unique("expiring"), Log::default());
        kafka::create_topic(kafka.bootstrap(), &name, 1, &[]);
        // C++ Octopus creates the info topic without these settings.
        kafka::create_topic(kafka.bootstrap(), &format!("__info_{name}"), 1, config);
        let driver = driver_with(json!({}), &log);
        (0..3).for_each(|_| drop(driver.open_topic(&name).unwrap()));
        let warned = |line: &str| line.contains("warn") && line.contains(setting) && line.contains("retention.ms=-1");
        assert_eq!(log.count(warned), 1, "{setting}: {log:?}");
    }
    let (name, log) = (unique("kept"), Log::default());
    let driver = driver_with(json!({}), &log);
    driver.create_topic(&name, &one_replica()).unwrap();
    driver.open_topic(&name).unwrap();
    assert_eq!(log.count(|line| line.contains("warn")), 0, "a warning about an info topic of this library: {log:?}");
}

#[test]
fn embedded_kafka_lists_topics_but_cannot_delete_them() {
    let driver = octopus().driver(json!({"embedded": {}})).unwrap();
    assert_eq!(driver.list_topics().unwrap(), json!({}));
    let outcomes: Vec<_> = thread::scope(|scope| {
        let create = |index: u32| driver.create_topic("raced", &one_replica().validator(mark(index)));
        let creators: Vec<_> = (0..4).map(|index| scope.spawn(move || create(index))).collect();
        creators.into_iter().map(|creator| creator.join().unwrap()).collect()
    });
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
    driver.create_topic("two", &one_replica().partitions(2)).unwrap();
    let listed = driver.list_topics().unwrap();
    assert_eq!(listed.as_object().unwrap().len(), 2, "{listed}");
    assert_eq!(listed["two"]["num_partitions"], 2);
    let winner = outcomes.iter().position(Result::is_ok).unwrap();
    assert_eq!(listed["raced"]["validator"], mark(winner));
    assert_eq!(driver.delete_topic("two").unwrap_err().status, Status::Unsupported);
    assert_eq!(driver.delete_topic("none").unwrap_err().status, Status::UnknownTopic);
}

/// Its records are deleted; open producers and consumers keep working.
#[test]
fn emptied_topic_keeps_components_and_open_handles() {
    let (driver, name, kept) = (driver(), unique("emptied"), json!({"note": "kept"}));
    driver.create_topic(&name, &one_replica().partitions(3).selector(kept.clone())).unwrap();
    let topic = driver.open_topic(&name).unwrap();
    let (producer, consumer) = (topic.producer("p").make().unwrap(), topic.consumer(&unique("group")).make().unwrap());
    let push = |number: u64| {
        producer.push(&NewEvent::json(&number).partition(number % 3)).unwrap().wait(TIMEOUT).unwrap();
    };
    (0..30).for_each(push);
    driver.empty_topic(&name).unwrap();
    assert_eq!(kafka::kcat_read(Kafka::shared().bootstrap(), &name), []);
    assert_eq!(driver.open_topic(&name).unwrap().components()["selector"], kept);
    push(30);
    // The consumer reports the lost events as an error; it may have prefetched some of them.
    eventually("the new event is read", || {
        consumer.next(TIMEOUT).is_ok_and(|event| event.expect("an event").json().unwrap() == json!(30))
    });
    driver.empty_topic(&name).unwrap();
    driver.empty_topic(&name).expect("an empty topic can be emptied");
}

#[test]
fn emptying_an_unknown_topic_or_info_topic_is_rejected() {
    let (driver, name) = (driver(), unique("never-created"));
    let error = driver.empty_topic(&name).unwrap_err();
    assert_eq!(error.status, Status::UnknownTopic, "{error}");
    assert!(error.message.contains(&name), "{error}");
    assert_eq!(driver.empty_topic(&format!("__info_{name}")).unwrap_err().status, Status::InvalidArgument);
    let embedded = octopus().driver(json!({"embedded": {}})).unwrap();
    embedded.create_topic("t", &Default::default()).unwrap();
    assert_eq!(embedded.empty_topic("t").unwrap_err().status, Status::Unsupported);
}
