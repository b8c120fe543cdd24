//! The services that the host provides to a driver: a log, and callbacks for statistics, fatal
//! errors, rebalances and credentials. All objects of the driver share them.

use std::io::Write as _;
use std::sync::Arc;

use crate::support::error::Result;
use crate::support::process_exit;
use crate::support::token::TokenSource;
use log::{Level, LevelFilter, Metadata, Record};

/// Called with the client's name and librdkafka's statistics as JSON.
pub type OnStatistics = dyn Fn(&str, &str) + Send + Sync;
/// Called with the client's name, librdkafka's code and the reason.
pub type OnFatal = dyn Fn(&str, i32, &str) + Send + Sync;
/// Returns the value of the header `authorization` for the topic service.
pub type AuthorizationProvider = dyn Fn() -> Result<String> + Send + Sync;
/// Called with the consumer's name, the change, and the partitions.
pub type OnRebalance = dyn Fn(&str, Rebalance, &[u32]) + Send + Sync;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rebalance {
    Assigned,
    Revoked,
    /// Another member may own the partitions already. Events that were acknowledged and not
    /// committed are read again.
    Lost,
}

#[derive(Clone)]
pub struct Services {
    pub log: Arc<dyn log::Log>,
    pub statistics: Option<Arc<OnStatistics>>,
    pub fatal: Option<Arc<OnFatal>>,
    pub rebalance: Option<Arc<OnRebalance>>,
    /// Provides tokens for SASL OAUTHBEARER.
    pub token: Option<Arc<dyn TokenSource>>,
    pub authorization: Option<Arc<AuthorizationProvider>>,
    /// The host runs the components of its topics itself, and pushes events with a preparation.
    pub has_components: bool,
}

impl Default for Services {
    fn default() -> Self {
        Services {
            log: Arc::new(StderrLog),
            statistics: None,
            fatal: None,
            rebalance: None,
            token: None,
            authorization: None,
            has_components: false,
        }
    }
}

/// The log of a host that provides none: writes warnings and errors to stderr.
struct StderrLog;

impl log::Log for StderrLog {
    fn enabled(&self, metadata: &Metadata) -> bool {
        metadata.level() <= Level::Warn && !process_exit::has_begun()
    }

    fn log(&self, record: &Record) {
        if self.enabled(record.metadata()) {
            let level = record.level().as_str().to_lowercase();
            // `eprintln!` would panic if stderr is closed.
            let _ = writeln!(std::io::stderr(), "[octopus:{level}] {}: {}", record.target(), record.args());
        }
    }

    fn flush(&self) {}
}

/// Passes messages of all levels to a function of the host, which filters them.
pub struct LogFunction<F>(pub F);

impl<F: Fn(Level, &str, &str) + Send + Sync> log::Log for LogFunction<F> {
    fn enabled(&self, _: &Metadata) -> bool {
        true
    }

    fn log(&self, record: &Record) {
        (self.0)(record.level(), record.target(), &record.args().to_string());
    }

    fn flush(&self) {}
}

/// Disables the process-wide level filter of the crate `log`: the loggers here filter by
/// themselves.
pub fn enable_all_log_levels() {
    log::set_max_level(LevelFilter::Trace);
}
