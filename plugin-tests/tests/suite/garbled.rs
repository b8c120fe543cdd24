//! Answers of a broker that say what none would: librdkafka had assertions for these (docs/librdkafka.md), which end a process. So
//! the client is one of its own, but for the last two.

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use octopus_loader::NewEvent;
use serde_json::json;

use crate::hosts::{C, LIMIT, compile, library, run_to_its_end};
use crate::kafka::unique;
use crate::proxy::{ProxiedKafka, Request, Spoiler};
use crate::support::{Log, PATIENCE, driver_with, eventually, topic_of};

/// Where an answer of the flexible versions begins, behind length, number, and its header's empty tags.
const BODY: usize = 4 + 4 + 1;

#[test]
fn an_answer_without_errors_of_records_is_an_error() {
    let result = push_and_pull(Request::Produce, |answer| {
        let Some(count) = errors_of_records(answer) else { return false };
        // One more than the number, so this is less than none.
        answer[count] = 0;
        true
    });
    assert_is_an_error(&result);
}

#[test]
fn an_answer_with_more_errors_of_records_than_it_has_bytes_is_an_error() {
    let result = push_and_pull(Request::Produce, |answer| {
        let Some(count) = errors_of_records(answer) else { return false };
        answer.splice(count..=count, [0xff, 0xff, 0xff, 0xff, 0x07]);
        true
    });
    assert_is_an_error(&result);
}

#[test]
fn an_answer_whose_new_leaders_have_no_addresses_is_an_error() {
    let result = push_and_pull(Request::Produce, |answer| {
        if errors_of_records(answer).is_none() {
            return false;
        }
        // One tag, the addresses of brokers, one byte of it: less than none.
        assert_eq!(answer.pop(), Some(0), "it has no tags");
        answer.extend([1, 0, 1, 0]);
        true
    });
    assert_is_an_error(&result);
}

#[test]
fn a_message_whose_length_is_below_nothing_is_read_again() {
    let result = push_and_pull(Request::Fetch, |answer| {
        // A batch: its offset, its length, the epoch of the leader, and 2, its version.
        let is_batch = |at: &usize| answer[*at..*at + 8] == [0; 8] && answer[*at + 8] == 0 && answer[*at + 16] == 2;
        let Some(at) = (BODY..answer.len().saturating_sub(61)).find(is_batch) else { return false };
        answer[at + 8..at + 12].copy_from_slice(&(-9_i32).to_be_bytes());
        answer[at + 16] = 0;
        true
    });
    assert_eq!(result.as_deref(), Ok(ALL_IN_PLACE));
}

#[test]
fn fetch_response_whose_tags_are_garbled_is_read_again() {
    let result = push_and_pull(Request::Fetch, |answer| {
        let is_batch = |at: usize| answer[at..at + 8] == [0; 8] && answer[at + 8] == 0 && answer[at + 16] == 2;
        let end = answer.len();
        // Those of the partition, of the topic, and of the response: none.
        if end < 200 || !(BODY..end - 61).any(is_batch) || answer[end - 3..] != [0; 3] {
            return false;
        }
        answer[end - 3..].fill(0xff);
        true
    });
    assert_eq!(result.as_deref(), Ok(ALL_IN_PLACE));
}

#[test]
fn the_leader_of_a_group_with_less_than_no_members_joins_again() {
    let result = push_and_pull(Request::JoinGroup, |answer| {
        let Some(member) = first_member(answer) else { return false };
        answer[member - 4..member].copy_from_slice(&(-2_i32).to_be_bytes());
        true
    });
    assert_eq!(result.as_deref(), Ok(ALL_IN_PLACE));
}

