//! Workers that share the tasks of a topic: consumers of one group, each on a thread of its own.
//! A worker acknowledges a task after it has done it. One worker fails in the middle of a task;
//! Kafka then delivers this task to another worker.
//!
//! ```sh
//! cargo run --release --example worker_pool -- localhost:9092
//! ```

use std::collections::HashSet;
use std::env;
use std::process::{self, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use octopus_loader::{Library, NewEvent, Status, Topic, TopicOptions};
use serde_json::json;

const TASKS: usize = 300;
const WORKERS: usize = 3;
/// At least the number of workers, since only one worker of a group reads a partition at a time.
const PARTITIONS: u32 = 6;
/// The first worker that gets this task fails.
const FATAL_TASK: u64 = 100;
const TIMEOUT: Duration = Duration::from_secs(30);

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("worker_pool: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let servers = env::args().nth(1).ok_or("usage: worker_pool BOOTSTRAP-SERVERS")?;
    let library = Library::find()?;
    let driver = library.driver(json!({"kafka": {"bootstrap.servers": servers}}))?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let name = format!("worker-pool-{}-{}", process::id(), now.as_millis());
    driver.create_topic(&name, &TopicOptions::default().partitions(PARTITIONS).replication(1))?;
    let topic = driver.open_topic(&name)?;
    push_tasks(&topic)?;

    let pool = Pool::default();
    let counts = thread::scope(|scope| {
        let (pool, topic) = (&pool, &topic);
        let workers: Vec<_> = (0..WORKERS).map(|worker| scope.spawn(move || pool.work(worker, topic))).collect();
        workers.into_iter().map(|worker| worker.join().expect("a worker does not panic")).collect::<Result<Vec<_>>>()
    })?;
    for (worker, count) in counts.iter().enumerate() {
        println!("worker {worker} did {count} tasks");
    }
    let left = TASKS - pool.done.lock().unwrap().len();
    if left > 0 {
        return Err(format!("{left} tasks are left, and no worker").into());
    }
    println!("all {TASKS} tasks done, {} of them twice", counts.iter().sum::<usize>() - TASKS);
    Ok(())
}

fn push_tasks(topic: &Topic) -> Result<()> {
    let producer = topic.producer("tasks").make()?;
    for task in 0..TASKS {
        producer.push_forget(&NewEvent::json(&json!({"task": task})))?;
    }
    // Waits for the deliveries, and reports those that failed.
    Ok(producer.close(TIMEOUT)?)
}

/// What the workers share.
#[derive(Default)]
struct Pool {
    /// The tasks that are done. Some are done twice: an event is delivered again if its partition
    /// gets another reader before its acknowledgement is committed.
    done: Mutex<HashSet<u64>>,
    has_failed: AtomicBool,
}

impl Pool {
    /// Works until all tasks are done, or until it fails in one. Returns the number of tasks that
    /// this worker did.
    fn work(&self, worker: usize, topic: &Topic) -> Result<usize> {
        // Members learn from their heartbeats that another one joined or left the group.
        let consumer = topic.consumer(topic.name()).kafka("heartbeat.interval.ms", 500).make()?;
        let mut count = 0;
        while self.done.lock().unwrap().len() < TASKS {
            let Some(event) = consumer.next(Duration::from_millis(200))? else { continue };
            let task = event.json()?["task"].as_u64().ok_or_else(|| format!("{event:?} is not a task"))?;
            if let Err(why) = self.do_task(worker, task) {
                // An acknowledgement includes all earlier events of the partition, so the worker
                // can't skip the task. It leaves the group: the others get its partitions, and
                // start there at the last acknowledged event. A task that fails on each worker
                // would end them all; count the attempts, and move it to another topic.
                println!("worker {worker} leaves: {why}");
                break;
            }
            self.done.lock().unwrap().insert(task);
            count += 1;
            match event.acknowledge() {
                // Meanwhile another worker got the partition from the group, and with it the task.
                Err(error) if error.status == Status::Stale => {}
                acknowledged => acknowledged?,
            }
        }
        consumer.close(TIMEOUT)?; // commits what is acknowledged
        Ok(count)
    }

    fn do_task(&self, worker: usize, task: u64) -> Result<()> {
        thread::sleep(Duration::from_millis(10));
        if task == FATAL_TASK {
            if !self.has_failed.swap(true, Ordering::Relaxed) {
                return Err(format!("it failed in task {task}").into());
            }
            println!("worker {worker} does task {task}, which was delivered again");
        }
        Ok(())
    }
}
