//! Octopus from end to end, as a Rust program uses it: load the plugin, make a topic, push from several threads, read
//! everything back, acknowledge, and go on after what was acknowledged. Then a topic whose events have to look a certain
//! way, which threads of a pool see to, and a consumer that reads some partitions only. It runs on the Kafka inside the
//! plugin, so it needs neither a server nor Java, or on a real one; `--help` says how. It fails if an event is lost or
//! out of order.

use std::error::Error;
use std::process::{ExitCode, id};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use octopus_loader::{Consumer, Delivered, Driver, Event, Library, NewEvent, Producer, Push, Topic, TopicOptions};
use serde_json::{Value, json};

const USAGE: &str = "\
Usage: quickstart [--kafka host:port]

Pushes events into topics and reads them back, on the Kafka inside the plugin.

  --kafka host:port  on this Kafka instead; makes two topics there, which it leaves behind
  --help             this text";

/// As many threads push as there are partitions, each into its own, so that the order can be checked.
const PARTITIONS: u32 = 3;
const EVENTS_PER_THREAD: u64 = 1_000;
/// In each partition of the second topic.
const MEASUREMENTS: u64 = 500;
const POOL_THREADS: u64 = 4;
const GROUP: &str = "quickstart-reader";
/// More than enough for everything that is waited for here.
const SOON: Duration = Duration::from_secs(30);

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
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
    let driver = make_driver(&octopus, kafka)?;
    let topic = make_topic(&driver)?;
    push_and_wait(&topic)?;
    read_and_acknowledge(&topic)?;
    go_on_after_what_was_acknowledged(&topic)?;
    let measurements = make_topic_with_a_schema(&driver)?;
    push_through_a_pool(&octopus, &measurements)?;
    read_one_partition(&measurements)?;
    println!("\nAll {} events came through, in order.", u64::from(PARTITIONS) * (EVENTS_PER_THREAD + MEASUREMENTS) + 1);
    Ok(())
}

fn load() -> Result<Library> {
    heading("1. The plugin, and a driver: one configured way to a Kafka");
    let octopus = plugin_tests::open_library()?;
    say(&format!("loaded Octopus {} with librdkafka {}", octopus.version(), octopus.librdkafka_version()));
    say(&format!("  from {}", octopus.path().display()));
    Ok(octopus)
}

fn make_driver(octopus: &Library, kafka: Option<&str>) -> Result<Driver> {
    let config = match kafka {
        None => json!({"embedded": {}}),
        Some(address) => json!({"kafka": {"bootstrap.servers": address}, "timeout_ms": 10_000}),
    };
    let driver = octopus.driver(&config)?;
    say(&format!("driver {config}"));
    Ok(driver)
}

fn make_topic(driver: &Driver) -> Result<Topic> {
    heading("2. A topic");
    create_and_open(driver, "quickstart", &TopicOptions::default())
}

fn create_and_open(driver: &Driver, name: &str, options: &TopicOptions) -> Result<Topic> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let name = format!("{name}-{}-{}", id(), now.as_millis());
    driver.create_topic(&name, &options.clone().partitions(PARTITIONS).replication(1))?;
    let topic = driver.open_topic(&name)?;
    say(&format!("created and opened {:?}: {} partitions", topic.name(), topic.partition_count()));
    Ok(topic)
}

fn push_and_wait(topic: &Topic) -> Result<()> {
    heading("3. Events, pushed by one thread per partition");
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
    say(&format!("queued {PARTITIONS} x {EVENTS_PER_THREAD} events in {:.0?}: push doesn't wait", start.elapsed()));

    heading("4. Events that are refused");
    say_refusal("metadata that is no JSON", producer.push(&NewEvent::text("{warm: yes}")))?;
    let too_large = vec![0; producer.max_event_size()? as usize + 1 - "{}".len()];
    say_refusal("one byte too many", producer.push(&NewEvent::text("{}").data(&too_large)))?;

    heading("5. Deliveries: flush, and where each event went");
    producer.flush()?.wait(SOON)?;
    say(&format!("all delivered {:.0?} after the first push", start.elapsed()));
    for (partition, pushes) in (0..).zip(&pushes) {
        check_deliveries(partition, pushes)?;
    }
    producer.close(SOON)?;
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
        let delivered = push.wait(SOON)?;
        let expected = Delivered { partition, id: Some(n) };
        ensure(delivered == expected, || format!("push {n} of thread {partition} went to {delivered:?}"))?;
    }
    say(&format!("partition {partition}: offsets 0 to {}", pushes.len() - 1));
    Ok(())
}

fn read_and_acknowledge(topic: &Topic) -> Result<()> {
    heading(&format!("6. A consumer of the group {GROUP:?} reads and acknowledges them"));
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
    say(&format!("read {counts:?} events with {bytes} bytes of data in {:.0?}, joining included", start.elapsed()));
    consumer.commit(SOON)?;
    consumer.close(SOON)?;
    say("committed what was acknowledged, and closed");
    Ok(())
}