#[test]
fn events_of_a_partition_that_was_not_asked_for_are_not_taken() {
    let kafka = ProxiedKafka::start();
    let settings = |client: &str| json!({"kafka": {"bootstrap.servers": kafka.bootstrap(), "client.id": client}});
    let topic = topic_of(&driver_with(settings("other"), &Log::default()), "not-asked-for", 2);
    let group = unique("group");
    let other = topic.consumer(&group).make().unwrap();
    let log = Log::default();
    let consumer = driver_with(settings("spoiled"), &log).open_topic(topic.name()).unwrap();
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

    let spoiler = kafka.spoil("spoiled", Request::Fetch, |answer| {
        // Throttle time, error, session, then one topic by its id, and one partition.
        let partition = BODY + 4 + 2 + 4 + 1 + 16 + 1;
        if answer.len() < partition + 4 || answer[BODY + 10] != 2 || answer[partition - 1] != 2 {
            return false;
        }
        answer[partition + 3] ^= 1;
        true
    });
    eventually("an answer is spoiled", || spoiler.is_done());
    read_by_both();
}

/// Which a broker does that stood still, until the controller takes it up again: a laptop's, after a sleep. A client that gives up its
/// brokers because of it goes back to the bootstrap servers, by new connections.
#[test]
fn a_broker_that_knows_of_no_brokers_for_a_moment_is_asked_again() {
    let kafka = ProxiedKafka::start();
    let driver = driver_with(json!({"kafka": {"bootstrap.servers": kafka.bootstrap()}}), &Log::default());
    let topic = topic_of(&driver, "no-brokers", 1);
    let producer = topic.producer("").kafka("client.id", "producer").kafka("topic.metadata.refresh.interval.ms", 50);
    let producer = producer.make().unwrap();
    let consumer = topic.consumer(&unique("group"));
    let consumer = consumer.kafka("client.id", "consumer").kafka("topic.metadata.refresh.interval.ms", 50);
    let consumer = consumer.make().unwrap();
    let push_and_pull = |number: u32| {
        producer.push(&NewEvent::json(&number)).unwrap().wait(PATIENCE).unwrap();
        assert_eq!(consumer.next(PATIENCE).unwrap().unwrap().metadata(), Some(number.to_string().as_str()));
    };
    push_and_pull(0);
    let rounds = 10;
    let connections_before = kafka.connections_made();
    for round in 1..=rounds {
        let spoilers = ["producer", "consumer"].map(|client| kafka.spoil(client, Request::Metadata, forget_brokers));
        eventually("both were told of no brokers", || spoilers.iter().all(|spoiler| spoiler.is_done()));
        push_and_pull(round);
    }
    // Some may be made late in any case.
    let connections = kafka.connections_made() - connections_before;
    assert!(connections < rounds as usize, "the clients have made {connections} new connections");
}

/// The consumer asks for the topic's id by DescribeTopics, whose response is one to a Metadata request. librdkafka's error code stayed 0
/// although it found the response incomplete, and an assertion ended the process.
#[test]
fn describe_topics_response_without_brokers_is_an_error() {
    let log = read_around_a_garbled_description("described", forget_brokers);
    assert_eq!(log.count(|line| line.contains("another topic")), 0, "{log:?}");
}

