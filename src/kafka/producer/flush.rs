//! Sending what lingers in a topic, without waiting for it.

use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::bindings as rd;

#[cfg(not(feature = "patched"))]
use crate::deadline::as_millis_rounded_up;
use crate::kafka::client::Client;
use crate::kafka::native::TopicHandle;

/// The flushes of one producer's topic, one at a time. Whether events are left that have no partition yet, since the topic is not known:
/// these linger unless the topic is flushed again.
#[derive(Default)]
pub struct TopicFlush(Mutex<bool>);

impl TopicFlush {
    pub fn has_left_events(&self) -> bool {
        *self.0.lock()
    }

    /// What is pushed later lingers again. Returns whether events are left.
    #[cfg(feature = "patched")]
    pub fn flush(&self, _: &Client, topic: &TopicHandle, _: Duration) -> bool {
        let mut has_left_events = self.0.lock();
        // SAFETY: the topic is alive.
        *has_left_events = unsafe { octopus_flush_topic(topic.as_ptr()) } > 0;
        *has_left_events
    }

    /// While librdkafka flushes, it takes linger.ms as over, for all topics of the client. It returns early when nothing is in flight.
    #[cfg(not(feature = "patched"))]
    pub fn flush(&self, client: &Client, _: &TopicHandle, at_most: Duration) -> bool {
        if let Some(mut has_left_events) = self.0.try_lock() {
            *has_left_events = true;
            // SAFETY: the client is alive.
            unsafe { rd::rd_kafka_flush(client.handle.as_ptr(), as_millis_rounded_up(at_most)) };
        }
        true
    }
}

#[cfg(feature = "patched")]
unsafe extern "C" {
    /// Patch 0035.
    fn octopus_flush_topic(topic: *mut rd::rd_kafka_topic_t) -> std::ffi::c_int;
}
