//! What a worker writes down, a line each, at once: whatever happens to the worker, what it saw is there.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::run::{OrFail as _, Result};

/// Times are milliseconds since 1970, as all processes of a run share one clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entry {
    /// A producer: the push of this number succeeded.
    Delivered {
        number: u64,
        partition: u32,
        id: Option<u64>,
        after_ms: u64,
        at: u64,
    },
    /// The future of this push failed; perhaps the event is there all the same.
    Failed {
        number: u64,
        perhaps: bool,
        status: String,
        kafka: Option<i32>,
        why: String,
        after_ms: u64,
        at: u64,
    },
    /// The push itself was refused.
    Refused {
        number: u64,
        status: String,
        kafka: Option<i32>,
        why: String,
        after_ms: u64,
        at: u64,
    },
    /// The future of this push has not ended long after it should have.
    Unanswered {
        number: u64,
        after_ms: u64,
    },
    /// How many numbers were pushed, from 0 on; written once, when pushing ends.
    Pushed {
        count: u64,
    },
    /// A call with a time limit.
    Called {
        what: String,
        limit_ms: u64,
        took_ms: u64,
        said: String,
        at: u64,
    },
    /// A call that took longer than its limit, the grace that calls are given, and what the machine itself was late.
    Late {
        what: String,
        limit_ms: u64,
        took_ms: u64,
        machine_ms: u64,
    },
    /// A consumer: an event came.
    Got {
        partition: u32,
        id: u64,
        producer: u32,
        number: u64,
        at: u64,
    },
    /// An event came that isn't what was pushed.
    Spoiled {
        partition: u32,
        id: u64,
        why: String,
    },
    /// The event is about to be acknowledged, and was.
    Acknowledging {
        partition: u32,
        id: u64,
        at: u64,
    },
    Acknowledged {
        partition: u32,
        id: u64,
        at: u64,
    },
    /// It belonged to an earlier assignment.
    Stale {
        partition: u32,
        id: u64,
    },
    Rebalanced {
        how: String,
        partitions: Vec<u32>,
        at: u64,
    },
    /// A pull, or another call, failed.
    Said {
        status: String,
        kafka: Option<i32>,
        why: String,
        at: u64,
    },
    /// The worker has come to its end.
    Ended,
}

pub struct Journal(Mutex<File>);

impl Journal {
    pub fn create(path: &Path) -> Result<Self> {
        File::create(path).map(|file| Journal(Mutex::new(file))).or_fail(format_args!("making {}", path.display()))
    }

    /// One write, so that a worker that is killed leaves whole lines, or half of its last one.
    pub fn write(&self, entry: &Entry) {
        let mut line = serde_json::to_vec(entry).expect("entries are plain");
        line.push(b'\n');
        let written = self.0.lock().unwrap_or_else(PoisonError::into_inner).write_all(&line);
        written.expect("a worker that can't keep its journal is of no use");
    }
}

/// A journal that somebody else still writes.
pub struct Reader {
    path: PathBuf,
    read: u64,
}

impl Reader {
    pub fn new(path: &Path) -> Self {
        Reader { path: path.to_owned(), read: 0 }
    }

    /// What has come since the last call. Half a line is left for the next one.
    pub fn news(&mut self) -> Result<Vec<Entry>> {
        let doing = format!("reading {}", self.path.display());
        let Ok(mut file) = OpenOptions::new().read(true).open(&self.path) else { return Ok(Vec::new()) };
        file.seek(SeekFrom::Start(self.read)).or_fail(&doing)?;
        let (mut from, mut line, mut entries) = (BufReader::new(file), Vec::new(), Vec::new());
        while from.read_until(b'\n', &mut line).or_fail(&doing)? > 0 && line.ends_with(b"\n") {
            self.read += line.len() as u64;
            entries.push(serde_json::from_slice(&line).or_fail(&doing)?);
            line.clear();
        }
        Ok(entries)
    }
}

pub fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
