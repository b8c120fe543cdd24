//! The rows of the matrix, and the running of them.

mod broker_errors;
mod brokers_and_network;
mod consumers;
mod damaged;
mod futures;
mod host;
mod members;
mod mock;
mod no_broker;
mod no_room;
mod open_and_close;
mod oracle_itself;
mod others;
mod own_broker;
mod process;
mod records;
mod recreated;
mod topics;
mod unclean_election;

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use std::{fs, panic, thread};

use serde::{Deserialize, Serialize};

use crate::brokers::Brokers;
use crate::options::Options;
use crate::run::{Failure, OrFail as _, Result, Run, Tally};
use crate::table::{self, Line};

/// One line of the matrix.
struct Row {
    number: u8,
    fault: &'static str,
    invariant: &'static str,
    /// How often: in CI, and in the whole matrix.
    runs: (u32, u32),
    act: Act,
}

type OnBrokers = fn(&Run, &mut Brokers) -> Result<Tally>;

#[derive(Clone, Copy)]
enum Act {
    /// On so many brokers, which the next row finds well again.
    On(usize, OnBrokers),
    /// On brokers of its own, beside all others: it takes an hour.
    Beside(usize, OnBrokers),
    /// With what it makes itself.
    Alone(fn(&Run) -> Result<Tally>),
    /// As that, in a process of its own, since it counts what that has.
    Counting(fn(&Run) -> Result<Tally>),
}

