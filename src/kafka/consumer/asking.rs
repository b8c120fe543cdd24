//! What a host asks a consumer about, or tells it, besides reading: positions, ends, seeking, giving up.

use std::sync::atomic::Ordering;
use std::time::Duration;

use rdkafka::bindings as rd;
use rdkafka::types::RDKafkaErrorCode;

use super::{OFFSET_END, OFFSET_INVALID, Shared};
use crate::deadline::{Deadline, as_millis_rounded_up};
use crate::error::{Error, Kind, Result};
use crate::kafka::client::IDLE;
use crate::kafka::codes::{self, Code};
use crate::kafka::errors;
use crate::kafka::native::{self, PartitionList};

/// The longest that librdkafka is asked to wait.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

impl Shared {
    pub(super) fn position(&self, partition: u32, limit: Deadline) -> Result<u64> {
        self.check_assigned(partition)?;
        match self.positions.next(partition) {
            Some(next) => Ok(next),
            // Nothing committed and nothing read.
            None => {
                self.offsets(partition, limit).map(|(first, end)| if self.start == OFFSET_END { end } else { first })
            }
        }
    }

    pub(super) fn committed(&self, partition: u32, limit: Deadline) -> Result<Option<u64>> {
        let list = PartitionList::new(&self.c_topic, [(partition as i32, OFFSET_INVALID)])?;
        self.client.ask(limit, self.asking_for_positions(), |at_most| {
            // SAFETY: client and list are alive; the answer is written into the list.
            unsafe { codes::rd_kafka_committed(self.client.handle.as_ptr(), list.as_ptr(), at_most) }
        })?;
        match list.results().next() {
            Some(part) if part.error.is_error() => Err(self.asking_failed(part.error)),
            Some(part) if part.is_of_other_topic(self.topic_beside(&[part])) => Ok(None),
            answer => Ok(answer.and_then(|part| u64::try_from(part.offset).ok())),
        }
    }

    pub(super) fn offsets(&self, partition: u32, limit: Deadline) -> Result<(u64, u64)> {
        let (mut first, mut end) = (0, 0);
        let doing = format_args!("asking for the ends of partition {partition} of topic {:?}", self.topic);
        self.client.ask(limit, doing, |at_most| {
            // SAFETY: client and name are alive; the places are writable.
            unsafe {
                codes::rd_kafka_query_watermark_offsets(
                    self.client.handle.as_ptr(),
                    self.c_topic.as_ptr(),
                    partition as i32,
                    &mut first,
                    &mut end,
                    at_most,
                )
            }
        })?;
        Ok((u64::try_from(first).unwrap_or(0), u64::try_from(end).unwrap_or(0)))
    }

    pub(super) fn seek(&self, partition: u32, offset: u64, limit: Deadline, forget: impl FnOnce()) -> Result<()> {
        self.check_assigned(partition)?;
        let (first, end) = self.offsets(partition, limit)?;
        if !(first..=end).contains(&offset) {
            return Err(Error::invalid(format!(
                "seeking offset {offset} of partition {partition} of topic {:?}: it has the offsets {first} to {end}, the \
                 last being the end",
                self.topic
            )));
        }
        self.while_readers_wait(|batch| {
            self.check_assigned(partition)?;
            if self.positions.is_stopped(partition) {
                self.pause(partition, false);
            }
            self.move_to(partition, offset, limit)?;
            batch.retain(|message| message.partition() != partition as i32);
            self.positions.go_back_to(partition, offset);
            forget();
            Ok(())
        })
    }

    /// Has librdkafka fetch from there on; what it fetched before is outdated.
    pub(super) fn move_to(&self, partition: u32, offset: u64, limit: Deadline) -> Result<()> {
        const PAUSE: Duration = Duration::from_millis(10);
        // The readers wait meanwhile, so not for ever.
        let limit = limit.sooner(Deadline::after(Duration::from_secs(5)));
        loop {
            let code = self.seek_partition(partition, offset, limit)?;
            match RDKafkaErrorCode::from(code) {
                RDKafkaErrorCode::NoError => return Ok(()),
                // Just assigned: librdkafka is still looking for where to start.
                RDKafkaErrorCode::State | RDKafkaErrorCode::PreviousInProgress if !limit.has_passed() => {
                    std::thread::sleep(PAUSE);
                }
                _ => {
                    let doing =
                        format_args!("seeking offset {offset} of partition {partition} of topic {:?}", self.topic);
                    return Err(self.client.request_error(code, "", doing));
                }
            }
        }
    }

    fn seek_partition(&self, partition: u32, offset: u64, limit: Deadline) -> Result<Code> {
        let list = PartitionList::new(&self.c_topic, [(partition as i32, offset as i64)])?;
        let at_most = as_millis_rounded_up(limit.remaining(LONGEST)).max(1);
        // SAFETY: client and list are alive; the answer is written into the list; the error is ours.
        let failure = unsafe {
            let error = rd::rd_kafka_seek_partitions(self.client.handle.as_ptr(), list.as_ptr(), at_most);
            if error.is_null() {
                None
            } else {
                let (code, why) = (codes::rd_kafka_error_code(error), native::text(rd::rd_kafka_error_string(error)));
                rd::rd_kafka_error_destroy(error);
                Some(errors::error(code, &why))
            }
        };
        match (failure, list.results().next()) {
            (Some(error), _) => Err(error.context(format_args!("seeking in topic {:?}", self.topic))),
            (None, Some(part)) => Ok(part.error),
            (None, None) => Err(Error::new(Kind::Kafka, "librdkafka sought nothing")),
        }
    }

    pub(super) fn unsubscribe(&self, limit: Deadline) -> Result<()> {
        self.unsubscribed.store(true, Ordering::Release);
        let mut commit_state = self.commit_state.lock();
        commit_state.unsubscribe = true;
        self.data.wake();
        self.events.wake();
        while !commit_state.unsubscribed && !commit_state.closed {
            if limit.has_passed() {
                return Err(self.client.unreachable(format_args!("leaving the group {:?}", self.group)));
            }
            self.changed.wait_for(&mut commit_state, limit.remaining(IDLE));
        }
        commit_state.take_commit_failure().map_or(Ok(()), Err)
    }

    fn check_assigned(&self, partition: u32) -> Result<()> {
        if self.positions.is_assigned(partition) {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "partition {partition} of topic {:?} is not this consumer's; it has {:?}",
            self.topic,
            self.positions.assigned()
        )))
    }

    pub(super) fn asking_failed(&self, code: Code) -> Error {
        self.client.request_error(code, "", self.asking_for_positions())
    }

    pub(super) fn asking_for_positions(&self) -> String {
        format!("asking for the committed positions of group {:?} in topic {:?}", self.group, self.topic)
    }
}
