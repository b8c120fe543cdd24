//! Tests of the rules that hold for every slot: a panic inside becomes a status and poisons that
//! one object. Tests of the rules for structs that grow, and for the ownership of callbacks.

// The contract of each slot is in docs/reference/abi.md and in the comments of its table.
#![allow(clippy::missing_safety_doc, clippy::multiple_unsafe_ops_per_block)]

use std::cell::Cell;
use std::ffi::c_void;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

thread_local! {
    static PANIC_NEXT: Cell<bool> = const { Cell::new(false) };
}

/// Called in each slot's guard: panics if [`call_with_panic`] asked this thread for it.
pub fn panic_if_asked_to() {
    if PANIC_NEXT.replace(false) {
        panic!("injected");
    }
}

/// Makes a call panic inside its slot. Returns the status and the error message.
fn call_with_panic(call: impl FnOnce(*mut *mut octopus_error) -> octopus_status) -> (octopus_status, String) {
    let mut error = null_mut();
    PANIC_NEXT.set(true);
    let status = call(&mut error);
    assert!(!PANIC_NEXT.replace(false), "the slot did not run its body");
    (status, take_message(error))
}

fn take_message(error: *mut octopus_error) -> String {
    assert!(!error.is_null(), "no error object");
    // SAFETY: `error` is live, and is released after its message is copied.
    unsafe {
        let message = (ERROR.message.unwrap())(error).read("message").unwrap().to_owned();
        (ERROR.release.unwrap())(error);
        message
    }
}

fn assert_ok(status: octopus_status, error: *mut octopus_error) {
    if status != OCTOPUS_OK {
        panic!("status {status}: {}", if error.is_null() { "no message".to_owned() } else { take_message(error) });
    }
}

/// One handle of each type, on an embedded Kafka whose topic has one event.
struct Handles {
    driver: *mut octopus_driver,
    topic: *mut octopus_topic,
    producer: *mut octopus_producer,
    consumer: *mut octopus_consumer,
    delivery: *mut octopus_future,
    pull: *mut octopus_future,
    event: *mut octopus_event,
    pool: *mut octopus_thread_pool,
}

