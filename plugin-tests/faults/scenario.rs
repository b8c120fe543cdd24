//! A topic with producers and consumers in worker processes. A row injects faults into it and
//! passes what the workers recorded to the oracle.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, ExitStatus, Stdio};
use std::time::Duration;

use octopus_loader::TopicOptions;
use serde_json::{Value, json};

use crate::brokers::{Brokers, read_log};
use crate::journal::{Entry, Reader, now};
use crate::oracle::{Evidence, WorkerJournal};
use crate::run::{Failure, OrFail as _, Result, Run, check, eventually};
use crate::worker::{Command, ConsumerJob, Corruption, Job, ProducerJob, Role, WORKER_ARGUMENT};

/// The limit for everything that must happen once the brokers work normally.
pub const MAX_WAIT: Duration = Duration::from_secs(90);

/// The workers of a scenario and their settings.
#[derive(Debug, Clone)]
pub struct Participants {
    pub partitions: u32,
    pub producers: u32,
    pub consumers: u32,
    /// Events per second of each producer.
    pub rate: u32,
    pub max_data: usize,
    pub delivery_timeout: Duration,
    /// The driver's `timeout_ms`, which also limits `push`.
    pub timeout: Duration,
    /// Additional Kafka properties of the producers, and of the consumers that exist from the
    /// start.
    pub producer_properties: Value,
    pub consumer_properties: Value,
    pub corruption: Option<Corruption>,
    /// Appended to the names of the topic and the workers when a run has several scenarios.
    pub suffix: &'static str,
}

impl Default for Participants {
    fn default() -> Self {
        Participants {
            partitions: 3,
            producers: 2,
            consumers: 1,
            rate: 300,
            max_data: 200_000,
            delivery_timeout: Duration::from_secs(120),
            timeout: Duration::from_secs(60),
            producer_properties: json!({}),
            consumer_properties: json!({}),
            corruption: None,
            suffix: "",
        }
    }
}

pub struct Scenario<'a> {
    pub run: &'a Run,
    pub topic: String,
    bootstrap: String,
    participants: Participants,
    producers: Vec<Worker>,
    consumers: Vec<Worker>,
}

impl<'a> Scenario<'a> {
    /// Creates the topic with one replica on each broker and starts the workers; returns when
    /// events flow.
    pub fn open(run: &'a Run, brokers: &Brokers, participants: Participants) -> Result<Self> {
        let topic = format!("row-{}-{:x}{}", run.row, run.seed, participants.suffix);
        let bootstrap = brokers.bootstrap();
        create_topic(&bootstrap, &topic, participants.partitions, brokers.count() as u32)?;
        let mut scenario =
            Scenario { run, topic, bootstrap, participants, producers: Vec::new(), consumers: Vec::new() };
        for _ in 0..scenario.participants.producers {
            scenario.add_producer()?;
        }
        for _ in 0..scenario.participants.consumers {
            scenario.add_consumer(1000, false, scenario.participants.consumer_properties.clone())?;
        }
        scenario.await_flow(MAX_WAIT)?;
        Ok(scenario)
    }

    fn add_producer(&mut self) -> Result<()> {
        let producer = self.producers.len() as u32;
        let mut kafka =
            json!({"delivery.timeout.ms": self.participants.delivery_timeout.as_millis() as u64, "linger.ms": 5});
        let given = self.participants.producer_properties.as_object().cloned().unwrap_or_default();
        kafka.as_object_mut().expect("an object").extend(given);
        let role = Role::Produce(ProducerJob {
            producer,
            rate: self.participants.rate,
            max_data: self.participants.max_data,
            result_timeout_ms: (self.participants.delivery_timeout + Duration::from_secs(30)).as_millis() as u64,
            corruption: self.participants.corruption,
        });
        let name = format!("producer-{producer}{}", self.participants.suffix);
        let worker = Worker::start(self.run, &name, self.job(kafka, role, u64::from(producer)))?;
        self.producers.push(worker);
        Ok(())
    }

    /// Adds a consumer in the scenario's group and returns its index.
    pub fn add_consumer(&mut self, acknowledged_in_1000: u32, out_of_order: bool, kafka: Value) -> Result<usize> {
        self.add_consumer_of(&self.topic.clone(), acknowledged_in_1000, out_of_order, kafka)
    }