#[rustfmt::skip]
const ROWS: &[Row] = &[
    Row { number: 0, fault: "the oracle itself: one event lost, doubled, swapped, swallowed on purpose", invariant: "each is found", runs: (1, 5), act: Act::On(1, oracle_itself::run) },
    Row { number: 1, fault: "broker crash", invariant: "goes on within 15 s", runs: (1, 5), act: Act::On(1, brokers_and_network::crash) },
    Row { number: 2, fault: "leader, follower, controller lost", invariant: "no push fails", runs: (1, 3), act: Act::On(3, brokers_and_network::replicas_lost) },
    Row { number: 3, fault: "a broker stands still, 1 to 60 s", invariant: "no early and no late time-outs", runs: (1, 6), act: Act::On(1, brokers_and_network::pause) },
    Row { number: 4, fault: "too few replicas", invariant: "errors only after the delivery time-out", runs: (1, 5), act: Act::On(3, brokers_and_network::too_few_replicas) },
    Row { number: 5, fault: "connections reset, in requests and in answers", invariant: "none twice", runs: (1, 5), act: Act::On(1, brokers_and_network::resets) },
    Row { number: 6, fault: "delay, one byte at a time, black hole", invariant: "flush and close return on time", runs: (1, 5), act: Act::On(1, brokers_and_network::slow_network) },
    Row { number: 7, fault: "answers with bits turned", invariant: "error or retry; no crash, nothing lost or spoiled", runs: (1, 10), act: Act::On(1, brokers_and_network::corruption) },
    Row { number: 8, fault: "every error code that a produce can get, fatal ones too", invariant: "permanent ones on their own future; retriable ones delivered or timed out, naming the last; after a fatal one pushes fail at once", runs: (1, 3), act: Act::Alone(broker_errors::run) },
    Row { number: 9, fault: "queue full", invariant: "push waits, then fails with a reason; memory bounded", runs: (1, 3), act: Act::Alone(no_room::run) },
    Row { number: 10, fault: "no broker at all", invariant: "every call ends in its time, names the address", runs: (1, 3), act: Act::Alone(no_broker::run) },
    Row { number: 11, fault: "consumer killed after a random acknowledgement", invariant: "the next starts no later than after the last acknowledged", runs: (1, 5), act: Act::On(1, consumers::killed) },
    Row { number: 12, fault: "acknowledgements out of order, and from an earlier assignment", invariant: "the highest counts, stale ones change nothing", runs: (1, 5), act: Act::On(1, consumers::out_of_order) },
    Row { number: 13, fault: "members join and leave every 2 s", invariant: "all seen, only unacknowledged ones again", runs: (1, 3), act: Act::On(1, consumers::rebalances) },
    Row { number: 14, fault: "topic deleted, recreated, given more partitions; records expired", invariant: "an error or a documented reset, never silence", runs: (1, 3), act: Act::On(1, topics::run) },
    Row { number: 15, fault: "malformed records", invariant: "an error on that event, the next is read", runs: (1, 2), act: Act::On(1, records::malformed) },
    Row { number: 16, fault: "TLS: wrong CA, wrong host, expired, plain port", invariant: "never connects, says why within 10 s", runs: (1, 1), act: Act::Alone(others::tls) },
    Row { number: 17, fault: "SASL: wrong password; ACL: write, read, group, create denied, revoked", invariant: "errors on push and pull within 10 s, again and again", runs: (1, 1), act: Act::Alone(others::access) },
    Row { number: 18, fault: "MSK tokens: expired, badly signed, slow, failing, idle", invariant: "renewed without the host, nothing lost", runs: (1, 1), act: Act::Alone(others::tokens) },
    Row { number: 19, fault: "open, use, close, with futures and events held, brokers down", invariant: "close in 5 s; descriptors, threads, memory as before", runs: (1, 1), act: Act::Counting(open_and_close::run) },
    Row { number: 20, fault: "16 threads wait, drop, wait after close", invariant: "none hangs", runs: (1, 1), act: Act::Alone(futures::run) },
    Row { number: 21, fault: "an hour of 1 to 6 at random", invariant: "as above; memory flat", runs: (1, 1), act: Act::Beside(3, brokers_and_network::an_hour) },
    Row { number: 22, fault: "a panic in every slot, NULL in every argument, older structs, valgrind", invariant: "no report, no unwind across C", runs: (1, 1), act: Act::Alone(others::memory) },
    Row { number: 23, fault: "the program exits: return, exit, handlers, signals, callbacks, threads that push", invariant: "what was pushed is there, or counted on stderr", runs: (1, 2), act: Act::Alone(others::process_exit) },
    Row { number: 24, fault: "fork, whatever the parent does; children of children", invariant: "child and parent work, nothing lost", runs: (1, 2), act: Act::Alone(others::fork) },
    Row { number: 25, fault: "a thread or a descriptor that can't be had, at each place; then it can", invariant: "an error that names the limit; no abort, hang or leak; works again", runs: (1, 2), act: Act::Alone(others::resource_limits) },
    Row { number: 26, fault: "batches that can't be decoded: each codec, damaged in each way, on the way and on disk", invariant: "each offset is delivered or reported once, in order; nothing intact is passed over", runs: (1, 1), act: Act::On(1, damaged::run) },
    Row { number: 27, fault: "topic deleted and created again, leader epochs lower, equal, higher", invariant: "pushes and pulls go on within 30 s; no position of the old topic counts in the new one", runs: (1, 2), act: Act::On(3, recreated::run) },
    Row { number: 28, fault: "limits that differ between producer, topic, broker and consumer", invariant: "a standing error within 10 s that names the property and the value", runs: (1, 2), act: Act::Alone(others::limits) },
    Row { number: 29, fault: "addresses: refused, unknown, silent, one of several", invariant: "reported in time, with each reason", runs: (1, 2), act: Act::Alone(others::addresses) },
    Row { number: 30, fault: "transactions: markers, aborted, open, last", invariant: "nothing aborted shows, the lag is 0 in the end", runs: (1, 2), act: Act::Alone(others::transactions) },
    Row { number: 31, fault: "members of a group stop, continue, join, leave: static, cooperative-sticky, KIP-848", invariant: "none lost, none silent, no busy loop; a close without an error", runs: (1, 3), act: Act::On(1, members::run) },
    Row { number: 32, fault: "certificates, credentials, tokens, service authorization that change while running", invariant: "used without a new driver", runs: (1, 2), act: Act::Alone(others::renewed_credentials) },
    Row { number: 33, fault: "Kafka 2.8, 3.6, 3.9, 4.0 and the newest", invariant: "the same on each", runs: (1, 1), act: Act::Alone(others::versions) },
    Row { number: 34, fault: "a broker that lacks records becomes the leader (unclean election)", invariant: "reported; what is there now is read once and in order", runs: (1, 2), act: Act::On(3, unclean_election::run) },
];

