use super::*;

fn assigned(generation: i32) -> (Positions, Assignment) {
    let positions = Positions::default();
    positions.assign(0, generation, None, None);
    let DeliveryOrder::InOrder(assignment) = positions.lock().deliver(0, 10) else { panic!("not in order") };
    (positions, assignment)
}

#[test]
fn highest_acknowledgement_counts_in_any_order() {
    let (positions, assignment) = assigned(1);
    for offset in [3, 9, 5, 0] {
        positions.acknowledge(0, assignment, offset).unwrap();
    }
    assert_eq!(positions.to_commit(), [(0, 10)]);
    positions.committed(0, 10);
    assert_eq!(positions.to_commit(), []);
    positions.acknowledge(0, assignment, 4).unwrap();
    assert_eq!(positions.to_commit(), [], "a lower offset changes nothing");
}

#[test]
fn late_result_of_an_earlier_commit_is_ignored() {
    let (positions, assignment) = assigned(1);
    positions.acknowledge(0, assignment, 9).unwrap();
    positions.committed(0, 10);
    positions.committed(0, 5);
    assert_eq!(positions.to_commit(), []);
}

#[test]
fn event_of_an_earlier_assignment_acknowledges_nothing() {
    let (positions, stale) = assigned(1);
    positions.revoke(&[0]);
    assert_eq!(positions.acknowledge(0, stale, 10).unwrap_err().kind(), Kind::Stale);
    positions.assign(0, 3, None, None);
    assert_eq!(positions.acknowledge(0, stale, 10).unwrap_err().kind(), Kind::Stale);
    assert_eq!(positions.to_commit(), []);
}

/// The next generation shows that no other member had the partition meanwhile.
#[test]
fn kept_partition_continues_after_the_last_delivered_event() {
    let (positions, _) = assigned(4);
    positions.revoke(&[0]);
    assert_eq!(positions.assign(0, 5, Some(3), None).next, Some(11));
}

#[test]
fn reassigned_partition_starts_at_the_committed_offset() {
    let (positions, _) = assigned(4);
    positions.revoke(&[0]);
    assert_eq!(positions.assign(0, 6, Some(3), None).next, Some(3));
    let (positions, _) = assigned(-1);
    positions.revoke(&[0]);
    assert_eq!(positions.assign(0, 0, None, None).next, None, "without a generation, another member may have had it");
}

/// The first event of an assignment may have any offset, if nothing is committed.
#[test]
fn skipped_offsets_are_noticed_once() {
    let (positions, assignment) = assigned(1);
    assert_eq!(positions.lock().deliver(0, 15), DeliveryOrder::Skipped(assignment, 11));
    assert_eq!(positions.lock().deliver(0, 16), DeliveryOrder::InOrder(assignment));
    positions.revoke(&[0]);
    assert_eq!(positions.lock().deliver(0, 17), DeliveryOrder::NotAssigned);
    assert_eq!(positions.lock().deliver(7, 0), DeliveryOrder::NotAssigned);
}

#[test]
fn offsets_missing_after_the_commit_are_noticed() {
    let positions = Positions::default();
    assert_eq!(positions.assign(0, 1, Some(2), None).next, Some(2));
    assert!(matches!(positions.lock().deliver(0, 6), DeliveryOrder::Skipped(_, 2)));
    assert_eq!(positions.to_commit(), [], "a committed offset is not committed again");
}

/// An acknowledgement during the rebalance is stale, but counts when the partition is kept.
#[test]
fn event_of_a_kept_partition_is_acknowledged_after_a_rebalance() {
    let (positions, assignment) = assigned(4);
    positions.revoke(&[0]);
    assert_eq!(positions.acknowledge(0, assignment, 8).unwrap_err().kind(), Kind::Stale);
    positions.assign(0, 5, Some(3), None);
    assert_eq!(positions.to_commit(), [(0, 9)], "the stale acknowledgement counts now");
    positions.acknowledge(0, assignment, 10).unwrap();
    assert_eq!(positions.to_commit(), [(0, 11)]);
}

#[test]
fn event_behind_the_position_needs_a_start_over() {
    let positions = Positions::default();
    positions.assign(0, 1, Some(100), None);
    assert_eq!(positions.lock().deliver(0, 5), DeliveryOrder::Behind(100));
    assert_eq!(positions.next(0), Some(100));
    assert!(!positions.lock().start_over(0, 5, None));
    let DeliveryOrder::InOrder(assignment) = positions.lock().deliver(0, 5) else { panic!("not in order") };
    positions.acknowledge(0, assignment, 5).unwrap();
    assert_eq!(positions.to_commit(), [(0, 6)], "a lower offset than the old commit");
}

