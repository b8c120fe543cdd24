//! Events that were taken from Kafka and that the host did not get. Pulls take them first.

use std::collections::VecDeque;

use crate::event::{Event, SharedEvent};
use crate::support::error::Result;
use crate::support::sync::Mutex;
use crate::support::sync::atomic::{AtomicBool, Ordering};

#[derive(Default)]
pub struct ReturnedEvents {
    /// Whether the queue has elements. Each pull reads this instead of locking the queue.
    has_events: AtomicBool,
    /// Events, and the errors of records that could not be read.
    queue: Mutex<VecDeque<Result<SharedEvent>>>,
}

impl ReturnedEvents {
    pub fn is_empty(&self) -> bool {
        !self.has_events.load(Ordering::Acquire)
    }

    /// Takes the next error, or the next event for which `is_wanted` returns true; drops the
    /// unwanted events before it.
    pub fn take(&self, is_wanted: impl Fn(&Event) -> bool) -> Option<Result<SharedEvent>> {
        if self.is_empty() {
            return None;
        }
        let mut queue = self.queue.lock();
        let mut next = queue.pop_front();
        while let Some(Ok(event)) = &next
            && !is_wanted(event)
        {
            next = queue.pop_front();
        }
        self.has_events.store(!queue.is_empty(), Ordering::Release);
        next
    }

    /// Adds events in front of all others, but within their partitions in offset order.
    pub fn insert(&self, mut events: Vec<SharedEvent>) {
        events.sort_by_key(|event| (event.partition(), event.offset()));
        let mut queue = self.queue.lock();
        for event in events.into_iter().rev() {
            let index = insertion_index(&event, &queue);
            queue.insert(index, Ok(event));
        }
        self.has_events.store(true, Ordering::Release);
    }

    /// Takes current events until there are `wanted` of them, up to the first error.
    pub fn take_events(&self, wanted: usize, events: &mut Vec<SharedEvent>) {
        if self.is_empty() {
            return;
        }
        let mut queue = self.queue.lock();
        while events.len() < wanted
            && let Some(Ok(_)) = queue.front()
            && let Some(Ok(event)) = queue.pop_front()
        {
            if event.is_current() {
                events.push(event);
            }
        }
        self.has_events.store(!queue.is_empty(), Ordering::Release);
    }

    /// Adds events and errors after all others.
    pub fn append(&self, more: Vec<Result<SharedEvent>>) {
        let mut queue = self.queue.lock();
        queue.extend(more);
        self.has_events.store(!queue.is_empty(), Ordering::Release);
    }

    /// Drops the events of this partition.
    pub fn remove_partition(&self, partition: u32) {
        let mut queue = self.queue.lock();
        queue.retain(|queued| queued.as_ref().map_or(true, |event| event.partition() != partition));
        self.has_events.store(!queue.is_empty(), Ordering::Release);
    }

    /// The lowest offset of this partition's current events.
    pub fn first_of(&self, partition: u32) -> Option<u64> {
        let queue = self.queue.lock();
        queue
            .iter()
            .flatten()
            .filter(|event| event.partition() == partition && event.is_current())
            .map(|event| event.offset())
            .min()
    }
}

/// The first index after the earlier events of the same partition.
fn insertion_index(event: &Event, queue: &VecDeque<Result<SharedEvent>>) -> usize {
    let comes_before =
        |queued: &SharedEvent| queued.partition() == event.partition() && queued.offset() < event.offset();
    queue.iter().rposition(|queued| queued.as_ref().is_ok_and(comes_before)).map_or(0, |last| last + 1)
}
