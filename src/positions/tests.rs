use super::*;

fn assigned(generation: i32) -> (Positions, Assignment) {
    let positions = Positions::default();
    positions.assign(0, generation, None);
    let Step::InOrder(assignment) = positions.turn().deliver(0, 10) else { panic!("not in order") };
    (positions, assignment)
}

#[test]
fn the_highest_acknowledgement_counts_whatever_their_order() {
    let (positions, assignment) = assigned(1);
    for offset in [3, 9, 5, 0] {
        positions.acknowledge(0, assignment, offset).unwrap();
    }
    assert_eq!(positions.to_commit(), [(0, 10)]);
    positions.committed(0, 10);
    assert_eq!(positions.to_commit(), []);
    positions.acknowledge(0, assignment, 4).unwrap();
    assert_eq!(positions.to_commit(), [], "an earlier one afterwards changes nothing");
}

#[test]
fn a_late_answer_to_an_earlier_commit_does_not_move_the_position_back() {
    let (positions, assignment) = assigned(1);
    positions.acknowledge(0, assignment, 9).unwrap();
    positions.committed(0, 10);
    positions.committed(0, 5);
    assert_eq!(positions.to_commit(), []);
}

#[test]
fn an_event_of_an_earlier_assignment_acknowledges_nothing() {
    let (positions, stale) = assigned(1);
    positions.revoke(&[0]);
    assert_eq!(positions.acknowledge(0, stale, 10).unwrap_err().kind(), Kind::Stale);
    positions.assign(0, 3, None);
    assert_eq!(positions.acknowledge(0, stale, 10).unwrap_err().kind(), Kind::Stale);
    assert_eq!(positions.to_commit(), []);
}

#[test]
fn a_partition_that_is_kept_goes_on_at_what_was_delivered() {
    let (positions, _) = assigned(4);
    positions.revoke(&[0]);
    assert_eq!(positions.assign(0, 5, Some(3)), Some(11));
}

#[test]
fn a_partition_that_another_member_may_have_had_starts_at_the_commit() {
    let (positions, _) = assigned(4);
    positions.revoke(&[0]);
    assert_eq!(positions.assign(0, 6, Some(3)), Some(3));
    let (positions, _) = assigned(-1);
    positions.revoke(&[0]);
    assert_eq!(positions.assign(0, 0, None), None, "without a generation nothing is known");
}

#[test]
fn skipped_offsets_are_noticed_once_and_not_at_the_start() {
    let (positions, assignment) = assigned(1);
    assert_eq!(positions.turn().deliver(0, 15), Step::Skipped(assignment, 11));
    assert_eq!(positions.turn().deliver(0, 16), Step::InOrder(assignment));
    positions.revoke(&[0]);
    assert_eq!(positions.turn().deliver(0, 17), Step::NotOurs);
    assert_eq!(positions.turn().deliver(7, 0), Step::NotOurs);
}

#[test]
fn what_is_missing_after_the_commit_is_noticed_at_the_start() {
    let positions = Positions::default();
    assert_eq!(positions.assign(0, 1, Some(2)), Some(2));
    assert!(matches!(positions.turn().deliver(0, 6), Step::Skipped(_, 2)));
    assert_eq!(positions.to_commit(), [], "what the group has already is not committed again");
}

#[test]
fn an_event_read_before_a_rebalance_that_kept_its_partition_can_be_acknowledged_after_it() {
    let (positions, assignment) = assigned(4);
    positions.revoke(&[0]);
    assert_eq!(positions.acknowledge(0, assignment, 8).unwrap_err().kind(), Kind::Stale);
    positions.assign(0, 5, Some(3));
    assert_eq!(positions.to_commit(), [(0, 9)], "what was said in between counts after all");
    positions.acknowledge(0, assignment, 10).unwrap();
    assert_eq!(positions.to_commit(), [(0, 11)]);
}

#[test]
fn event_behind_the_position_is_not_delivered_unless_the_partition_starts_over() {
    let positions = Positions::default();
    positions.assign(0, 1, Some(100));
    assert_eq!(positions.turn().deliver(0, 5), Step::Behind(100));
    assert_eq!(positions.next(0), Some(100));
    positions.turn().start_over_at(0, 5);
    let Step::InOrder(assignment) = positions.turn().deliver(0, 5) else { panic!("not in order") };
    positions.acknowledge(0, assignment, 5).unwrap();
    assert_eq!(positions.to_commit(), [(0, 6)], "though it is below the old commit");
}

