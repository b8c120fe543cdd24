//! The summary of a run: a table with one line per row, for the terminal and for
//! docs/reliability.md.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::run::{Failure, Tally};

/// All runs of one row.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Line {
    pub row: u8,
    #[serde(skip)]
    pub fault: &'static str,
    #[serde(skip)]
    pub invariant: &'static str,
    pub runs: u32,
    pub seconds: u64,
    pub tally: Tally,
    /// The seed and the failure of each run that failed.
    pub failures: Vec<(u64, Failure)>,
}

impl Line {
    fn result(&self) -> String {
        match self.failures.as_slice() {
            [] if self.tally.notes.is_empty() => "holds".to_owned(),
            [] => format!("holds; {}", self.tally.notes.join("; ")),
            failures => {
                let failed = failures.iter().map(|(seed, why)| format!("seed {seed}: {why}"));
                format!("FAILED: {}", failed.collect::<Vec<_>>().join(" | "))
            }
        }
    }
}

/// Formats the lines as a Markdown table.
pub fn markdown(lines: &[Line]) -> String {
    let mut text = "| row | fault | runs | events | seconds | invariant | result |\n".to_owned();
    text.push_str("| --- | --- | --- | --- | --- | --- | --- |\n");
    for line in lines {
        let (row, runs, events, seconds) = (line.row, line.runs, thousands(line.tally.events), line.seconds);
        let result = line.result().replace('\n', " ").replace('|', "/");
        let (fault, invariant) = (line.fault, line.invariant);
        let _ = writeln!(text, "| {row} | {fault} | {runs} | {events} | {seconds} | {invariant} | {result} |");
    }
    text
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| str::from_utf8(group).unwrap_or("?")).collect();
    groups.join(",")
}
