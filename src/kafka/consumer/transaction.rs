//! A consumer's part in the transactions of a producer: the acknowledged positions that a
//! transaction commits, and the return to the last committed ones.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{KafkaConsumer, Shared};
use crate::kafka::librdkafka::group_metadata::GroupMetadata;
use crate::kafka::librdkafka::partitions::PartitionList;
use crate::support::deadline::Deadline;
use crate::support::error::{Error, Kind, Result};

/// A consumer in a transaction. No other transaction has the consumer until this is dropped.
pub struct ConsumerInTransaction(Arc<Shared>);

/// The positions of a consumer that a transaction commits.
pub struct PositionsOfGroup {
    pub offsets: PartitionList,
    /// From before the offsets were read. If the group changes its assignment in between, its
    /// coordinator refuses the offsets.
    pub group: GroupMetadata,
}

impl KafkaConsumer {
    /// Makes the consumer part of a transaction.
    pub fn join_transaction(&self) -> Result<ConsumerInTransaction> {
        let (group, shared) = (&self.shared.group, &self.shared);
        if !shared.positions.are_in_transactions() {
            return Err(Error::invalid(format!(
                "the consumer {group:?} commits by itself; make it with the option \"commits\": \"transaction\""
            )));
        }
        if shared.is_in_transaction.swap(true, Ordering::AcqRel) {
            return Err(Error::invalid(format!("the consumer {group:?} is part of another transaction")));
        }
        Ok(ConsumerInTransaction(shared.clone()))
    }
}

impl ConsumerInTransaction {
    /// The positions that the transaction commits, which are those acknowledged until now; `None`
    /// if there are none. Fails if the transaction can't contain all of them.
    pub fn begin_commit(&self) -> Result<Option<PositionsOfGroup>> {
        let shared = &self.0;
        let group = GroupMetadata::of(&shared.client.handle);
        let offsets = shared.positions.begin_commit().map_err(|error| error.context(shared.commit_operation()))?;
        if offsets.is_empty() {
            return Ok(None);
        }
        // The coordinator accepts positions without a generation, also if another member has the
        // partitions now.
        let is_member = |group: &GroupMetadata| !shared.targets.is_empty() || group.generation() >= 0;
        let Some(group) = group.filter(is_member) else {
            let reason = format!("{}: the consumer is no member of its group any more", shared.commit_operation());
            return Err(Error::new(Kind::Stale, reason));
        };
        Ok(Some(PositionsOfGroup { offsets: shared.offsets_to_commit(&offsets)?, group }))
    }

    pub fn end_commit(&self) {
        self.0.positions.end_commit();
    }

    /// Continues at the positions of the last committed transaction. Events that were read since
    /// are stale.
    pub fn roll_back(&self, limit: Deadline) -> Result<()> {
        let shared = &self.0;
        shared.while_readers_wait(|batch| {
            let read = shared.positions.lock().to_roll_back();
            for (partition, resume) in read {
                if shared.closing.load(Ordering::Acquire) {
                    break;
                }
                if shared.positions.is_stopped(partition) {
                    shared.pause(partition, false);
                }
                shared.fetch_from(partition, resume, limit)?;
                batch.retain(|message| message.partition() != partition as i32);
                shared.positions.lock().roll_back(partition, resume);
            }
            shared.positions.lock().end_abort();
            Ok(())
        })
    }
}

impl Drop for ConsumerInTransaction {
    fn drop(&mut self) {
        self.0.is_in_transaction.store(false, Ordering::Release);
    }
}
