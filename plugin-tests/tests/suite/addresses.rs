//! Wrong broker addresses, and host names that resolve to several addresses.

use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use octopus_loader::{Error, NewEvent, Producer, Status, Topic};
use octopus_testkit::poll;
use octopus_testkit::proxy::Proxy;
use serde_json::json;

use crate::kafka::{Kafka, unique};
use crate::support::{Log, SLOWNESS, TIMEOUT, driver_with, one_replica, topic};

const CONNECT_TIMEOUT: Duration = Duration::from_millis(2000);
/// The delay that a busy machine may add to a report.
const SLACK: Duration = Duration::from_millis(1500 * SLOWNESS as u64);

/// An address that does not respond: the listener's accept queue is full, so Linux drops further
/// SYN packets.
fn silent_address() -> &'static str {
    static SILENT: LazyLock<(TcpListener, Vec<TcpStream>, String)> = LazyLock::new(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        // SAFETY: `listen` has no memory preconditions; `listener` owns the open socket during the
        // call.
        assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 0) }, 0);
        let address = listener.local_addr().unwrap();
        let connect = || TcpStream::connect_timeout(&address, Duration::from_millis(300));
        let queued: Vec<_> = std::iter::from_fn(|| connect().ok()).collect();
        (listener, queued, address.to_string())
    });
    &SILENT.2
}

fn unreachable() -> String {
    format!("127.0.0.1:1,nowhere.invalid:9092,{}", silent_address())
}

/// Checks that a call fails in time with an error that lists the three addresses and their reasons.
fn check_report<T>(call: &str, report: impl FnOnce() -> Result<T, Error>) {
    let began = Instant::now();
    let Err(error) = report() else { panic!("{call} succeeded") };
    let took = began.elapsed();
    assert_eq!(error.status, Status::Unreachable, "{call}: {error}");
    for part in [
        "127.0.0.1:1: Connect to ipv4#127.0.0.1:1 failed: Connection refused",
        "nowhere.invalid:9092: Failed to resolve",
        &format!("{}: ", silent_address()),
        "connect_timeout_ms is 2000",
    ] {
        assert!(error.message.contains(part), "{call}: {part:?} is not in: {error}");
    }
    assert!(took < CONNECT_TIMEOUT + SLACK, "{call} took {took:?}");
}

fn producer_to(topic: &Topic, bootstrap: &str) -> Producer {
    topic.producer("unreached").kafka("bootstrap.servers", bootstrap).make().unwrap()
}

#[test]
fn driver_call_without_a_reachable_broker_lists_each_address() {
    let settings = json!({"kafka": {"bootstrap.servers": unreachable()}, "connect_timeout_ms": 2000});
    let log = Log::default();
    let driver = driver_with(settings, &log);
    check_report("topic_exists", || driver.topic_exists("topic"));
    check_report("open_topic", || driver.open_topic("topic"));
    check_report("create_topic", || driver.create_topic("topic", &one_replica()));
    check_report("list_topics", || driver.list_topics());
    check_report("delete_topic", || driver.delete_topic("topic"));
}

#[test]
fn wait_without_a_reachable_broker_lists_each_address() {
    let log = Log::default();
    let driver = driver_with(json!({"connect_timeout_ms": 2000}), &log);
    let name = unique("unreached");
    driver.create_topic(&name, &one_replica()).unwrap();
    let topic = driver.open_topic(&name).unwrap();

    let producer = producer_to(&topic, &unreachable());
    let push = producer.push(&NewEvent::json("kept")).unwrap();
    check_report("push and wait", || push.wait(TIMEOUT));
    assert!(!push.is_done().unwrap(), "the event is kept");
    check_report("flush and wait", || producer.flush().unwrap().wait(TIMEOUT));
    check_report("close", || producer.close(TIMEOUT));

    let full = topic.producer("full").kafka("bootstrap.servers", unreachable());
    let full = full.kafka("queue.buffering.max.messages", 1).make().unwrap();
    full.push_forget(&NewEvent::json("first")).unwrap();
    check_report("push at the in-flight limit", || full.push_forget(&NewEvent::json("second")));

    let consumer = topic.consumer(&unique("unreached")).kafka("bootstrap.servers", unreachable()).make().unwrap();
    check_report("pull", || consumer.pull().unwrap().wait(TIMEOUT));
    check_report("committed", || consumer.committed(0));
    let began = Instant::now();
    consumer.close(TIMEOUT).unwrap();
    assert!(began.elapsed() < CONNECT_TIMEOUT + SLACK, "closing took {:?}", began.elapsed());
}

#[test]
fn unreached_client_logs_one_warning_within_two_seconds() {
    let (log, other) = (Log::default(), topic("logged", 1));
    let driver = driver_with(json!({"kafka": {"bootstrap.servers": Kafka::shared().bootstrap()}}), &log);
    let topic = driver.open_topic(other.name()).unwrap();
    let _producer = producer_to(&topic, silent_address());
    let is_warned = || log.text().contains("no broker is reached yet").then_some(());
    assert!(poll(Duration::from_secs(2) + SLACK, is_warned).is_some(), "no warning in the log");
    let refused = producer_to(&topic, "127.0.0.1:1");
    refused.push_forget(&NewEvent::json("kept")).unwrap();
    std::thread::sleep(Duration::from_secs(3));
    let is_reported = |line: &str| line.starts_with("warning") || line.starts_with("error");
    assert_eq!(log.count(|line| is_reported(line) && line.contains("127.0.0.1:1")), 1, "{log:?}");
}

#[test]
fn events_pushed_before_the_first_contact_are_delivered_later() {
    let topic = topic("late-contact", 1);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    let driver = driver_with(json!({"connect_timeout_ms": 500}), &Log::default());
    let topic = driver.open_topic(topic.name()).unwrap();
    let producer = producer_to(&topic, &address);
    let push = producer.push(&NewEvent::json("kept")).unwrap();
    assert_eq!(push.wait(TIMEOUT).unwrap_err().status, Status::Unreachable);
    Proxy::forward(TcpListener::bind(&address).unwrap(), 0, Kafka::shared().bootstrap()).unwrap();
    let end = Instant::now() + TIMEOUT;
    while let Err(error) = push.wait(TIMEOUT) {
        assert_eq!(error.status, Status::Unreachable, "{error}");
        assert!(Instant::now() < end, "never delivered: {error}");
    }
}

#[test]
fn localhost_with_one_refusing_address_connects_without_delay() {
    let port = Kafka::shared().bootstrap().rsplit(':').next().unwrap();
    let (log, made) = (Log::default(), topic("localhost", 1));
    let driver = driver_with(json!({"kafka": {"bootstrap.servers": format!("localhost:{port}")}}), &log);
    let topic = driver.open_topic(made.name()).unwrap();
    let producer = topic.producer("localhost").make().unwrap();
    let began = Instant::now();
    producer.push(&NewEvent::json("quick")).unwrap().wait(TIMEOUT).unwrap();
    assert!(began.elapsed() < Duration::from_millis(300 * u64::from(SLOWNESS)), "{:?}", began.elapsed());
    assert_eq!(log.count(|line| line.contains("refused") && !line.starts_with("debug")), 0, "{log:?}");
}
