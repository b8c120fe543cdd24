//! Whether a client has ever had a usable connection to a broker, and the failure of each address
//! until then.
//!
//! A client that has reached a broker once waits for the end of an outage. One that never has
//! probably has a wrong address: calls that wait for it fail after `connect_timeout_ms`.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::Client;
use crate::kafka::librdkafka::log_messages;
use crate::support::error::{Error, Kind};
use crate::support::protection::Protection;

/// The timeout of a wait that begins after `connect_timeout_ms` has passed: a broker may have been
/// started meanwhile.
const SHORT_WAIT: Duration = Duration::from_secs(1);
/// When the log has a warning about addresses that don't respond. A refused connection fails at
/// once, and a distant broker responds within this time.
const WARN_AFTER: Duration = Duration::from_secs(1);

/// How long the failure of a connection is kept, although none is established since then.
const KEEP_FOR: Duration = Duration::from_secs(10);

pub struct FirstContact {
    timeout: Duration,
    /// What else may be waited for.
    hint: &'static str,
    /// What to look at, for the reasons.
    advice: &'static str,
    has_reached: AtomicBool,
    has_warned: AtomicBool,
    /// Each bootstrap address, and when and why it failed.
    addresses: Mutex<BTreeMap<String, Option<(Instant, String)>>>,
}

