//! Results that are not there yet: of a push, of a flush, of a pull. The ABI has one type for them;
//! here each has its own, with only the functions that it supports.

use std::ffi::c_void;
use std::ptr::NonNull;
use std::time::Duration;

use crate::abi::{OCTOPUS_EVENT_ID_UNKNOWN, octopus_completion, octopus_future};
use crate::callback::{at_most_once, catch_panic, closure_mut, into_context};
use crate::error::{Result, Status};
use crate::event::Event;
use crate::handle::Handle;
use crate::raw::{Tables, call, millis};

/// The delivery of one event. Its result is kept: several threads can wait for it, repeatedly.
#[must_use = "dropping a push does not cancel the event, its result is lost: wait, or use push_forget"]
#[derive(Debug, Clone)]
pub struct Push {
    handle: Handle<octopus_future>,
}

/// The place of a delivered event in its topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Delivered {
    /// The partition.
    pub partition: u32,
    /// The event's id, which is its offset in the partition; `None` if the broker did not report
    /// it.
    pub id: Option<u64>,
}

/// The delivery of everything that was pushed before a flush. Its result is kept: several threads
/// can wait for it, repeatedly.
#[must_use = "dropping a flush does not cancel it, its result is lost: wait to know that all is delivered"]
#[derive(Debug, Clone)]
pub struct Flush {
    handle: Handle<octopus_future>,
}

/// A pending pull: the next event of a consumer, once there is one.
///
/// ```no_run
/// # use octopus_loader::{Consumer, Result};
/// # fn example(consumer: &Consumer) -> Result<()> {
/// consumer.pull()?.on_complete(|pull| match pull.wait(std::time::Duration::ZERO) {
///     Ok(event) => println!("{event:?}"),
///     Err(error) => eprintln!("{error}"),
/// })
/// # }
/// ```
#[must_use = "dropping a pull loses no event: it takes one only when it is waited for"]
#[derive(Debug, Clone)]
pub struct Pull {
    handle: Handle<octopus_future>,
}

impl Push {
    pub(crate) fn new(handle: Handle<octopus_future>) -> Self {
        Push { handle }
    }

    /// Waits for the delivery, at most `timeout`.
    ///
    /// [`Status::TimedOut`] if there is no result yet, [`Status::WouldDeadlock`] on a thread of the
    /// library. Otherwise the reason of the failure, such as [`Status::Kafka`] or
    /// [`Status::Unreachable`]; [`persisted`](crate::Error::persisted) says whether the event may
    /// be in the topic nevertheless.
    pub fn wait(&self, timeout: Duration) -> Result<Delivered> {
        wait(&self.handle, timeout)?;
        let (mut partition, mut id) = (0, 0);
        // SAFETY: the handle is live (owned), and the output is a local variable.
        unsafe { call!(self.handle, future.partition(&mut partition)) }?;
        // SAFETY: the handle is live (owned), and the output is a local variable.
        unsafe { call!(self.handle, future.event_id(&mut id)) }?;
        Ok(Delivered { partition, id: (id != OCTOPUS_EVENT_ID_UNKNOWN).then_some(id) })
    }

    /// The result of [`wait`](Self::wait), or `None` if there is none yet. Never blocks.
    pub fn try_wait(&self) -> Result<Option<Delivered>> {
        if self.is_done()? { self.wait(Duration::ZERO).map(Some) } else { Ok(None) }
    }

    /// Whether there is a result. Never blocks.
    pub fn is_done(&self) -> Result<bool> {
        is_done(&self.handle)
    }

    /// Calls `callback` once with the push when there is a result, so that waiting for it returns
    /// at once: on a thread of the library, never in this call. It is called even if `self` is
    /// dropped before.
    pub fn on_complete(&self, callback: impl FnOnce(&Push) + Send + 'static) -> Result<()> {
        on_complete(&self.handle, move |handle| callback(&Push { handle }))
    }
}

impl Flush {
    pub(crate) fn new(handle: Handle<octopus_future>) -> Self {
        Flush { handle }
    }

    /// Waits until everything that was pushed before the flush is delivered or has failed, at most
    /// `timeout`.
    ///
    /// [`Status::TimedOut`] if something is still in flight, [`Status::WouldDeadlock`] on a thread
    /// of the library. Otherwise an error that counts the failures since the previous flush and
    /// describes the first one.
    pub fn wait(&self, timeout: Duration) -> Result<()> {
        wait(&self.handle, timeout)
    }

