//! Whether a producer accepts events: always until it ends, or only within transactions.

use super::InFlight;
use crate::support::error::{Error, Result};

#[derive(Default)]
pub struct Gate {
    /// The error of each push, while none is accepted.
    closed: Option<Error>,
    /// Whether it stays closed.
    has_ended: bool,
    /// The first event that failed since the gate was opened.
    failure: Option<Error>,
}

impl Gate {
    #[inline]
    pub fn check(&self) -> Result<()> {
        match &self.closed {
            None => Ok(()),
            Some(reason) => Err(reason.clone()),
        }
    }

    pub fn note_failure(&mut self, failure: &Error) {
        self.failure.get_or_insert_with(|| failure.clone());
    }

    fn close(&mut self, reason: Error, is_final: bool) {
        if !self.has_ended {
            self.closed = Some(reason);
            self.has_ended = is_final;
        }
    }
}

impl InFlight {
    /// Makes each later push fail with `reason`, and also the pushes that wait for a permit.
    pub fn end(&self, reason: Error) {
        self.state.lock().gate.close(reason, true);
        self.released.notify_all();
    }

    /// As [`end`](Self::end), until [`resume`](Self::resume). An event that has its permit is not
    /// affected: a flush after this call waits for all of them.
    pub fn pause(&self, reason: Error) {
        self.state.lock().gate.close(reason, false);
        self.released.notify_all();
    }

    /// Accepts events again, unless pushing has ended.
    pub fn resume(&self) {
        let gate = &mut self.state.lock().gate;
        if !gate.has_ended {
            *gate = Gate::default();
        }
    }

    /// Why pushes fail at present.
    pub fn closed_with(&self) -> Option<Error> {
        self.state.lock().gate.closed.clone()
    }

    /// The first event that failed since [`resume`](Self::resume).
    pub fn failure_since_resumed(&self) -> Option<Error> {
        self.state.lock().gate.failure.clone()
    }
}
