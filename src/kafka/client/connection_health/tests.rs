use rdkafka::bindings::rd_kafka_resp_err_t as Native;

use super::*;

/// Errors of librdkafka 2.12.1 with real brokers: the code, the text, whether brokers had accepted
/// the client before; and what they mean: the evidence that they persist, and the setting that the
/// advice names.
const OBSERVED: [(Native, &str, bool, Option<Evidence>, &str); 19] = {
    use Evidence::{Presumed, Reported};
    use Native::{
        RD_KAFKA_RESP_ERR__AUTHENTICATION as AUTHENTICATION, RD_KAFKA_RESP_ERR__BAD_MSG as BAD_MESSAGE,
        RD_KAFKA_RESP_ERR__SSL as SSL, RD_KAFKA_RESP_ERR__TRANSPORT as TRANSPORT,
    };
    [
        (
            SSL,
            "Certificate (subject=/CN=b, issuer=/CN=a) is refused: certificate has expired",
            false,
            Some(Reported),
            "clock",
        ),
        (
            SSL,
            "Certificate (subject=/CN=b, issuer=/CN=a) is refused: hostname mismatch",
            true,
            Some(Reported),
            "host name",
        ),
        (
            SSL,
            "Certificate (subject=/CN=b, issuer=/CN=a) is refused: unable to get local issuer certificate",
            false,
            Some(Reported),
            "kafka.ssl.ca.location",
        ),
        (
            SSL,
            "ssl://h:1/bootstrap: SSL handshake failed: error:0A000086:SSL routines::certificate verify failed: broker \
             certificate could not be verified, verify that ssl.ca.location is correctly configured (after 6ms in state \
             SSL_HANDSHAKE, 1 identical error(s) suppressed)",
            false,
            Some(Reported),
            "kafka.ssl.ca.location",
        ),
        (
            TRANSPORT,
            "ssl://h:1/bootstrap: SSL handshake failed: Disconnected: SSL connection closed by peer: connecting to a \
             PLAINTEXT broker listener? (after 0ms in state SSL_HANDSHAKE)",
            false,
            Some(Presumed),
            "doesn't speak TLS",
        ),
        (
            TRANSPORT,
            "ssl://h:1/bootstrap: Disconnected: SSL connection closed by peer (after 1ms in state SSL_HANDSHAKE)",
            false,
            Some(Presumed),
            "doesn't speak TLS",
        ),
        (
            TRANSPORT,
            "h:1/bootstrap: Disconnected: connection closed by peer: receive 0 after POLLIN (after 18ms in state \
             APIVERSION_QUERY)",
            false,
            Some(Presumed),
            "wants TLS or SASL",
        ),
        (
            TRANSPORT,
            "h:1/1: Disconnected: connection closed by peer: receive 0 after POLLIN (after 18ms in state UP)",
            true,
            None,
            "",
        ),
        (
            TRANSPORT,
            "ssl://h:1/bootstrap: Disconnected: SSL connection closed by peer (after 2ms in state UP)",
            false,
            Some(Presumed),
            "wants TLS or SASL",
        ),
        (
            TRANSPORT,
            "ssl://h:1/bootstrap: Receive failed: error:0A000412:SSL routines::ssl/tls alert bad certificate: SSL alert \
             number 42 (after 0ms in state APIVERSION_QUERY)",
            false,
            Some(Reported),
            "kafka.ssl.certificate.location",
        ),
        (TRANSPORT, "h:1/bootstrap: Connect to ipv4#127.0.0.1:1 failed: Connection refused", false, None, ""),
        (
            AUTHENTICATION,
            "sasl_ssl://h:1/bootstrap: SASL SCRAM-SHA-256 mechanism handshake failed: Broker: Unsupported SASL \
             mechanism: broker's supported mechanisms: PLAIN,SCRAM-SHA-512",
            false,
            Some(Reported),
            "kafka.sasl.mechanism",
        ),
        (
            AUTHENTICATION,
            "sasl_ssl://h:1/1: SASL authentication error: Authentication failed during authentication due to invalid \
             credentials with SASL mechanism SCRAM-SHA-512",
            true,
            Some(Reported),
            "kafka.sasl.password",
        ),
        (
            AUTHENTICATION,
            "sasl_plaintext://h:1/bootstrap: SASL PLAIN mechanism handshake failed: Broker: Request not valid in current \
             SASL state: broker's supported mechanisms:  (after 1ms in state AUTH_HANDSHAKE)",
            false,
            Some(Reported),
            "doesn't use SASL at this port",
        ),
        (
            BAD_MESSAGE,
            "h:1/bootstrap: Receive failed: Invalid response size 1213486160 (0..100000000): increase \
             receive.message.max.bytes (after 0ms in state APIVERSION_QUERY)",
            false,
            Some(Presumed),
            "web server",
        ),
        (
            BAD_MESSAGE,
            "h:1/bootstrap: Receive failed: Invalid response size 352518912 (0..100000000): increase \
             receive.message.max.bytes (after 0ms in state APIVERSION_QUERY)",
            false,
            Some(Presumed),
            "kafka.security.protocol",
        ),
        (
            AUTHENTICATION,
            "sasl_plaintext://h:1/1: SASL authentication error: {\"status\":\"invalid_token\"}",
            true,
            Some(Reported),
            "aws_msk_iam.region",
        ),
        (
            AUTHENTICATION,
            "Failed to acquire SASL OAUTHBEARER token: the host's token provider (services.token) provided no token",
            true,
            Some(Reported),
            "services.token",
        ),
        (
            AUTHENTICATION,
            "sasl_ssl://h:1/1: SASL PLAIN mechanism handshake failed: Local: Broker transport failure: broker's \
             supported mechanisms: ",
            true,
            None,
            "",
        ),
    ]
};

