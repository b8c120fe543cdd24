//! The last failure of the brokers or of the connections to them, and whether it ends without
//! intervention.
//!
//! librdkafka retries every connection. A failure is persistent if somebody has to change a setting
//! or a file first: a rejected password, an untrusted certificate, TLS at a port without TLS. Calls
//! then fail instead of waiting for their timeout.

use std::time::{Duration, Instant};

use rdkafka::types::RDKafkaErrorCode;

use crate::kafka::librdkafka::codes::Code;
use crate::kafka::librdkafka::{errors, log_messages};
use crate::support::error::{Error, Kind};
use crate::support::sync::Mutex;
use crate::support::sync::atomic::{AtomicBool, Ordering};

/// How long a call waits while there is a persistent failure: only one of several brokers may be
/// affected, and a new user or a token may become known to the brokers a little later.
const FAIL_FAST_AFTER: Duration = Duration::from_secs(5);
/// How long a call waits if the failure has persisted since before the call: a broker that was
/// repaired meanwhile needs a moment to respond.
const FAIL_FAST_AFTER_KNOWN: Duration = Duration::from_secs(1);
/// The time between two probes during a persistent failure.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// The last failure of one client.
#[derive(Default)]
pub struct ConnectionHealth {
    failure: Mutex<Option<ConnectionFailure>>,
    /// Whether `failure` is persistent. Each success and each push reads it. Changed only under the
    /// lock of `failure`.
    is_persistent: AtomicBool,
    /// Whether a broker has ever processed a request of this client.
    has_succeeded: AtomicBool,
}

#[derive(Clone)]
struct ConnectionFailure {
    code: Code,
    reason: String,
    persistence: Option<PersistentState>,
    last_probe: Instant,
}

/// When a persistent failure began, and how certain it is. librdkafka repeats the same error only
/// after 30 s.
#[derive(Clone, Copy)]
struct PersistentState {
    since: Instant,
    evidence: Evidence,
    /// How long it may persist before calls fail with it.
    patience: Duration,
}