/// librdkafka freed the description of the topic before it named the topic in its message.
#[test]
fn describe_topics_response_for_another_topic_names_it() {
    const NAME: &[u8] = b"renamed-in-the-response";
    let log = read_around_a_garbled_description("renamed-in-the-response", |response| {
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

/// A consumer that sends Metadata requests for DescribeTopics only, once it reads: one of the responses is changed, and it reads on.
fn read_around_a_garbled_description(name: &str, change: fn(&mut Vec<u8>) -> bool) -> Log {
    let kafka = ProxiedKafka::start();
    let log = Log::default();
    let driver = driver_with(json!({"kafka": {"bootstrap.servers": kafka.bootstrap()}}), &log);
    let topic = topic_of(&driver, name, 1);
    let producer = topic.producer("").kafka("client.id", "producer").make().unwrap();
    let consumer = topic.consumer(&unique("group")).kafka("client.id", "consumer");
    let consumer = consumer.kafka("topic.metadata.refresh.interval.ms", 600_000).make().unwrap();
    let push_and_pull = |number: u32| {
        producer.push(&NewEvent::json(&number)).unwrap().wait(PATIENCE).unwrap();
        assert_eq!(consumer.next(PATIENCE).unwrap().unwrap().metadata(), Some(number.to_string().as_str()));
    };
    push_and_pull(0);
    let spoiler = kafka.spoil("consumer", Request::Metadata, change);
    eventually("a response is changed", || spoiler.is_done());
    push_and_pull(1);
    log
}

/// The leader ignores members that it cannot read; without any, it must not assign partitions.
#[test]
fn join_group_response_without_readable_members_is_rejected() {
    let result = push_and_pull(Request::JoinGroup, |response| {
        let Some(member) = first_member(response) else { return false };
        // Its id and its static id, then the length of its metadata, their version, and the number of topics.
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

/// Where the first member is in a JoinGroup response to the leader of a group of one.
fn first_member(response: &[u8]) -> Option<usize> {
    let mut at = 4 + 4 + 4;
    let error = i16::from_be_bytes([response[at], response[at + 1]]);
    at += 2 + 4;
    // The assignor, the leader's id and its own.
    for _ in 0..3 {
        at += 2 + usize::from(u16::from_be_bytes([response[at], response[at + 1]]));
    }
    (error == 0 && response[at..at + 4] == 1_i32.to_be_bytes()).then_some(at + 4)
}

/// Takes the one broker out of an answer to a metadata request of version 9 or later.
fn forget_brokers(answer: &mut Vec<u8>) -> bool {
    // Behind the throttle time, with lengths of one byte: the number of brokers plus one, then node, host, port, rack, tags.
    let brokers = BODY + 4;
    assert_eq!(answer[brokers], 2, "one broker");
    let host = brokers + 1 + 4;
    let rack = host + usize::from(answer[host]) + 4;
    let tags = rack + usize::from(answer[rack].max(1));
    answer.splice(brokers..=tags, [1]);
    true
}

const TOPIC: &str = "garbled";
const ALL_IN_PLACE: &str = "300 events in 3 partitions, each in its place and in order\n";

/// What a host prints to stdout, or else to stderr.
type Printed = Result<String, String>;

/// A host pushes 300 events and reads them, while one answer to a request of that kind is changed.
fn push_and_pull(request: Request, change: fn(&mut Vec<u8>) -> bool) -> Printed {
    static HOST: LazyLock<PathBuf> = LazyLock::new(|| compile(&C, "roundtrip.c", "roundtrip-garbled", &["-ldl"]));
    let kafka = ProxiedKafka::start();
    let spoiler: Arc<Spoiler> = kafka.spoil("", request, change);
    let mut command = Command::new(&*HOST);
    command.arg(library()).args([kafka.bootstrap(), TOPIC, "garbled-group", "300"]);

    let printed = run_to_its_end(LIMIT, &command);

    assert!(spoiler.is_done(), "no answer was changed: {printed:?}");
    printed
}

/// Or as if the answer had been understood, if what was spoiled of it was asked for again.
fn assert_is_an_error(printed: &Printed) {
    match printed {
        Ok(all) => assert_eq!(all, ALL_IN_PLACE),
        Err(why) => assert!(why.contains("wait(delivered") && why.contains("delivering"), "{why}"),
    }
}

/// Where their number is in the answer to a produce request of version 9 or later, which is about one partition of one topic. None in
/// that of another topic, as the one that Octopus keeps its descriptions in.
fn errors_of_records(answer: &[u8]) -> Option<usize> {
    let name = BODY + 2..BODY + 2 + TOPIC.len();
    let partition = name.end + 1;
    // Partition, error, offset, timestamp, the log's start.
    let count = partition + 4 + 2 + 8 + 8 + 8;
    if answer.get(name) != Some(TOPIC.as_bytes()) {
        return None;
    }
    assert_eq!([answer[BODY], answer[partition - 1], answer[count]], [2, 2, 1], "one topic, one partition, no errors");
    Some(count)
}