impl Handles {
    fn new() -> Self {
        let mut error = null_mut();
        let (mut driver, mut topic, mut producer, mut consumer) = (null_mut(), null_mut(), null_mut(), null_mut());
        let (mut delivery, mut pull, mut event, mut pool) = (null_mut(), null_mut(), null_mut(), null_mut());
        let name = octopus_text::of("topic");
        let mut consumer_args: octopus_consumer_args = sized();
        consumer_args.name = octopus_text::of("group");
        let event_args: octopus_push_args = sized();
        // SAFETY: all pointers are to live locals, and all handles are live.
        unsafe {
            let config = octopus_text::of(r#"{"embedded": {}}"#);
            assert_ok((DRIVER.create.unwrap())(config, null(), &mut driver, &mut error), error);
            assert_ok((DRIVER.create_topic.unwrap())(driver, name, null(), &mut error), error);
            assert_ok((DRIVER.open_topic.unwrap())(driver, name, &mut topic, &mut error), error);
            assert_ok((TOPIC.make_producer.unwrap())(topic, null(), &mut producer, &mut error), error);
            assert_ok((TOPIC.make_consumer.unwrap())(topic, &consumer_args, &mut consumer, &mut error), error);
            assert_ok((PRODUCER.push.unwrap())(producer, &event_args, &mut delivery, &mut error), error);
            assert_ok((FUTURE.wait.unwrap())(delivery, 10_000, &mut error), error);
            assert_ok((CONSUMER.pull.unwrap())(consumer, &mut pull, &mut error), error);
            assert_ok((FUTURE.wait.unwrap())(pull, 10_000, &mut error), error);
            assert_ok((FUTURE.event.unwrap())(pull, &mut event, &mut error), error);
            assert_ok((THREAD_POOL.create.unwrap())(0, &mut pool, &mut error), error);
        }
        Handles { driver, topic, producer, consumer, delivery, pull, event, pool }
    }
}

impl Drop for Handles {
    fn drop(&mut self) {
        // SAFETY: each handle is live, and is released once.
        unsafe {
            (THREAD_POOL.release.unwrap())(self.pool);
            (EVENT.release.unwrap())(self.event);
            (FUTURE.release.unwrap())(self.pull);
            (FUTURE.release.unwrap())(self.delivery);
            (CONSUMER.release.unwrap())(self.consumer);
            (PRODUCER.release.unwrap())(self.producer);
            (TOPIC.release.unwrap())(self.topic);
            (DRIVER.release.unwrap())(self.driver);
        }
    }
}

type Call<'a> = (&'static str, Box<dyn Fn(*mut *mut octopus_error) -> octopus_status + 'a>);

/// A call of every slot that takes a handle. The results are discarded.
fn calls(handles: &Handles) -> Vec<Call<'_>> {
    let name = octopus_text::of("topic");
    macro_rules! slot {
        ($table:ident.$slot:ident($($argument:expr),*)) => {
            (concat!(stringify!($table), ".", stringify!($slot)), Box::new(move |error| {
                // SAFETY: the handles are live and the outputs live during the call. A slot that
                // panics, or whose object is poisoned, writes no output, so no handle leaks.
                unsafe { ($table.$slot.unwrap())($($argument,)* error) }
            }) as Box<dyn Fn(*mut *mut octopus_error) -> octopus_status>)
        };
    }
    vec![
        slot!(DRIVER.create_topic(handles.driver, name, null())),
        slot!(DRIVER.open_topic(handles.driver, name, &mut null_mut())),
        slot!(DRIVER.delete_topic(handles.driver, name)),
        slot!(DRIVER.empty_topic(handles.driver, name)),
        slot!(DRIVER.topic_exists(handles.driver, name, &mut 0)),
        slot!(DRIVER.list_topics(handles.driver, &mut null_mut())),
        slot!(DRIVER.default_thread_pool(handles.driver, &mut null_mut())),
        slot!(DRIVER.register_component(handles.driver, 0, name, null())),
        slot!(DRIVER.describe(handles.driver, &mut null_mut())),
        slot!(DRIVER.stats(handles.driver, &mut sized())),
        slot!(DRIVER.stats_json(handles.driver, &mut null_mut())),
        slot!(TOPIC.name(handles.topic, &mut octopus_text::EMPTY.clone())),
        slot!(TOPIC.partition_count(handles.topic, &mut 0)),
        slot!(TOPIC.components(handles.topic, &mut octopus_text::EMPTY.clone())),
        slot!(TOPIC.make_producer(handles.topic, null(), &mut null_mut())),
        slot!(TOPIC.make_consumer(handles.topic, &sized(), &mut null_mut())),
        slot!(PRODUCER.push(handles.producer, &sized(), null_mut())),
        slot!(PRODUCER.push_many(handles.producer, null(), 0, null_mut(), &mut 0)),
        slot!(PRODUCER.flush(handles.producer, null_mut())),
        slot!(PRODUCER.max_event_size(handles.producer, &mut 0)),
        slot!(PRODUCER.close(handles.producer, 0)),
        slot!(PRODUCER.record_format(handles.producer, &mut 0)),
        slot!(PRODUCER.begin_transaction(handles.producer, null(), 0)),
        slot!(PRODUCER.commit_transaction(handles.producer, 0)),
        slot!(PRODUCER.abort_transaction(handles.producer, 0)),
        slot!(CONSUMER.pull(handles.consumer, &mut null_mut())),
        slot!(CONSUMER.pull_many(handles.consumer, 0, 0, null_mut(), &mut 0)),
        slot!(CONSUMER.process(handles.consumer, null(), 0, 0, null())),
        slot!(CONSUMER.commit(handles.consumer, 0)),
        slot!(CONSUMER.position(handles.consumer, 0, &mut 0)),
        slot!(CONSUMER.committed(handles.consumer, 0, &mut 0)),
        slot!(CONSUMER.lag(handles.consumer, 0, &mut 0)),
        slot!(CONSUMER.seek(handles.consumer, 0, 0)),
        slot!(CONSUMER.assignment(handles.consumer, null_mut(), 0, &mut 0)),
        slot!(CONSUMER.unsubscribe(handles.consumer)),
        slot!(CONSUMER.close(handles.consumer, 0)),
        slot!(FUTURE.wait(handles.delivery, 0)),
        slot!(FUTURE.test(handles.delivery, &mut 0)),
        slot!(FUTURE.on_complete(handles.delivery, null())),
        slot!(FUTURE.event_id(handles.delivery, &mut 0)),
        slot!(FUTURE.partition(handles.delivery, &mut 0)),
        slot!(FUTURE.event(handles.pull, &mut null_mut())),
        slot!(EVENT.view(handles.event, &mut sized())),
        slot!(EVENT.acknowledge(handles.event)),
        slot!(EVENT.attributes(handles.event, &mut sized())),
        slot!(EVENT.header(handles.event, 0, null_mut())),
        slot!(THREAD_POOL.submit(handles.pool, null(), 0)),
        slot!(THREAD_POOL.pending(handles.pool, &mut 0)),
        slot!(THREAD_POOL.thread_count(handles.pool, &mut 0)),
    ]
}