impl FirstContact {
    pub fn new(bootstrap_servers: &str, has_proxy: bool, has_kerberos: bool, timeout: Duration) -> Self {
        let servers = bootstrap_servers.split(',').map(str::trim).filter(|server| !server.is_empty());
        FirstContact {
            timeout,
            hint: if has_kerberos { ", or none of Kerberos' server" } else { "" },
            advice: if has_proxy {
                "kafka.bootstrap.servers, proxy and the network"
            } else {
                "kafka.bootstrap.servers and the network"
            },
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

    /// Records the failure of the address that an error of librdkafka names. A host name can have
    /// several addresses, one of them without a listener; a failure after a connection says more.
    pub fn note_failure(&self, error: &str) {
        let Some((address, cause)) = log_messages::address_and_cause(error) else { return };
        if let Some(known) = self.addresses.lock().get_mut(&with_port(address)) {
            if log_messages::is_connect_failure(cause)
                && known.as_ref().is_some_and(|(noted, known)| {
                    noted.elapsed() < KEEP_FOR && !log_messages::is_connect_failure(known)
                })
            {
                return;
            }
            let advice = log_messages::advice(error).map(|advice| format!(" - {advice}")).unwrap_or_default();
            *known = Some((Instant::now(), format!("{cause}{advice}")));
        }
    }

    /// How long a wait that began at `began` may go on before it fails. The client has been
    /// connecting since `connecting_since`.
    pub fn remaining(&self, began: Instant, connecting_since: Instant) -> Duration {
        let is_over = began.saturating_duration_since(connecting_since) >= self.timeout;
        let limit = if is_over { SHORT_WAIT.min(self.timeout) } else { self.timeout };
        limit.saturating_sub(began.max(connecting_since).elapsed())
    }

    /// The reason with which a wait that began at `began` fails, once its time is over. Only for a
    /// client that has reached no broker.
    pub fn timeout_reason(&self, began: Instant, connecting_since: Instant) -> Option<String> {
        self.remaining(began, connecting_since).is_zero().then(|| {
            format!(
                "no broker could be reached: {}; see {} (connect_timeout_ms is {})",
                self.reasons(),
                self.advice,
                self.timeout.as_millis()
            )
        })
    }

    /// The warning for the log, the first time that it is due.
    pub fn warning(&self, connecting_since: Instant) -> Option<String> {
        let is_due = connecting_since.elapsed() >= WARN_AFTER && !self.has_warned.swap(true, Ordering::Relaxed);
        is_due.then(|| format!("no broker is reached yet: {}; librdkafka keeps trying to connect", self.reasons()))
    }

    fn reasons(&self) -> String {
        let reason = |(address, failure): (&String, &Option<(Instant, String)>)| match failure {
            Some((_, cause)) => format!("{address}: {cause}"),
            None => format!("{address}: no connection, or no response to the first request{}", self.hint),
        };
        self.addresses.lock().iter().map(reason).collect::<Vec<_>>().join("; ")
    }
}

impl Client {
    /// Whether this client has ever reached a broker.
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

    /// The error of a wait that began at `began`, if no broker was ever reached and its time is
    /// over. Without `began`, the error of a call that does not wait: the client has been
    /// connecting for too long.
    pub fn unreached(&self, began: Option<Instant>, operation: impl Display) -> Option<Error> {
        if self.has_reached() || !Protection::FirstContact.is_on() {
            return None;
        }
        let since = self.connecting_since()?;
        let reason = self.first_contact.timeout_reason(began.unwrap_or(since), since)?;
        Some(Error::new(Kind::Unreachable, reason).retriable(true).context(operation))
    }

    /// How long a wait that began at `began` goes on until [`unreached`](Self::unreached) returns
    /// an error; `None` if it can't.
    pub fn time_until_unreached(&self, began: Instant) -> Option<Duration> {
        if self.has_reached() {
            return None;
        }
        self.connecting_since().map(|since| self.first_contact.remaining(began, since))
    }

    /// When the client began to connect. With tokens it connects when it has the first one; a
    /// missing token is an error of its own.
    fn connecting_since(&self) -> Option<Instant> {
        if self.tokens.is_some() { self.handle.has_token_since() } else { Some(self.created) }
    }

    /// Logs a warning, once, if the client has reached no broker after [`WARN_AFTER`].
    pub fn warn_unless_reached(&self) {
        if !self.has_reached()
            && let Some(since) = self.connecting_since()
            && let Some(warning) = self.first_contact.warning(since)
        {
            log::warn!(logger: self.log(), target: &self.name(), "{warning}");
        }
    }
}

/// The address in librdkafka's form: without protocol, with a port.
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
        FirstContact::new("ssl://one, two:1,[::1]", false, false, TIMEOUT)
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
            contact.timeout_reason(ago(10), ago(20)).unwrap(),
            "no broker could be reached: [::1]:9092: no connection, or no response to the first request; one:9092: no \
             connection, or no response to the first request; two:1: Connect to ipv4#2.2.2.2:1 failed: Connection refused; see \
             kafka.bootstrap.servers and the network (connect_timeout_ms is 10000)"
        );
    }

    #[test]
    fn address_without_listener_does_not_hide_the_failure_of_another_one() {
        let contact = contact();
        let (refused, hang_up) =
            ("Connect to ipv6#[::1]:1 failed: Connection refused", "Disconnected: connection closed by peer");
        for cause in [refused, hang_up, refused] {
            contact.note_failure(&format!("two:1/bootstrap: {cause} (after 0ms in state CONNECT)"));
        }
        let reason = contact.timeout_reason(ago(10), ago(20)).unwrap();
        assert!(reason.contains(&format!("two:1: {hang_up}")), "{reason}");
    }

    #[test]
    fn wait_fails_at_its_timeout_or_soon_if_that_has_passed() {
        let contact = contact();
        assert_eq!(contact.timeout_reason(ago(5), ago(5)), None);
        assert_eq!(contact.timeout_reason(ago(0), ago(20)), None);
        assert!(contact.timeout_reason(ago(2), ago(20)).is_some());
        assert!(contact.timeout_reason(ago(15), ago(20)).is_some());
        assert_eq!(contact.timeout_reason(ago(9), ago(11)), None);
        // The client waited for something else before it connected, such as a token.
        assert_eq!(contact.timeout_reason(ago(30), ago(5)), None);
        assert!(contact.timeout_reason(ago(30), ago(10)).is_some());
    }

    #[test]
    fn warning_is_logged_once_after_a_delay() {
        let contact = contact();
        assert_eq!(contact.warning(ago(0)), None);
        assert!(contact.warning(ago(2)).unwrap().contains("one:9092"));
        assert_eq!(contact.warning(ago(2)), None);
    }
}
