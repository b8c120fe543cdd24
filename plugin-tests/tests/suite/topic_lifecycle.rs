//! How topics come to be when creators race, fail or die, how they go, and how they are listed.

use std::process::{Child, Command};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use octopus_loader::{Driver, NewEvent, Status};
use serde_json::{Value, json};

use crate::kafka::{self, Kafka, unique};
use crate::proxy::{Held, ProxiedKafka, Request, Trap};
use crate::support::{Log, PATIENCE, driver, driver_with, eventually, octopus, one_replica};

/// How long an info topic without its topic belongs to whoever made it.
const LEASE: Duration = Duration::from_secs(30);

/// A component that tells who made it; of a type that nobody provides, which making a topic doesn't mind.
fn mark(of: impl Into<Value>) -> Value {
    json!({"type": "mark", "of": of.into()})
}

fn components_in_kafka(bootstrap: &str, info_topic: &str) -> Vec<Value> {
    let records = kafka::kcat_read(bootstrap, info_topic);
    records.iter().map(|record| serde_json::from_slice(&record.value).unwrap()).collect()
}

#[test]
fn of_eight_creators_one_makes_the_topic_and_it_has_that_ones_components() {
    let name = unique("race");
    let drivers: Vec<_> = (0..8).map(|_| driver()).collect();
    let start = Barrier::new(drivers.len());
    let create = |index: usize, driver: &Driver| {
        start.wait();
        driver.create_topic(&name, &one_replica().partitions(index as u32 + 1).validator(mark(index)))
    };
    let create = &create;
    let outcomes: Vec<_> = thread::scope(|scope| {
        let racing: Vec<_> =
            drivers.iter().enumerate().map(|(index, driver)| scope.spawn(move || create(index, driver))).collect();
        racing.into_iter().map(|one| one.join().unwrap()).collect()
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
    assert_eq!(info.len(), 3, "nobody else wrote: {info:?}");
}

#[test]
fn a_creator_may_be_killed_after_any_step_and_another_makes_the_topic() {
    let kafka = ProxiedKafka::start();
    // The first topic that a creator makes is the info topic.
    let steps = [
        (Request::CreateTopics, 1, Held::Request),
        (Request::CreateTopics, 1, Held::Answer),
        (Request::Produce, 1, Held::Request),
        (Request::Produce, 1, Held::Answer),
        (Request::CreateTopics, 2, Held::Request),
        (Request::CreateTopics, 2, Held::Answer),
    ];
    let kafka = &kafka;
    thread::scope(|scope| {
        for step in steps {
            scope.spawn(move || kill_at_and_create_again(kafka, step));
        }
    });
}

fn kill_at_and_create_again(kafka: &ProxiedKafka, step: (Request, usize, Held)) {
    let name = unique("killed");
    let trap = kafka.trap(&name, step.0, step.1, step.2);
    Creator::start(kafka, &name).kill_when(&trap);
    if step.0 == Request::Produce {
        let left = components_in_kafka(kafka.bootstrap(), &format!("__info_{name}")).len();
        let written = if step.2 == Held::Answer { 3 } else { 0 };
        assert_eq!(left, written, "{step:?}: one request writes all records");
    }

    // Of the usual 60 s the first one's lease takes half.
    let config = json!({"kafka": {"bootstrap.servers": kafka.bootstrap()}, "timeout_ms": 180_000});
    let driver = octopus().driver(config).unwrap();
    let maker = match driver.create_topic(&name, &one_replica().validator(mark("second"))) {
        Ok(()) => "second",
        Err(error) if error.status == Status::TopicExists => "first",
        Err(error) => panic!("{step:?}: {error}"),
    };
    let was_made = step == (Request::CreateTopics, 2, Held::Answer);
    assert_eq!(maker == "first", was_made, "{step:?}: the topic has those components that it was made with");
    assert_eq!(driver.open_topic(&name).unwrap().components()["validator"], mark(maker), "{step:?}");
    let info = components_in_kafka(kafka.bootstrap(), &format!("__info_{name}"));
    let default = json!({"type": "default"});
    assert_eq!(info, [mark(maker), default.clone(), default], "{step:?}");
}

/// A process that makes a topic whose name is also its `client.id`.
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

    fn kill_when(mut self, trap: &Trap) {
        let held = trap.wait(PATIENCE);
        // SIGKILL: nothing of it gets a chance to tidy up.
        self.0.kill().unwrap();
        self.0.wait().unwrap();
        assert!(held, "the creator never came to where it should be killed");
    }
}

#[test]
fn a_left_over_older_than_a_lease_is_taken_over_at_once() {
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

#[test]
fn of_eight_creators_that_find_a_left_over_one_at_most_succeeds_and_the_topic_has_one_ones_components() {
    let kafka = Kafka::shared();
    let name = unique("stale-race");
    let info = format!("__info_{name}");
    kafka::create_topic(kafka.bootstrap(), &info, 1, &[]);
    kafka::write_aged(kafka.bootstrap(), &info, 3, 2 * LEASE);
    let outcomes: Vec<_> = thread::scope(|scope| {
        let name = &name;
        let create = move |index: u32| driver().create_topic(name, &one_replica().validator(mark(index)));
        let racing: Vec<_> = (0..8).map(|index| scope.spawn(move || create(index))).collect();
        racing.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let maker = driver().open_topic(&name).unwrap().components()["validator"]["of"].clone();
    let winners: Vec<_> = (0..8).filter(|index| outcomes[*index].is_ok()).collect();
    // Nobody has to: two that come within milliseconds can both be told that the other made it.
    assert!(winners.len() <= 1 && winners.iter().all(|winner| maker == json!(winner)), "{maker}: {outcomes:?}");
    assert!(maker.is_u64(), "{maker}");
}

#[test]
fn a_topic_of_something_else_that_is_named_like_an_info_topic_survives() {
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
fn a_creator_without_time_to_wait_for_another_says_so() {
    let kafka = Kafka::shared();
    let name = unique("busy");
    kafka::create_topic(kafka.bootstrap(), &format!("__info_{name}"), 1, &[]);
    let driver = driver_with(json!({"timeout_ms": 1000}), &Log::default());
    let error = driver.create_topic(&name, &one_replica()).unwrap_err();
    assert!(error.status == Status::Unreachable && error.retriable, "{error}");
    assert!(error.message.contains("another creator"), "{error}");
}

#[test]
fn a_name_that_begins_like_an_info_topics_is_neither_made_nor_deleted() {
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
fn a_deleted_topic_is_gone_with_its_info_topic_and_its_name_can_be_used_again_at_once() {
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

#[test]
fn deleting_an_unknown_topic_is_an_error_that_names_it_and_other_namespaces_are_left_alone() {
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
fn a_topic_without_an_info_topic_is_deleted_too() {
    let kafka = Kafka::shared();
    let name = unique("plain");
    kafka::create_topic(kafka.bootstrap(), &name, 2, &[]);
    driver().delete_topic(&name).unwrap();
    assert!(!driver().topic_exists(&name).unwrap());
}

#[test]
fn a_namespaces_topics_are_listed_with_their_components_and_nothing_else_is() {
    let kafka = Kafka::shared();
    let (space, log) = (unique("space"), Log::default());
    let driver = driver_with(json!({"namespace": space}), &log);
    let serializer = json!({"schema": {"type": "object"}, "type": "schema"});
    driver.create_topic("a", &one_replica().partitions(3).serializer(serializer.clone())).unwrap();
    driver.create_topic("b", &one_replica()).unwrap();
    driver_with(json!({"namespace": format!("{space}.inner")}), &log).create_topic("c", &one_replica()).unwrap();
    self::driver().create_topic(&unique("elsewhere"), &one_replica()).unwrap();
    // Without an info topic; with one that is short, one that is garbled, and one without its topic.
    kafka::create_topic(kafka.bootstrap(), &format!("{space}.bare"), 1, &[]);
    for name in ["short", "garbled", "orphan"] {
        kafka::create_topic(kafka.bootstrap(), &format!("{space}.__info_{name}"), 1, &[]);
    }
    for name in ["short", "garbled"] {
        kafka::create_topic(kafka.bootstrap(), &format!("{space}.{name}"), 1, &[]);
    }
    for record in [&b"{}"[..], b"not JSON", b"{}"] {
        kafka::kcat_write(kafka.bootstrap(), &format!("{space}.__info_garbled"), 0, record);
    }

    let default = json!({"type": "default"});
    let plain = |partitions: u32| json!({"validator": default, "selector": default, "serializer": default, "num_partitions": partitions});
    let mut a = plain(3);
    a["serializer"] = serializer;
    for _ in 0..2 {
        let listed = driver.list_topics().unwrap();
        assert_eq!(listed, json!({"a": a, "b": plain(1), "short": plain(1), "garbled": plain(1)}));
    }
    for (name, why) in [("short", "lacks records"), ("garbled", "not json")] {
        let warned =
            log.count(|line| line.contains("warn") && line.contains(&format!("\"{name}\"")) && line.contains(why));
        assert_eq!(warned, 1, "{name}: {log:?}");
    }
}

#[test]
fn a_topic_is_made_without_waiting_for_more_records_of_its_info_topic() {
    let driver = driver();
    // The quickest of several, since a busy machine may delay any one of them; a linger would delay each by a second.
    let takes = || {
        let started = Instant::now();
        driver.create_topic(&unique("quickly"), &one_replica()).unwrap();
        started.elapsed()
    };
    let quickest = (0..5).map(|_| takes()).min().unwrap();
    assert!(quickest < Duration::from_millis(600), "{quickest:?}");
}

#[test]
fn five_hundred_topics_are_listed_within_three_seconds() {
    const TOPICS: usize = 500;
    const MAKERS: usize = 8;
    let driver = driver_with(json!({"namespace": unique("many"), "timeout_ms": 60_000}), &Log::default());
    thread::scope(|scope| {
        for maker in 0..MAKERS {
            let driver = &driver;
            scope.spawn(move || {
                for number in (maker..TOPICS).step_by(MAKERS) {
                    driver.create_topic(&format!("t{number}"), &one_replica().validator(mark(number))).unwrap();
                }
            });
        }
    });
    let started = Instant::now();
    let listed = driver.list_topics().unwrap();
    let taken = started.elapsed();
    println!("listed {TOPICS} topics in {taken:?}");
    assert_eq!(listed.as_object().unwrap().len(), TOPICS);
    for number in 0..TOPICS {
        assert_eq!(listed[format!("t{number}")]["validator"], mark(number));
    }
    assert!(taken < Duration::from_secs(3), "{taken:?}");
}

#[test]
fn an_info_topic_that_expires_or_is_compacted_is_warned_of_once() {
    let kafka = Kafka::shared();
    for (config, shown) in [
        (&[][..], "retention.ms=604800000"),
        (&[("retention.ms", "-1"), ("cleanup.policy", "compact")], "cleanup.policy=compact"),
        (&[("retention.ms", "-1"), ("retention.bytes", "1000")], "retention.bytes=1000"),
    ] {
        let (name, log) = (unique("expiring"), Log::default());
        kafka::create_topic(kafka.bootstrap(), &name, 1, &[]);
        // As C++ Octopus would.
        kafka::create_topic(kafka.bootstrap(), &format!("__info_{name}"), 1, config);
        let driver = driver_with(json!({}), &log);
        (0..3).for_each(|_| drop(driver.open_topic(&name).unwrap()));
        let warned = |line: &str| line.contains("warn") && line.contains(shown) && line.contains("retention.ms=-1");
        assert_eq!(log.count(warned), 1, "{shown}: {log:?}");
    }
    let (name, log) = (unique("kept"), Log::default());
    let driver = driver_with(json!({}), &log);
    driver.create_topic(&name, &one_replica()).unwrap();
    driver.open_topic(&name).unwrap();
    assert_eq!(log.count(|line| line.contains("warn")), 0, "ours are kept: {log:?}");
}

#[test]
fn the_embedded_kafka_lists_topics_and_says_that_it_deletes_none() {
    let driver = octopus().driver(json!({"embedded": {}})).unwrap();
    assert_eq!(driver.list_topics().unwrap(), json!({}));
    let outcomes: Vec<_> = thread::scope(|scope| {
        let create = |index: u32| driver.create_topic("raced", &one_replica().validator(mark(index)));
        let racing: Vec<_> = (0..4).map(|index| scope.spawn(move || create(index))).collect();
        racing.into_iter().map(|one| one.join().unwrap()).collect()
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

#[test]
fn an_emptied_topic_has_its_components_and_no_records_and_what_is_open_goes_on() {
    let (driver, name, kept) = (driver(), unique("emptied"), json!({"note": "kept"}));
    driver.create_topic(&name, &one_replica().partitions(3).selector(kept.clone())).unwrap();
    let topic = driver.open_topic(&name).unwrap();
    let (producer, consumer) = (topic.producer("p").make().unwrap(), topic.consumer(&unique("group")).make().unwrap());
    let push = |number: u64| {
        producer.push(&NewEvent::json(&number).partition(number % 3)).unwrap().wait(PATIENCE).unwrap();
    };
    (0..30).for_each(push);
    driver.empty_topic(&name).unwrap();
    assert_eq!(kafka::kcat_read(Kafka::shared().bootstrap(), &name), []);
    assert_eq!(driver.open_topic(&name).unwrap().components()["selector"], kept);
    push(30);
    // What it had not read is lost to it, which it is told; it may have fetched some before.
    eventually("the new event is read", || {
        consumer.next(PATIENCE).is_ok_and(|event| event.expect("an event").json().unwrap() == json!(30))
    });
    driver.empty_topic(&name).unwrap();
    driver.empty_topic(&name).expect("an empty one can be emptied");
}

#[test]
fn emptying_an_unknown_topic_or_an_info_topic_is_refused() {
    let (driver, name) = (driver(), unique("never-made"));
    let error = driver.empty_topic(&name).unwrap_err();
    assert_eq!(error.status, Status::UnknownTopic, "{error}");
    assert!(error.message.contains(&name), "{error}");
    assert_eq!(driver.empty_topic(&format!("__info_{name}")).unwrap_err().status, Status::InvalidArgument);
    let embedded = octopus().driver(json!({"embedded": {}})).unwrap();
    embedded.create_topic("t", &Default::default()).unwrap();
    assert_eq!(embedded.empty_topic("t").unwrap_err().status, Status::Unsupported);
}