/// Acknowledgements after `revoke` are rejected, also while the commit request is under way.
#[test]
fn revoke_returns_each_accepted_acknowledgement() {
    let (positions, assignment) = assigned(1);
    positions.acknowledge(0, assignment, 10).unwrap();
    assert_eq!(positions.revoke(&[0]), [(0, 11)]);
    // While the commit request is under way.
    assert!(positions.acknowledge(0, assignment, 12).is_err());
    positions.committed(0, 11);
    assert_eq!(positions.to_commit(), []);
}

/// The new topic is read from its first offset. A commit result of the old topic changes nothing.
#[test]
fn start_over_ignores_acknowledgements_of_the_old_topic() {
    let (positions, before) = assigned(1);
    positions.acknowledge(0, before, 10).unwrap();
    positions.lock().start_over(0, 0, None);
    positions.committed(0, 11);
    assert!(positions.acknowledge(0, before, 10).is_err());
    let DeliveryOrder::InOrder(now) = positions.lock().deliver(0, 0) else { panic!("not in order") };
    positions.acknowledge(0, now, 0).unwrap();
    assert_eq!(positions.to_commit(), [(0, 1)]);
    assert_ne!(now, before);
}

const FORMER: Option<TopicId> = Some(TopicId([1; 16]));
const CURRENT: TopicId = TopicId([2; 16]);

/// Though no other member had the partition.
#[test]
fn revoked_partition_does_not_continue_in_a_recreated_topic() {
    let (positions, before) = assigned(1);
    positions.enter_topic(FORMER.unwrap());
    positions.revoke(&[0]);
    let start = positions.assign(0, 2, None, Some(CURRENT));
    assert_eq!(start, Start { next: None, is_in_recreated_topic: true });
    assert!(positions.acknowledge(0, before, 10).is_err());
    assert_eq!(positions.to_commit(), []);
}

#[test]
fn revoked_partition_continues_in_its_topic() {
    let (positions, _) = assigned(1);
    positions.enter_topic(FORMER.unwrap());
    positions.revoke(&[0]);
    let start = positions.assign(0, 2, None, FORMER);
    assert_eq!(start, Start { next: Some(11), is_in_recreated_topic: false });
}

/// The committed offset is one of the topic that `assign` names, also if the consumer reads another
/// one by now.
#[test]
fn assigned_partition_in_another_topic_is_known_until_it_starts_over() {
    let positions = Positions::default();
    positions.assign(0, 1, Some(6), FORMER);
    positions.assign(1, 1, None, Some(CURRENT));
    positions.assign(2, 1, Some(6), FORMER);
    positions.revoke(&[2]);
    assert_eq!(positions.in_other_topic(CURRENT), [0]);
    positions.enter_topic(CURRENT);
    assert_eq!(positions.in_other_topic(CURRENT), [0]);
    assert!(positions.lock().start_over(0, 0, Some(CURRENT)));
    assert!(positions.in_other_topic(CURRENT).is_empty());
    assert_eq!(positions.next(0), Some(0));
}

/// Brokers older than Kafka 2.8 have no topic ids, and metadata may arrive after an assignment.
#[test]
fn position_of_an_unknown_topic_belongs_to_the_next_known_one() {
    let positions = Positions::default();
    positions.assign(0, 1, Some(6), None);
    assert!(positions.in_other_topic(CURRENT).is_empty());
    positions.enter_topic(FORMER.unwrap());
    assert_eq!(positions.in_other_topic(CURRENT), [0]);
    assert_eq!(positions.topic(), FORMER);
    positions.assign(1, 1, Some(6), None);
    assert_eq!(positions.in_other_topic(CURRENT), [0, 1], "the consumer's topic is the best guess");
}

#[test]
fn obstacle_lasts_until_a_record_is_delivered_or_skipped() {
    let (positions, _) = assigned(1);
    let obstacle = || Error::new(Kind::DamagedData, "damaged");
    positions.lock().block(0, obstacle());
    assert!(positions.obstacle().is_some());
    assert!(matches!(positions.lock().deliver(0, 11), DeliveryOrder::InOrder(_)));
    assert!(positions.obstacle().is_none());
    positions.lock().block(0, obstacle());
    positions.lock().skip_to(0, 20);
    assert!(positions.obstacle().is_none());
    assert!(
        matches!(positions.lock().deliver(0, 20), DeliveryOrder::InOrder(_)),
        "skipped offsets are not reported as missing"
    );
    positions.lock().skip_to(0, 5);
    assert_eq!(positions.next(0), Some(21), "a position never goes back");
}

#[test]
fn stopped_partition_delivers_nothing_until_a_seek() {
    let (positions, _) = assigned(1);
    positions.lock().stop(0, Error::new(Kind::DamagedData, "damaged"));
    assert_eq!(positions.lock().deliver(0, 14), DeliveryOrder::NotAssigned);
    assert!(positions.is_stopped(0) && positions.obstacle().is_some());
    assert_eq!(positions.next(0), Some(11));
    positions.seek(0, 14);
    assert!(!positions.is_stopped(0) && positions.obstacle().is_none());
    assert!(matches!(positions.lock().deliver(0, 14), DeliveryOrder::InOrder(_)));
}

