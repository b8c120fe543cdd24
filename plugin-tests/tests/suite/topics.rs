//! Creating and opening topics with their components, and the errors of both.

use std::time::{Duration, Instant};

use octopus_loader::{Status, TopicOptions};
use serde_json::json;

use crate::kafka::{self, Kafka, unique};
use crate::support::{Log, driver, driver_with, octopus, one_replica};

#[test]
fn created_topic_has_its_partitions_and_components() {
    let driver = driver();
    let name = unique("components");
    let validator = json!({"type": "schema", "schema": {"type": "object", "required": ["energy"]}, "note": [1.5]});
    let selector = json!({"comment": "without a type it is default"});
    driver
        .create_topic(&name, &one_replica().partitions(3).validator(validator.clone()).selector(selector.clone()))
        .unwrap();

    let topic = driver.open_topic(&name).unwrap();
    assert_eq!((topic.name(), topic.partition_count()), (name.as_str(), 3));
    assert_eq!(
        *topic.components(),
        json!({"validator": validator, "selector": selector, "serializer": {"type": "default"}})
    );
}

#[test]
fn info_topic_holds_three_components_and_never_expires() {
    let kafka = Kafka::shared();
    let name = unique("info");
    let serializer = json!({"schema": {}, "type": "schema"});
    driver().create_topic(&name, &one_replica().partitions(2).serializer(serializer.clone())).unwrap();

    let info = format!("__info_{name}");
    let records = kafka::kcat_read(kafka.bootstrap(), &info);
    let found: Vec<_> = records.iter().map(|r| (r.partition, r.offset, r.key.clone(), r.value.as_slice())).collect();
    assert_eq!(
        found,
        [
            (0, 0, None, br#"{"type":"default"}"#.as_slice()),
            (0, 1, None, br#"{"type":"default"}"#.as_slice()),
            (0, 2, None, serializer.to_string().as_bytes()),
        ]
    );
    let config = kafka::topic_config(kafka.bootstrap(), &info);
    for setting in ["retention.ms=-1", "cleanup.policy=delete", "PartitionCount: 1"] {
        assert!(config.contains(setting), "{setting} is not in {config}");
    }
}

#[test]
fn creating_an_existing_topic_is_an_error_and_changes_nothing() {
    let driver = driver();
    let name = unique("twice");
    let validator = json!({"type": "schema", "schema": {}});
    driver.create_topic(&name, &one_replica().partitions(2).validator(validator.clone())).unwrap();
    let error = driver.create_topic(&name, &one_replica().partitions(5)).unwrap_err();
    assert_eq!(error.status, Status::TopicExists);
    assert!(error.message.contains(&name), "{error}");
    let topic = driver.open_topic(&name).unwrap();
    assert_eq!((topic.partition_count(), &topic.components()["validator"]), (2, &validator));
}

/// A topic that another program has created without Octopus exists already.
#[test]
fn creating_over_a_foreign_topic_leaves_no_info_topic() {
    let kafka = Kafka::shared();
    let name = unique("foreign");
    kafka::create_topic(kafka.bootstrap(), &name, 1, &[]);
    assert_eq!(driver().create_topic(&name, &one_replica()).unwrap_err().status, Status::TopicExists);
    assert!(!driver().topic_exists(&format!("__info_{name}")).unwrap());
}

#[test]
fn exists_and_open_never_create_the_topic() {
    let (name, log) = (unique("unknown"), Log::default());
    let driver = driver_with(json!({"open_retry_ms": 0}), &log);
    assert!(!driver.topic_exists(&name).unwrap());
    let error = driver.open_topic(&name).unwrap_err();
    assert_eq!(error.status, Status::UnknownTopic);
    assert!(error.message.contains(&name), "{error}");
    // The broker auto-creates topics for metadata requests that allow it; those of Octopus do not.
    assert!(!driver.topic_exists(&name).unwrap());
    assert!(!driver.topic_exists(&format!("__info_{name}")).unwrap());
}

/// A topic that is created meanwhile is opened.
#[test]
fn open_retries_an_unknown_topic_for_open_retry_ms() {
    let name = unique("late");
    let driver = driver_with(json!({"open_retry_ms": 60_000}), &Log::default());
    std::thread::scope(|scope| {
        let opened = scope.spawn(|| driver.open_topic(&name).map(|topic| topic.partition_count()));
        self::driver().create_topic(&name, &one_replica().partitions(2)).unwrap();
        assert_eq!(opened.join().unwrap().unwrap(), 2);
    });
    let started = Instant::now();
    let short_retry = driver_with(json!({"open_retry_ms": 300}), &Log::default());
    assert_eq!(short_retry.open_topic(&unique("never")).unwrap_err().status, Status::UnknownTopic);
    assert!(started.elapsed() >= Duration::from_millis(300));
}

#[test]
fn topic_without_info_topic_opens_with_defaults_and_a_warning() {
    let kafka = Kafka::shared();
    let (name, log) = (unique("plain"), Log::default());
    kafka::create_topic(kafka.bootstrap(), &name, 2, &[]);
    let driver = driver_with(json!({}), &log);
    for _ in 0..2 {
        let topic = driver.open_topic(&name).unwrap();
        assert_eq!(topic.components()["validator"], json!({"type": "default"}));
    }
    assert_eq!(log.count(|line| line.contains("warning") && line.contains(&format!("__info_{name}"))), 1, "{log:?}");
}

#[test]
fn short_info_topic_opens_with_defaults_and_a_warning() {
    let kafka = Kafka::shared();
    let (name, log) = (unique("short"), Log::default());
    kafka::create_topic(kafka.bootstrap(), &name, 1, &[]);
    kafka::create_topic(kafka.bootstrap(), &format!("__info_{name}"), 1, &[]);
    kafka::kcat_write(kafka.bootstrap(), &format!("__info_{name}"), 0, br#"{"type":"schema"}"#);
    let topic = driver_with(json!({}), &log).open_topic(&name).unwrap();
    assert_eq!(
        topic.components()["validator"],
        json!({"type": "default"}),
        "components of an incomplete info topic are not used"
    );
    assert_eq!(log.count(|line| line.contains("warning") && line.contains("lacks records")), 1, "{log:?}");
}

#[test]
fn invalid_info_record_is_an_error_that_names_its_component() {
    let kafka = Kafka::shared();
    let name = unique("invalid");
    kafka::create_topic(kafka.bootstrap(), &name, 1, &[]);
    kafka::create_topic(kafka.bootstrap(), &format!("__info_{name}"), 1, &[]);
    for record in [&b"{}"[..], b"not JSON", b"{}"] {
        kafka::kcat_write(kafka.bootstrap(), &format!("__info_{name}"), 0, record);
    }
    let error = driver().open_topic(&name).unwrap_err();
    assert_eq!(error.status, Status::Component);
    assert!(error.message.contains("partition selector") && error.message.contains(&name), "{error}");
}

#[test]
fn namespace_prefixes_topic_and_info_topic() {
    let name = unique("scan");
    let driver = driver_with(json!({"namespace": "lab"}), &Log::default());
    driver.create_topic(&name, &one_replica()).unwrap();
    assert_eq!(driver.open_topic(&name).unwrap().name(), name);
    let plain = self::driver();
    assert!(plain.topic_exists(&format!("lab.{name}")).unwrap());
    assert!(plain.topic_exists(&format!("lab.__info_{name}")).unwrap());
    assert!(!plain.topic_exists(&name).unwrap());
}

#[test]
fn disabled_info_topic_accepts_only_default_components() {
    let (name, log) = (unique("bare"), Log::default());
    let driver = driver_with(json!({"disable_info_topic": true}), &log);
    let schema = json!({"type": "schema", "schema": {}});
    let error = driver.create_topic(&name, &one_replica().validator(schema.clone())).unwrap_err();
    assert_eq!(error.status, Status::Component);
    assert!(error.message.contains("disable_info_topic") && error.message.contains("validator"), "{error}");

    driver.create_topic(&name, &one_replica()).unwrap();
    assert!(!driver.topic_exists(&format!("__info_{name}")).unwrap());
    driver.open_topic(&name).unwrap();
    assert_eq!(log.count(|line| line.contains("warning")), 0, "a warning about the absence of the info topic: {log:?}");
    let other = unique("own");
    driver.create_topic(&other, &one_replica().option("disable_info_topic", false).validator(schema.clone())).unwrap();
    assert_eq!(
        driver.open_topic(&other).unwrap().components()["validator"],
        schema,
        "the option of the topic overrides that of the driver"
    );
}

/// After an invalid setting neither the topic nor its info topic exists.
#[test]
fn topic_config_is_passed_to_kafka_and_rolled_back_if_wrong() {
    let kafka = Kafka::shared();
    let name = unique("configured");
    driver().create_topic(&name, &one_replica().option("config", json!({"max.message.bytes": 4321}))).unwrap();
    assert!(kafka::topic_config(kafka.bootstrap(), &name).contains("max.message.bytes=4321"));

    let name = unique("misconfigured");
    let invalid = one_replica().option("config", json!({"no.such.setting": 1}));
    let error = driver().create_topic(&name, &invalid).unwrap_err();
    assert!(error.message.contains("no.such.setting"), "{error}");
    assert!(!driver().topic_exists(&name).unwrap());
    assert!(!driver().topic_exists(&format!("__info_{name}")).unwrap());
    driver().create_topic(&name, &one_replica()).unwrap();
}

#[test]
fn more_replicas_than_brokers_names_the_option() {
    let error = driver().create_topic(&unique("replicas"), &TopicOptions::default()).unwrap_err();
    assert!(error.message.contains("replication_factor"), "{error}");
}

/// The name of the info topic, which has a prefix, must be valid too.
#[test]
fn invalid_topic_name_is_rejected_with_the_rule() {
    for name in ["", ".", "a b", "ümlaut", &"x".repeat(250)] {
        for error in [
            driver().create_topic(name, &one_replica()).unwrap_err(),
            driver().open_topic(name).map(drop).unwrap_err(),
            driver().topic_exists(name).unwrap_err(),
        ] {
            assert_eq!(error.status, Status::InvalidArgument, "{name}: {error}");
            assert!(error.message.contains("249"), "{error}");
        }
    }
    let error = driver().create_topic(&"x".repeat(245), &one_replica()).unwrap_err();
    assert!(error.message.contains("prefixes included"), "the name of the info topic would be too long: {error}");
}

#[test]
fn invalid_options_are_rejected_by_name_before_creation() {
    let name = unique("invalid");
    for (options, named) in [
        (one_replica().option("num_partitions", 0), "num_partitions"),
        (one_replica().option("num_partitions", "many"), "num_partitions"),
        (one_replica().option("replication_factor", -1), "replication_factor"),
        (one_replica().option("config", 3), "config"),
        (one_replica().validator(json!([1])), "validator"),
        (one_replica().serializer(json!({"type": 7})), "serializer"),
    ] {
        let error = driver().create_topic(&name, &options).unwrap_err();
        assert!(error.message.contains(named), "{error}");
    }
    assert!(!driver().topic_exists(&name).unwrap());
    driver().create_topic(&name, &one_replica().option("num_partitions", "3")).unwrap();
    assert_eq!(driver().open_topic(&name).unwrap().partition_count(), 3, "a number in a string is accepted");
}

#[test]
fn topic_replicated_over_three_brokers_works() {
    let cluster = Kafka::cluster_of_three();
    let name = unique("replicated");
    let driver = octopus().driver(json!({"kafka": {"bootstrap.servers": cluster.bootstrap()}})).unwrap();
    driver.create_topic(&name, &TopicOptions::default().partitions(6)).unwrap();
    assert!(kafka::topic_config(cluster.bootstrap(), &name).contains("ReplicationFactor: 3"), "the default is not 3");
    let topic = driver.open_topic(&name).unwrap();
    crate::support::round_trip(&topic, 600);
}
