use std::sync::Arc;

use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;
use octopus_models::delivery::pull::{EventSource, PendingPull, ResolvePull};
use octopus_models::event::SharedEvent;
use octopus_models::support::callbacks::Completion;
use octopus_models::support::deadline::Deadline;
use octopus_models::support::error::{Error, Kind, Result};

use crate::events::{events, positions};

/// Fails the first `failures` calls of `next`, then returns its event.
struct Source {
    event: SharedEvent,
    failures: usize,
    calls: AtomicUsize,
}

impl EventSource for Source {
    fn next(&self, _: Deadline) -> Result<SharedEvent> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        if call < self.failures { Err(Error::new(Kind::Unreachable, "no broker")) } else { Ok(self.event.clone()) }
    }

    fn try_next(&self) -> Option<Result<SharedEvent>> {
        None
    }

    fn return_events(&self, _: Vec<SharedEvent>) {}

    fn on_resolved(self: Arc<Self>, _: ResolvePull, _: Completion) -> Result<()> {
        Ok(())
    }
}

fn pull(failures: usize) -> (Arc<PendingPull>, Arc<Source>) {
    let event = events(&positions(), 0, 1).remove(0);
    let source = Arc::new(Source { event, failures, calls: AtomicUsize::new(0) });
    (Arc::new(PendingPull::new(source.clone())), source)
}

/// One of the threads that wait for a pull takes an event; the others get the same one, and none
/// waits for ever.
#[test]
fn concurrent_waits_take_one_event() {
    loom::model(|| {
        let (pull, source) = pull(0);
        let waits = [pull.clone(), pull.clone()].map(|pull| thread::spawn(move || pull.wait(Deadline::NEVER)));
        pull.wait(Deadline::NEVER).unwrap();
        waits.into_iter().for_each(|wait| wait.join().unwrap().unwrap());
        assert_eq!(source.calls.load(Ordering::Relaxed), 1);
        assert_eq!(pull.take_result().unwrap().unwrap().as_ptr(), source.event.as_ptr());
    });
}

/// A thread whose wait fails lets another thread wait, which gets the event.
#[test]
fn failed_wait_lets_another_thread_wait() {
    loom::model(|| {
        let (pull, source) = pull(1);
        let waiting = pull.clone();
        let wait = thread::spawn(move || waiting.wait(Deadline::NEVER));
        let results = [pull.wait(Deadline::NEVER), wait.join().unwrap()];
        let failures = results.iter().filter(|result| result.is_err()).count();
        assert_eq!((failures, source.calls.load(Ordering::Relaxed)), (1, 2));
        assert!(pull.is_settled());
    });
}

/// A check that finds no event does not block a wait that began during it.
#[test]
fn check_without_result_lets_another_thread_wait() {
    loom::model(|| {
        let (pull, source) = pull(0);
        let checking = pull.clone();
        let check = thread::spawn(move || checking.try_result());
        pull.wait(Deadline::NEVER).unwrap();
        assert!(check.join().unwrap().is_none_or(|result| result.is_ok()));
        assert_eq!(source.calls.load(Ordering::Relaxed), 1);
    });
}
