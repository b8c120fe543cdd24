//! Futures of pulls: a pull that is dropped before it is done takes no event.

use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use octopus_loader::{Consumer, Event, Pull, Status};

use super::{MAX_WAIT, Progress, Shared};
use crate::run::{Failure, OrFail, Result, check};

pub struct Reader {
    consumer: Consumer,
    /// The offset of the next event.
    next: u64,
    progress: Arc<Progress>,
    shared: Arc<Shared>,
}

impl Reader {
    pub fn new(consumer: Consumer, progress: Arc<Progress>, shared: Arc<Shared>) -> Self {
        Reader { consumer, next: 0, progress, shared }
    }

    /// Pulls until all written events were read, each once and in order, however each pull is used.
    pub fn read(&mut self, rng: &mut fastrand::Rng, written: u64) -> Result<()> {
        while self.next < written {
            let pull = self.consumer.pull().or_fail("pulling")?;
            match rng.u8(..6) {
                0 => {
                    self.progress.begin("waiting for an event");
                    let event = pull.wait(MAX_WAIT);
                    self.check_next(event)?;
                }
                1 => drop(pull),
                2 => {
                    // A pull that has its event is dropped: the event returns to the consumer.
                    pull.is_done().or_fail("testing a pull")?;
                    drop(pull);
                }
                3 => {
                    self.progress.begin("polling a pull");
                    while !pull.is_done().or_fail("testing a pull")? {
                        thread::yield_now();
                    }
                    let event = pull.wait(Duration::ZERO);
                    self.check_next(event)?;
                }
                4 => self.wait_on_two_threads(&pull)?,
                _ => self.complete_by_callback(&pull)?,
            }
            self.progress.step("between futures");
        }
        Ok(())
    }

    /// A pull has one event, which both threads receive.
    fn wait_on_two_threads(&mut self, pull: &Pull) -> Result<()> {
        self.progress.begin("waiting for an event on two threads");
        let both = thread::scope(|scope| {
            let other = scope.spawn(|| pull.wait(MAX_WAIT));
            let own = pull.wait(MAX_WAIT);
            other.join().map(|others| (own, others))
        });
        let (own, others) = both.map_err(|_| Failure::new("a thread that waited panicked"))?;
        let id = others.or_fail("waiting for an event on two threads")?.map(|event| event.id());
        check(id == Some(self.next), format_args!("both threads receive event {}, not {id:?}", self.next))?;
        self.check_next(own)
    }

    fn complete_by_callback(&mut self, pull: &Pull) -> Result<()> {
        self.progress.begin("waiting for a completion");
        let (sender, receiver) = mpsc::channel();
        let shared = self.shared.clone();
        shared.requested.fetch_add(1, Ordering::Relaxed);
        pull.on_complete(move |pull| {
            shared.called.fetch_add(1, Ordering::Relaxed);
            let _ = sender.send(pull.wait(Duration::ZERO));
        })
        .or_fail("registering a completion of a pull")?;
        let event = receiver.recv_timeout(MAX_WAIT).or_fail("waiting for the completion of a pull")?;
        self.check_next(event)?;
        check(receiver.recv_timeout(Duration::ZERO).is_err(), "a completion is called once")
    }

    fn check_next(&mut self, event: octopus_loader::Result<Option<Event>>) -> Result<()> {
        let event = event.or_fail(format_args!("waiting for event {}", self.next))?;
        let id = event.map(|event| event.id());
        check(id == Some(self.next), format_args!("event {} comes next, not {id:?}", self.next))?;
        self.next += 1;
        Ok(())
    }

    /// A pull that is pending when its consumer closes ends, too.
    pub fn close(&self) -> Result<()> {
        let pull = self.consumer.pull().or_fail("pulling")?;
        self.progress.begin("waiting for an event while closing");
        let waits = pull.clone();
        let waiting = thread::spawn(move || waits.wait(MAX_WAIT).map(drop));
        self.consumer.close(MAX_WAIT).or_fail("closing a consumer")?;
        let ended = waiting.join().map_err(|_| Failure::new("a thread that waited panicked"))?;
        for ended in [ended, pull.wait(MAX_WAIT).map(drop)] {
            let is_expected = ended.as_ref().is_err_and(|error| error.status == Status::Closed);
            check(is_expected, format_args!("a pull of a closed consumer fails with Closed, not {ended:?}"))?;
        }
        Ok(())
    }
}
