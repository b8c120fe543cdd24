//! Calls that take ownership of callbacks: each callback is destroyed once, whether the call
//! succeeds or not.

use std::ffi::c_void;
use std::ptr::{null, null_mut};

use super::super::input::Input;
use super::super::memory::{Memory, bytes_of, known};
use super::host::{Host, Script, component, destroy};
use super::{call, is_place, output};
use crate::abi::*;

/// An invalid topic name, so that the call fails without a request to a broker; or an invalid text.
fn invalid_name(memory: &mut Memory, input: &mut Input) -> octopus_text {
    let mut name = memory.text(input);
    if !name.data.is_null() && name.size > 0 {
        // SAFETY: `name` is from `memory`, and has at least one byte.
        unsafe { name.data.cast_mut().write(-1) };
    } else if !name.data.is_null() {
        name = octopus_text::EMPTY;
    }
    name
}

/// Producers and consumers whose creation fails after all arguments are checked.
pub fn make_client(host: &Host, memory: &mut Memory, input: &mut Input) {
    let pool = if input.one_of(4) == 0 { host.pool } else { null_mut() };
    let name = memory.text(input);
    let options = memory.text(input);
    let (batch_size, max_batches) = (input.number(), input.number());
    // SAFETY: pointers are NULL, misaligned or from `memory`; handles are NULL or live; new handles
    // are released.
    unsafe {
        if input.is() {
            let ordering = i32::from(input.one_of(4)) - 1;
            let args = octopus_producer_args {
                name,
                options,
                batch_size,
                max_batches,
                ordering,
                thread_pool: pool,
                ..sized()
            };
            let args = memory.growing(input, args);
            let place = output(memory, input, null_mut());
            let status =
                call(memory, input, |error| (TOPIC.make_producer.unwrap())(host.rejecting, args, place, error));
            let is_possible = is_place(place) && (args.is_null() || known(args).is_some());
            assert!(is_possible || status == OCTOPUS_INVALID_ARGUMENT, "status {status}");
            if status == OCTOPUS_OK {
                (PRODUCER.release.unwrap())(place.read());
            }
            return;
        }
        // A partition that does not exist makes the creation fail.
        let targets: Vec<u32> = (0..input.one_of(4)).map(|_| input.number() as u32).chain([u32::MAX]).collect();
        let target_count = targets.len() as u64;
        let targets = match input.one_of(8) {
            0 => null_mut(),
            1 => memory.misaligned(targets.len() * 4),
            _ => memory.array(&targets),
        };
        let args = octopus_consumer_args {
            name,
            options,
            batch_size,
            max_batches,
            targets,
            target_count,
            thread_pool: if input.one_of(8) == 0 { pool } else { null() },
            ..sized()
        };
        let args = memory.growing(input, args);
        let would_succeed = known(args).is_some_and(|args| args.target_count == 0);
        let place = if would_succeed { null_mut() } else { output(memory, input, null_mut()) };
        let status = call(memory, input, |error| (TOPIC.make_consumer.unwrap())(host.rejecting, args, place, error));
        let is_rejected = [OCTOPUS_INVALID_ARGUMENT, OCTOPUS_INVALID_CONFIGURATION].contains(&status);
        assert!(is_rejected, "status {status}");
    }
}

/// Drivers, topics and components whose creation fails.
pub fn create(host: &Host, memory: &mut Memory, input: &mut Input) {
    let driver = if input.one_of(8) == 0 { null_mut() } else { host.driver };
    match input.one_of(6) {
        0 => create_driver(memory, input),
        1 | 2 => {
            let (options, validator) = (memory.text(input), memory.text(input));
            let (selector, serializer) = (memory.text(input), memory.text(input));
            let args = octopus_create_topic_args { options, validator, selector, serializer, ..sized() };
            let args = memory.growing(input, args);
            let name = invalid_name(memory, input);
            // SAFETY: pointers are NULL, misaligned or from `memory`; handles are NULL or live.
            let status =
                call(memory, input, |error| unsafe { (DRIVER.create_topic.unwrap())(driver, name, args, error) });
            assert!(status < OCTOPUS_OK, "a topic was created");
        }
        3 => {
            let name = invalid_name(memory, input);
            let place = output(memory, input, null_mut());
            let exists = output(memory, input, 7);
            // SAFETY: pointers are NULL, misaligned or from `memory`; handles are NULL or live.
            let status = call(memory, input, |error| unsafe {
                match name.size % 4 {
                    0 => (DRIVER.open_topic.unwrap())(driver, name, place, error),
                    1 => (DRIVER.topic_exists.unwrap())(driver, name, exists, error),
                    2 => (DRIVER.delete_topic.unwrap())(driver, name, error),
                    _ => (DRIVER.empty_topic.unwrap())(driver, name, error),
                }
            });
            assert_eq!(status, OCTOPUS_INVALID_ARGUMENT);
        }
        _ => register(driver, memory, input),
    }
}

