use std::sync::Weak;

use super::*;
use crate::delivery::promise::FlushLinger;

struct NoLinger;

fn never_fail_fast(_: Instant) -> Option<Error> {
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
    let flush = Arc::new(Future::flush(Weak::<NoLinger>::new(), crate::support::thread_pool::PoolId::NONE));
    in_flight.flush(flush.clone());
    flush
}

fn delivered(permit: Permit) -> Vec<Report> {
    vec![Report { permit, bytes: 1, result: Ok(Delivered { partition: 0, offset: Some(0) }) }]
}

fn failed(permit: Permit, reason: &'static str) -> Report {
    Report { permit, bytes: 1, result: Err(Error::new(Kind::Kafka, reason)) }
}

fn request(bytes: u64) -> PermitRequest {
    PermitRequest { bytes, partition: Some(0), future: None }
}

/// Acquires a permit below the limit.
fn acquire(in_flight: &InFlight, bytes: u64) -> Permit {
    in_flight.acquire(request(bytes), || Deadline::NEVER, never_fail_fast).unwrap()
}

/// The error of a push at the limit.
fn limit_error(in_flight: &InFlight, bytes: u64) -> Error {
    in_flight.acquire(request(bytes), || Deadline::from_millis(NOW), never_fail_fast).unwrap_err()
}

fn delivery_future() -> Arc<Future> {
    Arc::new(Future::delivery(Weak::<NoLinger>::new(), crate::support::thread_pool::PoolId::NONE))
}

fn with_event_limit(events: u64) -> InFlight {
    InFlight::new(Limits { events, bytes: 1000 }, Arc::default())
}

const NOW: i64 = 0;

#[test]
fn flush_waits_only_for_earlier_pushes() {
    let in_flight = with_event_limit(10);
    assert!(flush_of(&in_flight).test(), "nothing is in flight");
    let before = acquire(&in_flight, 1);
    let flush = flush_of(&in_flight);
    let after = acquire(&in_flight, 1);
    in_flight.settle(&mut delivered(after));
    assert!(!flush.test());
    in_flight.settle(&mut delivered(before));
    assert!(flush.test());
    assert!(in_flight.is_empty() && !in_flight.is_flushing());
}

#[test]
fn later_flush_waits_for_earlier_epochs() {
    let in_flight = with_event_limit(10);
    let first = acquire(&in_flight, 1);
    let early = flush_of(&in_flight);
    let late = flush_of(&in_flight);
    assert!(!early.test() && !late.test());
    in_flight.settle(&mut delivered(first));
    assert!(early.test() && late.test());
}

#[test]
fn flush_counts_failures_and_names_the_first() {
    let in_flight = with_event_limit(10);
    let permits = [0; 3].map(|_| acquire(&in_flight, 1));
    let flush = flush_of(&in_flight);
    in_flight.settle(&mut permits.map(|permit| failed(permit, "broker said no")).into());
    let message = flush.wait(Deadline::from_millis(NOW)).unwrap_err().message().to_owned();
    assert!(message.contains("3 of the events") && message.contains("broker said no"), "{message}");
    assert!(flush_of(&in_flight).wait(Deadline::from_millis(NOW)).is_ok(), "a failure is reported once");
}

/// Its future and the flush fail early; a late delivery report changes neither and releases the
/// permit.
#[test]
fn overdue_event_is_reported_once_and_keeps_its_permit() {
    let in_flight = with_event_limit(1);
    let delivery = delivery_future();
    let request = PermitRequest { future: Some(delivery.clone()), partition: Some(7), bytes: 1 };
    let permit = in_flight.acquire(request, || Deadline::NEVER, never_fail_fast).unwrap();
    let flush = flush_of(&in_flight);
    assert!(!in_flight.all_reported() && in_flight.overdue(Duration::from_secs(60)).is_empty());
    assert_eq!(in_flight.overdue(Duration::ZERO), [Overdue { permit, partition: 7, events: 1, bytes: 1 }]);
    assert_eq!(in_flight.overdue(Duration::ZERO), []);
    in_flight.report_early(vec![(permit, Some(Error::new(Kind::Kafka, "too late")))]);
    for future in [&flush, &delivery] {
        assert!(future.wait(Deadline::from_millis(NOW)).unwrap_err().message().contains("too late"));
    }
    assert!(in_flight.all_reported() && !in_flight.is_empty());
    let error = limit_error(&in_flight, 1);
    assert!(error.message().contains("1 of them for longer than delivery.timeout.ms"), "{error}");
    in_flight.settle(&mut delivered(permit));
    assert!(in_flight.is_empty() && flush_of(&in_flight).wait(Deadline::from_millis(NOW)).is_ok());
    assert!(delivery.wait(Deadline::from_millis(NOW)).is_err(), "the reported result stays");
    acquire(&in_flight, 1);
}

