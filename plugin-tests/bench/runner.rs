//! Runs what is measured: each measurement in a process of its own, one after the other, in pairs A B B A.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use plugin_tests::{Driver, TopicOptions};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};

use crate::job::{Figures, Job, Side, Work};
use crate::measure::ROLE;
use crate::plugin;
use crate::scenarios::Point;

/// No measurement takes longer, unless it hangs.
const LONGEST: Duration = Duration::from_secs(600);

/// One measurement, as it stands in the rows.
#[derive(Debug, Clone)]
pub struct Row {
    pub scenario: &'static str,
    pub at: String,
    pub pair: usize,
    /// A or B: what stands above a ratio is B's.
    pub is_b: bool,
    pub side: Side,
    pub figures: Figures,
}

pub struct Runner {
    bootstrap: String,
    driver: Driver,
    counter: BaseConsumer,
    /// Topics with events in them, by their number, size and partitions.
    filled: HashMap<(u64, usize, u32), String>,
    topics: u32,
}

type Result<T> = std::result::Result<T, String>;

impl Runner {
    pub fn new(bootstrap: &str) -> Result<Self> {
        let mut config = ClientConfig::new();
        let counter =
            config.set("bootstrap.servers", bootstrap).create().map_err(|why| format!("a counting client: {why}"))?;
        let driver = plugin::driver(bootstrap, false);
        Ok(Runner { bootstrap: bootstrap.to_owned(), driver, counter, filled: HashMap::new(), topics: 0 })
    }

    /// All pairs of a point.
    pub fn run(&mut self, point: &Point) -> Result<Vec<Row>> {
        let b = if point.with_itself { Side::Floor } else { Side::Plugin };
        let mut rows = Vec::new();
        for pair in 0..point.pairs {
            let order = if pair % 2 == 0 { [false, true] } else { [true, false] };
            for is_b in order {
                let side = if is_b { b } else { Side::Floor };
                let figures = self
                    .measure(point, side)
                    .map_err(|why| format!("{}, {}, {side:?}: {why}", point.scenario, point.at))?;
                rows.push(Row { scenario: point.scenario, at: point.at.clone(), pair, is_b, side, figures });
            }
        }
        Ok(rows)
    }

    fn measure(&mut self, point: &Point, side: Side) -> Result<Figures> {
        let topic =
            if point.needs_a_fresh_topic() { self.fresh_topic(point.partitions)? } else { self.filled_topic(point)? };
        let figures = self.job(point, side, &topic, point.work.clone())?;
        if let Some(expected) = point.left_behind() {
            // What fails fast looks fast.
            let there = self.count(&topic, point.partitions)?;
            if there != expected {
                return Err(format!("{there} events are in the topic, not {expected}"));
            }
        }
        if point.needs_a_fresh_topic() {
            self.driver.delete_topic(&topic).map_err(|why| why.to_string())?;
        }
        Ok(figures)
    }

    fn job(&self, point: &Point, side: Side, topic: &str, work: Work) -> Result<Figures> {
        let mut kafka = point.kafka.clone();
        if side == Side::Floor {
            kafka.extend(point.floor_only.clone());
        }
        let job = Job {
            side,
            bootstrap: self.bootstrap.clone(),
            topic: topic.to_owned(),
            partitions: point.partitions,
            data: point.data,
            kafka,
            is_bare: false,
            work,
        };
        run_process(&serde_json::to_string(&job).map_err(|why| why.to_string())?)
    }

    fn fresh_topic(&mut self, partitions: u32) -> Result<String> {
        self.topics += 1;
        let topic = format!("bench-{}-{}", std::process::id(), self.topics);
        let options = TopicOptions::default().partitions(partitions).replication(1);
        self.driver.create_topic(&topic, &options).map_err(|why| why.to_string())?;
        Ok(topic)
    }

    fn filled_topic(&mut self, point: &Point) -> Result<String> {
        let key = (point.filled, point.data, point.partitions);
        if let Some(topic) = self.filled.get(&key) {
            return Ok(topic.clone());
        }
        let topic = self.fresh_topic(point.partitions)?;
        // One event more, which warms up.
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

fn run_process(job: &str) -> Result<Figures> {
    let program = std::env::current_exe().map_err(|why| why.to_string())?;
    let mut command = Command::new(program);
    command.args([ROLE, job]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().map_err(|why| format!("starting {command:?}: {why}"))?;
    let mut said = process.stderr.take();
    let stdout = process.stdout.take();
    let (sender, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        if let Some(stdout) = stdout {
            let _ = BufReader::new(stdout).read_line(&mut line);
        }
        let _ = sender.send(line);
    });
    let began = Instant::now();
    let line = told.recv_timeout(LONGEST);
    if line.is_err() {
        let _ = process.kill();
    }
    let status = process.wait().map_err(|why| why.to_string())?;
    let mut complaint = String::new();
    if let Some(said) = &mut said {
        let _ = said.read_to_string(&mut complaint);
    }
    let line = line.map_err(|_| format!("nothing was told in {:?}: {complaint}", began.elapsed()))?;
    serde_json::from_str(&line).map_err(|why| format!("{status}, {why}: {line}{complaint}"))
}
