//! Transactions of producers: their events and the positions of their consumers are stored together
//! or not at all.

use std::time::Duration;

use octopus_loader::{Consumer, Event, NewEvent, Producer, Status, Topic};
use serde_json::json;

use crate::kafka::{self, Kafka, unique};
use crate::support::{TIMEOUT, driver_with, eventually, has_no_event, push_numbers, read, topic};

/// Longer than a consumer waits between two commits, and than librdkafka waits for a response.
const SEVERAL_COMMITS: Duration = Duration::from_millis(2_500);

/// A topic with input, one for the results, and the program between them.
struct Forwarding {
    input: Topic,
    output: Topic,
    group: String,
    id: String,
}

impl Forwarding {
    fn new(partitions: u32) -> Self {
        let (input, output) = (topic("input", partitions), topic("output", 1));
        Forwarding { input, output, group: unique("forwarding"), id: unique("id") }
    }

    fn with_input(count: u64) -> Self {
        let forwarding = Forwarding::new(1);
        push_numbers(&forwarding.input, count);
        forwarding
    }

    fn consumer(&self) -> Consumer {
        self.input.consumer(&self.group).option("commits", "transaction").make().unwrap()
    }

    fn producer(&self) -> Producer {
        self.output.producer("forwarding").option("transactional_id", self.id.as_str()).make().unwrap()
    }

    fn committed(&self) -> Option<u64> {
        kafka::committed_offset(Kafka::shared().bootstrap(), &self.group, self.input.name(), 0)
    }

    /// What another program reads of the output, which reads committed records only.
    fn stored(&self) -> usize {
        kafka::kcat_read(Kafka::shared().bootstrap(), self.output.name()).len()
    }

    fn stored_numbers(&self, count: usize) -> Vec<u64> {
        assert_eq!(self.stored(), count);
        let reader = self.output.consumer(&unique("reader")).make().unwrap();
        numbers(&read(&reader, count))
    }
}

pub fn numbers(events: &[Event]) -> Vec<u64> {
    events.iter().map(|event| event.json().unwrap().as_u64().unwrap()).collect()
}

pub fn push_results(producer: &Producer, events: &[Event]) {
    for event in events {
        producer.push_forget(&NewEvent::text(event.metadata().unwrap())).unwrap();
        event.acknowledge().unwrap();
    }
}

pub fn status<T>(result: octopus_loader::Result<T>) -> Status {
    result.map_or_else(|error| error.status, |_| Status::Ok)
}

#[test]
fn committed_transaction_has_its_events_and_positions() {
    for properties in [json!({}), json!({"group.protocol": "consumer"}), json!({"group.instance.id": "one"})] {
        let forwarding = Forwarding::with_input(10);
        let consumer = || {
            let consumer = forwarding.input.consumer(&forwarding.group).option("commits", "transaction");
            let properties = properties.as_object().unwrap().iter();
            properties.fold(consumer, |consumer, (name, value)| consumer.kafka(name, value.clone())).make().unwrap()
        };
        let (producer, first) = (forwarding.producer(), consumer());
        for number in [0, 5] {
            let events = read(&first, 5);
            producer.begin_transaction(&[&first]).unwrap();
            push_results(&producer, &events);
            producer.flush().unwrap().wait(TIMEOUT).unwrap();
            assert_eq!(forwarding.committed().unwrap_or(0), number, "{properties}");
            assert_eq!(forwarding.stored(), number as usize, "{properties}");
            producer.commit_transaction(TIMEOUT).unwrap();
            assert_eq!(forwarding.committed(), Some(number + 5), "{properties}");
        }
        assert_eq!(forwarding.stored_numbers(10), (0..10).collect::<Vec<_>>());
        producer.close(TIMEOUT).unwrap();
        first.close(TIMEOUT).unwrap();
        let next = consumer();
        eventually("the next consumer has the partition", || next.assignment().unwrap() == [0]);
        assert!(has_no_event(&next), "{properties}: the next consumer of the group has something to read");
    }
}

