//! How the linger is cut short: flushing a topic sends its lingering records at once, without
//! waiting for their delivery.

use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::bindings as rd;

use crate::kafka::client::Client;
use crate::kafka::librdkafka::topic_handle::TopicHandle;
#[cfg(not(feature = "patched"))]
use crate::support::deadline::as_millis_rounded_up;

/// The flushes of one producer's topic, one at a time. The value is whether events without a
/// partition are left, as the topic is not known yet: they linger until the topic is flushed again.
#[derive(Default)]
pub struct TopicFlush(Mutex<bool>);

impl TopicFlush {
    /// Whether the last flush has left events that linger.
    pub fn has_left_events(&self) -> bool {
        *self.0.lock()
    }

    /// Sends the lingering records of the topic. Records that are pushed later linger again.
    /// Returns whether events are left.
    #[cfg(feature = "patched")]
    pub fn flush(&self, _: &Client, topic: &TopicHandle, _: Duration) -> bool {
        let mut has_left_events = self.0.lock();
        // SAFETY: `topic` keeps the topic alive.
        *has_left_events = unsafe { octopus_flush_topic(topic.as_ptr()) } > 0;
        *has_left_events
    }

    /// Without patches librdkafka ignores `linger.ms` for all topics of the client while it
    /// flushes. It returns early if nothing is in flight.
    #[cfg(not(feature = "patched"))]
    pub fn flush(&self, client: &Client, _: &TopicHandle, timeout: Duration) -> bool {
        if let Some(mut has_left_events) = self.0.try_lock() {
            *has_left_events = true;
            // SAFETY: `client` keeps the client alive.
            unsafe { rd::rd_kafka_flush(client.handle.as_ptr(), as_millis_rounded_up(timeout)) };
        }
        true
    }
}

#[cfg(feature = "patched")]
unsafe extern "C" {
    /// Added by 0035-hook-flush-topic.patch.
    fn octopus_flush_topic(topic: *mut rd::rd_kafka_topic_t) -> std::ffi::c_int;
}
