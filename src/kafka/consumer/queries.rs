//! What a host calls a consumer for besides reading: positions, committed offsets, watermarks,
//! seeking and unsubscribing.

use std::sync::atomic::Ordering;
use std::time::Duration;

use rdkafka::bindings as rd;
use rdkafka::types::RDKafkaErrorCode;

use super::{OFFSET_BEGINNING, OFFSET_END, OFFSET_INVALID, Shared};
use crate::kafka::client::IDLE;
use crate::kafka::librdkafka::codes::{self, Code};
use crate::kafka::librdkafka::errors;
use crate::kafka::librdkafka::partitions::PartitionList;
use crate::kafka::stats::{ConsumerStats, Describe, PartitionStats};
use crate::support::deadline::{Deadline, as_millis_rounded_up};
use crate::support::error::{Error, Kind, Result};

/// The longest timeout of a call of librdkafka.
const MAX_WAIT: Duration = Duration::from_secs(24 * 3600);

impl Describe<ConsumerStats> for Shared {
    fn stats(&self) -> ConsumerStats {
        let describe = |partition| {
            let position = self.positions.next(partition);
            let lag = self.known_offsets(partition).and_then(|(first, end)| {
                // Without a position nothing was read yet, and librdkafka starts here unless
                // something is committed.
                let start = match self.start {
                    OFFSET_END => end,
                    OFFSET_BEGINNING => first,
                    _ => return None,
                };
                let is_known = position.is_some() || !self.unknown_commits.lock().contains(&partition);
                is_known.then(|| end.saturating_sub(position.unwrap_or(start)))
            });
            (partition, PartitionStats { position, lag })
        };
        ConsumerStats {
            name: self.group.clone(),
            topic: self.topic.clone(),
            rebalances: self.rebalances.load(Ordering::Relaxed),
            partitions: self.positions.assigned().into_iter().map(describe).collect(),
        }
    }
}

impl Shared {
    /// The first offset and the end of a partition, as of the last response to a fetch request.
    fn known_offsets(&self, partition: u32) -> Option<(u64, u64)> {
        let (mut first, mut end) = (OFFSET_INVALID, OFFSET_INVALID);
        let topic = self.c_topic.as_ptr();
        // SAFETY: `self` keeps client and name alive; both pointers are writable.
        unsafe {
            rd::rd_kafka_get_watermark_offsets(
                self.client.handle.as_ptr(),
                topic,
                partition as i32,
                &mut first,
                &mut end,
            )
        };
        Some((u64::try_from(first).ok()?, u64::try_from(end).ok()?))
    }

    pub(super) fn position(&self, partition: u32, limit: Deadline) -> Result<u64> {
        self.check_assigned(partition)?;
        match self.positions.next(partition) {
            Some(next) => Ok(next),
            // Nothing is committed and nothing was read yet.
            None => {
                self.offsets(partition, limit).map(|(first, end)| if self.start == OFFSET_END { end } else { first })
            }
        }
    }

    pub(super) fn committed(&self, partition: u32, limit: Deadline) -> Result<Option<u64>> {
        let list = PartitionList::new(&self.c_topic, [(partition as i32, OFFSET_INVALID)])?;
        self.client.request(limit, self.committed_offsets_operation(), |timeout_ms| {
            // SAFETY: `self` keeps the client alive and `list` is alive; librdkafka writes the
            // offsets into it.
            unsafe { codes::rd_kafka_committed(self.client.handle.as_ptr(), list.as_ptr(), timeout_ms) }
        })?;
        match list.results().next() {
            Some(part) if part.error.is_error() => Err(self.committed_offsets_error(part.error)),
            Some(part) if part.is_of_other_topic(self.topic_in_use_or_newer(&[part])) => Ok(None),
            result => Ok(result.and_then(|part| u64::try_from(part.offset).ok())),
        }
    }

    /// The first offset and the end of a partition.
    pub(super) fn offsets(&self, partition: u32, limit: Deadline) -> Result<(u64, u64)> {
        loop {
            match self.query_watermarks(partition, limit) {
                Err(error) if errors::is_without_leader(&error) => self.await_leader(partition, limit, error)?,
                result => return result,
            }
        }
    }

