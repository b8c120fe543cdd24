//! Pushing: what the future says is what Kafka did, events land where they should, and nothing is lost on the way.

use std::process::Command;
use std::time::{Duration, Instant};

use octopus_loader::{NewEvent, Persisted, Status};
use serde_json::json;

use crate::hosts::{C, compile, library, run_host};
use crate::kafka::{self, Kafka, unique};
use crate::proxy::{Held, ProxiedKafka, Request};
use crate::support::{Log, PATIENCE, driver, driver_with, eventually, one_replica, topic, topic_of};

const MSG_SIZE_TOO_LARGE: i32 = 10;

#[test]
fn a_push_that_the_broker_refuses_fails_its_future_with_kafkas_reason_and_spoils_nothing() {
    let (driver, name) = (driver(), unique("small"));
    driver.create_topic(&name, &one_replica().option("config", json!({"max.message.bytes": 1000}))).unwrap();
    let producer = driver.open_topic(&name).unwrap().producer("p").make().unwrap();

    let refused = producer.push(&NewEvent::text("{}").data(&[7; 5_000])).unwrap();
    let error = refused.wait(PATIENCE).unwrap_err();
    assert_eq!((error.status, error.kafka_code), (Status::TooLarge, Some(MSG_SIZE_TOO_LARGE)), "{error}");
    assert!(error.message.contains(&name) && error.message.contains("partition 0"), "{error}");
    assert!(error.message.ends_with("Broker: Message size too large"), "nothing of the event is in it: {error:?}");
    assert_eq!(error.persisted, Persisted::No);
    assert_eq!(refused.wait(PATIENCE).unwrap_err().message, error.message, "a result stays");

    let accepted = producer.push(&NewEvent::text("{}").data(&[7; 10])).unwrap().wait(PATIENCE).unwrap();
    assert_eq!((accepted.partition, accepted.id), (0, Some(0)), "one refusal must not spoil the producer");
}

#[test]
fn a_flush_tells_of_failures_that_nobody_waited_for() {
    let (driver, name) = (driver(), unique("forgotten"));
    driver.create_topic(&name, &one_replica().option("config", json!({"max.message.bytes": 1000}))).unwrap();
    let producer = driver.open_topic(&name).unwrap().producer("p").make().unwrap();
    producer.push_forget(&NewEvent::text("{}").data(&[7; 5_000])).unwrap();
    let error = producer.flush().unwrap().wait(PATIENCE).unwrap_err();
    assert!(error.message.contains("1 of the events") && error.message.contains(&name), "{error}");
    producer.push_forget(&NewEvent::text("{}")).unwrap();
    producer.flush().unwrap().wait(PATIENCE).expect("said once");
}

#[test]
fn events_land_in_the_partition_asked_for_modulo_their_number_else_in_one_after_the_other() {
    let topic = topic("partitions", 3);
    let producer = topic.producer("p").make().unwrap();
    let landed = |event: &NewEvent| producer.push(event).unwrap().wait(PATIENCE).unwrap().partition;
    for (asked, expected) in [(0, 0), (1, 1), (2, 2), (3, 0), (7, 1), (u64::MAX, 0)] {
        assert_eq!(landed(&NewEvent::text("{}").partition(asked)), expected, "asked for {asked}");
    }
    let mut round: Vec<_> = (0..6).map(|_| landed(&NewEvent::text("{}"))).collect();
    assert_eq!(round[..3], round[3..]);
    round.truncate(3);
    round.sort_unstable();
    assert_eq!(round, [0, 1, 2]);
}

#[test]
fn the_id_that_a_push_returns_is_the_offset_of_its_record() {
    let kafka = Kafka::shared();
    let topic = topic("ids", 2);
    let producer = topic.producer("p").make().unwrap();
    let pushes: Vec<_> = (0..200).map(|n| producer.push(&NewEvent::json(&n).partition(n % 2)).unwrap()).collect();
    let records = kafka::kcat_read(kafka.bootstrap(), {
        producer.flush().unwrap().wait(PATIENCE).unwrap();
        topic.name()
    });
    for (number, push) in pushes.iter().enumerate() {
        let delivered = push.wait(Duration::ZERO).unwrap();
        let there = records.iter().find(|record| {
            record.partition == delivered.partition as i32 && Some(record.offset as u64) == delivered.id
        });
        assert!(there.unwrap().value.ends_with(number.to_string().as_bytes()), "{number} at {delivered:?}");
    }
}

