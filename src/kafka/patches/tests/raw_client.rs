//! A client of librdkafka, without the layers above it, for the tests of patches.

use std::ffi::{CStr, c_char, c_int};
use std::ptr::{NonNull, null, null_mut};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::bindings as rd;
use rdkafka::types::RDKafkaRespErr;

use super::PATIENCE;
use crate::kafka::librdkafka::codes;
use crate::kafka::librdkafka::text::text;

/// A client of librdkafka whose log lines pass a [`Gate`].
pub struct RawClient {
    client: NonNull<rd::rd_kafka_t>,
    pub gate: Box<Gate>,
}

// SAFETY: librdkafka's clients may be used from any thread at the same time (INTRODUCTION.md,
// "Threads").
unsafe impl Sync for RawClient {}
// SAFETY: as above.
unsafe impl Send for RawClient {}

/// Blocks the thread that logs a certain text, so that a test controls what happens meanwhile.
#[derive(Default)]
pub struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Default, Clone, Copy, PartialEq, Eq, Debug)]
enum GateState {
    #[default]
    Open,
    /// The next thread that logs this text is blocked.
    Closed(&'static str),
    /// A thread is blocked.
    Reached,
    /// A thread is blocked until another one logs this text.
    ReachedUntil(&'static str),
}

impl Gate {
    pub fn close(&self, text: &'static str) {
        self.set(GateState::Closed(text));
    }

    pub fn wait_until_reached(&self) {
        let state = self.state.lock().unwrap();
        let (state, _) =
            self.changed.wait_timeout_while(state, PATIENCE, |state| *state != GateState::Reached).unwrap();
        assert_eq!(*state, GateState::Reached, "no thread has reached the gate");
    }

    pub fn open_at(&self, text: &'static str) {
        self.set(GateState::ReachedUntil(text));
    }

    pub fn open(&self) {
        self.set(GateState::Open);
    }

    fn set(&self, state: GateState) {
        *self.state.lock().unwrap() = state;
        self.changed.notify_all();
    }

    fn pass(&self, line: &str) {
        let mut state = self.state.lock().unwrap();
        match *state {
            GateState::Closed(text) if line.contains(text) => {
                *state = GateState::Reached;
                self.changed.notify_all();
                drop(self.changed.wait_timeout_while(state, PATIENCE, |state| *state != GateState::Open).unwrap());
            }
            GateState::ReachedUntil(text) if line.contains(text) => {
                *state = GateState::Open;
                self.changed.notify_all();
            }
            _ => {}
        }
    }
}

/// # Safety
/// librdkafka calls it with a live client and a NUL-terminated `line`.
unsafe extern "C" fn log(client: *const rd::rd_kafka_t, _level: c_int, _facility: *const c_char, line: *const c_char) {
    // SAFETY: client and line are alive (contract of this function). `RawClient::with` sets the
    // opaque pointer to the gate, which outlives the client, before any of its threads logs.
    unsafe {
        if let Some(gate) = rd::rd_kafka_opaque(client).cast::<Gate>().as_ref() {
            gate.pass(&text(line));
        }
    }
}

impl RawClient {
    pub fn new(kind: rd::rd_kafka_type_t, properties: &[(&str, &str)]) -> Self {
        RawClient::with(kind, properties, |_| {})
    }

    pub fn with(
        kind: rd::rd_kafka_type_t,
        properties: &[(&str, &str)],
        configure: impl FnOnce(*mut rd::rd_kafka_conf_t),
    ) -> Self {
        let gate = Box::<Gate>::default();
        let mut config = ClientConfig::new();
        for (name, value) in properties {
            config.set(*name, *value);
        }
        let config = config.create_native_config().expect("properties of librdkafka");
        let mut reason = [0 as c_char; 512];
        // SAFETY: the configuration is alive and copied; the gate outlives the client; the buffer
        // has the given length.
        let client = unsafe {
            let copy = rd::rd_kafka_conf_dup(config.ptr());
            configure(copy);
            rd::rd_kafka_conf_set_log_cb(copy, Some(log));
            rd::rd_kafka_conf_set_events(copy, rd::RD_KAFKA_EVENT_ERROR);
            rd::rd_kafka_conf_set_opaque(copy, (&raw const *gate).cast_mut().cast());
            rd::rd_kafka_new(kind, copy, reason.as_mut_ptr(), reason.len())
        };
        // SAFETY: the call failed, so librdkafka has written a NUL-terminated text.
        let client = NonNull::new(client).unwrap_or_else(|| panic!("{}", unsafe { text(reason.as_ptr()) }));
        RawClient { client, gate }
    }

    pub fn as_ptr(&self) -> *mut rd::rd_kafka_t {
        self.client.as_ptr()
    }

    /// Whether the cluster that the client is connected to has this topic; false if it does not
    /// respond within `timeout`.
    pub fn sees_topic(&self, topic: &str, timeout: Duration) -> bool {
        let mut metadata = null();
        // SAFETY: `self` keeps the client alive; the metadata is owned and destroyed here and has
        // `topic_cnt` topics.
        unsafe {
            let code =
                codes::rd_kafka_metadata(self.as_ptr(), 1, null_mut(), &mut metadata, timeout.as_millis() as c_int);
            if code.is_error() {
                return false;
            }
            let count = (*metadata).topic_cnt as usize;
            let found = (0..count).any(|index| text((*(*metadata).topics.add(index)).topic) == topic);
            rd::rd_kafka_metadata_destroy(metadata);
            found
        }
    }

    /// Sends a DescribeTopics request to broker 1, the first of a mock cluster, once there is a
    /// connection to it. Nobody reads the result.
    pub fn describe_topic(&self, name: &CStr) {
        // SAFETY: `self` keeps the client alive; name and options are copied; the request has its
        // own reference to the queue.
        unsafe {
            // The request would go to the controller by default, which the mock cluster lacks.
            let options =
                rd::rd_kafka_AdminOptions_new(self.as_ptr(), rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS);
            let set = rd::rd_kafka_AdminOptions_set_broker(options, 1, null_mut(), 0);
            assert_eq!(set, RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR);
            let queue = rd::rd_kafka_queue_new(self.as_ptr());
            let mut names = [name.as_ptr()];
            let topics = rd::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
            rd::rd_kafka_DescribeTopics(self.as_ptr(), topics, options, queue);
            rd::rd_kafka_TopicCollection_destroy(topics);
            rd::rd_kafka_AdminOptions_destroy(options);
            rd::rd_kafka_queue_destroy(queue);
        }
    }

    pub fn subscribe(&self, topic: &CStr) {
        // SAFETY: `self` keeps the client alive; the list is owned here and copied.
        unsafe {
            rd::rd_kafka_poll_set_consumer(self.as_ptr());
            let topics = rd::rd_kafka_topic_partition_list_new(1);
            rd::rd_kafka_topic_partition_list_add(topics, topic.as_ptr(), -1);
            rd::rd_kafka_subscribe(self.as_ptr(), topics);
            rd::rd_kafka_topic_partition_list_destroy(topics);
        }
    }

    /// Polls until a record arrives; false if none arrives within `timeout`.
    pub fn receives_record(&self, timeout: Duration) -> bool {
        let end = Instant::now() + timeout;
        while Instant::now() < end {
            // SAFETY: `self` keeps the client alive; the message is owned and destroyed here.
            unsafe {
                let message = rd::rd_kafka_consumer_poll(self.as_ptr(), 100);
                if !message.is_null() {
                    let is_record = (*message).err == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR;
                    rd::rd_kafka_message_destroy(message);
                    if is_record {
                        return true;
                    }
                }
            }
        }
        false
    }
}

impl Drop for RawClient {
    fn drop(&mut self) {
        // SAFETY: `self` owns the client; all objects that were created from it are destroyed.
        unsafe { rd::rd_kafka_destroy(self.as_ptr()) };
    }
}
