//! What holds for every slot, tried on every slot that is built: a panic inside becomes a status and spoils that
//! one object. And the growing rules and callbacks, each at their one place.

use std::cell::Cell;
use std::ffi::c_void;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

thread_local! {
    static PANIC_NEXT: Cell<bool> = const { Cell::new(false) };
}

/// Called in each slot's guard: the defect that the next call on this thread shall have.
pub fn panic_if_asked_to() {
    if PANIC_NEXT.replace(false) {
        panic!("injected");
    }
}

/// Has the call panic inside, and returns its status and the error's message.
fn with_a_panic(call: impl FnOnce(*mut *mut octopus_error) -> octopus_status) -> (octopus_status, String) {
    let mut error = null_mut();
    PANIC_NEXT.set(true);
    let status = call(&mut error);
    assert!(!PANIC_NEXT.replace(false), "the slot never came to its body");
    (status, take_message(error))
}

fn take_message(error: *mut octopus_error) -> String {
    assert!(!error.is_null(), "no error object");
    // SAFETY: a live error, released after its message is copied.
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

fn sized<T: Growing>() -> T {
    let mut value = std::mem::MaybeUninit::<T>::zeroed();
    // SAFETY: `Growing` types begin with their size, and zeros are valid for the rest.
    unsafe {
        value.as_mut_ptr().cast::<u64>().write(size_of::<T>() as u64);
        value.assume_init()
    }
}

/// One of each handle, on an embedded Kafka with one event in its topic.
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
        // SAFETY: all pointers are to live locals, and handles are used before they are released.
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
        // SAFETY: each is released once.
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

/// Every built slot of every table that has a handle, called as a host would, results thrown away.
fn calls(handles: &Handles) -> Vec<Call<'_>> {
    let name = octopus_text::of("topic");
    macro_rules! slot {
        ($table:ident.$slot:ident($($argument:expr),*)) => {
            (concat!(stringify!($table), ".", stringify!($slot)), Box::new(move |error| {
                // SAFETY: live handles; the outputs live during the call, and what they get is never used: a slot
                // that panics or is spoiled writes nothing.
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
        slot!(THREAD_POOL.submit(handles.pool, null(), 0)),
        slot!(THREAD_POOL.pending(handles.pool, &mut 0)),
        slot!(THREAD_POOL.thread_count(handles.pool, &mut 0)),
    ]
}

/// Slots without a status: they can't fail, so nothing of theirs runs that could.
const WITHOUT_STATUS: usize = 7 + 2 + 1 + 1 + 1 + 1 + 2 + 2 + 1;
/// Slots that make an object from nothing: they have no handle that could be spoiled.
const WITHOUT_HANDLE: usize = 3;

#[test]
fn a_panic_in_any_slot_becomes_a_status_and_spoils_that_one_object() {
    let sample = Handles::new();
    let count = calls(&sample).len();
    assert_eq!(count + WITHOUT_HANDLE + WITHOUT_STATUS, built_slots(), "a slot that is built is not tried here");
    // Joining a group takes most of the time, so several are tried at once.
    const AT_ONCE: usize = 8;
    std::thread::scope(|scope| {
        for first in 0..AT_ONCE {
            scope.spawn(move || (first..count).step_by(AT_ONCE).for_each(try_a_panic));
        }
    });
    let others: Vec<_> = calls(&sample).into_iter().filter(|(name, _)| *name == "TOPIC.partition_count").collect();
    assert_eq!(others[0].1(null_mut()), OCTOPUS_OK, "other objects are as they were");
}

fn try_a_panic(index: usize) {
    let handles = Handles::new();
    let all = calls(&handles);
    let (name, call) = &all[index];
    let (status, message) = with_a_panic(call);
    assert_eq!(status, OCTOPUS_PANICKED, "{name}");
    assert!(message.contains("injected"), "{name}: {message}");

    let mut error = null_mut();
    assert_eq!(call(&mut error), OCTOPUS_PANICKED, "{name} on a spoiled object");
    let message = take_message(error);
    assert!(message.contains("spoiled") && message.contains("release it"), "{name}: {message}");
}

#[test]
fn a_panic_while_a_driver_is_made_becomes_a_status() {
    let mut driver = null_mut();
    // SAFETY: live locals.
    let (status, message) = with_a_panic(|error| unsafe {
        (DRIVER.create.unwrap())(octopus_text::of(r#"{"embedded": {}}"#), null(), &mut driver, error)
    });
    assert_eq!((status, driver), (OCTOPUS_PANICKED, null_mut()));
    assert!(message.contains("injected"), "{message}");
}

/// The number of slots that aren't NULL, counted in the tables themselves.
fn built_slots() -> usize {
    fn count<T>(table: &'static T) -> usize {
        let words = size_of::<T>() / 8;
        // SAFETY: a table is its size and then pointers (see `layout`), read as numbers.
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
fn a_struct_is_read_up_to_the_smaller_of_both_sizes() {
    let mut args: octopus_push_args = sized();
    args.partition = 7;
    args.has_partition = 1;
    // SAFETY: a live local of at least the size it says.
    unsafe {
        assert_eq!(octopus_push_args::read(&args, "event").unwrap().partition, 7);
        args.size = 40;
        let older = octopus_push_args::read(&args, "event").unwrap();
        assert_eq!((older.partition, older.has_partition), (0, 0), "what an older host does not know is zero");
        let larger = [args.size + 1000, 0, 0, 0, 0, 9, 1, u64::MAX, u64::MAX];
        let newer = octopus_push_args::read(larger.as_ptr().cast(), "event").unwrap();
        assert_eq!((newer.partition, newer.has_partition), (9, 1), "what only a newer host knows is left out");
        for refused in [0, 1, 7] {
            args.size = refused;
            let error = octopus_push_args::read(&args, "event").map(drop).unwrap_err();
            assert!(error.message().contains(&format!("its size is {refused}")), "{error}");
        }
        assert!(octopus_push_args::read(null(), "event").is_err());
    }
}

#[test]
fn elements_of_an_array_are_as_far_apart_as_the_hosts_struct_is_long() {
    let words = size_of::<octopus_push_args>() / 8;
    for stride in [words - 1, words, words + 3] {
        let size = (stride * 8) as u64;
        // Three elements of an older host's struct, of ours, and of a newer one's; the partition is the sixth word.
        let mut array = vec![0_u64; 3 * stride];
        for (index, element) in array.chunks_mut(stride).enumerate() {
            element[0] = size;
            element[5] = 10 + index as u64;
        }
        // SAFETY: an array of three structs of the size that they say.
        unsafe {
            let element = |index| octopus_push_args::element(array.as_ptr().cast(), index, "events");
            assert_eq!([0, 1, 2].map(|index| element(index).unwrap().partition), [10, 11, 12]);
        }
        array[stride] = size - 8;
        // SAFETY: as above.
        let error = unsafe { octopus_push_args::element(array.as_ptr().cast(), 1, "events") }.map(drop).unwrap_err();
        assert!(error.message().contains("all the same"), "{error}");
    }
    let odd = [12_u64, 0, 0, 0];
    // SAFETY: refused before anything beyond the size is read.
    assert!(unsafe { octopus_push_args::element(odd.as_ptr().cast(), 0, "events") }.is_err());
}

#[test]
fn a_struct_is_written_only_as_far_as_the_host_has_room() {
    let mut room = [0xAAAA_AAAA_AAAA_AAAA_u64; 12];
    room[0] = 24;
    let mut view: octopus_event_view = sized();
    view.id = 5;
    // SAFETY: the array is larger than any size it says.
    unsafe {
        view.write(room.as_mut_ptr().cast(), "view").unwrap();
        assert_eq!(room[0], 24, "the size stays the host's");
        assert_eq!(room[1..3], [0, 0]);
        assert!(room[3..].iter().all(|word| *word == 0xAAAA_AAAA_AAAA_AAAA), "beyond it nothing is touched");
        room[0] = 96;
        view.write(room.as_mut_ptr().cast(), "view").unwrap();
        assert_eq!((room[7], room[10]), (5, 0xAAAA_AAAA_AAAA_AAAA));
    }
}

static DESTROYED: AtomicUsize = AtomicUsize::new(0);

unsafe extern "C" fn destroy(_: *mut c_void) {
    DESTROYED.fetch_add(1, Ordering::SeqCst);
}

unsafe extern "C" fn log_nothing(_: *mut c_void, _: i32, _: octopus_text, _: octopus_text) {}

unsafe extern "C" fn rebalance_nothing(_: *mut c_void, _: octopus_text, _: i32, _: *const u32, _: u64) {}

#[test]
fn callbacks_are_taken_over_and_destroyed_once_also_when_no_driver_comes_of_it() {
    let mut services: octopus_host_services = sized();
    services.log = octopus_log_callback { function: Some(log_nothing), context: null_mut(), destroy: Some(destroy) };
    services.rebalance =
        octopus_rebalance_callback { function: Some(rebalance_nothing), context: null_mut(), destroy: Some(destroy) };
    // A destructor without a function: there is only the destroying to do.
    services.fatal = octopus_fatal_callback { function: None, context: null_mut(), destroy: Some(destroy) };
    let mut driver = null_mut();
    // SAFETY: live locals.
    unsafe {
        let bad = octopus_text::of("not JSON");
        let status = (DRIVER.create.unwrap())(bad, &services, &mut driver, null_mut());
        assert_eq!(status, OCTOPUS_INVALID_CONFIGURATION);
        assert_eq!(DESTROYED.swap(0, Ordering::SeqCst), 3);

        let good = octopus_text::of(r#"{"embedded": {}}"#);
        assert_eq!((DRIVER.create.unwrap())(good, &services, &mut driver, null_mut()), OCTOPUS_OK);
        assert_eq!(DESTROYED.load(Ordering::SeqCst), 1, "the one that is never called");
        (DRIVER.release.unwrap())(driver);
    }
    let patience = crate::deadline::Deadline::after(std::time::Duration::from_secs(20));
    while DESTROYED.load(Ordering::SeqCst) < 3 {
        assert!(!patience.has_passed(), "destroyed: {}", DESTROYED.load(Ordering::SeqCst));
        std::thread::yield_now();
    }
}

#[test]
fn only_the_known_major_is_registered() {
    assert!(octopus_register(OCTOPUS_ABI_MAJOR + 1).is_null());
    let api = octopus_register(OCTOPUS_ABI_MAJOR);
    assert_eq!(api, octopus_register(OCTOPUS_ABI_MAJOR));
    // SAFETY: lives until the process ends.
    let api = unsafe { &*api };
    assert_eq!((api.abi_major, api.abi_minor), (OCTOPUS_ABI_MAJOR, OCTOPUS_ABI_MINOR));
    // SAFETY: static texts.
    let built_in = unsafe { api.built_in.read("built_in") }.unwrap();
    for feature in ["gzip", "snappy", "ssl", "lz4", "zstd", "sasl_plain", "sasl_scram", "sasl_oauthbearer", "oidc"] {
        assert!(built_in.split(',').any(|has| has.trim() == feature), "{feature} is missing: {built_in}");
    }
}

#[test]
fn a_pointer_that_is_not_aligned_is_refused_where_a_struct_or_the_place_of_a_result_should_be() {
    let handles = Handles::new();
    let mut room = [0_u64; 16];
    let odd = room.as_mut_ptr().wrapping_byte_add(1);
    let event: octopus_push_args = sized();
    // SAFETY: live handles and locals; nothing is read or written at a place that is not aligned.
    unsafe {
        let push = |future, error| (PRODUCER.push.unwrap())(handles.producer, &event, future, error);
        let refused = [
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
        assert_eq!(refused, [OCTOPUS_INVALID_ARGUMENT; 12]);
        assert_eq!(push(null_mut(), null_mut()), OCTOPUS_OK, "what was refused spoiled nothing");
    }
    assert_eq!(room, [0; 16]);
}