#[test]
fn aborted_transaction_is_read_again() {
    let forwarding = Forwarding::with_input(6);
    let (producer, consumer) = (forwarding.producer(), forwarding.consumer());
    let committed = read(&consumer, 2);
    producer.begin_transaction(&[&consumer]).unwrap();
    push_results(&producer, &committed);
    producer.commit_transaction(TIMEOUT).unwrap();

    let discarded = read(&consumer, 3);
    producer.begin_transaction(&[&consumer]).unwrap();
    push_results(&producer, &discarded[..2]);
    let pushed = producer.push(&NewEvent::json(&"no result")).unwrap();
    pushed.wait(TIMEOUT).unwrap();
    producer.abort_transaction(TIMEOUT).unwrap();
    assert_eq!(consumer.position(0).unwrap(), 2);

    let again = read(&consumer, 4);
    assert_eq!(numbers(&again), [2, 3, 4, 5]);
    producer.begin_transaction(&[&consumer]).unwrap();
    push_results(&producer, &again);
    producer.commit_transaction(TIMEOUT).unwrap();
    assert_eq!(forwarding.stored_numbers(6), (0..6).collect::<Vec<_>>());
    assert_eq!(forwarding.committed(), Some(6));
}

/// An event that is acknowledged after its transaction was aborted is read again, so that its
/// result must not be stored now.
#[test]
fn event_of_an_aborted_transaction_makes_the_next_one_fail() {
    let forwarding = Forwarding::with_input(2);
    let (producer, consumer) = (forwarding.producer(), forwarding.consumer());
    let held = read(&consumer, 1);
    producer.begin_transaction(&[&consumer]).unwrap();
    producer.abort_transaction(TIMEOUT).unwrap();
    producer.begin_transaction(&[&consumer]).unwrap();
    producer.push_forget(&NewEvent::text(held[0].metadata().unwrap())).unwrap();
    assert_eq!(status(held[0].acknowledge()), Status::Stale);
    assert_eq!(status(producer.commit_transaction(TIMEOUT)), Status::MustAbort);
    producer.abort_transaction(TIMEOUT).unwrap();
    assert_eq!(numbers(&read(&consumer, 2)), [0, 1]);
    assert_eq!(forwarding.stored(), 0);
}

#[test]
fn older_producer_is_fenced() {
    let forwarding = Forwarding::with_input(2);
    let (older, consumer) = (forwarding.producer(), forwarding.consumer());
    let events = read(&consumer, 2);
    older.begin_transaction(&[&consumer]).unwrap();
    push_results(&older, &events);
    older.flush().unwrap().wait(TIMEOUT).unwrap();

    let newer = forwarding.producer();
    assert_eq!(status(older.commit_transaction(TIMEOUT)), Status::Fenced);
    assert_eq!(status(older.push_forget(&NewEvent::json(&0))), Status::Fenced);
    assert_eq!(status(older.abort_transaction(TIMEOUT)), Status::Fenced);
    assert_eq!(status(older.begin_transaction(&[&consumer])), Status::Fenced);

    let again = read(&consumer, 2);
    newer.begin_transaction(&[&consumer]).unwrap();
    push_results(&newer, &again);
    newer.commit_transaction(TIMEOUT).unwrap();
    assert_eq!(forwarding.stored_numbers(2), [0, 1]);
}

/// A producer that is released with a transaction of unknown outcome takes nothing with it: the
/// next producer commits no position of that transaction.
#[test]
fn events_of_a_fenced_and_released_producer_are_read_again() {
    let forwarding = Forwarding::with_input(4);
    let (older, consumer) = (forwarding.producer(), forwarding.consumer());
    older.begin_transaction(&[&consumer]).unwrap();
    push_results(&older, &read(&consumer, 1));
    older.commit_transaction(TIMEOUT).unwrap();
    older.begin_transaction(&[&consumer]).unwrap();
    push_results(&older, &read(&consumer, 2));
    let newer = forwarding.producer();
    assert_eq!(status(older.commit_transaction(TIMEOUT)), Status::Fenced);
    drop(older);

    newer.begin_transaction(&[&consumer]).unwrap();
    push_results(&newer, &read(&consumer, 1));
    let error = newer.commit_transaction(TIMEOUT).unwrap_err();
    assert_eq!(error.status, Status::MustAbort);
    assert!(error.message.contains("outcome"), "{error}");
    newer.abort_transaction(TIMEOUT).unwrap();
    newer.begin_transaction(&[&consumer]).unwrap();
    push_results(&newer, &read(&consumer, 3));
    newer.commit_transaction(TIMEOUT).unwrap();
    assert_eq!(forwarding.stored_numbers(4), [0, 1, 2, 3]);
    assert_eq!(forwarding.committed(), Some(4));
}