    pub fn add_consumer_of(
        &mut self,
        group: &str,
        acknowledged_in_1000: u32,
        out_of_order: bool,
        kafka: Value,
    ) -> Result<usize> {
        let index = self.consumers.len();
        let role = Role::Consume(ConsumerJob { group: group.to_owned(), acknowledged_in_1000, out_of_order });
        let name = format!("consumer-{index}{}", self.participants.suffix);
        let worker = Worker::start(self.run, &name, self.job(kafka, role, 1_000 + index as u64))?;
        self.consumers.push(worker);
        Ok(index)
    }

    fn job(&self, kafka: Value, role: Role, number: u64) -> Job {
        Job {
            bootstrap: self.bootstrap.clone(),
            topic: self.topic.clone(),
            journal: PathBuf::new(),
            seed: self.run.seed.wrapping_add(number),
            kafka,
            timeout_ms: self.participants.timeout.as_millis() as u64,
            role,
        }
    }

    /// Waits until each producer has delivered an event that it pushed after this call, and each
    /// running consumer has received one. Returns how long that took.
    pub fn await_flow(&mut self, timeout: Duration) -> Result<Duration> {
        let since = now();
        let arrived = |entry: &Entry| match entry {
            Entry::Delivered { at, after_ms, .. } => *at > since + after_ms,
            Entry::Received { at, .. } => *at > since,
            _ => false,
        };
        let mut waited_for: Vec<&mut Worker> = self.producers.iter_mut().chain(&mut self.consumers).collect();
        waited_for.retain(|worker| worker.is_running());
        eventually("events flow", timeout, || {
            let mut still = Vec::new();
            for worker in waited_for.drain(..) {
                worker.expect_alive()?;
                if !worker.read_new()?.iter().any(arrived) {
                    still.push(worker);
                }
            }
            waited_for = still;
            Ok(waited_for.is_empty().then_some(()))
        })
        .map_err(|why| Failure(format!("{why}; without any: {}", names(&waited_for))))?;
        Ok(Duration::from_millis(now() - since))
    }

    /// Waits until no consumer was assigned or lost a partition for the duration `quiet`.
    pub fn await_settled_group(&mut self, quiet: Duration, timeout: Duration) -> Result<()> {
        let mut last = now();
        eventually("the group settles", timeout, || {
            for worker in self.consumers.iter_mut().filter(|worker| worker.is_running()) {
                worker.expect_alive()?;
                let rebalanced = worker.read_new()?.iter().any(|entry| matches!(entry, Entry::Rebalanced { .. }));
                if rebalanced {
                    last = now();
                }
            }
            Ok((Duration::from_millis(now() - last) >= quiet).then_some(()))
        })
    }

    /// Waits until each producer has recorded the delivery of push number `wanted` or a later one.
    pub fn await_number(&mut self, wanted: u64) -> Result<()> {
        self.producers.iter_mut().try_for_each(|producer| {
            producer.await_entry(&format!("push {wanted} is delivered"), MAX_WAIT, |entry| {
                matches!(entry, Entry::Delivered { number, .. } if *number >= wanted).then_some(())
            })
        })
    }

    pub fn producers(&mut self) -> &mut [Worker] {
        &mut self.producers
    }

    pub fn consumers(&mut self) -> &mut [Worker] {
        &mut self.consumers
    }

    pub fn all(&mut self) -> impl Iterator<Item = &mut Worker> {
        self.producers.iter_mut().chain(&mut self.consumers)
    }

    /// Stops the producers, waits until the consumers have received every record of the topic, and
    /// stops the consumers.
    pub fn end(mut self, brokers: &Brokers) -> Result<Evidence> {
        for producer in &mut self.producers {
            producer.send(Command::Stop);
        }
        let limit = self.participants.delivery_timeout + MAX_WAIT;
        for producer in &mut self.producers {
            producer.await_end(limit)?;
        }
        let log = read_log(brokers, &self.topic)?;
        self.await_all_seen(log.len())?;
        for consumer in &mut self.consumers {
            consumer.send(Command::Stop);
        }
        for consumer in &mut self.consumers {
            consumer.await_end(MAX_WAIT)?;
        }
        let producers = self.producers.iter().map(Worker::read_journal).collect::<Result<_>>()?;
        let consumers = self.consumers.iter().map(Worker::read_journal).collect::<Result<_>>()?;
        Ok(Evidence { producers, consumers, log })
    }

