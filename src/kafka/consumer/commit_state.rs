//! The state of commits, of unsubscribing and of the end, shared by the thread that serves a consumer and those who wait for it.

use std::collections::BTreeSet;

use crate::error::Error;
use crate::protection::Protection;

#[derive(Default)]
pub struct CommitState {
    /// Commits asked for by the host, and how many of these are answered.
    pub requested: u64,
    pub answered: u64,
    /// Commits that were sent.
    sent: u64,
    commit_failure: Option<CommitFailure>,
    /// The host wants no more records; and that is done.
    pub unsubscribe: bool,
    pub unsubscribed: bool,
    pub closed: bool,
}

/// A failure that nobody has been told of, and that no later commit has made up for.
struct CommitFailure {
    error: Error,
    /// Of the commit, in the order of sending: what was sent before makes up for nothing.
    number: u64,
    /// Partitions whose positions were not committed since.
    held: BTreeSet<u32>,
    /// Partitions that were taken away with positions that are not committed: others read these events again, which any later
    /// commit shows to be over.
    gone: BTreeSet<u32>,
    /// What no commit makes up for.
    is_final: bool,
}

impl CommitState {
    /// The number of the commit that is sent now.
    pub fn commit_is_sent(&mut self) -> u64 {
        self.sent += 1;
        self.sent
    }

    /// `held` and `gone`: its partitions that this consumer still has, and those that it has no more.
    pub fn commit_failed(&mut self, number: u64, error: Error, held: BTreeSet<u32>, gone: BTreeSet<u32>) {
        if held.is_empty() && gone.is_empty() {
            return self.failed(error);
        }
        match &mut self.commit_failure {
            Some(failure) if failure.is_final => {}
            Some(failure) => {
                failure.error = error;
                failure.number = failure.number.max(number);
                failure.held.extend(held);
                failure.gone.extend(gone);
            }
            none => *none = Some(CommitFailure { error, number, held, gone, is_final: false }),
        }
    }

    /// A failure that counts whatever is committed later.
    pub fn failed(&mut self, error: Error) {
        let (held, gone) = Default::default();
        self.commit_failure = Some(CommitFailure { error, number: self.sent, held, gone, is_final: true });
    }

    /// What was acknowledged before is committed with it.
    pub fn commit_succeeded(&mut self, number: u64, partition: u32) {
        let Some(failure) = self.commit_failure.as_mut().filter(|failure| failure.number < number) else { return };
        failure.held.remove(&partition);
        failure.gone.clear();
        self.forget_superseded_failure();
    }

    /// The group stands past all that was acknowledged in the partition.
    pub fn found_committed(&mut self, partition: u32) {
        let Some(failure) = &mut self.commit_failure else { return };
        failure.held.remove(&partition);
        failure.gone.remove(&partition);
        self.forget_superseded_failure();
    }

    fn forget_superseded_failure(&mut self) {
        let is_superseded =
            |failure: &CommitFailure| failure.held.is_empty() && failure.gone.is_empty() && !failure.is_final;
        if self.commit_failure.as_ref().is_some_and(is_superseded) && Protection::SupersededFailure.is_on() {
            self.commit_failure = None;
        }
    }

    /// These partitions are others' now.
    pub fn taken_away(&mut self, partitions: &[u32]) {
        let Some(failure) = &mut self.commit_failure else { return };
        failure.gone.extend(partitions.iter().copied().filter(|partition| failure.held.remove(partition)));
    }

    pub fn has_failure(&self) -> bool {
        self.commit_failure.is_some()
    }

    pub fn take_commit_failure(&mut self) -> Option<Error> {
        self.commit_failure.take().map(|failure| failure.error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn failure() -> Error {
        Error::new(Kind::Kafka, "not committed")
    }

    fn state_with_failure(held: &[u32], gone: &[u32]) -> CommitState {
        let mut commit_state = CommitState::default();
        commit_state.commit_failed(1, failure(), held.iter().copied().collect(), gone.iter().copied().collect());
        commit_state
    }

    #[test]
    fn commit_failure_is_reported_unless_its_partitions_are_committed_later() {
        let mut commit_state = state_with_failure(&[0, 1], &[]);
        commit_state.commit_succeeded(2, 2);
        commit_state.commit_succeeded(2, 0);
        assert_eq!(commit_state.take_commit_failure().unwrap().message(), "not committed");
        assert!(commit_state.take_commit_failure().is_none(), "it is reported once");

        let mut commit_state = state_with_failure(&[0, 1], &[]);
        commit_state.commit_succeeded(2, 1);
        commit_state.commit_succeeded(2, 0);
        assert!(commit_state.take_commit_failure().is_none());
    }

    #[test]
    fn any_later_commit_makes_up_for_partitions_that_were_taken_away() {
        let mut commit_state = state_with_failure(&[1], &[]);
        commit_state.taken_away(&[1]);
        assert!(commit_state.has_failure(), "without a later commit it is reported");
        commit_state.commit_succeeded(2, 0);
        assert!(commit_state.take_commit_failure().is_none());

        let mut commit_state = state_with_failure(&[2], &[1]);
        commit_state.commit_succeeded(2, 0);
        assert!(commit_state.has_failure());
        commit_state.commit_succeeded(2, 2);
        assert!(!commit_state.has_failure());
    }

    #[test]
    fn partition_that_is_found_committed_makes_up_for_its_failure() {
        let mut commit_state = state_with_failure(&[0], &[1]);
        commit_state.found_committed(0);
        assert!(commit_state.has_failure());
        commit_state.found_committed(1);
        assert!(!commit_state.has_failure());
    }

    #[test]
    fn later_failure_adds_its_partitions() {
        let mut commit_state = state_with_failure(&[0], &[]);
        commit_state.commit_failed(2, failure(), BTreeSet::from([1]), BTreeSet::new());
        commit_state.commit_succeeded(3, 1);
        assert!(commit_state.has_failure());
        commit_state.commit_succeeded(3, 0);
        assert!(!commit_state.has_failure());
    }

    #[test]
    fn commit_that_was_sent_before_makes_up_for_nothing() {
        let mut commit_state = CommitState::default();
        let [earlier, failing, later] = [(); 3].map(|()| commit_state.commit_is_sent());
        commit_state.commit_failed(failing, failure(), BTreeSet::new(), BTreeSet::from([0]));
        commit_state.commit_succeeded(earlier, 0);
        assert!(commit_state.has_failure());
        commit_state.commit_succeeded(later, 0);
        assert!(!commit_state.has_failure());
    }

    #[test]
    fn failure_of_no_commit_is_not_made_up_for() {
        let mut commit_state = CommitState::default();
        commit_state.failed(failure());
        commit_state.commit_failed(1, Error::new(Kind::Kafka, "another"), BTreeSet::from([0]), BTreeSet::new());
        commit_state.commit_succeeded(2, 0);
        assert_eq!(commit_state.take_commit_failure().unwrap().message(), "not committed");
    }
}
