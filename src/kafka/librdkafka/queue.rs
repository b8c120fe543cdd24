//! librdkafka's queues and the events on them, as owned values.

use std::ffi::{CStr, c_void};
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::bindings as rd;

use super::codes::{self, Code};
use super::handle::Handle;
use super::partitions::{PartitionResult, results};
use super::text::text;
use crate::support::deadline::as_millis_rounded_up;
use crate::support::error::{Error, Kind, Result};
use crate::support::fork::is_forked_child;

/// A queue of librdkafka.
pub struct Queue {
    ptr: NonNull<rd::rd_kafka_queue_t>,
    _client: Arc<Handle>,
}

// SAFETY: librdkafka's queues may be used from any thread (rdkafka.h, "Queue API").
unsafe impl Send for Queue {}
// SAFETY: as above.
unsafe impl Sync for Queue {}

impl Queue {
    /// Creates a queue.
    pub fn new(client: &Arc<Handle>) -> Result<Self> {
        // SAFETY: `client` keeps the client alive.
        Queue::own(client, unsafe { rd::rd_kafka_queue_new(client.as_ptr()) })
    }

    /// The client's main queue.
    pub fn main(client: &Arc<Handle>) -> Result<Self> {
        // SAFETY: `client` keeps the client alive.
        Queue::own(client, unsafe { rd::rd_kafka_queue_get_main(client.as_ptr()) })
    }

    /// The queue on which a consumer's rebalances and errors arrive.
    pub fn of_consumer(client: &Arc<Handle>) -> Result<Self> {
        // SAFETY: `client` keeps the client alive.
        Queue::own(client, unsafe { rd::rd_kafka_queue_get_consumer(client.as_ptr()) })
    }

    /// The queue on which the messages of a partition arrive.
    pub fn of_partition(client: &Arc<Handle>, topic: &CStr, partition: i32) -> Result<Self> {
        // SAFETY: `client` keeps the client alive; the name is copied.
        Queue::own(client, unsafe { rd::rd_kafka_queue_get_partition(client.as_ptr(), topic.as_ptr(), partition) })
    }

    fn own(client: &Arc<Handle>, ptr: *mut rd::rd_kafka_queue_t) -> Result<Self> {
        match NonNull::new(ptr) {
            Some(ptr) => Ok(Queue { ptr, _client: client.clone() }),
            None => Err(Error::new(Kind::Kafka, "librdkafka created no queue")),
        }
    }

    pub fn as_ptr(&self) -> *mut rd::rd_kafka_queue_t {
        self.ptr.as_ptr()
    }

    /// Forwards everything that arrives on this queue to `target`.
    pub fn forward_to(&self, target: &Queue) {
        // SAFETY: `self` and `target` own live queues; librdkafka holds its own reference to
        // `target`.
        unsafe { rd::rd_kafka_queue_forward(self.as_ptr(), target.as_ptr()) };
    }

    /// Waits for an event; `None` after `timeout` or a call of [`Queue::wake`].
    pub fn poll(&self, timeout: Duration) -> Option<QueueEvent> {
        // SAFETY: `self` owns a live queue; the caller owns the returned event.
        let event = unsafe { rd::rd_kafka_queue_poll(self.as_ptr(), as_millis_rounded_up(timeout)) };
        NonNull::new(event).map(QueueEvent)
    }

    /// Ends the current `poll`, or the next one if none is running.
    pub fn wake(&self) {
        // SAFETY: `self` owns a live queue.
        unsafe { rd::rd_kafka_queue_yield(self.as_ptr()) };
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        if !is_forked_child() {
            // SAFETY: `self` owns the queue, and `_client` keeps its client alive.
            unsafe { rd::rd_kafka_queue_destroy(self.as_ptr()) };
        }
    }
}

/// An event of a client.
pub struct QueueEvent(NonNull<rd::rd_kafka_event_t>);

impl QueueEvent {
    pub fn as_ptr(&self) -> *mut rd::rd_kafka_event_t {
        self.0.as_ptr()
    }

    pub fn kind(&self) -> i32 {
        // SAFETY: `self` owns a live event.
        unsafe { rd::rd_kafka_event_type(self.as_ptr()) }
    }

    pub fn error(&self) -> Code {
        // SAFETY: `self` owns a live event.
        unsafe { codes::rd_kafka_event_error(self.as_ptr()) }
    }

    pub fn error_text(&self) -> String {
        // SAFETY: `self` owns a live event.
        let reason = unsafe { rd::rd_kafka_event_error_string(self.as_ptr()) };
        // SAFETY: the text is NUL-terminated and belongs to the event.
        unsafe { text(reason) }
    }

    pub fn opaque(&self) -> *mut c_void {
        // SAFETY: `self` owns a live event.
        unsafe { rd::rd_kafka_event_opaque(self.as_ptr()) }
    }

    /// The partitions of the event, with offset and error; empty if it has none.
    pub fn partitions(&self) -> Vec<PartitionResult> {
        // SAFETY: `self` owns a live event.
        let list = unsafe { rd::rd_kafka_event_topic_partition_list(self.as_ptr()) };
        // SAFETY: the list is NULL or belongs to the event; it is copied.
        let list = unsafe { list.as_ref() };
        list.map_or_else(Vec::new, |list| results(list).collect())
    }
}

impl Drop for QueueEvent {
    fn drop(&mut self) {
        // SAFETY: `self` owns the event.
        unsafe { rd::rd_kafka_event_destroy(self.as_ptr()) };
    }
}
