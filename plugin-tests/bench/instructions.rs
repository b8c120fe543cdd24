//! Instructions of our own functions for each event, which don't vary from run to run as times do: callgrind counts them, and what a push
//! or a pull costs is the difference between a run and one of twice as many events. librdkafka's own are left out.
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

/// The argument that makes this program a broker.
pub const MOCK: &str = "mock";

const EVENTS: u64 = 10_000;
/// What a change may cost more.
const TOLERANCE: f64 = 1.03;
const DATA: usize = 16;
struct Kind {
    name: &'static str,
    topic: &'static str,
    work: fn(u64) -> Work,
}

const KINDS: [Kind; 4] = [
    Kind { name: "push", topic: PUSHED, work: |events| Work::Push { events, threads: 1 } },
    Kind { name: "push and future", topic: PUSHED, work: |events| Work::PushInWindow { events, window: 1_000 } },
    Kind { name: "pull", topic: PULLED, work: |events| Work::Pull { events, by: Pulling::One } },
    Kind { name: "pull_many", topic: PULLED, work: |events| Work::Pull { events, by: Pulling::Many } },
];
const PUSHED: &str = "pushed";
const PULLED: &str = "pulled";

/// Is a broker until its standard input ends.
pub fn be_a_broker() -> ExitCode {
    let cluster = MockCluster::new(1).expect("a mock cluster");
    for topic in [PUSHED, PULLED] {
        cluster.create_topic(topic, 1, 1).expect("a topic");
    }
    println!("{}", cluster.bootstrap_servers());
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    ExitCode::SUCCESS
}

type Result<T> = std::result::Result<T, String>;

/// Counts, shows, and compares with the limits in `file`; writes them there instead if `write` says so.
pub fn count(file: &Path, write: bool) -> Result<bool> {
    let broker = Broker::start()?;
    broker.run(&broker.job(PULLED, Work::Push { events: 3 * EVENTS, threads: 1 }), None)?;
    let mut counted = BTreeMap::new();
    for kind in KINDS {
        let [once, twice] =
            [EVENTS, 2 * EVENTS].map(|events| broker.count(&broker.job(kind.topic, (kind.work)(events))));
        let per_event = once?.per_event(&twice?);
        println!("{}: {per_event:.0} instructions of ours", kind.name);
        counted.insert(kind.name.to_owned(), per_event.round());
    }
    if write {
        let text = serde_json::to_string_pretty(&counted).map_err(|why| why.to_string())?;
        fs::write(file, text + "\n").map_err(|why| format!("writing {}: {why}", file.display()))?;
        return Ok(true);
    }
    let text = fs::read_to_string(file).map_err(|why| format!("reading {}: {why}", file.display()))?;
    let known: BTreeMap<String, f64> =
        serde_json::from_str(&text).map_err(|why| format!("{}: {why}", file.display()))?;
    let mut all_hold = true;
    for (name, now) in counted {
        let before = known.get(&name).copied().unwrap_or(0.0);
        if now > before * TOLERANCE {
            all_hold = false;
            println!("{name} costs {now} instructions; {before} are known, and 3 % more are allowed");
        }
    }
    Ok(all_hold)
}

/// What one run took.
struct Count {
    instructions: u64,
    /// Those that were seen, which are more than asked for where they come many at a time.
    events: u64,
}

impl Count {
    /// Beside what each run takes, whatever it does.
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

    /// In callgrind, if there is a file for what it counts.
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
        serde_json::from_slice(&ended.stdout).map_err(|why| format!("what {command:?} told: {why}"))
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

/// The instructions that functions in Rust had themselves, by a file of callgrind's (its manual, "Callgrind Format Specification").
/// Those of the plugin, that is: the program that opens it has none that come with events but the loop's few.
fn own_instructions(profile: &str) -> u64 {
    let (mut names, mut objects) = (HashMap::new(), HashMap::new());
    let (mut is_ours, mut is_plugin, mut of_a_call, mut sum) = (false, false, false, 0);
    for line in profile.lines() {
        if let Some(object) = line.strip_prefix("ob=") {
            is_plugin = name_of(object, &mut objects).ends_with("liboctopus.so");
        } else if let Some(function) = line.strip_prefix("fn=") {
            is_ours = name_of(function, &mut names).contains("::");
        } else if let Some(function) = line.strip_prefix("cfn=") {
            name_of(function, &mut names);
        } else if let Some(object) = line.strip_prefix("cob=") {
            name_of(object, &mut objects);
        } else if line.starts_with("calls=") {
            of_a_call = true;
        } else if line.starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first)) {
            if !of_a_call && is_ours && is_plugin {
                sum += line.split_whitespace().nth(1).and_then(|count| count.parse::<u64>().ok()).unwrap_or(0);
            }
            of_a_call = false;
        }
    }
    sum
}

/// `(7) name` gives a number a name, `(7)` stands for it then.
fn name_of(said: &str, known: &mut HashMap<String, String>) -> String {
    let (number, name) = said.split_once(' ').unwrap_or((said, ""));
    if !name.is_empty() {
        known.insert(number.to_owned(), name.to_owned());
    }
    known.get(number).cloned().unwrap_or_else(|| said.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_are_those_of_our_functions_themselves() {
        let profile = "events: Ir\nob=(1) /x/liboctopus.so\nfl=(1) a.rs\nfn=(1) octopus::push\n10 5\n+1 7\ncfn=(2) rd_kafka_produce\n\
                       calls=1 20\n* 1000\nfn=(2)\n20 900\nfn=(3) octopus::settle\n30 11\nob=(2) /x/bench\nfn=(4) bench::push\n1 3\n\
                       ob=(1)\nfn=(1)\n12 2\n";
        assert_eq!(own_instructions(profile), 5 + 7 + 11 + 2);
    }
}
