//! Components that a host registers: its functions as implementations of the core's traits.

// The contract of each slot is in docs/reference/abi.md and in the comments of its table.
#![allow(clippy::missing_safety_doc, clippy::multiple_unsafe_ops_per_block)]

mod reply;

use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::Arc;

pub(super) use reply::CollectedReply;
use reply::failed;

use super::args::{Growing, octopus_bytes, octopus_text};
use super::callback::{Owned, octopus_destroy_fn};
use super::status::octopus_status;
use crate::components::{ComponentFactory, Selector, Serializer, Validator};
use crate::support::error::{Error, Kind, Result};
use crate::support::process_exit;

/// Role of a component: it decides whether an event may be pushed.
pub const OCTOPUS_ROLE_VALIDATOR: i32 = 0;
/// Role of a component: it chooses the partition of an event.
pub const OCTOPUS_ROLE_SELECTOR: i32 = 1;
/// Role of a component: it converts metadata to bytes and back.
pub const OCTOPUS_ROLE_SERIALIZER: i32 = 2;

/// Receives the result of a function of a component or a preparation.
///
/// Valid until that function returns.
///
/// @since 0.1
#[repr(C)]
#[derive(Clone, Copy)]
pub struct octopus_component_reply {
    /// `sizeof(octopus_component_reply)` in the plugin, in bytes.
    pub size: u64,
    /// The argument for `append` and `refuse`.
    pub token: *mut c_void,
    /// Appends bytes to the result of `serialize`, `deserialize` or `prepare`.
    ///
    /// @param token The `token` of this struct.
    /// @param bytes The bytes, copied during the call. NULL with a size fails the function that
    /// appends it, whatever that returns.
    pub append: Option<unsafe extern "C" fn(token: *mut c_void, bytes: octopus_bytes)>,
    /// Provides the reason of a failure; the function then returns a negative status.
    ///
    /// @param token The `token` of this struct.
    /// @param reason The reason, which becomes part of an error message. Copied during the call.
    pub refuse: Option<unsafe extern "C" fn(token: *mut c_void, reason: octopus_text)>,
}