pub fn run(options: &Options) -> ExitCode {
    let chosen: Vec<&'static Row> =
        ROWS.iter().filter(|row| options.rows.is_empty() || options.rows.contains(&row.number)).collect();
    if options.list {
        chosen.iter().for_each(|row| println!("{:>2}  {}: {}", row.number, row.fault, row.invariant));
        return ExitCode::SUCCESS;
    }
    let seed = options.seed.unwrap_or_else(|| {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_nanos() as u64) % 1_000_000_000
    });
    println!("{} rows, first seed {seed}, {}", chosen.len(), if options.full { "in full" } else { "in short" });
    let _ = fs::create_dir_all(folder(""));
    let started = Instant::now();
    let lines = run_in_lanes(&chosen, options, seed);
    let text = table::markdown(&lines);
    println!("\n{text}");
    // A lane that ended early has no lines.
    let failed = lines.iter().filter(|line| !line.failures.is_empty()).count() + chosen.len() - lines.len();
    println!("{} rows in {} s, {failed} failed", chosen.len(), started.elapsed().as_secs());
    if let Some(path) = &options.table
        && let Err(why) = fs::write(path, text)
    {
        eprintln!("could not write {}: {why}", path.display());
        return ExitCode::FAILURE;
    }
    if failed == 0 && !lines.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The argument that makes this program run a lane.
pub const LANE: &str = "--lane";

/// Rows that are run one after the other.
#[derive(Serialize, Deserialize)]
struct LaneJob {
    rows: Vec<u8>,
    options: Options,
    seed: u64,
    /// Where its lines are to be written.
    lines: PathBuf,
}

/// Rows mostly wait, so those on one broker, those on several, and the long one run side by side.
fn run_in_lanes(rows: &[&'static Row], options: &Options, seed: u64) -> Vec<Line> {
    let lane_of = |row: &Row| match row.act {
        Act::On(1, _) => 0,
        Act::On(..) | Act::Alone(_) | Act::Counting(_) => 1,
        Act::Beside(..) if options.full => 2,
        Act::Beside(..) => 1,
    };
    let mut lines: Vec<Line> = thread::scope(|scope| {
        let begin = |lane| {
            let rows: Vec<&Row> = rows.iter().copied().filter(|row| lane_of(row) == lane).collect();
            let counts = |row: &Row| matches!(row.act, Act::Counting(_));
            let jobs = rows.chunk_by(|row, next| !counts(row) && !counts(next)).map(|rows| LaneJob {
                rows: rows.iter().map(|row| row.number).collect(),
                options: options.clone(),
                seed,
                lines: folder(&format!("lane-{lane}-from-{}.json", rows[0].number)),
            });
            let jobs: Vec<_> = jobs.collect();
            // What one of them has told is told, whatever becomes of the next.
            let told = |job: LaneJob| run_elsewhere(&job).inspect_err(|why| eprintln!("{why}")).unwrap_or_default();
            scope.spawn(move || jobs.into_iter().flat_map(told).collect())
        };
        let lanes: Vec<_> = (0..3).map(begin).collect();
        // A lane that panicked has said why, and has no lines.
        lanes
            .into_iter()
            .flat_map(|lane: thread::ScopedJoinHandle<'_, Vec<Line>>| lane.join().unwrap_or_default())
            .collect()
    });
    lines.sort_by_key(|line| line.row);
    lines
}

fn run_elsewhere(job: &LaneJob) -> Result<Vec<Line>> {
    let _ = fs::remove_file(&job.lines);
    let said = serde_json::to_string(job).or_fail("describing a lane")?;
    let program = std::env::current_exe().or_fail("looking for this program")?;
    // Its standard input ends with this process, and it with that.
    let mut lane = Command::new(program);
    let mut lane = lane.args([LANE, &said]).stdin(Stdio::piped()).spawn().or_fail("starting a lane")?;
    let until_we_end = lane.stdin.take();
    let ended = lane.wait().or_fail("waiting for a lane")?;
    drop(until_we_end);
    let text = fs::read(&job.lines).or_fail(format_args!("reading the lines of a lane that ended with {ended}"))?;
    let mut lines: Vec<Line> = serde_json::from_slice(&text).or_fail("reading the lines of a lane")?;
    for (line, row) in lines.iter_mut().filter_map(|line| row_of(line.row).map(|row| (line, row))) {
        (line.fault, line.invariant) = (row.fault, row.invariant);
    }
    Ok(lines)
}

fn row_of(number: u8) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.number == number)
}

