//! Every call that could wait, with nobody to answer.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use octopus_loader::{
    Bounds, Consumer, Driver, Flow, NewEvent, Producer, Result as Called, Status, Topic, TopicOptions,
};
use serde_json::{Value, json};

use super::super::host::{Heard, Limit, held};
use super::Address;
use crate::run::Run;

/// The driver's `timeout_ms`; also what is given to calls that take a time.
pub const LIMIT: Duration = Duration::from_millis(900);
/// Longer than that, so that waits end before it does.
const DELIVERY: Duration = Duration::from_millis(2_500);
/// Pushed by each producer.
pub const EVENTS: u64 = 3;
/// For what doesn't wait.
const AT_ONCE: Duration = Duration::ZERO;

#[derive(Clone, Copy)]
pub struct Calls<'a> {
    pub run: &'a Run,
    pub address: &'a Address,
    pub heard: &'a Heard,
    pub failed: &'a Mutex<Vec<String>>,
    /// Whether a broker was there, and went: then some things are known.
    pub was_there: bool,
}

/// What a call may come to.
#[derive(Clone, Copy)]
enum May<'a> {
    /// An error of one of these kinds, which says who doesn't answer.
    Fail(&'a [Status]),
    /// Also nothing: the time has passed, which is no error.
    Pass(&'a [Status]),
    Succeed,
}

const UNREACHABLE: &[Status] = &[Status::Unreachable];

impl Calls<'_> {
    pub fn of_driver(&self) {
        let create = || self.heard.driver(config(&self.address.at));
        if let Some(driver) = self.call("driver.create", AT_ONCE, May::Succeed, create) {
            self.on_driver(driver);
        }
    }

    pub fn on_driver(&self, driver: Driver) {
        let fails = May::Fail(UNREACHABLE);
        let made = TopicOptions::default().replication(1);
        // Each twice: the second time there is a trouble that stood before.
        for _ in 0..2 {
            self.call("driver.topic_exists", LIMIT, fails, || driver.topic_exists("nowhere"));
            self.call("driver.list_topics", LIMIT, fails, || driver.list_topics());
            self.call("driver.open_topic", LIMIT, fails, || driver.open_topic("nowhere"));
            self.call("driver.create_topic", LIMIT, fails, || driver.create_topic("nowhere", &made));
            self.call("driver.delete_topic", LIMIT, fails, || driver.delete_topic("nowhere"));
            self.call("driver.empty_topic", LIMIT, fails, || driver.empty_topic("nowhere"));
        }
        self.call("driver.describe", AT_ONCE, May::Succeed, || driver.describe());
        self.release("driver.release", driver);
    }

    pub fn of_producer(&self, topic: &Topic) {
        let make = || produce(topic, &self.address.at);
        if let Some(producer) = self.call("topic.make_producer", AT_ONCE, May::Succeed, make) {
            self.on_producer(producer);
        }
    }

    pub fn on_producer(&self, producer: Producer) {
        let (event, began) = (NewEvent::json(&json!({"data": 1})), Instant::now());
        let Some(push) = self.call("producer.push", AT_ONCE, May::Succeed, || producer.push(&event)) else { return };
        self.call("producer.push_forget", AT_ONCE, May::Succeed, || producer.push_forget(&event));
        self.call("push.try_wait", AT_ONCE, May::Succeed, || push.try_wait());
        self.call("push.wait", LIMIT, May::Pass(&[]), || push.wait(LIMIT));
        let Some(flush) = self.call("producer.flush", AT_ONCE, May::Succeed, || producer.flush()) else { return };
        // What is given more time than a delivery has ends with that.
        let rest = || DELIVERY.saturating_sub(began.elapsed());
        self.call("flush.wait", LIMIT, May::Pass(&[Status::Kafka]), || flush.wait(LIMIT));
        self.settle("push.wait for ever", rest(), || push.wait(octopus_loader::FOREVER).map(drop));
        self.settle("flush.wait for ever", rest(), || flush.wait(octopus_loader::FOREVER));
        self.call("producer.push", AT_ONCE, May::Succeed, || producer.push(&event));
        self.call("producer.max_event_size", AT_ONCE, May::Succeed, || producer.max_event_size());
        self.call("producer.close", LIMIT, May::Pass(&[]), || producer.close(LIMIT));
        self.call("producer.push", AT_ONCE, May::Fail(&[Status::Closed]), || producer.push(&event));
        self.release("producer.release", producer);
    }

    pub fn of_consumer(&self, topic: &Topic, targets: &[u32]) {
        let make = || consume(topic, &self.address.at, targets);
        if let Some(consumer) = self.call("topic.make_consumer", AT_ONCE, May::Succeed, make) {
            self.on_consumer(consumer);
        }
    }

    pub fn on_consumer(&self, consumer: Consumer) {
        let pull = May::Pass(UNREACHABLE);
        let Some(ticket) = self.call("consumer.pull", AT_ONCE, May::Succeed, || consumer.pull()) else { return };
        self.call("pull.wait", LIMIT, pull, || no_event(ticket.wait(LIMIT)));
        self.call("pull.is_done", AT_ONCE, May::Succeed, || ticket.is_done());
        for _ in 0..2 {
            self.call("consumer.next", LIMIT, pull, || no_event(consumer.next(LIMIT)));
            self.call("consumer.pull_many", LIMIT, pull, || {
                no_event(consumer.pull_many(10, LIMIT).map(|events| (!events.is_empty()).then_some(())))
            });
            let bounds = Bounds { timeout: LIMIT, ..Bounds::default() };
            self.call("consumer.process", LIMIT, pull, || {
                consumer.process(bounds, None, |event| {
                    // What would be a defect is told by the status that no call here may have.
                    if event.is_some() {
                        Err(octopus_loader::Error::from_host("an event of nobody"))
                    } else {
                        Ok(Flow::Stop)
                    }
                })
            });
            // Nothing was acknowledged, so there may be nothing to ask for.
            self.call("consumer.commit", LIMIT, pull, || consumer.commit(LIMIT));
            // Partitions that the group has not given are nobody's.
            let asked: &[Status] = &[Status::Unreachable, Status::Stale, Status::InvalidArgument];
            let asked = if self.was_there { May::Pass(asked) } else { May::Fail(asked) };
            self.call("consumer.position", LIMIT, asked, || consumer.position(0));
            self.call("consumer.committed", LIMIT, asked, || consumer.committed(0));
            self.call("consumer.lag", LIMIT, asked, || consumer.lag(0));
            self.call(
                "consumer.seek",
                LIMIT,
                May::Pass(&[Status::Unreachable, Status::Stale, Status::InvalidArgument]),
                || consumer.seek(0, 0),
            );
            self.call("consumer.assignment", AT_ONCE, May::Succeed, || consumer.assignment());
        }
        self.call("consumer.unsubscribe", LIMIT, pull, || consumer.unsubscribe());
        self.call("consumer.close", LIMIT, pull, || consumer.close(LIMIT));
        self.call("consumer.next", AT_ONCE, May::Fail(&[Status::Closed]), || consumer.next(LIMIT));
        self.release("consumer.release", (ticket, consumer));
    }

    /// A wait without a limit, for what has one of its own: the delivery time-out, whose error names the address.
    fn settle(&self, what: &str, limit: Duration, call: impl FnOnce() -> Called<()>) {
        /// librdkafka looks for what has timed out once a second.
        const SCAN: Duration = Duration::from_millis(1_000);
        self.call(what, limit + SCAN, May::Fail(&[Status::Kafka]), call);
    }

    fn release(&self, what: &str, handles: impl Sized) {
        self.call(what, AT_ONCE, May::Succeed, || {
            drop(handles);
            Ok::<_, octopus_loader::Error>(())
        });
    }

    fn call<T, E: Told>(
        &self,
        what: &str,
        limit: Duration,
        may: May<'_>,
        call: impl FnOnce() -> std::result::Result<T, E>,
    ) -> Option<T> {
        let (began, kept) = (Instant::now(), Limit::begin(limit));
        let result = call();
        let (took, kept) = (began.elapsed(), kept.is_kept());
        let told = result.as_ref().map(drop).map_err(Told::told);
        self.run.keep(format_args!("{}: {what} took {took:?}: {told:?}", self.address.is));
        if let Err(late) = kept {
            self.complain(what, late);
        }
        if let Some(wrong) = self.is_wrong(may, &told) {
            self.complain(what, wrong);
        }
        result.ok()
    }

    fn is_wrong(&self, may: May<'_>, told: &std::result::Result<(), (Option<Status>, String)>) -> Option<String> {
        let (status, message) = match told {
            Ok(()) if matches!(may, May::Fail(_)) => return Some("succeeded, with nobody there".to_owned()),
            Ok(()) => return None,
            Err((Some(status), message)) => (*status, message),
            Err((None, message)) => return Some(format!("failed: {message}")),
        };
        let allowed = match may {
            May::Succeed => &[],
            May::Fail(allowed) => allowed,
            May::Pass(_) if status == Status::TimedOut => return None,
            May::Pass(allowed) => allowed,
        };
        if !allowed.contains(&status) {
            return Some(format!("failed with {status:?}: {message}"));
        }
        let names = [Status::Unreachable, Status::Kafka].contains(&status);
        (names && !message.contains(&self.address.at)).then(|| format!("doesn't name the address: {message}"))
    }

    fn complain(&self, what: &str, how: impl std::fmt::Display) {
        held(self.failed).push(format!("{what}, with {} ({}): {how}", self.address.is, self.address.at));
    }
}

