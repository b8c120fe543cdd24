use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use loom::thread;
use octopus_models::delivery::future::{Delivered, Future};
use octopus_models::delivery::promise::FlushLinger;
use octopus_models::support::callbacks::{self, CallbackBatch};
use octopus_models::support::deadline::Deadline;
use octopus_models::support::error::{Error, Kind, Result};
use octopus_models::support::thread_pool::PoolId;

struct NoQueue;

impl FlushLinger for NoQueue {
    fn flush_linger(&self, _: Duration) -> bool {
        false
    }

    fn unreached(&self, _: Option<Instant>) -> Option<Error> {
        None
    }
}

fn delivery() -> Arc<Future> {
    Arc::new(Future::delivery(Weak::<NoQueue>::new(), PoolId::NONE))
}

fn settle(future: &Future, partition: Result<u32>) {
    future.settle_delivery(partition.map(|partition| Delivered { partition, offset: None }), &CallbackBatch::default());
}

/// The first result is the one that every wait returns, and no wait misses its arrival.
#[test]
fn every_wait_returns_the_first_result() {
    loom::model(|| {
        let future = delivery();
        let (settled, awaited) = (future.clone(), future.clone());
        let settling = thread::spawn(move || {
            settle(&settled, Err(Error::invalid("the first result")));
            settle(&settled, Ok(0));
        });
        let wait = |future: &Future| future.wait(Deadline::NEVER).map_err(|error| error.kind());
        let waiting = thread::spawn(move || wait(&awaited));
        assert_eq!(wait(&future), Err(Kind::InvalidArgument));
        assert_eq!(waiting.join().unwrap(), Err(Kind::InvalidArgument));
        settling.join().unwrap();
    });
}

/// A completion that is registered while the result arrives is queued once, by the registering
/// thread or by the settling one, and in the order of registration.
#[test]
fn completions_run_once_in_order_of_registration() {
    loom::model(|| {
        let future = delivery();
        let settled = future.clone();
        let settling = thread::spawn(move || settle(&settled, Ok(1)));
        let calls = Arc::new(Mutex::new(Vec::new()));
        for number in [1, 2] {
            let calls = calls.clone();
            future.on_complete(move |future| calls.lock().unwrap().push((number, future.is_settled()))).unwrap();
        }
        settling.join().unwrap();
        callbacks::run_queued();
        assert_eq!(*calls.lock().unwrap(), [(1, true), (2, true)]);
    });
}
