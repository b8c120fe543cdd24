//! Runs the measurements one after the other, each in a separate process, in the order A B B A.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use octopus_loader::{Driver, TopicOptions};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};

use crate::plugin;
use crate::scenarios::Point;
use crate::statistics::median;
use crate::through_cpp::{CppPoint, Task, ThroughCpp};
use baseline::ROLE;
use baseline::job::{Figures, Job, Rate, Side, Work};

/// The timeout of one measurement. One that takes longer hangs.
const MAX_DURATION: Duration = Duration::from_secs(1_200);

/// One measurement, a row of rows.csv.
#[derive(Debug, Clone)]
pub struct Row {
    pub scenario: &'static str,
    pub at: String,
    pub pair: usize,
    /// Whether this is side B. Ratios are B/A.
    pub is_b: bool,
    pub side: Side,
    pub figures: Figures,
}

pub struct Runner {
    bootstrap: String,
    driver: Driver,
    counter: BaseConsumer,
    /// Filled topics, by the number of events, the size of an event and the number of partitions.
    filled: HashMap<(u64, usize, u32), String>,
    topics: u32,
    fastest: Option<f64>,
}

type Result<T> = std::result::Result<T, String>;

impl Runner {
    pub fn new(bootstrap: &str) -> Result<Self> {
        let mut config = ClientConfig::new();
        let counter =
            config.set("bootstrap.servers", bootstrap).create().map_err(|why| format!("a counting client: {why}"))?;
        let driver = plugin::driver(bootstrap, false);
        Ok(Runner {
            bootstrap: bootstrap.to_owned(),
            driver,
            counter,
            filled: HashMap::new(),
            topics: 0,
            fastest: None,
        })
    }

    /// Measures all pairs of a point.
    pub fn run(&mut self, point: &Point) -> Result<Vec<Row>> {
        let mut point = point.clone();
        if let Work::PushAtRate { rate, seconds } = point.work {
            point.work = Work::PushAtRate { rate: Rate::PerSecond(rate.per_second(self.fastest()?)), seconds };
        }
        self.create_topics(point.topics)?;
        in_pairs(point.pairs, |pair, is_b| {
            let side = point.sides[usize::from(is_b)];
            let figures = self
                .measure(&point, side)
                .map_err(|why| format!("{}, {}, {}: {why}", point.scenario, point.at, side.name()))?;
            Ok(Row { scenario: point.scenario, at: point.at.clone(), pair, is_b, side, figures })
        })
    }

    /// Measures all pairs of a point on both backends of the C++ API.
    pub fn run_through_cpp(&mut self, cpp: &ThroughCpp, point: &CppPoint) -> Result<Vec<Row>> {
        in_pairs(point.pairs, |pair, is_b| {
            let side = CppPoint::SIDES[usize::from(is_b)];
            let figures = self
                .measure_through_cpp(cpp, point, side)
                .map_err(|why| format!("{}, {}, {}: {why}", point.scenario, point.at, side.name()))?;
            Ok(Row { scenario: point.scenario, at: point.at.to_owned(), pair, is_b, side, figures })
        })
    }

    fn measure_through_cpp(&mut self, cpp: &ThroughCpp, point: &CppPoint, side: Side) -> Result<Figures> {
        let topic = match point.task {
            Task::Open => self.new_name(),
            Task::Push | Task::FirstPush => self.new_topic(1)?,
            Task::Pull | Task::FirstEvent => {
                self.filled_topic(&Point::new("", "", point.data, Work::List).filled(point.events))?
            }
        };
        let figures = run_process(cpp.command(side, &self.bootstrap, &topic, point))?;
        self.check_event_count(&topic, 1, point.events_after_run())?;
        if !matches!(point.task, Task::Pull | Task::FirstEvent) {
            self.driver.delete_topic(&topic).map_err(|why| why.to_string())?;
        }
        Ok(figures)
    }

    /// Returns the highest push rate of librdkafka without Octopus, in events per second.
    fn fastest(&mut self) -> Result<f64> {
        if let Some(rate) = self.fastest {
            return Ok(rate);
        }
        let mut rates = Vec::new();
        for _ in 0..3 {
            let topic = self.new_topic(1)?;
            let work = Work::Push { events: 800_000, threads: 1 };
            let point = Point::new("push", "16 B", 16, work.clone());
            rates.push(self.job(&point, Side::Baseline, &topic, work)?.rate());
            self.driver.delete_topic(&topic).map_err(|why| why.to_string())?;
        }
        let rate = median(&rates).unwrap_or(f64::NAN);
        self.fastest = Some(rate);
        Ok(rate)
    }

    fn measure(&mut self, point: &Point, side: Side) -> Result<Figures> {
        let topic = if point.needs_new_topic() { self.new_topic(point.partitions)? } else { self.filled_topic(point)? };
        let figures = self.job(point, side, &topic, point.work.clone())?;
        self.check_event_count(&topic, point.partitions, point.events_after_run())?;
        if point.needs_new_topic() {
            self.driver.delete_topic(&topic).map_err(|why| why.to_string())?;
        }
        Ok(figures)
    }

