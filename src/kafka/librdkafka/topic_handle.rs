//! librdkafka's topic handle as an owned value.

use std::ptr::NonNull;
use std::sync::Arc;

use rdkafka::bindings as rd;

use super::errors;
use super::handle::Handle;
use super::text::c_string;
use crate::support::error::Result;
use crate::support::fork::is_forked_child;

/// A topic of one client.
pub struct TopicHandle {
    ptr: NonNull<rd::rd_kafka_topic_t>,
    client: Arc<Handle>,
}

// SAFETY: topic handles may be used from any thread, like the client.
unsafe impl Send for TopicHandle {}
// SAFETY: as above.
unsafe impl Sync for TopicHandle {}

impl TopicHandle {
    pub fn new(client: &Arc<Handle>, name: &str) -> Result<Self> {
        let c_name = c_string(name)?;
        // SAFETY: `client` keeps the client alive; the name is copied; NULL means the client's
        // configuration.
        let ptr = unsafe { rd::rd_kafka_topic_new(client.as_ptr(), c_name.as_ptr(), std::ptr::null_mut()) };
        match NonNull::new(ptr) {
            Some(ptr) => Ok(TopicHandle { ptr, client: client.clone() }),
            None => Err(errors::last_error().context(format_args!("creating a handle of topic {name}"))),
        }
    }

    pub fn as_ptr(&self) -> *mut rd::rd_kafka_topic_t {
        self.ptr.as_ptr()
    }

    /// The topic's client, which lives as long as `self`.
    pub fn client(&self) -> *mut rd::rd_kafka_t {
        self.client.as_ptr()
    }
}

impl Drop for TopicHandle {
    fn drop(&mut self) {
        if !is_forked_child() {
            // SAFETY: `self` owns the topic handle, and `client` keeps the client alive.
            unsafe { rd::rd_kafka_topic_destroy(self.as_ptr()) };
        }
    }
}
