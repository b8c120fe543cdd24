//! A worker's journal. Each entry is one line that is written at once, so that a worker which is
//! killed leaves everything that it recorded.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::run::{OrFail as _, Result};

/// Times are milliseconds since 1970; all processes of a run share one clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entry {
    /// A producer: the push with this number succeeded.
    Delivered {
        number: u64,
        partition: u32,
        id: Option<u64>,
        after_ms: u64,
        at: u64,
    },
    /// The push's future failed. If `possibly_persisted`, the event may be in the topic.
    Failed {
        number: u64,
        possibly_persisted: bool,
        status: String,
        kafka: Option<i32>,
        why: String,
        after_ms: u64,
        at: u64,
    },
    /// The call of `push` returned an error.
    Rejected {
        number: u64,
        status: String,
        kafka: Option<i32>,
        why: String,
        after_ms: u64,
        at: u64,
    },
    /// The push's future is still pending long after its limit.
    Unresolved {
        number: u64,
        after_ms: u64,
    },
    /// The number of pushes, which are numbered from 0; written once, when pushing ends.
    Pushed {
        count: u64,
    },
    /// A call with a time limit.
    Called {
        what: String,
        limit_ms: u64,
        took_ms: u64,
        outcome: String,
        at: u64,
    },
    /// A call that took longer than its limit, the permitted grace and the machine's own delay
    /// together.
    Late {
        what: String,
        limit_ms: u64,
        took_ms: u64,
        machine_ms: u64,
    },
    /// A consumer: an event arrived.
    Received {
        partition: u32,
        id: u64,
        producer: u32,
        number: u64,
        at: u64,
    },
    /// An event arrived whose content is not what was pushed.
    Corrupted {
        partition: u32,
        id: u64,
        why: String,
    },
    /// Written before the call that acknowledges the event; the next one after it succeeded.
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
    /// The acknowledgement was for an earlier assignment.
    Stale {
        partition: u32,
        id: u64,
    },
    Rebalanced {
        kind: String,
        partitions: Vec<u32>,
        at: u64,
    },
    /// A pull or another call failed.
    Error {
        status: String,
        kafka: Option<i32>,
        why: String,
        at: u64,
    },
    /// The worker has finished.
    Ended,
}

pub struct Journal(Mutex<File>);

impl Journal {
    pub fn create(path: &Path) -> Result<Self> {
        File::create(path).map(|file| Journal(Mutex::new(file))).or_fail(format_args!("creating {}", path.display()))
    }

    /// Writes the entry with one call, so that a killed worker leaves complete lines and at most
    /// one partial line at the end.
    pub fn write(&self, entry: &Entry) {
        let mut line = serde_json::to_vec(entry).expect("an entry always serializes");
        line.push(b'\n');
        let written = self.0.lock().unwrap_or_else(PoisonError::into_inner).write_all(&line);
        written.expect("writing the worker's journal");
    }
}

/// Reads a journal while a worker still writes it.
pub struct Reader {
    path: PathBuf,
    read: u64,
}

impl Reader {
    pub fn new(path: &Path) -> Self {
        Reader { path: path.to_owned(), read: 0 }
    }

    /// Reads the entries that were written since the last call. A partial line is left for the next
    /// call.
    pub fn read_new(&mut self) -> Result<Vec<Entry>> {
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
