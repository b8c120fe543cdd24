//! What the brokers, or the way to them, last did wrong, and whether waiting can help.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::types::RDKafkaErrorCode;

use super::errors::{self, Code};
use crate::error::Error;

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
    /// Whether the trouble noted lasts: what each success and each push looks at.
    lasts: AtomicBool,
    /// A broker has done something for this client.
    has_worked: AtomicBool,
}

#[derive(Clone)]
struct Noted {
    code: Code,
    reason: String,
    /// If it lasts, since when; librdkafka says the same thing again only after 30 s.
    lasting_since: Option<Instant>,
    looked_again: Instant,
}

impl Noted {
    fn error(&self) -> Error {
        errors::error(self.code, &with_advice(&self.reason))
    }
}

impl Trouble {
    /// Keeps what went wrong; if it lasts, until something works.
    pub fn note(&self, code: Code, reason: String) {
        let lasts = lasts(code, &reason, self.has_worked.load(Ordering::Relaxed));
        let mut noted = self.noted.lock();
        let tells_less = match &*noted {
            // That all are down says less than what happened to the last of them.
            Some(before) => {
                RDKafkaErrorCode::from(code) == RDKafkaErrorCode::AllBrokersDown
                    || before.lasting_since.is_some() && !lasts
            }
            None => false,
        };
        if tells_less {
            return;
        }
        let now = Instant::now();
        let before = noted.as_ref().and_then(|before| before.lasting_since);
        let lasting_since = lasts.then(|| before.unwrap_or(now));
        *noted = Some(Noted { code, reason, lasting_since, looked_again: now });
        self.lasts.store(lasts, Ordering::Release);
    }

    /// A broker did what it was asked for. Cheap, since that is the rule.
    pub fn end(&self) {
        if !self.has_worked.load(Ordering::Relaxed) {
            self.has_worked.store(true, Ordering::Relaxed);
        }
        if self.lasts.load(Ordering::Acquire) {
            *self.noted.lock() = None;
            self.lasts.store(false, Ordering::Release);
        }
    }

    pub fn reason(&self) -> Option<String> {
        self.noted.lock().as_ref().map(|noted| noted.reason.clone())
    }

    /// The trouble, if whoever waits since `began` waits in vain.
    pub fn is_in_vain(&self, began: Instant) -> Option<Error> {
        let noted = self.lasting()?;
        let since = noted.lasting_since?;
        let waited = began.elapsed();
        let stood_before = since + PATIENCE <= began;
        (waited >= PATIENCE || stood_before && waited >= SHORT_PATIENCE).then(|| noted.error())
    }

    /// The trouble, if it has stood for so long that nothing new should be begun.
    pub fn stands(&self) -> Option<Error> {
        let noted = self.lasting()?;
        (noted.lasting_since?.elapsed() >= PATIENCE).then(|| noted.error())
    }

    /// As [`stands`](Self::stands), for a client that no broker has done anything for yet: what waits for it to be let in
    /// has never left.
    pub fn keeps_out(&self) -> Option<Error> {
        if self.has_worked.load(Ordering::Relaxed) { None } else { self.stands() }
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
fn lasts(code: Code, reason: &str, has_worked: bool) -> bool {
    let hung_up = ["isconnected", "ransport failure", "onnection reset", "imed out", "security.protocol"]
        .iter()
        .any(|part| reason.contains(part));
    match RDKafkaErrorCode::from(code) {
        RDKafkaErrorCode::SSL | RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed => {
            !(has_worked && hung_up)
        }
        // A broker that speaks another protocol hangs up; librdkafka guesses why.
        RDKafkaErrorCode::BrokerTransportFailure => !has_worked && reason.contains("security.protocol"),
        _ => false,
    }
}

/// librdkafka's reason, with the settings to look at where it names none.
fn with_advice(reason: &str) -> String {
    let lower = reason.to_lowercase();
    let says = |part: &str| lower.contains(part);
    let advice = if says("oauthbearer token") {
        return reason.to_owned();
    } else if says("hostname mismatch") || says("ip address mismatch") {
        "the broker's certificate is for another host name than the one in kafka.bootstrap.servers, or than the broker \
         advertises"
    } else if says("certificate has expired") || says("certificate expired") {
        "the broker's certificate has expired, or this machine's clock is wrong"
    } else if says("certificate verify failed") || says("unable to get local issuer") {
        "set kafka.ssl.ca.location to the CA that signed the broker's certificate"
    } else if says("alert") && (says("certificate") || says("unknown ca")) {
        "the broker wants another certificate of this client: kafka.ssl.certificate.location, kafka.ssl.key.location"
    } else if says("unsupported sasl mechanism") {
        "set kafka.sasl.mechanism to one that the broker offers"
    } else if says("plaintext broker listener") || says("wrong version number") || says("packet length too long") {
        "the broker doesn't speak TLS at this port: see kafka.security.protocol and the port"
    } else if says("security.protocol") {
        "the broker wants TLS or SASL at this port: see kafka.security.protocol"
    } else if says("authentication fail") {
        "see kafka.sasl.username, kafka.sasl.password, or the token that was shown"
    } else {
        return reason.to_owned();
    };
    format!("{reason} - {advice}")
}
