//! What the tests of Octopus share: brokers, a proxy that injects faults, certificates, record
//! batches on a broker's disk, and the polling of conditions. It depends on nothing of Octopus.

#![warn(missing_docs)]

mod brokers;
pub mod certificates;
mod failure;
mod kafka;
pub mod log_segment;
mod polling;
pub mod proxy;
pub mod tools;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};
use std::{fs, process};

pub use brokers::Brokers;
pub use failure::{Failure, OrFail, Result, check};
pub use kafka::Kafka;
pub use polling::{eventually, poll};

/// Returns a name that is unique, also among other test runs on the same broker.
pub fn unique(name: &str) -> String {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    format!("{name}-{}-{}-{count}", now.as_millis(), process::id())
}

/// Returns a folder of this name in `target/tmp`, and creates it if it does not exist.
fn scratch_folder(name: &str) -> Result<PathBuf> {
    // cargo defines CARGO_TARGET_TMPDIR for integration tests only.
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/tmp")).join(name);
    fs::create_dir_all(&folder).or_fail(format_args!("creating {}", folder.display()))?;
    folder.canonicalize().or_fail(format_args!("resolving {}", folder.display()))
}
