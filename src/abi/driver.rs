//! The driver's slots: arguments in, one call to [`crate::driver`], the result out.

use std::ffi::c_void;
use std::sync::Arc;

use super::args::{Growing, check_output, octopus_bytes, octopus_text};
use super::callback::{octopus_destroy_fn, octopus_host_services};
use super::error::octopus_error;
use super::guard::{call, guard};
use super::handle::{self, handle};
use super::status::octopus_status;
use super::string::{self, octopus_string};
use super::thread_pool::octopus_thread_pool;
use super::topic::octopus_topic;
use crate::driver::Driver;
use crate::services::Services;

/// One configured way to a Kafka.
pub struct octopus_driver {
    _private: [u8; 0],
}

handle!(Driver, octopus_driver, "driver");

/// How a topic is to be made; NULL or zeros give the defaults. The texts are read during the call.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct octopus_create_topic_args {
    /// `sizeof(octopus_create_topic_args)`, set by the host.
    pub size: u64,
    /// JSON object: `num_partitions`, `replication_factor`, `disable_info_topic`, `config` (docs/configuration.md).
    pub options: octopus_text,
    /// JSON objects with a `"type"`; an empty text: `{"type":"default"}`.
    pub validator: octopus_text,
    pub selector: octopus_text,
    pub serializer: octopus_text,
}

// SAFETY: `#[repr(C)]`, the size first, and zeros are empty texts.
unsafe impl Growing for octopus_create_topic_args {}

/// The kinds of component that a host can register.
pub const OCTOPUS_VALIDATOR: i32 = 0;
pub const OCTOPUS_SELECTOR: i32 = 1;
pub const OCTOPUS_SERIALIZER: i32 = 2;

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
/// fails the push or the pull with the reason given to the reply. Those that the kind doesn't need are NULL.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct octopus_component {
    /// `sizeof(octopus_component)`, set by the host.
    pub size: u64,
    /// Handed to `make`, and to `destroy` when no more instances will be made.
    pub context: *mut c_void,
    pub destroy: octopus_destroy_fn,
    /// Makes an instance from the component's JSON.
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
    /// Of a validator: whether an event may be pushed.
    pub validate: Option<
        unsafe extern "C" fn(
            instance: *mut c_void,
            metadata: octopus_text,
            segments: *const octopus_bytes,
            segment_count: u64,
            reply: *const octopus_component_reply,
        ) -> octopus_status,
    >,
    /// Of a selector: the partition of an event; `requested` is negative when none was. Never called concurrently
    /// on one instance.
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
    /// Of a serializer: the bytes of the metadata.
    pub serialize: Option<
        unsafe extern "C" fn(
            instance: *mut c_void,
            metadata: octopus_text,
            reply: *const octopus_component_reply,
        ) -> octopus_status,
    >,
    /// Of a serializer: the metadata in these bytes.
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