#[test]
fn push_outside_of_a_transaction_is_rejected() {
    let forwarding = Forwarding::new(1);
    let producer = forwarding.producer();
    let event = NewEvent::json(&0);
    let error = producer.push(&event).unwrap_err();
    assert_eq!(error.status, Status::InvalidArgument);
    assert!(error.message.contains("no transaction is open"), "{error}");
    assert_eq!(status(producer.commit_transaction(TIMEOUT)), Status::InvalidArgument);
    assert_eq!(status(producer.abort_transaction(TIMEOUT)), Status::InvalidArgument);
    producer.begin_transaction(&[]).unwrap();
    assert_eq!(status(producer.begin_transaction(&[])), Status::InvalidArgument);
    producer.push_forget(&event).unwrap();
    producer.commit_transaction(TIMEOUT).unwrap();
    assert_eq!(status(producer.push_forget(&event)), Status::InvalidArgument);
    producer.close(TIMEOUT).unwrap();
    assert_eq!(forwarding.stored(), 1);
}

#[test]
fn revoked_partition_makes_the_commit_fail() {
    for strategy in ["range", "cooperative-sticky"] {
        let forwarding = Forwarding::new(2);
        let consumer = || {
            let consumer = forwarding.input.consumer(&forwarding.group).option("commits", "transaction");
            consumer.kafka("partition.assignment.strategy", strategy).make().unwrap()
        };
        let input = forwarding.input.producer("input").make().unwrap();
        let inputs = [0, 1].map(|number| NewEvent::json(&number).partition(number));
        inputs.iter().for_each(|event| input.push_forget(event).unwrap());
        input.close(TIMEOUT).unwrap();

        let (producer, first) = (forwarding.producer(), consumer());
        let events = read(&first, 2);
        producer.begin_transaction(&[&first]).unwrap();
        push_results(&producer, &events);
        let second = consumer();
        eventually("both consumers to have a partition", || {
            let assigned = [&first, &second].map(|consumer| consumer.assignment().unwrap().len());
            assigned == [1, 1]
        });
        let error = producer.commit_transaction(TIMEOUT).unwrap_err();
        assert_eq!(error.status, Status::MustAbort, "{strategy}: {error}");
        assert!(error.message.contains("was revoked"), "{error}");
        assert_eq!(status(producer.push_forget(&inputs[0])), Status::MustAbort);
        producer.abort_transaction(TIMEOUT).unwrap();

        producer.begin_transaction(&[&first, &second]).unwrap();
        push_results(&producer, &read(&first, 1));
        push_results(&producer, &read(&second, 1));
        producer.commit_transaction(TIMEOUT).unwrap();
        let mut stored = forwarding.stored_numbers(2);
        stored.sort_unstable();
        assert_eq!(stored, [0, 1], "{strategy}");
    }
}

#[test]
fn consumer_commits_nothing_by_itself() {
    let forwarding = Forwarding::with_input(1);
    let consumer = forwarding.consumer();
    read(&consumer, 1)[0].acknowledge().unwrap();
    let error = consumer.commit(TIMEOUT).unwrap_err();
    assert_eq!(error.status, Status::InvalidArgument);
    assert!(error.message.contains("transactions commit"), "{error}");
    std::thread::sleep(SEVERAL_COMMITS);
    assert_eq!(forwarding.committed(), None);
    consumer.close(TIMEOUT).unwrap();
    assert_eq!(forwarding.committed(), None);
}

