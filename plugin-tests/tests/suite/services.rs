//! The host's services, configuration that is refused, servers that do not answer, and the library as it is loaded.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use octopus_loader::{Library, NewEvent, Producer, Rebalance, Status, TopicOptions};
use serde_json::{Value, json};

use crate::kafka::{Kafka, unique};
use crate::support::{Log, PATIENCE, driver_with, eventually, octopus, one_replica, read, topic_of};

/// An address of this machine where nothing listens.
fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

#[test]
fn the_library_is_loaded_by_path_and_says_what_it_is() {
    let octopus = Library::open(octopus().path()).unwrap();
    assert_eq!(octopus.version(), env!("CARGO_PKG_VERSION"));
    assert!(octopus.librdkafka_version().starts_with("2."), "{}", octopus.librdkafka_version());
    for feature in ["ssl", "sasl_scram", "sasl_oauthbearer", "zstd", "lz4", "gzip", "snappy"] {
        assert!(octopus.built_in().contains(feature), "{feature}");
    }
    assert!(Library::open("/nowhere/liboctopus.so").map(drop).unwrap_err().message.contains("/nowhere/"));
}

#[test]
fn messages_of_librdkafka_and_of_octopus_come_to_the_hosts_log() {
    let log = Log::default();
    let driver = driver_with(json!({"kafka": {"debug": "topic"}, "no_such_key": 1}), &log);
    assert_eq!(log.count(|line| line.contains("warn") && line.contains("no_such_key")), 1, "{log:?}");
    driver.topic_exists(&unique("x")).unwrap();
    eventually("librdkafka's debug messages", || log.count(|line| line.starts_with("debug admin")) > 0);
}

#[test]
fn a_secret_reaches_neither_log_nor_description_nor_error() {
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
    let wrong = json!({"kafka": {"bootstrap.servers": "x:1", "ssl.key.pem": "hunter2"}});
    if let Err(error) = octopus().driver(wrong) {
        assert!(!error.message.contains("hunter2"), "{error}");
    }
}

#[test]
fn statistics_come_as_json_with_the_clients_name_and_tell_how_long_events_waited_inside() {
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
    producer.push(&NewEvent::text("{}")).unwrap().wait(PATIENCE).unwrap();
    let statistics_with = |what: &dyn Fn(&Value) -> bool| {
        seen.lock().unwrap().iter().any(|(client, json): &(String, String)| {
            client == "producer \"detector\"" && what(&serde_json::from_str(json).unwrap())
        })
    };
    eventually("statistics of the producer", || statistics_with(&|of| of["txmsgs"] == 1));
    let waited = |broker: &Value| {
        let latency = &broker["int_latency"];
        latency["cnt"] != 0 && latency["avg"].as_i64().is_some_and(|micros| (1..60_000_000).contains(&micros))
    };
    eventually("how long it waited", || statistics_with(&|of| of["brokers"].as_object().unwrap().values().any(waited)));
}

#[test]
fn rebalances_are_told_to_the_host() {
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
    let consumer = topic_of(&driver, "told", 2).consumer(&group).make().unwrap();
    eventually("the assignment", || !seen.lock().unwrap().is_empty());
    consumer.close(PATIENCE).unwrap();
    let expected = [(group.clone(), Rebalance::Assigned, vec![0, 1]), (group, Rebalance::Revoked, vec![0, 1])];
    assert_eq!(*seen.lock().unwrap(), expected);
}

