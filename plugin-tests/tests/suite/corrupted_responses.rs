//! Corrupted responses of a broker. librdkafka had assertions for them (docs/librdkafka.md), which
//! end the process. Most of these tests therefore run the client in a process of its own.

use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use octopus_loader::{Consumer, NewEvent, Producer};
use serde_json::json;

use crate::hosts::{C, HOST_TIMEOUT, compile, library, run_to_completion};
use crate::kafka::unique;
use crate::proxy::{ApiKey, ProxiedKafka};
use crate::support::{Log, TIMEOUT, driver_with, eventually, topic_of};

/// The offset of the body of a response of a flexible version. Before it are the length, the
/// correlation id, and the header's empty tag section.
const BODY: usize = 4 + 4 + 1;

#[test]
fn produce_response_with_null_record_errors_is_an_error() {
    let result = push_and_pull(ApiKey::Produce, |response| {
        let Some(count) = position_of_record_errors(response) else { return false };
        // Compact arrays store their length plus one; 0 means null.
        response[count] = 0;
        true
    });
    assert_is_an_error(&result);
}

#[test]
fn produce_response_with_too_many_record_errors_is_an_error() {
    let result = push_and_pull(ApiKey::Produce, |response| {
        let Some(count) = position_of_record_errors(response) else { return false };
        response.splice(count..=count, [0xff, 0xff, 0xff, 0xff, 0x07]);
        true
    });
    assert_is_an_error(&result);
}

#[test]
fn produce_response_with_null_node_endpoints_is_an_error() {
    let result = push_and_pull(ApiKey::Produce, |response| {
        if position_of_record_errors(response).is_none() {
            return false;
        }
        // One tagged field with the node endpoints, of one byte: a null array.
        assert_eq!(response.pop(), Some(0), "it has no tags");
        response.extend([1, 0, 1, 0]);
        true
    });
    assert_is_an_error(&result);
}

#[test]
fn message_with_negative_length_is_fetched_again() {
    let result = push_and_pull(ApiKey::Fetch, |response| {
        // A record batch: its base offset, its length, the leader epoch, and its magic byte, 2.
        let is_batch =
            |at: &usize| response[*at..*at + 8] == [0; 8] && response[*at + 8] == 0 && response[*at + 16] == 2;
        let Some(at) = (BODY..response.len().saturating_sub(61)).find(is_batch) else { return false };
        response[at + 8..at + 12].copy_from_slice(&(-9_i32).to_be_bytes());
        response[at + 16] = 0;
        true
    });
    assert_eq!(result.as_deref(), Ok(ALL_IN_PLACE));
}

#[test]
fn fetch_response_with_corrupted_tags_is_fetched_again() {
    let result = push_and_pull(ApiKey::Fetch, |response| {
        let is_batch = |at: usize| response[at..at + 8] == [0; 8] && response[at + 8] == 0 && response[at + 16] == 2;
        let end = response.len();
        // The empty tag sections of the partition, of the topic, and of the response.
        if end < 200 || !(BODY..end - 61).any(is_batch) || response[end - 3..] != [0; 3] {
            return false;
        }
        response[end - 3..].fill(0xff);
        true
    });
    assert_eq!(result.as_deref(), Ok(ALL_IN_PLACE));
}

#[test]
fn group_leader_with_negative_member_count_joins_again() {
    let result = push_and_pull(ApiKey::JoinGroup, |response| {
        let Some(member) = first_member(response) else { return false };
        response[member - 4..member].copy_from_slice(&(-2_i32).to_be_bytes());
        true
    });
    assert_eq!(result.as_deref(), Ok(ALL_IN_PLACE));
}

