//! Requests to brokers: how long a client waits for the response, and the error if none arrives.

use std::time::{Duration, Instant};

use rdkafka::bindings as rd;

use super::Client;
use crate::kafka::librdkafka::codes::{self, Code};
use crate::kafka::librdkafka::errors;
use crate::support::deadline::{Deadline, as_millis_rounded_up};
use crate::support::error::{Error, Kind, Result};

impl Client {
    /// Repeats a blocking call of librdkafka, which gets its timeout in milliseconds, until it
    /// succeeds. The timeouts are short, so that a failure that prevents the response is noticed
    /// between two calls, and grow, so that a slow broker has time to respond.
    pub fn request(
        &self,
        deadline: Deadline,
        operation: impl std::fmt::Display,
        mut call: impl FnMut(i32) -> Code,
    ) -> Result<()> {
        /// A failure during a call is reported this much later.
        const MAX_SLICE: Duration = Duration::from_secs(10);
        const MIN_SLICE: Duration = Duration::from_millis(100);
        let began = Instant::now();
        let mut slice = Duration::from_secs(1);
        loop {
            let code = call(as_millis_rounded_up(deadline.remaining(slice)));
            if !code.is_error() {
                self.health.record_success();
                return Ok(());
            }
            self.check_wait(began, &operation)?;
            if deadline.has_passed() || !errors::is_unreachable(code.into()) {
                return Err(self.request_error(code, "", operation));
            }
            slice = (slice * 2).min(MAX_SLICE);
            if let Some(remaining) = self.time_until_unreached(began) {
                slice = slice.min(remaining).max(MIN_SLICE);
            }
        }
    }

    /// The reason of the latest failure, for error messages.
    pub fn last_failure(&self) -> Option<String> {
        self.handle.limit_error().map(|error| error.message().to_owned()).or_else(|| self.health.reason())
    }

    /// Why a record was not acknowledged in time. librdkafka's error of a timeout has no reason.
    pub fn timeout_reason(&self) -> String {
        match self.last_failure() {
            Some(reason) => format!("the last error was: {reason}"),
            None => format!("no acknowledgement in time from {}", self.bootstrap_servers),
        }
    }

    /// Fails if a persistent failure prevents the response to a request that began at `began`.
    pub fn check_wait(&self, began: Instant, operation: impl std::fmt::Display) -> Result<()> {
        match self.limit_error_of_wait(began).or_else(|| self.health.fail_fast_error(began)) {
            Some(error) => Err(error.context(format_args!("{operation}, connecting to {}", self.bootstrap_servers))),
            None => self.unreached(Some(began), operation).map_or(Ok(()), Err),
        }
    }

    /// The resource limit that prevents connections, if the wait has lasted for some time: a
    /// program may have many files open for a moment only.
    fn limit_error_of_wait(&self, began: Instant) -> Option<Error> {
        const PATIENCE: Duration = Duration::from_secs(2);
        if began.elapsed() >= PATIENCE { self.handle.limit_error() } else { None }
    }

    /// The persistent failure that has prevented connections for a while, if there is one.
    pub fn persistent_error(&self) -> Option<Error> {
        self.handle.limit_error().or_else(|| self.health.persistent_error())
    }

    /// Fails if such a failure is certain, so that new pushes are rejected.
    pub fn check_connection(&self) -> Result<()> {
        self.health.rejection().map_or(Ok(()), Err)
    }

    /// Records that a broker has processed a request.
    pub fn record_success(&self) {
        self.health.record_success();
    }

    /// The failure because of which brokers have never accepted this client. Records that wait for
    /// a connection fail with it.
    pub fn never_connected_error(&self) -> Option<Error> {
        self.health.never_connected_error()
    }

    /// Probes the brokers from time to time while there is a persistent failure; without a probe,
    /// calls that are rejected meanwhile would be rejected for ever. Returns whether it probed.
    /// Called by the thread that serves this client.
    pub fn probe_if_due(&self) -> bool {
        let due = self.health.needs_probe();
        if due && self.is_reachable() {
            self.health.record_success();
        }
        due
    }

    /// Whether a broker responds now.
    pub fn is_reachable(&self) -> bool {
        const TIMEOUT_MS: i32 = 200;
        let mut metadata = std::ptr::null();
        let no_topic = std::ptr::null_mut();
        // SAFETY: `self.handle` keeps the client alive, and `metadata` is writable.
        let code = unsafe { codes::rd_kafka_metadata(self.handle.as_ptr(), 0, no_topic, &mut metadata, TIMEOUT_MS) };
        let is_reachable = !code.is_error();
        if is_reachable {
            // SAFETY: the successful request has set `metadata`, which this function owns.
            unsafe { rd::rd_kafka_metadata_destroy(metadata) };
        }
        is_reachable
    }

    /// The error if no broker responded in time. It names the bootstrap servers and the latest
    /// failure.
    pub fn unreachable(&self, operation: impl std::fmt::Display) -> Error {
        let reason = match self.last_failure() {
            Some(reason) => format!("; the last error was: {reason}"),
            None => String::new(),
        };
        Error::new(
            Kind::Unreachable,
            format!("{operation}: no response in time from {}{reason}", self.bootstrap_servers),
        )
        .retriable(true)
    }

    /// The error of a request. If no broker was reachable, it names the bootstrap servers.
    pub fn request_error(&self, code: Code, reason: &str, operation: impl std::fmt::Display) -> Error {
        match errors::is_unreachable(code.into()) {
            true => self.unreachable(operation).with_kafka_code(code.number()),
            false => errors::error(code, reason).context(operation),
        }
    }
}
