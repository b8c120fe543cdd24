//! A topic with producers and consumers at work, to which something can be done, and whose end is judged.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Stdio};
use std::time::Duration;

use octopus_loader::TopicOptions;
use serde_json::{Value, json};

use crate::brokers::Brokers;
use crate::journal::{Entry, Reader, now};
use crate::oracle::{Evidence, Work};
use crate::run::{Failure, OrFail as _, Result, Run, check, eventually};
use crate::worker::{Command, Consuming, Job, Producing, ROLE, Role, Spoil};

/// For what should happen at all once the brokers are well.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Who works in a scene.
#[derive(Debug, Clone)]
pub struct Cast {
    pub partitions: u32,
    pub producers: u32,
    pub consumers: u32,
    /// Events a second of each producer.
    pub rate: u32,
    pub largest: usize,
    pub delivery_timeout: Duration,
    /// The driver's time limit for calls, `push` among them.
    pub timeout: Duration,
    /// Further properties of the producers, and of the consumers that are there from the beginning.
    pub producing: Value,
    pub consuming: Value,
    pub spoil: Option<Spoil>,
    /// Behind the names of topic and workers, where a run has several scenes.
    pub suffix: &'static str,
}

impl Default for Cast {
    fn default() -> Self {
        Cast {
            partitions: 3,
            producers: 2,
            consumers: 1,
            rate: 300,
            largest: 200_000,
            delivery_timeout: Duration::from_secs(120),
            timeout: Duration::from_secs(60),
            producing: json!({}),
            consuming: json!({}),
            spoil: None,
            suffix: "",
        }
    }
}

pub struct Scene<'a> {
    pub run: &'a Run,
    pub topic: String,
    bootstrap: String,
    cast: Cast,
    producers: Vec<Worker>,
    consumers: Vec<Worker>,
}

impl<'a> Scene<'a> {
    /// Makes the topic, on as many replicas as there are brokers, and starts all; returns when events flow.
    pub fn open(run: &'a Run, brokers: &Brokers, cast: Cast) -> Result<Self> {
        let topic = format!("row-{}-{:x}{}", run.row, run.seed, cast.suffix);
        let bootstrap = brokers.bootstrap();
        make_topic(&bootstrap, &topic, cast.partitions, brokers.count() as u32)?;
        let mut scene = Scene { run, topic, bootstrap, cast, producers: Vec::new(), consumers: Vec::new() };
        for _ in 0..scene.cast.producers {
            scene.add_producer()?;
        }
        for _ in 0..scene.cast.consumers {
            scene.add_consumer(1000, false, scene.cast.consuming.clone())?;
        }
        scene.await_flow(PATIENCE)?;
        Ok(scene)
    }

    fn add_producer(&mut self) -> Result<()> {
        let producer = self.producers.len() as u32;
        let mut kafka = json!({"delivery.timeout.ms": self.cast.delivery_timeout.as_millis() as u64, "linger.ms": 5});
        let given = self.cast.producing.as_object().cloned().unwrap_or_default();
        kafka.as_object_mut().expect("an object").extend(given);
        let role = Role::Produce(Producing {
            producer,
            rate: self.cast.rate,
            largest: self.cast.largest,
            answer_within_ms: (self.cast.delivery_timeout + Duration::from_secs(30)).as_millis() as u64,
            spoil: self.cast.spoil,
        });
        let name = format!("producer-{producer}{}", self.cast.suffix);
        let worker = Worker::start(self.run, &name, self.job(kafka, role, u64::from(producer)))?;
        self.producers.push(worker);
        Ok(())
    }