#[test]
fn revoke_all_returns_whether_offsets_are_uncommitted() {
    let (positions, assignment) = assigned(1);
    assert!(!positions.revoke_all());
    let (positions, again) = assigned(1);
    positions.acknowledge(0, again, 10).unwrap();
    assert!(positions.revoke_all());
    assert!(positions.acknowledge(0, assignment, 10).is_err());
}

/// A gap is a range of offsets without records, such as a transaction marker's.
#[test]
fn gap_is_acknowledged_with_the_event_before_it() {
    let (positions, assignment) = assigned(1);
    positions.lock().pass_to(0, 12);
    assert_eq!(positions.next(0), Some(12));
    assert_eq!(positions.to_commit(), [], "the event before them is not acknowledged");
    positions.lock().pass_to(0, 13);
    positions.acknowledge(0, assignment, 10).unwrap();
    assert_eq!(positions.to_commit(), [(0, 13)]);
    positions.lock().pass_to(0, 14);
    assert_eq!(positions.to_commit(), [(0, 14)], "the gap needs no further acknowledgement");
    positions.lock().pass_to(0, 11);
    assert_eq!(positions.next(0), Some(14));
}

#[test]
fn gap_after_a_committed_position_is_committed() {
    let positions = Positions::default();
    positions.assign(0, 1, Some(5), None);
    positions.lock().pass_to(0, 7);
    assert_eq!(positions.to_commit(), [(0, 7)]);
    positions.assign(1, 1, None, None);
    positions.lock().pass_to(1, 7);
    assert_eq!(positions.to_commit(), [(0, 7)], "without a committed offset and events, nothing is committed");
}

fn in_transactions(generation: i32, committed: Option<u64>) -> (Positions, Assignment) {
    let positions = Positions::in_transactions();
    positions.assign(0, generation, committed, None);
    let DeliveryOrder::InOrder(assignment) = positions.lock().deliver(0, 10) else { panic!("not in order") };
    (positions, assignment)
}

/// Returns where the assigned partitions continue.
fn roll_back(positions: &Positions) -> Vec<(u32, u64)> {
    let mut guard = positions.lock();
    let mut rolled_back = Vec::new();
    for (partition, resume, committed) in guard.to_roll_back() {
        guard.roll_back(partition, resume.unwrap(), committed);
        rolled_back.push((partition, resume.unwrap()));
    }
    guard.end_abort();
    rolled_back
}

#[test]
fn only_transactions_commit_their_positions() {
    let (positions, assignment) = in_transactions(1, None);
    positions.acknowledge(0, assignment, 10).unwrap();
    assert_eq!(positions.to_commit(), []);
    assert_eq!(positions.begin_commit().unwrap(), [(0, 11)]);
    // Of the next transaction.
    positions.acknowledge(0, assignment, 11).unwrap();
    positions.end_commit();
    assert_eq!(positions.begin_commit().unwrap(), [(0, 12)]);
    positions.end_commit();
    assert_eq!(positions.begin_commit().unwrap(), []);
    assert_eq!(positions.revoke(&[0]), []);
}

#[test]
fn abort_returns_to_the_last_commit_or_to_the_first_event() {
    let (positions, first) = in_transactions(1, None);
    positions.acknowledge(0, first, 10).unwrap();
    assert_eq!(roll_back(&positions), [(0, 10)]);
    assert_eq!(positions.next(0), Some(10));
    assert_eq!(positions.begin_commit().unwrap(), [], "nothing of the aborted transaction is committed");
    let DeliveryOrder::InOrder(second) = positions.lock().deliver(0, 10) else { panic!("not in order") };
    positions.acknowledge(0, second, 10).unwrap();
    positions.begin_commit().unwrap();
    positions.end_commit();
    positions.lock().deliver(0, 11);
    assert_eq!(roll_back(&positions), [(0, 11)]);
    assert_eq!(positions.next(0), Some(11));
}

#[test]
fn abort_returns_to_where_the_host_has_sought_but_not_past_acknowledged_events() {
    let (positions, _) = in_transactions(1, Some(10));
    positions.seek(0, 4);
    positions.lock().deliver(0, 4);
    assert_eq!(roll_back(&positions), [(0, 4)]);

    let (positions, assignment) = in_transactions(1, Some(10));
    positions.acknowledge(0, assignment, 10).unwrap();
    positions.seek(0, 100);
    assert_eq!(roll_back(&positions), [(0, 10)]);
    positions.seek(0, 100);
    assert_eq!(roll_back(&positions), [(0, 100)], "nothing is acknowledged");
}

