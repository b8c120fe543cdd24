//! Shows how a Rust program uses Octopus: it loads the plugin, creates a topic, pushes from several
//! threads, pulls and acknowledges all events, and continues after the last acknowledged event. It
//! then has a thread pool serialize the events of a second topic, and reads one partition of it.
//! It uses the embedded Kafka, so it needs neither a server nor Java, or a real Kafka (see
//! `--help`). It fails if an event is lost or out of order.

use std::env;
use std::error::Error;
use std::path::PathBuf;
use std::process::{ExitCode, id};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use octopus_loader::{Consumer, Delivered, Driver, Event, Library, NewEvent, Producer, Push, Topic, TopicOptions};
use serde_json::{Value, json};

const USAGE: &str = "\
Usage: quickstart [--kafka host:port]

Pushes events to topics and reads them back, on the embedded Kafka.

  --kafka host:port  use this Kafka instead; creates two topics and does not delete them
  --help             print this text";

/// One thread pushes to each partition, so that the order can be checked.
const PARTITIONS: u32 = 3;
const EVENTS_PER_THREAD: u64 = 1_000;
/// The number of events in each partition of the second topic.
const MEASUREMENTS: u64 = 500;
const POOL_THREADS: u64 = 4;
const GROUP: &str = "quickstart-reader";
/// The timeout of each wait.
const TIMEOUT: Duration = Duration::from_secs(30);

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let kafka = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => None,
        ["--kafka", address] => Some(address),
        ["--help"] => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(kafka) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("\nquickstart failed: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(kafka: Option<&str>) -> Result<()> {
    let octopus = load()?;
    let driver = create_driver(&octopus, kafka)?;
    heading("2. Create a topic");
    let topic = create_topic(&driver, "quickstart")?;
    push_and_wait(&topic)?;
    read_and_acknowledge(&topic)?;
    continue_after_acknowledged(&topic)?;
    heading(&format!("8. Push to another topic with a pool of {POOL_THREADS} threads that serializes the events"));
    let measurements = create_topic(&driver, "quickstart-measurements")?;
    push_with_thread_pool(&octopus, &measurements)?;
    read_one_partition(&measurements)?;
    println!(
        "\nAll {} events were delivered and read in order.",
        u64::from(PARTITIONS) * (EVENTS_PER_THREAD + MEASUREMENTS) + 1
    );
    Ok(())
}

fn load() -> Result<Library> {
    heading("1. Load the plugin and create a driver");
    let octopus = Library::open(library_path()?)?;
    print_line(&format!("loaded Octopus {} with librdkafka {}", octopus.version(), octopus.librdkafka_version()));
    print_line(&format!("  from {}", octopus.path().display()));
    Ok(octopus)
}

/// The path in `OCTOPUS_LIBRARY`, or that of the library that cargo has built for this program.
fn library_path() -> Result<PathBuf> {
    match env::var_os("OCTOPUS_LIBRARY") {
        Some(path) if !path.is_empty() => Ok(path.into()),
        _ => Ok(env::current_exe()?.with_file_name("deps").join(Library::FILE_NAME)),
    }
}

fn create_driver(octopus: &Library, kafka: Option<&str>) -> Result<Driver> {
    let config = match kafka {
        None => json!({"embedded": {}}),
        Some(address) => json!({"kafka": {"bootstrap.servers": address}, "timeout_ms": 10_000}),
    };
    let driver = octopus.driver(&config)?;
    print_line(&format!("driver {config}"));
    Ok(driver)
}

fn create_topic(driver: &Driver, name: &str) -> Result<Topic> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let name = format!("{name}-{}-{}", id(), now.as_millis());
    driver.create_topic(&name, &TopicOptions::default().partitions(PARTITIONS).replication(1))?;
    let topic = driver.open_topic(&name)?;
    print_line(&format!("created and opened {:?}: {} partitions", topic.name(), topic.partition_count()));
    Ok(topic)
}

fn push_and_wait(topic: &Topic) -> Result<()> {
    heading("3. Push events, one thread per partition");
    let producer = topic.producer("quickstart").kafka("linger.ms", 5).make()?;
    let start = Instant::now();
    let pushes: Vec<Vec<Push>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..PARTITIONS)
            .map(|partition| {
                let producer = &producer;
                scope.spawn(move || (0..EVENTS_PER_THREAD).map(|n| push(producer, partition, n)).collect())
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("a thread that doesn't panic")).collect::<Result<_>>()
    })?;
    print_line(&format!(
        "queued {PARTITIONS} x {EVENTS_PER_THREAD} events in {:.0?}: push does not wait for the delivery",
        start.elapsed()
    ));

    heading("4. Invalid events are rejected");
    print_rejection("metadata that is not JSON", producer.push(&NewEvent::text("{warm: yes}")))?;
    let too_large = vec![0; producer.max_event_size()? as usize + 1 - "{}".len()];
    print_rejection("an event one byte above the maximum size", producer.push(&NewEvent::text("{}").data(&too_large)))?;

    heading("5. Flush, and check the offset of each event");
    producer.flush()?.wait(TIMEOUT)?;
    print_line(&format!("all delivered {:.0?} after the first push", start.elapsed()));
    for (partition, pushes) in (0..).zip(&pushes) {
        check_deliveries(partition, pushes)?;
    }
    producer.close(TIMEOUT)?;
    Ok(())
}

fn push(producer: &Producer, partition: u32, n: u64) -> Result<Push> {
    let data = data_of(partition, n);
    let event = NewEvent::json(&metadata_of(partition, n)).data(&data).partition(partition.into());
    Ok(producer.push(&event)?)
}

fn metadata_of(thread: u32, n: u64) -> Value {
    json!({"thread": thread, "n": n, "unit": "°C"})
}

