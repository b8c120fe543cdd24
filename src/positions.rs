//! Where a consumer stands in each partition: what was delivered to the host, what the host acknowledged, what
//! is committed. Nothing here talks to Kafka; time does not matter, only order does.

use std::collections::BTreeMap;

use parking_lot::{Mutex, MutexGuard};

use crate::error::{Error, Kind, Result};

/// One assignment of a partition to this consumer; an event remembers the one that it came by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assignment(u64);

#[derive(Debug, Default)]
struct Position {
    /// The current assignment; `None` while the partition is not ours.
    assignment: Option<Assignment>,
    /// The one before that, to be taken up again if nobody else had the partition meanwhile.
    before: Option<Assignment>,
    /// The group's generation when it was assigned.
    generation: i32,
    /// The offset that should come next, once that is known.
    next: Option<u64>,
    /// The offset after the highest one acknowledged: what is to be committed.
    acknowledged: Option<u64>,
    committed: Option<u64>,
    obstacle: Option<Obstacle>,
    /// The latest offsets without records, the first one and the one behind the last.
    gap: Option<(u64, u64)>,
}

/// Why nothing can be read at the next offset.
#[derive(Debug)]
enum Obstacle {
    /// Until something is read.
    Blocked(Error),
    /// Until the host seeks.
    Stopped(Error),
}

impl Position {
    fn start_over(&mut self, assignments: &mut u64, next: u64) {
        *assignments += 1;
        self.assignment = Some(Assignment(*assignments));
        (self.before, self.next, self.acknowledged, self.committed) = (None, Some(next), None, None);
        (self.obstacle, self.gap) = (None, None);
    }

    /// Offsets without records count as acknowledged as soon as all before them is.
    fn pass_gap(&mut self, first: u64, next: u64) {
        let begins_at = match self.gap {
            Some((earlier, end)) if end == first => earlier,
            _ => first,
        };
        self.gap = Some((begins_at, next));
        if self.acknowledged == Some(first) {
            self.acknowledged = Some(next);
        }
    }

    /// Everything before `next` is done with.
    fn acknowledge(&mut self, next: u64) {
        let next = match self.gap {
            Some((first, end)) if first == next => end,
            _ => next,
        };
        self.acknowledged = self.acknowledged.max(Some(next));
    }

    fn is_stopped(&self) -> bool {
        matches!(self.obstacle, Some(Obstacle::Stopped(_)))
    }
}

#[derive(Default)]
struct State {
    partitions: BTreeMap<u32, Position>,
    assignments: u64,
}

#[derive(Default)]
pub struct Positions(Mutex<State>);

/// An event was delivered, and this is what came before it.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    InOrder(Assignment),
    /// Offsets from this one up to the event's were skipped.
    Skipped(Assignment, u64),
    /// This offset, or a later one, was to come: nothing was delivered.
    Behind(u64),
    /// The partition is not ours any more: the event isn't for the host.
    NotOurs,
}

impl State {
    fn to_commit(&self) -> Vec<(u32, u64)> {
        self.partitions
            .iter()
            .filter(|(_, p)| p.assignment.is_some() && p.acknowledged > p.committed)
            .filter_map(|(partition, position)| position.acknowledged.map(|offset| (*partition, offset)))
            .collect()
    }
}

impl Positions {
    /// The partition is ours from now on, and the group stands at `committed` in it, if anywhere. Returns the offset
    /// to go on at: past what was delivered where the group's generation shows that nobody else had the partition
    /// meanwhile, since these events are not to come again; else where the group stands.
    pub fn assign(&self, partition: u32, generation: i32, committed: Option<u64>) -> Option<u64> {
        let mut state = self.0.lock();
        state.assignments += 1;
        let assignment = Assignment(state.assignments);
        let position = state.partitions.entry(partition).or_default();
        let kept = position.before.filter(|_| generation > 0 && position.generation + 1 == generation);
        *position = match kept {
            // Events that the host still has can be acknowledged as if nothing had happened.
            Some(before) => Position {
                assignment: Some(before),
                before: None,
                generation,
                next: position.next.max(committed),
                acknowledged: position.acknowledged.max(committed),
                committed,
                ..Position::default()
            },
            None => Position {
                assignment: Some(assignment),
                before: None,
                generation,
                next: committed,
                acknowledged: committed,
                committed,
                ..Position::default()
            },
        };
        position.next
    }

