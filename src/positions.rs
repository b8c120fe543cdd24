//! The positions of a consumer in its partitions: the next offset, the acknowledged offset and the
//! committed offset, per assignment. This module makes no requests and reads no clock.
//!
//! A topic that is deleted and created again under its name is another topic, with another id and
//! other offsets. Each position belongs to one topic, and none continues in another.

use std::collections::BTreeMap;

use parking_lot::{Mutex, MutexGuard};

use crate::support::error::{Error, Kind, Result};
use transaction::Outcome;

mod transaction;

/// The number of one assignment of a partition to this consumer. Each event has the number of the
/// assignment under which it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assignment(u64);

/// The id of a topic, a UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicId(pub(crate) [u8; 16]);

/// Where an assigned partition is read from.
#[derive(Debug, PartialEq, Eq)]
pub struct Start {
    /// The first offset; `None` if the position is unknown.
    pub next: Option<u64>,
    /// This consumer has a position in a former topic of that name, which does not count any more.
    pub is_in_recreated_topic: bool,
}

#[derive(Debug, Default)]
struct Position {
    /// The topic that the position belongs to; `None` until it is known.
    topic: Option<TopicId>,
    /// The current assignment; `None` while the partition is not assigned to this consumer.
    assignment: Option<Assignment>,
    /// The revoked assignment. It continues if no other member had the partition meanwhile.
    previous: Option<Assignment>,
    /// The group's generation at the assignment.
    generation: i32,
    /// The offset of the next event; `None` until it is known.
    next: Option<u64>,
    /// The offset after the highest acknowledged one, which is to be committed.
    acknowledged: Option<u64>,
    committed: Option<u64>,
    /// The acknowledged offset that the transaction contains which is being committed.
    committing: Option<u64>,
    /// Where reading continues if the transaction is aborted; `None` until it is known.
    resume: Option<u64>,
    /// Whether the host has sought since the commit began.
    is_sought: bool,
    obstacle: Option<Obstacle>,
    /// The latest range of offsets without records: the first offset, and the one after the last.
    gap: Option<(u64, u64)>,
}

/// Why the record at the next offset can't be read.
#[derive(Debug)]
enum Obstacle {
    /// Ends when a record is delivered or skipped.
    Blocked(Error),
    /// Ends when the host seeks.
    Stopped(Error),
}

impl Position {
    fn start_over(&mut self, assignments: &mut u64, next: u64, topic: Option<TopicId>) {
        *assignments += 1;
        self.topic = topic.or(self.topic);
        self.assignment = Some(Assignment(*assignments));
        (self.previous, self.next, self.acknowledged, self.committed) = (None, Some(next), None, None);
        (self.committing, self.resume) = (None, Some(next));
        (self.obstacle, self.gap) = (None, None);
    }

    /// Records a gap. It counts as acknowledged when everything before it is acknowledged.
    fn pass_gap(&mut self, first: u64, next: u64) {
        let start = match self.gap {
            Some((earlier, end)) if end == first => earlier,
            _ => first,
        };
        self.gap = Some((start, next));
        if self.acknowledged == Some(first) {
            self.acknowledged = Some(next);
        }
    }

    /// Acknowledges everything before `next`.
    fn acknowledge(&mut self, next: u64) {
        let next = match self.gap {
            Some((first, end)) if first == next => end,
            _ => next,
        };
        self.acknowledged = self.acknowledged.max(Some(next));
    }

    /// Whether the position belongs to another topic than this one. One of an unknown topic counts
    /// as one of the current topic.
    fn is_in_other_topic(&self, topic: Option<TopicId>) -> bool {
        matches!((self.topic, topic), (Some(known), Some(current)) if known != current)
    }

    fn is_stopped(&self) -> bool {
        matches!(self.obstacle, Some(Obstacle::Stopped(_)))
    }
}

#[derive(Default)]
struct PositionsState {
    partitions: BTreeMap<u32, Position>,
    assignments: u64,
    /// The topic that the consumer reads.
    topic: Option<TopicId>,
    /// Whether only transactions of producers commit the positions.
    in_transactions: bool,
    /// Why the transaction can't be committed: an acknowledged event whose partition was revoked.
    broken: Option<Error>,
    outcome: Outcome,
}

