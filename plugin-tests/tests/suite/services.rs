//! The services of the host, invalid configuration, unreachable servers, the embedded Kafka, and
//! the library as it is loaded.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use octopus_loader::{Library, NewEvent, Producer, Rebalance, Status, TopicOptions};
use serde_json::{Value, json};

use crate::kafka::{Kafka, unique};
use crate::support::{Log, TIMEOUT, driver_with, eventually, octopus, one_replica, read, topic_of};

/// A local address on which nothing listens.
fn unused_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

#[test]
fn library_loaded_by_path_reports_its_version_and_features() {
    let octopus = Library::open(octopus().path()).unwrap();
    assert_eq!(octopus.version(), env!("CARGO_PKG_VERSION"));
    assert!(octopus.librdkafka_version().starts_with("2."), "{}", octopus.librdkafka_version());
    for feature in ["ssl", "sasl_scram", "sasl_oauthbearer", "zstd", "lz4", "gzip", "snappy"] {
        assert!(octopus.built_in().contains(feature), "{feature}");
    }
    assert!(Library::open("/nowhere/liboctopus.so").map(drop).unwrap_err().message.contains("/nowhere/"));
}

#[test]
fn messages_of_librdkafka_and_octopus_reach_the_hosts_log() {
    let log = Log::default();
    let driver = driver_with(json!({"kafka": {"debug": "topic"}, "no_such_key": 1}), &log);
    assert_eq!(log.count(|line| line.contains("warn") && line.contains("no_such_key")), 1, "{log:?}");
    driver.topic_exists(&unique("x")).unwrap();
    eventually("librdkafka's debug messages", || log.count(|line| line.starts_with("debug admin")) > 0);
}

/// What has no effect where it stands is no error, since another version may know it.
#[test]
fn option_in_the_wrong_place_is_a_warning() {
    let log = Log::default();
    let driver = driver_with(json!({"kafka": {"auto.offset.reset": "latest"}}), &log);
    let name = unique("misplaced");
    driver.create_topic(&name, &one_replica().validator(json!({"type": "object"}))).unwrap();
    let topic = driver.open_topic(&name).unwrap();
    let _producer = topic.producer("").option("compression.type", "lz4").make().unwrap();
    let _consumer = topic.consumer("group").option("fetch.wait.max.ms", 10).make().unwrap();
    for warning in [
        &format!("creating topic \"{name}\": the topic's validator has the type \"object\", which is not available"),
        &format!("making a producer of topic \"{name}\": the option \"compression.type\" is unknown and ignored"),
        &format!("making a consumer of topic \"{name}\": the option \"fetch.wait.max.ms\" is unknown and ignored"),
        "kafka.auto.offset.reset of the driver is ignored",
    ] {
        assert_eq!(log.count(|line| line.starts_with("warn") && line.contains(warning)), 1, "{warning}: {log:?}");
    }
}

#[test]
fn secrets_appear_in_no_log_description_or_error() {
    let log = Log::default();
    let secrets = json!({"kafka": {"sasl.password": "hunter2", "ssl.key.password": "hunter2", "debug": "all"}});
    let driver = driver_with(secrets, &log);
    driver.topic_exists(&unique("x")).unwrap();
    let description = driver.describe().unwrap();
    assert_eq!(description["kafka"]["sasl.password"], "********");
    assert_eq!(description["kafka"]["bootstrap.servers"], Kafka::shared().bootstrap());
    assert_eq!(description["timeout_ms"], 30_000);
    assert!(!description.to_string().contains("hunter2"));
    assert!(!log.text().contains("hunter2"));
    let invalid = json!({"kafka": {"bootstrap.servers": "x:1", "ssl.key.pem": "hunter2"}});
    if let Err(error) = octopus().driver(invalid) {
        assert!(!error.message.contains("hunter2"), "{error}");
    }
}

/// The internal latency is the time that events waited inside of librdkafka (`int_latency`).
#[test]
fn statistics_have_the_client_name_and_internal_latency() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = seen.clone();
    let driver = octopus()
        .driver_builder(
            json!({"kafka": {"bootstrap.servers": Kafka::shared().bootstrap(), "statistics.interval.ms": 100}}),
        )
        .statistics(move |client, json| sink.lock().unwrap().push((client.to_owned(), json.to_owned())))
        .create()
        .unwrap();
    let topic = topic_of(&driver, "statistics", 1);
    let producer = topic.producer("detector").make().unwrap();
    producer.push(&NewEvent::text("{}")).unwrap().wait(TIMEOUT).unwrap();
    let statistics_with = |what: &dyn Fn(&Value) -> bool| {
        seen.lock().unwrap().iter().any(|(client, json): &(String, String)| {
            client == "producer \"detector\"" && what(&serde_json::from_str(json).unwrap())
        })
    };
    eventually("statistics of the producer", || statistics_with(&|statistics| statistics["txmsgs"] == 1));
    let has_latency = |broker: &Value| {
        let latency = &broker["int_latency"];
        latency["cnt"] != 0 && latency["avg"].as_i64().is_some_and(|micros| (1..60_000_000).contains(&micros))
    };
    eventually("the internal latency", || {
        statistics_with(&|statistics| statistics["brokers"].as_object().unwrap().values().any(has_latency))
    });
}