#[test]
fn event_being_prepared_is_not_overdue() {
    let in_flight = with_event_limit(2);
    let permit = in_flight
        .acquire(PermitRequest { partition: None, ..request(1) }, || Deadline::NEVER, never_fail_fast)
        .unwrap();
    assert_eq!(in_flight.overdue(Duration::ZERO), []);
    in_flight.resize(permit, 5);
    in_flight.mark_sending(permit, 3);
    assert_eq!(in_flight.overdue(Duration::ZERO), [Overdue { permit, partition: 3, events: 1, bytes: 5 }]);
}

/// Their reports release the permits one by one, before and after the entry is overdue.
#[test]
fn events_of_one_entry_are_overdue_together() {
    let in_flight = with_event_limit(100);
    let permits: Vec<_> = (0..100).map(|_| acquire(&in_flight, 10)).collect();
    assert!(in_flight.state.lock().ledger.capacity() < 100, "events of one clock tick share an entry");
    let report = |permit| Report { permit, bytes: 10, result: Ok(Delivered { partition: 0, offset: None }) };
    let flush = flush_of(&in_flight);
    in_flight.settle(&mut permits[..30].iter().copied().map(report).collect());
    let overdue = in_flight.overdue(Duration::ZERO);
    let sum = |of: fn(&Overdue) -> u64| overdue.iter().map(of).sum::<u64>();
    assert_eq!((sum(|it| it.events), sum(|it| it.bytes)), (70, 700));
    in_flight.report_early(overdue.iter().map(|it| (it.permit, Some(Error::new(Kind::Kafka, "too late")))).collect());
    let message = flush.wait(Deadline::from_millis(NOW)).unwrap_err().message().to_owned();
    assert!(message.contains("70 of the events") && in_flight.all_reported(), "{message}");
    assert_eq!(in_flight.state.lock().bytes, 700, "overdue events hold their permits");

    let later = acquire(&in_flight, 10);
    assert!(!in_flight.all_reported(), "{later:?} is not overdue");
    in_flight.settle(&mut permits[30..].iter().copied().map(report).collect());
    assert_eq!(in_flight.state.lock().bytes, 10, "only the later event is left");
    in_flight.settle(&mut vec![report(later)]);
    assert!(in_flight.is_empty() && flush_of(&in_flight).wait(Deadline::from_millis(NOW)).is_ok());
}

/// The entries of events that are delivered after it are reused.
#[test]
fn stuck_event_does_not_grow_the_ledger() {
    let in_flight = with_event_limit(10);
    let acquire_with_future = || {
        in_flight
            .acquire(
                PermitRequest { future: Some(delivery_future()), ..request(1) },
                || Deadline::NEVER,
                never_fail_fast,
            )
            .unwrap()
    };
    let stuck = acquire_with_future();
    for _ in 0..10_000 {
        let permit = acquire_with_future();
        in_flight.settle(&mut delivered(permit));
    }
    assert_eq!(in_flight.state.lock().ledger.capacity(), 2);
    assert_eq!(in_flight.overdue(Duration::ZERO).first().map(|event| event.permit), Some(stuck));
}

/// A second report of the same event changes nothing, also for flushes.
#[test]
fn first_report_settles_the_future_for_good() {
    let in_flight = with_event_limit(10);
    let delivery = delivery_future();
    let permit = in_flight
        .acquire(PermitRequest { future: Some(delivery.clone()), ..request(1) }, || Deadline::NEVER, never_fail_fast)
        .unwrap();
    in_flight.settle(&mut vec![Report { permit, bytes: 1, result: Ok(Delivered { partition: 2, offset: Some(9) }) }]);
    assert_eq!(delivery.delivered().unwrap(), Delivered { partition: 2, offset: Some(9) });
    in_flight.settle(&mut vec![failed(permit, "a second report")]);
    assert!(delivery.delivered().is_ok() && flush_of(&in_flight).wait(Deadline::from_millis(NOW)).is_ok());
}