#[derive(Default)]
pub struct Positions(Mutex<PositionsState>);

/// The result of [`PositionsGuard::deliver`].
#[derive(Debug, PartialEq, Eq)]
pub enum DeliveryOrder {
    /// The event is the next one.
    InOrder(Assignment),
    /// The event is delivered, and the offsets from this one to the event's are missing.
    Skipped(Assignment, u64),
    /// The event is not delivered, since the next offset is this one.
    Behind(u64),
    /// The event is not delivered, since the partition is stopped or not assigned to this consumer.
    NotAssigned,
}

impl PositionsState {
    fn uncommitted(&self) -> Vec<(u32, u64)> {
        self.partitions
            .iter()
            .filter(|(_, p)| p.assignment.is_some() && p.acknowledged > p.committed)
            .filter_map(|(partition, position)| position.acknowledged.map(|offset| (*partition, offset)))
            .collect()
    }

    fn to_commit(&self) -> Vec<(u32, u64)> {
        if self.in_transactions { Vec::new() } else { self.uncommitted() }
    }
}

impl Positions {
    /// Assigns a partition to this consumer. `topic` is the topic that has the committed offset.
    ///
    /// If `generation` follows the generation of the previous assignment, no other member had the
    /// partition meanwhile. Then the previous assignment continues after its last delivered event,
    /// unless it was in another topic; else reading starts at the group's committed offset.
    pub fn assign(&self, partition: u32, generation: i32, committed: Option<u64>, topic: Option<TopicId>) -> Start {
        let mut state = self.0.lock();
        state.assignments += 1;
        let assignment = Assignment(state.assignments);
        let topic = topic.or(state.topic);
        let position = state.partitions.entry(partition).or_default();
        let is_in_recreated_topic = position.previous.is_some() && position.is_in_other_topic(topic);
        let is_next_generation = generation > 0 && position.generation + 1 == generation;
        let kept = position.previous.filter(|_| is_next_generation && !is_in_recreated_topic);
        *position = match kept {
            // The host can still acknowledge its events of the previous assignment.
            Some(previous) => Position {
                topic,
                assignment: Some(previous),
                previous: None,
                generation,
                next: position.next.max(committed),
                acknowledged: position.acknowledged.max(committed),
                committed,
                committing: position.committing,
                resume: position.resume.or(committed),
                ..Position::default()
            },
            None => Position {
                topic,
                assignment: Some(assignment),
                previous: None,
                generation,
                next: committed,
                acknowledged: committed,
                committed,
                resume: committed,
                ..Position::default()
            },
        };
        Start { next: position.next, is_in_recreated_topic }
    }

    /// Revokes partitions: later acknowledgements of their events are stale. Returns the offsets to
    /// commit, as [`to_commit`](Self::to_commit) does. Both happen under one lock, so that the
    /// returned offsets include each accepted acknowledgement.
    pub fn revoke(&self, partitions: &[u32]) -> Vec<(u32, u64)> {
        let mut state = self.0.lock();
        let offsets = state.to_commit();
        state.break_transaction(partitions.iter().copied());
        for partition in partitions {
            if let Some(position) = state.partitions.get_mut(partition) {
                position.previous = position.assignment.take();
            }
        }
        offsets
    }

    /// Whether something is acknowledged in the partition, and nothing beyond `committed`.
    pub fn is_acknowledged_up_to(&self, partition: u32, committed: Option<u64>) -> bool {
        let acknowledged = self.0.lock().partitions.get(&partition).and_then(|position| position.acknowledged);
        acknowledged.is_some() && acknowledged <= committed
    }

    /// Revokes all partitions. Returns whether acknowledged offsets are uncommitted.
    pub fn revoke_all(&self) -> bool {
        let mut state = self.0.lock();
        let uncommitted = !state.to_commit().is_empty();
        let assigned: Vec<u32> = state.partitions.keys().copied().collect();
        state.break_transaction(assigned);
        for position in state.partitions.values_mut() {
            position.previous = position.assignment.take();
        }
        uncommitted
    }