/// The number of slots without a status: they can't fail.
const WITHOUT_STATUS: usize = 7 + 2 + 1 + 1 + 1 + 1 + 2 + 2 + 1;
/// The number of slots that create an object without a handle: there is nothing to poison.
const WITHOUT_HANDLE: usize = 3;

/// A panic in any slot becomes `OCTOPUS_PANICKED`, and poisons the object of the call but no other
/// object.
#[test]
fn panic_in_any_slot_poisons_that_one_object() {
    let sample = Handles::new();
    let count = calls(&sample).len();
    assert_eq!(count + WITHOUT_HANDLE + WITHOUT_STATUS, slot_count(), "`calls` lacks a slot");
    // Joining a group takes most of the time, so several threads share the slots.
    const THREADS: usize = 8;
    std::thread::scope(|scope| {
        for first in 0..THREADS {
            scope.spawn(move || (first..count).step_by(THREADS).for_each(check_panic_of_slot));
        }
    });
    let others: Vec<_> = calls(&sample).into_iter().filter(|(name, _)| *name == "TOPIC.partition_count").collect();
    assert_eq!(others[0].1(null_mut()), OCTOPUS_OK, "another object is poisoned");
}

fn check_panic_of_slot(index: usize) {
    let handles = Handles::new();
    let all = calls(&handles);
    let (name, call) = &all[index];
    let (status, message) = call_with_panic(call);
    assert_eq!(status, OCTOPUS_PANICKED, "{name}");
    assert!(message.contains("injected"), "{name}: {message}");

    let mut error = null_mut();
    assert_eq!(call(&mut error), OCTOPUS_PANICKED, "{name} on a poisoned object");
    let message = take_message(error);
    assert!(message.contains("panicked") && message.contains("release it"), "{name}: {message}");
}