/// In a process of its own.
pub fn run_lane(job: &str) -> ExitCode {
    thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(1);
    });
    let run = || {
        let job: LaneJob = serde_json::from_str(job).or_fail("reading what to run")?;
        let rows: Vec<_> = job.rows.iter().filter_map(|number| row_of(*number)).collect();
        let lines = Lane { options: &job.options, seed: job.seed, brokers: None }.run(&rows);
        fs::write(&job.lines, serde_json::to_vec(&lines).or_fail("writing lines")?).or_fail("writing lines")
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

struct Lane<'a> {
    options: &'a Options,
    seed: u64,
    /// What the row before has left, in its folder.
    brokers: Option<(Brokers, PathBuf)>,
}

impl Lane<'_> {
    fn run(&mut self, rows: &[&Row]) -> Vec<Line> {
        let lines = rows.iter().map(|row| self.run_row(row)).collect();
        self.end_brokers();
        lines
    }

    fn run_row(&mut self, row: &Row) -> Line {
        let runs = if self.options.full { row.runs.1 } else { row.runs.0 };
        let (fault, invariant, number) = (row.fault, row.invariant, row.number);
        let mut line =
            Line { row: number, fault, invariant, runs, seconds: 0, tally: Tally::default(), failures: Vec::new() };
        let started = Instant::now();
        for seed in (self.seed..).take(runs as usize) {
            match self.run_once(row, seed) {
                Ok(tally) => {
                    line.tally.events += tally.events;
                    line.tally.notes.extend(tally.notes.into_iter().filter(|note| !note.is_empty()));
                }
                Err(why) => line.failures.push((seed, why)),
            }
        }
        line.tally.notes.dedup();
        line.seconds = started.elapsed().as_secs();
        line
    }

    fn run_once(&mut self, row: &Row, seed: u64) -> Result<Tally> {
        let folder = folder(&format!("row-{}-seed-{seed}", row.number));
        let _ = fs::remove_dir_all(&folder);
        let run = Run::new(row.number, seed, self.options.full, &folder)?;
        run.say(format_args!("{}, seed {seed}", row.fault));
        // A row that panics has failed like any other.
        let act = panic::AssertUnwindSafe(|| self.act(row.act, &run));
        let result = panic::catch_unwind(act).unwrap_or_else(|_| Err(Failure::new("the row panicked, see above")));
        match &result {
            Ok(tally) => {
                run.say(format_args!("holds, {} events", tally.events));
                if !self.options.keep {
                    let _ = fs::remove_dir_all(&folder);
                }
            }
            Err(why) => {
                run.say(format_args!("FAILED, {}: {why}", folder.display()));
                // What may be the reason is kept, and the next row gets others.
                if let Some((brokers, data)) = self.brokers.take() {
                    drop(brokers);
                    let _ = fs::rename(data, folder.join("brokers"));
                }
            }
        }
        result
    }

    fn act(&mut self, act: Act, run: &Run) -> Result<Tally> {
        match act {
            Act::Alone(act) | Act::Counting(act) => act(run),
            Act::On(count, act) | Act::Beside(count, act) => act(run, self.brokers(count, run)?),
        }
    }

    fn brokers(&mut self, count: usize, run: &Run) -> Result<&mut Brokers> {
        if self.brokers.as_ref().is_none_or(|(brokers, _)| brokers.count() != count) {
            self.end_brokers();
            let data = folder(&format!("brokers-{count}-{}-{}", run.row, run.seed));
            let _ = fs::remove_dir_all(&data);
            run.say(format_args!("starting {count} brokers"));
            let brokers = Brokers::start(&data, count, run.seed, &[]).or_fail("starting brokers")?;
            self.brokers = Some((brokers, data));
        }
        self.brokers.as_mut().map(|(brokers, _)| brokers).ok_or_else(|| Failure::new("there are no brokers"))
    }

    fn end_brokers(&mut self) {
        if let Some((brokers, data)) = self.brokers.take() {
            drop(brokers);
            let _ = fs::remove_dir_all(data);
        }
    }
}

fn folder(name: &str) -> PathBuf {
    let target = std::env::current_exe().ok().and_then(|program| Some(program.parent()?.parent()?.to_owned()));
    target.unwrap_or_else(|| Path::new("target").to_owned()).join("tmp/faults").join(name)
}
