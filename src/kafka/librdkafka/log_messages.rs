//! What librdkafka reports only as text: the meaning of its log lines and of the texts of its
//! errors.
//!
//! No other file depends on the wording. A test searches for each text in the sources that the
//! library is built from, so that it fails with a version of librdkafka that words them
//! differently.

use std::borrow::Cow;

/// The meaning of a log line for its client.
#[derive(Debug, PartialEq, Eq)]
pub enum LogMessage<'a> {
    /// A broker's certificate was refused. The text for the user.
    CertificateRefused(String),
    /// A broker closed the connection during the handshake. librdkafka's text without the name of
    /// its thread.
    ConnectionClosed(&'a str),
    /// A broker rejected a produce request or the request for a producer id. The broker's text.
    ProducerRejected(&'a str),
    /// A producer's property is set on a consumer or vice versa. A driver's properties apply to
    /// both.
    PropertyIgnored,
    Other,
}

/// The parts of librdkafka's texts that [`LogMessage`] searches for.
mod words {
    pub const CERTIFICATE: &str = "SSLCERTVRFY";
    pub const CALLBACK_FAILED: &str = "verification callback failed";
    pub const BROKER_FAILED: &str = "FAIL";
    pub const CLOSED: &str = "isconnected";
    pub const EARLY_STATES: [&str; 3] = ["SSL_HANDSHAKE", "APIVERSION_QUERY", "UP"];
    pub const WRONG_SIZE: &str = "Invalid response size";
    pub const FIRST_REQUEST: &str = "in state APIVERSION_QUERY";
    pub const REQUEST_ERROR: &str = "REQERR";
    pub const PRODUCER_ID: &str = "GETPID";
    pub const PRODUCE_FAILED: &str = "ProduceRequest failed";
    pub const ID_FAILED: &str = "Failed to acquire";
    pub const JOIN_FAILED: &str = "JoinGroup failed";
    pub const NO_TOKEN: &str = "Failed to acquire SASL OAUTHBEARER token";
    pub const AFTER_REJECTION: [&str; 3] = [": explicit actions ", ": actions ", ": retrying"];
    pub const TRANSPORT_FAILURE: &str = "Broker transport failure";
    pub const CONFIGURATION: &str = "CONFWARN";
    pub const IGNORED: &str = "will be ignored by this";
    pub const BEHIND_THREAD: &str = "]: ";
    pub const DURATION: &str = " (after ";
    pub const THREAD: &str = "[thrd:";
}

impl<'a> LogMessage<'a> {
    /// The meaning of the line `message` with librdkafka's `facility`.
    pub fn interpret(facility: &str, message: &'a str) -> Self {
        match facility {
            words::CERTIFICATE => LogMessage::CertificateRefused(message.replace(words::CALLBACK_FAILED, "is refused")),
            words::BROKER_FAILED if is_hang_up(message) => LogMessage::ConnectionClosed(without_thread(message)),
            words::REQUEST_ERROR | words::PRODUCER_ID => {
                rejection(message).map_or(LogMessage::Other, LogMessage::ProducerRejected)
            }
            words::CONFIGURATION if message.contains(words::IGNORED) => LogMessage::PropertyIgnored,
            _ => LogMessage::Other,
        }
    }
}

/// Whether log lines of this facility report failed connections.
pub fn is_connection_failure(facility: &str) -> bool {
    facility == words::BROKER_FAILED
}

/// The text after `[thrd:NAME]: `.
pub fn without_thread(message: &str) -> &str {
    message.split_once(words::BEHIND_THREAD).map_or(message, |(_, rest)| rest)
}

/// The broker's address and the cause in the text of a connection error:
/// `HOST:PORT/ID: CAUSE (after 3ms in state …)`.
pub fn address_and_cause(error: &str) -> Option<(&str, &str)> {
    let (broker, cause) = error.split_once(": ")?;
    let address = broker.split_once("://").map_or(broker, |(_, address)| address);
    let (address, _) = address.rsplit_once('/')?;
    Some((address, without_duration(cause)))
}

/// The part of a line that is equal for repetitions of one event: without thread, times and counts.
pub fn cause_of_line(line: &str) -> &str {
    let line = match line.find(words::THREAD) {
        Some(start) => without_thread(&line[start..]),
        None => line,
    };
    without_duration(line)
}

fn without_duration(cause: &str) -> &str {
    cause.rfind(words::DURATION).map_or(cause, |end| &cause[..end])
}

/// The text of a broker's rejection. A lost connection is no rejection; other log lines report it.
fn rejection(message: &str) -> Option<&str> {
    let text = without_thread(message);
    let end = words::AFTER_REJECTION.iter().filter_map(|mark| text.find(mark)).min();
    let text = &text[..end.unwrap_or(text.len())];
    let is_rejection = text.contains(words::PRODUCE_FAILED) || text.starts_with(words::ID_FAILED);
    (is_rejection && !text.ends_with(words::TRANSPORT_FAILURE)).then_some(text)
}

/// Whether a broker closed a connection during the handshake.
pub fn is_hang_up(reason: &str) -> bool {
    reason.contains(words::CLOSED)
        && words::EARLY_STATES.iter().any(|state| reason.contains(&format!("in state {state}")))
}

/// Whether the response to a client's first request was not one of Kafka's protocol.
pub fn is_foreign_protocol(reason: &str) -> bool {
    reason.contains(words::WRONG_SIZE) && reason.contains(words::FIRST_REQUEST)
}

/// Whether a TLS or SASL error only says that the connection was lost during the handshake.
pub fn is_connection_lost(reason: &str) -> bool {
    // Kerberos' server may be away, too, and come back.
    let away = ["Cannot contact any KDC", "Cannot find KDC"];
    let lost = [words::CLOSED, "ransport failure", "onnection reset", "imed out"];
    lost.iter().chain(&away).any(|part| reason.contains(part))
}

/// Whether a broker refused a token; otherwise an authentication error means that there is no
/// token.
pub fn is_token_refused(reason: &str) -> bool {
    !reason.starts_with(words::NO_TOKEN) && !is_connection_lost(reason)
}

/// Whether the coordinator refuses this member of a group. librdkafka reports only permanent
/// refusals, and repeats the request.
pub fn is_join_refused(reason: &str) -> bool {
    reason.starts_with(words::JOIN_FAILED)
}

/// Whether a broker refused this client's TLS handshake by an alert. The text is OpenSSL's.
pub fn is_tls_alert(reason: &str) -> bool {
    reason.contains("SSL alert")
}

/// Whether this is the error that follows a refused certificate. The log line before it has the
/// reason.
pub fn is_certificate_verification(reason: &str) -> bool {
    reason.contains("certificate verify failed")
}

/// The errno of the resource limit that a text of librdkafka or of OpenSSL names as its reason.
/// Both use the system's error texts, which depend on the locale of the process.
pub fn errno_of_limit(reason: &str) -> Option<i32> {
    // One text can be a prefix of another: in English EMFILE's is one of ENFILE's.
    let limits = [libc::ENFILE, libc::EMFILE, libc::EAGAIN, libc::ENOMEM, libc::ENOBUFS];
    limits.into_iter().find(|errno| {
        let text = std::io::Error::from_raw_os_error(*errno).to_string();
        text.split(" (os error").next().is_some_and(|words| reason.contains(words))
    })
}

/// Whether no connection was established, so that nothing is known about the broker.
pub fn is_connect_failure(cause: &str) -> bool {
    ["Connect to ", "Failed to resolve", "Proxy "].iter().any(|start| cause.starts_with(start))
        || cause.contains("in state CONNECT")
}

/// What to do about a limit that a text names without its setting.
pub const RAISE_LIMIT: &str = "raise the limit of the process (ulimit -n for descriptors), or close what it has open";

/// The reason, followed by the settings to check if it names none.
pub fn with_advice(reason: &str) -> Cow<'_, str> {
    match advice(reason) {
        Some(advice) => Cow::Owned(format!("{reason} - {advice}")),
        None => Cow::Borrowed(reason),
    }
}

