//! The handles that all inputs share, and callbacks of a host, which behave as a script says.

use std::cell::Cell;
use std::ffi::c_void;
use std::ptr::{null, null_mut};
use std::sync::LazyLock;

use super::super::input::Input;
use super::super::memory::{Memory, bytes_of};
use crate::abi::*;

/// The type of the components that the host registers.
const BY_HOST: &str = "by host";
/// The partition that the consumer reads.
const READ_PARTITION: u32 = 2;

pub struct Host {
    pub driver: *mut octopus_driver,
    pub topic: *mut octopus_topic,
    /// Its configuration makes the creation of a producer fail after all arguments are checked,
    /// unless the options of the producer correct it.
    pub rejecting: *mut octopus_topic,
    /// Kept, so that its handle is no leak: a topic does not hold its driver.
    _rejecting_driver: *mut octopus_driver,
    pub plain: *mut octopus_producer,
    pub small: *mut octopus_producer,
    pub by_host: *mut octopus_producer,
    pub consumer: *mut octopus_consumer,
    /// The partition that `consumer` reads.
    pub partition: u32,
    pub events: Vec<*mut octopus_event>,
    pub pool: *mut octopus_thread_pool,
}

// SAFETY: the ABI allows the use of handles on any thread.
unsafe impl Send for Host {}
// SAFETY: the ABI allows the concurrent use of handles.
unsafe impl Sync for Host {}

fn ok(status: octopus_status, error: *mut octopus_error) {
    assert_eq!(status, OCTOPUS_OK, "{}", super::describe(error, status));
}

