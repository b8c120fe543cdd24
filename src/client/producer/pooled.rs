//! Prepares events on the thread pool.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::pipeline::PushPipeline;
use super::stages::{PreparedEvent, UnpreparedEvent};
use crate::delivery::future::Future;
use crate::delivery::in_flight::Permit;
use crate::delivery::sequencer::SequenceSlot;
use crate::support::deadline::Deadline;
use crate::support::error::{Error, Kind, Result};
use crate::support::thread_pool::{HIGHEST_PRIORITY, RejectedTask};

impl PushPipeline {
    pub fn push_on_pool(
        self: &Arc<Self>,
        event: UnpreparedEvent,
        size: usize,
        future: Option<Arc<Future>>,
        deadline: Option<Deadline>,
    ) -> Result<Option<Arc<Future>>> {
        let permit = self.acquire_permit(size, None, &future, deadline)?;
        // The slot is reserved last: waiting for a permit with a slot would block later events,
        // whose permits can't be released before this slot is completed.
        let task = PrepareTask {
            permit,
            slot: self.is_strict.then(|| self.sequencer.reserve()),
            event: Some(event),
            size,
            pipeline: self.clone(),
        };
        if self.pool_id.is_on_this_thread() {
            // A task of the pool pushes this event. Another task might wait for that task's thread,
            // so the event is prepared here.
            task.run();
            return Ok(future);
        }
        if let Err(RejectedTask { error, task }) = self.pool.submit(Box::new(move || task.run()), HIGHEST_PRIORITY) {
            let error = error.context("submitting an event to the thread pool").context(self.pushing());
            // This push returns the error, so no flush has to report it.
            self.records.in_flight().report_early(vec![(permit, None)]);
            drop(task);
            return Err(error);
        }
        Ok(future)
    }
}

/// The pool's task of preparing one event. Dropping it without running it fails the event's future
/// and completes its slot.
struct PrepareTask {
    pipeline: Arc<PushPipeline>,
    permit: Permit,
    slot: Option<SequenceSlot>,
    event: Option<UnpreparedEvent>,
    /// The bytes that the permit counts.
    size: usize,
}

impl PrepareTask {
    fn run(mut self) {
        let Some(event) = self.event.take() else { return };
        let record = catch_unwind(AssertUnwindSafe(|| self.pipeline.prepare(event))).unwrap_or_else(|_| {
            Err(Error::new(Kind::Panicked, "preparing an event: a panic inside Octopus; report this as a bug"))
        });
        if let Ok(prepared) = &record
            && prepared.record.bytes().len() != self.size
        {
            self.pipeline.records.in_flight().resize(self.permit, prepared.record.bytes().len() as u64);
        }
        self.pipeline.finish(self.slot.take(), PreparedEvent { record, permit: self.permit });
    }
}

impl Drop for PrepareTask {
    fn drop(&mut self) {
        if self.event.take().is_some() {
            let error = Error::new(Kind::HostCallback, "the thread pool dropped the task that prepares the event");
            let record = Err(error.context(self.pipeline.pushing()));
            self.pipeline.finish(self.slot.take(), PreparedEvent { record, permit: self.permit });
        }
    }
}