    /// A timeout is no failure here: the oracle reports the records that no consumer received.
    fn await_all_seen(&mut self, count: usize) -> Result<()> {
        let (run, mut seen) = (self.run, std::collections::HashSet::new());
        if self.consumers.is_empty() {
            return Ok(());
        }
        let all = eventually("the consumers have seen all", MAX_WAIT, || {
            for consumer in &mut self.consumers {
                let got = |entry: Entry| match entry {
                    Entry::Received { partition, id, .. } | Entry::Corrupted { partition, id, .. } => {
                        Some((partition, id))
                    }
                    _ => None,
                };
                consumer.read_new()?;
                seen.extend(consumer.pending.drain(..).filter_map(got));
            }
            Ok((seen.len() >= count).then_some(()))
        });
        if all.is_err() {
            run.report(format_args!("the consumers have seen {} of {count}", seen.len()));
        }
        Ok(())
    }
}

fn names(workers: &[&mut Worker]) -> String {
    workers.iter().map(|worker| worker.name.as_str()).collect::<Vec<_>>().join(", ")
}

/// Creates a topic that accepts writes while one of its replicas is unavailable.
pub fn create_topic(bootstrap: &str, topic: &str, partitions: u32, replicas: u32) -> Result<()> {
    let octopus = plugin_tests::open_library().or_fail("loading the library")?;
    let config = json!({"kafka": {"bootstrap.servers": bootstrap}, "timeout_ms": 60_000});
    let driver = octopus.driver(config).or_fail("creating a driver")?;
    let settings = json!({"min.insync.replicas": replicas.saturating_sub(1).max(1).to_string()});
    let options = TopicOptions::default().partitions(partitions).replication(replicas).option("config", settings);
    driver.create_topic(topic, &options).or_fail(format_args!("creating topic {topic}"))
}

/// A worker process.
pub struct Worker {
    pub name: String,
    process: Child,
    journal: PathBuf,
    reader: Reader,
    /// Entries that `await_all_seen` has not processed yet.
    pending: Vec<Entry>,
    pub is_killed: bool,
    is_stopping: bool,
}

impl Worker {
    /// Starts the process. Its journal and its log are in the run's folder.
    pub fn start(run: &Run, name: &str, mut job: Job) -> Result<Self> {
        job.journal = run.folder.join(format!("{name}.journal"));
        let log = run.folder.join(format!("{name}.log"));
        let log_file = File::create(&log).or_fail(format_args!("creating {}", log.display()))?;
        let program = std::env::current_exe().or_fail("looking for this program")?;
        let text = serde_json::to_string(&job).or_fail("writing the job")?;
        run.log(format_args!("{name}: {text}"));
        let mut process = Process::new(program);
        process.args([WORKER_ARGUMENT, &text]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log_file);
        let process = process.spawn().or_fail(format_args!("starting {name}"))?;
        let reader = Reader::new(&job.journal);
        let (journal, name) = (job.journal, name.to_owned());
        Ok(Worker { name, process, journal, reader, pending: Vec::new(), is_killed: false, is_stopping: false })
    }

    /// Reads the entries that the worker has written since the last call.
    pub fn read_new(&mut self) -> Result<Vec<Entry>> {
        let new_entries = self.reader.read_new()?;
        self.pending.extend(new_entries.iter().cloned());
        Ok(new_entries)
    }

    /// Waits until the worker writes an entry that `wanted` accepts, and returns what `wanted`
    /// returned.
    pub fn await_entry<T>(&mut self, what: &str, timeout: Duration, wanted: impl Fn(&Entry) -> Option<T>) -> Result<T> {
        let awaited = format!("{}: {what}", self.name);
        eventually(awaited, timeout, || {
            let new_entries = self.read_new()?;
            let found = new_entries.iter().find_map(&wanted);
            if found.is_none() {
                self.expect_alive()?;
            }
            Ok(found)
        })
    }