#[test]
fn rebalances_are_reported_to_the_host() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = seen.clone();
    let driver = octopus()
        .driver_builder(json!({"kafka": {"bootstrap.servers": Kafka::shared().bootstrap()}}))
        .rebalance(move |group, what, partitions: &[u32]| {
            sink.lock().unwrap().push((group.to_owned(), what, partitions.to_vec()))
        })
        .create()
        .unwrap();
    let group = unique("group");
    let consumer = topic_of(&driver, "rebalances", 2).consumer(&group).make().unwrap();
    eventually("the assignment", || !seen.lock().unwrap().is_empty());
    consumer.close(TIMEOUT).unwrap();
    let expected = [(group.clone(), Rebalance::Assigned, vec![0, 1]), (group, Rebalance::Revoked, vec![0, 1])];
    assert_eq!(*seen.lock().unwrap(), expected);
}

#[test]
fn invalid_configuration_is_rejected_with_its_key() {
    for (config, named) in [
        ("", "not JSON"),
        ("{]", "not JSON"),
        ("[]", "expected an object"),
        ("\u{0}", "not JSON"),
        ("{}", "kafka"),
        (r#"{"kafka": {"bootstrap.servers": 7}}"#, "kafka.bootstrap.servers"),
        (r#"{"kafka": {"bootstrap.servers": "x:1", "linger.mss": 7}}"#, "kafka.linger.mss"),
        (r#"{"kafka": {"bootstrap.servers": "x:1", "linger.ms": "soon"}}"#, "kafka.linger.ms"),
        (
            r#"{"kafka": {"bootstrap.servers": "x:1", "security.protocol": "ssl", "ssl.ca.location": "/nowhere"}}"#,
            "ssl.ca.location",
        ),
        (r#"{"embedded": {}, "timeout_ms": "soon"}"#, "timeout_ms"),
        (r#"{"embedded": {"brokers": 1000}}"#, "embedded.brokers"),
    ] {
        let error = octopus().driver_from_text(config).map(drop).unwrap_err();
        assert_eq!(error.status, Status::InvalidConfiguration, "{config}: {error}");
        assert!(error.message.contains(named), "{config}: {error}");
    }
}

#[test]
fn unreachable_server_is_named_within_the_timeout() {
    let address = unused_address();
    let config = json!({"kafka": {"bootstrap.servers": address}, "timeout_ms": 1_000});
    let driver = octopus().driver_builder(config).log(|_, _, _| {}).create().unwrap();
    let started = Instant::now();
    for error in [
        driver.topic_exists("x").map(drop).unwrap_err(),
        driver.open_topic("x").map(drop).unwrap_err(),
        driver.create_topic("x", &one_replica()).unwrap_err(),
    ] {
        assert_eq!(error.status, Status::Unreachable, "{error}");
        assert!(error.retriable && error.message.contains(&address), "{error}");
        assert!(error.message.contains("Connection refused"), "{error}");
    }
    assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());
}

/// All topics of a driver share its embedded Kafka; another driver has another one.
#[test]
fn embedded_kafka_belongs_to_one_driver() {
    let one = octopus().driver(json!({"embedded": {"brokers": 3, "partitions": 4}})).unwrap();
    let other = octopus().driver(json!({"embedded": {}})).unwrap();
    one.create_topic("t", &Default::default()).unwrap();
    assert!(one.topic_exists("t").unwrap());
    assert!(!other.topic_exists("t").unwrap());
    let topic = one.open_topic("t").unwrap();
    assert_eq!(topic.partition_count(), 4);
    let error = one.create_topic("u", &octopus_loader::TopicOptions::default().replication(4)).unwrap_err();
    assert!(error.message.contains("replication_factor"), "{error}");
    drop(one);
    crate::support::round_trip(&topic, 400);
}

#[test]
fn embedded_kafka_with_the_consumer_protocol_reads_events() {
    let config = json!({"embedded": {}, "kafka": {"group.protocol": "consumer"}});
    let driver = octopus().driver(config).unwrap();
    driver.create_topic("next-generation", &Default::default()).unwrap();
    crate::support::round_trip(&driver.open_topic("next-generation").unwrap(), 100);
}

#[test]
fn embedded_kafka_reports_dropped_records() {
    let driver = octopus().driver(json!({"embedded": {}})).unwrap();
    driver.create_topic("small", &Default::default()).unwrap();
    let topic = driver.open_topic("small").unwrap();
    let producer = topic.producer("p").make().unwrap();
    let push = |count: usize| {
        (0..count).for_each(|_| producer.push_forget(&NewEvent::text("{}").data(&[0; 100_000])).unwrap());
        producer.flush().unwrap().wait(TIMEOUT).unwrap();
    };
    push(1);
    let first = topic.consumer("group").make().unwrap();
    read(&first, 1)[0].acknowledge().unwrap();
    first.close(TIMEOUT).unwrap();
    push(100);
    let second = topic.consumer("group").make().unwrap();
    let error = second.next(TIMEOUT).map(drop).unwrap_err();
    assert_eq!(error.status, Status::RecordsLost, "{error}");
    read(&second, 1);
}

/// Producers, consumers, futures and events keep working after their driver and topic are released.
#[test]
fn handles_can_be_released_in_any_order() {
    let driver = driver_with(json!({}), &Log::default());
    let topic = topic_of(&driver, "orphans", 1);
    let producer = topic.producer("p").make().unwrap();
    let consumer = topic.consumer(&unique("group")).make().unwrap();
    drop(driver);
    drop(topic);
    let push = producer.push(&NewEvent::text("{}").data(&[1; 100_000])).unwrap();
    drop(producer);
    push.wait(TIMEOUT).unwrap();
    let event = read(&consumer, 1).remove(0);
    let pull = consumer.pull().unwrap();
    drop(consumer);
    assert_eq!(pull.wait(TIMEOUT).map(drop).unwrap_err().status, Status::Closed);
    drop(pull);
    assert_eq!(event.data().len(), 100_000);
}

#[test]
fn debug_messages_of_librdkafka_are_logged_only_on_request() {
    for (settings, is_logged) in [(json!({}), false), (json!({"kafka": {"debug": "msg"}}), true)] {
        let log = Log::default();
        let topic = topic_of(&driver_with(settings, &log), "debugging", 1);
        let producer = topic.producer("p").make().unwrap();
        producer.push(&NewEvent::default()).unwrap().wait(TIMEOUT).unwrap();
        producer.close(TIMEOUT).unwrap();
        let lines = log.count(|line| line.starts_with("debug producer") && !line.contains("confwarn"));
        assert_eq!(lines > 0, is_logged, "{log:?}");
    }
}

/// The statistics callback runs on a plugin thread: `wait` and `close` fail there.
#[test]
fn waiting_on_a_plugin_thread_would_deadlock() {
    let seen: Arc<Mutex<Vec<Status>>> = Arc::default();
    let producer: Arc<Mutex<Option<Producer>>> = Arc::default();
    let (sink, inner) = (seen.clone(), producer.clone());
    let driver = octopus()
        .driver_builder(json!({"embedded": {}, "kafka": {"statistics.interval.ms": 100}}))
        .statistics(move |client, _| {
            if let (true, Some(producer)) = (client.starts_with("producer"), &*inner.lock().unwrap()) {
                let flush = producer.flush().unwrap();
                let push = producer.push(&NewEvent::text("{}")).unwrap();
                let statuses = [push.wait(TIMEOUT).map(drop), flush.wait(TIMEOUT), producer.close(TIMEOUT)];
                // The flush may succeed at once, because nothing is in flight at first.
                sink.lock()
                    .unwrap()
                    .extend(statuses.map(|result| result.map_or_else(|error| error.status, |()| Status::Ok)));
            }
        })
        .create()
        .unwrap();
    driver.create_topic("t", &TopicOptions::default()).unwrap();
    let new_producer = driver.open_topic("t").unwrap().producer("p").make().unwrap();
    *producer.lock().unwrap() = Some(new_producer);
    eventually("three results", || seen.lock().unwrap().len() >= 3);
    let statuses = seen.lock().unwrap()[..3].to_vec();
    assert_eq!((statuses[0], statuses[2]), (Status::WouldDeadlock, Status::WouldDeadlock));
    assert!([Status::Ok, Status::WouldDeadlock].contains(&statuses[1]));
    let producer = producer.lock().unwrap().take().unwrap();
    producer.close(TIMEOUT).expect("the producer is still usable");
}
