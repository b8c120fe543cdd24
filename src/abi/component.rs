//! Components that a host registers: its functions, as the traits that the core knows.

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::null_mut;
use std::sync::Arc;

use super::args::{Growing, octopus_bytes, octopus_text};
use super::callback::{Owned, octopus_destroy_fn};
use super::status::octopus_status;
use crate::components::{Maker, Selector, Serializer, Validator};
use crate::error::{Error, Kind, Result};
use crate::process_exit;

/// The kinds of component that a host can register.
pub const OCTOPUS_ROLE_VALIDATOR: i32 = 0;
pub const OCTOPUS_ROLE_SELECTOR: i32 = 1;
pub const OCTOPUS_ROLE_SERIALIZER: i32 = 2;

/// Takes what a component's function makes: bytes, or the reason of its failure. Valid during that function's call.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct octopus_component_reply {
    /// `sizeof(octopus_component_reply)` as the plugin knows it.
    pub size: u64,
    /// To be handed back to `append` or `refuse`.
    pub token: *mut c_void,
    /// Appends to the result of `serialize` or `deserialize`.
    pub append: Option<unsafe extern "C" fn(token: *mut c_void, bytes: octopus_bytes)>,
    /// Says why the function fails.
    pub refuse: Option<unsafe extern "C" fn(token: *mut c_void, why: octopus_text)>,
}

/// Validators, selectors or serializers of one type, made by the host. Functions return a status; a negative one
/// fails the push or the pull with `OCTOPUS_CALLBACK_FAILED` and the reason given to the reply. Those that the kind doesn't
/// need are NULL. They are called in push, on the pool's threads, and by whoever takes events; never under a lock. They
/// may push, but not wait for what they are part of.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct octopus_component {
    /// `sizeof(octopus_component)`, set by the host.
    pub size: u64,
    /// Handed to `make`, and to `destroy` when no more instances will be made.
    pub context: *mut c_void,
    pub destroy: octopus_destroy_fn,
    /// Makes an instance from the component's JSON: when a topic is made, to see that it can be, and when one is opened; of
    /// a selector for each producer. A failure is `OCTOPUS_COMPONENT`.
    pub make: Option<
        unsafe extern "C" fn(
            context: *mut c_void,
            json: octopus_text,
            instance: *mut *mut c_void,
            reply: *const octopus_component_reply,
        ) -> octopus_status,
    >,
    /// Ends an instance, once; any thread. NULL: nothing to end.
    pub destroy_instance: Option<unsafe extern "C" fn(instance: *mut c_void)>,
    /// Of a validator: whether an event may be pushed. Any thread, several at a time.
    pub validate: Option<
        unsafe extern "C" fn(
            instance: *mut c_void,
            metadata: octopus_text,
            segments: *const octopus_bytes,
            segment_count: u64,
            reply: *const octopus_component_reply,
        ) -> octopus_status,
    >,
    /// Of a selector: the partition of an event, below `partition_count`; `requested` is negative when none was,
    /// and 2^63-1 also for what is larger.
    /// `metadata` is empty when the host serialized it. An instance serves one producer, one event at a time and, in
    /// strict order, in the order of the pushes; from any thread. What fails here fails the push's future.
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
    /// Of a serializer: the bytes of the metadata. Any thread, several at a time.
    pub serialize: Option<
        unsafe extern "C" fn(
            instance: *mut c_void,
            metadata: octopus_text,
            reply: *const octopus_component_reply,
        ) -> octopus_status,
    >,
    /// Of a serializer: the metadata in these bytes, as JSON. Any thread, several at a time.
    pub deserialize: Option<
        unsafe extern "C" fn(
            instance: *mut c_void,
            bytes: octopus_bytes,
            reply: *const octopus_component_reply,
        ) -> octopus_status,
    >,
}

// SAFETY: `#[repr(C)]`, the size first, and zeros are NULL pointers and absent functions.
unsafe impl Growing for octopus_component {}

/// What the host registered; its context is destroyed when no instance is left.
pub struct HostComponent {
    functions: octopus_component,
    context: Owned,
}

// SAFETY: the header says that the functions are called from any thread, and which of them at the same time.
unsafe impl Send for HostComponent {}
// SAFETY: as above.
unsafe impl Sync for HostComponent {}

impl HostComponent {
    pub fn new(component: octopus_component) -> Self {
        let context = Owned { context: component.context, destroy: component.destroy };
        HostComponent { functions: component, context }
    }

    /// How components of this kind are made, if the host gave what that takes.
    pub fn maker(self, kind: i32) -> Result<Maker> {
        let component = &self.functions;
        let missing = |functions: &str| Err(Error::invalid(format!("component: {functions} are needed, one is NULL")));
        match kind {
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
                Ok(Maker::Validator(Box::new(move |json| Ok(Arc::new(Instance::make(&shared, json)?)))))
            }
            OCTOPUS_ROLE_SELECTOR => {
                let shared = Arc::new(self);
                Ok(Maker::Selector(Box::new(move |json| Ok(Box::new(Instance::make(&shared, json)?)))))
            }
            OCTOPUS_ROLE_SERIALIZER => {
                let shared = Arc::new(self);
                Ok(Maker::Serializer(Box::new(move |json| Ok(Arc::new(Instance::make(&shared, json)?)))))
            }
            other => {
                Err(Error::invalid(format!("kind: {other} is none of OCTOPUS_ROLE_VALIDATOR, _SELECTOR, _SERIALIZER")))
            }
        }
    }
}

