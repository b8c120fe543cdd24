use std::sync::Weak;

use super::*;
use crate::future::FlushLinger;

struct NoLinger;

fn never_give_up(_: Instant) -> Option<Error> {
    None
}

impl FlushLinger for NoLinger {
    fn flush_linger(&self, _: Duration) -> bool {
        false
    }

    fn unreached(&self, _: Option<Instant>) -> Option<Error> {
        None
    }
}

fn flush_of(in_flight: &InFlight) -> Arc<Future> {
    let flush = Arc::new(Future::flush(Weak::<NoLinger>::new(), crate::thread_pool::Mark::NONE));
    in_flight.flush(flush.clone());
    flush
}

fn delivered(place: Place) -> Vec<Report> {
    vec![Report { place, bytes: 1, result: Ok(Delivered { partition: 0, offset: Some(0) }) }]
}

fn failed(place: Place, why: &'static str) -> Report {
    Report { place, bytes: 1, result: Err(Error::new(Kind::Kafka, why)) }
}

fn claim(bytes: u64) -> Claim {
    Claim { bytes, partition: Some(0), future: None }
}

/// Takes room that is there.
fn take(in_flight: &InFlight, bytes: u64) -> Place {
    in_flight.take(claim(bytes), || Deadline::NEVER, never_give_up).unwrap()
}

/// Finds no room.
fn refusal(in_flight: &InFlight, bytes: u64) -> Error {
    in_flight.take(claim(bytes), || Deadline::from_millis(NOW), never_give_up).unwrap_err()
}

/// A delivery's, that somebody may wait for.
fn future() -> Arc<Future> {
    Arc::new(Future::delivery(Weak::<NoLinger>::new(), crate::thread_pool::Mark::NONE))
}

fn room_for(events: u64) -> InFlight {
    InFlight::new(Limits { events, bytes: 1000 })
}

const NOW: i64 = 0;

#[test]
fn a_flush_waits_for_what_was_pushed_before_it_and_for_nothing_after() {
    let in_flight = room_for(10);
    assert!(flush_of(&in_flight).test(), "nothing to wait for");
    let before = take(&in_flight, 1);
    let flush = flush_of(&in_flight);
    let after = take(&in_flight, 1);
    in_flight.settle(&mut delivered(after));
    assert!(!flush.test());
    in_flight.settle(&mut delivered(before));
    assert!(flush.test());
    assert!(in_flight.is_empty() && !in_flight.is_flushing());
}

#[test]
fn a_later_flush_waits_for_the_epochs_before_its_own() {
    let in_flight = room_for(10);
    let first = take(&in_flight, 1);
    let early = flush_of(&in_flight);
    let late = flush_of(&in_flight);
    assert!(!early.test() && !late.test());
    in_flight.settle(&mut delivered(first));
    assert!(early.test() && late.test());
}

#[test]
fn a_flush_counts_the_failures_and_names_the_first() {
    let in_flight = room_for(10);
    let places = [0; 3].map(|_| take(&in_flight, 1));
    let flush = flush_of(&in_flight);
    in_flight.settle(&mut places.map(|place| failed(place, "broker said no")).into());
    let message = flush.wait(Deadline::from_millis(NOW)).unwrap_err().message().to_owned();
    assert!(message.contains("3 of the events") && message.contains("broker said no"), "{message}");
    assert!(flush_of(&in_flight).wait(Deadline::from_millis(NOW)).is_ok(), "said once");
}

#[test]
fn an_overdue_event_is_told_once_and_keeps_its_room_until_it_is_settled() {
    let in_flight = room_for(1);
    let told = future();
    let claimed = Claim { future: Some(told.clone()), partition: Some(7), bytes: 1 };
    let place = in_flight.take(claimed, || Deadline::NEVER, never_give_up).unwrap();
    let flush = flush_of(&in_flight);
    assert!(!in_flight.all_reported() && in_flight.overdue(Duration::from_secs(60)).is_empty());
    assert_eq!(in_flight.overdue(Duration::ZERO), [Overdue { place, partition: 7, events: 1, bytes: 1 }]);
    assert_eq!(in_flight.overdue(Duration::ZERO), []);
    in_flight.give_up(vec![(place, Some(Error::new(Kind::Kafka, "too late")))]);
    for future in [&flush, &told] {
        assert!(future.wait(Deadline::from_millis(NOW)).unwrap_err().message().contains("too late"));
    }
    assert!(in_flight.all_reported() && !in_flight.is_empty());
    let refused = refusal(&in_flight, 1);
    assert!(refused.message().contains("1 of them longer than delivery.timeout.ms"), "{refused}");
    in_flight.settle(&mut delivered(place));
    assert!(in_flight.is_empty() && flush_of(&in_flight).wait(Deadline::from_millis(NOW)).is_ok());
    assert!(told.wait(Deadline::from_millis(NOW)).is_err(), "what was told stays");
    take(&in_flight, 1);
}

#[test]
fn what_is_still_being_prepared_is_not_overdue() {
    let in_flight = room_for(2);
    let place = in_flight.take(Claim { partition: None, ..claim(1) }, || Deadline::NEVER, never_give_up).unwrap();
    assert_eq!(in_flight.overdue(Duration::ZERO), []);
    in_flight.resize(place, 5);
    in_flight.sending(place, 3);
    assert_eq!(in_flight.overdue(Duration::ZERO), [Overdue { place, partition: 3, events: 1, bytes: 5 }]);
}

