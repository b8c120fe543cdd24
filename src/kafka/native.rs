//! librdkafka's objects as owned Rust values: each is destroyed once, in the right order.

#[cfg(feature = "patched")]
use std::ffi::c_int;
use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::bindings as rd;

use super::codes::{self, Code};
use super::handle::Handle;
use super::topic_id::TopicId;
use crate::deadline::as_millis_rounded_up;
use crate::error::{Error, Kind, Result};
use crate::fork::is_forked_child;

/// A queue of librdkafka's.
pub struct Queue {
    ptr: NonNull<rd::rd_kafka_queue_t>,
    _client: Arc<Handle>,
}

// SAFETY: librdkafka's queues may be used from any thread (rdkafka.h, "Queue API").
unsafe impl Send for Queue {}
// SAFETY: as above.
unsafe impl Sync for Queue {}

impl Queue {
    pub fn new(client: &Arc<Handle>) -> Result<Self> {
        // SAFETY: the client is alive.
        Queue::own(client, unsafe { rd::rd_kafka_queue_new(client.as_ptr()) })
    }

    pub fn main(client: &Arc<Handle>) -> Result<Self> {
        // SAFETY: the client is alive.
        Queue::own(client, unsafe { rd::rd_kafka_queue_get_main(client.as_ptr()) })
    }

    /// Where a consumer's rebalances and errors arrive.
    pub fn of_consumer(client: &Arc<Handle>) -> Result<Self> {
        // SAFETY: the client is alive.
        Queue::own(client, unsafe { rd::rd_kafka_queue_get_consumer(client.as_ptr()) })
    }

    pub fn of_partition(client: &Arc<Handle>, topic: &CStr, partition: i32) -> Result<Self> {
        // SAFETY: the client is alive; the name is copied.
        Queue::own(client, unsafe { rd::rd_kafka_queue_get_partition(client.as_ptr(), topic.as_ptr(), partition) })
    }

    fn own(client: &Arc<Handle>, ptr: *mut rd::rd_kafka_queue_t) -> Result<Self> {
        match NonNull::new(ptr) {
            Some(ptr) => Ok(Queue { ptr, _client: client.clone() }),
            None => Err(Error::new(Kind::Kafka, "librdkafka gave no queue")),
        }
    }

    pub fn as_ptr(&self) -> *mut rd::rd_kafka_queue_t {
        self.ptr.as_ptr()
    }

    /// What arrives on this queue goes to `target` from now on.
    pub fn forward_to(&self, target: &Queue) {
        // SAFETY: both queues are alive; librdkafka counts its references.
        unsafe { rd::rd_kafka_queue_forward(self.as_ptr(), target.as_ptr()) };
    }

    /// Waits for an event; `None` when none came in time or somebody called [`Queue::wake`].
    pub fn poll(&self, at_most: Duration) -> Option<QueueEvent> {
        // SAFETY: the queue is alive; the event is ours.
        let event = unsafe { rd::rd_kafka_queue_poll(self.as_ptr(), as_millis_rounded_up(at_most)) };
        NonNull::new(event).map(QueueEvent)
    }

    /// Makes the `poll` that runs now, or else the next one, return.
    pub fn wake(&self) {
        // SAFETY: the queue is alive.
        unsafe { rd::rd_kafka_queue_yield(self.as_ptr()) };
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        if !is_forked_child() {
            // SAFETY: ours, and its client is still alive.
            unsafe { rd::rd_kafka_queue_destroy(self.as_ptr()) };
        }
    }
}

/// Something that happened to a client.
pub struct QueueEvent(NonNull<rd::rd_kafka_event_t>);

impl QueueEvent {
    pub fn as_ptr(&self) -> *mut rd::rd_kafka_event_t {
        self.0.as_ptr()
    }

    pub fn kind(&self) -> i32 {
        // SAFETY: the event is alive.
        unsafe { rd::rd_kafka_event_type(self.as_ptr()) }
    }

    pub fn error(&self) -> Code {
        // SAFETY: the event is alive.
        unsafe { codes::rd_kafka_event_error(self.as_ptr()) }
    }

    pub fn error_text(&self) -> String {
        // SAFETY: the event is alive; the text is copied before it ends.
        unsafe { text(rd::rd_kafka_event_error_string(self.as_ptr())) }
    }

    pub fn opaque(&self) -> *mut c_void {
        // SAFETY: the event is alive.
        unsafe { rd::rd_kafka_event_opaque(self.as_ptr()) }
    }

    /// The partitions that the event is about, with offset and error; empty when it is about none.
    pub fn partitions(&self) -> Vec<PartitionResult> {
        // SAFETY: the event is alive; the list belongs to it and is copied before it ends.
        let list = unsafe { rd::rd_kafka_event_topic_partition_list(self.as_ptr()).as_ref() };
        list.map_or_else(Vec::new, |list| results(list).collect())
    }
}

impl Drop for QueueEvent {
    fn drop(&mut self) {
        // SAFETY: ours.
        unsafe { rd::rd_kafka_event_destroy(self.as_ptr()) };
    }
}

