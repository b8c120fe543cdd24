//! Every call that could wait, without a reachable broker.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use octopus_loader::{
    Bounds, Consumer, Driver, Flow, NewEvent, Producer, Result as CallResult, Status, Topic, TopicOptions,
};
use serde_json::{Value, json};

use super::super::host::{CallbackLog, TimeLimit, lock};
use super::Address;
use crate::run::Run;

/// The driver's `timeout_ms`, and the time limit of calls that have one.
pub const LIMIT: Duration = Duration::from_millis(900);
/// The delivery timeout: longer than `LIMIT`, so that waits with a limit end first.
const DELIVERY: Duration = Duration::from_millis(2_500);
/// The number of events that each producer pushes.
pub const EVENTS: u64 = 3;
/// The limit of calls that don't wait.
const AT_ONCE: Duration = Duration::ZERO;

#[derive(Clone, Copy)]
pub struct Calls<'a> {
    pub run: &'a Run,
    pub address: &'a Address,
    pub callback_log: &'a CallbackLog,
    pub failed: &'a Mutex<Vec<String>>,
    /// Whether the broker was reachable before, so that some facts are cached.
    pub was_reachable: bool,
}

/// The permitted outcomes of a call.
#[derive(Clone, Copy)]
enum Expectation<'a> {
    /// An error with one of these statuses, which names the address.
    Fail(&'a [Status]),
    /// As `Fail`; success and a timeout are permitted, too.
    FailOrTimeOut(&'a [Status]),
    Succeed,
}

const UNREACHABLE: &[Status] = &[Status::Unreachable];

impl Calls<'_> {
    pub fn check_new_driver(&self) {
        let create = || self.callback_log.driver(config(&self.address.address));
        if let Some(driver) = self.call("driver.create", AT_ONCE, Expectation::Succeed, create) {
            self.check_driver(driver);
        }
    }

    pub fn check_driver(&self, driver: Driver) {
        let fails = Expectation::Fail(UNREACHABLE);
        let options = TopicOptions::default().replication(1);
        // Each call twice: the second time the client already knows that the brokers are
        // unreachable.
        for _ in 0..2 {
            self.call("driver.topic_exists", LIMIT, fails, || driver.topic_exists("nowhere"));
            self.call("driver.list_topics", LIMIT, fails, || driver.list_topics());
            self.call("driver.open_topic", LIMIT, fails, || driver.open_topic("nowhere"));
            self.call("driver.create_topic", LIMIT, fails, || driver.create_topic("nowhere", &options));
            self.call("driver.delete_topic", LIMIT, fails, || driver.delete_topic("nowhere"));
            self.call("driver.empty_topic", LIMIT, fails, || driver.empty_topic("nowhere"));
        }
        self.call("driver.describe", AT_ONCE, Expectation::Succeed, || driver.describe());
        self.release("driver.release", driver);
    }

    pub fn check_new_producer(&self, topic: &Topic) {
        let make = || produce(topic, &self.address.address);
        if let Some(producer) = self.call("topic.make_producer", AT_ONCE, Expectation::Succeed, make) {
            self.check_producer(producer);
        }
    }

    pub fn check_producer(&self, producer: Producer) {
        let (event, began) = (NewEvent::json(&json!({"data": 1})), Instant::now());
        let Some(push) = self.call("producer.push", AT_ONCE, Expectation::Succeed, || producer.push(&event)) else {
            return;
        };
        self.call("producer.push_forget", AT_ONCE, Expectation::Succeed, || producer.push_forget(&event));
        self.call("push.try_wait", AT_ONCE, Expectation::Succeed, || push.try_wait());
        self.call("push.wait", LIMIT, Expectation::FailOrTimeOut(&[]), || push.wait(LIMIT));
        let Some(flush) = self.call("producer.flush", AT_ONCE, Expectation::Succeed, || producer.flush()) else {
            return;
        };
        // A wait longer than the delivery timeout ends with it.
        let rest = || DELIVERY.saturating_sub(began.elapsed());
        self.call("flush.wait", LIMIT, Expectation::FailOrTimeOut(&[Status::Kafka]), || flush.wait(LIMIT));
        self.wait_without_limit("push.wait for ever", rest(), || push.wait(octopus_loader::FOREVER).map(drop));
        self.wait_without_limit("flush.wait for ever", rest(), || flush.wait(octopus_loader::FOREVER));
        self.call("producer.push", AT_ONCE, Expectation::Succeed, || producer.push(&event));
        self.call("producer.max_event_size", AT_ONCE, Expectation::Succeed, || producer.max_event_size());
        self.call("producer.close", LIMIT, Expectation::FailOrTimeOut(&[]), || producer.close(LIMIT));
        self.call("producer.push", AT_ONCE, Expectation::Fail(&[Status::Closed]), || producer.push(&event));
        self.release("producer.release", producer);
    }

    pub fn check_new_consumer(&self, topic: &Topic, targets: &[u32]) {
        let make = || consume(topic, &self.address.address, targets);
        if let Some(consumer) = self.call("topic.make_consumer", AT_ONCE, Expectation::Succeed, make) {
            self.check_consumer(consumer);
        }
    }

    pub fn check_consumer(&self, consumer: Consumer) {
        let may_time_out = Expectation::FailOrTimeOut(UNREACHABLE);
        let Some(pull) = self.call("consumer.pull", AT_ONCE, Expectation::Succeed, || consumer.pull()) else { return };
        self.call("pull.wait", LIMIT, may_time_out, || no_event(pull.wait(LIMIT)));
        self.call("pull.is_done", AT_ONCE, Expectation::Succeed, || pull.is_done());
        for _ in 0..2 {
            self.call("consumer.next", LIMIT, may_time_out, || no_event(consumer.next(LIMIT)));
            self.call("consumer.pull_many", LIMIT, may_time_out, || {
                no_event(consumer.pull_many(10, LIMIT).map(|events| (!events.is_empty()).then_some(())))
            });
            let bounds = Bounds { timeout: LIMIT, ..Bounds::default() };
            self.call("consumer.process", LIMIT, may_time_out, || {
                consumer.process(bounds, None, |event| {
                    // An unexpected event fails with a status that no call here permits.
                    if event.is_some() {
                        Err(octopus_loader::Error::from_host("an unexpected event"))
                    } else {
                        Ok(Flow::Stop)
                    }
                })
            });
            // Without acknowledgements there may be nothing to commit.
            self.call("consumer.commit", LIMIT, may_time_out, || consumer.commit(LIMIT));
            // Partitions that are not assigned can't be queried.
            let query: &[Status] = &[Status::Unreachable, Status::Stale, Status::InvalidArgument];
            let query = if self.was_reachable { Expectation::FailOrTimeOut(query) } else { Expectation::Fail(query) };
            self.call("consumer.position", LIMIT, query, || consumer.position(0));
            self.call("consumer.committed", LIMIT, query, || consumer.committed(0));
            self.call("consumer.lag", LIMIT, query, || consumer.lag(0));
            self.call(
                "consumer.seek",
                LIMIT,
                Expectation::FailOrTimeOut(&[Status::Unreachable, Status::Stale, Status::InvalidArgument]),
                || consumer.seek(0, 0),
            );
            self.call("consumer.assignment", AT_ONCE, Expectation::Succeed, || consumer.assignment());
        }
        self.call("consumer.unsubscribe", LIMIT, may_time_out, || consumer.unsubscribe());
        self.call("consumer.close", LIMIT, may_time_out, || consumer.close(LIMIT));
        self.call("consumer.next", AT_ONCE, Expectation::Fail(&[Status::Closed]), || consumer.next(LIMIT));
        self.release("consumer.release", (pull, consumer));
    }

    /// Waits without a limit for an object that ends at the delivery timeout, with an error that
    /// names the address.
    fn wait_without_limit(&self, what: &str, limit: Duration, call: impl FnOnce() -> CallResult<()>) {
        /// librdkafka checks for timed-out messages once a second.
        const SCAN: Duration = Duration::from_millis(1_000);
        self.call(what, limit + SCAN, Expectation::Fail(&[Status::Kafka]), call);
    }

    fn release(&self, what: &str, handles: impl Sized) {
        self.call(what, AT_ONCE, Expectation::Succeed, || {
            drop(handles);
            Ok::<_, octopus_loader::Error>(())
        });
    }

    fn call<T, E: CallError>(
        &self,
        what: &str,
        limit: Duration,
        expectation: Expectation<'_>,
        call: impl FnOnce() -> std::result::Result<T, E>,
    ) -> Option<T> {
        let (began, checked) = (Instant::now(), TimeLimit::begin(limit));
        let result = call();
        let (took, checked) = (began.elapsed(), checked.check());
        let outcome = result.as_ref().map(drop).map_err(CallError::status_and_message);
        self.run.log(format_args!("{}: {what} took {took:?}: {outcome:?}", self.address.description));
        if let Err(late) = checked {
            self.add_failure(what, late);
        }
        if let Some(wrong) = self.violation(expectation, &outcome) {
            self.add_failure(what, wrong);
        }
        result.ok()
    }

    fn violation(
        &self,
        expectation: Expectation<'_>,
        outcome: &std::result::Result<(), (Option<Status>, String)>,
    ) -> Option<String> {
        let (status, message) = match outcome {
            Ok(()) if matches!(expectation, Expectation::Fail(_)) => {
                return Some("succeeded without a reachable broker".to_owned());
            }
            Ok(()) => return None,
            Err((Some(status), message)) => (*status, message),
            Err((None, message)) => return Some(format!("failed: {message}")),
        };
        let allowed = match expectation {
            Expectation::Succeed => &[],
            Expectation::Fail(allowed) => allowed,
            Expectation::FailOrTimeOut(_) if status == Status::TimedOut => return None,
            Expectation::FailOrTimeOut(allowed) => allowed,
        };
        if !allowed.contains(&status) {
            return Some(format!("failed with {status:?}: {message}"));
        }
        let names = [Status::Unreachable, Status::Kafka].contains(&status);
        (names && !message.contains(&self.address.address)).then(|| format!("doesn't name the address: {message}"))
    }

    fn add_failure(&self, what: &str, how: impl std::fmt::Display) {
        lock(self.failed).push(format!("{what}, with {} ({}): {how}", self.address.description, self.address.address));
    }
}