    /// One more consumer, of the scene's group; its place.
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
        let place = self.consumers.len();
        let role = Role::Consume(Consuming { group: group.to_owned(), acknowledged_in_1000, out_of_order });
        let name = format!("consumer-{place}{}", self.cast.suffix);
        let worker = Worker::start(self.run, &name, self.job(kafka, role, 1_000 + place as u64))?;
        self.consumers.push(worker);
        Ok(place)
    }

    fn job(&self, kafka: Value, role: Role, number: u64) -> Job {
        Job {
            bootstrap: self.bootstrap.clone(),
            topic: self.topic.clone(),
            journal: PathBuf::new(),
            seed: self.run.seed.wrapping_add(number),
            kafka,
            timeout_ms: self.cast.timeout.as_millis() as u64,
            role,
        }
    }

    /// Waits until each producer has delivered something that it pushed after this call, and each consumer that works has
    /// got something. How long that took.
    pub fn await_flow(&mut self, at_most: Duration) -> Result<Duration> {
        let since = now();
        let arrived = |entry: &Entry| match entry {
            Entry::Delivered { at, after_ms, .. } => *at > since + after_ms,
            Entry::Got { at, .. } => *at > since,
            _ => false,
        };
        let mut waited_for: Vec<&mut Worker> = self.producers.iter_mut().chain(&mut self.consumers).collect();
        waited_for.retain(|worker| worker.is_working());
        eventually("events flow", at_most, || {
            let mut still = Vec::new();
            for worker in waited_for.drain(..) {
                worker.expect_alive()?;
                if !worker.news()?.iter().any(arrived) {
                    still.push(worker);
                }
            }
            waited_for = still;
            Ok(waited_for.is_empty().then_some(()))
        })
        .map_err(|why| Failure(format!("{why}; without any: {}", names(&waited_for))))?;
        Ok(Duration::from_millis(now() - since))
    }

    /// Waits until no consumer has been given or has lost a partition for so long: its group has settled.
    pub fn await_settled_group(&mut self, quiet: Duration, at_most: Duration) -> Result<()> {
        let mut last = now();
        eventually("the group settles", at_most, || {
            for worker in self.consumers.iter_mut().filter(|worker| worker.is_working()) {
                worker.expect_alive()?;
                let rebalanced = worker.news()?.iter().any(|entry| matches!(entry, Entry::Rebalanced { .. }));
                if rebalanced {
                    last = now();
                }
            }
            Ok((Duration::from_millis(now() - last) >= quiet).then_some(()))
        })
    }

    /// Waits until each producer has told what became of a push of this number or a higher one.
    pub fn await_number(&mut self, wanted: u64) -> Result<()> {
        self.producers.iter_mut().try_for_each(|producer| {
            producer.await_entry(&format!("push {wanted} is delivered"), PATIENCE, |entry| {
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

    /// Has the producers finish, waits until the consumers have seen all that is in the topic, and has them finish too.
    pub fn end(mut self, brokers: &Brokers) -> Result<Evidence> {
        for producer in &mut self.producers {
            producer.tell(Command::Stop);
        }
        let limit = self.cast.delivery_timeout + PATIENCE;
        for producer in &mut self.producers {
            producer.await_end(limit)?;
        }
        let log = brokers.read(&self.topic)?;
        self.await_all_seen(log.len())?;
        for consumer in &mut self.consumers {
            consumer.tell(Command::Stop);
        }
        for consumer in &mut self.consumers {
            consumer.await_end(PATIENCE)?;
        }
        let producers = self.producers.iter().map(Worker::work).collect::<Result<_>>()?;
        let consumers = self.consumers.iter().map(Worker::work).collect::<Result<_>>()?;
        Ok(Evidence { producers, consumers, log })
    }

    /// What they don't see in time the oracle tells.
    fn await_all_seen(&mut self, count: usize) -> Result<()> {
        let (run, mut seen) = (self.run, std::collections::HashSet::new());
        if self.consumers.is_empty() {
            return Ok(());
        }
        let all = eventually("the consumers have seen all", PATIENCE, || {
            for consumer in &mut self.consumers {
                let got = |entry: Entry| match entry {
                    Entry::Got { partition, id, .. } | Entry::Spoiled { partition, id, .. } => Some((partition, id)),
                    _ => None,
                };
                consumer.news()?;
                seen.extend(consumer.read.drain(..).filter_map(got));
            }
            Ok((seen.len() >= count).then_some(()))
        });
        if all.is_err() {
            run.say(format_args!("the consumers have seen {} of {count}", seen.len()));
        }
        Ok(())
    }
}

fn names(workers: &[&mut Worker]) -> String {
    workers.iter().map(|worker| worker.name.as_str()).collect::<Vec<_>>().join(", ")
}

/// A topic with this many replicas, of which one may be missing.
pub fn make_topic(bootstrap: &str, topic: &str, partitions: u32, replicas: u32) -> Result<()> {
    let octopus = plugin_tests::open_library().or_fail("loading the library")?;
    let config = json!({"kafka": {"bootstrap.servers": bootstrap}, "timeout_ms": 60_000});
    let driver = octopus.driver(config).or_fail("making a driver")?;
    let settings = json!({"min.insync.replicas": replicas.saturating_sub(1).max(1).to_string()});
    let options = TopicOptions::default().partitions(partitions).replication(replicas).option("config", settings);
    driver.create_topic(topic, &options).or_fail(format_args!("making topic {topic}"))
}

/// A process of its own.
pub struct Worker {
    pub name: String,
    process: Child,
    journal: PathBuf,
    reader: Reader,
    /// What was read and nobody has taken yet.
    read: Vec<Entry>,
    pub is_killed: bool,
    is_told_to_stop: bool,
}

impl Worker {
    /// Starts it. Its journal and its log are in the run's folder.
    fn start(run: &Run, name: &str, mut job: Job) -> Result<Self> {
        job.journal = run.folder.join(format!("{name}.journal"));
        let log = run.folder.join(format!("{name}.log"));
        let log_file = File::create(&log).or_fail(format_args!("making {}", log.display()))?;
        let program = std::env::current_exe().or_fail("looking for this program")?;
        let text = serde_json::to_string(&job).or_fail("writing the job")?;
        run.keep(format_args!("{name}: {text}"));
        let mut process = Process::new(program);
        process.args([ROLE, &text]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log_file);
        let process = process.spawn().or_fail(format_args!("starting {name}"))?;
        let reader = Reader::new(&job.journal);
        let (journal, name) = (job.journal, name.to_owned());
        Ok(Worker { name, process, journal, reader, read: Vec::new(), is_killed: false, is_told_to_stop: false })
    }

    /// What it has written since the last call.
    pub fn news(&mut self) -> Result<Vec<Entry>> {
        let news = self.reader.news()?;
        self.read.extend(news.iter().cloned());
        Ok(news)
    }

    /// Waits until it has written something of the kind, and gives that.
    pub fn await_entry<T>(&mut self, what: &str, at_most: Duration, wanted: impl Fn(&Entry) -> Option<T>) -> Result<T> {
        let awaited = format!("{}: {what}", self.name);
        eventually(awaited, at_most, || {
            let news = self.news()?;
            let found = news.iter().find_map(&wanted);
            if found.is_none() {
                self.expect_alive()?;
            }
            Ok(found)
        })
    }

    pub fn tell(&mut self, command: Command) {
        self.is_told_to_stop |= command == Command::Stop;
        if let Some(input) = &mut self.process.stdin {
            // It may have ended already, which is noticed elsewhere.
            let _ = input.write_all(command.line().as_bytes());
        }
    }

    pub fn kill(&mut self) -> Result<()> {
        self.is_killed = true;
        self.process.kill().or_fail(format_args!("killing {}", self.name))?;
        self.process.wait().map(drop).or_fail(format_args!("waiting for {} to end", self.name))
    }

    pub fn signal(&self, signal: i32) -> Result<()> {
        // SAFETY: has no preconditions; the process is ours, and is not waited for before this object ends.
        let sent = unsafe { libc::kill(self.process.id() as i32, signal) } == 0;
        check(sent, format_args!("sending signal {signal} to {}", self.name))
    }

    /// For how long it has used a processor.
    pub fn processor_time(&self) -> Result<Duration> {
        let path = format!("/proc/{}/stat", self.process.id());
        let text = std::fs::read_to_string(Path::new(&path)).or_fail(format_args!("reading {path}"))?;
        // proc(5): behind the name, in parentheses, utime and stime are the 12th and 13th value.
        let values = text.rsplit_once(')').map_or("", |(_, values)| values);
        let ticks: u64 = values.split_whitespace().skip(11).take(2).filter_map(|value| value.parse::<u64>().ok()).sum();
        // SAFETY: asks for a constant.
        let ticks_a_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) }.max(1) as u64;
        Ok(Duration::from_millis(ticks * 1000 / ticks_a_second))
    }

    fn is_working(&self) -> bool {
        !self.is_killed && !self.is_told_to_stop
    }

    /// Fails if it has ended without being told to.
    pub fn expect_alive(&mut self) -> Result<()> {
        match self.process.try_wait() {
            Ok(Some(status)) if !self.is_told_to_stop && !self.is_killed && !status.success() => {
                Err(Failure(format!("{} ended with {status}, see its log", self.name)))
            }
            _ => Ok(()),
        }
    }

    pub fn await_end(&mut self, at_most: Duration) -> Result<()> {
        if self.is_killed {
            return Ok(());
        }
        let awaited = format!("{} has ended", self.name);
        let ended = eventually(awaited, at_most, || self.process.try_wait().or_fail("looking whether it has ended"));
        let status = match ended {
            Ok(status) => status,
            Err(why) => return Err(Failure(format!("{why}: it hangs; its threads are\n{}", self.stacks()))),
        };
        check(status.success(), format_args!("{} ended with {status}, see its log", self.name))
    }

    /// Where its threads are, if a debugger is there.
    fn stacks(&self) -> String {
        let pid = self.process.id().to_string();
        let args = ["60", "gdb", "-p", &pid, "-batch", "-ex", "thread apply all backtrace 12"];
        let printed = Process::new("timeout").args(args).stdin(Stdio::null()).output();
        printed.map_or_else(|_| "unknown".to_owned(), |output| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// All that it has written, from the beginning.
    fn work(&self) -> Result<Work> {
        Ok(Work { entries: Reader::new(&self.journal).news()?, is_killed: self.is_killed })
    }

    /// Resident memory, in bytes.
    pub fn memory(&self) -> Result<u64> {
        let path = format!("/proc/{}/statm", self.process.id());
        let text = std::fs::read_to_string(Path::new(&path)).or_fail(format_args!("reading {path}"))?;
        let pages = text.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
        pages.map(|pages| pages * 4096).ok_or_else(|| Failure(format!("{path} says {text:?}")))
    }
}

/// A run that fails leaves no process behind.
impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