fn create_driver(memory: &mut Memory, input: &mut Input) {
    let scripts: Vec<_> = (0..6).map(|_| Script::read(memory, &mut Input::new(&[]))).collect();
    let mut services: octopus_host_services = sized();
    let has = input.byte();
    macro_rules! give {
        ($index:literal, $field:ident, $function:expr) => {
            services.$field.function = (has >> $index & 1 == 1).then_some($function);
            services.$field.context = scripts[$index].context();
            services.$field.destroy = Some(destroy);
        };
    }
    give!(0, log, log);
    give!(1, statistics, statistics);
    give!(2, fatal, fatal);
    give!(3, rebalance, rebalance);
    give!(4, token, token);
    give!(5, authorization, token);
    (services.has_components, services.reserved) = (input.number() as u32, input.number() as u32);
    let services = memory.growing(input, services);
    let config = match input.one_of(3) {
        0 => octopus_text::of(r#"{"embedded": {"brokers": 0}}"#),
        _ => memory.text(input),
    };
    // SAFETY: `config` is from `memory`.
    let words = unsafe { bytes_of(octopus_bytes { data: config.data.cast(), size: config.size }) }.unwrap_or_default();
    if ["\\", "kafka", "embedded"].iter().any(|key| memchr::memmem::find(words, key.as_bytes()).is_some()) {
        return; // the call could create a driver, whose threads use the scripts after this function returns
    }
    let place = output(memory, input, null_mut());
    // SAFETY: pointers are NULL, misaligned or from `memory`; the scripts outlive the call, and no
    // driver is created that could use them later.
    unsafe {
        let status = call(memory, input, |error| (DRIVER.create.unwrap())(config, services, place, error));
        assert!(status < OCTOPUS_OK, "a driver was created");
        let known = known(services);
        let taken = known.map_or([false; 6], |services| {
            [
                services.log.destroy,
                services.statistics.destroy,
                services.fatal.destroy,
                services.rebalance.destroy,
                services.token.destroy,
                services.authorization.destroy,
            ]
            .map(|destroy| destroy.is_some())
        });
        for (script, is_taken) in scripts.iter().zip(taken) {
            assert_eq!(script.destroyed.get(), u32::from(is_taken), "status {status}");
        }
    }
}

/// # Safety
/// The plugin calls it as the contract of the callback in include/octopus.h says.
unsafe extern "C" fn log(_: *mut c_void, _: i32, _: octopus_text, _: octopus_text) {}
/// # Safety
/// The plugin calls it as the contract of the callback in include/octopus.h says.
unsafe extern "C" fn statistics(_: *mut c_void, _: octopus_text, _: octopus_text) {}
/// # Safety
/// The plugin calls it as the contract of the callback in include/octopus.h says.
unsafe extern "C" fn fatal(_: *mut c_void, _: octopus_text, _: i32, _: octopus_text) {}
/// # Safety
/// The plugin calls it as the contract of the callback in include/octopus.h says.
unsafe extern "C" fn rebalance(_: *mut c_void, _: octopus_text, _: i32, _: *const u32, _: u64) {}
/// # Safety
/// The plugin calls it as the contract of the callback in include/octopus.h says.
unsafe extern "C" fn token(_: *mut c_void, _: octopus_text, _: *const octopus_token_reply) -> octopus_status {
    OCTOPUS_OK
}

fn register(driver: *mut octopus_driver, memory: &mut Memory, input: &mut Input) {
    let script = Script::read(memory, &mut Input::new(&[]));
    let mut given = component();
    given.context = script.context();
    given.destroy = Some(destroy);
    let missing = input.byte();
    given.make = given.make.filter(|_| missing & 1 == 0);
    given.validate = given.validate.filter(|_| missing & 2 == 0);
    given.select = given.select.filter(|_| missing & 4 == 0);
    given.serialize = given.serialize.filter(|_| missing & 8 == 0);
    let given = memory.growing(input, given);
    let kind = if input.is() { i32::from(input.one_of(4)) - 1 } else { input.number() as i32 };
    let name = match input.one_of(3) {
        0 => octopus_text::of("by host"),
        1 => octopus_text::of("default"),
        _ => invalid_name(memory, input),
    };
    // SAFETY: pointers are NULL, misaligned or from `memory`; handles are NULL or live.
    unsafe {
        let status =
            call(memory, input, |error| (DRIVER.register_component.unwrap())(driver, kind, name, given, error));
        assert_eq!(status, OCTOPUS_INVALID_ARGUMENT, "a component was registered, and it can't be removed");
        let is_taken = known(given).is_some_and(|component| component.destroy.is_some());
        assert_eq!(script.destroyed.get(), u32::from(is_taken));
    }
}

/// Thread pools of the host, and tasks.
pub fn pool(host: &Host, memory: &mut Memory, input: &mut Input) {
    if input.one_of(4) == 0 {
        return create_pool(memory, input);
    }
    let script = Script::read(memory, input);
    let mut functions: octopus_pool_functions = sized();
    functions.context = script.context();
    functions.destroy = Some(destroy);
    functions.submit = (input.one_of(8) > 0).then_some(submit);
    functions.pending = input.is().then_some(count);
    functions.thread_count = (input.one_of(8) > 0).then_some(count);
    let functions = memory.growing(input, functions);
    let place = output(memory, input, null_mut());
    // SAFETY: pointers are NULL, misaligned or from `memory`; handles are live until their release.
    unsafe {
        let status = call(memory, input, |error| (THREAD_POOL.from_host.unwrap())(functions, place, error));
        let known = known(functions);
        let is_whole = known.is_some_and(|known| known.submit.is_some() && known.thread_count.is_some());
        assert_eq!(status == OCTOPUS_OK, is_whole && is_place(place), "status {status}");
        if status == OCTOPUS_OK {
            assert_eq!(script.destroyed.get(), 0);
            let tasks = output(memory, input, 7_u64);
            let threads = output(memory, input, 7_u64);
            call(memory, input, |error| (THREAD_POOL.pending.unwrap())(place.read(), tasks, error));
            call(memory, input, |error| (THREAD_POOL.thread_count.unwrap())(place.read(), threads, error));
            run_task(place.read(), memory, input);
            (THREAD_POOL.release.unwrap())(place.read());
        }
        let is_taken = known.is_some_and(|known| known.destroy.is_some());
        assert_eq!(script.destroyed.get(), u32::from(is_taken), "status {status}");
    }
    run_task(host.pool, memory, input);
}

fn create_pool(memory: &mut Memory, input: &mut Input) {
    // No threads, or more than the maximum: starting threads is slow.
    let threads = match input.number() {
        number if number <= 4_096 => 0,
        number => number,
    };
    let place = output(memory, input, null_mut());
    // SAFETY: `place` is NULL, misaligned or from `memory`; the new pool is released.
    unsafe {
        let status = call(memory, input, |error| (THREAD_POOL.create.unwrap())(threads, place, error));
        assert_eq!(status == OCTOPUS_OK, threads == 0 && is_place(place), "{threads} threads: status {status}");
        if status == OCTOPUS_OK {
            (THREAD_POOL.release.unwrap())(place.read());
        }
    }
}

/// # Safety
/// The plugin calls it as the contract of the callback in include/octopus.h says.
unsafe extern "C" fn run(context: *mut c_void) {
    // SAFETY: `context` is a script that outlives the task.
    let script = unsafe { &*context.cast::<Script>() };
    script.called.set(script.called.get() + 1);
}

fn run_task(pool: *mut octopus_thread_pool, memory: &mut Memory, input: &mut Input) {
    let script = Script::read(memory, &mut Input::new(&[]));
    let function = (input.one_of(8) > 0).then_some(run as unsafe extern "C" fn(_));
    let task = match input.one_of(8) {
        0 => null_mut(),
        1 => memory.misaligned(size_of::<octopus_task>()),
        _ => memory.array(&[octopus_task { function, context: script.context(), destroy: Some(destroy) }]),
    };
    let priority = input.number();
    // SAFETY: `task` is NULL, misaligned or from `memory`; the pool is live.
    let status = call(memory, input, |error| unsafe { (THREAD_POOL.submit.unwrap())(pool, task, priority, error) });
    assert!(status == OCTOPUS_OK || script.called.get() == 0);
    assert!(script.called.get() <= 1);
    assert_eq!(script.destroyed.get(), u32::from(is_place(task)), "status {status}");
}

/// Rejects the task, runs it, or drops it without running it, as the script says.
///
/// # Safety
/// The plugin calls it as the contract of the callback in include/octopus.h says.
unsafe extern "C" fn submit(context: *mut c_void, task: *const octopus_task, _: u64) -> octopus_status {
    // SAFETY: `context` is NULL or the script of the pool; `task` is valid during the call.
    unsafe {
        let Some(script) = context.cast::<Script>().as_ref() else { return OCTOPUS_KAFKA };
        if script.status() < 0 {
            return script.status();
        }
        let task = &*task;
        if script.partition % 2 == 0 {
            (task.function.unwrap())(task.context);
        }
        (task.destroy.unwrap())(task.context);
        script.status()
    }
}

/// # Safety
/// The plugin calls it as the contract of the callback in include/octopus.h says.
unsafe extern "C" fn count(context: *mut c_void) -> u64 {
    // SAFETY: `context` is NULL or the script of the pool.
    unsafe { context.cast::<Script>().as_ref() }.map_or(0, |script| script.partition.into())
}