/// Of a driver that finds this address.
pub fn config(at: &str) -> Value {
    json!({
        "kafka": {"bootstrap.servers": at},
        "disable_info_topic": true,
        "timeout_ms": LIMIT.as_millis() as u64,
        "open_retry_ms": 100,
    })
}

pub fn produce(topic: &Topic, at: &str) -> Called<Producer> {
    let builder = topic.producer("nobody's").kafka("bootstrap.servers", at);
    builder.kafka("delivery.timeout.ms", DELIVERY.as_millis() as u64).make()
}

pub fn consume(topic: &Topic, at: &str, targets: &[u32]) -> Called<Consumer> {
    topic.consumer("nobody's").kafka("bootstrap.servers", at).targets(targets).make()
}

fn no_event<T>(pulled: Called<Option<T>>) -> Called<()> {
    match pulled? {
        None => Ok(()),
        Some(_) => Err(octopus_loader::Error::from_host("an event of nobody")),
    }
}

/// What a call of the plugin, or of the row, failed with.
trait Told {
    fn told(&self) -> (Option<Status>, String);
}

impl Told for octopus_loader::Error {
    fn told(&self) -> (Option<Status>, String) {
        (Some(self.status), self.message.clone())
    }
}

impl Told for crate::run::Failure {
    fn told(&self) -> (Option<Status>, String) {
        (None, self.to_string())
    }
}