#[test]
fn events_of_one_thread_keep_their_order_in_each_partition_while_others_push() {
    let topic = topic("order", 2);
    let producer = topic.producer("p").make().unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let producer = &producer;
            scope.spawn(move || {
                for number in 0..500 {
                    producer.push_forget(&NewEvent::json(&json!([thread, number])).partition(number % 2)).unwrap();
                }
            });
        }
    });
    producer.flush().unwrap().wait(PATIENCE).unwrap();
    let consumer = topic.consumer(&unique("reader")).make().unwrap();
    let mut last = std::collections::HashMap::new();
    for event in crate::support::read(&consumer, 2000) {
        let (thread, number): (u64, i64) = serde_json::from_str(event.metadata().unwrap()).unwrap();
        let before = last.insert((thread, event.partition()), number).unwrap_or(-1);
        assert!(before < number, "thread {thread}: {number} after {before}");
    }
}

#[test]
fn bad_events_are_refused_at_once_with_the_reason_and_not_queued() {
    let kafka = Kafka::shared();
    let topic = topic("bad", 1);
    let producer = topic.producer("p").make().unwrap();
    for (metadata, reason) in [
        (&b"{"[..], "not JSON"),
        (b"", "not JSON"),
        (b"NaN", "not JSON"),
        (b"{\"a\":1} x", "not JSON"),
        (b"\"\xff\"", "not UTF-8"),
        (b"\"\\ud800\"", "surrogate"),
        (b"1e999", "double"),
    ] {
        let error = producer.push(&NewEvent::metadata_bytes(metadata)).map(drop).unwrap_err();
        assert_eq!(error.status, Status::InvalidMetadata, "{error}");
        assert!(error.message.contains(reason), "{error}");
    }
    producer.push(&NewEvent::text("{}")).unwrap().wait(PATIENCE).unwrap();
    assert_eq!(kafka::kcat_read(kafka.bootstrap(), topic.name()).len(), 1);
}

#[test]
fn an_event_over_the_limit_is_refused_at_once_naming_the_setting_and_one_at_the_limit_is_not() {
    let topic = topic("limit", 1);
    let producer = topic.producer("p").kafka("message.max.bytes", 20_000).make().unwrap();
    let most = producer.max_event_size().unwrap() as usize;
    // Octopus adds 24 bytes, and a record of Kafka's at most 36.
    assert_eq!(most, 20_000 - 24 - 36);
    let error = producer.push(&NewEvent::text("{}").data(&vec![1; most - 1])).map(drop).unwrap_err();
    assert_eq!(error.status, Status::TooLarge);
    assert!(
        error.message.contains("message.max.bytes") && error.message.contains(&(20_000 - 36 + 1).to_string()),
        "{error}"
    );
    producer.push(&NewEvent::text("{}").data(&vec![1; most - 2])).unwrap().wait(PATIENCE).unwrap();
}

#[test]
fn an_event_of_many_megabytes_goes_through_when_the_settings_allow() {
    let (driver, name) = (driver(), unique("large"));
    driver.create_topic(&name, &one_replica().option("config", json!({"max.message.bytes": 40_000_000}))).unwrap();
    let topic = driver.open_topic(&name).unwrap();
    let producer = topic.producer("p").kafka("message.max.bytes", 40_000_000).make().unwrap();
    let data: Vec<u8> = (0..20_000_000_u32).map(|n| (n % 251) as u8).collect();
    producer.push(&NewEvent::text("{}").data(&data)).unwrap().wait(PATIENCE).unwrap();
    let consumer = topic.consumer(&unique("reader")).make().unwrap();
    assert!(crate::support::read(&consumer, 1)[0].data() == data);
}

#[test]
fn pushing_to_a_topic_whose_validator_nobody_provides_names_it_and_serialized_bytes_are_taken() {
    let (driver, name) = (driver(), unique("validator"));
    driver.create_topic(&name, &one_replica().validator(json!({"type": "energy:libenergy.so"}))).unwrap();
    let producer = driver.open_topic(&name).unwrap().producer("p").make().unwrap();
    let error = producer.push(&NewEvent::text("{}")).map(drop).unwrap_err();
    assert_eq!(error.status, Status::Component);
    assert!(error.message.contains("validator") && error.message.contains("energy:libenergy.so"), "{error}");
    let serialized = [2_u64.to_le_bytes().as_slice(), b"{}"].concat();
    producer.push(&NewEvent::serialized(&serialized)).unwrap().wait(PATIENCE).unwrap();
}