    /// Whether there is a result. Never blocks.
    pub fn is_done(&self) -> Result<bool> {
        is_done(&self.handle)
    }

    /// Calls `callback` once with the flush when there is a result, so that waiting for it returns
    /// at once: on a thread of the library, never in this call. It is called even if `self` is
    /// dropped before.
    pub fn on_complete(&self, callback: impl FnOnce(&Flush) + Send + 'static) -> Result<()> {
        on_complete(&self.handle, move |handle| callback(&Flush { handle }))
    }
}

impl Pull {
    pub(crate) fn new(handle: Handle<octopus_future>) -> Self {
        Pull { handle }
    }

    /// Waits for an event, at most `timeout`; `None` if none came. The event may be the mark of the
    /// [end of the topic](Event::is_end_of_topic). Waiting again gives the same event.
    ///
    /// [`Status::MalformedRecord`] and [`Status::RecordsLost`] are reported once: the next pull
    /// continues after them. Otherwise [`Status::Closed`], [`Status::WouldDeadlock`], or the error
    /// that prevents the consumer from reading.
    pub fn wait(&self, timeout: Duration) -> Result<Option<Event>> {
        match wait(&self.handle, timeout) {
            Err(error) if error.status == Status::TimedOut => return Ok(None),
            Err(error) if error.status != Status::EndOfTopic => return Err(error),
            _ => {}
        }
        // SAFETY: the handle is live (owned). On success the library writes an event to `event`,
        // which is ours to release.
        let event = Handle::from_call(self.handle.tables(), |event| unsafe { call!(self.handle, future.event(event)) });
        Event::new(event?).map(Some)
    }

    /// Whether [`wait`](Self::wait) would return at once. If there is an event, the pull takes it
    /// here. Never blocks.
    pub fn is_done(&self) -> Result<bool> {
        is_done(&self.handle)
    }

    /// Calls `callback` once with the pull when there is a result, so that waiting for it returns
    /// at once: on a thread of the library, never in this call. It is called even if `self` is
    /// dropped before.
    pub fn on_complete(&self, callback: impl FnOnce(&Pull) + Send + 'static) -> Result<()> {
        on_complete(&self.handle, move |handle| callback(&Pull { handle }))
    }
}

fn wait(future: &Handle<octopus_future>, timeout: Duration) -> Result<()> {
    // SAFETY: the handle is live (owned by the caller's struct).
    unsafe { call!(future, future.wait(millis(timeout))) }
}

fn is_done(future: &Handle<octopus_future>) -> Result<bool> {
    let mut completed = 0;
    // SAFETY: the handle is live (owned by the caller's struct), and the output is a local
    // variable.
    unsafe { call!(future, future.test(&mut completed)) }?;
    Ok(completed != 0)
}

fn on_complete(
    future: &Handle<octopus_future>,
    callback: impl FnOnce(Handle<octopus_future>) + Send + 'static,
) -> Result<()> {
    // SAFETY: the handle is live (owned by the caller's struct). The struct outlives the call,
    // which takes ownership of the context.
    unsafe { call!(future, future.on_complete(&completion_of(future.tables(), callback))) }
}

/// The result must be given to `future.on_complete` of these tables, which destroys the closure.
fn completion_of(
    tables: &'static Tables,
    callback: impl FnOnce(Handle<octopus_future>) + Send + 'static,
) -> octopus_completion {
    let callback = at_most_once(move |future| {
        if let Some(future) = NonNull::new(future) {
            // SAFETY: `complete` passes on its future, which is live during its call.
            callback(unsafe { Handle::retain(tables, future) });
        }
    });
    let (context, destroy) = into_context::<Callback>(callback);
    octopus_completion { function: Some(complete), context, destroy }
}

type Callback = dyn FnMut(*mut octopus_future) + Send;

/// # Safety
/// The library calls it as include/octopus.h specifies: once, with the `context` of
/// [`completion_of`], which is not yet destroyed, and with a `future` that is live during this
/// call.
unsafe extern "C" fn complete(context: *mut c_void, future: *mut octopus_future) {
    // SAFETY: `context` came from `into_context::<Callback>` and is not yet destroyed; nothing else
    // uses it, since this is the only call (fn contract).
    let callback = unsafe { closure_mut::<Callback>(context) };
    catch_panic(|| callback(future));
}