/// Readers wait for the end of an open transaction.
#[test]
fn open_transaction_is_aborted_by_close_and_release() {
    for is_closed in [true, false] {
        let forwarding = Forwarding::with_input(1);
        let (producer, consumer) = (forwarding.producer(), forwarding.consumer());
        let events = read(&consumer, 1);
        producer.begin_transaction(&[&consumer]).unwrap();
        push_results(&producer, &events);
        producer.flush().unwrap().wait(TIMEOUT).unwrap();
        if is_closed {
            let error = producer.close(TIMEOUT).unwrap_err();
            assert_eq!(error.status, Status::MustAbort, "{error}");
        }
        drop(producer);
        // The transaction would be open for a minute.
        let behind = forwarding.output.producer("behind").make().unwrap();
        behind.push_forget(&NewEvent::json(&7)).unwrap();
        behind.close(TIMEOUT).unwrap();
        let reader = forwarding.output.consumer(&unique("reader")).make().unwrap();
        assert_eq!(numbers(&read(&reader, 1)), [7]);
        // Its consumer is free for another transaction, and reads again.
        assert_eq!(numbers(&read(&consumer, 1)), [0]);
        forwarding.producer().begin_transaction(&[&consumer]).unwrap();
    }
}

#[test]
fn failed_event_makes_the_commit_fail() {
    let forwarding = Forwarding::with_input(1);
    let small = unique("small");
    kafka::create_topic(Kafka::shared().bootstrap(), &small, 1, &[("max.message.bytes", "1000")]);
    let output = driver_with(json!({}), &Default::default()).open_topic(&small).unwrap();
    let producer = output.producer("").option("transactional_id", forwarding.id.as_str()).make().unwrap();
    let consumer = forwarding.consumer();
    let events = read(&consumer, 1);
    producer.begin_transaction(&[&consumer]).unwrap();
    push_results(&producer, &events);
    let data: Vec<u8> = (0..4_000_u32).map(|number| (number * number / 7) as u8).collect();
    let too_large = producer.push(&NewEvent::default().data(&data)).unwrap();
    assert_eq!(status(too_large.wait(TIMEOUT)), Status::TooLarge);
    let error = producer.commit_transaction(TIMEOUT).unwrap_err();
    assert_eq!(error.status, Status::MustAbort);
    assert!(error.message.contains("max.message.bytes"), "{error}");
    producer.abort_transaction(TIMEOUT).unwrap();

    producer.begin_transaction(&[&consumer]).unwrap();
    push_results(&producer, &read(&consumer, 1));
    producer.commit_transaction(TIMEOUT).unwrap();
    assert_eq!(forwarding.committed(), Some(1));
    assert_eq!(kafka::kcat_read(Kafka::shared().bootstrap(), &small).len(), 1);
}

/// An event that fails before librdkafka has it: its pool finds that the metadata is not valid.
#[test]
fn event_that_fails_on_the_pool_makes_the_commit_fail() {
    let driver = driver_with(json!({}), &Default::default());
    let options = crate::support::one_replica().validator(json!({"type": "schema", "schema": {"type": "number"}}));
    let name = unique("checked");
    driver.create_topic(&name, &options).unwrap();
    let output = driver.open_topic(&name).unwrap();
    let pool = crate::support::octopus().thread_pool(2).unwrap();
    let producer = output.producer("").option("transactional_id", unique("id")).pool(&pool).make().unwrap();
    producer.begin_transaction(&[]).unwrap();
    producer.push_forget(&NewEvent::json(&1)).unwrap();
    producer.push_forget(&NewEvent::json(&"no number")).unwrap();
    let error = producer.commit_transaction(TIMEOUT).unwrap_err();
    assert_eq!(error.status, Status::MustAbort);
    assert!(error.message.contains("number"), "{error}");
    producer.abort_transaction(TIMEOUT).unwrap();
    producer.begin_transaction(&[]).unwrap();
    producer.push_forget(&NewEvent::json(&2)).unwrap();
    producer.commit_transaction(TIMEOUT).unwrap();
    assert_eq!(kafka::kcat_read(Kafka::shared().bootstrap(), &name).len(), 1);
}

