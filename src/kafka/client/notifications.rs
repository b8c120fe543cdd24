//! What librdkafka reports to a client, handed to the host's services: log lines, statistics,
//! errors and requests for a token.

use std::ffi::c_char;
use std::time::Duration;

use rdkafka::bindings as rd;
use rdkafka::types::RDKafkaErrorCode;

use super::Client;
use crate::kafka::librdkafka::codes::{self, Code};
use crate::kafka::librdkafka::errors;
use crate::kafka::librdkafka::log_messages::{self, LogMessage};
use crate::kafka::librdkafka::queue::QueueEvent;
use crate::kafka::librdkafka::text::text;
use crate::kafka::token;
use crate::support::error::Error;

impl Client {
    /// Passes a log message, statistics or a client-wide error to the host's services. Returns the
    /// code of an error.
    pub fn serve(&self, event: &QueueEvent) -> Option<RDKafkaErrorCode> {
        match event.kind() {
            rd::RD_KAFKA_EVENT_LOG => {
                self.forward_log(event);
                None
            }
            rd::RD_KAFKA_EVENT_STATS => {
                if let Some(statistics) = &self.services.statistics {
                    // SAFETY: `event` is alive.
                    let json = unsafe { rd::rd_kafka_event_stats(event.as_ptr()) };
                    // SAFETY: the text is NUL-terminated and belongs to `event`.
                    let json = unsafe { text(json) };
                    self.names.all().iter().for_each(|name| statistics(name, &json));
                }
                None
            }
            rd::RD_KAFKA_EVENT_ERROR => Some(self.record_error(event)),
            rd::RD_KAFKA_EVENT_OAUTHBEARER_TOKEN_REFRESH => {
                self.renew_token(token::Cause::Due);
                None
            }
            _ => None,
        }
    }

    fn forward_log(&self, event: &QueueEvent) {
        let (mut facility, mut message, mut level): (*const c_char, *const c_char, i32) =
            (std::ptr::null(), std::ptr::null(), 0);
        // SAFETY: `event` is alive and the pointers are writable; the texts live as long as the
        // event.
        let failed = unsafe { rd::rd_kafka_event_log(event.as_ptr(), &mut facility, &mut message, &mut level) };
        if failed != 0 {
            return;
        }
        // SAFETY: the call succeeded, so it is a NUL-terminated text that lives as long as `event`.
        let facility = unsafe { text(facility) };
        // SAFETY: as above.
        let message = unsafe { text(message) };
        let meaning = LogMessage::interpret(&facility, &message);
        let is_ignored_property = meaning == LogMessage::PropertyIgnored;
        let is_connection_failure = log_messages::is_connection_failure(&facility);
        self.record_log_failure(meaning);
        if is_connection_failure && !self.first_contact.has_reached() {
            // Some failures, such as a timeout, are no error events.
            self.first_contact.note_failure(log_messages::without_thread(&message));
        }
        // librdkafka's levels are syslog's.
        let level = match level {
            // The driver's properties apply to producers and consumers; each ignores some of them.
            _ if is_ignored_property => log::Level::Debug,
            // An error event with the same text follows.
            3 if is_connection_failure => log::Level::Debug,
            ..=2 => log::Level::Error,
            // librdkafka recovers by itself.
            3 | 4 => log::Level::Warn,
            5 | 6 => log::Level::Info,
            _ if !self.logs_debug_messages => return,
            _ => log::Level::Debug,
        };
        log::log!(logger: self.log(), target: &self.name(), level, "{facility}: {message}");
    }

    /// Records a failure that librdkafka reports only in its log although it prevents connections.
    fn record_log_failure(&self, meaning: LogMessage<'_>) {
        use rd::rd_kafka_resp_err_t::{RD_KAFKA_RESP_ERR__FAIL, RD_KAFKA_RESP_ERR__SSL, RD_KAFKA_RESP_ERR__TRANSPORT};
        let (code, reason) = match meaning {
            LogMessage::CertificateRefused(reason) => (RD_KAFKA_RESP_ERR__SSL, reason),
            LogMessage::ConnectionClosed(reason) => (RD_KAFKA_RESP_ERR__TRANSPORT, reason.to_owned()),
            // The delivery report of a rejected record says only that its delivery timed out.
            LogMessage::ProducerRejected(reason) => (RD_KAFKA_RESP_ERR__FAIL, reason.to_owned()),
            LogMessage::PropertyIgnored | LogMessage::Other => return,
        };
        self.record_failure(code.into(), reason, Duration::ZERO);
    }

