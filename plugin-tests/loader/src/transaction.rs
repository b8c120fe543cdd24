//! The transactions of a producer.

use std::time::Duration;

use crate::consumer::Consumer;
use crate::error::Result;
#[cfg(doc)]
use crate::error::Status;
use crate::producer::Producer;
use crate::raw::{call, millis};

impl Producer {
    /// Begins a transaction of a producer with the option `"transactional_id"`. It contains the
    /// events that are pushed from now on, and the positions that are acknowledged in these
    /// consumers, which have the option `"commits": "transaction"`: all are stored, or none.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use octopus_loader::{Consumer, NewEvent, Producer, Result, Status};
    /// fn forward(input: &Consumer, output: &Producer) -> Result<()> {
    ///     let events = input.pull_many(500, Duration::from_secs(1))?;
    ///     output.begin_transaction(&[input])?;
    ///     let pushed = events.iter().try_for_each(|event| {
    ///         output.push_forget(&NewEvent::json(&event.json()?).data(event.data()))?;
    ///         event.acknowledge()
    ///     });
    ///     let timeout = Duration::from_secs(30);
    ///     match pushed.and_then(|()| output.commit_transaction(timeout)) {
    ///         // `input` returns these events again.
    ///         Err(error) if matches!(error.status, Status::MustAbort | Status::Stale) => {
    ///             output.abort_transaction(timeout)
    ///         }
    ///         result => result,
    ///     }
    /// }
    /// ```
    ///
    /// [`Status::InvalidArgument`] if a transaction is open or a consumer does not fit,
    /// [`Status::Fenced`], [`Status::Kafka`], [`Status::Closed`].
    pub fn begin_transaction(&self, consumers: &[&Consumer]) -> Result<()> {
        let handles: Vec<_> = consumers.iter().map(|consumer| consumer.raw()).collect();
        // SAFETY: the handle is live (owned), and those of the array while `consumers` is borrowed.
        unsafe { call!(self.handle, producer.begin_transaction(handles.as_ptr(), handles.len() as u64)) }
    }

    /// Waits until the events of the transaction are delivered, and stores them and the positions.
    /// After [`Status::TimedOut`] or [`Status::Unreachable`], the repeated call continues.
    ///
    /// [`Status::MustAbort`] if the transaction can only be aborted, [`Status::Fenced`],
    /// [`Status::Kafka`], [`Status::Closed`], [`Status::WouldDeadlock`].
    pub fn commit_transaction(&self, timeout: Duration) -> Result<()> {
        // SAFETY: the handle is live (owned).
        unsafe { call!(self.handle, producer.commit_transaction(millis(timeout))) }
    }

    /// Discards the events of the transaction. Its consumers continue at their last committed
    /// positions. The errors are those of [`commit_transaction`](Self::commit_transaction), except
    /// [`Status::MustAbort`].
    pub fn abort_transaction(&self, timeout: Duration) -> Result<()> {
        // SAFETY: the handle is live (owned).
        unsafe { call!(self.handle, producer.abort_transaction(millis(timeout))) }
    }
}
