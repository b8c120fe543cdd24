//! Two brokers, a driver, and for each scene a topic and a producer of its own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use octopus_loader::{Delivered, Driver, Error, NewEvent, Producer, Push};
use rdkafka::types::RDKafkaApiKey;
use serde_json::json;

use super::super::host::Heard;
use super::super::mock::Mock;
use crate::run::{Failure, OrFail, Result, check};

/// Long enough for all that should happen at all.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// Who leads the topic's partitions.
pub const FIRST: i32 = 1;
pub const SECOND: i32 = 2;

pub struct Stage {
    pub mock: Mock,
    pub heard: Heard,
    driver: Driver,
}

/// A producer that has not sent anything yet.
pub struct Actor<'a> {
    pub stage: &'a Stage,
    pub producer: Producer,
    pub name: String,
}

pub type Outcome = std::result::Result<Delivered, Error>;

impl Stage {
    pub fn set() -> Result<Self> {
        let (mock, heard) = (Mock::start(2)?, Heard::default());
        let driver = heard.driver(json!({
            "kafka": {"bootstrap.servers": mock.bootstrap()},
            "disable_info_topic": true,
            "timeout_ms": 10_000,
        }))?;
        Ok(Stage { mock, heard, driver })
    }

    /// A topic with one partition at each broker, and a producer for it.
    pub fn actor(&self, delivery_timeout: Duration, more: &[(&str, &str)]) -> Result<Actor<'_>> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let name = format!("scene-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        self.mock.topic(&name, &[FIRST, SECOND])?;
        let topic = self.driver.open_topic(&name).or_fail("opening the scene's topic")?;
        // Each scene's broker is to see a client begin.
        let mut builder = topic.producer(&name).kafka("linger.ms", 200).option("client", "dedicated");
        builder = builder.kafka("delivery.timeout.ms", delivery_timeout.as_millis() as u64);
        for (property, value) in more {
            builder = builder.kafka(property, *value);
        }
        let producer = builder.make().or_fail("making a producer")?;
        Ok(Actor { stage: self, producer, name })
    }
}

impl Actor<'_> {
    /// Has a place in both partitions, an id, and connections.
    pub fn warm_up(&self) -> Result<()> {
        for partition in 0..2 {
            let at = self.push(partition)?.wait(PATIENCE).or_fail("pushing before anything is wrong")?;
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

    /// What became of each; that it ended is looked at first.
    pub fn outcomes(&self, pushes: &[Push]) -> Result<Vec<Outcome>> {
        let outcome = |push: &Push| {
            let outcome = push.wait(PATIENCE);
            check(push.is_done().or_fail("testing a push")?, format_args!("a push ends within {PATIENCE:?}"))?;
            Ok(outcome)
        };
        pushes.iter().map(outcome).collect()
    }

    /// It was delivered, in the order of the pushes, from this offset on.
    pub fn delivered(&self, pushes: &[Push], partition: u32, from: u64) -> Result<()> {
        for (outcome, offset) in self.outcomes(pushes)?.into_iter().zip(from..) {
            let expected = Delivered { partition, id: Some(offset) };
            let at = outcome.or_fail(format_args!("an event that should be delivered at {expected:?}"))?;
            check(at == expected, format_args!("an event is at {at:?}, where {expected:?} was its turn"))?;
        }
        Ok(())
    }

    /// Until it works again: what a push says in between is counted.
    pub fn works_again(&self, partition: u32) -> Result<u64> {
        let pushed = self.push(partition)?;
        pushed.wait(PATIENCE).or_fail("pushing when all is well again")?;
        Ok(1)
    }

    /// Each flush tells of the failures since the one before, and of the first of them; closing tells of none then.
    pub fn concludes(&self, failed: usize, code: i32) -> Result<()> {
        let flush = self.producer.flush().or_fail("flushing")?.wait(PATIENCE);
        match (failed, flush) {
            (0, flush) => flush.or_fail("a flush behind events that were all delivered")?,
            (_, Ok(())) => return Err(Failure::new(format_args!("a flush says nothing of {failed} failures"))),
            (_, Err(error)) => check(
                error.kafka_code == Some(code) && error.message.contains(&failed.to_string()),
                format_args!("a flush tells of {failed} failures with code {code}, not {error:?}"),
            )?,
        }
        self.producer.close(PATIENCE).or_fail("closing a producer with nothing in flight")
    }

    /// All that was to be answered wrongly was.
    pub fn all_was_answered(&self, request: RDKafkaApiKey) -> Result<()> {
        for broker in [FIRST, SECOND] {
            let left = self.stage.mock.answers_left_by(broker, request)?;
            check(left == 0, format_args!("broker {broker} was asked {left} times less than it should have been"))?;
        }
        Ok(())
    }
}
