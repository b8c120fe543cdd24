//! What a row of the matrix is given, and what it gives back.

use std::fmt::Display;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// What keeps a row from passing, in words: an invariant that was broken, or what kept it from being looked at.
pub type Result<T> = std::result::Result<T, Failure>;

/// One run of one row.
pub struct Run {
    /// The row's number, and which of its runs it is.
    pub row: u8,
    /// All chance comes from here, so that the run can be made again.
    pub seed: u64,
    /// Whether it is the whole matrix, or a share of it that takes some seconds.
    pub full: bool,
    /// Kept when the run fails: logs, journals, brokers' data.
    pub folder: PathBuf,
    started: Instant,
    log: Mutex<File>,
}

/// What a run that passed has to show for it.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Tally {
    /// Events that were pushed or pulled, each with its fate known.
    pub events: u64,
    /// Figures worth a line in the table: "back after 4.2 s".
    pub notes: Vec<String>,
}

/// An error that says what was being done.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Failure(pub String);

impl Run {
    /// Makes the run's folder, which must not be there yet.
    pub fn new(row: u8, seed: u64, full: bool, folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).or_fail(format_args!("making {}", folder.display()))?;
        let log = File::create(folder.join("run.log")).or_fail("making the run's log")?;
        Ok(Run { row, seed, full, folder: folder.to_owned(), started: Instant::now(), log: Mutex::new(log) })
    }

    /// Chance, the same for each run of this seed.
    pub fn chance(&self) -> fastrand::Rng {
        fastrand::Rng::with_seed(self.seed)
    }

    /// `share` for CI, `whole` for the whole matrix.
    pub fn pick<T>(&self, share: T, whole: T) -> T {
        if self.full { whole } else { share }
    }

    /// Shows progress, and keeps it in the run's log.
    pub fn say(&self, text: impl Display) {
        println!("row {:>2}  {:>6.1} s  {text}", self.row, self.started.elapsed().as_secs_f64());
        self.keep(text);
    }

    /// Keeps a line in the run's log alone.
    pub fn keep(&self, text: impl Display) {
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

/// Turns what a library says into what the run was doing when it said it.
pub trait OrFail<T> {
    fn or_fail(self, doing: impl Display) -> Result<T>;
}

impl<T, E: Display> OrFail<T> for std::result::Result<T, E> {
    fn or_fail(self, doing: impl Display) -> Result<T> {
        self.map_err(|why| Failure(format!("{doing}: {why}")))
    }
}

/// `Ok` if it holds, or what was expected and isn't so.
pub fn check(holds: bool, expected: impl Display) -> Result<()> {
    if holds { Ok(()) } else { Err(Failure::new(expected)) }
}

/// Looks every few milliseconds until `look` finds something.
pub fn eventually<T>(what: impl Display, at_most: Duration, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let started = Instant::now();
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        check(started.elapsed() < at_most, format_args!("waited {at_most:?} in vain until {what}"))?;
        std::thread::sleep(Duration::from_millis(20));
    }
}