#[test]
fn a_push_and_its_wait_do_not_wait_out_the_linger() {
    let producer = topic("linger", 1).producer("p").kafka("linger.ms", 20_000).make().unwrap();
    let started = Instant::now();
    producer.push(&NewEvent::text("{}")).unwrap().wait(PATIENCE).unwrap();
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[test]
fn a_producers_first_push_does_not_wait_for_a_half_second_to_be_over() {
    let topic = topic("first", 1);
    let first_push = |number| {
        let started = Instant::now();
        let producer = topic.producer(&format!("p{number}")).make().unwrap();
        producer.push(&NewEvent::text("{}")).unwrap().wait(PATIENCE).unwrap();
        started.elapsed()
    };
    let fastest = (0..5).map(first_push).min().unwrap();
    assert!(fastest < Duration::from_millis(400), "{fastest:?}");
}

#[test]
fn a_flush_acts_when_it_is_called_waited_on_or_not() {
    let kafka = Kafka::shared();
    let topic = topic("unwaited", 1);
    let producer = topic.producer("p").kafka("linger.ms", 200_000).make().unwrap();
    for _ in 0..10 {
        producer.push_forget(&NewEvent::text("{}")).unwrap();
    }
    drop(producer.flush().unwrap());
    eventually("ten records are in Kafka", || kafka::kcat_read(kafka.bootstrap(), topic.name()).len() == 10);
}

#[test]
fn a_burst_beyond_the_queue_waits_for_room_and_all_of_it_arrives() {
    let kafka = Kafka::shared();
    let topic = topic("burst", 1);
    let producer = topic.producer("p").kafka("queue.buffering.max.messages", 50).make().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..500 {
                    producer.push_forget(&NewEvent::text("{}")).unwrap();
                }
            });
        }
    });
    producer.flush().unwrap().wait(PATIENCE).unwrap();
    assert_eq!(kafka::kcat_read(kafka.bootstrap(), topic.name()).len(), 2000);
}

#[test]
fn records_that_the_broker_finds_not_valid_fail_with_its_own_words() {
    let (driver, name) = (driver(), unique("compacted"));
    driver.create_topic(&name, &one_replica().option("config", json!({"cleanup.policy": "compact"}))).unwrap();
    let producer = driver.open_topic(&name).unwrap().producer("p").make().unwrap();

    // Such a topic is for records with keys, and events have none.
    let refused: Vec<_> = (0..200).map(|_| producer.push(&NewEvent::text("{}")).unwrap()).collect();

    for push in refused {
        let error = push.wait(PATIENCE).unwrap_err();
        assert_eq!(error.persisted, Persisted::No, "{error}");
        let words = "Compacted topic cannot accept message without key in topic partition ";
        assert!(error.message.contains(words) && error.message.contains(&name), "{error}");
    }
}

#[test]
fn without_room_a_push_waits_its_time_limit_then_says_what_is_in_flight_and_what_to_set() {
    let kafka = ProxiedKafka::start();
    let through_proxy = json!({"kafka": {"bootstrap.servers": kafka.bootstrap()}});
    let name = topic_of(&driver_with(through_proxy.clone(), &Log::default()), "full", 1).name().to_owned();
    let mut impatient = through_proxy;
    impatient["timeout_ms"] = json!(1_500);
    let topic = driver_with(impatient, &Log::default()).open_topic(&name).unwrap();
    let producer = topic.producer("p").kafka("queue.buffering.max.messages", 2).make().unwrap();
    producer.push(&NewEvent::text("{}")).unwrap().wait(PATIENCE).unwrap();

    kafka.hold();
    let held: Vec<_> = (0..2).map(|_| producer.push(&NewEvent::text("{}")).unwrap()).collect();
    let started = Instant::now();
    let error = producer.push(&NewEvent::text("{}")).map(drop).unwrap_err();
    assert!(started.elapsed() >= Duration::from_millis(1_400) && started.elapsed() < Duration::from_secs(10));
    assert_eq!(error.status, Status::Unreachable);
    assert!(error.retriable);
    for part in ["2 events", "queue.buffering.max.messages (2)"] {
        assert!(error.message.contains(part), "{error}");
    }
    kafka.let_go();
    for push in held {
        push.wait(PATIENCE).unwrap();
    }
}