/// A fetch response with records of a partition that the consumer did not request.
#[test]
fn records_of_an_unrequested_partition_are_ignored() {
    let kafka = ProxiedKafka::start();
    let settings = |client: &str| json!({"kafka": {"bootstrap.servers": kafka.bootstrap(), "client.id": client}});
    let topic = topic_of(&driver_with(settings("other"), &Log::default()), "unrequested", 2);
    let group = unique("group");
    let other = topic.consumer(&group).make().unwrap();
    let log = Log::default();
    let consumer = driver_with(settings("corrupted"), &log).open_topic(topic.name()).unwrap();
    let consumer = consumer.consumer(&group).make().unwrap();
    let producer = topic.producer("").make().unwrap();
    let mut pushed = 0;
    let mut read_by_both = || {
        let mut seen = [false; 2];
        eventually("both have a partition", || {
            for partition in 0..2 {
                producer.push_forget(&NewEvent::json(&pushed).partition(partition)).unwrap();
                pushed += 1;
            }
            for (consumer, seen) in [&other, &consumer].into_iter().zip(&mut seen) {
                if let Some(event) = consumer.next(Duration::from_millis(100)).unwrap() {
                    *seen = true;
                    event.acknowledge().unwrap();
                }
            }
            seen == [true; 2]
        });
    };
    read_by_both();

    let corruption = kafka.corrupt_responses("corrupted", ApiKey::Fetch, |response| {
        // Throttle time, error, session id, then one topic by its id, and one partition.
        let partition = BODY + 4 + 2 + 4 + 1 + 16 + 1;
        if response.len() < partition + 4 || response[BODY + 10] != 2 || response[partition - 1] != 2 {
            return false;
        }
        response[partition + 3] ^= 1;
        true
    });
    eventually("a response is corrupted", || corruption.is_done());
    read_by_both();
}

/// A broker that was suspended, on a laptop for instance, sends such responses until the controller
/// registers it again. A client that drops its brokers because of one would open new connections to
/// the bootstrap servers.
#[test]
fn metadata_response_without_brokers_is_requested_again() {
    let kafka = ProxiedKafka::start();
    let driver = driver_with(json!({"kafka": {"bootstrap.servers": kafka.bootstrap()}}), &Log::default());
    let topic = topic_of(&driver, "no-brokers", 1);
    let producer = topic.producer("").kafka("client.id", "producer").kafka("topic.metadata.refresh.interval.ms", 50);
    let producer = producer.make().unwrap();
    let consumer = topic.consumer(&unique("group"));
    let consumer = consumer.kafka("client.id", "consumer").kafka("topic.metadata.refresh.interval.ms", 50);
    let consumer = consumer.make().unwrap();
    assert_event_passes(&producer, &consumer, 0);
    let rounds = 10;
    let connections_before = kafka.connection_count();
    for round in 1..=rounds {
        let corruptions =
            ["producer", "consumer"].map(|client| kafka.corrupt_responses(client, ApiKey::Metadata, remove_brokers));
        eventually("both clients got a response without brokers", || {
            corruptions.iter().all(|corruption| corruption.is_done())
        });
        assert_event_passes(&producer, &consumer, round);
    }
    // The clients may open some connections late in any case.
    let connections = kafka.connection_count() - connections_before;
    assert!(connections < rounds as u64, "the clients opened {connections} new connections");
}

/// The consumer requests the topic's id by DescribeTopics, which sends a Metadata request.
/// librdkafka's error code stayed 0 although it found the response incomplete, and an assertion
/// ended the process.
#[test]
fn describe_topics_response_without_brokers_is_an_error() {
    let log = read_with_corrupted_description("described", remove_brokers);
    assert_eq!(log.count(|line| line.contains("another topic")), 0, "{log:?}");
}

/// librdkafka freed the description of the topic before it named the topic in its message.
#[test]
fn describe_topics_response_for_another_topic_names_it() {
    const NAME: &[u8] = b"renamed-in-the-response";
    let log = read_with_corrupted_description("renamed-in-the-response", |response| {
        let Some(at) = response.windows(NAME.len()).position(|bytes| bytes == NAME) else { return false };
        response[at] = b'x';
        true
    });
    eventually("the log names the topic of the response", || {
        log.count(|line| {
            line.contains("xenamed-in-the-response") && line.contains("not included in the original request")
        }) == 1
    });
}

fn assert_event_passes(producer: &Producer, consumer: &Consumer, number: u32) {
    producer.push(&NewEvent::json(&number)).unwrap().wait(TIMEOUT).unwrap();
    assert_eq!(consumer.next(TIMEOUT).unwrap().unwrap().metadata(), Some(number.to_string().as_str()));
}

/// Corrupts one response to a consumer that, once it reads, sends Metadata requests for
/// DescribeTopics only, and checks that the consumer continues.
fn read_with_corrupted_description(name: &str, change: fn(&mut Vec<u8>) -> bool) -> Log {
    let kafka = ProxiedKafka::start();
    let log = Log::default();
    let driver = driver_with(json!({"kafka": {"bootstrap.servers": kafka.bootstrap()}}), &log);
    let topic = topic_of(&driver, name, 1);
    let producer = topic.producer("").kafka("client.id", "producer").make().unwrap();
    let consumer = topic.consumer(&unique("group")).kafka("client.id", "consumer");
    let consumer = consumer.kafka("topic.metadata.refresh.interval.ms", 600_000).make().unwrap();
    assert_event_passes(&producer, &consumer, 0);
    let corruption = kafka.corrupt_responses("consumer", ApiKey::Metadata, change);
    eventually("a response is corrupted", || corruption.is_done());
    assert_event_passes(&producer, &consumer, 1);
    log
}