    /// The partitions are given up: what is acknowledged from now on is stale. Gives the offsets to commit, as
    /// [`to_commit`](Self::to_commit) does; in one step, so that no acknowledgement is taken that isn't among them.
    pub fn revoke(&self, partitions: &[u32]) -> Vec<(u32, u64)> {
        let mut state = self.0.lock();
        let offsets = state.to_commit();
        for partition in partitions {
            if let Some(position) = state.partitions.get_mut(partition) {
                position.before = position.assignment.take();
            }
        }
        offsets
    }

    /// Whether all that was acknowledged in the partition, if something was, is before `committed`.
    pub fn is_acknowledged_up_to(&self, partition: u32, committed: Option<u64>) -> bool {
        let acknowledged = self.0.lock().partitions.get(&partition).and_then(|position| position.acknowledged);
        acknowledged.is_some() && acknowledged <= committed
    }

    /// None of the partitions is ours any more. Returns whether something acknowledged was left uncommitted.
    pub fn revoke_all(&self) -> bool {
        let mut state = self.0.lock();
        let uncommitted = !state.to_commit().is_empty();
        for position in state.partitions.values_mut() {
            position.before = position.assignment.take();
        }
        uncommitted
    }

    pub fn is_assigned(&self, partition: u32) -> bool {
        self.0.lock().partitions.get(&partition).is_some_and(|p| p.assignment.is_some())
    }

    /// Whether an event that came by this assignment is still ours to hand out.
    pub fn is_current(&self, partition: u32, assignment: Assignment) -> bool {
        self.0.lock().partitions.get(&partition).is_some_and(|p| p.assignment == Some(assignment))
    }

    /// The partitions that are ours, in order.
    pub fn assigned(&self) -> Vec<u32> {
        let state = self.0.lock();
        state.partitions.iter().filter(|(_, p)| p.assignment.is_some()).map(|(partition, _)| *partition).collect()
    }

    /// The offset that should come next, if that is known.
    pub fn next(&self, partition: u32) -> Option<u64> {
        self.0.lock().partitions.get(&partition).and_then(|p| p.next)
    }

    /// For many events at once; until it is dropped nobody else can tell or change anything here.
    pub fn turn(&self) -> Turn<'_> {
        Turn(self.0.lock())
    }

    /// The partitions that are ours, each with the assignment that it came by.
    pub fn assignments(&self) -> Vec<(u32, Assignment)> {
        let state = self.0.lock();
        let ours = |(partition, position): (&u32, &Position)| Some((*partition, position.assignment?));
        state.partitions.iter().filter_map(ours).collect()
    }

    /// The partition is another topic's now, which is read from its first offset on; events of the one before are stale.
    pub fn start_over(&self, partition: u32) {
        self.turn().start_over_at(partition, 0);
    }

    /// The event at `offset` is to come next, by the host's wish.
    pub fn go_back_to(&self, partition: u32, offset: u64) {
        let mut turn = self.turn();
        if let Some(position) = turn.0.partitions.get_mut(&partition) {
            position.obstacle = None;
        }
        turn.go_back_to(partition, offset);
    }

    /// Why one of our partitions can't be read on, if one can't.
    pub fn obstacle(&self) -> Option<Error> {
        let state = self.0.lock();
        let mut ours = state.partitions.values().filter(|position| position.assignment.is_some());
        ours.find_map(|position| match &position.obstacle {
            Some(Obstacle::Blocked(error) | Obstacle::Stopped(error)) => Some(error.clone()),
            None => None,
        })
    }

    /// Whether nothing of the partition is delivered until the host seeks.
    pub fn is_stopped(&self, partition: u32) -> bool {
        self.0.lock().partitions.get(&partition).is_some_and(Position::is_stopped)
    }

    /// Every event of the partition up to `offset` is done with. Going back changes nothing; an event of an
    /// assignment that has ended is stale, and counts only if the partition comes back before anyone else had it.
    pub fn acknowledge(&self, partition: u32, assignment: Assignment, offset: u64) -> Result<()> {
        let mut state = self.0.lock();
        match state.partitions.get_mut(&partition) {
            Some(position) if position.assignment == Some(assignment) => {
                position.acknowledge(offset + 1);
                Ok(())
            }
            Some(position) if position.before == Some(assignment) => {
                position.acknowledge(offset + 1);
                Err(stale(partition, offset))
            }
            _ => Err(stale(partition, offset)),
        }
    }

    /// What was acknowledged and is not committed, as the offsets to commit.
    pub fn to_commit(&self) -> Vec<(u32, u64)> {
        self.0.lock().to_commit()
    }

    pub fn committed(&self, partition: u32, offset: u64) {
        if let Some(position) = self.0.lock().partitions.get_mut(&partition) {
            // An answer that comes after a new history has begun is about the one before.
            if Some(offset) <= position.acknowledged {
                position.committed = position.committed.max(Some(offset));
            }
        }
    }
}