impl PersistentState {
    fn exceeds_patience(&self) -> bool {
        self.since.elapsed() >= self.patience
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Evidence {
    /// A broker reported it, or the verification of its certificate failed.
    Reported,
    /// Brokers close the connection at once, presumably because the client uses another protocol.
    Presumed,
}

impl ConnectionFailure {
    fn exceeds_patience(&self) -> bool {
        self.persistence.is_some_and(|persistence| persistence.exceeds_patience())
    }

    fn is_certain(&self) -> bool {
        self.persistence.is_some_and(|persistence| persistence.evidence == Evidence::Reported)
    }

    fn error(&self) -> Error {
        if is_limit(self.code, &self.reason) {
            let reason = match RDKafkaErrorCode::from(self.code) {
                RDKafkaErrorCode::Resolve => format!("{} - {}", self.reason, log_messages::RAISE_LIMIT),
                _ => self.reason.clone(),
            };
            return Error::new(Kind::ResourceLimit, reason).with_kafka_code(self.code.number()).retriable(true);
        }
        let error = errors::error(self.code, &log_messages::with_advice(&self.reason));
        // A rejection is repeated until somebody changes a setting or a file.
        if self.is_certain() { error.retriable(false) } else { error }
    }
}

impl ConnectionHealth {
    /// Records a failure. A persistent one is kept until a request succeeds. It may end by itself
    /// within `patience`.
    pub fn record_failure(&self, code: Code, reason: String, patience: Duration) {
        let evidence = persistence_evidence(code, &reason, self.has_succeeded());
        let mut failure = self.failure.lock();
        let is_less_specific = match &*failure {
            // "All brokers are down" is less specific than the failure of the last broker.
            Some(before) => {
                RDKafkaErrorCode::from(code) == RDKafkaErrorCode::AllBrokersDown
                    || before.persistence.is_some()
                        && (evidence.is_none() || log_messages::is_certificate_verification(&reason))
            }
            None => false,
        };
        if is_less_specific {
            return;
        }
        let now = Instant::now();
        let before = failure.as_ref().and_then(|before| before.persistence);
        let since = before.map_or(now, |before| before.since);
        let patience = patience.max(FAIL_FAST_AFTER);
        let persistence = evidence.map(|evidence| PersistentState { since, evidence, patience });
        self.is_persistent.store(persistence.is_some(), Ordering::Release);
        *failure = Some(ConnectionFailure { code, reason, persistence, last_probe: now });
    }

    /// Records that a broker has processed a request. Cheap, as it is called for each.
    pub fn record_success(&self) {
        if !self.has_succeeded() {
            self.has_succeeded.store(true, Ordering::Relaxed);
        }
        if self.is_persistent.load(Ordering::Acquire) {
            let mut failure = self.failure.lock();
            *failure = None;
            self.is_persistent.store(false, Ordering::Release);
        }
    }

    /// Records that a broker has processed a request at some time before.
    pub fn record_earlier_success(&self) {
        self.has_succeeded.store(true, Ordering::Relaxed);
    }

    /// The reason of the last failure.
    pub fn reason(&self) -> Option<String> {
        self.failure.lock().as_ref().map(|failure| failure.reason.clone())
    }

    /// Whether a broker has ever processed a request of this client.
    pub fn has_succeeded(&self) -> bool {
        self.has_succeeded.load(Ordering::Relaxed)
    }

    /// The persistent failure, if a call that began at `began` should fail with it now.
    pub fn fail_fast_error(&self, began: Instant) -> Option<Error> {
        let failure = self.persistent_failure()?;
        let persistence = failure.persistence?;
        let waited = began.elapsed();
        let is_known_before = persistence.since + persistence.patience <= began;
        let fails_fast = waited >= persistence.patience
            || waited >= FAIL_FAST_AFTER && persistence.exceeds_patience()
            || waited >= FAIL_FAST_AFTER_KNOWN && is_known_before;
        fails_fast.then(|| failure.error())
    }

    /// The persistent failure, if it has persisted for longer than its patience.
    pub fn persistent_error(&self) -> Option<Error> {
        self.persistent_failure().filter(ConnectionFailure::exceeds_patience).map(|failure| failure.error())
    }

    /// As [`persistent_error`](Self::persistent_error), if the failure is certain. New pushes fail
    /// with it.
    pub fn rejection(&self) -> Option<Error> {
        // Each push calls this; there is rarely a failure.
        if !self.is_persistent.load(Ordering::Acquire) {
            return None;
        }
        self.persistent_failure()
            .filter(|failure| failure.exceeds_patience() && failure.is_certain())
            .map(|failure| failure.error())
    }

    /// As [`rejection`](Self::rejection), for a client whose requests no broker has ever processed:
    /// its records were never sent.
    pub fn never_connected_error(&self) -> Option<Error> {
        if self.has_succeeded() { None } else { self.rejection() }
    }

    /// Whether a probe is due. Without probes an idle client would not notice that the cause is
    /// gone.
    pub fn needs_probe(&self) -> bool {
        if !self.is_persistent.load(Ordering::Acquire) {
            return false;
        }
        match &mut *self.failure.lock() {
            Some(failure) if failure.last_probe.elapsed() >= PROBE_INTERVAL => {
                failure.last_probe = Instant::now();
                true
            }
            _ => false,
        }
    }

    fn persistent_failure(&self) -> Option<ConnectionFailure> {
        if self.is_persistent.load(Ordering::Acquire) { self.failure.lock().clone() } else { None }
    }
}

/// The evidence that a failure persists until somebody changes a setting of the client or of the
/// brokers. A broker that has accepted this client before and closes a connection is being
/// restarted rather than misconfigured.
fn persistence_evidence(code: Code, reason: &str, has_succeeded: bool) -> Option<Evidence> {
    match RDKafkaErrorCode::from(code) {
        _ if is_limit(code, reason) => Some(Evidence::Presumed),
        RDKafkaErrorCode::SSL | RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed => {
            match (log_messages::is_connection_lost(reason), has_succeeded) {
                (false, _) => Some(Evidence::Reported),
                (true, false) => Some(Evidence::Presumed),
                (true, true) => None,
            }
        }
        // A broker rejects the client's certificate by a TLS alert.
        RDKafkaErrorCode::BrokerTransportFailure if log_messages::is_tls_alert(reason) => Some(Evidence::Reported),
        RDKafkaErrorCode::BrokerTransportFailure if !has_succeeded && log_messages::is_hang_up(reason) => {
            Some(Evidence::Presumed)
        }
        RDKafkaErrorCode::BadMessage if !has_succeeded && log_messages::is_foreign_protocol(reason) => {
            Some(Evidence::Presumed)
        }
        _ => None,
    }
}

/// Whether a resource limit of the process prevented a token, which librdkafka requests again after
/// 10 s, or the look-up of a broker's name.
fn is_limit(code: Code, reason: &str) -> bool {
    let is_affected =
        matches!(RDKafkaErrorCode::from(code), RDKafkaErrorCode::Authentication | RDKafkaErrorCode::Resolve);
    is_affected && log_messages::errno_of_limit(reason).is_some()
}

#[cfg(test)]
mod tests;
