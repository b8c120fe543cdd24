//! Transactions whose commit is interrupted, so that the producer does not know whether they are
//! committed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use octopus_loader::{Consumer, NewEvent, Producer, Status, Topic};
use serde_json::json;

use crate::exactly_once::{numbers, push_results, status};
use crate::kafka::{self, Kafka, unique};
use crate::proxy::{ApiKey, HeldMessage, ProxiedKafka};
use crate::support::{Log, TIMEOUT, driver_with, eventually, has_no_event, push_numbers, read, topic_of};

const HELD: [HeldMessage; 2] = [HeldMessage::Response, HeldMessage::Request];

/// Two topics behind the proxy.
struct Forwarding {
    kafka: ProxiedKafka,
    input: Topic,
    output: Topic,
    group: String,
}

impl Forwarding {
    /// With four numbered events in the input: 0 to 3 in the first partition, 4 to 7 in the second.
    fn start(partitions: u32) -> Self {
        let kafka = ProxiedKafka::start();
        let config =
            json!({"kafka": {"bootstrap.servers": kafka.bootstrap(), "client.id": "held"}, "timeout_ms": 20_000});
        let driver = driver_with(config, &Log::default());
        let input = topic_of(&driver, "input", partitions);
        let producer = input.producer("numbers").make().unwrap();
        for number in 0..4 * partitions {
            producer.push_forget(&NewEvent::json(&number).partition(u64::from(number / 4))).unwrap();
        }
        producer.close(TIMEOUT).unwrap();
        Forwarding { output: topic_of(&driver, "output", 1), kafka, input, group: unique("group") }
    }

    fn producer(&self, id: &str) -> Producer {
        self.output.producer("").option("transactional_id", id).make().unwrap()
    }

    fn consumer(&self) -> Consumer {
        let consumer = self.input.consumer(&self.group).option("commits", "transaction");
        consumer.kafka("partition.assignment.strategy", "cooperative-sticky").make().unwrap()
    }

    /// A producer that doesn't know whether the results of the next `count` events are stored.
    fn interrupted(&self, id: &str, consumer: &Consumer, count: usize, held: HeldMessage) -> Producer {
        let producer = self.producer(id);
        producer.begin_transaction(&[consumer]).unwrap();
        push_results(&producer, &read(consumer, count));
        let fault = self.kafka.inject_fault("held", ApiKey::EndTxn, 1, held);
        assert_eq!(status(producer.commit_transaction(Duration::from_secs(2))), Status::TimedOut);
        assert!(fault.wait(Duration::ZERO), "the commit was not interrupted");
        producer
    }

    /// Stores the results of the next `count` events.
    fn forward(&self, producer: &Producer, consumer: &Consumer, count: usize) {
        producer.begin_transaction(&[consumer]).unwrap();
        push_results(producer, &read(consumer, count));
        producer.commit_transaction(TIMEOUT).unwrap();
    }

    /// All results, in order; each is expected once.
    fn results(&self, count: usize) -> Vec<u64> {
        let results = self.output.consumer(&unique("results")).make().unwrap();
        let mut numbers = numbers(&read(&results, count));
        assert!(has_no_event(&results), "there are more results than {numbers:?}");
        numbers.sort_unstable();
        numbers
    }
}

/// The producer's transaction must be aborted, as an earlier one may be committed.
fn assert_outcome_unknown(producer: &Producer, consumer: &Consumer) {
    producer.begin_transaction(&[consumer]).unwrap();
    producer.push_forget(&NewEvent::json(&"a result of an event whose position is not known")).unwrap();
    let error = producer.commit_transaction(TIMEOUT).unwrap_err();
    assert_eq!(error.status, Status::MustAbort);
    assert!(error.message.contains("outcome"), "{error}");
}

