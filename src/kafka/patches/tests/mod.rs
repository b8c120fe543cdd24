//! Tests of patches whose faults are races inside librdkafka. They use librdkafka itself, with its
//! mock cluster as the broker. The faults that a broker's responses provoke have their tests in
//! plugin-tests, `corrupted_responses`.

#![allow(clippy::multiple_unsafe_ops_per_block, reason = "a test is a sequence of calls of librdkafka")]

mod addresses;
mod cjson;
mod groups;
mod metadata;
mod producing;
mod raw_client;

use std::time::Duration;

use octopus_testkit::poll;
use rdkafka::ClientConfig;

use raw_client::RawClient;

/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(30);

/// Produces one record.
fn produce(bootstrap: &str, topic: &str) {
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
    let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", bootstrap).create().unwrap();
    producer.send(BaseRecord::<(), str>::to(topic).payload("record")).unwrap();
    producer.flush(PATIENCE).unwrap();
}

/// Waits until `is_met` returns true.
fn wait_until(condition: &str, mut is_met: impl FnMut() -> bool) {
    let met = poll(PATIENCE, || is_met().then_some(()));
    assert!(met.is_some(), "{condition}: not within {PATIENCE:?}");
}