/// Drivers. Functions may be called from any thread, also at the same time, and take at most the driver's
/// `timeout_ms` (default 60,000), after which they say who did not answer (`OCTOPUS_UNREACHABLE`).
/// Every function but `release` may return `OCTOPUS_INVALID_ARGUMENT`, `OCTOPUS_FORKED` and `OCTOPUS_PANICKED`.
#[repr(C)]
pub struct octopus_driver_api {
    /// `sizeof(octopus_driver_api)` in the plugin; a slot within it that isn't NULL can be called.
    pub size: u64,
    /// Makes a driver from its JSON configuration (docs/configuration.md). Asks no broker yet. `services` may be
    /// NULL. `OCTOPUS_INVALID_CONFIGURATION` names the key; `OCTOPUS_UNSUPPORTED` what this build lacks.
    pub create: Option<
        unsafe extern "C" fn(
            config: octopus_text,
            services: *const octopus_host_services,
            driver: *mut *mut octopus_driver,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Makes a topic and waits until it can be opened. `args` may be NULL.
    /// `OCTOPUS_TOPIC_EXISTS`, `OCTOPUS_COMPONENT`, `OCTOPUS_INVALID_CONFIGURATION`, `OCTOPUS_UNREACHABLE`,
    /// `OCTOPUS_KAFKA`, `OCTOPUS_WOULD_DEADLOCK` on a thread of the plugin.
    pub create_topic: Option<
        unsafe extern "C" fn(
            driver: *const octopus_driver,
            name: octopus_text,
            args: *const octopus_create_topic_args,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Opens an existing topic. An unknown one is looked for during `open_retry_ms` (default 5,000), then
    /// `OCTOPUS_UNKNOWN_TOPIC`. Never makes one. `OCTOPUS_COMPONENT`, `OCTOPUS_UNREACHABLE`, `OCTOPUS_KAFKA`.
    pub open_topic: Option<
        unsafe extern "C" fn(
            driver: *const octopus_driver,
            name: octopus_text,
            topic: *mut *mut octopus_topic,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Deletes a topic and its info topic. `OCTOPUS_UNKNOWN_TOPIC`, `OCTOPUS_UNREACHABLE`, `OCTOPUS_KAFKA`.
    pub delete_topic: Option<
        unsafe extern "C" fn(
            driver: *const octopus_driver,
            name: octopus_text,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Writes 1 if there is such a topic, else 0. Never makes one. `OCTOPUS_UNREACHABLE`, `OCTOPUS_KAFKA`.
    pub topic_exists: Option<
        unsafe extern "C" fn(
            driver: *const octopus_driver,
            name: octopus_text,
            exists: *mut i32,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Every topic of the namespace that has an info topic, as JSON:
    /// `{name: {"validator":…,"selector":…,"serializer":…,"num_partitions":n}}`. Release the string.
    pub list_topics: Option<
        unsafe extern "C" fn(
            driver: *const octopus_driver,
            json: *mut *mut octopus_string,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// The pool of 0 threads that the driver's topics share by default. Release it.
    pub default_thread_pool: Option<
        unsafe extern "C" fn(
            driver: *const octopus_driver,
            pool: *mut *mut octopus_thread_pool,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Lets the host provide the components of one kind (`OCTOPUS_VALIDATOR`, …) and type. The component is taken
    /// over; its `destroy` is called when the driver and all that came from it are gone.
    pub register_component: Option<
        unsafe extern "C" fn(
            driver: *const octopus_driver,
            kind: i32,
            type_name: octopus_text,
            component: *const octopus_component,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// What the driver was configured with, defaults filled in, and what it is made of, as JSON; secrets are masked.
    /// Release the string.
    pub describe: Option<
        unsafe extern "C" fn(
            driver: *const octopus_driver,
            json: *mut *mut octopus_string,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Gives the handle back; topics, producers and consumers made from it go on. NULL does nothing.
    pub release: Option<unsafe extern "C" fn(driver: *mut octopus_driver)>,
}

pub static DRIVER: octopus_driver_api = octopus_driver_api {
    size: size_of::<octopus_driver_api>() as u64,
    create: Some(create),
    create_topic: Some(create_topic),
    open_topic: Some(open_topic),
    delete_topic: None,
    topic_exists: Some(topic_exists),
    list_topics: None,
    default_thread_pool: Some(default_thread_pool),
    register_component: None,
    describe: Some(describe),
    release: Some(release),
};

unsafe extern "C" fn create(
    config: octopus_text,
    services: *const octopus_host_services,
    driver: *mut *mut octopus_driver,
    error: *mut *mut octopus_error,
) -> octopus_status {
    // SAFETY: pointers are NULL or valid during this call (docs/abi.md, "Arguments").
    unsafe {
        guard(error, || {
            // First of all, since whatever happens next the callbacks are ours to destroy.
            let services = match services.is_null() {
                true => Services::default(),
                false => octopus_host_services::read(services, "services")?.into_services()?,
            };
            check_output(driver, "driver")?;
            handle::give(Arc::new(Driver::create(config.read("config")?, services)?), driver);
            Ok(())
        })
    }
}

unsafe extern "C" fn create_topic(
    driver: *const octopus_driver,
    name: octopus_text,
    args: *const octopus_create_topic_args,
    error: *mut *mut octopus_error,
) -> octopus_status {
    // SAFETY: pointers are NULL or valid during this call; the handle is live.
    unsafe {
        call(driver, error, |driver: &Arc<Driver>| {
            let name = name.read("name")?;
            if args.is_null() {
                return driver.create_topic(name, None, [None; 3]);
            }
            let args = octopus_create_topic_args::read(args, "args")?;
            let components = [
                args.validator.read_optional("validator")?,
                args.selector.read_optional("selector")?,
                args.serializer.read_optional("serializer")?,
            ];
            driver.create_topic(name, args.options.read_optional("options")?, components)
        })
    }
}

unsafe extern "C" fn open_topic(
    driver: *const octopus_driver,
    name: octopus_text,
    topic: *mut *mut octopus_topic,
    error: *mut *mut octopus_error,
) -> octopus_status {
    // SAFETY: pointers are NULL or valid during this call; the handle is live.
    unsafe {
        call(driver, error, |driver: &Arc<Driver>| {
            check_output(topic, "topic")?;
            handle::give(Arc::new(driver.open_topic(name.read("name")?)?), topic);
            Ok(())
        })
    }
}

unsafe extern "C" fn topic_exists(
    driver: *const octopus_driver,
    name: octopus_text,
    exists: *mut i32,
    error: *mut *mut octopus_error,
) -> octopus_status {
    // SAFETY: pointers are NULL or valid during this call; the handle is live.
    unsafe {
        call(driver, error, |driver: &Arc<Driver>| {
            check_output(exists, "exists")?;
            exists.write(driver.topic_exists(name.read("name")?)?.into());
            Ok(())
        })
    }
}

unsafe extern "C" fn default_thread_pool(
    driver: *const octopus_driver,
    pool: *mut *mut octopus_thread_pool,
    error: *mut *mut octopus_error,
) -> octopus_status {
    // SAFETY: pointers are NULL or valid during this call; the handle is live.
    unsafe {
        call(driver, error, |driver: &Arc<Driver>| {
            check_output(pool, "pool")?;
            handle::give(driver.default_pool().clone(), pool);
            Ok(())
        })
    }
}

unsafe extern "C" fn describe(
    driver: *const octopus_driver,
    json: *mut *mut octopus_string,
    error: *mut *mut octopus_error,
) -> octopus_status {
    // SAFETY: pointers are NULL or valid during this call; the handle is live.
    unsafe {
        call(driver, error, |driver: &Arc<Driver>| {
            check_output(json, "json")?;
            string::give(driver.describe(), json);
            Ok(())
        })
    }
}

unsafe extern "C" fn release(driver: *mut octopus_driver) {
    // SAFETY: NULL, or a handle that the host gives back.
    unsafe { handle::release::<Driver>(driver) };
}