/// A reading's time with the positions.
pub struct Turn<'a>(MutexGuard<'a, State>);

impl Turn<'_> {
    /// The event at `offset` is about to be handed to the host.
    pub fn deliver(&mut self, partition: u32, offset: u64) -> Step {
        let partitions = &mut self.0.partitions;
        let Some(position) = partitions.get_mut(&partition) else { return Step::NotOurs };
        let Some(assignment) = position.assignment else { return Step::NotOurs };
        if position.obstacle.is_some() {
            if position.is_stopped() {
                return Step::NotOurs;
            }
            position.obstacle = None;
        }
        match position.next.replace(offset + 1) {
            Some(expected) if expected < offset => Step::Skipped(assignment, expected),
            Some(expected) if expected > offset => {
                position.next = Some(expected);
                Step::Behind(expected)
            }
            _ => Step::InOrder(assignment),
        }
    }

    /// The event at `next` comes next, and what was read before is another history's: events of that are stale.
    pub fn start_over_at(&mut self, partition: u32, next: u64) {
        let State { partitions, assignments } = &mut *self.0;
        if let Some(position) = partitions.get_mut(&partition) {
            position.start_over(assignments, next);
        }
    }

    /// The offset that should come next, once that is known.
    pub fn next(&self, partition: u32) -> Option<u64> {
        self.0.partitions.get(&partition).and_then(|position| position.next)
    }

    /// There are no records before `next`. Never goes back.
    pub fn pass_to(&mut self, partition: u32, next: u64) {
        let Some(position) = self.0.partitions.get_mut(&partition) else { return };
        if position.assignment.is_none() || position.is_stopped() || position.next >= Some(next) {
            return;
        }
        if let Some(first) = position.next.replace(next) {
            position.pass_gap(first, next);
        }
    }

    /// Nothing can be read in the partition for now.
    pub fn block(&mut self, partition: u32, obstacle: Error) {
        if let Some(position) = self.0.partitions.get_mut(&partition) {
            position.obstacle = Some(Obstacle::Blocked(obstacle));
        }
    }

    /// Nothing of the partition is delivered until the host seeks.
    pub fn stop(&mut self, partition: u32, obstacle: Error) {
        if let Some(position) = self.0.partitions.get_mut(&partition) {
            position.obstacle = Some(Obstacle::Stopped(obstacle));
        }
    }

    /// Offsets before `next` are not delivered. Never goes back.
    pub fn skip_to(&mut self, partition: u32, next: u64) {
        if let Some(position) = self.0.partitions.get_mut(&partition) {
            position.next = position.next.max(Some(next));
            position.obstacle = None;
        }
    }

    /// The event at `offset` was not handed out after all.
    pub fn go_back_to(&mut self, partition: u32, offset: u64) {
        if let Some(position) = self.0.partitions.get_mut(&partition) {
            position.next = Some(offset);
        }
    }
}

fn stale(partition: u32, offset: u64) -> Error {
    Error::new(
        Kind::Stale,
        format!(
            "acknowledging offset {offset} of partition {partition}: the partition was taken from this consumer since \
             the event was read; whoever gets it next may get the event again"
        ),
    )
}

#[cfg(test)]
mod tests;