/// Functions of the host that implement the components of one role and one type.
///
/// A function returns `OCTOPUS_OK` or a negative status. A negative status fails the push or the
/// pull with `OCTOPUS_CALLBACK_FAILED`; the message has the reason that was passed to
/// `reply->refuse`. Functions that the role does not need may be NULL. They are called during
/// `push`, on threads of the producer's pool, and during calls that read events, and never under a
/// lock. They may push events, but must not wait for the event that they are called for, and must
/// not unwind.
///
/// @since 0.1
#[repr(C)]
#[derive(Clone, Copy)]
pub struct octopus_component {
    /// `sizeof(octopus_component)`, set by the host.
    pub size: u64,
    /// Passed to `make`, and to `destroy` when no instance is left and none will be created.
    pub context: *mut c_void,
    /// Destroys the context.
    pub destroy: octopus_destroy_fn,
    /// Creates an instance of the component.
    ///
    /// Called when a topic is created, to check the component; when a topic is opened; and for a
    /// selector also when a producer is created. A failure makes that call fail with
    /// `OCTOPUS_COMPONENT`.
    ///
    /// @param context The `context` of this struct.
    /// @param json The component's JSON object, as it was passed when the topic was created. Valid
    /// during the call.
    /// @param instance Receives the instance, which is passed to the other functions.
    /// @param reply Receives the reason of a failure.
    /// @return `OCTOPUS_OK`, or a negative status.
    /// @note Any thread, several calls at the same time.
    pub make: Option<
        unsafe extern "C" fn(
            context: *mut c_void,
            json: octopus_text,
            instance: *mut *mut c_void,
            reply: *const octopus_component_reply,
        ) -> octopus_status,
    >,
    /// Destroys an instance. NULL if there is nothing to destroy.
    ///
    /// @param instance The instance.
    /// @note Called once for each instance, on any thread. Not called after the process began to
    /// exit.
    pub destroy_instance: Option<unsafe extern "C" fn(instance: *mut c_void)>,
    /// Validator: decides whether an event may be pushed.
    ///
    /// @param instance The instance.
    /// @param metadata The metadata as JSON. Valid during the call.
    /// @param segments The data of the event, in order. Valid during the call.
    /// @param segment_count The number of elements of `segments`.
    /// @param reply Receives the reason of a rejection.
    /// @return `OCTOPUS_OK`, or a negative status to reject the event.
    /// @note Any thread, several calls at the same time.
    pub validate: Option<
        unsafe extern "C" fn(
            instance: *mut c_void,
            metadata: octopus_text,
            segments: *const octopus_bytes,
            segment_count: u64,
            reply: *const octopus_component_reply,
        ) -> octopus_status,
    >,
    /// Selector: chooses the partition of an event.
    ///
    /// An instance serves one producer and one event at a time; with `OCTOPUS_ORDERING_STRICT`, in
    /// the order of the pushes. A failure, and a partition that does not exist, fail the future of
    /// the push.
    ///
    /// @param instance The instance.
    /// @param metadata The metadata as JSON; empty if the host serialized it. Valid during the
    /// call.
    /// @param requested The partition that the push requested; negative if it requested none.
    /// Larger values than 2^63-1 are passed as 2^63-1.
    /// @param partition_count The number of partitions of the topic.
    /// @param partition Receives the partition, from 0 to `partition_count` - 1.
    /// @param reply Receives the reason of a failure.
    /// @return `OCTOPUS_OK`, or a negative status.
    /// @note Any thread, one call at a time for each instance.
    pub select: Option<
        unsafe extern "C" fn(
            instance: *mut c_void,
            metadata: octopus_text,
            requested: i64,
            partition_count: u32,
            partition: *mut u32,
            reply: *const octopus_component_reply,
        ) -> octopus_status,
    >,
    /// Serializer: converts metadata to bytes, which it appends with `reply->append`.
    ///
    /// @param instance The instance.
    /// @param metadata The metadata as JSON. Valid during the call.
    /// @param reply Receives the bytes, or the reason of a failure.
    /// @return `OCTOPUS_OK`, or a negative status.
    /// @note Any thread, several calls at the same time.
    pub serialize: Option<
        unsafe extern "C" fn(
            instance: *mut c_void,
            metadata: octopus_text,
            reply: *const octopus_component_reply,
        ) -> octopus_status,
    >,
    /// Serializer: converts bytes to metadata as JSON, which it appends with `reply->append`.
    ///
    /// A failure fails one pull; the next one reads the event after it.
    ///
    /// @param instance The instance.
    /// @param bytes The bytes of the record's metadata. Valid during the call.
    /// @param reply Receives the JSON, or the reason of a failure.
    /// @return `OCTOPUS_OK`, or a negative status.
    /// @note Any thread, several calls at the same time.
    pub deserialize: Option<
        unsafe extern "C" fn(
            instance: *mut c_void,
            bytes: octopus_bytes,
            reply: *const octopus_component_reply,
        ) -> octopus_status,
    >,
}

// SAFETY: the type is `#[repr(C)]` and begins with its size; zeros are NULL pointers and absent
// functions.
unsafe impl Growing for octopus_component {}

/// A component that the host registered. Its context is destroyed when no instance is left.
pub struct HostComponent {
    functions: octopus_component,
    context: Owned,
}

// SAFETY: the header requires of the host that the functions may be called from any thread, and
// names those that are called at the same time.
unsafe impl Send for HostComponent {}
// SAFETY: as above.
unsafe impl Sync for HostComponent {}

impl HostComponent {
    pub fn new(component: octopus_component) -> Self {
        let context = Owned { context: component.context, destroy: component.destroy };
        HostComponent { functions: component, context }
    }

