//! The arguments of a push.

use std::sync::Arc;
use std::time::Instant;

use super::args::{Growing, octopus_bytes, read_array};
use super::event::octopus_header;
use super::preparation::{HostPreparation, octopus_preparation};
use crate::client::producer::{NewEvent, Producer};
use crate::delivery::future::Future;
use crate::json;
use crate::record::{Attributes, EventRecord, Header, Metadata};
use crate::support::deadline::Deadline;
use crate::support::error::{Error, Kind, Result};

/// One event to push.
///
/// The plugin copies the bytes before `push` returns. The properties `kafka.message.max.bytes`,
/// `kafka.queue.buffering.max.messages` and `kafka.queue.buffering.max.kbytes` limit the size of an
/// event, and the number and size of the events in flight.
///
/// @since 0.1
#[repr(C)]
#[derive(Clone, Copy)]
pub struct octopus_push_args {
    /// `sizeof(octopus_push_args)`, set by the host.
    pub size: u64,
    /// The metadata: JSON in UTF-8, or bytes that the host serialized if `metadata_is_serialized`
    /// is not 0.
    ///
    /// `{NULL, 0}` means the JSON object `{}`. Must be empty if there is a preparation.
    pub metadata: octopus_bytes,
    /// The data, in one or several segments, which are concatenated; NULL if `segment_count` is 0.
    pub segments: *const octopus_bytes,
    /// The number of elements of `segments`; 0 if the event has no data.
    ///
    /// With the producer's option `"records": "bytes"`, a record without data has no value (a
    /// tombstone), and one with an empty segment has an empty value.
    pub segment_count: u64,
    /// The requested partition, if `has_partition` is not 0. The topic's selector decides.
    pub partition: u64,
    /// Not 0: the host requests `partition`.
    pub has_partition: u32,
    /// Not 0: `metadata` goes into the record unchanged, and no component of the topic sees it.
    pub metadata_is_serialized: u32,
    /// Functions of the host that prepare the event instead of the topic's components; NULL if
    /// there are none.
    ///
    /// The plugin takes ownership, even if the push fails: it calls `destroy` once.
    pub preparation: *const octopus_preparation,
    /// How long the call may wait for the in-flight limit, if `has_timeout` is not 0, in
    /// milliseconds from the beginning of the call; negative: without a limit, 0: not at all.
    ///
    /// It replaces the driver's `timeout_ms`.
    pub timeout_ms: i64,
    /// Not 0: the host limits the wait by `timeout_ms`.
    pub has_timeout: u32,
    /// Set it to 0.
    pub reserved: u32,
    /// A key, headers or a timestamp for the record; NULL if there are none.
    pub attributes: *const octopus_push_attributes,
}

// SAFETY: the type is `#[repr(C)]` and begins with its size; zeros are empty slices, numbers and
// NULL.
unsafe impl Growing for octopus_push_args {}

/// What a record has beside its value.
///
/// @since 0.1
#[repr(C)]
#[derive(Clone, Copy)]
pub struct octopus_push_attributes {
    /// `sizeof(octopus_push_attributes)`, set by the host.
    pub size: u64,
    /// The key. `data` is NULL for a record without a key, and not NULL for an empty key.
    ///
    /// With `"partitioner": "key"` it requests a partition, unless the host does.
    pub key: octopus_bytes,
    /// The headers; NULL if `header_count` is 0.
    pub headers: *const octopus_header,
    /// The number of elements of `headers`.
    pub header_count: u64,
    /// The timestamp, if `has_timestamp` is not 0, in milliseconds since 1970-01-01 UTC.
    ///
    /// Topics with `message.timestamp.type=LogAppendTime` ignore it.
    pub timestamp_ms: i64,
    /// Not 0: the record has `timestamp_ms`; else it has the time of the push.
    pub has_timestamp: u32,
    /// Set it to 0.
    pub reserved: u32,
}

// SAFETY: the type is `#[repr(C)]` and begins with its size; zeros are empty slices, numbers and
// NULL.
unsafe impl Growing for octopus_push_attributes {}

// Not `pub`, since the type is public: what a public function calls would be exported from the
// crate, and the compiler optimizes exported functions and statics less (2 % of a push).
impl octopus_push_args {
    /// When the wait for the in-flight limit ends, if the host sets a limit. `began` returns the
    /// time at which the call began; a call without limits doesn't read the clock.
    pub(super) fn deadline(&self, began: impl FnOnce() -> Instant) -> Option<Deadline> {
        (self.has_timeout != 0).then(|| Deadline::from_millis_since(self.timeout_ms, began))
    }

    /// Pushes the event.
    ///
    /// # Safety
    /// Metadata, segments and attributes are NULL or readable during this call.
    pub(super) unsafe fn push_to(
        &self,
        producer: &Producer,
        preparation: Option<Box<HostPreparation>>,
        wants_future: bool,
        deadline: Option<Deadline>,
    ) -> Result<Option<Arc<Future>>> {
        // SAFETY: the segments are NULL or readable (fn contract).
        let segments = unsafe { read_array(self.segments, self.segment_count, "event.segments") }?;
        for segment in segments {
            segment.check("event.segments")?;
        }
        let metadata = match preparation {
            // SAFETY: the metadata is NULL or readable (fn contract).
            None => unsafe { self.metadata() }?,
            Some(_) => self.no_metadata()?,
        };
        // SAFETY: the segments are readable (fn contract), and each was checked above.
        let record = EventRecord::new(metadata, segments.iter().map(|segment| unsafe { segment.as_checked() }));
        let partition = (self.has_partition != 0).then_some(self.partition);
        let attributes = match self.attributes.is_null() {
            true => None,
            // SAFETY: the attributes are readable (fn contract), and not NULL.
            false => Some(unsafe { copy_attributes(self.attributes) }?),
        };
        let event = NewEvent { record, partition, attributes: attributes.as_deref(), wants_future, deadline };
        match preparation {
            None => producer.push(&event),
            Some(preparation) => producer.push_prepared(&event, preparation),
        }
    }

