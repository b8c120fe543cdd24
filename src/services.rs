//! What the host provides to a driver: where messages and statistics go, who hears of fatal errors and
//! rebalances. Shared by everything that the driver makes.

use std::io::Write as _;
use std::sync::Arc;

use crate::auth::TokenSource;
use crate::error::Result;
use crate::process_exit;
use log::{Level, LevelFilter, Metadata, Record};

/// Called with the client's name and librdkafka's statistics as JSON.
pub type OnStatistics = dyn Fn(&str, &str) + Send + Sync;
/// Called with the client's name, librdkafka's code and the reason.
pub type OnFatal = dyn Fn(&str, i32, &str) + Send + Sync;
/// Gives the text of the header `authorization` for the topic service.
pub type ProvideAuthorization = dyn Fn() -> Result<String> + Send + Sync;
/// Called with the consumer's name, what happened, and the partitions.
pub type OnRebalance = dyn Fn(&str, Rebalance, &[u32]) + Send + Sync;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rebalance {
    Assigned,
    Revoked,
    /// Another member may own them already: what was acknowledged and not committed is read again.
    Lost,
}

#[derive(Clone)]
pub struct Services {
    pub log: Arc<dyn log::Log>,
    pub statistics: Option<Arc<OnStatistics>>,
    pub fatal: Option<Arc<OnFatal>>,
    pub rebalance: Option<Arc<OnRebalance>>,
    /// Makes tokens for SASL OAUTHBEARER.
    pub token: Option<Arc<dyn TokenSource>>,
    pub authorization: Option<Arc<ProvideAuthorization>>,
    /// The host has the components of its topics itself, and gives its events with what prepares them.
    pub has_components: bool,
}

impl Default for Services {
    fn default() -> Self {
        Services {
            log: Arc::new(StandardError),
            statistics: None,
            fatal: None,
            rebalance: None,
            token: None,
            authorization: None,
            has_components: false,
        }
    }
}

/// Warnings and errors on the standard error stream: what a host gets that provides no log of its own.
struct StandardError;

impl log::Log for StandardError {
    fn enabled(&self, metadata: &Metadata) -> bool {
        metadata.level() <= Level::Warn && !process_exit::has_begun()
    }

    fn log(&self, record: &Record) {
        if self.enabled(record.metadata()) {
            let level = record.level().as_str().to_lowercase();
            // Nobody may read it any more, which is no reason to panic.
            let _ = writeln!(std::io::stderr(), "[octopus:{level}] {}: {}", record.target(), record.args());
        }
    }

    fn flush(&self) {}
}

/// Hands every message to a function, of whatever level: the host filters.
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

/// The facade filters by a process-wide level before it asks a logger; ours decide for themselves.
pub fn enable_all_log_levels() {
    log::set_max_level(LevelFilter::Trace);
}