fn check(event: &Event, thread: u32, n: u64) -> Result<()> {
    ensure(event.id() == n, || format!("{event:?} came where offset {n} was due"))?;
    ensure(event.json()? == metadata_of(thread, n), || format!("{event:?} has the metadata {:?}", event.metadata()))?;
    ensure(event.data() == data_of(thread, n), || format!("{event:?} has other data than was pushed"))
}

fn go_on_after_what_was_acknowledged(topic: &Topic) -> Result<()> {
    heading("7. One event more, and a second consumer of that group");
    let producer = topic.producer("quickstart").make()?;
    let delivered = push(&producer, 1, EVENTS_PER_THREAD)?.wait(SOON)?;
    say(&format!("pushed one event: {delivered:?}"));

    let consumer = topic.consumer(GROUP).make()?;
    let event = next(&consumer)?;
    check(&event, 1, EVENTS_PER_THREAD)?;
    say(&format!("the consumer starts with {event:?}, {}", event.metadata().unwrap_or_default()));
    event.acknowledge()?;
    let more = consumer.next(Duration::from_secs(1))?;
    ensure(more.is_none(), || format!("{more:?} came though it was acknowledged"))?;
    say("and then finds nothing for a second");
    consumer.close(SOON)?;
    Ok(())
}

fn make_topic_with_a_schema(driver: &Driver) -> Result<Topic> {
    heading("8. A topic whose metadata has to match a JSON Schema");
    let schema = json!({
        "type": "object",
        "required": ["sensor", "celsius"],
        "properties": {"sensor": {"type": "string"}, "celsius": {"type": "number", "minimum": -273.15}},
    });
    let options = TopicOptions::default().validator(json!({"type": "schema", "schema": schema}));
    let topic = create_and_open(driver, "quickstart-measurements", &options)?;

    let producer = topic.producer("quickstart").make()?;
    let too_cold = NewEvent::json(&json!({"sensor": "roof", "celsius": -300}));
    say_refusal("a temperature that there is not", producer.push(&too_cold))?;
    Ok(topic)
}

fn push_through_a_pool(octopus: &Library, topic: &Topic) -> Result<()> {
    heading(&format!("9. A pool of {POOL_THREADS} threads that checks and prepares events"));
    let pool = octopus.thread_pool(POOL_THREADS)?;
    let producer = topic.producer("quickstart").pool(&pool).make()?;
    let start = Instant::now();
    let mut pushes = Vec::new();
    for n in 0..MEASUREMENTS {
        for partition in 0..PARTITIONS {
            pushes.push((n, partition, producer.push(&NewEvent::json(&measurement(n)).partition(partition.into()))?));
        }
    }
    let too_cold = producer.push(&NewEvent::json(&json!({"sensor": "roof", "celsius": -300})))?;
    for (n, partition, push) in &pushes {
        let (delivered, expected) = (push.wait(SOON)?, Delivered { partition: *partition, id: Some(*n) });
        ensure(delivered == expected, || format!("measurement {n} of partition {partition} went to {delivered:?}"))?;
    }
    say(&format!("delivered {} events in {:.0?}, in the order of the pushes", pushes.len(), start.elapsed()));

    let Err(refused) = too_cold.wait(SOON) else { return Err("the pool let a wrong event through".into()) };
    say(&format!("what the pool refuses, the wait tells: {:?}", refused.status));
    say(&format!("  {refused}"));
    let Err(counted) = producer.close(SOON) else { return Err("closing did not tell of the refused event".into()) };
    say("and closing counts it, for those who don't wait for each push");
    say(&format!("  {counted}"));
    Ok(())
}

fn measurement(n: u64) -> Value {
    json!({"sensor": "roof", "celsius": n as f64 / 10.0})
}

fn read_one_partition(topic: &Topic) -> Result<()> {
    heading("10. A consumer that reads one partition, whatever others do");
    let target = PARTITIONS - 1;
    let consumer = topic.consumer("quickstart-target-reader").targets(&[target]).make()?;
    for n in 0..MEASUREMENTS {
        let event = next(&consumer)?;
        ensure((event.partition(), event.id()) == (target, n), || format!("{event:?} came where {n} was due"))?;
        ensure(event.json()? == measurement(n), || format!("{event:?} has the metadata {:?}", event.metadata()))?;
    }
    let more = consumer.next(Duration::from_secs(1))?;
    ensure(more.is_none(), || format!("{more:?} came from nowhere"))?;
    say(&format!("read {MEASUREMENTS} events of partition {target}, and none of the others"));
    consumer.close(SOON)?;
    Ok(())
}

fn next(consumer: &Consumer) -> Result<Event> {
    consumer.next(SOON)?.ok_or_else(|| format!("no event came in {SOON:?}").into())
}

fn say_refusal(what: &str, pushed: octopus_loader::Result<Push>) -> Result<()> {
    let Err(refused) = pushed else { return Err(format!("{what} was not refused").into()) };
    say(&format!("{what}: {:?}", refused.status));
    say(&format!("  {refused}"));
    Ok(())
}

fn ensure(holds: bool, what_else: impl FnOnce() -> String) -> Result<()> {
    if holds { Ok(()) } else { Err(what_else().into()) }
}

fn heading(text: &str) {
    println!("\n{text}");
}

fn say(text: &str) {
    println!("   {text}");
}
