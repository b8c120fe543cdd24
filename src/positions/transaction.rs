//! The positions of a consumer whose offsets are committed in a producer's transactions.
//!
//! A transaction contains everything that was acknowledged since the transaction before. If an
//! acknowledged event can't be part of it, because its partition was revoked, the transaction must
//! not be committed: the group's next member reads the event again, and its results would be stored
//! twice.

use super::{Assignment, Position, Positions, PositionsGuard, PositionsState, stale};
use crate::support::error::{Error, Kind, Result};

/// What became of the transaction that the consumer was part of last.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is committed or aborted, and the positions are those after it.
    #[default]
    Known,
    Open,
    /// Its producer was released before: it may be committed or not.
    Unknown,
}

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

    /// Makes the positions part of a transaction. Another one can't commit them while the outcome
    /// of this one is not known.
    pub fn enter_transaction(&self) {
        let mut state = self.0.lock();
        state.outcome = if state.outcome == Outcome::Known { Outcome::Open } else { Outcome::Unknown };
    }

    /// Takes the acknowledged offsets into the transaction that is being committed, and returns
    /// them by partition. Fails if an acknowledged event can't be part of it.
    pub fn begin_commit(&self) -> Result<Vec<(u32, u64)>> {
        let mut state = self.0.lock();
        if let Some(broken) = &state.broken {
            return Err(broken.clone());
        }
        if state.outcome == Outcome::Unknown {
            let reason = "a producer was released before the outcome of its transaction was known; events that were \
                          acknowledged in that transaction may belong to it";
            return Err(Error::new(Kind::Stale, reason));
        }
        let offsets = state.uncommitted();
        for (partition, offset) in &offsets {
            if let Some(position) = state.partitions.get_mut(partition) {
                (position.committing, position.is_sought) = (Some(*offset), false);
            }
        }
        Ok(offsets)
    }

    /// Records that the transaction is committed.
    pub fn end_commit(&self) {
        let mut state = self.0.lock();
        state.outcome = Outcome::Known;
        for position in state.partitions.values_mut() {
            if let Some(offset) = position.committing.take() {
                position.committed = position.committed.max(Some(offset));
                if !position.is_sought {
                    position.resume = Some(offset);
                }
            }
        }
    }

    /// Whether the transaction before the present one may be committed.
    pub fn is_outcome_unknown(&self) -> bool {
        self.0.lock().outcome == Outcome::Unknown
    }
}

impl Position {
    /// Where an abort returns to, once the host has sought. Events that are acknowledged and not
    /// committed are read again in any case.
    pub(super) fn seek_in_transaction(&mut self, offset: u64) {
        let has_uncommitted = self.acknowledged > self.committed;
        let earlier = self.resume.filter(|resume| has_uncommitted && *resume < offset);
        (self.resume, self.is_sought) = (Some(earlier.unwrap_or(offset)), true);
    }

    /// Whether nothing but offsets without records is acknowledged beyond the committed offset.
    fn is_only_gap_uncommitted(&self) -> bool {
        let committed = self.committed.max(self.committing);
        self.gap.is_some_and(|(first, end)| committed >= Some(first) && self.acknowledged == Some(end))
    }
}

impl PositionsGuard<'_> {
    /// The assigned partitions, with the offset at which reading continues after the abort of the
    /// transaction, and the committed one.
    pub fn to_roll_back(&self) -> Vec<(u32, Option<u64>, Option<u64>)> {
        let assigned = self.0.partitions.iter().filter(|(_, position)| position.assignment.is_some());
        assigned.map(|(partition, position)| (*partition, position.resume, position.committed)).collect()
    }

    /// Makes `resume` the next offset again, and `committed` the committed one. Events of the
    /// partition that were read before are stale.
    pub fn roll_back(&mut self, partition: u32, resume: u64, committed: Option<u64>) {
        let PositionsState { partitions, assignments, .. } = &mut *self.0;
        let Some(position) = partitions.get_mut(&partition) else { return };
        let topic = position.topic;
        position.start_over(assignments, resume, topic);
        (position.acknowledged, position.committed) = (committed, committed);
    }

    /// The transaction is aborted: no acknowledged event belongs to the next one, and all that were
    /// read are stale. A partition that is not assigned now does not continue where it was.
    pub fn end_abort(&mut self) {
        let PositionsState { partitions, assignments, broken, outcome, .. } = &mut *self.0;
        (*broken, *outcome) = (None, Outcome::Known);
        for position in partitions.values_mut() {
            (position.acknowledged, position.committing, position.previous) = (position.committed, None, None);
            if let Some(assignment) = &mut position.assignment {
                *assignments += 1;
                *assignment = Assignment(*assignments);
            }
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
            let is_event = is_lost && !position.is_only_gap_uncommitted();
            is_event.then(|| stale(partition, acknowledged.saturating_sub(1)))
        });
        self.broken = lost;
    }
}