#[test]
fn observed_error_is_classified_and_names_its_setting() {
    for (code, reason, has_succeeded, evidence, advice) in OBSERVED {
        assert!(persistence_evidence(code.into(), reason, has_succeeded) == evidence, "{reason}");
        let advised = log_messages::with_advice(reason);
        assert!(evidence.is_none() || advised.starts_with(reason) && advised.contains(advice), "{advised}");
    }
}

/// Later, less specific errors don't replace a persistent failure; a success does.
#[test]
fn persistent_failure_is_kept_until_a_request_succeeds() {
    let health = ConnectionHealth::default();
    let (expired, failed, down) = (OBSERVED[0], OBSERVED[3], Native::RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN);
    health.record_failure(down.into(), "1/1 brokers are down".to_owned(), Duration::ZERO);
    health.record_failure(expired.0.into(), expired.1.to_owned(), Duration::ZERO);
    // The errors that follow are less specific.
    health.record_failure(failed.0.into(), failed.1.to_owned(), Duration::ZERO);
    health.record_failure(down.into(), "1/1 brokers are down".to_owned(), Duration::ZERO);
    health.record_failure(Native::RD_KAFKA_RESP_ERR__TRANSPORT.into(), "Connection refused".to_owned(), Duration::ZERO);
    assert_eq!(health.reason().as_deref(), Some(expired.1));
    let began = Instant::now();
    assert!(
        health.fail_fast_error(began).is_none() && health.persistent_error().is_none(),
        "it may still end by itself"
    );
    assert!(health.fail_fast_error(began.checked_sub(FAIL_FAST_AFTER).unwrap()).is_some());
    health.record_success();
    assert!(health.reason().is_none() && health.has_succeeded());
}

#[test]
fn reported_failure_is_not_retriable_and_presumed_one_is() {
    let alert = "ssl://h:1/1: SSL handshake failed: error:0A000415:SSL routines::ssl/tls alert certificate expired: SSL alert number 45";
    let hang_up = "h:1/bootstrap: Disconnected: connection closed by peer (after 1ms in state APIVERSION_QUERY)";
    for (reason, is_retriable) in [(alert, false), (hang_up, true)] {
        let health = ConnectionHealth::default();
        health.record_failure(Native::RD_KAFKA_RESP_ERR__TRANSPORT.into(), reason.to_owned(), Duration::ZERO);
        let error = health.fail_fast_error(Instant::now().checked_sub(FAIL_FAST_AFTER).unwrap()).unwrap();
        assert_eq!(error.is_retriable(), is_retriable, "{error}");
        assert_eq!(error.message().contains("kafka.ssl.key.location; files"), !is_retriable, "{error}");
    }
}

#[test]
fn token_prevented_by_a_limit_is_a_retriable_limit_error() {
    let reason = "Failed to acquire SASL OAUTHBEARER token: creating the thread octopus-token: Resource temporarily \
                  unavailable (os error 11): the user may have 10 threads (RLIMIT_NPROC, ulimit -u)";
    let health = ConnectionHealth::default();
    health.record_success();
    health.record_failure(Native::RD_KAFKA_RESP_ERR__AUTHENTICATION.into(), reason.to_owned(), Duration::ZERO);
    let error = health.fail_fast_error(Instant::now().checked_sub(FAIL_FAST_AFTER).unwrap()).unwrap();
    assert_eq!((error.kind(), error.is_retriable(), error.message()), (Kind::ResourceLimit, true, reason));
    assert!(health.rejection().is_none(), "pushes wait until the limit allows a token");
}

#[test]
fn name_lookup_prevented_by_a_limit_is_a_limit_error() {
    let reason = "localhost:9092/bootstrap: Failed to resolve 'localhost:9092': Too many open files";
    let health = ConnectionHealth::default();
    health.record_failure(Native::RD_KAFKA_RESP_ERR__RESOLVE.into(), reason.to_owned(), Duration::ZERO);
    let error = health.fail_fast_error(Instant::now().checked_sub(FAIL_FAST_AFTER).unwrap()).unwrap();
    assert_eq!((error.kind(), error.is_retriable()), (Kind::ResourceLimit, true));
    assert!(error.message().starts_with(reason) && error.message().contains("ulimit -n"), "{error}");

    let unknown = "h:1/bootstrap: Failed to resolve 'h:1': Name or service not known";
    let health = ConnectionHealth::default();
    health.record_failure(Native::RD_KAFKA_RESP_ERR__RESOLVE.into(), unknown.to_owned(), Duration::ZERO);
    assert!(health.fail_fast_error(Instant::now().checked_sub(FAIL_FAST_AFTER).unwrap()).is_none());
}