#[test]
fn an_event_that_cannot_be_delivered_in_time_fails_naming_the_last_trouble_and_may_be_stored() {
    let kafka = ProxiedKafka::start();
    let through_proxy = json!({"kafka": {"bootstrap.servers": kafka.bootstrap(), "delivery.timeout.ms": 3_000,
        "request.timeout.ms": 1_000, "socket.timeout.ms": 2_000}});
    let topic = topic_of(&driver_with(through_proxy, &Log::default()), "timeout", 1);
    let producer = topic.producer("p").make().unwrap();
    producer.push(&NewEvent::text("{}")).unwrap().wait(PATIENCE).unwrap();
    kafka.break_off();
    let error = producer.push(&NewEvent::text("{}")).unwrap().wait(PATIENCE).unwrap_err();
    assert_eq!(error.status, Status::Kafka, "{error}");
    assert!(error.retriable && error.message.contains("the last error was"), "{error}");
}

#[test]
fn a_closed_producer_takes_nothing_more_and_has_delivered_what_it_held() {
    let kafka = Kafka::shared();
    let topic = topic("closed", 1);
    let producer = topic.producer("p").kafka("linger.ms", 10_000).make().unwrap();
    let pushes: Vec<_> = (0..100).map(|_| producer.push(&NewEvent::text("{}")).unwrap()).collect();
    producer.close(PATIENCE).unwrap();
    assert!(pushes.iter().all(|push| push.is_done().unwrap()));
    assert_eq!(kafka::kcat_read(kafka.bootstrap(), topic.name()).len(), 100);
    assert_eq!(producer.push(&NewEvent::text("{}")).map(drop).unwrap_err().status, Status::Closed);
    assert_eq!(producer.flush().map(drop).unwrap_err().status, Status::Closed);
    assert_eq!(producer.close(PATIENCE).unwrap_err().status, Status::Closed);
}

#[test]
fn a_producer_that_is_released_still_delivers_what_it_holds() {
    let kafka = Kafka::shared();
    let topic = topic("released", 1);
    let producer = topic.producer("p").kafka("linger.ms", 200).make().unwrap();
    let pushes: Vec<_> = (0..100).map(|_| producer.push(&NewEvent::text("{}")).unwrap()).collect();
    drop(producer);
    for push in &pushes {
        push.wait(PATIENCE).unwrap();
    }
    assert_eq!(kafka::kcat_read(kafka.bootstrap(), topic.name()).len(), 100);
}

#[test]
fn closing_with_the_broker_away_returns_at_its_deadline() {
    let kafka = ProxiedKafka::start();
    let driver = driver_with(json!({"kafka": {"bootstrap.servers": kafka.bootstrap()}}), &Log::default());
    let topic = topic_of(&driver, "away", 1);
    let producer = topic.producer("p").make().unwrap();
    let consumer = topic.consumer(&unique("group")).make().unwrap();
    producer.push(&NewEvent::text("{}")).unwrap().wait(PATIENCE).unwrap();
    crate::support::read(&consumer, 1);
    kafka.hold();
    let push = producer.push(&NewEvent::text("{}")).unwrap();
    let started = Instant::now();
    assert_eq!(producer.close(Duration::from_millis(500)).unwrap_err().status, Status::TimedOut);
    let _ = consumer.close(Duration::from_millis(500));
    assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());
    drop((producer, consumer));
    kafka.let_go();
    push.wait(PATIENCE).expect("delivered in the background");
}

#[test]
fn a_result_can_be_waited_on_from_several_threads_and_asked_for_again() {
    let topic = topic("shared-future", 1);
    let producer = topic.producer("p").make().unwrap();
    let push = producer.push(&NewEvent::text("{}")).unwrap();
    let copy = push.clone();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| push.wait(PATIENCE).unwrap());
        }
    });
    drop(push);
    assert_eq!(copy.wait(Duration::ZERO).unwrap().id, Some(0));
}

