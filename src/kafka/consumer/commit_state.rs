//! The progress of commits, of unsubscribing and of closing: shared by the consumer thread and the
//! host's threads that wait for it.

use std::collections::BTreeSet;

use crate::support::error::Error;
use crate::support::protection::Protection;

#[derive(Default)]
pub struct CommitState {
    /// The number of commits that the host has requested, and how many of these are completed.
    pub requested: u64,
    pub completed: u64,
    /// The number of commits that were sent.
    sent: u64,
    commit_failure: Option<CommitFailure>,
    /// Whether the host has requested to unsubscribe, and whether that is done.
    pub unsubscribe_requested: bool,
    pub unsubscribed: bool,
    pub closed: bool,
}

/// A failure that was not reported yet and that no later commit has superseded.
struct CommitFailure {
    error: Error,
    /// The number of the failed commit in the order of sending. Commits that were sent earlier
    /// don't supersede the failure.
    number: u64,
    /// Assigned partitions whose positions were not committed since.
    assigned: BTreeSet<u32>,
    /// Partitions that were revoked before their positions were committed. Another member reads
    /// these events again, so that any later commit shows that the group has recovered.
    revoked: BTreeSet<u32>,
    /// No later commit supersedes the failure.
    is_final: bool,
}

impl CommitState {
    /// Counts a commit that is being sent, and returns its number.
    pub fn begin_commit(&mut self) -> u64 {
        self.sent += 1;
        self.sent
    }

    /// Records a failed commit. `assigned` are its partitions that this consumer still has,
    /// `revoked` the others.
    pub fn commit_failed(&mut self, number: u64, error: Error, assigned: BTreeSet<u32>, revoked: BTreeSet<u32>) {
        if assigned.is_empty() && revoked.is_empty() {
            return self.fail_permanently(error);
        }
        match &mut self.commit_failure {
            Some(failure) if failure.is_final => {}
            Some(failure) => {
                failure.error = error;
                failure.number = failure.number.max(number);
                failure.assigned.extend(assigned);
                failure.revoked.extend(revoked);
            }
            none => *none = Some(CommitFailure { error, number, assigned, revoked, is_final: false }),
        }
    }

    /// Records a failure that no later commit supersedes.
    pub fn fail_permanently(&mut self, error: Error) {
        let (assigned, revoked) = Default::default();
        self.commit_failure = Some(CommitFailure { error, number: self.sent, assigned, revoked, is_final: true });
    }

    /// Records the commit of a partition. It includes everything that was acknowledged before.
    pub fn commit_succeeded(&mut self, number: u64, partition: u32) {
        let Some(failure) = self.commit_failure.as_mut().filter(|failure| failure.number < number) else { return };
        failure.assigned.remove(&partition);
        failure.revoked.clear();
        self.forget_superseded_failure();
    }

    /// Records that the committed offset of a partition includes everything that was acknowledged
    /// there.
    pub fn found_committed(&mut self, partition: u32) {
        let Some(failure) = &mut self.commit_failure else { return };
        failure.assigned.remove(&partition);
        failure.revoked.remove(&partition);
        self.forget_superseded_failure();
    }

    fn forget_superseded_failure(&mut self) {
        let is_superseded =
            |failure: &CommitFailure| failure.assigned.is_empty() && failure.revoked.is_empty() && !failure.is_final;
        if self.commit_failure.as_ref().is_some_and(is_superseded) && Protection::SupersededFailure.is_on() {
            self.commit_failure = None;
        }
    }

    /// Records that these partitions were revoked.
    pub fn partitions_revoked(&mut self, partitions: &[u32]) {
        let Some(failure) = &mut self.commit_failure else { return };
        failure.revoked.extend(partitions.iter().copied().filter(|partition| failure.assigned.remove(partition)));
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
    use crate::support::error::Kind;

    fn failure() -> Error {
        Error::new(Kind::Kafka, "not committed")
    }

    fn state_with_failure(assigned: &[u32], revoked: &[u32]) -> CommitState {
        let mut commit_state = CommitState::default();
        commit_state.commit_failed(1, failure(), assigned.iter().copied().collect(), revoked.iter().copied().collect());
        commit_state
    }

    #[test]
    fn commit_failure_is_reported_unless_superseded() {
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
    fn any_later_commit_supersedes_failure_of_revoked_partitions() {
        let mut commit_state = state_with_failure(&[1], &[]);
        commit_state.partitions_revoked(&[1]);
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
    fn partition_found_committed_supersedes_its_failure() {
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
    fn earlier_commit_does_not_supersede_failure() {
        let mut commit_state = CommitState::default();
        let [earlier, failing, later] = [(); 3].map(|()| commit_state.begin_commit());
        commit_state.commit_failed(failing, failure(), BTreeSet::new(), BTreeSet::from([0]));
        commit_state.commit_succeeded(earlier, 0);
        assert!(commit_state.has_failure());
        commit_state.commit_succeeded(later, 0);
        assert!(!commit_state.has_failure());
    }

    #[test]
    fn permanent_failure_is_not_superseded() {
        let mut commit_state = CommitState::default();
        commit_state.fail_permanently(failure());
        commit_state.commit_failed(1, Error::new(Kind::Kafka, "another"), BTreeSet::from([0]), BTreeSet::new());
        commit_state.commit_succeeded(2, 0);
        assert_eq!(commit_state.take_commit_failure().unwrap().message(), "not committed");
    }
}
