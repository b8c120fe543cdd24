//! What the topics of a driver, their producers and their consumers share with it.

use std::sync::Arc;
use std::time::Duration;

use crate::components::Registry;
use crate::config::RecordFormats;
use crate::kafka::Connection;
use crate::support::thread_pool::ThreadPool;

/// The part of a driver that lives as long as anything that was opened with it.
pub struct DriverContext {
    pub connection: Connection,
    /// The thread pool of producers and consumers without one of their own. It has no threads: its
    /// tasks run in the caller.
    pub default_pool: Arc<ThreadPool>,
    /// The longest time that a call waits for brokers.
    pub timeout: Duration,
    /// The format of records, unless a producer or consumer has its own option.
    pub records: RecordFormats,
    /// The components that the host registered. They are destroyed with the context.
    pub registry: Registry,
}
