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

use std::path::{Path, PathBuf};
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

/// The folder that cargo has built this program in, where it keeps a file about the compiler.
/// Builds with a sanitizer are in folders inside it.
pub fn target_folder() -> Result<PathBuf> {
    let program = std::env::current_exe().or_fail("looking for this program")?;
    let folder = program.ancestors().filter(|folder| folder.join(".rustc_info.json").is_file()).last();
    folder.map(Path::to_owned).ok_or_else(|| Failure(format!("{} is in no target folder of cargo", program.display())))
}

/// Returns a folder of this name in `target/tmp`, and creates it if it does not exist.
fn scratch_folder(name: &str) -> Result<PathBuf> {
    // cargo defines CARGO_TARGET_TMPDIR for integration tests only.
    let folder = target_folder()?.join("tmp").join(name);
    fs::create_dir_all(&folder).or_fail(format_args!("creating {}", folder.display()))?;
    folder.canonicalize().or_fail(format_args!("resolving {}", folder.display()))
}
