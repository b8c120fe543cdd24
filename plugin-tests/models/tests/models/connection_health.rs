use std::time::{Duration, Instant};

use loom::sync::Arc;
use loom::thread;
use octopus_models::kafka::client::connection_health::ConnectionHealth;
use octopus_models::kafka::librdkafka::codes::Code;
use octopus_models::sync::locks_taken_by;
use octopus_models::types::RDKafkaErrorCode;

const PERSISTENT: &str = "the password is rejected";

fn record_persistent(health: &ConnectionHealth) {
    health.record_failure(Code(RDKafkaErrorCode::Authentication), PERSISTENT.to_owned(), Duration::ZERO);
}

fn record_transient(health: &ConnectionHealth) {
    let reason = "Connection refused".to_owned();
    health.record_failure(Code(RDKafkaErrorCode::BrokerTransportFailure), reason, Duration::ZERO);
}

/// The flag that each push reads agrees with the failure in each order of failures and successes.
/// Without a persistent failure, a push takes no lock; with one, calls fail.
fn check_flag(health: &ConnectionHealth) {
    let is_persistent = health.reason().as_deref() == Some(PERSISTENT);
    let long_ago = Instant::now().checked_sub(Duration::from_secs(60)).unwrap();
    assert_eq!(health.fail_fast_error(long_ago).is_some(), is_persistent);
    assert_eq!(locks_taken_by(|| health.rejection()), usize::from(is_persistent));
}

#[test]
fn flag_agrees_with_failure_after_repeated_failures() {
    loom::model(|| {
        let health = Arc::new(ConnectionHealth::default());
        let (failing, succeeding) = (health.clone(), health.clone());
        let failer = thread::spawn(move || {
            record_persistent(&failing);
            record_persistent(&failing);
        });
        let succeeder = thread::spawn(move || succeeding.record_success());
        failer.join().unwrap();
        succeeder.join().unwrap();
        check_flag(&health);
    });
}

#[test]
fn flag_agrees_with_failure_after_a_transient_failure() {
    loom::model(|| {
        let health = Arc::new(ConnectionHealth::default());
        let (failing, succeeding) = (health.clone(), health.clone());
        let failer = thread::spawn(move || record_persistent(&failing));
        let succeeder = thread::spawn(move || succeeding.record_success());
        record_transient(&health);
        failer.join().unwrap();
        succeeder.join().unwrap();
        check_flag(&health);
    });
}
