//! What every other module needs: errors, deadlines, threads, callbacks of the host, and the
//! detection of forks, panics and resource limits.

pub mod callbacks;
pub mod deadline;
pub mod error;
pub mod exit_signals;
pub mod flagged;
pub mod fork;
pub mod log_throttle;
pub mod poison;
pub mod process_exit;
pub mod protection;
pub mod resource_limit;
pub mod services;
pub mod similar;
/// cbindgen:ignore
pub mod stack;
pub mod sync;
pub mod thread_pool;
pub mod threads;
pub mod token;