#[test]
fn seek_during_the_commit_counts_for_the_next_transaction() {
    let (positions, assignment) = in_transactions(1, Some(10));
    positions.acknowledge(0, assignment, 10).unwrap();
    positions.begin_commit().unwrap();
    positions.seek(0, 3);
    positions.end_commit();
    assert_eq!(roll_back(&positions), [(0, 3)]);
}

#[test]
fn events_of_an_aborted_transaction_are_stale_wherever_reading_continues() {
    let (positions, assignment) = in_transactions(1, Some(10));
    positions.seek(0, 11);
    assert_eq!(roll_back(&positions), [(0, 11)]);
    assert_eq!(positions.acknowledge(0, assignment, 10).unwrap_err().kind(), Kind::Stale);
}

/// A marker of a transaction, which the consumer has passed, is no event.
#[test]
fn revoked_gap_does_not_prevent_the_commit() {
    let (positions, assignment) = in_transactions(1, Some(10));
    positions.acknowledge(0, assignment, 10).unwrap();
    positions.begin_commit().unwrap();
    positions.end_commit();
    positions.lock().pass_to(0, 13);
    positions.revoke(&[0]);
    assert_eq!(positions.begin_commit().unwrap(), []);
}

#[test]
fn unknown_outcome_prevents_the_next_commit_until_an_abort() {
    let (positions, assignment) = in_transactions(1, Some(10));
    positions.enter_transaction();
    positions.acknowledge(0, assignment, 10).unwrap();
    // The producer is released, and the next one begins.
    positions.enter_transaction();
    assert!(positions.is_outcome_unknown());
    assert_eq!(positions.begin_commit().unwrap_err().kind(), Kind::Stale);
    roll_back(&positions);
    positions.enter_transaction();
    assert_eq!(positions.begin_commit().unwrap(), []);
    positions.end_commit();
    positions.enter_transaction();
    assert!(!positions.is_outcome_unknown());
}

#[test]
fn acknowledged_event_of_a_revoked_partition_prevents_the_commit() {
    let revocations: [fn(&Positions); 3] = [
        |positions| {
            positions.revoke(&[0]);
        },
        |positions| {
            positions.revoke_all();
        },
        |positions| {
            positions.lock().start_over(0, 0, None);
        },
    ];
    for revoke in revocations {
        let (positions, assignment) = in_transactions(1, Some(10));
        positions.acknowledge(0, assignment, 10).unwrap();
        revoke(&positions);
        positions.assign(0, 2, Some(10), None);
        assert_eq!(positions.begin_commit().unwrap_err().kind(), Kind::Stale);
        roll_back(&positions);
        assert_eq!(positions.begin_commit().unwrap(), []);
    }
}

#[test]
fn revoked_partition_without_acknowledged_events_does_not_prevent_the_commit() {
    let (positions, assignment) = in_transactions(1, Some(10));
    positions.acknowledge(0, assignment, 10).unwrap();
    assert_eq!(positions.begin_commit().unwrap(), [(0, 11)]);
    // The coordinator decides about what it was sent.
    positions.revoke(&[0]);
    positions.end_commit();
    positions.assign(0, 3, Some(11), None);
    assert_eq!(positions.begin_commit().unwrap(), []);
}

/// The partition comes back before another member had it.
#[test]
fn partition_that_was_revoked_before_the_abort_is_read_again() {
    let (positions, assignment) = in_transactions(1, Some(10));
    positions.acknowledge(0, assignment, 10).unwrap();
    positions.revoke(&[0]);
    assert_eq!(roll_back(&positions), [], "it is not assigned");
    assert_eq!(positions.assign(0, 2, Some(10), None).next, Some(10));
    assert_eq!(positions.begin_commit().unwrap(), [], "nothing of the aborted transaction is committed");
}

/// The coordinator had the positions before the rebalance.
#[test]
fn commit_that_lasts_beyond_a_rebalance_is_no_longer_read_again() {
    let (positions, assignment) = in_transactions(1, Some(10));
    positions.acknowledge(0, assignment, 10).unwrap();
    positions.begin_commit().unwrap();
    positions.revoke(&[0]);
    positions.assign(0, 2, Some(10), None);
    positions.end_commit();
    positions.lock().deliver(0, 11);
    assert_eq!(roll_back(&positions), [(0, 11)]);
}

#[test]
fn stale_acknowledgement_prevents_the_commit() {
    let (positions, stale) = in_transactions(1, Some(10));
    roll_back(&positions);
    assert_eq!(positions.acknowledge(0, stale, 10).unwrap_err().kind(), Kind::Stale);
    assert_eq!(positions.begin_commit().unwrap_err().kind(), Kind::Stale);
    roll_back(&positions);
    assert_eq!(positions.begin_commit().unwrap(), []);
}
