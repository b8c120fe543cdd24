//! A processor of the host's, as C knows it, for the length of one `process`.

use std::any::Any;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::NonNull;
use std::sync::Mutex;
use std::time::Duration;

use octopus::abi::*;

use crate::error::{Error, Result};
use crate::event::Event;
use crate::raw::{FOREVER, Handle, Tables};

/// What a processor wants next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// The next event.
    GoOn,
    /// No more.
    Stop,
    /// Any other number that a processor in C can return: it fails with that.
    Fail(i32),
}

/// Until when events are processed.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// How long to wait for an event before the processor is called without one.
    pub timeout: Duration,
    /// Events to process; time-outs don't count.
    pub max_events: u64,
}

impl Default for Bounds {
    /// For ever, and all that come.
    fn default() -> Self {
        Bounds { timeout: FOREVER, max_events: u64::MAX }
    }
}

/// How a processor ended that neither goes on nor stops.
enum Failure {
    Error(Error),
    Panic(Box<dyn Any + Send>),
}

/// One `process`: what is called, and how that failed first.
pub(crate) struct Run<'a> {
    tables: &'static Tables,
    processor: &'a (dyn Fn(Option<Event>) -> Result<Flow> + Send + Sync),
    failure: Mutex<Option<Failure>>,
}

impl<'a> Run<'a> {
    pub fn new(tables: &'static Tables, processor: &'a (dyn Fn(Option<Event>) -> Result<Flow> + Send + Sync)) -> Self {
        Run { tables, processor, failure: Mutex::new(None) }
    }

    /// For the plugin, as long as this lives.
    pub fn processor(&self) -> octopus_processor {
        octopus_processor {
            function: Some(process),
            context: std::ptr::from_ref(self).cast_mut().cast(),
            destroy: None,
        }
    }

    /// The processor's own failure, if it had one, else what the plugin said.
    pub fn conclude(self, result: Result<()>) -> Result<()> {
        match self.failure.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()) {
            None => result,
            Some(Failure::Error(error)) => Err(error),
            Some(Failure::Panic(panic)) => resume_unwind(panic),
        }
    }

    fn call(&self, event: *mut octopus_event) -> Result<Flow> {
        let event = NonNull::new(event).map(|event| {
            // SAFETY: lent by the plugin for the length of the callback.
            Event::new(unsafe { Handle::shared(self.tables, event) })
        });
        (self.processor)(event.transpose()?)
    }

    fn fail(&self, failure: Failure) -> i32 {
        self.failure.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).get_or_insert(failure);
        -1
    }
}

unsafe extern "C" fn process(context: *mut c_void, event: *mut octopus_event) -> i32 {
    // SAFETY: the run, which lives as long as the call that this is made in.
    let run = unsafe { &*context.cast::<Run<'_>>() };
    match catch_unwind(AssertUnwindSafe(|| run.call(event))) {
        Ok(Ok(Flow::GoOn)) => OCTOPUS_PROCESS_CONTINUE,
        Ok(Ok(Flow::Stop)) => OCTOPUS_PROCESS_STOP,
        Ok(Ok(Flow::Fail(number))) => number,
        Ok(Err(error)) => run.fail(Failure::Error(error)),
        Err(panic) => run.fail(Failure::Panic(panic)),
    }
}