#[test]
fn panic_while_creating_a_driver_becomes_a_status() {
    let mut driver = null_mut();
    // SAFETY: all pointers are to live locals.
    let (status, message) = call_with_panic(|error| unsafe {
        (DRIVER.create.unwrap())(octopus_text::of(r#"{"embedded": {}}"#), null(), &mut driver, error)
    });
    assert_eq!((status, driver), (OCTOPUS_PANICKED, null_mut()));
    assert!(message.contains("injected"), "{message}");
}

/// The number of slots of all tables that are not NULL.
fn slot_count() -> usize {
    fn count<T>(table: &'static T) -> usize {
        let words = size_of::<T>() / 8;
        // SAFETY: a table consists of its size and pointers (asserted in `layout`), which are read
        // as numbers.
        let words = unsafe { std::slice::from_raw_parts(std::ptr::from_ref(table).cast::<usize>(), words) };
        words[1..].iter().filter(|slot| **slot != 0).count()
    }
    count(&ERROR)
        + count(&string::STRING)
        + count(&DRIVER)
        + count(&TOPIC)
        + count(&PRODUCER)
        + count(&CONSUMER)
        + count(&FUTURE)
        + count(&EVENT)
        + count(&THREAD_POOL)
}

#[test]
fn struct_is_read_up_to_the_smaller_of_both_sizes() {
    let mut args: octopus_push_args = sized();
    args.partition = 7;
    args.has_partition = 1;
    // SAFETY: each struct is a live local of at least the size in its first field.
    unsafe {
        assert_eq!(octopus_push_args::read(&args, "event").unwrap().partition, 7);
        args.size = 40;
        let older = octopus_push_args::read(&args, "event").unwrap();
        assert_eq!((older.partition, older.has_partition), (0, 0), "fields that an older host does not know are zero");
        let larger = [args.size + 1000, 0, 0, 0, 0, 9, 1, u64::MAX, 1, 1, 0, u64::MAX];
        let newer = octopus_push_args::read(larger.as_ptr().cast(), "event").unwrap();
        assert_eq!((newer.partition, newer.has_partition), (9, 1), "fields that only a newer host knows are ignored");
        for too_small in [0, 1, 7] {
            args.size = too_small;
            let error = octopus_push_args::read(&args, "event").map(drop).unwrap_err();
            assert!(error.message().contains(&format!("its size is {too_small}")), "{error}");
        }
        assert!(octopus_push_args::read(null(), "event").is_err());
    }
}

/// The stride of an array is the size of the host's struct, which may be older or newer than the
/// plugin's.
#[test]
fn array_stride_is_the_size_of_the_hosts_struct() {
    let words = size_of::<octopus_push_args>() / 8;
    for stride in [words - 1, words, words + 3] {
        let size = (stride * 8) as u64;
        // Three elements of the struct of an older, an equal and a newer host; the partition is the
        // sixth word.
        let mut array = vec![0_u64; 3 * stride];
        for (index, element) in array.chunks_mut(stride).enumerate() {
            element[0] = size;
            element[5] = 10 + index as u64;
        }
        // SAFETY: the array has three structs of the size in their first field.
        unsafe {
            let element = |index| octopus_push_args::element(array.as_ptr().cast(), index, "events");
            assert_eq!([0, 1, 2].map(|index| element(index).unwrap().partition), [10, 11, 12]);
        }
        array[stride] = size - 8;
        // SAFETY: as above; the second element is rejected.
        let error = unsafe { octopus_push_args::element(array.as_ptr().cast(), 1, "events") }.map(drop).unwrap_err();
        assert!(error.message().contains("the same size"), "{error}");
    }
    let odd = [12_u64, 0, 0, 0];
    // SAFETY: the size is rejected before anything behind it is read.
    assert!(unsafe { octopus_push_args::element(odd.as_ptr().cast(), 0, "events") }.is_err());
}

#[test]
fn struct_is_written_up_to_the_hosts_size() {
    let mut memory = [0xAAAA_AAAA_AAAA_AAAA_u64; 12];
    memory[0] = 24;
    let mut view: octopus_event_view = sized();
    view.id = 5;
    // SAFETY: the array is larger than the sizes in its first element.
    unsafe {
        view.write(memory.as_mut_ptr().cast(), "view").unwrap();
        assert_eq!(memory[0], 24, "the host's size was overwritten");
        assert_eq!(memory[1..3], [0, 0]);
        assert!(memory[3..].iter().all(|word| *word == 0xAAAA_AAAA_AAAA_AAAA), "written beyond the host's size");
        memory[0] = 96;
        view.write(memory.as_mut_ptr().cast(), "view").unwrap();
        assert_eq!((memory[7], memory[10]), (5, 0xAAAA_AAAA_AAAA_AAAA));
    }
}

static DESTROYED: AtomicUsize = AtomicUsize::new(0);

unsafe extern "C" fn destroy(_: *mut c_void) {
    DESTROYED.fetch_add(1, Ordering::SeqCst);
}

unsafe extern "C" fn log_nothing(_: *mut c_void, _: i32, _: octopus_text, _: octopus_text) {}

unsafe extern "C" fn rebalance_nothing(_: *mut c_void, _: octopus_text, _: i32, _: *const u32, _: u64) {}

/// `driver->create` owns the callbacks: each `destroy` is called once, also if no driver is
/// created, and at once for a callback without a function.
#[test]
fn callbacks_are_destroyed_once_even_if_create_fails() {
    let mut services: octopus_host_services = sized();
    services.log = octopus_log_callback { function: Some(log_nothing), context: null_mut(), destroy: Some(destroy) };
    services.rebalance =
        octopus_rebalance_callback { function: Some(rebalance_nothing), context: null_mut(), destroy: Some(destroy) };
    // Without a function, only the destructor is called.
    services.fatal = octopus_fatal_callback { function: None, context: null_mut(), destroy: Some(destroy) };
    let mut driver = null_mut();
    // SAFETY: all pointers are to live locals.
    unsafe {
        let bad = octopus_text::of("not JSON");
        let status = (DRIVER.create.unwrap())(bad, &services, &mut driver, null_mut());
        assert_eq!(status, OCTOPUS_INVALID_CONFIGURATION);
        assert_eq!(DESTROYED.swap(0, Ordering::SeqCst), 3);

        let good = octopus_text::of(r#"{"embedded": {}}"#);
        assert_eq!((DRIVER.create.unwrap())(good, &services, &mut driver, null_mut()), OCTOPUS_OK);
        assert_eq!(DESTROYED.load(Ordering::SeqCst), 1, "the context without a function");
        (DRIVER.release.unwrap())(driver);
    }
    let deadline = crate::support::deadline::Deadline::after(std::time::Duration::from_secs(20));
    while DESTROYED.load(Ordering::SeqCst) < 3 {
        assert!(!deadline.has_passed(), "destroyed: {}", DESTROYED.load(Ordering::SeqCst));
        std::thread::yield_now();
    }
}

#[test]
fn register_with_another_major_returns_null() {
    assert!(octopus_register(OCTOPUS_ABI_MAJOR + 1).is_null());
    let api = octopus_register(OCTOPUS_ABI_MAJOR);
    assert_eq!(api, octopus_register(OCTOPUS_ABI_MAJOR));
    // SAFETY: the table lives until the process ends.
    let api = unsafe { &*api };
    assert_eq!((api.abi_major, api.abi_minor), (OCTOPUS_ABI_MAJOR, OCTOPUS_ABI_MINOR));
    // SAFETY: the text lives until the process ends.
    let built_in = unsafe { api.built_in.read("built_in") }.unwrap();
    for feature in ["gzip", "snappy", "ssl", "lz4", "zstd", "sasl_plain", "sasl_scram", "sasl_oauthbearer", "oidc"] {
        assert!(built_in.split(',').any(|has| has.trim() == feature), "{feature} is missing: {built_in}");
    }
}

/// A pointer that is not aligned is rejected as a struct, as an array and as the place of a result.
#[test]
fn unaligned_pointer_is_an_invalid_argument() {
    let handles = Handles::new();
    let mut memory = [0_u64; 16];
    let odd = memory.as_mut_ptr().wrapping_byte_add(1);
    let event: octopus_push_args = sized();
    // SAFETY: handles and locals are live; nothing is read or written through the pointer that is
    // not aligned.
    unsafe {
        let push = |future, error| (PRODUCER.push.unwrap())(handles.producer, &event, future, error);
        let statuses = [
            push(odd.cast(), null_mut()),
            push(null_mut(), odd.cast()),
            (PRODUCER.push.unwrap())(handles.producer, odd.cast(), null_mut(), null_mut()),
            (PRODUCER.push_many.unwrap())(handles.producer, &event, 1, odd.cast(), &mut 0, null_mut()),
            (PRODUCER.push_many.unwrap())(handles.producer, &event, 1, null_mut(), odd, null_mut()),
            (PRODUCER.flush.unwrap())(handles.producer, odd.cast(), null_mut()),
            (TOPIC.partition_count.unwrap())(handles.topic, odd.cast(), null_mut()),
            (FUTURE.on_complete.unwrap())(handles.delivery, odd.cast(), null_mut()),
            (CONSUMER.process.unwrap())(handles.consumer, odd.cast(), 0, 1, null(), null_mut()),
            (THREAD_POOL.submit.unwrap())(handles.pool, odd.cast(), 0, null_mut()),
            (THREAD_POOL.create.unwrap())(0, odd.cast(), null_mut()),
            (THREAD_POOL.create.unwrap())(0, &mut null_mut(), odd.cast()),
        ];
        assert_eq!(statuses, [OCTOPUS_INVALID_ARGUMENT; 12]);
        assert_eq!(push(null_mut(), null_mut()), OCTOPUS_OK, "a rejected call poisoned the producer");
    }
    assert_eq!(memory, [0; 16]);
}