#[derive(Debug, Clone, Copy)]
pub struct PartitionResult {
    pub partition: i32,
    pub offset: i64,
    /// Of a committed position: the topic that it was committed for, if its metadata says that.
    pub topic: Option<TopicId>,
    pub error: Code,
}

impl PartitionResult {
    /// Whether the position was committed for another topic of that name than the one in use.
    pub fn is_of_other_topic(&self, used: Option<TopicId>) -> bool {
        matches!((self.topic, used), (Some(topic), Some(used)) if topic != used)
    }
}

/// What librdkafka wrote into a list.
pub fn results(list: &rd::rd_kafka_topic_partition_list_t) -> impl Iterator<Item = PartitionResult> {
    (0..usize::try_from(list.cnt).unwrap_or(0)).map(|index| {
        // SAFETY: `elems` holds `cnt` elements.
        let element = unsafe { &*list.elems.add(index) };
        // SAFETY: a field of what is alive.
        let error = unsafe { Code::read(&raw const element.err) };
        let metadata: &[u8] = match element.metadata.is_null() {
            true => &[],
            // SAFETY: librdkafka says how many bytes there are; they live as long as the element.
            false => unsafe { std::slice::from_raw_parts(element.metadata.cast(), element.metadata_size) },
        };
        let topic = TopicId::of_commit(metadata);
        PartitionResult { partition: element.partition, offset: element.offset, topic, error }
    })
}

/// A topic as one client knows it.
pub struct TopicHandle {
    ptr: NonNull<rd::rd_kafka_topic_t>,
    _client: Arc<Handle>,
}

// SAFETY: topic handles may be used from any thread, like the client.
unsafe impl Send for TopicHandle {}
// SAFETY: as above.
unsafe impl Sync for TopicHandle {}

impl TopicHandle {
    pub fn new(client: &Arc<Handle>, name: &str) -> Result<Self> {
        let c_name = c_string(name)?;
        // SAFETY: the client is alive; the name is copied; no configuration means the client's.
        let ptr = unsafe { rd::rd_kafka_topic_new(client.as_ptr(), c_name.as_ptr(), std::ptr::null_mut()) };
        match NonNull::new(ptr) {
            Some(ptr) => Ok(TopicHandle { ptr, _client: client.clone() }),
            None => Err(super::errors::last_error().context(format_args!("making a handle of topic {name}"))),
        }
    }

    pub fn as_ptr(&self) -> *mut rd::rd_kafka_topic_t {
        self.ptr.as_ptr()
    }
}

impl Drop for TopicHandle {
    fn drop(&mut self) {
        if !is_forked_child() {
            // SAFETY: ours, and its client is still alive.
            unsafe { rd::rd_kafka_topic_destroy(self.as_ptr()) };
        }
    }
}

/// A list of partitions of one topic, to be handed to librdkafka.
pub struct PartitionList(NonNull<rd::rd_kafka_topic_partition_list_t>);

impl PartitionList {
    pub fn new(topic: &CStr, partitions: impl IntoIterator<Item = (i32, i64)>) -> Result<Self> {
        // SAFETY: makes an empty list.
        let list = unsafe { rd::rd_kafka_topic_partition_list_new(1) };
        let list = NonNull::new(list).ok_or_else(|| Error::new(Kind::Kafka, "librdkafka gave no list"))?;
        for (partition, offset) in partitions {
            // SAFETY: the list is alive; the name is copied; the element belongs to the list.
            unsafe {
                let element = rd::rd_kafka_topic_partition_list_add(list.as_ptr(), topic.as_ptr(), partition);
                (*element).offset = offset;
            }
        }
        Ok(PartitionList(list))
    }

    /// Has a commit of the list say this about each partition.
    pub fn with_metadata(self, client: &Handle, metadata: &str) -> Self {
        // SAFETY: the list is ours alone, and `elems` holds `cnt` elements.
        let elements = unsafe {
            let list = self.0.as_ref();
            std::slice::from_raw_parts_mut(list.elems, usize::try_from(list.cnt).unwrap_or(0))
        };
        for element in elements.iter_mut().filter(|element| element.metadata.is_null()) {
            // SAFETY: the client is alive; the memory is librdkafka's to free with the list.
            let copy = unsafe { rd::rd_kafka_mem_malloc(client.as_ptr(), metadata.len()) };
            if !copy.is_null() {
                // SAFETY: just allocated with this length.
                unsafe { std::ptr::copy_nonoverlapping(metadata.as_ptr(), copy.cast(), metadata.len()) };
                (element.metadata, element.metadata_size) = (copy, metadata.len());
            }
        }
        self
    }

    pub fn as_ptr(&self) -> *mut rd::rd_kafka_topic_partition_list_t {
        self.0.as_ptr()
    }

    /// What librdkafka wrote into the list.
    pub fn results(&self) -> impl Iterator<Item = PartitionResult> {
        // SAFETY: alive as long as the borrow.
        results(unsafe { self.0.as_ref() })
    }
}

impl Drop for PartitionList {
    fn drop(&mut self) {
        // SAFETY: ours; librdkafka copies the lists it is given.
        unsafe { rd::rd_kafka_topic_partition_list_destroy(self.as_ptr()) };
    }
}

