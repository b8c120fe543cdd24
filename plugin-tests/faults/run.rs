//! What a row of the matrix receives, and what it returns.

use std::fmt::Display;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// A row fails with a violated invariant, or with why it could not check it.
pub use octopus_testkit::{Failure, OrFail, Result, check, eventually};
use serde::{Deserialize, Serialize};

/// One run of one row.
pub struct Run {
    pub row: u8,
    /// The seed of all random choices, so that the run can be repeated.
    pub seed: u64,
    /// Whether this is a run of the full matrix; otherwise of its short form, of some seconds.
    pub full: bool,
    /// Contains logs, journals and the brokers' data; kept if the run fails.
    pub folder: PathBuf,
    started: Instant,
    log: Mutex<File>,
}

/// The result of a run that passed.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Tally {
    /// The number of events that were pushed or pulled and whose result was checked.
    pub events: u64,
    /// Measurements for the table, e.g. "back after 4.2 s".
    pub notes: Vec<String>,
}

impl Run {
    /// Creates the run's folder.
    pub fn new(row: u8, seed: u64, full: bool, folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).or_fail(format_args!("creating {}", folder.display()))?;
        let log = File::create(folder.join("run.log")).or_fail("creating the run's log")?;
        Ok(Run { row, seed, full, folder: folder.to_owned(), started: Instant::now(), log: Mutex::new(log) })
    }

    /// A random number generator with the run's seed.
    pub fn rng(&self) -> fastrand::Rng {
        fastrand::Rng::with_seed(self.seed)
    }

    /// Returns `share` in the short form and `whole` in the full matrix.
    pub fn pick<T>(&self, share: T, whole: T) -> T {
        if self.full { whole } else { share }
    }

    /// Prints a line of progress, and writes it to the run's log.
    pub fn report(&self, text: impl Display) {
        println!("row {:>2}  {:>6.1} s  {text}", self.row, self.started.elapsed().as_secs_f64());
        self.log(text);
    }

    /// Writes a line to the run's log.
    pub fn log(&self, text: impl Display) {
        let line = format!("{:>9.3} {text}\n", self.started.elapsed().as_secs_f64());
        let _ = self.log.lock().unwrap_or_else(PoisonError::into_inner).write_all(line.as_bytes());
    }
}