/// The group knows the outcome: the consumer continues after a commit of which no response has
/// arrived, and before one that has not arrived.
#[test]
fn released_producer_leaves_its_consumer_where_the_group_is() {
    for held in HELD {
        let forwarding = Forwarding::start(1);
        let consumer = forwarding.consumer();
        let older = forwarding.interrupted("forwarding", &consumer, 2, held);
        let error = older.abort_transaction(TIMEOUT).unwrap_err();
        assert_eq!(error.status, Status::InvalidArgument);
        assert!(error.message.contains("may be committed already"), "{error}");
        drop(older);

        let newer = forwarding.producer("forwarding");
        assert_outcome_unknown(&newer, &consumer);
        newer.abort_transaction(TIMEOUT).unwrap();
        let next = if held == HeldMessage::Response { 2 } else { 0 };
        assert_eq!(consumer.position(0).unwrap(), next, "{held:?}");
        forwarding.forward(&newer, &consumer, 4 - next as usize);
        assert_eq!(forwarding.results(4), [0, 1, 2, 3], "{held:?}");
    }
}

/// An abort could discard what is committed already.
#[test]
fn close_finishes_a_commit_that_may_have_succeeded() {
    for held in HELD {
        let forwarding = Forwarding::start(1);
        let consumer = forwarding.consumer();
        let producer = forwarding.interrupted("forwarding", &consumer, 2, held);
        assert_eq!(status(producer.close(Duration::from_millis(100))), Status::TimedOut, "{held:?}");
        forwarding.kafka.disconnect();
        forwarding.kafka.resume();
        producer.close(TIMEOUT).unwrap();
        assert_eq!(forwarding.results(2), [0, 1], "{held:?}");
        forwarding.forward(&forwarding.producer("forwarding"), &consumer, 2);
        assert_eq!(forwarding.results(4), [0, 1, 2, 3], "{held:?}");
    }
}

/// While an abort waits for the outcome of an earlier transaction, its consumer gets another
/// partition and reads from it. These events were read before the abort ended, too.
#[test]
fn partition_assigned_while_the_group_is_asked_is_read_again() {
    let forwarding = Forwarding::start(2);
    let (consumer, other) = (forwarding.consumer(), forwarding.consumer());
    eventually("both consumers to have a partition", || {
        [&consumer, &other].map(|consumer| consumer.assignment().unwrap().len()) == [1, 1]
    });
    // The group's offsets are not stable until the coordinator has ended this transaction.
    drop(forwarding.interrupted("interrupted", &consumer, 1, HeldMessage::Request));
    let producer = forwarding.producer("forwarding");
    assert_outcome_unknown(&producer, &consumer);

    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let counting = forwarding.kafka.corrupt_responses("held", ApiKey::OffsetFetch, move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        false
    });
    thread::scope(|scope| {
        let abort = scope.spawn(|| producer.abort_transaction(TIMEOUT));
        eventually("the abort to ask the group", || asked.load(Ordering::Relaxed) > 2);
        other.close(TIMEOUT).unwrap();
        // The rest of its partition, and all of the new one.
        for event in read(&consumer, 7) {
            event.acknowledge().unwrap();
        }
        assert!(!abort.is_finished(), "the abort did not wait for the outcome");
        // Ends the interrupted transaction.
        drop(forwarding.producer("interrupted"));
        abort.join().unwrap().unwrap();
    });
    counting.end();
    forwarding.forward(&producer, &consumer, 8);
    assert_eq!(forwarding.results(8), (0..8).collect::<Vec<_>>());
}

/// Its broker did not respond within the delivery timeout.
#[test]
fn overdue_event_makes_the_commit_fail() {
    let forwarding = Forwarding::start(1);
    let consumer = forwarding.consumer();
    let producer = forwarding.output.producer("").option("transactional_id", "forwarding");
    let producer = producer.kafka("delivery.timeout.ms", 3_000).make().unwrap();
    producer.begin_transaction(&[&consumer]).unwrap();
    let events = read(&consumer, 2);
    push_results(&producer, &events[..1]);
    producer.flush().unwrap().wait(TIMEOUT).unwrap();
    forwarding.kafka.pause();
    push_results(&producer, &events[1..]);
    let error = producer.commit_transaction(TIMEOUT).unwrap_err();
    assert_eq!(error.status, Status::MustAbort, "{error}");
    assert!(error.message.contains("timed out"), "{error}");
    forwarding.kafka.resume();
    producer.abort_transaction(TIMEOUT).unwrap();
    forwarding.forward(&producer, &consumer, 4);
    assert_eq!(forwarding.results(4), [0, 1, 2, 3]);
}