    fn record_failure(&self, code: Code, reason: String, patience: Duration) {
        // librdkafka's own requests, such as fetches, are not recorded as successes.
        if !self.health.has_succeeded() && self.handle.knows_cluster() {
            self.health.record_earlier_success();
        }
        self.health.record_failure(code, reason, patience);
    }

    fn renew_token(&self, cause: token::Cause) {
        if let Some(source) = &self.tokens {
            let (config, log) = (self.token_config.clone(), self.services.log.clone());
            token::renew(&self.handle, cause, &self.name(), source, config, log);
        }
    }

    fn record_error(&self, event: &QueueEvent) -> RDKafkaErrorCode {
        let code = event.error();
        let reason = event.error_text();
        // SAFETY: `event` is alive.
        if unsafe { rd::rd_kafka_event_error_is_fatal(event.as_ptr()) } != 0 || is_fatal(code) {
            self.report_fatal_error(self.query_fatal_error().unwrap_or_else(|| self.fatal_error_of(code, &reason)));
        } else {
            self.first_contact.note_failure(&reason);
            let level = self.log_level(code);
            log::log!(logger: self.log(), target: &self.name(), level, "{}: {reason}", errors::describe(code));
            let mut patience = Duration::ZERO;
            if let Some(tokens) = &self.tokens
                && is_authentication(code)
                && log_messages::is_token_refused(&reason)
            {
                patience = tokens.rejection_grace();
                if self.token_refusal.note() {
                    self.renew_token(token::Cause::Refused);
                }
            }
            self.record_failure(code, reason, patience);
        }
        RDKafkaErrorCode::from(code)
    }

    fn log_level(&self, code: Code) -> log::Level {
        match RDKafkaErrorCode::from(code) {
            // The failure of the last broker has been logged already.
            RDKafkaErrorCode::AllBrokersDown => log::Level::Info,
            // `warn_unless_reached` logs one line for all addresses.
            RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::Resolve if !self.has_reached() => {
                log::Level::Info
            }
            _ => log::Level::Warn,
        }
    }

    /// Asks librdkafka for the client's fatal error. It is set before the error event arrives and
    /// before the delivery report of the event that caused it.
    pub fn query_fatal_error(&self) -> Option<Error> {
        let mut buffer = [0 as c_char; 512];
        // SAFETY: `self.handle` keeps the client alive; the buffer has the given length.
        let code = unsafe { codes::rd_kafka_fatal_error(self.handle.as_ptr(), buffer.as_mut_ptr(), buffer.len()) };
        // SAFETY: the buffer is zeroed, and librdkafka terminates a text in it.
        let reason = unsafe { text(buffer.as_ptr()) };
        code.is_error().then(|| self.fatal_error_of(code, &reason))
    }

    fn fatal_error_of(&self, code: Code, reason: &str) -> Error {
        let error = errors::error(code, reason);
        let error = if self.is_transactional { errors::of_transaction(error) } else { error };
        error.context(format_args!("{} has a fatal error, create a new one", self.name()))
    }

    fn report_fatal_error(&self, error: Error) {
        let is_first = self.fatal.lock().replace(error.clone()).is_none();
        if !is_first {
            return;
        }
        log::error!(logger: self.log(), target: &self.name(), "{error}");
        if let Some(fatal) = &self.services.fatal {
            let names = self.names.all();
            names.iter().for_each(|name| fatal(name, error.kafka_code().unwrap_or(0), error.message()));
        }
    }
}

fn is_authentication(code: Code) -> bool {
    matches!(
        RDKafkaErrorCode::from(code),
        RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed
    )
}

fn is_fatal(code: Code) -> bool {
    RDKafkaErrorCode::from(code) == RDKafkaErrorCode::Fatal
}
