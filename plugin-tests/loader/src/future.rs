//! What is waited on: a push, a flush, or a ticket for the next event. The ABI has one type for them; here each has
//! its own, so that none can be asked for what it doesn't have.

use std::ffi::c_void;
use std::ptr::NonNull;
use std::time::Duration;

use octopus::abi::{OCTOPUS_EVENT_ID_UNKNOWN, octopus_completion, octopus_future};

use crate::error::{Result, Status};
use crate::event::Event;
use crate::raw::{Handle, Tables, call, millis};
use crate::services::{at_most_once, closure_mut, contained, give_away};

/// The delivery of one event, whose result stays: it can be waited on repeatedly, and by several threads.
#[must_use = "dropping a push never cancels the event, it only loses sight of it: wait, or use push_forget"]
#[derive(Debug, Clone)]
pub struct Push {
    handle: Handle<octopus_future>,
}

/// Where an event is in its topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Delivered {
    /// The partition.
    pub partition: u32,
    /// The event's id, which is its offset in the partition; none if the broker did not say.
    pub id: Option<u64>,
}

/// The end of everything pushed before it, whose result stays: it can be waited on repeatedly, and by several threads.
#[must_use = "dropping a flush never cancels it, it only loses sight of it: wait to know that all is delivered"]
#[derive(Debug, Clone)]
pub struct Flush {
    handle: Handle<octopus_future>,
}

/// A ticket for the next event.
#[must_use = "dropping a pull never cancels or loses an event: it takes one only when it is waited on"]
#[derive(Debug, Clone)]
pub struct Pull {
    handle: Handle<octopus_future>,
}

impl Push {
    pub(crate) fn new(handle: Handle<octopus_future>) -> Self {
        Push { handle }
    }

    /// Waits for the delivery. [`Status::TimedOut`] when there is no result yet, [`Status::WouldDeadlock`] on a
    /// thread of the plugin, or why the push failed: [`Status::Kafka`], [`Status::Unreachable`]; the error's
    /// [`stored`](crate::Error::stored) tells whether the event may be in the topic all the same.
    pub fn wait(&self, at_most: Duration) -> Result<Delivered> {
        wait(&self.handle, at_most)?;
        let (mut partition, mut id) = (0, 0);
        // SAFETY: a live handle; the outputs outlive the calls.
        unsafe {
            call!(self.handle, future.partition(&mut partition))?;
            call!(self.handle, future.event_id(&mut id))?;
        }
        Ok(Delivered { partition, id: (id != OCTOPUS_EVENT_ID_UNKNOWN).then_some(id) })
    }

    /// What [`wait`](Self::wait) would give, if it is there already.
    pub fn try_wait(&self) -> Result<Option<Delivered>> {
        if self.is_done()? { self.wait(Duration::ZERO).map(Some) } else { Ok(None) }
    }

    /// Whether there is a result. Never blocks.
    pub fn is_done(&self) -> Result<bool> {
        test(&self.handle)
    }

    /// Has `tell` called once when the result is there, with what waits for it then at once: on a thread of the plugin,
    /// never in this call. It is called also when `self` is dropped before.
    pub fn on_complete(&self, tell: impl FnOnce(&Push) + Send + 'static) -> Result<()> {
        on_complete(&self.handle, move |handle| tell(&Push { handle }))
    }
}

impl Flush {
    pub(crate) fn new(handle: Handle<octopus_future>) -> Self {
        Flush { handle }
    }

    /// Waits until everything pushed before the flush is delivered or has failed. [`Status::TimedOut`] when it isn't
    /// yet, [`Status::WouldDeadlock`] on a thread of the plugin, or an error that counts the failures since the
    /// flush before and tells the first.
    pub fn wait(&self, at_most: Duration) -> Result<()> {
        wait(&self.handle, at_most)
    }

    /// Whether there is a result. Never blocks.
    pub fn is_done(&self) -> Result<bool> {
        test(&self.handle)
    }

    /// Has `tell` called once when the result is there, with what waits for it then at once: on a thread of the plugin,
    /// never in this call. It is called also when `self` is dropped before.
    pub fn on_complete(&self, tell: impl FnOnce(&Flush) + Send + 'static) -> Result<()> {
        on_complete(&self.handle, move |handle| tell(&Flush { handle }))
    }
}

impl Pull {
    pub(crate) fn new(handle: Handle<octopus_future>) -> Self {
        Pull { handle }
    }

    /// Waits for an event, which may be the one that marks the [end of the topic](Event::is_end_of_topic); none when
    /// the time has passed. An event that was taken stays: further waits give it again.
    ///
    /// [`Status::MalformedRecord`] and [`Status::RecordsLost`] are said once: the next pull reads on. Else
    /// [`Status::Closed`], [`Status::WouldDeadlock`], or what keeps events from coming.
    pub fn wait(&self, at_most: Duration) -> Result<Option<Event>> {
        match wait(&self.handle, at_most) {
            Err(error) if error.status == Status::TimedOut => return Ok(None),
            Err(error) if error.status != Status::EndOfTopic => return Err(error),
            _ => {}
        }
        // SAFETY: a live handle; the call gives us the event.
        let made = unsafe { Handle::made(self.handle.tables(), |event| call!(self.handle, future.event(event))) };
        Event::new(made?).map(Some)
    }

    /// Whether [`wait`](Self::wait) would return at once; if an event is there, it is taken here. Never blocks.
    pub fn is_done(&self) -> Result<bool> {
        test(&self.handle)
    }

    /// Has `tell` called once when the result is there, with what waits for it then at once: on a thread of the plugin,
    /// never in this call. It is called also when `self` is dropped before.
    pub fn on_complete(&self, tell: impl FnOnce(&Pull) + Send + 'static) -> Result<()> {
        on_complete(&self.handle, move |handle| tell(&Pull { handle }))
    }
}

fn wait(future: &Handle<octopus_future>, at_most: Duration) -> Result<()> {
    // SAFETY: a live handle.
    unsafe { call!(future, future.wait(millis(at_most))) }
}

fn test(future: &Handle<octopus_future>) -> Result<bool> {
    let mut completed = 0;
    // SAFETY: a live handle; the output outlives the call.
    unsafe { call!(future, future.test(&mut completed)) }?;
    Ok(completed != 0)
}

fn on_complete(
    future: &Handle<octopus_future>,
    tell: impl FnOnce(Handle<octopus_future>) + Send + 'static,
) -> Result<()> {
    // SAFETY: a live handle; the struct outlives the call, which takes the completion over.
    unsafe { call!(future, future.on_complete(&completion_of(future.tables(), tell))) }
}

/// Gives `tell` away: whoever gets the result has to hand it to `future.on_complete` of these tables, which destroys it.
fn completion_of(
    tables: &'static Tables,
    tell: impl FnOnce(Handle<octopus_future>) + Send + 'static,
) -> octopus_completion {
    let tell = at_most_once(move |future| {
        if let Some(future) = NonNull::new(future) {
            // SAFETY: from `complete`, to which the plugin lends it for the length of the call.
            tell(unsafe { Handle::shared(tables, future) });
        }
    });
    let (context, destroy) = give_away::<Tell>(tell);
    octopus_completion { function: Some(complete), context, destroy }
}

type Tell = dyn FnMut(*mut octopus_future) + Send;

unsafe extern "C" fn complete(context: *mut c_void, future: *mut octopus_future) {
    // SAFETY: the context that came with this function, not destroyed; it is called once.
    let tell = unsafe { closure_mut::<Tell>(context) };
    contained(|| tell(future));
}
