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
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a call waits behind one that stood before it: a broker that was mended meanwhile needs a moment to answer.
const SHORT_PATIENCE: Duration = Duration::from_secs(1);
/// Between two questions whether a trouble is over.
const LOOKING_AGAIN: Duration = Duration::from_secs(1);

/// The last trouble of one client.
#[derive(Default)]
pub struct Trouble {
    noted: Mutex<Option<Noted>>,
    /// Whether the trouble noted lasts: what each success and each push looks at. Changed under the lock of `noted` only.
    lasts: AtomicBool,
    /// A broker has done something for this client.
    has_worked: AtomicBool,
}

#[derive(Clone)]
struct Noted {
    code: Code,
    reason: String,
    lasting: Option<Lasting>,
    looked_again: Instant,
}

/// A trouble that time doesn't heal, and since when; librdkafka says the same thing again only after 30 s.
#[derive(Clone, Copy)]
struct Lasting {
    since: Instant,
    certainty: Certainty,
    /// How long it may last before it is an error.
    patience: Duration,
}

impl Lasting {
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

impl Noted {
    fn stands(&self) -> bool {
        self.lasting.is_some_and(|lasting| lasting.stands())
    }

    fn is_certain(&self) -> bool {
        self.lasting.is_some_and(|lasting| lasting.certainty == Certainty::Said)
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

impl Trouble {
    /// Keeps what went wrong; if it lasts, until something works. It may heal by itself within `patience`.
    pub fn note(&self, code: Code, reason: String, patience: Duration) {
        let certainty = lasts(code, &reason, self.has_worked());
        let mut noted = self.noted.lock();
        let tells_less = match &*noted {
            // That all are down says less than what happened to the last of them.
            Some(before) => {
                RDKafkaErrorCode::from(code) == RDKafkaErrorCode::AllBrokersDown
                    || before.lasting.is_some()
                        && (certainty.is_none() || log_messages::is_certificate_verification(&reason))
            }
            None => false,
        };
        if tells_less {
            return;
        }
        let now = Instant::now();
        let before = noted.as_ref().and_then(|before| before.lasting);
        let since = before.map_or(now, |before| before.since);
        let patience = patience.max(PATIENCE);
        let lasting = certainty.map(|certainty| Lasting { since, certainty, patience });
        self.lasts.store(lasting.is_some(), Ordering::Release);
        *noted = Some(Noted { code, reason, lasting, looked_again: now });
    }

    /// A broker did what it was asked for. Cheap, since that is the rule.
    pub fn end(&self) {
        if !self.has_worked() {
            self.has_worked.store(true, Ordering::Relaxed);
        }
        if self.lasts.load(Ordering::Acquire) {
            let mut noted = self.noted.lock();
            *noted = None;
            self.lasts.store(false, Ordering::Release);
        }
    }

    pub fn reason(&self) -> Option<String> {
        self.noted.lock().as_ref().map(|noted| noted.reason.clone())
    }

    /// Whether a broker has ever done what this client asked it for.
    pub fn has_worked(&self) -> bool {
        self.has_worked.load(Ordering::Relaxed)
    }

    /// The trouble, if whoever waits since `began` waits in vain.
    pub fn is_in_vain(&self, began: Instant) -> Option<Error> {
        let noted = self.lasting()?;
        let lasting = noted.lasting?;
        let waited = began.elapsed();
        let stood_before = lasting.since + lasting.patience <= began;
        let is_in_vain = waited >= lasting.patience
            || waited >= PATIENCE && lasting.stands()
            || waited >= SHORT_PATIENCE && stood_before;
        is_in_vain.then(|| noted.error())
    }

    /// The trouble, if it has stood for a while.
    pub fn stands(&self) -> Option<Error> {
        self.lasting().filter(Noted::stands).map(|noted| noted.error())
    }

    /// The trouble, if it has stood for a while and is beyond doubt: nothing new should be begun.
    pub fn forbids(&self) -> Option<Error> {
        // What each push comes by, mostly in vain.
        if !self.lasts.load(Ordering::Acquire) {
            return None;
        }
        self.lasting().filter(|noted| noted.stands() && noted.is_certain()).map(|noted| noted.error())
    }

    /// As [`forbids`](Self::forbids), for a client that no broker has done anything for yet: what waits for it to be let
    /// in has never left.
    pub fn keeps_out(&self) -> Option<Error> {
        if self.has_worked() { None } else { self.forbids() }
    }

    /// Whether to ask a broker if the trouble is over, which somebody may have mended while nothing is done.
    pub fn is_to_be_looked_at(&self) -> bool {
        if !self.lasts.load(Ordering::Acquire) {
            return false;
        }
        match &mut *self.noted.lock() {
            Some(noted) if noted.looked_again.elapsed() >= LOOKING_AGAIN => {
                noted.looked_again = Instant::now();
                true
            }
            _ => false,
        }
    }

    fn lasting(&self) -> Option<Noted> {
        if self.lasts.load(Ordering::Acquire) { self.noted.lock().clone() } else { None }
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

    /// The flag that pushes look at agrees with what is noted, whatever else happens at the same time.
    #[test]
    fn flag_agrees_with_what_is_noted() {
        loom::model(|| {
            let trouble = Arc::new(Trouble::default());
            let (noting, ending) = (trouble.clone(), trouble.clone());
            let note = |trouble: &Trouble| {
                trouble.note(RD_KAFKA_RESP_ERR__AUTHENTICATION.into(), "refused".to_owned(), Duration::ZERO)
            };
            let noter = thread::spawn(move || note(&noting));
            let ender = thread::spawn(move || ending.end());
            let agree = |trouble: &Trouble| {
                let noted = trouble.noted.lock();
                let lasts = noted.as_ref().is_some_and(|noted| noted.lasting.is_some());
                assert_eq!(lasts, trouble.lasts.load(Ordering::Acquire));
            };
            agree(&trouble);
            noter.join().unwrap();
            ender.join().unwrap();
            agree(&trouble);
        });
    }
}
