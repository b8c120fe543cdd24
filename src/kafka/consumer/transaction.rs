//! A consumer's part in the transactions of a producer: the acknowledged positions that a
//! transaction commits, and the return to the last committed ones.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{KafkaConsumer, Shared};
use crate::kafka::librdkafka::errors;
use crate::kafka::librdkafka::group_metadata::GroupMetadata;
use crate::kafka::librdkafka::message::Message;
use crate::kafka::librdkafka::partitions::PartitionList;
use crate::support::deadline::Deadline;
use crate::support::error::{Error, Kind, Result};

/// A seek that times out may still take effect.
const MIN_SEEK_TIMEOUT: Duration = Duration::from_secs(1);

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
    /// The transaction has begun.
    pub fn enter(&self) {
        self.0.positions.enter_transaction();
    }

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
    /// are stale. `may_be_committed` says that the last one may be the one that ends here: the
    /// group's coordinator knows. Returns the first error; then some partitions may still be where
    /// they were, and the call is to be repeated.
    pub fn roll_back(&self, may_be_committed: bool, limit: Deadline) -> Result<()> {
        let (shared, limit) = (&self.0, limit.no_sooner_than(MIN_SEEK_TIMEOUT));
        if !may_be_committed && !shared.positions.is_outcome_unknown() {
            return shared.while_readers_wait(|batch| shared.roll_back(None, batch, limit));
        }
        loop {
            let offsets = shared.stable_offsets(limit)?;
            let result = shared.while_readers_wait(|batch| {
                let has_all = shared.positions.assigned().iter().all(|partition| offsets.contains_key(partition));
                has_all.then(|| shared.roll_back(Some(&offsets), batch, limit))
            });
            match result {
                Some(result) => return result,
                // Others were assigned meanwhile.
                None if limit.has_passed() => return Err(Error::from_kind(Kind::TimedOut)),
                None => {}
            }
        }
    }
}

impl Shared {
    /// The committed offsets of the assigned partitions, once no open transaction can change them.
    fn stable_offsets(&self, limit: Deadline) -> Result<BTreeMap<u32, Option<u64>>> {
        const PAUSE: Duration = Duration::from_millis(100);
        let stable = |partition| loop {
            match self.committed(partition, limit) {
                Err(error) if error.is_retriable() && !limit.has_passed() => std::thread::sleep(limit.remaining(PAUSE)),
                result => return Ok((partition, result?)),
            }
        };
        self.positions.assigned().into_iter().map(stable).collect()
    }

    /// `by_group` has the committed offset of each assigned partition, if a transaction may have
    /// changed it.
    fn roll_back(
        &self,
        by_group: Option<&BTreeMap<u32, Option<u64>>>,
        batch: &mut VecDeque<Message>,
        limit: Deadline,
    ) -> Result<()> {
        let mut result = Ok(());
        // In a statement of its own: the lock ends with it.
        let assigned = self.positions.lock().to_roll_back();
        for (partition, resume, committed) in assigned {
            if self.closing.load(Ordering::Acquire) {
                break;
            }
            let by_group = by_group.and_then(|offsets| offsets.get(&partition).copied().flatten());
            // Only a transaction that is committed has changed it.
            let Some(next) = by_group.filter(|_| by_group > committed).or(resume) else { continue };
            match self.return_to(partition, next, batch, limit) {
                Ok(()) => self.positions.lock().roll_back(partition, next, by_group.max(committed)),
                Err(error) => result = result.and(Err(error)),
            }
        }
        result?;
        self.positions.lock().end_abort();
        Ok(())
    }

    /// Continues at `next`. A partition that no longer exists has nothing to continue with.
    fn return_to(&self, partition: u32, next: u64, batch: &mut VecDeque<Message>, limit: Deadline) -> Result<()> {
        if self.positions.next(partition) == Some(next) {
            return Ok(());
        }
        if self.positions.is_stopped(partition) {
            self.pause(partition, false);
        }
        match self.fetch_from(partition, next, limit) {
            Err(error) if !errors::is_without_leader(&error) && error.kind() != Kind::UnknownTopic => {
                return Err(error);
            }
            _ => {}
        }
        batch.retain(|message| message.partition() != partition as i32);
        Ok(())
    }
}

impl Drop for ConsumerInTransaction {
    fn drop(&mut self) {
        self.0.is_in_transaction.store(false, Ordering::Release);
    }
}