#[test]
fn what_is_taken_before_a_partition_is_given_up_is_committed_and_what_comes_later_is_not_taken() {
    let (positions, assignment) = assigned(1);
    positions.acknowledge(0, assignment, 10).unwrap();
    assert_eq!(positions.revoke(&[0]), [(0, 11)]);
    // While the commit is on its way.
    assert!(positions.acknowledge(0, assignment, 12).is_err());
    positions.committed(0, 11);
    assert_eq!(positions.to_commit(), []);
}

#[test]
fn a_new_history_is_read_from_its_start_and_nothing_of_the_one_before_counts_in_it() {
    let (positions, before) = assigned(1);
    positions.acknowledge(0, before, 10).unwrap();
    positions.start_over(0);
    positions.committed(0, 11);
    assert!(positions.acknowledge(0, before, 10).is_err());
    let Step::InOrder(now) = positions.turn().deliver(0, 0) else { panic!("not in order") };
    positions.acknowledge(0, now, 0).unwrap();
    assert_eq!(positions.to_commit(), [(0, 1)]);
    assert_ne!(positions.assignments(), [(0, before)]);
}

#[test]
fn obstacle_lasts_until_a_record_is_delivered_or_skipped() {
    let (positions, _) = assigned(1);
    let obstacle = || Error::new(Kind::DamagedData, "damaged");
    positions.turn().block(0, obstacle());
    assert!(positions.obstacle().is_some());
    assert!(matches!(positions.turn().deliver(0, 11), Step::InOrder(_)));
    assert!(positions.obstacle().is_none());
    positions.turn().block(0, obstacle());
    positions.turn().skip_to(0, 20);
    assert!(positions.obstacle().is_none());
    assert!(matches!(positions.turn().deliver(0, 20), Step::InOrder(_)), "what is skipped is not lost");
    positions.turn().skip_to(0, 5);
    assert_eq!(positions.next(0), Some(21), "a position never goes back");
}

#[test]
fn stopped_partition_delivers_nothing_until_the_host_seeks() {
    let (positions, _) = assigned(1);
    positions.turn().stop(0, Error::new(Kind::DamagedData, "damaged"));
    assert_eq!(positions.turn().deliver(0, 14), Step::NotOurs);
    assert!(positions.is_stopped(0) && positions.obstacle().is_some());
    assert_eq!(positions.next(0), Some(11));
    positions.go_back_to(0, 14);
    assert!(!positions.is_stopped(0) && positions.obstacle().is_none());
    assert!(matches!(positions.turn().deliver(0, 14), Step::InOrder(_)));
}

#[test]
fn revoking_all_tells_whether_something_was_left_uncommitted() {
    let (positions, assignment) = assigned(1);
    assert!(!positions.revoke_all());
    let (positions, again) = assigned(1);
    positions.acknowledge(0, again, 10).unwrap();
    assert!(positions.revoke_all());
    assert!(positions.acknowledge(0, assignment, 10).is_err());
}

#[test]
fn offsets_without_records_are_acknowledged_with_what_is_before_them() {
    let (positions, assignment) = assigned(1);
    positions.turn().pass_to(0, 12);
    assert_eq!(positions.next(0), Some(12));
    assert_eq!(positions.to_commit(), [], "the event before them is not acknowledged");
    positions.turn().pass_to(0, 13);
    positions.acknowledge(0, assignment, 10).unwrap();
    assert_eq!(positions.to_commit(), [(0, 13)]);
    positions.turn().pass_to(0, 14);
    assert_eq!(positions.to_commit(), [(0, 14)], "without another acknowledgement");
    positions.turn().pass_to(0, 11);
    assert_eq!(positions.next(0), Some(14));
}

#[test]
fn offsets_without_records_behind_a_committed_position_are_committed() {
    let positions = Positions::default();
    positions.assign(0, 1, Some(5));
    positions.turn().pass_to(0, 7);
    assert_eq!(positions.to_commit(), [(0, 7)]);
    positions.assign(1, 1, None);
    positions.turn().pass_to(1, 7);
    assert_eq!(positions.to_commit(), [(0, 7)], "a group that has committed nothing, and got nothing, commits nothing");
}
