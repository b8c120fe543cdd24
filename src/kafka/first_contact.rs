//! Whether a client has ever had a usable connection to a broker, and what each address says until then.
//!
//! A client that has reached a broker once rides out any outage. One that never has is probably told a wrong address, so
//! whoever waits for it hears of that within `connect_timeout_ms`.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::client::Client;
use super::log_messages;
use crate::error::{Error, Kind};
use crate::protection::Protection;

/// How long a wait goes on that began when the time was over already: a broker may have been started meanwhile.
const SHORT_WAIT: Duration = Duration::from_secs(1);
/// When a log line tells of addresses that don't answer: refusals come at once, and a broker far away answers by then.
const WARNING_AFTER: Duration = Duration::from_secs(1);

pub struct FirstContact {
    timeout: Duration,
    has_reached: AtomicBool,
    has_warned: AtomicBool,
    /// Each bootstrap address, and what was last wrong with it.
    addresses: Mutex<BTreeMap<String, Option<String>>>,
}

impl FirstContact {
    pub fn new(bootstrap_servers: &str, timeout: Duration) -> Self {
        let servers = bootstrap_servers.split(',').map(str::trim).filter(|server| !server.is_empty());
        FirstContact {
            timeout,
            has_reached: AtomicBool::new(false),
            has_warned: AtomicBool::new(false),
            addresses: Mutex::new(servers.map(|server| (with_port(server), None)).collect()),
        }
    }

    #[inline]
    pub fn has_reached(&self) -> bool {
        self.has_reached.load(Ordering::Relaxed)
    }

    pub fn note_reached(&self) {
        self.has_reached.store(true, Ordering::Relaxed);
    }

    /// Keeps what an error of librdkafka's says of an address.
    pub fn note_failure(&self, error: &str) {
        let Some((address, cause)) = log_messages::address_and_cause(error) else { return };
        if let Some(known) = self.addresses.lock().get_mut(&with_port(address)) {
            *known = Some(cause.to_owned());
        }
    }

    /// The time that a wait may still take until it has to be told, if it began then and the client connects since then.
    pub fn remaining(&self, began: Instant, connecting_since: Instant) -> Duration {
        let is_over = began.saturating_duration_since(connecting_since) >= self.timeout;
        let limit = if is_over { SHORT_WAIT.min(self.timeout) } else { self.timeout };
        limit.saturating_sub(began.max(connecting_since).elapsed())
    }

    /// What to tell whoever waits since `began`, if it is time. Only while nothing has been reached.
    pub fn overdue(&self, began: Instant, connecting_since: Instant) -> Option<String> {
        self.remaining(began, connecting_since).is_zero().then(|| {
            format!(
                "no broker could be reached: {}; see kafka.bootstrap.servers and the network (connect_timeout_ms is {})",
                self.reasons(),
                self.timeout.as_millis()
            )
        })
    }

    /// A warning for the log, once.
    pub fn warning(&self, connecting_since: Instant) -> Option<String> {
        let is_due = connecting_since.elapsed() >= WARNING_AFTER && !self.has_warned.swap(true, Ordering::Relaxed);
        is_due.then(|| format!("no broker is reached yet: {}; the connection is tried again and again", self.reasons()))
    }

    fn reasons(&self) -> String {
        let reason = |(address, cause): (&String, &Option<String>)| match cause {
            Some(cause) => format!("{address}: {cause}"),
            None => format!("{address}: no answer to the attempt to connect"),
        };
        self.addresses.lock().iter().map(reason).collect::<Vec<_>>().join("; ")
    }
}

impl Client {
    /// Whether a broker was ever there for this client.
    pub fn has_reached(&self) -> bool {
        if self.first_contact.has_reached() {
            return true;
        }
        let has_reached = self.health.has_succeeded() || self.handle.has_reached_broker();
        if has_reached {
            self.first_contact.note_reached();
        }
        has_reached
    }