    pub fn send(&mut self, command: Command) {
        self.is_stopping |= command == Command::Stop;
        if let Some(input) = &mut self.process.stdin {
            // The process may have exited; `expect_alive` and `await_end` report that.
            let _ = input.write_all(command.line().as_bytes());
        }
    }

    pub fn kill(&mut self) -> Result<()> {
        self.is_killed = true;
        self.process.kill().or_fail(format_args!("killing {}", self.name))?;
        self.process.wait().map(drop).or_fail(format_args!("waiting for {} to end", self.name))
    }

    pub fn signal(&self, signal: i32) -> Result<()> {
        // SAFETY: `kill` has no memory preconditions. The pid is still our child's: it is not
        // reaped before `self` is dropped.
        let sent = unsafe { libc::kill(self.process.id() as i32, signal) } == 0;
        check(sent, format_args!("sending signal {signal} to {}", self.name))
    }

    /// The CPU time (user and system) that the process has used.
    pub fn processor_time(&self) -> Result<Duration> {
        let path = format!("/proc/{}/stat", self.process.id());
        let text = std::fs::read_to_string(Path::new(&path)).or_fail(format_args!("reading {path}"))?;
        // proc(5): after the name in parentheses, utime and stime are the 12th and 13th value.
        let values = text.rsplit_once(')').map_or("", |(_, values)| values);
        let ticks: u64 = values.split_whitespace().skip(11).take(2).filter_map(|value| value.parse::<u64>().ok()).sum();
        // SAFETY: `sysconf` has no preconditions; it returns a constant of the system.
        let ticks_a_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) }.max(1) as u64;
        Ok(Duration::from_millis(ticks * 1000 / ticks_a_second))
    }

    fn is_running(&self) -> bool {
        !self.is_killed && !self.is_stopping
    }

    /// Fails if the process has exited with an error although it was not stopped.
    pub fn expect_alive(&mut self) -> Result<()> {
        match self.process.try_wait() {
            Ok(Some(status)) if !self.is_stopping && !self.is_killed && !status.success() => {
                Err(Failure(format!("{} ended with {status}, see its log", self.name)))
            }
            _ => Ok(()),
        }
    }

    pub fn await_end(&mut self, timeout: Duration) -> Result<()> {
        if self.is_killed {
            return Ok(());
        }
        let awaited = format!("{} has ended", self.name);
        let ended = eventually(awaited, timeout, || self.process.try_wait().or_fail("looking whether it has ended"));
        let status = match ended {
            Ok(status) => status,
            Err(why) => return Err(Failure(format!("{why}: it hangs; its threads are\n{}", self.stacks()))),
        };
        check(status.success(), format_args!("{} ended with {status}, see its log", self.name))
    }

    /// Waits until the process has ended, in whatever way.
    pub fn await_exit(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let ended = eventually(&self.name, timeout, || self.process.try_wait().or_fail("looking whether it has ended"));
        ended.map_err(|why| Failure(format!("{why}: it has not ended; its threads are\n{}", self.stacks())))
    }

    /// The backtraces of the process' threads, if gdb is installed.
    fn stacks(&self) -> String {
        let pid = self.process.id().to_string();
        let args = ["60", "gdb", "-p", &pid, "-batch", "-ex", "thread apply all backtrace 12"];
        let printed = Process::new("timeout").args(args).stdin(Stdio::null()).output();
        printed.map_or_else(|_| "unknown".to_owned(), |output| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Reads the whole journal.
    fn read_journal(&self) -> Result<WorkerJournal> {
        Ok(WorkerJournal { entries: Reader::new(&self.journal).read_new()?, is_killed: self.is_killed })
    }

    /// Resident memory, in bytes.
    pub fn memory(&self) -> Result<u64> {
        let path = format!("/proc/{}/statm", self.process.id());
        let text = std::fs::read_to_string(Path::new(&path)).or_fail(format_args!("reading {path}"))?;
        let pages = text.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
        pages.map(|pages| pages * 4096).ok_or_else(|| Failure(format!("{path} says {text:?}")))
    }
}

/// Kills the process, so that a failed run leaves none running.
impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
