//! What the brokers, or the way to them, last did wrong, and whether waiting can help.

use std::time::{Duration, Instant};

use rdkafka::types::RDKafkaErrorCode;

use super::codes::Code;
use super::{errors, log_messages};
use crate::error::{Error, Kind};
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, Ordering};

/// How long a call goes on waiting behind a trouble that time doesn't heal: one of several brokers may be the only bad
/// one, and a new user or a token may come a little late.
const FAIL_FAST_AFTER: Duration = Duration::from_secs(5);
/// How long a call waits behind one that stood before it: a broker that was mended meanwhile needs a moment to answer.
const FAIL_FAST_AFTER_KNOWN: Duration = Duration::from_secs(1);
/// Between two questions whether a trouble is over.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// The last trouble of one client.
#[derive(Default)]
pub struct ConnectionHealth {
    failure: Mutex<Option<Failure>>,
    /// Whether the trouble failure lasts: what each success and each push looks at. Changed under the lock of `failure` only.
    lasts: AtomicBool,
    /// A broker has done something for this client.
    has_worked: AtomicBool,
}

#[derive(Clone)]
struct Failure {
    code: Code,
    reason: String,
    persistence: Option<Persistence>,
    last_probe: Instant,
}

/// A trouble that time doesn't heal, and since when; librdkafka says the same thing again only after 30 s.
#[derive(Clone, Copy)]
struct Persistence {
    since: Instant,
    certainty: Certainty,
    /// How long it may last before it is an error.
    patience: Duration,
}