#[test]
fn rejected_push_releases_its_permit_and_fails_no_flush() {
    let in_flight = with_event_limit(1);
    let permit = acquire(&in_flight, 1);
    in_flight.release(permit, 1);
    assert!(in_flight.is_empty() && flush_of(&in_flight).wait(Deadline::from_millis(NOW)).is_ok());
    acquire(&in_flight, 1);
}

/// The result of a push that waits at the limit when `event` happens.
fn result_of_a_waiting_push(in_flight: &InFlight, event: impl FnOnce()) -> Result<Permit> {
    std::thread::scope(|scope| {
        let deadline = || Deadline::after(Duration::from_secs(60));
        let waiting = scope.spawn(move || in_flight.acquire(request(1), deadline, never_fail_fast));
        while in_flight.state.lock().waiting == 0 {
            std::thread::yield_now();
        }
        event();
        waiting.join().unwrap()
    })
}

#[test]
fn push_at_the_limit_is_woken_by_a_delivery() {
    let in_flight = with_event_limit(1);
    let permit = acquire(&in_flight, 1);
    assert!(result_of_a_waiting_push(&in_flight, || in_flight.settle(&mut delivered(permit))).is_ok());
}

#[test]
fn push_at_the_limit_fails_at_its_deadline_naming_the_setting() {
    let in_flight = with_event_limit(1);
    acquire(&in_flight, 1);
    let error = limit_error(&in_flight, 1);
    assert!(error.message().contains("queue.buffering.max.messages"), "{error}");
    assert!(error.is_retriable());
}

/// The host asked for this limit, so that its end is no failure.
#[test]
fn push_with_a_deadline_of_its_own_times_out_at_the_limit() {
    let in_flight = with_event_limit(2);
    for deadline in [Deadline::PASSED, Deadline::after(Duration::from_millis(10))] {
        in_flight.acquire_until(deadline, request(1), never_fail_fast).unwrap();
    }
    for deadline in [Deadline::PASSED, Deadline::after(Duration::from_millis(10))] {
        let error = in_flight.acquire_until(deadline, request(1), never_fail_fast).unwrap_err();
        assert_eq!(error.kind(), Kind::TimedOut);
    }
}

#[test]
fn event_above_the_byte_limit_goes_alone() {
    let in_flight = with_event_limit(10);
    let permit = acquire(&in_flight, 5000);
    assert!(in_flight.acquire(request(1), || Deadline::from_millis(NOW), never_fail_fast).is_err());
    in_flight.settle(&mut delivered(permit));
    acquire(&in_flight, 1);
}

#[test]
fn end_wakes_pushes_at_the_limit() {
    let in_flight = with_event_limit(1);
    acquire(&in_flight, 1);
    let result = result_of_a_waiting_push(&in_flight, || in_flight.end(Error::from_kind(Kind::Closed)));
    assert_eq!(result.unwrap_err().kind(), Kind::Closed);
}

#[test]
fn push_on_plugin_thread_never_waits() {
    let in_flight = with_event_limit(1);
    acquire(&in_flight, 1);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            crate::support::threads::mark_plugin_thread();
            let error = in_flight.acquire(request(1), || Deadline::NEVER, never_fail_fast).unwrap_err();
            assert_eq!(error.kind(), Kind::WouldBlock);
            assert!(error.is_retriable());
        });
    });
}

#[test]
fn paused_producer_accepts_events_again_and_knows_the_failures_since() {
    let in_flight = with_event_limit(2);
    in_flight.pause(Error::invalid("paused"));
    assert_eq!(in_flight.try_acquire(request(1)).unwrap_err().message(), "paused");
    in_flight.resume();
    let [first, second] = [acquire(&in_flight, 1), acquire(&in_flight, 1)];
    in_flight.pause(Error::invalid("paused"));
    in_flight.settle(&mut vec![failed(first, "first"), failed(second, "second")]);
    assert_eq!(in_flight.failure_since_resumed().unwrap().message(), "first");
    in_flight.resume();
    assert!(in_flight.failure_since_resumed().is_none());
    in_flight.end(Error::from_kind(Kind::Closed));
    in_flight.pause(Error::invalid("paused"));
    in_flight.resume();
    assert_eq!(in_flight.try_acquire(request(1)).unwrap_err().kind(), Kind::Closed, "an end is final");
}

#[test]
fn pause_wakes_pushes_that_wait() {
    let in_flight = with_event_limit(1);
    acquire(&in_flight, 1);
    let result = result_of_a_waiting_push(&in_flight, || in_flight.pause(Error::invalid("paused")));
    assert_eq!(result.unwrap_err().message(), "paused");
}
