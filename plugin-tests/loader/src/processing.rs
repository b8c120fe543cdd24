//! One call of `process`: the processor that the library calls, and its first failure.

use std::any::Any;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::NonNull;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::abi::*;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::handle::Handle;
use crate::raw::{FOREVER, Tables};

/// What a processor returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Continue with the next event.
    Continue,
    /// End `process` with success.
    Stop,
    /// End `process` with a failure; any number that a processor in C can return.
    Fail(i32),
}

/// The limits of one call of `process`.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// After this time without an event the processor is called without one.
    pub timeout: Duration,
    /// The number of events to process. Calls without an event do not count.
    pub max_events: u64,
}

impl Default for Bounds {
    /// No limits.
    fn default() -> Self {
        Bounds { timeout: FOREVER, max_events: u64::MAX }
    }
}

/// The end of a processor that neither continues nor stops.
enum Failure {
    Error(Error),
    Panic(Box<dyn Any + Send>),
}

/// One call of `process`.
pub(crate) struct Run<'a> {
    tables: &'static Tables,
    processor: &'a (dyn Fn(Option<Event>) -> Result<Flow> + Send + Sync),
    failure: Mutex<Option<Failure>>,
}

impl<'a> Run<'a> {
    pub fn new(tables: &'static Tables, processor: &'a (dyn Fn(Option<Event>) -> Result<Flow> + Send + Sync)) -> Self {
        Run { tables, processor, failure: Mutex::new(None) }
    }

    /// The processor for the library, which must not be used after `self` is dropped.
    pub fn processor(&self) -> octopus_processor {
        octopus_processor {
            function: Some(process),
            context: std::ptr::from_ref(self).cast_mut().cast(),
            destroy: None,
        }
    }

    /// The processor's own failure if there is one, otherwise `result`, which the library returned.
    pub fn finish(self, result: Result<()>) -> Result<()> {
        match self.failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            None => result,
            Some(Failure::Error(error)) => Err(error),
            Some(Failure::Panic(panic)) => resume_unwind(panic),
        }
    }

    /// Calls the processor.
    ///
    /// # Safety
    /// `event` is NULL or a live event of the library of `self.tables` during this call.
    unsafe fn call(&self, event: *mut octopus_event) -> Result<Flow> {
        let event = NonNull::new(event).map(|event| {
            // SAFETY: `event` is live during this call (fn contract).
            Event::new(unsafe { Handle::retain(self.tables, event) })
        });
        (self.processor)(event.transpose()?)
    }

    fn fail(&self, failure: Failure) -> i32 {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
        -1
    }
}

/// # Safety
/// The library calls it as include/octopus.h specifies: within its function `process`, with the
/// `context` of [`Run::processor`], and with an `event` that is NULL or live during this call.
unsafe extern "C" fn process(context: *mut c_void, event: *mut octopus_event) -> i32 {
    // SAFETY: `context` is the `Run` of `Consumer::process`, which outlives the library's function
    // `process`, and with it this call (fn contract).
    let run = unsafe { &*context.cast::<Run<'_>>() };
    // SAFETY: `event` is NULL or live during this call (fn contract).
    match catch_unwind(AssertUnwindSafe(|| unsafe { run.call(event) })) {
        Ok(Ok(Flow::Continue)) => OCTOPUS_PROCESS_CONTINUE,
        Ok(Ok(Flow::Stop)) => OCTOPUS_PROCESS_STOP,
        Ok(Ok(Flow::Fail(number))) => number,
        Ok(Err(error)) => run.fail(Failure::Error(error)),
        Err(panic) => run.fail(Failure::Panic(panic)),
    }
}