#[cfg(feature = "patched")]
unsafe extern "C" {
    /// Added to librdkafka by src/kafka/patches/0024-hook-fetch-response-of-message.patch.
    fn octopus_fetch_response_of(message: *const rd::rd_kafka_message_t, bytes: *mut usize) -> *const c_void;
    /// Added by 0039-fix-damaged-batches.patch. 1 if the message is an error about damaged offsets; `last` is -1 while the end of the damage is not known.
    fn octopus_damaged_offsets_of(message: *const rd::rd_kafka_message_t, first: *mut i64, last: *mut i64) -> c_int;
}

/// A broker's answer with messages: where it is, and how large.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FetchResponse {
    pub address: usize,
    pub bytes: usize,
}

/// A message from a topic, or an error about one. Pins the whole fetch response that it came in, and goes before its client.
pub struct Message(NonNull<rd::rd_kafka_message_t>);

// SAFETY: a message is a plain piece of memory with atomic reference counts on what it came in.
unsafe impl Send for Message {}
// SAFETY: it is only read.
unsafe impl Sync for Message {}

impl Message {
    /// # Safety
    /// `message` is NULL, or comes from consuming and is nobody else's; its client is destroyed after it.
    pub unsafe fn from_raw(message: *mut rd::rd_kafka_message_t) -> Option<Self> {
        NonNull::new(message).map(Message)
    }

    fn raw(&self) -> &rd::rd_kafka_message_t {
        // SAFETY: alive until dropped.
        unsafe { self.0.as_ref() }
    }

    pub fn error(&self) -> Code {
        // SAFETY: a field of what is alive.
        unsafe { Code::read(&raw const self.raw().err) }
    }

    pub fn error_text(&self) -> String {
        // SAFETY: alive; the text is copied.
        unsafe { text(rd::rd_kafka_message_errstr(self.0.as_ptr())) }
    }

    pub fn payload(&self) -> &[u8] {
        let raw = self.raw();
        if raw.payload.is_null() {
            return &[];
        }
        // SAFETY: the payload has `len` bytes and lives as long as the message.
        unsafe { std::slice::from_raw_parts(raw.payload.cast(), raw.len) }
    }

    /// Has the processor get the payload's beginning, which another one wrote last, while there is something else to do.
    pub fn prefetch_payload(&self) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: it may be told any address; every such processor has the instruction.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(self.raw().payload.cast());
        }
    }

    /// The fetch response that it came in, which it keeps in memory. `None` for a message that came in none, and for each message of
    /// a librdkafka without patches, which does not tell.
    pub fn answer(&self) -> Option<FetchResponse> {
        #[cfg(feature = "patched")]
        {
            let mut bytes = 0;
            // SAFETY: the message is alive as long as `self`; `bytes` is writable.
            let response = unsafe { octopus_fetch_response_of(self.0.as_ptr(), &mut bytes) };
            (!response.is_null()).then(|| FetchResponse { address: response.addr(), bytes })
        }
        #[cfg(not(feature = "patched"))]
        None
    }

    /// Of an error about damaged records: the first of their offsets, and the last one as soon as it is known. `None` for any other
    /// message, and for each message of a librdkafka without patches.
    pub fn damaged_offsets(&self) -> Option<(u64, Option<u64>)> {
        #[cfg(feature = "patched")]
        {
            let (mut first, mut last) = (0, 0);
            // SAFETY: the message is alive as long as `self`; both places are writable.
            let is_damage = unsafe { octopus_damaged_offsets_of(self.0.as_ptr(), &mut first, &mut last) } != 0;
            is_damage.then(|| Some((u64::try_from(first).ok()?, u64::try_from(last).ok())))?
        }
        #[cfg(not(feature = "patched"))]
        None
    }

    /// The topic's name; empty when it's about none.
    pub fn topic(&self) -> String {
        let topic = self.raw().rkt;
        if topic.is_null() {
            return String::new();
        }
        // SAFETY: the message keeps its topic alive; the name is copied.
        unsafe { text(rd::rd_kafka_topic_name(topic)) }
    }

    pub fn partition(&self) -> i32 {
        self.raw().partition
    }

    pub fn offset(&self) -> i64 {
        self.raw().offset
    }

    /// Milliseconds since 1970; -1 when the record has none.
    pub fn timestamp(&self) -> i64 {
        // SAFETY: alive; the kind of time stamp may be left out.
        unsafe { rd::rd_kafka_message_timestamp(self.0.as_ptr(), std::ptr::null_mut()) }
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        if !is_forked_child() {
            // SAFETY: ours, and its client is still alive.
            unsafe { rd::rd_kafka_message_destroy(self.0.as_ptr()) };
        }
    }
}

/// A name as C wants it.
pub fn c_string(name: &str) -> Result<CString> {
    CString::new(name).map_err(|_| Error::invalid(format!("{name:?} contains a NUL character")))
}

/// Copies a C text; NULL is empty.
///
/// # Safety
/// `text` is NULL or a NUL-terminated text that lives during this call.
pub unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}
