//! The options of transactions that are rejected by name.

use serde_json::{Value, json};

use crate::kafka::unique;
use crate::support::{driver, octopus, topic, topic_of};
use octopus_loader::Status;

/// A transaction has all events of a client, so that no producers share one.
#[test]
fn producer_with_transactions_has_a_client_of_its_own() {
    let driver = driver();
    let topic = topic_of(&driver, "clients", 1);
    let make = |id: Option<&str>| {
        let producer = topic.producer("p").option("client", "shared");
        id.into_iter().fold(producer, |producer, id| producer.option("transactional_id", id)).make().unwrap()
    };
    let plain = [make(None), make(None)];
    let before = driver.stats().unwrap().clients;
    let transactional = [unique("id"), unique("id")].map(|id| make(Some(&id)));
    assert_eq!(driver.stats().unwrap().clients, before + 2);
    drop((plain, transactional));
}

#[test]
fn options_that_do_not_fit_are_rejected() {
    let topic = topic("options", 1);
    let rejected = |key: &str, value: Value, kafka: &[(&str, u64)]| {
        let mut producer = topic.producer("").option(key, value);
        for (name, value) in kafka {
            producer = producer.kafka(name, *value);
        }
        let error = producer.make().unwrap_err();
        assert_eq!(error.status, Status::InvalidConfiguration, "{error}");
        error.message
    };
    assert!(rejected("transactional_id", json!(""), &[]).contains("transactional_id: is empty"));
    assert!(rejected("transactional_id", json!(7), &[]).contains("expected a string"));
    assert!(rejected("kafka", json!({"transactional.id": "x"}), &[]).contains("option \"transactional_id\""));
    for timeout in [0, 60_000] {
        let message = rejected("transactional_id", json!("x"), &[("delivery.timeout.ms", timeout)]);
        assert!(message.contains("kafka.transaction.timeout.ms, which is 60000"), "{message}");
    }
    let error = topic.consumer("c").option("commits", "never").make().unwrap_err();
    assert!(error.message.contains(r#"commits: expected "acknowledged" or "transaction""#), "{error}");
    let uncommitted = topic.consumer("c").option("commits", "transaction").kafka("isolation.level", "read_uncommitted");
    let error = uncommitted.make().unwrap_err();
    assert!(error.message.contains("kafka.isolation.level: read_uncommitted"), "{error}");

    let embedded = octopus().driver(json!({"embedded": {}})).unwrap();
    embedded.create_topic("t", &Default::default()).unwrap();
    let topic = embedded.open_topic("t").unwrap();
    let error = topic.producer("").option("transactional_id", "x").make().unwrap_err();
    assert_eq!(error.status, Status::Unsupported, "{error}");
    let error = topic.consumer("c").option("commits", "transaction").make().unwrap_err();
    assert_eq!(error.status, Status::Unsupported, "{error}");
}
