//! Damaged batches: what a consumer does with records that can't be decoded.
//!
//! librdkafka, as patched, reads a batch as a whole or not at all. It reports the first offset of a
//! damaged batch, searches for the next readable offset, and reports where the damage ends. In
//! between, pulls fail; then one pull reports the skipped offsets. With `on_damaged` set to "stop",
//! reading stops there until the host seeks.

use rdkafka::bindings as rd;

use super::Shared;
use super::reading::ReadOutcome;
use crate::kafka::librdkafka::partitions::PartitionList;
use crate::positions;
use crate::support::error::{Error, Kind, OffsetRange};

impl Shared {
    /// Handles the report of a damaged batch. `last` is `None` while the end of the damage is
    /// unknown.
    pub(super) fn read_damage(
        &self,
        partition: u32,
        first: u64,
        last: Option<u64>,
        reason: &str,
        positions: &mut positions::PositionsGuard,
    ) -> ReadOutcome<'_> {
        let Some(last) = last else {
            let consequence = "the end of the damage is not known yet";
            positions.block(partition, self.damaged(partition, first, None, reason, consequence));
            return ReadOutcome::Nothing;
        };
        let next = last + 1;
        let offsets = OffsetRange { partition, first, last };
        if self.stops_at_damage {
            let consequence = format!("reading stops there, until the consumer seeks offset {next} or another one");
            let error = self.damaged(partition, first, Some(last), reason, &consequence).with_skipped(offsets);
            positions.stop(partition, error.clone());
            self.pause(partition, true);
            return ReadOutcome::Failure(error);
        }
        positions.skip_to(partition, next);
        let consequence = format!("reading goes on at offset {next}");
        ReadOutcome::Failure(self.damaged(partition, first, Some(last), reason, &consequence).with_skipped(offsets))
    }

    fn damaged(&self, partition: u32, first: u64, last: Option<u64>, reason: &str, consequence: &str) -> Error {
        let offsets = match last {
            Some(last) if last != first => format!("offsets {first} to {last}"),
            _ => format!("offset {first}"),
        };
        let message = format!(
            "reading topic {:?}: the record batch at {offsets} of partition {partition} is damaged: {reason}; \
             {consequence}",
            self.topic
        );
        Error::new(Kind::DamagedData, message)
    }

    /// Pauses or resumes fetching from the partition.
    pub(super) fn pause(&self, partition: u32, pause: bool) {
        let Ok(list) = PartitionList::new(&self.c_topic, [(partition as i32, 0)]) else { return };
        let client = self.client.handle.as_ptr();
        if pause {
            // SAFETY: client and list are alive; librdkafka writes results into the list.
            unsafe { rd::rd_kafka_pause_partitions(client, list.as_ptr()) };
        } else {
            // SAFETY: as above.
            unsafe { rd::rd_kafka_resume_partitions(client, list.as_ptr()) };
        }
    }
}
