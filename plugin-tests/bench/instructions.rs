//! Counts the instructions that the plugin's own functions execute for each event, with callgrind.
//! Unlike times, they don't vary from run to run. The cost of a push or a pull is the difference
//! between a run and a run with twice as many events. The instructions of librdkafka are not
//! counted.
//!
//! The broker is librdkafka's mock cluster in another process.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};

use rdkafka::mocking::MockCluster;

use baseline::ROLE;
use baseline::job::{Figures, Job, Pulling, Side, Work};

/// The argument that has this program run the broker.
pub const MOCK: &str = "mock";

const EVENTS: u64 = 10_000;
/// By which factor a count may exceed the recorded one.
const TOLERANCE: f64 = 1.03;
const DATA: usize = 16;
struct Kind {
    name: &'static str,
    topic: &'static str,
    work: fn(u64) -> Work,
}

const KINDS: [Kind; 5] = [
    Kind { name: "push", topic: PUSHED, work: |events| Work::Push { events, threads: 1 } },
    Kind { name: SERIALIZED, topic: PUSHED, work: |events| Work::Push { events, threads: 1 } },
    Kind { name: "push and future", topic: PUSHED, work: |events| Work::PushInWindow { events, window: 1_000 } },
    Kind { name: "pull", topic: PULLED, work: |events| Work::Pull { events, by: Pulling::One } },
    Kind { name: "pull_many", topic: PULLED, work: |events| Work::Pull { events, by: Pulling::Many } },
];
/// With metadata as bytes, which the plugin need not read.
const SERIALIZED: &str = "push serialized";
const PUSHED: &str = "pushed";
const PULLED: &str = "pulled";

/// Runs a mock cluster until the standard input ends.
pub fn run_broker() -> ExitCode {
    let cluster = MockCluster::new(1).expect("a mock cluster");
    for topic in [PUSHED, PULLED] {
        cluster.create_topic(topic, 1, 1).expect("a topic");
    }
    println!("{}", cluster.bootstrap_servers());
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    ExitCode::SUCCESS
}

type Result<T> = std::result::Result<T, String>;

/// Counts the instructions and prints them. Writes them to `file` if `write` is set; otherwise
/// returns whether all are within the limits in `file`.
pub fn count(file: &Path, write: bool) -> Result<bool> {
    let broker = Broker::start()?;
    broker.run(&broker.job(PULLED, Work::Push { events: 3 * EVENTS, threads: 1 }), None)?;
    let mut counted = BTreeMap::new();
    for kind in KINDS {
        let [once, twice] = [EVENTS, 2 * EVENTS].map(|events| {
            let is_serialized = kind.name == SERIALIZED;
            broker.count(&Job { is_serialized, ..broker.job(kind.topic, (kind.work)(events)) })
        });
        let per_event = once?.per_event(&twice?);
        println!("{}: {per_event:.0} instructions of the plugin", kind.name);
        counted.insert(kind.name.to_owned(), per_event.round());
    }
    if write {
        let text = serde_json::to_string_pretty(&counted).map_err(|why| why.to_string())?;
        fs::write(file, text + "\n").map_err(|why| format!("writing {}: {why}", file.display()))?;
        return Ok(true);
    }
    if counted.get(SERIALIZED) > counted.get("push") {
        println!("{SERIALIZED}: more instructions than with JSON");
        return Ok(false);
    }
    let text = fs::read_to_string(file).map_err(|why| format!("reading {}: {why}", file.display()))?;
    let known: BTreeMap<String, f64> =
        serde_json::from_str(&text).map_err(|why| format!("{}: {why}", file.display()))?;
    let mut are_within_limits = true;
    for (name, now) in counted {
        let before = known.get(&name).copied().unwrap_or(0.0);
        if now > before * TOLERANCE {
            are_within_limits = false;
            println!("{name}: {now} instructions per event; the file has {before}, and 3 % more are allowed");
        }
    }
    Ok(are_within_limits)
}

/// The counts of one run.
struct Count {
    instructions: u64,
    /// The number of pulled events, which can exceed the requested number when a call pulls
    /// several.
    events: u64,
}

impl Count {
    /// Returns the instructions per event. The difference of two runs leaves out the fixed cost of
    /// a run.
    fn per_event(&self, longer: &Count) -> f64 {
        (longer.instructions as f64 - self.instructions as f64) / (longer.events as f64 - self.events as f64)
    }
}

struct Broker {
    process: Child,
    bootstrap: String,
}