#[test]
fn configuration_that_is_wrong_is_refused_naming_the_key() {
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
fn a_server_that_does_not_answer_is_named_within_the_time_limit() {
    let address = nobody();
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

#[test]
fn the_embedded_kafka_is_shared_by_all_that_a_driver_makes_and_by_nothing_else() {
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
fn the_embedded_kafka_tells_of_the_records_that_it_dropped() {
    let driver = octopus().driver(json!({"embedded": {}})).unwrap();
    driver.create_topic("small", &Default::default()).unwrap();
    let topic = driver.open_topic("small").unwrap();
    let producer = topic.producer("p").make().unwrap();
    let push = |count: usize| {
        (0..count).for_each(|_| producer.push_forget(&NewEvent::text("{}").data(&[0; 100_000])).unwrap());
        producer.flush().unwrap().wait(PATIENCE).unwrap();
    };
    push(1);
    let first = topic.consumer("group").make().unwrap();
    read(&first, 1)[0].acknowledge().unwrap();
    first.close(PATIENCE).unwrap();
    push(100);
    let second = topic.consumer("group").make().unwrap();
    let error = second.next(PATIENCE).map(drop).unwrap_err();
    assert_eq!(error.status, Status::RecordsLost, "{error}");
    read(&second, 1);
}

#[test]
fn handles_can_be_released_in_any_order_and_what_was_made_from_them_goes_on() {
    let driver = driver_with(json!({}), &Log::default());
    let topic = topic_of(&driver, "orphans", 1);
    let producer = topic.producer("p").make().unwrap();
    let consumer = topic.consumer(&unique("group")).make().unwrap();
    drop(driver);
    drop(topic);
    let push = producer.push(&NewEvent::text("{}").data(&[1; 100_000])).unwrap();
    drop(producer);
    push.wait(PATIENCE).unwrap();
    let event = read(&consumer, 1).remove(0);
    let ticket = consumer.pull().unwrap();
    drop(consumer);
    assert_eq!(ticket.wait(PATIENCE).map(drop).unwrap_err().status, Status::Closed);
    drop(ticket);
    assert_eq!(event.data().len(), 100_000);
}

#[test]
fn librdkafkas_messages_for_debugging_come_only_to_who_asked_for_them() {
    for (settings, come) in [(json!({}), false), (json!({"kafka": {"debug": "msg"}}), true)] {
        let log = Log::default();
        let topic = topic_of(&driver_with(settings, &log), "debugging", 1);
        let producer = topic.producer("told").make().unwrap();
        producer.push(&NewEvent::default()).unwrap().wait(PATIENCE).unwrap();
        producer.close(PATIENCE).unwrap();
        let told = log.count(|line| line.starts_with("debug producer") && !line.contains("confwarn"));
        assert_eq!(told > 0, come, "{log:?}");
    }
}

#[test]
fn on_a_thread_of_the_plugin_what_would_wait_for_the_plugin_says_so() {
    let seen: Arc<Mutex<Vec<Status>>> = Arc::default();
    let producer: Arc<Mutex<Option<Producer>>> = Arc::default();
    let (sink, inside) = (seen.clone(), producer.clone());
    let driver = octopus()
        .driver_builder(json!({"embedded": {}, "kafka": {"statistics.interval.ms": 100}}))
        .statistics(move |client, _| {
            if let (true, Some(producer)) = (client.starts_with("producer"), &*inside.lock().unwrap()) {
                let flush = producer.flush().unwrap();
                let push = producer.push(&NewEvent::text("{}")).unwrap();
                let statuses = [push.wait(PATIENCE).map(drop), flush.wait(PATIENCE), producer.close(PATIENCE)];
                // Nothing is in flight at first, so a flush may have its result already.
                sink.lock()
                    .unwrap()
                    .extend(statuses.map(|result| result.map_or_else(|error| error.status, |()| Status::Ok)));
            }
        })
        .create()
        .unwrap();
    driver.create_topic("t", &TopicOptions::default()).unwrap();
    let made = driver.open_topic("t").unwrap().producer("p").make().unwrap();
    *producer.lock().unwrap() = Some(made);
    eventually("three answers", || seen.lock().unwrap().len() >= 3);
    let answers = seen.lock().unwrap()[..3].to_vec();
    assert_eq!((answers[0], answers[2]), (Status::WouldDeadlock, Status::WouldDeadlock));
    assert!([Status::Ok, Status::WouldDeadlock].contains(&answers[1]));
    let producer = producer.lock().unwrap().take().unwrap();
    producer.close(PATIENCE).expect("the refusal changed nothing");
}