    /// The function that creates components of this role. Fails if a function that the role needs
    /// is NULL.
    pub fn maker(self, role: i32) -> Result<ComponentFactory> {
        let component = &self.functions;
        let missing = |functions: &str| Err(Error::invalid(format!("component: {functions} are needed, one is NULL")));
        match role {
            OCTOPUS_ROLE_VALIDATOR if component.make.is_none() || component.validate.is_none() => {
                missing("make and validate of a validator")
            }
            OCTOPUS_ROLE_SELECTOR if component.make.is_none() || component.select.is_none() => {
                missing("make and select of a selector")
            }
            OCTOPUS_ROLE_SERIALIZER
                if component.make.is_none() || component.serialize.is_none() || component.deserialize.is_none() =>
            {
                missing("make, serialize and deserialize of a serializer")
            }
            OCTOPUS_ROLE_VALIDATOR => {
                let shared = Arc::new(self);
                Ok(ComponentFactory::Validator(Box::new(move |json| Ok(Arc::new(Instance::make(&shared, json)?)))))
            }
            OCTOPUS_ROLE_SELECTOR => {
                let shared = Arc::new(self);
                Ok(ComponentFactory::Selector(Box::new(move |json| Ok(Box::new(Instance::make(&shared, json)?)))))
            }
            OCTOPUS_ROLE_SERIALIZER => {
                let shared = Arc::new(self);
                Ok(ComponentFactory::Serializer(Box::new(move |json| Ok(Arc::new(Instance::make(&shared, json)?)))))
            }
            other => {
                Err(Error::invalid(format!("role: {other} is none of OCTOPUS_ROLE_VALIDATOR, _SELECTOR, _SERIALIZER")))
            }
        }
    }
}

/// An instance of a component of the host. Dropping it destroys the instance.
struct Instance {
    of: Arc<HostComponent>,
    instance: *mut c_void,
}

// SAFETY: the header requires of the host that the functions may be called from any thread;
// selectors are called through `&mut` only.
unsafe impl Send for Instance {}
// SAFETY: as above; the header says that validators and serializers are called at the same time.
unsafe impl Sync for Instance {}

impl Drop for Instance {
    fn drop(&mut self) {
        if let Some(destroy) = self.of.functions.destroy_instance
            && !process_exit::has_begun()
        {
            // SAFETY: `make` of the host created the instance, and this is the only call that
            // destroys it.
            unsafe { destroy(self.instance) };
        }
    }
}

impl Instance {
    fn make(of: &Arc<HostComponent>, json: &str) -> Result<Self> {
        let mut instance = null_mut();
        CollectedReply::of("make", |reply| {
            let make = of.functions.make?;
            // SAFETY: function and context are the host's, and `of` keeps the context from being
            // destroyed; the text and the reply live during the call.
            Some(unsafe { make(of.context.context, octopus_text::view(json), &mut instance, reply) })
        })?;
        Ok(Instance { of: of.clone(), instance })
    }
}

impl Validator for Instance {
    fn wants_data(&self) -> bool {
        true
    }

    fn validate(&self, metadata: &str, data: &[&[u8]]) -> Result<()> {
        let segments: Vec<octopus_bytes> = data.iter().map(|segment| octopus_bytes::view(segment)).collect();
        let (first, count) = (segments.as_ptr(), segments.len() as u64);
        CollectedReply::of("validate", |reply| {
            let validate = self.of.functions.validate?;
            // SAFETY: the instance lives as long as `self`; all arguments live during the call.
            Some(unsafe { validate(self.instance, octopus_text::view(metadata), first, count, reply) })
        })
        .map(drop)
    }
}

impl Selector for Instance {
    fn select(&mut self, metadata: &str, requested: Option<u64>, partitions: u32) -> Result<u32> {
        choose(requested, partitions, |requested, partition, reply| {
            let select = self.of.functions.select?;
            let metadata = octopus_text::view(metadata);
            // SAFETY: the instance lives as long as `self`; `&mut self` excludes a second call at
            // the same time; all arguments live during the call.
            Some(unsafe { select(self.instance, metadata, requested, partitions, partition, reply) })
        })
    }
}