#[test]
fn events_that_are_counted_together_leave_one_by_one_and_are_overdue_together() {
    let in_flight = room_for(100);
    let places: Vec<_> = (0..100).map(|_| take(&in_flight, 10)).collect();
    assert!(in_flight.state.lock().ledger.capacity() < 100, "more than one came with a tick of the clock");
    let report = |place| Report { place, bytes: 10, result: Ok(Delivered { partition: 0, offset: None }) };
    let flush = flush_of(&in_flight);
    in_flight.settle(&mut places[..30].iter().copied().map(report).collect());
    let overdue = in_flight.overdue(Duration::ZERO);
    let sum = |of: fn(&Overdue) -> u64| overdue.iter().map(of).sum::<u64>();
    assert_eq!((sum(|it| it.events), sum(|it| it.bytes)), (70, 700));
    in_flight.give_up(overdue.iter().map(|it| (it.place, Some(Error::new(Kind::Kafka, "too late")))).collect());
    let message = flush.wait(Deadline::from_millis(NOW)).unwrap_err().message().to_owned();
    assert!(message.contains("70 of the events") && in_flight.all_reported(), "{message}");
    assert_eq!(in_flight.state.lock().bytes, 700, "their room is still taken");

    let later = take(&in_flight, 10);
    assert!(!in_flight.all_reported(), "{later:?} is none of those");
    in_flight.settle(&mut places[30..].iter().copied().map(report).collect());
    assert_eq!(in_flight.state.lock().bytes, 10, "only that of the later one");
    in_flight.settle(&mut vec![report(later)]);
    assert!(in_flight.is_empty() && flush_of(&in_flight).wait(Deadline::from_millis(NOW)).is_ok());
}

#[test]
fn an_event_that_no_broker_takes_keeps_nothing_of_the_delivered_ones_behind_it() {
    let in_flight = room_for(10);
    let take_apart =
        || in_flight.take(Claim { future: Some(future()), ..claim(1) }, || Deadline::NEVER, never_give_up).unwrap();
    let stuck = take_apart();
    for _ in 0..10_000 {
        let place = take_apart();
        in_flight.settle(&mut delivered(place));
    }
    assert_eq!(in_flight.state.lock().ledger.capacity(), 2);
    assert_eq!(in_flight.overdue(Duration::ZERO).first().map(|event| event.place), Some(stuck));
}

#[test]
fn a_report_settles_the_future_of_its_event_before_the_flush_behind_it() {
    let in_flight = room_for(10);
    let told = future();
    let place =
        in_flight.take(Claim { future: Some(told.clone()), ..claim(1) }, || Deadline::NEVER, never_give_up).unwrap();
    in_flight.settle(&mut vec![Report { place, bytes: 1, result: Ok(Delivered { partition: 2, offset: Some(9) }) }]);
    assert_eq!(told.delivered().unwrap(), Delivered { partition: 2, offset: Some(9) });
    in_flight.settle(&mut vec![failed(place, "a second report")]);
    assert!(told.delivered().is_ok() && flush_of(&in_flight).wait(Deadline::from_millis(NOW)).is_ok());
}

#[test]
fn a_push_that_was_refused_gives_its_room_back_and_no_flush_tells_of_it() {
    let in_flight = room_for(1);
    let place = take(&in_flight, 1);
    in_flight.give_back(place, 1);
    assert!(in_flight.is_empty() && flush_of(&in_flight).wait(Deadline::from_millis(NOW)).is_ok());
    take(&in_flight, 1);
}

#[test]
fn a_push_without_room_waits_for_a_delivery_and_is_woken_by_it() {
    let in_flight = room_for(1);
    let place = take(&in_flight, 1);
    std::thread::scope(|scope| {
        let waiting =
            scope.spawn(|| in_flight.take(claim(1), || Deadline::after(Duration::from_secs(60)), never_give_up));
        while in_flight.state.lock().waiting == 0 {
            std::thread::yield_now();
        }
        in_flight.settle(&mut delivered(place));
        assert!(waiting.join().unwrap().is_ok());
    });
}

#[test]
fn a_push_without_room_fails_at_its_deadline_with_the_settings_to_look_at() {
    let in_flight = room_for(1);
    take(&in_flight, 1);
    let error = refusal(&in_flight, 1);
    assert!(error.message().contains("queue.buffering.max.messages"), "{error}");
    assert!(error.is_retriable());
}

#[test]
fn an_event_larger_than_the_room_goes_when_nothing_else_does() {
    let in_flight = room_for(10);
    let place = take(&in_flight, 5000);
    assert!(in_flight.take(claim(1), || Deadline::from_millis(NOW), never_give_up).is_err());
    in_flight.settle(&mut delivered(place));
    take(&in_flight, 1);
}

#[test]
fn the_end_wakes_whoever_waits_for_room() {
    let in_flight = room_for(1);
    take(&in_flight, 1);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| in_flight.take(claim(1), || Deadline::NEVER, never_give_up));
        while in_flight.state.lock().waiting == 0 {
            std::thread::yield_now();
        }
        in_flight.end(Error::from_kind(Kind::Closed));
        assert_eq!(waiting.join().unwrap().unwrap_err().kind(), Kind::Closed);
    });
}

#[test]
fn on_a_thread_of_the_plugin_a_push_never_waits_for_room() {
    let in_flight = room_for(1);
    take(&in_flight, 1);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            crate::poison::mark_plugin_thread();
            let error = in_flight.take(claim(1), || Deadline::NEVER, never_give_up).unwrap_err();
            assert_eq!(error.kind(), Kind::WouldBlock);
            assert!(error.is_retriable());
        });
    });
}
