//! Futures of pulls, which are tickets: what is dropped has taken nothing.

use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use octopus_loader::{Consumer, Event, Pull, Status};

use super::{PATIENCE, Progress, Shared};
use crate::run::{Failure, OrFail, Result, check};

pub struct Reader {
    consumer: Consumer,
    /// The offset of the event that comes next.
    next: u64,
    progress: Arc<Progress>,
    shared: Arc<Shared>,
}

impl Reader {
    pub fn new(consumer: Consumer, progress: Arc<Progress>, shared: Arc<Shared>) -> Self {
        Reader { consumer, next: 0, progress, shared }
    }

    /// Pulls until all that was written was read, each event once and in order, however tickets are treated.
    pub fn read(&mut self, chance: &mut fastrand::Rng, written: u64) -> Result<()> {
        while self.next < written {
            let ticket = self.consumer.pull().or_fail("pulling")?;
            match chance.u8(..6) {
                0 => {
                    self.progress.begin("waiting for an event");
                    let event = ticket.wait(PATIENCE);
                    self.take(event)?;
                }
                1 => drop(ticket),
                2 => {
                    // What a test took and nobody asked for is handed back.
                    ticket.is_done().or_fail("testing a pull")?;
                    drop(ticket);
                }
                3 => {
                    self.progress.begin("asking a pull");
                    while !ticket.is_done().or_fail("testing a pull")? {
                        thread::yield_now();
                    }
                    let event = ticket.wait(Duration::ZERO);
                    self.take(event)?;
                }
                4 => self.by_twos(&ticket)?,
                _ => self.be_told(&ticket)?,
            }
            self.progress.step("between futures");
        }
        Ok(())
    }

    /// One ticket is for one event, whoever waits.
    fn by_twos(&mut self, ticket: &Pull) -> Result<()> {
        self.progress.begin("waiting for an event by twos");
        let both = thread::scope(|scope| {
            let other = scope.spawn(|| ticket.wait(PATIENCE));
            let own = ticket.wait(PATIENCE);
            other.join().map(|others| (own, others))
        });
        let (own, others) = both.map_err(|_| Failure::new("a thread that waited panicked"))?;
        let id = others.or_fail("waiting for an event by twos")?.map(|event| event.id());
        check(id == Some(self.next), format_args!("both get event {}, not the other one {id:?}", self.next))?;
        self.take(own)
    }

    fn be_told(&mut self, ticket: &Pull) -> Result<()> {
        self.progress.begin("being told of an event");
        let (told, hear) = mpsc::channel();
        let shared = self.shared.clone();
        shared.asked.fetch_add(1, Ordering::Relaxed);
        ticket
            .on_complete(move |ticket| {
                shared.told.fetch_add(1, Ordering::Relaxed);
                let _ = told.send(ticket.wait(Duration::ZERO));
            })
            .or_fail("asking to be told of an event")?;
        let event = hear.recv_timeout(PATIENCE).or_fail("waiting to be told of an event")?;
        self.take(event)?;
        check(hear.recv_timeout(Duration::ZERO).is_err(), "a completion is called once")
    }

    fn take(&mut self, event: octopus_loader::Result<Option<Event>>) -> Result<()> {
        let event = event.or_fail(format_args!("waiting for event {}", self.next))?;
        let id = event.map(|event| event.id());
        check(id == Some(self.next), format_args!("event {} comes next, not {id:?}", self.next))?;
        self.next += 1;
        Ok(())
    }

    /// A ticket that is waited for as its consumer goes ends, too.
    pub fn close(&self) -> Result<()> {
        let ticket = self.consumer.pull().or_fail("pulling")?;
        self.progress.begin("waiting for an event while closing");
        let waits = ticket.clone();
        let waiting = thread::spawn(move || waits.wait(PATIENCE).map(drop));
        self.consumer.close(PATIENCE).or_fail("closing a consumer")?;
        let ended = waiting.join().map_err(|_| Failure::new("a thread that waited panicked"))?;
        for ended in [ended, ticket.wait(PATIENCE).map(drop)] {
            let is = ended.as_ref().is_err_and(|error| error.status == Status::Closed);
            check(is, format_args!("a ticket of a closed consumer says so, not {ended:?}"))?;
        }
        Ok(())
    }
}