impl Serializer for Instance {
    fn serialize(&self, metadata: &str) -> Result<Vec<u8>> {
        CollectedReply::of("serialize", |reply| {
            let serialize = self.of.functions.serialize?;
            // SAFETY: as in `validate`.
            Some(unsafe { serialize(self.instance, octopus_text::view(metadata), reply) })
        })
    }

    fn deserialize(&self, bytes: &[u8]) -> Result<String> {
        let made = CollectedReply::of("deserialize", |reply| {
            let deserialize = self.of.functions.deserialize?;
            // SAFETY: as in `validate`.
            Some(unsafe { deserialize(self.instance, octopus_bytes::view(bytes), reply) })
        })?;
        String::from_utf8(made).map_err(|why| {
            let failure = "the topic's serializer deserialized the metadata to bytes that are not UTF-8";
            Error::new(Kind::MalformedRecord, format!("{failure}: {why}"))
        })
    }
}

/// Calls the host's function `select` and checks that the partition exists.
pub(super) fn choose(
    requested: Option<u64>,
    partitions: u32,
    select: impl FnOnce(i64, *mut u32, *const octopus_component_reply) -> Option<octopus_status>,
) -> Result<u32> {
    let requested = requested.map_or(-1, |partition| i64::try_from(partition).unwrap_or(i64::MAX));
    let mut partition = 0;
    CollectedReply::of("select", |reply| select(requested, &mut partition, reply))?;
    if partition < partitions {
        return Ok(partition);
    }
    Err(failed("select", &format!("it chose partition {partition}, and there are {partitions}, numbered from 0")))
}

#[cfg(test)]
mod tests {
    use super::*;

    unsafe extern "C" fn make(
        _: *mut c_void,
        _: octopus_text,
        _: *mut *mut c_void,
        _: *const octopus_component_reply,
    ) -> octopus_status {
        0
    }

    /// Appends `ab`, and with any metadata also bytes that can't be read: NULL with a size.
    unsafe extern "C" fn serialize(
        _: *mut c_void,
        metadata: octopus_text,
        reply: *const octopus_component_reply,
    ) -> octopus_status {
        let bad = octopus_bytes { data: std::ptr::null(), size: 5 };
        // SAFETY: `reply` lives during this call.
        unsafe {
            let append = (*reply).append.unwrap();
            append((*reply).token, octopus_bytes::view(b"ab"));
            if metadata.size > 0 {
                append((*reply).token, bad);
            }
        }
        0
    }

    unsafe extern "C" fn deserialize(
        _: *mut c_void,
        _: octopus_bytes,
        reply: *const octopus_component_reply,
    ) -> octopus_status {
        // SAFETY: `reply` lives during this call.
        unsafe { ((*reply).append.unwrap())((*reply).token, octopus_bytes::view(b"\xff")) };
        0
    }

    fn serializer() -> Arc<dyn Serializer> {
        let component = octopus_component {
            size: size_of::<octopus_component>() as u64,
            context: null_mut(),
            destroy: None,
            make: Some(make),
            destroy_instance: None,
            validate: None,
            select: None,
            serialize: Some(serialize),
            deserialize: Some(deserialize),
        };
        match HostComponent::new(component).maker(OCTOPUS_ROLE_SERIALIZER).unwrap() {
            ComponentFactory::Serializer(make) => make("{}").unwrap(),
            _ => panic!("another role"),
        }
    }

    #[test]
    fn appended_bytes_that_are_null_with_a_size_fail_the_component() {
        assert_eq!(serializer().serialize("").unwrap(), b"ab");
        let error = serializer().serialize("{}").unwrap_err();
        assert_eq!(error.kind(), Kind::HostCallback);
        assert!(error.message().contains("NULL with a size of 5"), "{error}");
    }

    /// A serializer whose `deserialize` returns bytes that are not UTF-8 makes the record
    /// malformed, as one that returns no JSON.
    #[test]
    fn deserialized_bytes_that_are_not_utf8_are_a_malformed_record() {
        assert_eq!(serializer().deserialize(b"x").unwrap_err().kind(), Kind::MalformedRecord);
    }
}
