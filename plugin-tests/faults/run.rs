//! What a row of the matrix receives, and what it returns.

use std::fmt::Display;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// The error describes a violated invariant, or why the row could not check it.
pub type Result<T> = std::result::Result<T, Failure>;

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

/// An error with the operation that failed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Failure(pub String);

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

impl Failure {
    pub fn new(text: impl Display) -> Self {
        Failure(text.to_string())
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Adds the operation that failed to an error.
pub trait OrFail<T> {
    fn or_fail(self, doing: impl Display) -> Result<T>;
}

impl<T, E: Display> OrFail<T> for std::result::Result<T, E> {
    fn or_fail(self, doing: impl Display) -> Result<T> {
        self.map_err(|why| Failure(format!("{doing}: {why}")))
    }
}

/// Fails with `expected`, a statement of what should hold, if it doesn't.
pub fn check(holds: bool, expected: impl Display) -> Result<()> {
    if holds { Ok(()) } else { Err(Failure::new(expected)) }
}

/// Calls `look` every 20 ms until it returns a value.
pub fn eventually<T>(what: impl Display, timeout: Duration, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let started = Instant::now();
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        check(started.elapsed() < timeout, format_args!("timed out after {timeout:?} waiting until {what}"))?;
        std::thread::sleep(Duration::from_millis(20));
    }
}