    /// Checks the number of events in the topic: a run whose pushes failed would look fast.
    fn check_event_count(&self, topic: &str, partitions: u32, expected: Option<u64>) -> Result<()> {
        let Some(expected) = expected else { return Ok(()) };
        let there = self.count(topic, partitions)?;
        if there == expected { Ok(()) } else { Err(format!("{there} events are in the topic, not {expected}")) }
    }

    /// Creates `count` topics with their info topics. They are not deleted.
    fn create_topics(&mut self, count: u32) -> Result<()> {
        const AT_ONCE: usize = 8;
        let names: Vec<String> = (0..count).map(|number| format!("listed-{}-{number}", std::process::id())).collect();
        let options = TopicOptions::default().partitions(1).replication(1);
        let (driver, next) = (&self.driver, AtomicUsize::new(0));
        let make = || {
            while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
                driver.create_topic(name, &options).map_err(|why| why.to_string())?;
            }
            Ok::<(), String>(())
        };
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(make)).collect();
            workers.into_iter().try_for_each(|worker| worker.join().expect("no panic"))
        })
    }

    fn job(&self, point: &Point, side: Side, topic: &str, work: Work) -> Result<Figures> {
        let mut kafka = point.kafka.clone();
        if matches!(side, Side::Baseline | Side::Patched) {
            kafka.extend(point.baseline_only.clone());
        }
        let job = Job {
            side,
            bootstrap: self.bootstrap.clone(),
            topic: topic.to_owned(),
            partitions: point.partitions,
            data: point.data,
            kafka,
            is_bare: false,
            is_serialized: false,
            work,
        };
        let mut program = std::env::current_exe().map_err(|why| why.to_string())?;
        if side == Side::Baseline {
            program.set_file_name("baseline");
        }
        let mut command = Command::new(program);
        command.args([ROLE, &serde_json::to_string(&job).map_err(|why| why.to_string())?]);
        run_process(command)
    }

    fn new_name(&mut self) -> String {
        self.topics += 1;
        format!("bench-{}-{}", std::process::id(), self.topics)
    }

    fn new_topic(&mut self, partitions: u32) -> Result<String> {
        let topic = self.new_name();
        let options = TopicOptions::default().partitions(partitions).replication(1);
        self.driver.create_topic(&topic, &options).map_err(|why| why.to_string())?;
        Ok(topic)
    }

    fn filled_topic(&mut self, point: &Point) -> Result<String> {
        let key = (point.filled, point.data, point.partitions);
        if let Some(topic) = self.filled.get(&key) {
            return Ok(topic.clone());
        }
        let topic = self.new_topic(point.partitions)?;
        // The job pushes one more event as its warm-up.
        self.job(point, Side::Plugin, &topic, Work::Push { events: point.filled, threads: 1 })?;
        self.filled.insert(key, topic.clone());
        Ok(topic)
    }

    fn count(&self, topic: &str, partitions: u32) -> Result<u64> {
        let ends = (0..partitions as i32).map(|partition| {
            let watermarks = self.counter.fetch_watermarks(topic, partition, Duration::from_secs(30));
            watermarks.map(|(low, high)| (high - low) as u64).map_err(|why| format!("counting {topic}: {why}"))
        });
        ends.sum()
    }
}

/// Measures both sides in the order A B B A, so that a drift of the machine's speed affects both
/// alike.
pub fn in_pairs(pairs: usize, mut measure: impl FnMut(usize, bool) -> Result<Row>) -> Result<Vec<Row>> {
    let order = |pair| if pair % 2 == 0 { [false, true] } else { [true, false] };
    (0..pairs).flat_map(|pair| order(pair).map(|is_b| (pair, is_b))).map(|(pair, is_b)| measure(pair, is_b)).collect()
}

/// Runs a command that prints its figures as a line of JSON.
pub fn run_process(mut command: Command) -> Result<Figures> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().map_err(|why| format!("starting {command:?}: {why}"))?;
    let mut stderr = process.stderr.take();
    let stdout = process.stdout.take();
    let (sender, first_line) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        if let Some(stdout) = stdout {
            let _ = BufReader::new(stdout).read_line(&mut line);
        }
        let _ = sender.send(line);
    });
    let began = Instant::now();
    let line = first_line.recv_timeout(MAX_DURATION);
    if line.is_err() {
        let _ = process.kill();
    }
    let status = process.wait().map_err(|why| why.to_string())?;
    let mut stderr_text = String::new();
    if let Some(stderr) = &mut stderr {
        let _ = stderr.read_to_string(&mut stderr_text);
    }
    let line = line.map_err(|_| format!("no figures after {:?}: {stderr_text}", began.elapsed()))?;
    serde_json::from_str(&line).map_err(|why| format!("{status}, {why}: {line}{stderr_text}"))
}