impl Broker {
    fn start() -> Result<Self> {
        let mut command = this_program()?;
        let mut process = command
            .arg(MOCK)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|why| format!("starting a broker: {why}"))?;
        let mut bootstrap = String::new();
        if let Some(stdout) = process.stdout.as_mut() {
            BufReader::new(stdout)
                .read_line(&mut bootstrap)
                .map_err(|why| format!("reading the broker's address: {why}"))?;
        }
        Ok(Broker { process, bootstrap: bootstrap.trim().to_owned() })
    }

    fn job(&self, topic: &str, work: Work) -> Job {
        Job {
            side: Side::Plugin,
            bootstrap: self.bootstrap.clone(),
            topic: topic.to_owned(),
            partitions: 1,
            data: DATA,
            kafka: BTreeMap::new(),
            is_bare: true,
            is_serialized: false,
            work,
        }
    }

    fn count(&self, job: &Job) -> Result<Count> {
        let out = std::env::temp_dir().join(format!("octopus-callgrind-{}", std::process::id()));
        let figures = self.run(job, Some(&out))?;
        let text = fs::read_to_string(&out).map_err(|why| format!("reading {}: {why}", out.display()))?;
        let _ = fs::remove_file(&out);
        Ok(Count { instructions: own_instructions(&text), events: figures.events })
    }

    /// Runs a job; under callgrind if `out`, the file for the counts, is given.
    fn run(&self, job: &Job, out: Option<&Path>) -> Result<Figures> {
        let job = serde_json::to_string(job).map_err(|why| why.to_string())?;
        let mut command = match out {
            None => this_program()?,
            Some(out) => {
                let mut command = Command::new("valgrind");
                command.args(["--tool=callgrind", "--quiet"]).arg(format!("--callgrind-out-file={}", out.display()));
                command.arg(std::env::current_exe().map_err(|why| why.to_string())?);
                command
            }
        };
        let ended = command
            .args([ROLE, &job])
            .stderr(Stdio::inherit())
            .output()
            .map_err(|why| format!("running {command:?}: {why}"))?;
        if !ended.status.success() {
            return Err(format!("{command:?} ended with {}", ended.status));
        }
        serde_json::from_slice(&ended.stdout).map_err(|why| format!("parsing the output of {command:?}: {why}"))
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

fn this_program() -> Result<Command> {
    std::env::current_exe().map(Command::new).map_err(|why| why.to_string())
}

/// Sums the self cost of the Rust functions of liboctopus.so in a profile of callgrind (its manual,
/// "Callgrind Format Specification"). The program that loads the library executes only a few
/// instructions for each event, so they are not counted.
fn own_instructions(profile: &str) -> u64 {
    let (mut names, mut objects) = (HashMap::new(), HashMap::new());
    let (mut is_rust, mut is_plugin, mut is_call_cost, mut sum) = (false, false, false, 0);
    for line in profile.lines() {
        if let Some(object) = line.strip_prefix("ob=") {
            is_plugin = name_of(object, &mut objects).ends_with("liboctopus.so");
        } else if let Some(function) = line.strip_prefix("fn=") {
            is_rust = name_of(function, &mut names).contains("::");
        } else if let Some(function) = line.strip_prefix("cfn=") {
            name_of(function, &mut names);
        } else if let Some(object) = line.strip_prefix("cob=") {
            name_of(object, &mut objects);
        } else if line.starts_with("calls=") {
            is_call_cost = true;
        } else if line.starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first)) {
            if !is_call_cost && is_rust && is_plugin {
                sum += line.split_whitespace().nth(1).and_then(|count| count.parse::<u64>().ok()).unwrap_or(0);
            }
            is_call_cost = false;
        }
    }
    sum
}

/// Resolves callgrind's name compression: `(7) name` defines the name of 7, `(7)` refers to it.
fn name_of(field: &str, known: &mut HashMap<String, String>) -> String {
    let (number, name) = field.split_once(' ').unwrap_or((field, ""));
    if !name.is_empty() {
        known.insert(number.to_owned(), name.to_owned());
    }
    known.get(number).cloned().unwrap_or_else(|| field.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_instructions_are_self_cost_of_plugin_functions() {
        let profile = "events: Ir\nob=(1) /x/liboctopus.so\nfl=(1) a.rs\nfn=(1) octopus::push\n10 5\n+1 7\ncfn=(2) rd_kafka_produce\n\
                       calls=1 20\n* 1000\nfn=(2)\n20 900\nfn=(3) octopus::settle\n30 11\nob=(2) /x/bench\nfn=(4) bench::push\n1 3\n\
                       ob=(1)\nfn=(1)\n12 2\n";
        assert_eq!(own_instructions(profile), 5 + 7 + 11 + 2);
    }
}
