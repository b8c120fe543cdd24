//! The positions of a consumer whose offsets are committed in a producer's transactions.
//!
//! A transaction contains everything that was acknowledged since the transaction before. If an
//! acknowledged event can't be part of it, because its partition was revoked, the transaction must
//! not be committed: the group's next member reads the event again, and its results would be stored
//! twice.

use super::{Positions, PositionsGuard, PositionsState, stale};
use crate::support::error::Result;

impl Positions {
    /// Positions that only transactions commit.
    pub fn in_transactions() -> Self {
        let positions = Positions::default();
        positions.0.lock().in_transactions = true;
        positions
    }

    /// Whether only transactions commit the positions.
    pub fn are_in_transactions(&self) -> bool {
        self.0.lock().in_transactions
    }

    /// Takes the acknowledged offsets into the transaction that is being committed, and returns
    /// them by partition. Fails if an acknowledged event can't be part of it.
    pub fn begin_commit(&self) -> Result<Vec<(u32, u64)>> {
        let mut state = self.0.lock();
        if let Some(broken) = &state.broken {
            return Err(broken.clone());
        }
        let offsets = state.uncommitted();
        for (partition, offset) in &offsets {
            if let Some(position) = state.partitions.get_mut(partition) {
                position.committing = Some(*offset);
            }
        }
        Ok(offsets)
    }

    /// Records that the transaction is committed.
    pub fn end_commit(&self) {
        for position in self.0.lock().partitions.values_mut() {
            if let Some(offset) = position.committing.take() {
                position.committed = position.committed.max(Some(offset));
                position.resume = Some(offset);
            }
        }
    }
}

impl PositionsGuard<'_> {
    /// The partitions that were read since the last commit, with the offset at which reading
    /// continues after the abort of the transaction.
    pub fn to_roll_back(&self) -> Vec<(u32, u64)> {
        let assigned = self.0.partitions.iter().filter(|(_, position)| position.assignment.is_some());
        let read = assigned.filter(|(_, position)| position.resume.is_some() && position.next != position.resume);
        read.filter_map(|(partition, position)| Some((*partition, position.resume?))).collect()
    }

    /// Makes `resume` the next offset again. Events of the partition that were read before are
    /// stale.
    pub fn roll_back(&mut self, partition: u32, resume: u64) {
        let PositionsState { partitions, assignments, .. } = &mut *self.0;
        let Some(position) = partitions.get_mut(&partition) else { return };
        let (committed, topic) = (position.committed, position.topic);
        position.start_over(assignments, resume, topic);
        (position.acknowledged, position.committed) = (committed, committed);
    }

    /// The transaction is aborted: no acknowledged event belongs to the next one. A partition that
    /// is not assigned now does not continue where it was.
    pub fn end_abort(&mut self) {
        self.0.broken = None;
        for position in self.0.partitions.values_mut() {
            (position.acknowledged, position.committing, position.previous) = (position.committed, None, None);
        }
    }
}

impl PositionsState {
    /// Notes that acknowledged events of these partitions can't be part of the transaction.
    pub(super) fn break_transaction(&mut self, partitions: impl IntoIterator<Item = u32>) {
        if !self.in_transactions || self.broken.is_some() {
            return;
        }
        let lost = partitions.into_iter().find_map(|partition| {
            let position = self.partitions.get(&partition)?;
            let acknowledged = position.acknowledged.filter(|_| position.assignment.is_some())?;
            let is_lost = Some(acknowledged) > position.committed.max(position.committing);
            is_lost.then(|| stale(partition, acknowledged.saturating_sub(1)))
        });
        self.broken = lost;
    }
}