#[test]
fn timed_out_commit_continues() {
    let forwarding = Forwarding::with_input(3);
    let (producer, consumer) = (forwarding.producer(), forwarding.consumer());
    let events = read(&consumer, 3);
    producer.begin_transaction(&[&consumer]).unwrap();
    push_results(&producer, &events[..2]);
    assert_eq!(status(producer.commit_transaction(Duration::ZERO)), Status::TimedOut);
    // It belongs to the next transaction.
    events[2].acknowledge().unwrap();
    assert_eq!(status(producer.push_forget(&NewEvent::json(&9))), Status::InvalidArgument);
    eventually("the commit", || match producer.commit_transaction(Duration::ZERO) {
        Err(error) if error.status == Status::TimedOut => false,
        result => {
            result.unwrap();
            true
        }
    });
    assert_eq!(forwarding.committed(), Some(2));
    producer.begin_transaction(&[&consumer]).unwrap();
    producer.push_forget(&NewEvent::text(events[2].metadata().unwrap())).unwrap();
    eventually("the abort", || status(producer.abort_transaction(Duration::ZERO)) == Status::Ok);
    assert_eq!(numbers(&read(&consumer, 1)), [2], "the acknowledgement belonged to the aborted transaction");
    assert_eq!(forwarding.stored_numbers(2), [0, 1]);
}

#[test]
fn consumer_that_is_released_takes_its_acknowledged_events_with_it() {
    let forwarding = Forwarding::with_input(1);
    let (producer, consumer) = (forwarding.producer(), forwarding.consumer());
    let events = read(&consumer, 1);
    producer.begin_transaction(&[&consumer]).unwrap();
    push_results(&producer, &events);
    drop(consumer);
    let next = forwarding.consumer();
    assert_eq!(numbers(&read(&next, 1)), [0]);
    assert_eq!(status(producer.commit_transaction(TIMEOUT)), Status::MustAbort);
    producer.abort_transaction(TIMEOUT).unwrap();
    assert_eq!(forwarding.stored(), 0);
}

#[test]
fn consumer_of_given_partitions_commits_in_transactions() {
    let forwarding = Forwarding::with_input(2);
    let consumer = || {
        let consumer = forwarding.input.consumer(&forwarding.group).option("commits", "transaction");
        consumer.targets(&[0]).make().unwrap()
    };
    let (producer, first) = (forwarding.producer(), consumer());
    let events = read(&first, 1);
    producer.begin_transaction(&[&first]).unwrap();
    push_results(&producer, &events);
    producer.commit_transaction(TIMEOUT).unwrap();
    first.close(TIMEOUT).unwrap();
    assert_eq!(numbers(&read(&consumer(), 1)), [1]);
}

#[test]
fn consumers_that_do_not_fit_are_rejected() {
    let forwarding = Forwarding::new(1);
    let producer = forwarding.producer();
    let ordinary = forwarding.input.consumer(&unique("ordinary")).make().unwrap();
    let error = producer.begin_transaction(&[&ordinary]).unwrap_err();
    assert_eq!(error.status, Status::InvalidArgument);
    assert!(error.message.contains(r#""commits": "transaction""#), "{error}");
    let consumer = forwarding.consumer();
    let error = producer.begin_transaction(&[&consumer, &consumer]).unwrap_err();
    assert_eq!(error.status, Status::InvalidArgument);
    assert!(error.message.contains("another transaction"), "{error}");
    producer.begin_transaction(&[&consumer]).unwrap();
    producer.commit_transaction(TIMEOUT).unwrap();
    let plain = forwarding.output.producer("plain").make().unwrap();
    let error = plain.begin_transaction(&[]).unwrap_err();
    assert_eq!(error.status, Status::InvalidArgument);
    assert!(error.message.contains("transactional_id"), "{error}");
}