fn data_of(thread: u32, n: u64) -> Vec<u8> {
    vec![thread as u8; n as usize % 100]
}

fn check_deliveries(partition: u32, pushes: &[Push]) -> Result<()> {
    for (n, push) in (0..).zip(pushes) {
        let delivered = push.wait(TIMEOUT)?;
        let expected = Delivered { partition, id: Some(n) };
        ensure(delivered == expected, || format!("push {n} of thread {partition} went to {delivered:?}"))?;
    }
    print_line(&format!("partition {partition}: offsets 0 to {}", pushes.len() - 1));
    Ok(())
}

fn read_and_acknowledge(topic: &Topic) -> Result<()> {
    heading(&format!("6. Read and acknowledge the events in the group {GROUP:?}"));
    let start = Instant::now();
    let consumer = topic.consumer(GROUP).make()?;
    let mut counts = [0; PARTITIONS as usize];
    let mut bytes = 0;
    while counts != [EVENTS_PER_THREAD; PARTITIONS as usize] {
        let event = next(&consumer)?;
        let count = &mut counts[event.partition() as usize];
        check(&event, event.partition(), *count)?;
        event.acknowledge()?;
        bytes += event.data().len();
        *count += 1;
    }
    print_line(&format!(
        "read {counts:?} events with {bytes} bytes of data in {:.0?}, including the time to join the group",
        start.elapsed()
    ));
    consumer.commit(TIMEOUT)?;
    consumer.close(TIMEOUT)?;
    print_line("committed the acknowledged events and closed the consumer");
    Ok(())
}

fn check(event: &Event, thread: u32, n: u64) -> Result<()> {
    ensure(event.id() == n, || format!("{event:?} was read instead of offset {n}"))?;
    ensure(event.json()? == metadata_of(thread, n), || format!("{event:?} has the metadata {:?}", event.metadata()))?;
    ensure(event.data() == data_of(thread, n), || format!("{event:?} has data that was not pushed"))
}

fn continue_after_acknowledged(topic: &Topic) -> Result<()> {
    heading("7. Push one more event, and read it with a second consumer of the group");
    let producer = topic.producer("quickstart").make()?;
    let delivered = push(&producer, 1, EVENTS_PER_THREAD)?.wait(TIMEOUT)?;
    print_line(&format!("pushed one event: {delivered:?}"));

    let consumer = topic.consumer(GROUP).make()?;
    let event = next(&consumer)?;
    check(&event, 1, EVENTS_PER_THREAD)?;
    print_line(&format!("the consumer starts with {event:?}, {}", event.metadata().unwrap_or_default()));
    event.acknowledge()?;
    let more = consumer.next(Duration::from_secs(1))?;
    ensure(more.is_none(), || format!("{more:?} was read, although all events are acknowledged"))?;
    print_line("and receives no other event within a second");
    consumer.close(TIMEOUT)?;
    Ok(())
}

fn push_with_thread_pool(octopus: &Library, topic: &Topic) -> Result<()> {
    let pool = octopus.thread_pool(POOL_THREADS)?;
    let producer = topic.producer("quickstart").pool(&pool).make()?;
    let start = Instant::now();
    let mut pushes = Vec::new();
    for n in 0..MEASUREMENTS {
        for partition in 0..PARTITIONS {
            pushes.push((n, partition, producer.push(&NewEvent::json(&measurement(n)).partition(partition.into()))?));
        }
    }
    for (n, partition, push) in &pushes {
        let (delivered, expected) = (push.wait(TIMEOUT)?, Delivered { partition: *partition, id: Some(*n) });
        ensure(delivered == expected, || format!("measurement {n} of partition {partition} went to {delivered:?}"))?;
    }
    print_line(&format!("delivered {} events in {:.0?}, in the order of the pushes", pushes.len(), start.elapsed()));

    producer.close(TIMEOUT)?;
    Ok(())
}

fn measurement(n: u64) -> Value {
    json!({"sensor": "roof", "celsius": n as f64 / 10.0})
}

fn read_one_partition(topic: &Topic) -> Result<()> {
    heading("9. Read one partition, independently of other consumers");
    let target = PARTITIONS - 1;
    let consumer = topic.consumer("quickstart-target-reader").targets(&[target]).make()?;
    for n in 0..MEASUREMENTS {
        let event = next(&consumer)?;
        ensure((event.partition(), event.id()) == (target, n), || format!("{event:?} was read instead of offset {n}"))?;
        ensure(event.json()? == measurement(n), || format!("{event:?} has the metadata {:?}", event.metadata()))?;
    }
    let more = consumer.next(Duration::from_secs(1))?;
    ensure(more.is_none(), || format!("{more:?} was read, but no such event was pushed"))?;
    print_line(&format!("read {MEASUREMENTS} events of partition {target}, and none of the others"));
    consumer.close(TIMEOUT)?;
    Ok(())
}

fn next(consumer: &Consumer) -> Result<Event> {
    consumer.next(TIMEOUT)?.ok_or_else(|| format!("no event arrived within {TIMEOUT:?}").into())
}

fn print_rejection(what: &str, pushed: octopus_loader::Result<Push>) -> Result<()> {
    let Err(refused) = pushed else { return Err(format!("{what} was not rejected").into()) };
    print_line(&format!("{what}: {:?}", refused.status));
    print_line(&format!("  {refused}"));
    Ok(())
}

fn ensure(holds: bool, message: impl FnOnce() -> String) -> Result<()> {
    if holds { Ok(()) } else { Err(message().into()) }
}

fn heading(text: &str) {
    println!("\n{text}");
}

fn print_line(text: &str) {
    println!("   {text}");
}