impl Host {
    /// Created once and used by all inputs: two embedded Kafkas, and a handle of each kind.
    pub fn get() -> &'static Host {
        static HOST: LazyLock<Host> = LazyLock::new(Host::new);
        &HOST
    }

    fn new() -> Self {
        let driver = driver(r#"{"embedded": {"partitions": 3}}"#);
        for (kind, component) in
            [OCTOPUS_ROLE_VALIDATOR, OCTOPUS_ROLE_SELECTOR, OCTOPUS_ROLE_SERIALIZER].map(|kind| (kind, component()))
        {
            let mut error = null_mut();
            let name = octopus_text::of(BY_HOST);
            // SAFETY: all pointers are to live locals, and all handles are live.
            unsafe { ok((DRIVER.register_component.unwrap())(driver, kind, name, &component, &mut error), error) };
        }
        let topic = open(driver, "plain", octopus_text::EMPTY);
        let by_host = open(driver, "by-host", octopus_text::of(r#"{"type": "by host"}"#));
        let small = octopus_text::of(r#"{"kafka": {"message.max.bytes": 1000}}"#);
        // Producers are idempotent, which requires `acks=all`.
        let invalid = r#"{"embedded": {}, "disable_info_topic": true, "kafka": {"acks": 1}}"#;
        let rejecting_driver = self::driver(invalid);
        let plain = producer(topic, octopus_text::EMPTY);
        let read = open(driver, "read", octopus_text::EMPTY);
        let (consumer, events) = events(read, producer(read, octopus_text::EMPTY));
        let mut pool = null_mut();
        let mut error = null_mut();
        // SAFETY: all pointers are to live locals.
        unsafe { ok((THREAD_POOL.create.unwrap())(0, &mut pool, &mut error), error) };
        Host {
            driver,
            topic,
            rejecting: open(rejecting_driver, "rejecting", octopus_text::EMPTY),
            _rejecting_driver: rejecting_driver,
            plain,
            small: producer(topic, small),
            by_host: producer(by_host, octopus_text::EMPTY),
            consumer,
            partition: READ_PARTITION,
            events,
            pool,
        }
    }
}

/// # Safety
/// The plugin calls it as the contract of the callback in include/octopus.h says.
unsafe extern "C" fn ignore_log(_: *mut c_void, _: i32, _: octopus_text, _: octopus_text) {}

fn driver(config: &'static str) -> *mut octopus_driver {
    let (mut driver, mut error) = (null_mut(), null_mut());
    let mut services: octopus_host_services = sized();
    services.log.function = Some(ignore_log);
    // SAFETY: all pointers are to live locals.
    unsafe {
        ok((DRIVER.create.unwrap())(octopus_text::of(config), &services, &mut driver, &mut error), error);
    }
    driver
}

fn open(driver: *mut octopus_driver, name: &'static str, components: octopus_text) -> *mut octopus_topic {
    let (mut topic, mut error) = (null_mut(), null_mut());
    let mut args: octopus_create_topic_args = sized();
    (args.validator, args.selector, args.serializer) = (components, components, components);
    let name = octopus_text::of(name);
    // SAFETY: all pointers are to live locals, and all handles are live.
    unsafe {
        ok((DRIVER.create_topic.unwrap())(driver, name, &args, &mut error), error);
        ok((DRIVER.open_topic.unwrap())(driver, name, &mut topic, &mut error), error);
    }
    topic
}

fn producer(topic: *mut octopus_topic, options: octopus_text) -> *mut octopus_producer {
    let (mut producer, mut error) = (null_mut(), null_mut());
    let mut args: octopus_producer_args = sized();
    args.options = options;
    // SAFETY: all pointers are to live locals, and all handles are live.
    unsafe { ok((TOPIC.make_producer.unwrap())(topic, &args, &mut producer, &mut error), error) };
    producer
}

/// A consumer of a topic that inputs do not push to, and the events that it has pulled. Releases
/// the producer.
fn events(
    topic: *mut octopus_topic,
    producer: *mut octopus_producer,
) -> (*mut octopus_consumer, Vec<*mut octopus_event>) {
    let large = vec![7; 10_000];
    let mut events = Vec::new();
    let (mut consumer, mut error, target) = (null_mut(), null_mut(), READ_PARTITION);
    let mut args: octopus_consumer_args = sized();
    (args.name, args.targets, args.target_count) = (octopus_text::of("reader"), &target, 1);
    // SAFETY: all pointers are to live locals, all handles are live, and each future is released
    // once.
    unsafe {
        ok((TOPIC.make_consumer.unwrap())(topic, &args, &mut consumer, &mut error), error);
        for data in [&b""[..], b"some", &large] {
            let (mut future, mut event) = (null_mut(), null_mut());
            let segment = octopus_bytes::view(data);
            let mut push: octopus_push_args = sized();
            (push.segments, push.segment_count) = (&segment, 1);
            (push.partition, push.has_partition) = (READ_PARTITION.into(), 1);
            ok((PRODUCER.push.unwrap())(producer, &push, null_mut(), &mut error), error);
            ok((CONSUMER.pull.unwrap())(consumer, &mut future, &mut error), error);
            ok((FUTURE.wait.unwrap())(future, 20_000, &mut error), error);
            ok((FUTURE.event.unwrap())(future, &mut event, &mut error), error);
            (FUTURE.release.unwrap())(future);
            events.push(event);
        }
        (PRODUCER.release.unwrap())(producer);
    }
    (consumer, events)
}

/// The behavior of the callbacks of the host, and counts of their calls.
pub struct Script {
    status: octopus_status,
    appended: Vec<octopus_bytes>,
    reason: octopus_text,
    pub partition: u32,
    pub called: Cell<u32>,
    pub destroyed: Cell<u32>,
}

impl Script {
    pub fn read(memory: &mut Memory, input: &mut Input) -> Box<Script> {
        let status = match input.one_of(3) {
            0 => input.number() as octopus_status,
            _ => OCTOPUS_OK,
        };
        let appended = (0..input.one_of(3)).map(|_| memory.bytes(input)).collect();
        let partition = if input.is() { u32::from(input.one_of(2)) } else { input.number() as u32 };
        let reason = memory.text(input);
        Box::new(Script { status, appended, reason, partition, called: Cell::new(0), destroyed: Cell::new(0) })
    }

    pub fn context(&self) -> *mut c_void {
        std::ptr::from_ref(self).cast_mut().cast()
    }

    pub fn status(&self) -> octopus_status {
        self.status
    }

    /// Whether a call of a function with this script fails.
    pub fn fails(&self) -> bool {
        // SAFETY: `appended` is from a `Memory` that lives as long as the input.
        self.status < 0 || self.appended.iter().any(|bytes| unsafe { bytes_of(*bytes) }.is_none())
    }

    pub fn appended_size(&self) -> usize {
        // SAFETY: `appended` is from a `Memory` that lives as long as the input.
        self.appended.iter().filter_map(|bytes| unsafe { bytes_of(*bytes) }).map(<[u8]>::len).sum()
    }

    /// # Safety
    /// `reply` is the reply of a call that is running.
    unsafe fn reply_to(&self, reply: *const octopus_component_reply) -> octopus_status {
        self.called.set(self.called.get() + 1);
        // SAFETY: `reply` is valid during the call (fn contract); `appended` and `reason` are from
        // a `Memory` that lives as long as the input.
        unsafe {
            let reply = &*reply;
            for bytes in &self.appended {
                (reply.append.unwrap())(reply.token, *bytes);
            }
            (reply.refuse.unwrap())(reply.token, self.reason);
        }
        self.status
    }

    /// Runs `body`. During it, the components of the host behave as this script says.
    pub fn direct<R>(&self, body: impl FnOnce() -> R) -> R {
        CURRENT.set(self);
        let result = body();
        CURRENT.set(null());
        result
    }
}

thread_local! {
    static CURRENT: Cell<*const Script> = const { Cell::new(null()) };
}

/// The script of a callback: `context`, or the script that directs this thread if that is NULL.
///
/// # Safety
/// `context` is NULL or points to a script that lives for `'a`.
unsafe fn script<'a>(context: *mut c_void) -> Option<&'a Script> {
    // SAFETY: `context` is NULL or a live script (fn contract); `direct` resets `CURRENT` before
    // its script is dropped.
    unsafe { if context.is_null() { CURRENT.get() } else { context.cast_const().cast::<Script>() }.as_ref() }
}

/// # Safety
/// The plugin calls it as the contract of the callback in include/octopus.h says.
pub unsafe extern "C" fn destroy(context: *mut c_void) {
    // SAFETY: `context` is a script, which outlives the objects that call this.
    if let Some(script) = unsafe { script(context) } {
        script.destroyed.set(script.destroyed.get() + 1);
    }
}

/// # Safety
/// The plugin calls it as the contract of the callback in include/octopus.h says.
pub unsafe extern "C" fn prepare(
    context: *mut c_void,
    segments: *const octopus_bytes,
    segment_count: u64,
    reply: *const octopus_component_reply,
) -> octopus_status {
    // SAFETY: the library calls this with `segment_count` live segments and a valid reply;
    // `context` is NULL or a live script.
    unsafe {
        for at in 0..segment_count as usize {
            bytes_of(*segments.add(at)).expect("the segments of the event");
        }
        script(context).map_or(OCTOPUS_OK, |script| script.reply_to(reply))
    }
}

/// # Safety
/// The plugin calls it as the contract of the callback in include/octopus.h says.
pub unsafe extern "C" fn choose(
    context: *mut c_void,
    _: i64,
    _: u32,
    partition: *mut u32,
    reply: *const octopus_component_reply,
) -> octopus_status {
    // SAFETY: the library calls this with valid arguments; the context is NULL or a live script.
    unsafe {
        let Some(script) = script(context) else { return OCTOPUS_OK };
        partition.write(script.partition);
        script.reply_to(reply)
    }
}

/// # Safety
/// The plugin calls it as the contract of the callback in include/octopus.h says.
unsafe extern "C" fn make(
    _: *mut c_void,
    _: octopus_text,
    _: *mut *mut c_void,
    _: *const octopus_component_reply,
) -> octopus_status {
    OCTOPUS_OK
}

/// # Safety
/// The plugin calls it as the contract of the callback in include/octopus.h says.
unsafe extern "C" fn validate(
    instance: *mut c_void,
    metadata: octopus_text,
    segments: *const octopus_bytes,
    segment_count: u64,
    reply: *const octopus_component_reply,
) -> octopus_status {
    // SAFETY: the library calls this with valid arguments; the context is NULL or a live script.
    unsafe {
        metadata.read("metadata").expect("metadata is UTF-8");
        prepare(instance, segments, segment_count, reply)
    }
}

/// # Safety
/// The plugin calls it as the contract of the callback in include/octopus.h says.
unsafe extern "C" fn select(
    instance: *mut c_void,
    _: octopus_text,
    requested: i64,
    partitions: u32,
    partition: *mut u32,
    reply: *const octopus_component_reply,
) -> octopus_status {
    // SAFETY: the library calls this with valid arguments; the context is NULL or a live script.
    unsafe { choose(instance, requested, partitions, partition, reply) }
}

/// # Safety
/// The plugin calls it as the contract of the callback in include/octopus.h says.
unsafe extern "C" fn serialize(
    instance: *mut c_void,
    _: octopus_text,
    reply: *const octopus_component_reply,
) -> octopus_status {
    // SAFETY: the library calls this with valid arguments; the context is NULL or a live script.
    unsafe { script(instance).map_or(OCTOPUS_OK, |script| script.reply_to(reply)) }
}

/// # Safety
/// The plugin calls it as the contract of the callback in include/octopus.h says.
unsafe extern "C" fn deserialize(
    instance: *mut c_void,
    _: octopus_bytes,
    reply: *const octopus_component_reply,
) -> octopus_status {
    // SAFETY: the library calls this with valid arguments; the context is NULL or a live script.
    unsafe { script(instance).map_or(OCTOPUS_OK, |script| script.reply_to(reply)) }
}

/// A component with the functions of all roles.
pub fn component() -> octopus_component {
    octopus_component {
        make: Some(make),
        validate: Some(validate),
        select: Some(select),
        serialize: Some(serialize),
        deserialize: Some(deserialize),
        ..sized()
    }
}