/// The coordinator aborts a transaction after `transaction.timeout.ms`, and fences its producer.
#[test]
fn producer_whose_transaction_was_open_too_long_is_fenced() {
    let often = ["--set", "transaction.abort.timed.out.transaction.cleanup.interval.ms=200"];
    let kafka = Kafka::start(&often).unwrap();
    let driver = driver_with(json!({"kafka": {"bootstrap.servers": kafka.bootstrap()}}), &Log::default());
    let [input, output] = ["input", "output"].map(|name| topic_of(&driver, name, 1));
    push_numbers(&input, 1);
    let consumer = input.consumer("forwarding").option("commits", "transaction").make().unwrap();
    let producer = || output.producer("").option("transactional_id", "id").kafka("transaction.timeout.ms", 2_000);
    let late = producer().make().unwrap();
    late.begin_transaction(&[&consumer]).unwrap();
    push_results(&late, &read(&consumer, 1));
    late.flush().unwrap().wait(TIMEOUT).unwrap();
    push_numbers(&output, 1);
    // A reader waits for the end of the transaction before this event.
    let results = output.consumer("results").make().unwrap();
    assert_eq!(numbers(&read(&results, 1)), [0]);
    assert!(has_no_event(&results), "the transaction was not aborted");
    let error = late.commit_transaction(TIMEOUT).unwrap_err();
    assert_eq!(error.status, Status::Fenced, "{error}");
    drop(late);

    let next = producer().make().unwrap();
    next.begin_transaction(&[&consumer]).unwrap();
    assert_eq!(status(next.commit_transaction(TIMEOUT)), Status::MustAbort);
    next.abort_transaction(TIMEOUT).unwrap();
    next.begin_transaction(&[&consumer]).unwrap();
    push_results(&next, &read(&consumer, 1));
    next.commit_transaction(TIMEOUT).unwrap();
    assert_eq!(numbers(&read(&results, 1)), [0]);
}

/// There is nothing to return to: the topic of the consumer is deleted during the transaction.
#[test]
fn abort_succeeds_when_the_input_is_deleted() {
    let forwarding = Forwarding::start(1);
    let (producer, consumer) = (forwarding.producer("forwarding"), forwarding.consumer());
    producer.begin_transaction(&[&consumer]).unwrap();
    push_results(&producer, &read(&consumer, 2));
    kafka::delete_topic(forwarding.kafka.bootstrap(), forwarding.input.name());
    producer.abort_transaction(TIMEOUT).unwrap();
    producer.begin_transaction(&[&consumer]).unwrap();
    producer.push_forget(&NewEvent::json(&0)).unwrap();
    producer.commit_transaction(TIMEOUT).unwrap();
    assert_eq!(forwarding.results(1), [0]);
}

/// The events of the transaction have no topic any more.
#[test]
fn abort_succeeds_when_the_output_is_deleted() {
    let forwarding = Forwarding::start(1);
    let (producer, consumer) = (forwarding.producer("forwarding"), forwarding.consumer());
    producer.begin_transaction(&[&consumer]).unwrap();
    push_results(&producer, &read(&consumer, 2));
    producer.flush().unwrap().wait(TIMEOUT).unwrap();
    kafka::delete_topic(forwarding.kafka.bootstrap(), forwarding.output.name());
    producer.abort_transaction(TIMEOUT).unwrap();
    assert_eq!(numbers(&read(&consumer, 4)), [0, 1, 2, 3]);
}