    /// The error for whoever waits since `began`, if no broker was ever reached and it is time to say so. Without `began`,
    /// for whoever waits no longer: that time is over for the client.
    pub fn unreached(&self, began: Option<Instant>, doing: impl Display) -> Option<Error> {
        if self.has_reached() || !Protection::FirstContact.is_on() {
            return None;
        }
        self.warn_unless_reached();
        let since = self.connecting_since()?;
        let why = self.first_contact.overdue(began.unwrap_or(since), since)?;
        Some(Error::new(Kind::Unreachable, why).retriable(true).context(doing))
    }

    /// How long a wait that began then can go on until [`unreached`](Self::unreached) is an error, if it may become one.
    pub fn time_until_unreached(&self, began: Instant) -> Option<Duration> {
        if self.has_reached() {
            return None;
        }
        self.connecting_since().map(|since| self.first_contact.remaining(began, since))
    }

    /// A client that shows tokens connects when it has one, and says itself when it can't get one.
    fn connecting_since(&self) -> Option<Instant> {
        if self.tokens.is_some() { self.handle.has_token_since() } else { Some(self.created) }
    }

    /// For the log, once, when a client that needs a broker has not reached one soon.
    pub fn warn_unless_reached(&self) {
        if !self.has_reached()
            && let Some(since) = self.connecting_since()
            && let Some(warning) = self.first_contact.warning(since)
        {
            log::warn!(logger: self.log(), target: &self.name(), "{warning}");
        }
    }
}

/// An address as librdkafka names it: without protocol, with a port.
fn with_port(server: &str) -> String {
    const DEFAULT_PORT: &str = "9092";
    let address = server.split_once("://").map_or(server, |(_, address)| address);
    let host_ends = address.rfind(']').unwrap_or(0);
    match address[host_ends..].contains(':') {
        true => address.to_owned(),
        false => format!("{address}:{DEFAULT_PORT}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);

    fn contact() -> FirstContact {
        FirstContact::new("ssl://one, two:1,[::1]", TIMEOUT)
    }

    fn ago(seconds: u64) -> Instant {
        Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap()
    }

    #[test]
    fn each_address_is_listed_with_its_reason() {
        let contact = contact();
        let refused = "Connect to ipv4#2.2.2.2:1 failed: Connection refused";
        contact.note_failure(&format!("ssl://two:1/bootstrap: {refused} (after 0ms in state CONNECT)"));
        contact.note_failure("another:9092/7: Failed to resolve 'another:9092': Name or service not known");
        assert_eq!(
            contact.overdue(ago(10), ago(20)).unwrap(),
            "no broker could be reached: [::1]:9092: no answer to the attempt to connect; one:9092: no answer to the \
             attempt to connect; two:1: Connect to ipv4#2.2.2.2:1 failed: Connection refused; see \
             kafka.bootstrap.servers and the network (connect_timeout_ms is 10000)"
        );
    }

    #[test]
    fn wait_is_told_at_its_timeout_or_soon_if_that_has_passed_before() {
        let contact = contact();
        assert_eq!(contact.overdue(ago(5), ago(5)), None);
        assert_eq!(contact.overdue(ago(0), ago(20)), None);
        assert!(contact.overdue(ago(2), ago(20)).is_some());
        assert!(contact.overdue(ago(15), ago(20)).is_some());
        assert_eq!(contact.overdue(ago(9), ago(11)), None);
        // It waited for something else before, a token say.
        assert_eq!(contact.overdue(ago(30), ago(5)), None);
        assert!(contact.overdue(ago(30), ago(10)).is_some());
    }

    #[test]
    fn warning_comes_once_and_not_at_once() {
        let contact = contact();
        assert_eq!(contact.warning(ago(0)), None);
        assert!(contact.warning(ago(2)).unwrap().contains("one:9092"));
        assert_eq!(contact.warning(ago(2)), None);
    }
}
