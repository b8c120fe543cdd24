//! What a consumer does with records that can't be decoded.
//!
//! librdkafka, as patched, reads a batch as a whole or not at all. It reports where a damaged batch begins, looks for the next
//! offset that can be read, and reports where the damage ends. In between the pulls of the host fail, and then one of them tells
//! which offsets are skipped. With the option `on_damaged` set to "stop" reading ends there, until the host seeks.

use rdkafka::bindings as rd;

use super::Shared;
use super::reading::Reading;
use crate::error::{Error, Kind, OffsetRange};
use crate::kafka::native::PartitionList;
use crate::positions;

impl Shared {
    /// `last` is unknown as long as the end of the damage is looked for.
    pub(super) fn read_damage(
        &self,
        partition: u32,
        first: u64,
        last: Option<u64>,
        why: &str,
        positions: &mut positions::Turn,
    ) -> Reading<'_> {
        let Some(last) = last else {
            let consequence = "where the damage ends is not known yet";
            positions.block(partition, self.damaged(partition, first, None, why, consequence));
            return Reading::Nothing;
        };
        let next = last + 1;
        let offsets = OffsetRange { partition, first, last };
        if self.stops_at_damage {
            let consequence = format!("reading stops there, until the consumer seeks offset {next} or another one");
            let error = self.damaged(partition, first, Some(last), why, &consequence).skipping(offsets);
            positions.stop(partition, error.clone());
            self.pause(partition, true);
            return Reading::Failure(error);
        }
        positions.skip_to(partition, next);
        let consequence = format!("reading goes on at offset {next}");
        Reading::Failure(self.damaged(partition, first, Some(last), why, &consequence).skipping(offsets))
    }

    fn damaged(&self, partition: u32, first: u64, last: Option<u64>, why: &str, consequence: &str) -> Error {
        let offsets = match last {
            Some(last) if last != first => format!("offsets {first} to {last}"),
            _ => format!("offset {first}"),
        };
        let message = format!(
            "reading topic {:?}: the record batch at {offsets} of partition {partition} is damaged: {why}; {consequence}",
            self.topic
        );
        Error::new(Kind::DamagedData, message)
    }

    /// Has librdkafka fetch nothing of the partition, or fetch again.
    pub(super) fn pause(&self, partition: u32, pause: bool) {
        let Ok(list) = PartitionList::new(&self.c_topic, [(partition as i32, 0)]) else { return };
        let client = self.client.handle.as_ptr();
        // SAFETY: client and list are alive; results are written into the list.
        unsafe {
            if pause {
                rd::rd_kafka_pause_partitions(client, list.as_ptr());
            } else {
                rd::rd_kafka_resume_partitions(client, list.as_ptr());
            }
        }
    }
}