/// The settings to check for this reason.
pub fn advice(reason: &str) -> Option<&'static str> {
    let lower = reason.to_lowercase();
    let contains = |part: &str| lower.contains(part);
    let is_any = |parts: &[&str]| parts.iter().any(|part| contains(part));
    if contains("oauthbearer token") {
        // The source of the tokens has written this text.
        None
    } else if contains("ssl alert") && is_any(&["certificate", "unknown ca"]) {
        Some(if cfg!(feature = "patched") {
            "the broker wants another certificate of this client: kafka.ssl.certificate.location, \
             kafka.ssl.key.location; files that are replaced are used from the next attempt on"
        } else {
            "the broker wants another certificate of this client: kafka.ssl.certificate.location, \
             kafka.ssl.key.location; files are read when a driver is created, so create a new one after they were replaced"
        })
    } else if is_any(&["hostname mismatch", "ip address mismatch"]) {
        Some(
            "the broker's certificate is for another host name than the one in kafka.bootstrap.servers, or than the \
             broker advertises",
        )
    } else if is_any(&["certificate has expired", "certificate expired"]) {
        Some("the broker's certificate has expired, or this machine's clock is wrong")
    } else if is_any(&["issuer certificate", "self-signed", "first certificate"]) {
        Some("set kafka.ssl.ca.location to the CA that signed the broker's certificate")
    } else if contains("certificate verify failed") {
        // OpenSSL's reason is in another text.
        Some(
            "set kafka.ssl.ca.location to the CA that signed the broker's certificate, or kafka.bootstrap.servers to the \
             host name in it",
        )
    } else if contains("unsupported sasl mechanism") {
        Some("set kafka.sasl.mechanism to one that the broker offers")
    } else if is_any(&["plaintext broker listener", "unexpected eof", "wrong version number", "packet length too long"])
        || is_hang_up(reason) && contains("in state ssl_handshake")
    {
        Some("the broker doesn't speak TLS at this port: see kafka.security.protocol and the port")
    } else if is_hang_up(reason) {
        Some(
            "the broker closes the connection at once, as one does that wants TLS or SASL at this port: see \
             kafka.security.protocol",
        )
    } else if contains("not valid in current sasl state") {
        Some("the broker doesn't use SASL at this port: see kafka.security.protocol and the port")
    } else if is_foreign_protocol(reason) {
        // The size is made of the first four bytes of the response.
        Some(if reason.contains(&format!("{} {}", words::WRONG_SIZE, u32::from_be_bytes(*b"HTTP"))) {
            "a web server responds at this address: see kafka.bootstrap.servers"
        } else {
            "what responds at this address does not speak Kafka's protocol, or wants TLS: see kafka.bootstrap.servers \
             and kafka.security.protocol"
        })
    } else if contains("invalid_token") {
        Some(
            "the broker rejects the token: see the permissions of its principal, aws_msk_iam.region, and this \
             machine's clock",
        )
    } else if contains("kerberos: ") {
        // The text has its advice.
        None
    } else if contains("authentication fail") && contains("gssapi") {
        Some("see the key table of the broker, and the clocks of both machines")
    } else if contains("authentication fail") {
        Some("see kafka.sasl.username and kafka.sasl.password")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn producer_rejection_is_the_text_of_the_broker() {
        let lines = [
            (
                "[thrd:127.0.0.1:1/1]: 127.0.0.1:1/1: ProduceRequest failed: Broker: Not enough in-sync replicas: explicit \
                 actions Retry,MsgNotPersisted",
                "127.0.0.1:1/1: ProduceRequest failed: Broker: Not enough in-sync replicas",
            ),
            (
                "[thrd:h:1/1]: h:1/1: ProduceRequest failed: Broker: Replica not available: actions Refresh",
                "h:1/1: ProduceRequest failed: Broker: Replica not available",
            ),
        ];
        for (line, text) in lines {
            assert_eq!(LogMessage::interpret("REQERR", line), LogMessage::ProducerRejected(text));
        }
        let line = "[thrd:main]: Failed to acquire idempotence PID from broker h:1/1: Broker: Not controller: retrying";
        let text = "Failed to acquire idempotence PID from broker h:1/1: Broker: Not controller";
        assert_eq!(LogMessage::interpret("GETPID", line), LogMessage::ProducerRejected(text));
    }

    #[test]
    fn request_error_that_is_no_rejection_is_ignored() {
        for line in [
            "[thrd:h:1/1]: h:1/1: ProduceRequest failed: Local: Broker transport failure: actions Refresh",
            "[thrd:h:1/1]: h:1/1: MetadataRequest failed: Broker: Not controller: actions Permanent",
        ] {
            assert_eq!(LogMessage::interpret("REQERR", line), LogMessage::Other);
        }
    }

    #[test]
    fn certificate_line_is_reworded_without_the_callback() {
        let line = "Certificate (subject=/CN=b, issuer=/CN=a) verification callback failed: certificate has expired";
        let reworded = "Certificate (subject=/CN=b, issuer=/CN=a) is refused: certificate has expired";
        assert_eq!(LogMessage::interpret("SSLCERTVRFY", line), LogMessage::CertificateRefused(reworded.to_owned()));
    }

    #[test]
    fn closed_connection_is_a_hang_up_only_in_an_early_state() {
        let line = |state: &str| {
            format!(
                "[thrd:h:1/bootstrap]: h:1/bootstrap: Disconnected: connection closed by peer (after 1ms in state {state})"
            )
        };
        let early = line("APIVERSION_QUERY");
        assert_eq!(
            LogMessage::interpret("FAIL", &early),
            LogMessage::ConnectionClosed(early.strip_prefix("[thrd:h:1/bootstrap]: ").unwrap())
        );
        assert_eq!(LogMessage::interpret("FAIL", &line("CONNECT")), LogMessage::Other);
        assert_eq!(LogMessage::interpret("OTHER", &early), LogMessage::Other);
    }

    #[test]
    fn ignored_property_is_recognized() {
        let line =
            "Configuration property linger.ms is a producer property and will be ignored by this consumer instance";
        assert_eq!(LogMessage::interpret("CONFWARN", line), LogMessage::PropertyIgnored);
        assert_eq!(LogMessage::interpret("CONFWARN", "No `bootstrap.servers` configured"), LogMessage::Other);
    }

    #[test]
    fn connection_error_has_address_and_cause() {
        let error =
            "ssl://h:1/bootstrap: Connect to ipv4#1.2.3.4:1 failed: Connection refused (after 0ms in state CONNECT)";
        assert_eq!(address_and_cause(error), Some(("h:1", "Connect to ipv4#1.2.3.4:1 failed: Connection refused")));
        let error = "[::1]:9092/3: Failed to resolve";
        assert_eq!(address_and_cause(error), Some(("[::1]:9092", "Failed to resolve")));
        assert_eq!(address_and_cause("2/2 brokers are down"), None);
        assert_eq!(address_and_cause("something: else"), None);
    }

    #[test]
    fn limits_are_recognized_by_the_texts_of_the_system() {
        for (reason, errno) in [
            ("Failed to create thread: Resource temporarily unavailable (11)", Some(libc::EAGAIN)),
            ("ssl.ca.location failed: error:80000018:system library::Too many open files", Some(libc::EMFILE)),
            ("Failed to create socket: Too many open files in system", Some(libc::ENFILE)),
            ("ssl.ca.location failed: No such file or directory", None),
        ] {
            assert_eq!(errno_of_limit(reason), errno, "{reason}");
        }
    }

    #[test]
    fn lines_with_one_cause_are_recognized() {
        let line = |time: &str| format!("FAIL: [thrd:h:1/1]: h:1/1: Disconnected (after {time}ms in state UP)");
        assert_eq!(cause_of_line(&line("12")), "h:1/1: Disconnected");
        assert_eq!(cause_of_line(&line("4, 3 identical error(s) suppressed")), "h:1/1: Disconnected");
        assert_eq!(cause_of_line("opening topic \"a\""), "opening topic \"a\"");
    }

    /// The sources contain the formats, literals and names of states that this file searches for.
    /// OpenSSL's texts are not among them.
    #[test]
    fn linked_librdkafka_has_the_words_that_are_interpreted() {
        let sources = sources();
        let through_proxies: &[_] = if cfg!(feature = "patched") {
            &["Connect to %s%s failed: %s", "Failed to resolve %s'%s': %s", "\"the proxy ", "Proxy %s: %s"]
        } else {
            &["Connect to %s failed: %s", "Failed to resolve '%s': %s"]
        };
        let everywhere = [
            "\"SSLCERTVRFY\"",
            "Certificate (subject=%s, issuer=%s) verification callback failed: %s",
            "\"FAIL\"",
            "Disconnected: SSL connection closed by peer",
            "Invalid response size %",
            "PLAINTEXT broker listener",
            "\"SSL_HANDSHAKE\"",
            "\"UP\"",
            "\"APIVERSION_QUERY\"",
            "ms in state %s",
            "after %dms in state %s",
            "\"/bootstrap\"",
            "\"%s/%\" PRId32",
            "\"REQERR\"",
            "= \"Produce\"",
            "%sRequest failed: %s: explicit actions %s",
            "%sRequest failed: %s: actions %s",
            "\"GETPID\"",
            "Failed to acquire %s PID from broker %s: %s",
            "%s: retrying",
            "\"Local: Broker transport failure\"",
            "\"CONFWARN\"",
            "is a %s property and will be ignored by this %s instance",
            "\"[thrd:%s]: \"",
            "Failed to acquire SASL OAUTHBEARER token: %s",
            "Unsupported SASL mechanism",
            "Request not valid in current SASL state",
            "SASL authentication error",
            "certificate verify failed",
            "Timed out",
        ];
        for text in everywhere.iter().chain(through_proxies) {
            assert!(
                sources.contains(*text),
                "librdkafka has no {text:?} any more: adapt what depends on it in this file"
            );
        }
    }

    /// The C code of the linked librdkafka, with literals of several lines joined.
    fn sources() -> String {
        let folder = concat!(env!("OUT_DIR"), "/librdkafka/src");
        let mut all = String::new();
        for entry in fs::read_dir(folder).expect("the build script has put the sources there") {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "c" || extension == "h") {
                all += &String::from_utf8_lossy(&fs::read(path).unwrap());
            }
        }
        let mut pieces = all.split('"');
        let mut joined = pieces.next().unwrap_or_default().to_owned();
        let mut is_between = false;
        for piece in pieces {
            let was_between = std::mem::replace(&mut is_between, piece.trim().is_empty() && piece.contains('\n'));
            if is_between {
                continue;
            }
            if !was_between {
                joined.push('"');
            }
            joined.push_str(piece);
        }
        joined
    }
}