    /// The metadata of an event with a preparation, which appends it later.
    fn no_metadata<'a>(&self) -> Result<Metadata<'a>> {
        if self.metadata.size > 0 {
            return Err(Error::invalid("event.metadata: must be empty, since event.preparation provides the metadata"));
        }
        Ok(Metadata::Serialized(&[]))
    }

    /// # Safety
    /// The metadata is NULL or readable for as long as the result is used.
    unsafe fn metadata<'a>(&self) -> Result<Metadata<'a>> {
        // SAFETY: the metadata is NULL or readable (fn contract).
        let bytes = unsafe { self.metadata.read("event.metadata") }?;
        if self.metadata_is_serialized != 0 {
            return Ok(Metadata::Serialized(bytes));
        }
        if self.metadata.data.is_null() {
            return Ok(Metadata::Json("{}"));
        }
        let text = json::from_utf8(bytes).map_err(|why| {
            Error::new(Kind::InvalidMetadata, format!("pushing an event: the metadata is not UTF-8: {why}"))
        })?;
        Ok(Metadata::Json(text))
    }
}

/// Copies the host's attributes.
///
/// # Safety
/// `attributes`, and what it refers to, are NULL or readable during this call.
#[cold]
unsafe fn copy_attributes(attributes: *const octopus_push_attributes) -> Result<Box<Attributes>> {
    const WHAT: &str = "event.attributes";
    // SAFETY: the attributes are readable (fn contract).
    let from = unsafe { octopus_push_attributes::read(attributes, WHAT) }?;
    // SAFETY: the headers are NULL or readable (fn contract).
    let headers = unsafe { read_array(from.headers, from.header_count, "event.attributes.headers") }?;
    let timestamp_ms = (from.has_timestamp != 0).then_some(from.timestamp_ms);
    if timestamp_ms.is_some_and(|ms| ms < 1) {
        let expected = "expected a time after 1970-01-01 00:00:00 UTC, in milliseconds since then";
        return Err(Error::invalid(format!("{WHAT}.timestamp_ms: {expected}, got {}", from.timestamp_ms)));
    }
    check_attributes(&from, headers)?;
    Ok(Box::new(Attributes {
        // SAFETY: the key is NULL or readable (fn contract).
        key: unsafe { copy_value(from.key, "event.attributes.key") }?,
        // SAFETY: what a header refers to is NULL or readable (fn contract).
        headers: headers.iter().map(|header| unsafe { copy_header(header) }).collect::<Result<_>>()?,
        timestamp_ms,
    }))
}

/// The largest number of headers that librdkafka reads (`rd_kafka_msg_headers_parse`).
const MAX_HEADERS: usize = 100_000;
/// The largest `message.max.bytes`, in bytes.
const MAX_MESSAGE: u64 = 1_000_000_000;

/// Rejects invalid pointers, and what no message can have, before anything is copied. The producer
/// checks its own limit.
fn check_attributes(from: &octopus_push_attributes, headers: &[octopus_header]) -> Result<()> {
    if headers.len() > MAX_HEADERS {
        let count = headers.len();
        return Err(Error::invalid(format!("event.attributes.headers: {count} headers, above {MAX_HEADERS}")));
    }
    from.key.check("event.attributes.key")?;
    for header in headers {
        let name = octopus_bytes { data: header.name.data.cast(), size: header.name.size };
        name.check("event.attributes.headers: a name")?;
        header.value.check("event.attributes.headers: a value")?;
    }
    let sizes = headers.iter().map(|header| header.name.size.saturating_add(header.value.size));
    let size = sizes.fold(from.key.size, u64::saturating_add);
    if size > MAX_MESSAGE {
        let reason = format!("event.attributes: key and headers have {size} bytes, above what Kafka takes");
        return Err(Error::new(Kind::TooLarge, reason));
    }
    Ok(())
}

/// # Safety
/// What the header refers to is NULL or readable during this call.
unsafe fn copy_header(header: &octopus_header) -> Result<Header> {
    // SAFETY: the name is NULL or readable (fn contract).
    let name = unsafe { header.name.read("the name of a header") }?;
    if name.is_empty() {
        return Err(Error::invalid("event.attributes.headers: a header without a name"));
    }
    if name.contains('\0') {
        return Err(Error::invalid(format!("event.attributes.headers: the name {name:?} contains NUL")));
    }
    let what = format!("event.attributes.headers: the value of {name:?}");
    // SAFETY: the value is NULL or readable (fn contract).
    Ok(Header { name: name.into(), value: unsafe { copy_value(header.value, &what) }? })
}

/// # Safety
/// `data` is NULL, or has `size` readable bytes.
unsafe fn copy_value(value: octopus_bytes, what: &str) -> Result<Option<Box<[u8]>>> {
    // SAFETY: `data` is NULL or has `size` readable bytes (fn contract).
    let bytes = unsafe { value.read(what) }?;
    Ok((!value.data.is_null()).then(|| bytes.into()))
}
