//! Row 35: for a while no broker accepts connections. The members of a group try again, but don't
//! keep a CPU busy with that. Some have no partition: only their own requests need a broker.

use std::collections::HashSet;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use octopus_loader::{Consumer, NewEvent, Producer, TopicOptions};
use octopus_testkit::Kafka;
use serde_json::json;

use super::host::{CallbackLog, lock};
use super::process;
use crate::run::{OrFail, Result, Run, Tally, check, eventually};

const PARTITIONS: u32 = 3;
const MEMBERS: usize = 5;
const MAX_WAIT: Duration = Duration::from_secs(90);
const MAX_RESUME_TIME: Duration = Duration::from_secs(15);
/// Of one CPU, by all clients of the process.
const MAX_LOAD: f64 = 0.25;

pub fn run(run: &Run) -> Result<Tally> {
    let data = super::folder(&format!("outage-{}", run.seed));
    let _ = fs::remove_dir_all(&data);
    let folder = data.to_string_lossy();
    let kafka = Kafka::start(&["--dir", &folder])?;
    let address = kafka.bootstrap().to_owned();
    let port = address.rsplit(':').next().unwrap_or_default();
    let callback_log = CallbackLog::default();
    let driver = callback_log.driver(json!({"kafka": {"bootstrap.servers": address}}))?;
    let options = TopicOptions::default().partitions(PARTITIONS).replication(1);
    driver.create_topic("outage", &options).or_fail("creating the topic")?;
    let topic = driver.open_topic("outage").or_fail("opening the topic")?;
    let producer = topic.producer("writer").make().or_fail("creating the producer")?;
    let group = || topic.consumer("members").kafka("session.timeout.ms", 6000).make();
    let members = (0..MEMBERS).map(|_| group().or_fail("creating a member")).collect::<Result<Vec<_>>>()?;
    let (numbers, is_over) = (Mutex::new(HashSet::new()), AtomicBool::new(false));
    let duration = Duration::from_millis(run.rng().u64(10_000..=run.pick(12_000, 60_000)));

    let tally = thread::scope(|scope| {
        for member in &members {
            scope.spawn(|| pull(member, &numbers, &is_over));
        }
        let outage = || {
            push(&producer, 0..100)?;
            await_all(&numbers, 100, MAX_WAIT)?;
            run.report(format_args!("no broker for {duration:?}"));
            drop(kafka);
            let load = load_during(duration);
            check(load < MAX_LOAD, format_args!("the process uses less than {MAX_LOAD} of a CPU, not {load:.2}"))?;
            let _kafka = Kafka::start(&["--dir", &folder, "--port", port])?;
            let restarted = Instant::now();
            push(&producer, 100..200)?;
            await_all(&numbers, 200, MAX_RESUME_TIME)?;
            let resumed = restarted.elapsed().as_secs_f64();
            Ok(Tally {
                events: 200,
                notes: vec![format!("{:.0} % of a CPU, events flowed after {resumed:.1} s", load * 100.0)],
            })
        };
        let tally = outage();
        is_over.store(true, Ordering::Relaxed);
        tally
    });
    callback_log.write_to(run);
    if tally.is_ok() {
        let _ = fs::remove_dir_all(&data);
    }
    tally
}

/// Acknowledges events until the row is over.
fn pull(member: &Consumer, numbers: &Mutex<HashSet<u64>>, is_over: &AtomicBool) {
    while !is_over.load(Ordering::Relaxed) {
        match member.next(Duration::from_millis(500)) {
            Ok(Some(event)) => {
                let number = event.json().ok().and_then(|json| json["number"].as_u64());
                lock(numbers).extend(number);
                // After a rebalance it is stale, and the event comes again.
                let _ = event.acknowledge();
            }
            Ok(None) => {}
            // In the outage. Hosts wait before they try again.
            Err(_) => thread::sleep(Duration::from_millis(200)),
        }
    }
}

fn push(producer: &Producer, numbers: std::ops::Range<u64>) -> Result<()> {
    for number in numbers {
        producer.push_forget(&NewEvent::json(&json!({"number": number}))).or_fail("pushing")?;
    }
    producer.flush().or_fail("flushing")?.wait(MAX_WAIT).or_fail("waiting for the flush").map(drop)
}

fn await_all(numbers: &Mutex<HashSet<u64>>, count: usize, limit: Duration) -> Result<()> {
    let all = || Ok((lock(numbers).len() == count).then_some(()));
    eventually(format_args!("all {count} events arrived"), limit, all)
}

/// The share of a CPU that this process uses.
fn load_during(time: Duration) -> f64 {
    let (started, before) = (Instant::now(), process::processor_time());
    thread::sleep(time);
    (process::processor_time() - before).as_secs_f64() / started.elapsed().as_secs_f64()
}