/// The configuration of a driver for this address.
pub fn config(at: &str) -> Value {
    json!({
        "kafka": {"bootstrap.servers": at},
        "disable_info_topic": true,
        "timeout_ms": LIMIT.as_millis() as u64,
        "open_retry_ms": 100,
    })
}

pub fn produce(topic: &Topic, at: &str) -> CallResult<Producer> {
    let builder = topic.producer("unreachable").kafka("bootstrap.servers", at);
    builder.kafka("delivery.timeout.ms", DELIVERY.as_millis() as u64).make()
}

pub fn consume(topic: &Topic, at: &str, targets: &[u32]) -> CallResult<Consumer> {
    topic.consumer("unreachable").kafka("bootstrap.servers", at).targets(targets).make()
}

fn no_event<T>(pulled: CallResult<Option<T>>) -> CallResult<()> {
    match pulled? {
        None => Ok(()),
        Some(_) => Err(octopus_loader::Error::from_host("an unexpected event")),
    }
}

/// An error of the plugin or of the row.
trait CallError {
    fn status_and_message(&self) -> (Option<Status>, String);
}

impl CallError for octopus_loader::Error {
    fn status_and_message(&self) -> (Option<Status>, String) {
        (Some(self.status), self.message.clone())
    }
}

impl CallError for crate::run::Failure {
    fn status_and_message(&self) -> (Option<Status>, String) {
        (None, self.to_string())
    }
}