    pub fn is_assigned(&self, partition: u32) -> bool {
        self.0.lock().partitions.get(&partition).is_some_and(|p| p.assignment.is_some())
    }

    /// Whether this assignment is still in effect, so that its events may be delivered.
    pub fn is_current(&self, partition: u32, assignment: Assignment) -> bool {
        self.0.lock().partitions.get(&partition).is_some_and(|p| p.assignment == Some(assignment))
    }

    /// The assigned partitions, in order.
    pub fn assigned(&self) -> Vec<u32> {
        let state = self.0.lock();
        state.partitions.iter().filter(|(_, p)| p.assignment.is_some()).map(|(partition, _)| *partition).collect()
    }

    /// The next offset, if it is known.
    pub fn next(&self, partition: u32) -> Option<u64> {
        self.0.lock().partitions.get(&partition).and_then(|p| p.next)
    }

    /// Locks the positions, to deliver several events under one lock.
    pub fn lock(&self) -> PositionsGuard<'_> {
        PositionsGuard(self.0.lock())
    }

    /// The topic that the consumer reads, if it is known.
    pub fn topic(&self) -> Option<TopicId> {
        self.0.lock().topic
    }

    /// Makes `topic` the one that the consumer reads; positions of an unknown topic belong to it.
    pub fn enter_topic(&self, topic: TopicId) {
        let mut state = self.0.lock();
        state.topic = Some(topic);
        for position in state.partitions.values_mut() {
            position.topic = position.topic.or(Some(topic));
        }
    }

    /// The assigned partitions whose positions belong to another topic than this one.
    pub fn in_other_topic(&self, topic: TopicId) -> Vec<u32> {
        let state = self.0.lock();
        let others =
            state.partitions.iter().filter(|(_, p)| p.assignment.is_some() && p.is_in_other_topic(Some(topic)));
        others.map(|(partition, _)| *partition).collect()
    }

    /// Seeks: makes `offset` the next one and removes an obstacle.
    pub fn seek(&self, partition: u32, offset: u64) {
        let mut guard = self.lock();
        if let Some(position) = guard.0.partitions.get_mut(&partition) {
            position.obstacle = None;
            position.seek_in_transaction(offset);
        }
        guard.set_next(partition, offset);
    }

    /// Why an assigned partition can't be read, if one can't.
    pub fn obstacle(&self) -> Option<Error> {
        let state = self.0.lock();
        let mut assigned = state.partitions.values().filter(|position| position.assignment.is_some());
        assigned.find_map(|position| match &position.obstacle {
            Some(Obstacle::Blocked(error) | Obstacle::Stopped(error)) => Some(error.clone()),
            None => None,
        })
    }

    /// Whether the partition delivers no events until the host seeks.
    pub fn is_stopped(&self, partition: u32) -> bool {
        self.0.lock().partitions.get(&partition).is_some_and(Position::is_stopped)
    }

    /// Acknowledges each event of the partition up to `offset`. An offset below the acknowledged
    /// one changes nothing. An event of a revoked assignment is stale; it counts only if the
    /// assignment continues later (see [`assign`](Self::assign)).
    pub fn acknowledge(&self, partition: u32, assignment: Assignment, offset: u64) -> Result<()> {
        let mut state = self.0.lock();
        match state.partitions.get_mut(&partition) {
            Some(position) if position.assignment == Some(assignment) => {
                position.acknowledge(offset + 1);
                return Ok(());
            }
            Some(position) if position.previous == Some(assignment) => position.acknowledge(offset + 1),
            _ => {}
        }
        let stale = stale(partition, offset);
        if state.in_transactions {
            state.broken.get_or_insert_with(|| stale.clone());
        }
        Err(stale)
    }

    /// The acknowledged offsets that are not committed yet, by partition.
    pub fn to_commit(&self) -> Vec<(u32, u64)> {
        self.0.lock().to_commit()
    }

    /// Records that the coordinator stored this offset.
    pub fn committed(&self, partition: u32, offset: u64) {
        if let Some(position) = self.0.lock().partitions.get_mut(&partition) {
            // If the partition started over while the request was under way, the result concerns
            // the old topic, or the offsets before the log truncation.
            if Some(offset) <= position.acknowledged {
                position.committed = position.committed.max(Some(offset));
            }
        }
    }
}