impl Persistence {
    fn stands(&self) -> bool {
        self.since.elapsed() >= self.patience
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Certainty {
    /// A broker, or its certificate, said so.
    Said,
    /// Brokers hang up at once, on whoever speaks another protocol presumably.
    Presumed,
}

impl Failure {
    fn stands(&self) -> bool {
        self.persistence.is_some_and(|persistence| persistence.stands())
    }

    fn is_certain(&self) -> bool {
        self.persistence.is_some_and(|persistence| persistence.certainty == Certainty::Said)
    }

    fn error(&self) -> Error {
        if is_limit(self.code, &self.reason) {
            return Error::new(Kind::ResourceLimit, self.reason.clone())
                .with_kafka_code(self.code.number())
                .retriable(true);
        }
        let error = errors::error(self.code, &log_messages::with_advice(&self.reason));
        // A refusal stays one until somebody changes a setting or a file.
        if self.is_certain() { error.retriable(false) } else { error }
    }
}

impl ConnectionHealth {
    /// Keeps what went wrong; if it lasts, until something works. It may heal by itself within `patience`.
    pub fn record_failure(&self, code: Code, reason: String, patience: Duration) {
        let certainty = lasts(code, &reason, self.has_succeeded());
        let mut failure = self.failure.lock();
        let is_less_specific = match &*failure {
            // That all are down says less than what happened to the last of them.
            Some(before) => {
                RDKafkaErrorCode::from(code) == RDKafkaErrorCode::AllBrokersDown
                    || before.persistence.is_some()
                        && (certainty.is_none() || log_messages::is_certificate_verification(&reason))
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
        let persistence = certainty.map(|certainty| Persistence { since, certainty, patience });
        self.lasts.store(persistence.is_some(), Ordering::Release);
        *failure = Some(Failure { code, reason, persistence, last_probe: now });
    }

    /// A broker did what it was asked for. Cheap, since that is the rule.
    pub fn record_success(&self) {
        if !self.has_succeeded() {
            self.has_worked.store(true, Ordering::Relaxed);
        }
        if self.lasts.load(Ordering::Acquire) {
            let mut failure = self.failure.lock();
            *failure = None;
            self.lasts.store(false, Ordering::Release);
        }
    }

    pub fn reason(&self) -> Option<String> {
        self.failure.lock().as_ref().map(|failure| failure.reason.clone())
    }

    /// Whether a broker has ever done what this client asked it for.
    pub fn has_succeeded(&self) -> bool {
        self.has_worked.load(Ordering::Relaxed)
    }

    /// The trouble, if whoever waits since `began` waits in vain.
    pub fn fail_fast_error(&self, began: Instant) -> Option<Error> {
        let failure = self.persistence()?;
        let persistence = failure.persistence?;
        let waited = began.elapsed();
        let stood_before = persistence.since + persistence.patience <= began;
        let fail_fast_error = waited >= persistence.patience
            || waited >= FAIL_FAST_AFTER && persistence.stands()
            || waited >= FAIL_FAST_AFTER_KNOWN && stood_before;
        fail_fast_error.then(|| failure.error())
    }

    /// The trouble, if it has stood for a while.
    pub fn persistent_error(&self) -> Option<Error> {
        self.persistence().filter(Failure::stands).map(|failure| failure.error())
    }

    /// The trouble, if it has stood for a while and is beyond doubt: nothing new should be begun.
    pub fn rejection(&self) -> Option<Error> {
        // What each push comes by, mostly in vain.
        if !self.lasts.load(Ordering::Acquire) {
            return None;
        }
        self.persistence().filter(|failure| failure.stands() && failure.is_certain()).map(|failure| failure.error())
    }

    /// As [`rejection`](Self::rejection), for a client that no broker has done anything for yet: what waits for it to be let
    /// in has never left.
    pub fn never_connected_error(&self) -> Option<Error> {
        if self.has_succeeded() { None } else { self.rejection() }
    }

    /// Whether to ask a broker if the trouble is over, which somebody may have mended while nothing is done.
    pub fn needs_probe(&self) -> bool {
        if !self.lasts.load(Ordering::Acquire) {
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

    fn persistence(&self) -> Option<Failure> {
        if self.lasts.load(Ordering::Acquire) { self.failure.lock().clone() } else { None }
    }
}

/// Whether it goes on until somebody changes a setting, on this side or on the other. Where brokers did let this client
/// in, one that hangs up is being restarted rather than set up wrongly.
fn lasts(code: Code, reason: &str, has_worked: bool) -> Option<Certainty> {
    match RDKafkaErrorCode::from(code) {
        _ if is_limit(code, reason) => Some(Certainty::Presumed),
        RDKafkaErrorCode::SSL | RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed => {
            match (log_messages::is_connection_lost(reason), has_worked) {
                (false, _) => Some(Certainty::Said),
                (true, false) => Some(Certainty::Presumed),
                (true, true) => None,
            }
        }
        // One that wants another certificate of the client's says so in this way.
        RDKafkaErrorCode::BrokerTransportFailure if log_messages::is_tls_alert(reason) => Some(Certainty::Said),
        RDKafkaErrorCode::BrokerTransportFailure if !has_worked && log_messages::is_hang_up(reason) => {
            Some(Certainty::Presumed)
        }
        _ => None,
    }
}

/// Whether a limit of the process keeps a token from being had. librdkafka asks for one again after 10 s.
fn is_limit(code: Code, reason: &str) -> bool {
    RDKafkaErrorCode::from(code) == RDKafkaErrorCode::Authentication && log_messages::errno_of_limit(reason).is_some()
}

#[cfg(test)]
mod tests;

#[cfg(all(test, feature = "loom"))]
mod models {
    use loom::sync::Arc;
    use loom::thread;
    use rdkafka::bindings::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__AUTHENTICATION;

    use super::*;

    /// The flag that pushes look at agrees with what is failure, whatever else happens at the same time.
    #[test]
    fn flag_agrees_with_what_is_noted() {
        loom::model(|| {
            let health = Arc::new(ConnectionHealth::default());
            let (noting, ending) = (health.clone(), health.clone());
            let note = |health: &ConnectionHealth| {
                health.record_failure(RD_KAFKA_RESP_ERR__AUTHENTICATION.into(), "refused".to_owned(), Duration::ZERO)
            };
            let noter = thread::spawn(move || note(&noting));
            let ender = thread::spawn(move || ending.record_success());
            let agree = |health: &ConnectionHealth| {
                let failure = health.failure.lock();
                let lasts = failure.as_ref().is_some_and(|failure| failure.persistence.is_some());
                assert_eq!(lasts, health.lasts.load(Ordering::Acquire));
            };
            agree(&health);
            noter.join().unwrap();
            ender.join().unwrap();
            agree(&health);
        });
    }
}
