//! The rows of the fault matrix, and the code that runs them.

mod broker_errors;
mod brokers_and_network;
mod consumers;
mod damaged;
mod forwarding;
mod futures;
mod host;
mod in_flight_limit;
mod members;
mod mock;
mod no_broker;
mod open_and_close;
mod oracle_itself;
mod others;
mod outage;
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

/// One row of the fault matrix.
struct Row {
    number: u8,
    fault: &'static str,
    invariant: &'static str,
    /// The number of runs: in CI, and in the full matrix.
    runs: (u32, u32),
    step: Step,
}

type OnBrokers = fn(&Run, &mut Brokers) -> Result<Tally>;

#[derive(Clone, Copy)]
enum Step {
    /// Runs on a cluster of this many brokers, which the row leaves working for the next row.
    SharedBrokers(usize, OnBrokers),
    /// Runs on brokers of its own and, in the full matrix, beside all other rows, since it takes an
    /// hour.
    OwnLane(usize, OnBrokers),
    /// Creates what it needs itself.
    SelfContained(fn(&Run) -> Result<Tally>),
    /// As `SelfContained`, in a process of its own, whose threads, descriptors and memory the row
    /// counts.
    OwnProcess(fn(&Run) -> Result<Tally>),
}

#[rustfmt::skip]
const ROWS: &[Row] = &[
    Row { number: 0, fault: "the oracle itself: one event deliberately lost, duplicated, reordered, left without a result", invariant: "each is found", runs: (1, 5), step: Step::SharedBrokers(1, oracle_itself::run) },
    Row { number: 1, fault: "broker crash", invariant: "events flow again within 15 s", runs: (1, 5), step: Step::SharedBrokers(1, brokers_and_network::crash) },
    Row { number: 2, fault: "leader, follower, controller killed", invariant: "no push fails", runs: (1, 3), step: Step::SharedBrokers(3, brokers_and_network::replicas_lost) },
    Row { number: 3, fault: "a broker stopped for 1 to 60 s", invariant: "no early and no late timeouts", runs: (1, 6), step: Step::SharedBrokers(1, brokers_and_network::pause) },
    Row { number: 4, fault: "too few replicas", invariant: "errors only after the delivery timeout", runs: (1, 5), step: Step::SharedBrokers(3, brokers_and_network::too_few_replicas) },
    Row { number: 5, fault: "connections reset, in requests and in responses", invariant: "no event twice", runs: (1, 5), step: Step::SharedBrokers(1, brokers_and_network::resets) },
    Row { number: 6, fault: "delay, one byte at a time, black hole", invariant: "flush and close return on time", runs: (1, 5), step: Step::SharedBrokers(1, brokers_and_network::slow_network) },
    Row { number: 7, fault: "responses with flipped bits", invariant: "error or retry; no crash, no event lost or corrupted", runs: (1, 10), step: Step::SharedBrokers(1, brokers_and_network::corruption) },
    Row { number: 8, fault: "every error code of a produce response, fatal ones too", invariant: "a permanent error fails its own future only; after a retriable one the event is delivered or times out with the last error; after a fatal one pushes fail at once", runs: (1, 3), step: Step::SelfContained(broker_errors::run) },
    Row { number: 9, fault: "in-flight limit reached", invariant: "push waits, then fails with a reason; memory bounded", runs: (1, 3), step: Step::SelfContained(in_flight_limit::run) },
    Row { number: 10, fault: "no reachable broker", invariant: "every call ends within its time limit and names the address", runs: (1, 3), step: Step::SelfContained(no_broker::run) },
    Row { number: 11, fault: "consumer killed after a random acknowledgement", invariant: "the next one starts no later than after the last acknowledged event", runs: (1, 5), step: Step::SharedBrokers(1, consumers::killed) },
    Row { number: 12, fault: "acknowledgements out of order, and from an earlier assignment", invariant: "the highest counts; one of a partition that another member had meanwhile changes nothing", runs: (1, 5), step: Step::SharedBrokers(1, consumers::out_of_order) },
    Row { number: 13, fault: "members join and leave every 2 s", invariant: "all events delivered, only unacknowledged ones again", runs: (1, 3), step: Step::SharedBrokers(1, consumers::rebalances) },
    Row { number: 14, fault: "topic deleted, recreated, given more partitions; records expired", invariant: "an error or a documented reset, no silent loss", runs: (1, 3), step: Step::SharedBrokers(1, topics::run) },
    Row { number: 15, fault: "malformed records", invariant: "an error on that event, the next is read", runs: (1, 2), step: Step::SharedBrokers(1, records::malformed) },
    Row { number: 16, fault: "TLS: wrong CA, wrong host, expired, plain port", invariant: "never connects, reports why within 10 s", runs: (1, 1), step: Step::SelfContained(others::tls) },
    Row { number: 17, fault: "SASL: wrong password; ACL: write, read, group, create denied, revoked", invariant: "an error on each push and pull within 10 s", runs: (1, 1), step: Step::SelfContained(others::access) },
    Row { number: 18, fault: "MSK tokens: expired, badly signed, slow, failing, idle", invariant: "renewed without the host, nothing lost", runs: (1, 1), step: Step::SelfContained(others::tokens) },
    Row { number: 19, fault: "open, use, close, with futures and events held, brokers down", invariant: "close within 5 s; descriptors, threads, memory as before", runs: (1, 1), step: Step::OwnProcess(open_and_close::run) },
    Row { number: 20, fault: "16 threads wait, drop, wait after close", invariant: "none hangs", runs: (1, 1), step: Step::SelfContained(futures::run) },
    Row { number: 21, fault: "an hour of random faults of rows 1 to 6", invariant: "as above; constant memory", runs: (1, 1), step: Step::OwnLane(3, brokers_and_network::an_hour) },
    Row { number: 22, fault: "a panic in every slot, NULL in every argument, older structs, valgrind", invariant: "no report, no unwind across C", runs: (1, 1), step: Step::SelfContained(others::memory) },
    Row { number: 23, fault: "the program exits: return, exit, handlers, signals, callbacks, threads that push", invariant: "what was pushed is stored, or counted on stderr", runs: (1, 2), step: Step::SelfContained(others::process_exit) },
    Row { number: 24, fault: "fork, whatever the parent does; children of children", invariant: "child and parent work, nothing lost", runs: (1, 2), step: Step::SelfContained(others::fork) },
    Row { number: 25, fault: "no more threads or descriptors, in each call; then more", invariant: "an error that names the limit; no abort, hang or leak; works again", runs: (1, 2), step: Step::SelfContained(others::resource_limits) },
    Row { number: 26, fault: "record batches that can't be decoded: each codec, each kind of damage, in transit and on disk", invariant: "each offset is delivered or reported once, in order; nothing intact is skipped", runs: (1, 1), step: Step::SharedBrokers(1, damaged::run) },
    Row { number: 27, fault: "topic deleted and created again, leader epochs lower, equal, higher", invariant: "pushes and pulls go on within 30 s; no position of the old topic counts in the new one", runs: (1, 2), step: Step::SharedBrokers(3, recreated::run) },
    Row { number: 28, fault: "limits that differ between producer, topic, broker and consumer", invariant: "a persistent error within 10 s that names the property and the value", runs: (1, 2), step: Step::SelfContained(others::limits) },
    Row { number: 29, fault: "addresses: refusing, unknown, silent, one of several", invariant: "reported in time, with each reason", runs: (1, 2), step: Step::SelfContained(others::addresses) },
    Row { number: 30, fault: "transactions: markers, aborted, open, last", invariant: "nothing aborted is delivered, the lag is 0 in the end", runs: (1, 2), step: Step::SelfContained(others::transactions) },
    Row { number: 31, fault: "members of a group stop, continue, join, leave: static, cooperative-sticky, KIP-848", invariant: "no event lost, no member without events, no busy loop; close without an error", runs: (1, 3), step: Step::SharedBrokers(1, members::run) },
    Row { number: 32, fault: "certificates, credentials, tokens, service authorization that change while running", invariant: "used without a new driver", runs: (1, 2), step: Step::SelfContained(others::renewed_credentials) },
    Row { number: 33, fault: "Kafka 2.8.2, 3.6.2, 3.9.1, 4.0.0 and 4.4.0", invariant: "the same on each", runs: (1, 1), step: Step::SelfContained(others::versions) },
    Row { number: 34, fault: "a broker that lacks records becomes the leader (unclean election)", invariant: "reported; the new leader's records are read once and in order", runs: (1, 2), step: Step::SharedBrokers(3, unclean_election::run) },
    Row { number: 35, fault: "no broker at all for 10 to 60 s, under the members of a group", invariant: "no process keeps a CPU busy; events flow again within 15 s", runs: (1, 3), step: Step::OwnProcess(outage::run) },
    Row { number: 36, fault: "a process that forwards events in transactions is killed at every point", invariant: "each input is in the output exactly once, in order", runs: (1, 1), step: Step::SharedBrokers(1, forwarding::run) },
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
    // A lane that exited early has no lines.
    let failed = lines.iter().filter(|line| !line.failures.is_empty()).count() + chosen.len() - lines.len();
    println!("{} rows in {} s, {failed} failed", chosen.len(), started.elapsed().as_secs());
    if let Some(path) = &options.table
        && let Err(why) = fs::write(path, text)
    {
        eprintln!("writing the table {}: {why}", path.display());
        return ExitCode::FAILURE;
    }
    if failed == 0 && !lines.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The first argument of a process that runs a lane; the second is its job.
pub const LANE_ARGUMENT: &str = "--lane";

/// Rows that run one after the other.
#[derive(Serialize, Deserialize)]
struct LaneJob {
    rows: Vec<u8>,
    options: Options,
    seed: u64,
    /// The file that the lane writes its lines to.
    lines: PathBuf,
}

/// Rows mostly wait, so the rows on one broker, the rows on several brokers and the long one run
/// side by side.
fn run_in_lanes(rows: &[&'static Row], options: &Options, seed: u64) -> Vec<Line> {
    let lane_of = |row: &Row| match row.step {
        Step::SharedBrokers(1, _) => 0,
        Step::SharedBrokers(..) | Step::SelfContained(_) | Step::OwnProcess(_) => 1,
        Step::OwnLane(..) if options.full => 2,
        Step::OwnLane(..) => 1,
    };
    let mut lines: Vec<Line> = thread::scope(|scope| {
        let begin = |lane| {
            let rows: Vec<&Row> = rows.iter().copied().filter(|row| lane_of(row) == lane).collect();
            let needs_own_process = |row: &Row| matches!(row.step, Step::OwnProcess(_));
            let jobs =
                rows.chunk_by(|row, next| !needs_own_process(row) && !needs_own_process(next)).map(|rows| LaneJob {
                    rows: rows.iter().map(|row| row.number).collect(),
                    options: options.clone(),
                    seed,
                    lines: folder(&format!("lane-{lane}-from-{}.json", rows[0].number)),
                });
            let jobs: Vec<_> = jobs.collect();
            // A job that fails has no lines; the lines of the jobs before it are kept.
            let run_job = |job: LaneJob| run_in_process(&job).inspect_err(|why| eprintln!("{why}")).unwrap_or_default();
            scope.spawn(move || jobs.into_iter().flat_map(run_job).collect())
        };
        let lanes: Vec<_> = (0..3).map(begin).collect();
        // A lane that panicked has printed why, and has no lines.
        lanes
            .into_iter()
            .flat_map(|lane: thread::ScopedJoinHandle<'_, Vec<Line>>| lane.join().unwrap_or_default())
            .collect()
    });
    lines.sort_by_key(|line| line.row);
    lines
}

fn run_in_process(job: &LaneJob) -> Result<Vec<Line>> {
    let _ = fs::remove_file(&job.lines);
    let description = serde_json::to_string(job).or_fail("serializing the job of a lane")?;
    let program = std::env::current_exe().or_fail("looking for this program")?;
    // The process exits when its standard input is closed, which happens when this process exits.
    let mut lane = Command::new(program);
    let mut lane = lane.args([LANE_ARGUMENT, &description]).stdin(Stdio::piped()).spawn().or_fail("starting a lane")?;
    let until_we_end = lane.stdin.take();
    let ended = lane.wait().or_fail("waiting for a lane")?;
    drop(until_we_end);
    let text = fs::read(&job.lines).or_fail(format_args!("reading the lines of a lane that ended with {ended}"))?;
    let mut lines: Vec<Line> = serde_json::from_slice(&text).or_fail("parsing the lines of a lane")?;
    for (line, row) in lines.iter_mut().filter_map(|line| row_of(line.row).map(|row| (line, row))) {
        (line.fault, line.invariant) = (row.fault, row.invariant);
    }
    Ok(lines)
}

fn row_of(number: u8) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.number == number)
}

/// Runs a lane in its own process.
pub fn run_lane(job: &str) -> ExitCode {
    thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(1);
    });
    let run = || {
        let job: LaneJob = serde_json::from_str(job).or_fail("parsing the job of a lane")?;
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
    /// The brokers that the previous row has left, and their folder.
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
        run.report(format_args!("{}, seed {seed}", row.fault));
        // A panic is a failure of its row only.
        let step = panic::AssertUnwindSafe(|| self.step(row.step, &run));
        let result =
            panic::catch_unwind(step).unwrap_or_else(|_| Err(Failure::new("the row panicked, see its message above")));
        match &result {
            Ok(tally) => {
                run.report(format_args!("holds, {} events", tally.events));
                if !self.options.keep {
                    let _ = fs::remove_dir_all(&folder);
                }
            }
            Err(why) => {
                run.report(format_args!("FAILED, {}: {why}", folder.display()));
                // The brokers may be the cause: their data is kept, and the next row gets new
                // brokers.
                if let Some((brokers, data)) = self.brokers.take() {
                    drop(brokers);
                    let _ = fs::rename(data, folder.join("brokers"));
                }
            }
        }
        result
    }

    fn step(&mut self, step: Step, run: &Run) -> Result<Tally> {
        match step {
            Step::SelfContained(step) | Step::OwnProcess(step) => step(run),
            Step::SharedBrokers(count, step) | Step::OwnLane(count, step) => step(run, self.brokers(count, run)?),
        }
    }

    fn brokers(&mut self, count: usize, run: &Run) -> Result<&mut Brokers> {
        if self.brokers.as_ref().is_none_or(|(brokers, _)| brokers.count() != count) {
            self.end_brokers();
            let data = folder(&format!("brokers-{count}-{}-{}", run.row, run.seed));
            let _ = fs::remove_dir_all(&data);
            run.report(format_args!("starting {count} brokers"));
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