    /// Waits before the next attempt; `error` is returned if the partition does not exist.
    fn await_leader(&self, partition: u32, limit: Deadline, error: Error) -> Result<()> {
        const PAUSE: Duration = Duration::from_millis(100);
        if self.client.partition_count(&self.topic, limit)?.is_none_or(|count| partition >= count) {
            return Err(error);
        }
        if limit.has_passed() {
            let operation = format_args!("waiting for a leader of partition {partition} of topic {:?}", self.topic);
            return Err(self.client.unreachable(operation));
        }
        std::thread::sleep(limit.remaining(PAUSE));
        Ok(())
    }

    fn query_watermarks(&self, partition: u32, limit: Deadline) -> Result<(u64, u64)> {
        let (mut first, mut end) = (0, 0);
        let operation = format_args!("querying the watermarks of partition {partition} of topic {:?}", self.topic);
        self.client.request(limit, operation, |timeout_ms| {
            // SAFETY: `self` keeps client and name alive; both pointers are writable.
            unsafe {
                codes::rd_kafka_query_watermark_offsets(
                    self.client.handle.as_ptr(),
                    self.c_topic.as_ptr(),
                    partition as i32,
                    &mut first,
                    &mut end,
                    timeout_ms,
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
                "seeking offset {offset} of partition {partition} of topic {:?}: it has the offsets {first} to {end}, \
                 the end included",
                self.topic
            )));
        }
        self.while_readers_wait(|batch| {
            self.check_assigned(partition)?;
            if self.positions.is_stopped(partition) {
                self.pause(partition, false);
            }
            self.fetch_from(partition, offset, limit)?;
            batch.retain(|message| message.partition() != partition as i32);
            self.positions.seek(partition, offset);
            forget();
            Ok(())
        })
    }

    /// Makes librdkafka fetch from this offset on and discard what it has fetched before.
    pub(super) fn fetch_from(&self, partition: u32, offset: u64, limit: Deadline) -> Result<()> {
        const PAUSE: Duration = Duration::from_millis(10);
        // The readers wait meanwhile, so that this must not block for long.
        let limit = limit.sooner(Deadline::after(Duration::from_secs(5)));
        loop {
            let code = self.seek_partition(partition, offset, limit)?;
            match RDKafkaErrorCode::from(code) {
                RDKafkaErrorCode::NoError => return Ok(()),
                // The partition was just assigned, and librdkafka is still determining where to
                // start.
                RDKafkaErrorCode::State | RDKafkaErrorCode::PreviousInProgress if !limit.has_passed() => {
                    std::thread::sleep(PAUSE);
                }
                _ => {
                    let operation =
                        format_args!("seeking offset {offset} of partition {partition} of topic {:?}", self.topic);
                    return Err(self.client.request_error(code, "", operation));
                }
            }
        }
    }

    fn seek_partition(&self, partition: u32, offset: u64, limit: Deadline) -> Result<Code> {
        let list = PartitionList::new(&self.c_topic, [(partition as i32, offset as i64)])?;
        let timeout_ms = as_millis_rounded_up(limit.remaining(MAX_WAIT)).max(1);
        // SAFETY: `self` keeps the client alive and `list` is alive; librdkafka writes the results
        // into it.
        let error = unsafe { rd::rd_kafka_seek_partitions(self.client.handle.as_ptr(), list.as_ptr(), timeout_ms) };
        // SAFETY: this function owns the error and does not use it again.
        let failure = unsafe { errors::take_error(error) };
        match (failure, list.results().next()) {
            (Some(error), _) => Err(error.context(format_args!("seeking in topic {:?}", self.topic))),
            (None, Some(part)) => Ok(part.error),
            (None, None) => Err(Error::new(Kind::Kafka, "librdkafka returned no result of the seek")),
        }
    }

    pub(super) fn unsubscribe(&self, limit: Deadline) -> Result<()> {
        self.unsubscribed.store(true, Ordering::Release);
        let mut commit_state = self.commit_state.lock();
        commit_state.unsubscribe_requested = true;
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
            "partition {partition} of topic {:?} is not assigned to this consumer; it has {:?}",
            self.topic,
            self.positions.assigned()
        )))
    }

    pub(super) fn committed_offsets_error(&self, code: Code) -> Error {
        self.client.request_error(code, "", self.committed_offsets_operation())
    }

    pub(super) fn committed_offsets_operation(&self) -> String {
        format!("reading the committed offsets of group {:?} in topic {:?}", self.group, self.topic)
    }
}
