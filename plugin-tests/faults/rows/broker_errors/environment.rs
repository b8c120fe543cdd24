//! Two mock brokers and a driver. Each scenario has a topic and a producer of its own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use octopus_loader::{Delivered, Driver, Error, NewEvent, Producer, Push};
use rdkafka::types::RDKafkaApiKey;
use serde_json::json;

use super::super::host::CallbackLog;
use super::super::mock::Mock;
use crate::run::{Failure, OrFail, Result, check};

/// The limit for everything that must happen.
pub const MAX_WAIT: Duration = Duration::from_secs(20);
/// The leaders of the topic's two partitions.
pub const FIRST: i32 = 1;
pub const SECOND: i32 = 2;

pub struct Environment {
    pub mock: Mock,
    pub callback_log: CallbackLog,
    driver: Driver,
}

/// A topic and its producer, which has not sent anything yet.
pub struct Participant<'a> {
    pub environment: &'a Environment,
    pub producer: Producer,
    pub name: String,
}

pub type Outcome = std::result::Result<Delivered, Error>;

impl Environment {
    pub fn start() -> Result<Self> {
        let (mock, callback_log) = (Mock::start(2)?, CallbackLog::default());
        let driver = callback_log.driver(json!({
            "kafka": {"bootstrap.servers": mock.bootstrap()},
            "disable_info_topic": true,
            "timeout_ms": 10_000,
        }))?;
        Ok(Environment { mock, callback_log, driver })
    }

    /// Creates a topic with one partition on each broker, and a producer for it.
    pub fn add_participant(&self, delivery_timeout: Duration, more: &[(&str, &str)]) -> Result<Participant<'_>> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let name = format!("scenario-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        self.mock.topic(&name, &[FIRST, SECOND])?;
        let topic = self.driver.open_topic(&name).or_fail("opening the scenario's topic")?;
        // A dedicated client, so that each scenario includes the start of a client.
        let mut builder = topic.producer(&name).kafka("linger.ms", 200).option("client", "dedicated");
        builder = builder.kafka("delivery.timeout.ms", delivery_timeout.as_millis() as u64);
        for (property, value) in more {
            builder = builder.kafka(property, *value);
        }
        let producer = builder.make().or_fail("creating a producer")?;
        Ok(Participant { environment: self, producer, name })
    }
}

impl Participant<'_> {
    /// Delivers one event to each partition, so that the producer has a producer id and
    /// connections.
    pub fn warm_up(&self) -> Result<()> {
        for partition in 0..2 {
            let at = self.push(partition)?.wait(MAX_WAIT).or_fail("pushing before any error")?;
            let first = Delivered { partition, id: Some(0) };
            check(at == first, format_args!("the first event of a partition is at {first:?}, not at {at:?}"))?;
        }
        Ok(())
    }

    pub fn push(&self, partition: u32) -> Result<Push> {
        self.try_push(partition).or_fail(format_args!("pushing to partition {partition}"))
    }

    pub fn try_push(&self, partition: u32) -> std::result::Result<Push, Error> {
        let data = [7; 100];
        self.producer.push(&NewEvent::json(&json!({"of": self.name})).data(&data).partition(partition.into()))
    }

    pub fn push_several(&self, partition: u32, count: usize) -> Result<Vec<Push>> {
        (0..count).map(|_| self.push(partition)).collect()
    }

    /// The result of each push; fails if one is pending too long.
    pub fn outcomes(&self, pushes: &[Push]) -> Result<Vec<Outcome>> {
        let outcome = |push: &Push| {
            let outcome = push.wait(MAX_WAIT);
            check(push.is_done().or_fail("testing a push")?, format_args!("a push ends within {MAX_WAIT:?}"))?;
            Ok(outcome)
        };
        pushes.iter().map(outcome).collect()
    }

    /// Checks that the events were delivered in the order of their pushes, from offset `from` on.
    pub fn check_delivered(&self, pushes: &[Push], partition: u32, from: u64) -> Result<()> {
        for (outcome, offset) in self.outcomes(pushes)?.into_iter().zip(from..) {
            let expected = Delivered { partition, id: Some(offset) };
            let at = outcome.or_fail(format_args!("an event that should be delivered at {expected:?}"))?;
            check(at == expected, format_args!("an event is at {expected:?}, not at {at:?}"))?;
        }
        Ok(())
    }

    /// Checks that a push succeeds again.
    pub fn check_push_succeeds(&self, partition: u32) -> Result<u64> {
        let pushed = self.push(partition)?;
        pushed.wait(MAX_WAIT).or_fail("pushing after the errors")?;
        Ok(1)
    }

    /// Checks that a flush reports the number of failures since the last flush and the code of the
    /// first one, and that close then reports none.
    pub fn check_flush_and_close(&self, failed: usize, code: i32) -> Result<()> {
        let flush = self.producer.flush().or_fail("flushing")?.wait(MAX_WAIT);
        match (failed, flush) {
            (0, flush) => flush.or_fail("a flush after events that were all delivered")?,
            (_, Ok(())) => return Err(Failure::new(format_args!("a flush does not report {failed} failures"))),
            (_, Err(error)) => check(
                error.kafka_code == Some(code) && error.message.contains(&failed.to_string()),
                format_args!("a flush reports {failed} failures with code {code}, not {error:?}"),
            )?,
        }
        self.producer.close(MAX_WAIT).or_fail("closing a producer with nothing in flight")
    }

    /// Checks that the brokers have returned all prescribed errors.
    pub fn check_all_errors_sent(&self, request: RDKafkaApiKey) -> Result<()> {
        for broker in [FIRST, SECOND] {
            let left = self.environment.mock.remaining_errors(broker, request)?;
            check(left == 0, format_args!("broker {broker} returned all prescribed errors, {left} are left"))?;
        }
        Ok(())
    }
}
