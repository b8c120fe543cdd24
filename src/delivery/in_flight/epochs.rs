//! The epochs of a producer, each ended by a flush.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::delivery::future::Future;
use crate::support::callbacks::CallbackBatch;
use crate::support::error::Error;

#[derive(Default)]
pub struct Epoch {
    /// Events without a reported result.
    pub outstanding: u64,
    pub failures: u64,
    pub first_failure: Option<Error>,
    pub flushes: Vec<Arc<Future>>,
}

/// Removes the oldest ended epochs while they are empty.
pub fn pop_drained(ended: &mut VecDeque<Epoch>) -> Vec<Epoch> {
    let mut drained = Vec::new();
    while ended.front().is_some_and(|first| first.outstanding == 0) {
        drained.extend(ended.pop_front());
    }
    drained
}

pub fn settle_flushes(drained: Vec<Epoch>, callbacks: &CallbackBatch) {
    for epoch in drained {
        let result = match epoch.first_failure {
            None => Ok(()),
            Some(first) => Err(first.context(format_args!(
                "flushing: {} of the events pushed since the flush before were not delivered; the first",
                epoch.failures
            ))),
        };
        for flush in epoch.flushes {
            flush.settle_flush(result.clone(), callbacks);
        }
    }
}