/// The leader ignores members that it cannot read; without any, it must not assign partitions.
#[test]
fn join_group_response_without_readable_members_is_rejected() {
    let result = push_and_pull(ApiKey::JoinGroup, |response| {
        let Some(member) = first_member(response) else { return false };
        // The member id and the static member id, then the length of the metadata, its version, and
        // the number of topics.
        let mut at = member;
        for _ in 0..2 {
            let length = i16::from_be_bytes([response[at], response[at + 1]]);
            at += 2 + usize::try_from(length).unwrap_or(0);
        }
        let topics = at + 4 + 2;
        assert_eq!(response[topics..topics + 4], 1_i32.to_be_bytes(), "one topic");
        response[topics..topics + 4].copy_from_slice(&i32::MAX.to_be_bytes());
        true
    });
    assert_eq!(result.as_deref(), Ok(ALL_IN_PLACE));
}

/// The position of the first member in a JoinGroup response to the leader of a group of one.
fn first_member(response: &[u8]) -> Option<usize> {
    let mut at = 4 + 4 + 4;
    let error = i16::from_be_bytes([response[at], response[at + 1]]);
    at += 2 + 4;
    // The assignor, the leader's member id and the client's own.
    for _ in 0..3 {
        at += 2 + usize::from(u16::from_be_bytes([response[at], response[at + 1]]));
    }
    (error == 0 && response[at..at + 4] == 1_i32.to_be_bytes()).then_some(at + 4)
}

/// Removes the only broker from a Metadata response of version 9 or later.
fn remove_brokers(response: &mut Vec<u8>) -> bool {
    // After the throttle time, with lengths of one byte: the number of brokers plus one, then node
    // id, host, port, rack, tags.
    let brokers = BODY + 4;
    assert_eq!(response[brokers], 2, "one broker");
    let host = brokers + 1 + 4;
    let rack = host + usize::from(response[host]) + 4;
    let tags = rack + usize::from(response[rack].max(1));
    response.splice(brokers..=tags, [1]);
    true
}

const TOPIC: &str = "corrupted";
const ALL_IN_PLACE: &str = "300 events in 3 partitions, each in its place and in order\n";

/// The stdout of a host that succeeds, or the stderr of one that fails.
type Printed = Result<String, String>;

/// Runs a host that pushes 300 events and reads them, and corrupts one response to `request`.
fn push_and_pull(request: ApiKey, change: fn(&mut Vec<u8>) -> bool) -> Printed {
    static HOST: LazyLock<PathBuf> = LazyLock::new(|| compile(&C, "roundtrip.c", "roundtrip-corrupted", &["-ldl"]));
    let kafka = ProxiedKafka::start();
    let corruption = kafka.corrupt_responses("", request, change);
    let mut command = Command::new(&*HOST);
    command.arg(library()).args([kafka.bootstrap(), TOPIC, "corrupted-group", "300"]);

    let printed = run_to_completion(HOST_TIMEOUT, &command);

    assert!(corruption.is_done(), "no response was changed: {printed:?}");
    printed
}

/// Expects the push to fail, or to succeed if the client repeated the request whose response was
/// corrupted.
fn assert_is_an_error(printed: &Printed) {
    match printed {
        Ok(all) => assert_eq!(all, ALL_IN_PLACE),
        Err(why) => assert!(why.contains("wait(delivered") && why.contains("delivering"), "{why}"),
    }
}

/// The position of the number of record errors in a produce response of version 9 or later for one
/// partition of one topic. None if the response is for another topic, such as the info topic.
fn position_of_record_errors(response: &[u8]) -> Option<usize> {
    let name = BODY + 2..BODY + 2 + TOPIC.len();
    let partition = name.end + 1;
    // Partition index, error, offset, timestamp, log start offset.
    let count = partition + 4 + 2 + 8 + 8 + 8;
    if response.get(name) != Some(TOPIC.as_bytes()) {
        return None;
    }
    assert_eq!(
        [response[BODY], response[partition - 1], response[count]],
        [2, 2, 1],
        "one topic, one partition, no errors"
    );
    Some(count)
}
