//! Transactions whose commit is interrupted, so that the producer does not know whether they are
//! committed.

use std::time::Duration;

use octopus_loader::{NewEvent, Status};
use serde_json::json;

use crate::exactly_once::{numbers, push_results, status};
use crate::kafka::unique;
use crate::proxy::{ApiKey, HeldMessage, ProxiedKafka};
use crate::support::{Log, TIMEOUT, driver_with, has_no_event, push_numbers, read, topic_of};

/// The group knows the outcome: the consumer continues after a commit of which no response has
/// arrived, and before one that has not arrived.
#[test]
fn released_producer_leaves_its_consumer_where_the_group_is() {
    for (held, next) in [(HeldMessage::Response, 2), (HeldMessage::Request, 0)] {
        let kafka = ProxiedKafka::start();
        let config =
            json!({"kafka": {"bootstrap.servers": kafka.bootstrap(), "client.id": "held"}, "timeout_ms": 20_000});
        let driver = driver_with(config, &Log::default());
        let [input, output] = ["input", "output"].map(|name| topic_of(&driver, name, 1));
        push_numbers(&input, 4);
        let producer = || output.producer("").option("transactional_id", "forwarding").make().unwrap();
        let consumer = input.consumer(&unique("group")).option("commits", "transaction").make().unwrap();

        let older = producer();
        older.begin_transaction(&[&consumer]).unwrap();
        push_results(&older, &read(&consumer, 2));
        let fault = kafka.inject_fault("held", ApiKey::EndTxn, 1, held);
        assert_eq!(status(older.commit_transaction(Duration::from_secs(2))), Status::TimedOut);
        assert!(fault.wait(Duration::ZERO), "the commit was not interrupted");
        let error = older.abort_transaction(TIMEOUT).unwrap_err();
        assert_eq!(error.status, Status::InvalidArgument);
        assert!(error.message.contains("may be committed already"), "{error}");
        drop(older);

        let newer = producer();
        newer.begin_transaction(&[&consumer]).unwrap();
        newer.push_forget(&NewEvent::json(&"a result of an event whose position is not known")).unwrap();
        let error = newer.commit_transaction(TIMEOUT).unwrap_err();
        assert_eq!(error.status, Status::MustAbort);
        assert!(error.message.contains("outcome"), "{error}");
        newer.abort_transaction(TIMEOUT).unwrap();
        assert_eq!(consumer.position(0).unwrap(), next, "{held:?}");

        newer.begin_transaction(&[&consumer]).unwrap();
        push_results(&newer, &read(&consumer, 4 - next as usize));
        newer.commit_transaction(TIMEOUT).unwrap();
        let results = output.consumer(&unique("results")).make().unwrap();
        assert_eq!(numbers(&read(&results, 4)), [0, 1, 2, 3], "{held:?}");
        assert!(has_no_event(&results));
    }
}