/// Exclusive access to the positions.
pub struct PositionsGuard<'a>(MutexGuard<'a, PositionsState>);

impl PositionsGuard<'_> {
    /// Advances the position past the event at `offset`, which the caller returns to the host if
    /// the result says so.
    pub fn deliver(&mut self, partition: u32, offset: u64) -> DeliveryOrder {
        let partitions = &mut self.0.partitions;
        let Some(position) = partitions.get_mut(&partition) else { return DeliveryOrder::NotAssigned };
        let Some(assignment) = position.assignment else { return DeliveryOrder::NotAssigned };
        if position.obstacle.is_some() {
            if position.is_stopped() {
                return DeliveryOrder::NotAssigned;
            }
            position.obstacle = None;
        }
        match position.next.replace(offset + 1) {
            Some(expected) if expected < offset => DeliveryOrder::Skipped(assignment, expected),
            Some(expected) if expected > offset => {
                position.next = Some(expected);
                DeliveryOrder::Behind(expected)
            }
            Some(_) => DeliveryOrder::InOrder(assignment),
            None => {
                position.resume = Some(offset);
                DeliveryOrder::InOrder(assignment)
            }
        }
    }

    /// Restarts the partition at `next` of `topic` after a log truncation or in a recreated topic.
    /// Events that were read before are stale. Returns whether its position was in another topic.
    pub fn start_over(&mut self, partition: u32, next: u64, topic: Option<TopicId>) -> bool {
        self.0.break_transaction([partition]);
        let PositionsState { partitions, assignments, .. } = &mut *self.0;
        let Some(position) = partitions.get_mut(&partition) else { return false };
        let is_in_recreated_topic = position.is_in_other_topic(topic);
        position.start_over(assignments, next, topic);
        is_in_recreated_topic
    }

    /// The next offset, if it is known.
    pub fn next(&self, partition: u32) -> Option<u64> {
        self.0.partitions.get(&partition).and_then(|position| position.next)
    }

    /// Moves the position forward to `next`: the offsets in between have no records.
    pub fn pass_to(&mut self, partition: u32, next: u64) {
        let Some(position) = self.0.partitions.get_mut(&partition) else { return };
        if position.assignment.is_none() || position.is_stopped() || position.next >= Some(next) {
            return;
        }
        match position.next.replace(next) {
            Some(first) => position.pass_gap(first, next),
            None => position.resume = Some(next),
        }
    }

    /// Reports `obstacle` until a record of the partition is delivered or skipped.
    pub fn block(&mut self, partition: u32, obstacle: Error) {
        if let Some(position) = self.0.partitions.get_mut(&partition) {
            position.obstacle = Some(Obstacle::Blocked(obstacle));
        }
    }

    /// Delivers no events of the partition until the host seeks.
    pub fn stop(&mut self, partition: u32, obstacle: Error) {
        if let Some(position) = self.0.partitions.get_mut(&partition) {
            position.obstacle = Some(Obstacle::Stopped(obstacle));
        }
    }

    /// Moves the position forward to `next`: the records in between can't be read.
    pub fn skip_to(&mut self, partition: u32, next: u64) {
        if let Some(position) = self.0.partitions.get_mut(&partition) {
            position.next = position.next.max(Some(next));
            position.resume = position.resume.or(Some(next));
            position.obstacle = None;
        }
    }

    /// Makes `offset` the next one, such as for an event that was not returned to the host after
    /// all.
    pub fn set_next(&mut self, partition: u32, offset: u64) {
        if let Some(position) = self.0.partitions.get_mut(&partition) {
            position.next = Some(offset);
        }
    }
}

fn stale(partition: u32, offset: u64) -> Error {
    Error::new(
        Kind::Stale,
        format!(
            "acknowledging offset {offset} of partition {partition}: the partition was revoked, or the consumer \
             closed, after the event was read; the group's next consumer of the partition may read the event again"
        ),
    )
}

#[cfg(test)]
mod tests;
