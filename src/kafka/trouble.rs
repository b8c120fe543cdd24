//! What the brokers, or the way to them, last did wrong, and whether waiting can help.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::types::RDKafkaErrorCode;

use super::certificate;
use super::codes::Code;
use super::errors;
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
    lasting: Option<Lasting>,
    looked_again: Instant,
}

/// A trouble that time doesn't heal, and since when; librdkafka says the same thing again only after 30 s.
#[derive(Clone, Copy)]
struct Lasting {
    since: Instant,
    certainty: Certainty,
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
        self.lasting.is_some_and(|lasting| lasting.since.elapsed() >= PATIENCE)
    }

    fn is_certain(&self) -> bool {
        self.lasting.is_some_and(|lasting| lasting.certainty == Certainty::Said)
    }

    fn error(&self) -> Error {
        errors::error(self.code, &with_advice(&self.reason))
    }
}

impl Trouble {
    /// Keeps what went wrong; if it lasts, until something works.
    pub fn note(&self, code: Code, reason: String) {
        let certainty = lasts(code, &reason, self.has_worked());
        let mut noted = self.noted.lock();
        let tells_less = match &*noted {
            // That all are down says less than what happened to the last of them.
            Some(before) => {
                RDKafkaErrorCode::from(code) == RDKafkaErrorCode::AllBrokersDown
                    || before.lasting.is_some() && (certainty.is_none() || certificate::is_explained(&reason))
            }
            None => false,
        };
        if tells_less {
            return;
        }
        let now = Instant::now();
        let before = noted.as_ref().and_then(|before| before.lasting);
        let since = before.map_or(now, |before| before.since);
        let lasting = certainty.map(|certainty| Lasting { since, certainty });
        self.lasts.store(lasting.is_some(), Ordering::Release);
        *noted = Some(Noted { code, reason, lasting, looked_again: now });
    }

    /// A broker did what it was asked for. Cheap, since that is the rule.
    pub fn end(&self) {
        if !self.has_worked() {
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

    /// Whether a broker has ever done what this client asked it for.
    pub fn has_worked(&self) -> bool {
        self.has_worked.load(Ordering::Relaxed)
    }

    /// The trouble, if whoever waits since `began` waits in vain.
    pub fn is_in_vain(&self, began: Instant) -> Option<Error> {
        let noted = self.lasting()?;
        let waited = began.elapsed();
        let stood_before = noted.lasting?.since + PATIENCE <= began;
        (waited >= PATIENCE || stood_before && waited >= SHORT_PATIENCE).then(|| noted.error())
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
    let says = |parts: &[&str]| parts.iter().any(|part| reason.contains(part));
    let hung_up = says(&["isconnected", "ransport failure", "onnection reset", "imed out"]);
    match RDKafkaErrorCode::from(code) {
        RDKafkaErrorCode::SSL | RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed => {
            match (hung_up, has_worked) {
                (false, _) => Some(Certainty::Said),
                (true, false) => Some(Certainty::Presumed),
                (true, true) => None,
            }
        }
        // One that wants another certificate of the client's says so in this way.
        RDKafkaErrorCode::BrokerTransportFailure if says(&["SSL alert"]) => Some(Certainty::Said),
        RDKafkaErrorCode::BrokerTransportFailure if !has_worked && is_hang_up(reason) => Some(Certainty::Presumed),
        _ => None,
    }
}

/// Whether a broker ended a connection as soon as it was spoken to. librdkafka's states in between are its own.
pub fn is_hang_up(reason: &str) -> bool {
    let states = ["in state SSL_HANDSHAKE", "in state APIVERSION_QUERY", "in state UP"];
    reason.contains("isconnected") && states.iter().any(|state| reason.contains(state))
}

/// What a broker said to a producer instead of taking its records or giving it an id, out of librdkafka's message. That
/// the way to a broker broke off is told elsewhere, and better.
pub fn refusal(message: &str) -> Option<&str> {
    // In front are the names of librdkafka's thread and of the broker, behind it what librdkafka does about it.
    let (_, said) = message.split_once("]: ").unwrap_or(("", message));
    let end = [": explicit actions ", ": actions ", ": retrying"].iter().filter_map(|mark| said.find(mark)).min();
    let said = &said[..end.unwrap_or(said.len())];
    let is_refusal = said.contains("ProduceRequest failed") || said.starts_with("Failed to acquire");
    (is_refusal && !said.ends_with("Broker transport failure")).then_some(said)
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
    } else if says("certificate verify failed")
        || says("issuer certificate")
        || says("self-signed")
        || says("first certificate")
    {
        "set kafka.ssl.ca.location to the CA that signed the broker's certificate"
    } else if says("ssl alert") && (says("certificate") || says("unknown ca")) {
        "the broker wants another certificate of this client: kafka.ssl.certificate.location, kafka.ssl.key.location"
    } else if says("unsupported sasl mechanism") {
        "set kafka.sasl.mechanism to one that the broker offers"
    } else if says("plaintext broker listener")
        || says("unexpected eof")
        || says("wrong version number")
        || says("packet length too long")
        || is_hang_up(reason) && says("in state ssl_handshake")
    {
        "the broker doesn't speak TLS at this port: see kafka.security.protocol and the port"
    } else if is_hang_up(reason) {
        "the broker hangs up at once, as one does that wants TLS or SASL at this port: see kafka.security.protocol"
    } else if says("invalid_token") {
        "the broker refuses the token that was shown: see the rights of whom it is for, aws_msk_iam.region, and this \
         machine's clock"
    } else if says("authentication fail") {
        "see kafka.sasl.username and kafka.sasl.password"
    } else {
        return reason.to_owned();
    };
    format!("{reason} - {advice}")
}

#[cfg(test)]
mod tests;
