//! The producers of a client that fails.

use std::sync::Arc;
use std::time::Duration;

use octopus_testkit::poll;
use parking_lot::Mutex;
use rdkafka::bindings as rd;

use super::*;
use crate::config::DriverSettings;
use crate::delivery::in_flight::PermitRequest;
use crate::support::services::Services;

type FatalNames = Arc<Mutex<Vec<String>>>;

fn connection(names: &FatalNames) -> Connection {
    let names = names.clone();
    let services = Services {
        fatal: Some(Arc::new(move |name: &str, _: i32, _: &str| names.lock().push(name.to_owned()))),
        ..Services::default()
    };
    Connection::new(&DriverSettings::parse(r#"{"embedded": {}}"#).unwrap(), services).unwrap()
}

fn producer(connection: &Connection, name: &str, options: &str) -> KafkaProducer {
    let settings = ClientSettings::of_producer(name, 0, 0, Some(options)).unwrap();
    let clients = connection.clients_of_producers();
    KafkaProducer::new(connection, "topic", &settings, WhenOverdue::Keep, clients).unwrap()
}

fn wait_until(condition: &str, is_met: impl Fn() -> bool) {
    let met = poll(Duration::from_secs(20), || is_met().then_some(()));
    assert!(met.is_some(), "timeout while waiting for {condition}");
}

/// A producer that is created later gets a new client, and a client with other properties is
/// unaffected.
#[test]
fn fatal_error_is_reported_once_per_producer() {
    let names = FatalNames::default();
    let connection = connection(&names);
    let producers = ["a", "b"].map(|name| producer(&connection, name, "{}"));
    let other = producer(&connection, "other", r#"{"kafka": {"linger.ms": 7}}"#);
    assert_eq!(connection.clients.resources().clients, 2);

    let code = rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
    // SAFETY: `producers` keep the client alive; the text is copied.
    unsafe {
        rd::rd_kafka_test_fatal_error(producers[0].member.client().handle.as_ptr(), code, c"planted".as_ptr());
    }
    wait_until("the fatal error to be reported", || names.lock().len() == 2);
    let next = producer(&connection, "next", "{}");
    assert!(next.member.client().fatal().is_none());
    assert!(other.member.client().fatal().is_none());
    for failed in &producers {
        let refused = failed.member.in_flight.try_acquire(PermitRequest { bytes: 1, partition: None, future: None });
        assert_eq!(refused.unwrap_err().message().matches("planted").count(), 1);
    }
    assert_eq!(*names.lock(), ["producer \"a\"", "producer \"b\""]);
}

/// With `enable.gapless.guarantee` one failed event is a fatal error of the client.
#[test]
fn producer_with_gapless_guarantee_has_its_own_client() {
    let connection = connection(&FatalNames::default());
    let gapless = r#"{"kafka": {"enable.gapless.guarantee": true}}"#;
    let producers = ["a", "b"].map(|name| producer(&connection, name, gapless));
    assert_eq!(connection.clients.resources().clients, producers.len());
}