/// One component of the host's, ended once.
struct Instance {
    of: Arc<HostComponent>,
    instance: *mut c_void,
}

// SAFETY: the header says that the functions are called from any thread; selectors are called through `&mut` only.
unsafe impl Send for Instance {}
// SAFETY: as above; validators and serializers also at the same time.
unsafe impl Sync for Instance {}

impl Drop for Instance {
    fn drop(&mut self) {
        if let Some(end) = self.of.functions.destroy_instance
            && !process_exit::has_begun()
        {
            // SAFETY: the host's own instance, ended once.
            unsafe { end(self.instance) };
        }
    }
}

impl Instance {
    fn make(of: &Arc<HostComponent>, json: &str) -> Result<Self> {
        let mut instance = null_mut();
        CollectedReply::of("make", |reply| {
            let make = of.functions.make?;
            // SAFETY: the host's function with its context, not destroyed; text and reply live during the call.
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
            // SAFETY: the host's function and instance, not ended; what is given lives during the call.
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
            // SAFETY: the host's function and instance, not ended, and nobody else calls it; what is given lives during
            // the call.
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
            let said = "the topic's serializer made something of its metadata that is not UTF-8";
            Error::new(Kind::MalformedRecord, format!("{said}: {why}"))
        })
    }
}

/// Has the host's function `select` choose one of so many partitions, and checks its choice.
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

/// What a function of the host's gives through its reply.
#[derive(Default)]
pub(super) struct CollectedReply {
    bytes: Vec<u8>,
    /// Why what was appended can't be all.
    broken: Option<Error>,
    why: Option<String>,
}

impl CollectedReply {
    /// Calls a function with a reply, and gives the bytes that it appended or the failure that it returned.
    pub(super) fn of(
        function: &str,
        call: impl FnOnce(*const octopus_component_reply) -> Option<octopus_status>,
    ) -> Result<Vec<u8>> {
        if process_exit::has_begun() {
            return Err(failed(function, "it is not called any more, since the process exits"));
        }
        let mut answer = CollectedReply::default();
        let reply = octopus_component_reply {
            size: size_of::<octopus_component_reply>() as u64,
            token: (&raw mut answer).cast(),
            append: Some(append),
            refuse: Some(refuse),
        };
        match call(&reply) {
            Some(0..) => match answer.broken {
                None => Ok(answer.bytes),
                Some(error) => Err(failed(function, error.message())),
            },
            Some(status) => {
                Err(failed(function, &answer.why.unwrap_or_else(|| format!("it returned {status} and gave no reason"))))
            }
            None => Err(failed(function, "it is NULL")),
        }
    }
}

fn failed(function: &str, why: &str) -> Error {
    Error::new(Kind::HostCallback, format!("the host's component failed in {function}: {why}"))
}

unsafe extern "C" fn append(token: *mut c_void, bytes: octopus_bytes) {
    // SAFETY: the answer that the reply was made with; the host hands it back during the call only. Bytes are NULL or
    // readable.
    let _ = catch_unwind(AssertUnwindSafe(|| unsafe {
        let Some(answer) = token.cast::<CollectedReply>().as_mut() else { return };
        match bytes.read("the bytes given to append") {
            Ok(bytes) => answer.bytes.extend_from_slice(bytes),
            Err(error) => answer.broken = Some(error),
        }
    }));
}

unsafe extern "C" fn refuse(token: *mut c_void, why: octopus_text) {
    // SAFETY: as in `append`.
    let _ = catch_unwind(AssertUnwindSafe(|| unsafe {
        let why = octopus_bytes { data: why.data.cast(), size: why.size };
        if let (Some(answer), Ok(why)) = (token.cast::<CollectedReply>().as_mut(), why.read("reply")) {
            answer.why = Some(String::from_utf8_lossy(why).into_owned());
        }
    }));
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

    /// Appends what its metadata names: nothing at NULL, or bytes that are no UTF-8.
    unsafe extern "C" fn serialize(
        _: *mut c_void,
        metadata: octopus_text,
        reply: *const octopus_component_reply,
    ) -> octopus_status {
        let bad = octopus_bytes { data: std::ptr::null(), size: 5 };
        // SAFETY: the reply of a running call.
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
        // SAFETY: the reply of a running call.
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
            Maker::Serializer(make) => make("{}").unwrap(),
            _ => panic!("another kind"),
        }
    }

    #[test]
    fn bytes_that_a_component_could_not_append_fail_it() {
        assert_eq!(serializer().serialize("").unwrap(), b"ab");
        let error = serializer().serialize("{}").unwrap_err();
        assert_eq!(error.kind(), Kind::HostCallback);
        assert!(error.message().contains("NULL with a size of 5"), "{error}");
    }

    #[test]
    fn what_a_serializer_reads_that_is_no_text_is_malformed_as_what_is_no_json_is() {
        assert_eq!(serializer().deserialize(b"x").unwrap_err().kind(), Kind::MalformedRecord);
    }
}
