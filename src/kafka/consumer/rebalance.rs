//! What happens when partitions are assigned to a consumer and when they are revoked.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use rdkafka::bindings as rd;
use rdkafka::types::RDKafkaErrorCode;

use super::committing::CommittedOffsets;
use super::{OFFSET_INVALID, Shared};
use crate::kafka::librdkafka::codes::Code;
use crate::kafka::librdkafka::errors;
use crate::kafka::librdkafka::group_metadata::GroupMetadata;
use crate::kafka::librdkafka::message::Message;
use crate::kafka::librdkafka::partitions::PartitionList;
use crate::kafka::librdkafka::queue::{Queue, QueueEvent};
use crate::kafka::librdkafka::text::text;
use crate::support::error::Result;
use crate::support::services::Rebalance;

impl Shared {
    /// Assigns the partitions that the host named, at the group's committed offsets, without
    /// joining the group.
    pub(super) fn assign_targets(&self) {
        let committed = self.committed_offsets(&self.targets);
        self.refresh_metadata();
        if let Err(error) = self.while_readers_wait(|_| self.assign(&self.targets, &committed)) {
            self.persistent_error.set(error.context(format_args!("assigning partitions {:?}", self.targets)));
        }
    }

    /// Runs `work` while no reader holds the batch: sleeping readers are woken and release its
    /// lock, new ones wait.
    pub(super) fn while_readers_wait<T>(&self, work: impl FnOnce(&mut VecDeque<Message>) -> T) -> T {
        self.rebalancing.store(true, Ordering::Release);
        self.data.wake();
        let mut batch = self.batch.lock();
        let result = work(&mut batch);
        drop(batch);
        self.rebalancing.store(false, Ordering::Release);
        result
    }

    /// Processes an assignment or a revocation of the group.
    pub(super) fn rebalance(&self, event: &QueueEvent) {
        let assigning = RDKafkaErrorCode::from(event.error()) == RDKafkaErrorCode::AssignPartitions;
        let partitions: Vec<u32> =
            event.partitions().iter().filter_map(|part| u32::try_from(part.partition).ok()).collect();
        let committed = assigning.then(|| self.committed_offsets(&partitions));
        let (kind, result) = self.while_readers_wait(|batch| {
            if let Some(committed) = &committed {
                return (Rebalance::Assigned, self.assign(&partitions, committed));
            }
            // SAFETY: `self` keeps the client alive.
            let lost = unsafe { rd::rd_kafka_assignment_lost(self.client.handle.as_ptr()) } != 0;
            (if lost { Rebalance::Lost } else { Rebalance::Revoked }, self.revoke(&partitions, lost, batch))
        });

        self.rebalances.fetch_add(1, Ordering::Relaxed);
        self.stats.rebalances.fetch_add(1, Ordering::Relaxed);
        if !assigning {
            self.commit_state.lock().partitions_revoked(&partitions);
        }
        if let Err(error) = result {
            log::error!(logger: self.client.log(), target: &self.client.name(), "rebalance: {error}");
            if assigning {
                self.persistent_error.set(error);
            }
        }
        log::info!(logger: self.client.log(), target: &self.client.name(), "{kind:?} partitions {partitions:?}");
        if let Some(callback) = &self.client.services().rebalance {
            callback(&self.group, kind, &partitions);
        }
    }

    /// Starts fetching these partitions at their committed offsets.
    fn assign(&self, partitions: &[u32], committed: &CommittedOffsets) -> Result<()> {
        let generation = self.generation();
        let mut recreated = Vec::new();
        let mut starts = Vec::with_capacity(partitions.len());
        for &partition in partitions {
            // Before fetching starts, so that no message arrives on the consumer thread's queue.
            Queue::of_partition(&self.client.handle, &self.c_topic, partition as i32)?.forward_to(&self.data);
            if self.positions.is_stopped(partition) {
                self.pause(partition, false);
            }
            let known = committed.offsets.iter().find(|(of, _)| *of == partition).map(|(_, offset)| *offset);
            // If it is known that nothing is committed, librdkafka need not request the offset
            // before it determines the start.
            let default_start = if known.is_some() { self.start } else { OFFSET_INVALID };
            let mut unknown = self.unknown_commits.lock();
            let _ = if known.is_some() { unknown.remove(&partition) } else { unknown.insert(partition) };
            drop(unknown);
            if self.positions.is_acknowledged_up_to(partition, known.flatten()) {
                self.commit_state.lock().found_committed(partition);
            }
            let start = self.positions.assign(partition, generation, known.flatten(), committed.topic);
            if start.is_in_recreated_topic {
                recreated.push(partition);
            }
            starts.push((partition as i32, start.next.map_or(default_start, |offset| offset as i64)));
        }
        if !recreated.is_empty() {
            self.pending_error.set(self.recreated_topic_error(&recreated));
        }
        self.persistent_error.clear();
        self.unreachable_since.clear();
        self.topic_id_request.lock().make_due();
        self.change_assignment(starts, rd::rd_kafka_incremental_assign, true)
    }

    /// Commits the acknowledged positions, unless the assignment is lost, and gives up the
    /// partitions.
    pub(super) fn revoke(&self, partitions: &[u32], lost: bool, batch: &mut VecDeque<Message>) -> Result<()> {
        let offsets = self.positions.revoke(partitions);
        let committed = if lost { Ok(()) } else { self.commit_before_revocation(&offsets) };
        let changed = self.change_assignment(
            partitions.iter().map(|partition| (*partition as i32, 0)),
            rd::rd_kafka_incremental_unassign,
            false,
        );
        batch.retain(|message| {
            u32::try_from(message.partition()).map_or(true, |partition| self.positions.is_assigned(partition))
        });
        changed.and(committed)
    }

    /// Passes the changed assignment to librdkafka, as the group's rebalance protocol requires: the
    /// difference for a cooperative one, else the whole assignment.
    fn change_assignment(
        &self,
        partitions: impl IntoIterator<Item = (i32, i64)>,
        change_incrementally: unsafe extern "C" fn(
            *mut rd::rd_kafka_t,
            *const rd::rd_kafka_topic_partition_list_t,
        ) -> *mut rd::rd_kafka_error_t,
        assigning: bool,
    ) -> Result<()> {
        let list = PartitionList::new(&self.c_topic, partitions)?;
        let client = self.client.handle.as_ptr();
        // SAFETY: `self` keeps the client alive.
        let protocol = unsafe { rd::rd_kafka_rebalance_protocol(client) };
        // SAFETY: the text is static and NUL-terminated.
        let protocol = unsafe { text(protocol) };
        if protocol != "COOPERATIVE" {
            let all = if assigning { list.as_ptr().cast_const() } else { std::ptr::null() };
            // SAFETY: client and list are alive; the list is copied; NULL removes the assignment.
            let code = unsafe { rd::rd_kafka_assign(client, all) };
            return if Code::from(code).is_error() { Err(errors::error(code, "")) } else { Ok(()) };
        }
        // SAFETY: client and list are alive; the list is copied.
        let error = unsafe { change_incrementally(client, list.as_ptr()) };
        // SAFETY: this function owns the error and does not use it again.
        unsafe { errors::take_error(error) }.map_or(Ok(()), Err)
    }

    /// The generation of the group; -1 for a consumer that is not a member.
    pub(super) fn generation(&self) -> i32 {
        GroupMetadata::of(&self.client.handle).map_or(-1, |metadata| metadata.generation())
    }
}