#[test]
fn a_producers_options_go_over_the_drivers_and_idempotence_over_both() {
    let topic = topic("options", 1);
    let made = |setting: &str, value: serde_json::Value| topic.producer("p").kafka(setting, value).make().map(drop);
    made("enable.idempotence", json!(false)).expect("set over anything the user says");
    let error = made("acks", json!(1)).unwrap_err();
    assert_eq!(error.status, Status::InvalidConfiguration);
    assert!(error.message.contains("acks"), "{error}");
    let error = made("linger.ms", json!(300_000)).unwrap_err();
    assert_eq!(error.status, Status::InvalidConfiguration, "{error}");
    assert!(error.message.contains("kafka.linger.ms") && error.message.contains("delivery.timeout.ms"), "{error}");
    let error = made("no.such.property", json!(1)).unwrap_err();
    assert!(error.message.contains("kafka.no.such.property"), "{error}");
    topic.producer("p").batch_size(1).max_batches(2).make().unwrap();
    topic.producer("p").batch_size(u64::MAX).loose().make().unwrap();
}

#[test]
fn with_a_selector_that_only_the_host_has_the_host_names_the_partition() {
    let (driver, name) = (driver(), unique("own-selector"));
    let own = json!({"type": "by-energy:libenergy.so"});
    driver.create_topic(&name, &one_replica().partitions(2).selector(own)).unwrap();
    let producer = driver.open_topic(&name).unwrap().producer("p").make().unwrap();
    let error = producer.push(&NewEvent::text("{}")).map(drop).unwrap_err();
    assert_eq!(error.status, Status::Component);
    assert!(error.message.contains("partition selector") && error.message.contains("by-energy"), "{error}");
    let error = producer.push(&NewEvent::text("{}").partition(2)).map(drop).unwrap_err();
    assert_eq!(error.status, Status::InvalidArgument);
    assert!(error.message.contains("partition 2 does not exist, there are 2"), "{error}");
    assert_eq!(producer.push(&NewEvent::text("{}").partition(1)).unwrap().wait(PATIENCE).unwrap().partition, 1);
}

#[test]
fn events_that_are_overdue_while_a_broker_is_silent_are_delivered_once_or_not_at_all() {
    let kafka = ProxiedKafka::start();
    let settings =
        json!({"kafka": {"bootstrap.servers": kafka.bootstrap(), "delivery.timeout.ms": 2_000, "linger.ms": 50}});
    let topic = topic_of(&driver_with(settings, &Log::default()), "silent", 1);
    let producer = topic.producer("p").make().unwrap();
    producer.push(&NewEvent::text("0")).unwrap().wait(PATIENCE).unwrap();
    // Requests stand in the network, not in the client, for longer than the first events of each may wait.
    kafka.hold();
    let pushes: Vec<_> = (1..300)
        .map(|number| {
            std::thread::sleep(Duration::from_millis(10));
            producer.push(&NewEvent::text(&number.to_string())).unwrap()
        })
        .collect();
    kafka.let_go();
    let results: Vec<_> = pushes.iter().map(|push| push.wait(PATIENCE)).collect();
    producer.close(PATIENCE).unwrap_err();

    let records = kafka::kcat_read(kafka.bootstrap(), topic.name());
    let mut found: Vec<_> = records.iter().map(|record| record.value.clone()).collect();
    let count = found.len();
    found.sort();
    found.dedup();
    assert_eq!(found.len(), count, "some are there twice");
    let failed: Vec<_> = results.iter().filter_map(|result| result.as_ref().err()).collect();
    assert!(!failed.is_empty() && failed.len() < results.len(), "{} of {} failed", failed.len(), results.len());
    for error in failed {
        assert_eq!((error.status, error.persisted), (Status::Kafka, Persisted::Possibly), "{error}");
        assert!(error.message.contains("delivery.timeout.ms (2000)"), "{error}");
    }
}

#[test]
fn a_producer_whose_broker_answers_late_takes_no_processor_while_it_waits_with_more_to_send() {
    let kafka = ProxiedKafka::start();
    let through_proxy = json!({"kafka": {"bootstrap.servers": kafka.bootstrap()}});
    let topic = topic_of(&driver_with(through_proxy.clone(), &Log::default()), "late", 1);
    let mut config = through_proxy;
    config["kafka"]["client.id"] = json!("waiting");
    let trap = kafka.trap("waiting", Request::Produce, 1, Held::Answer);
    let host = compile(&C, "waiting.c", &unique("waiting"), &["-D_DEFAULT_SOURCE", "-ldl"]);
    run_host(Command::new(host).arg(library()).args([config.to_string().as_str(), topic.name()]));
    assert!(trap.wait(Duration::ZERO), "its answer was held");
}
