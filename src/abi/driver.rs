//! The driver's slots: arguments in, one call to [`crate::driver`], the result out.

use std::sync::Arc;

use super::args::{Growing, check_output, octopus_text};
use super::component::{HostComponent, octopus_component};
use super::error::octopus_error;
use super::forked_child::{forward, forward_creation};
use super::guard::{call, guard, refuse};
use super::handle::{self, handle};
use super::services::octopus_host_services;
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
    /// Makes a topic and waits until it can be opened; what another creator left half-made is taken over when it's
    /// 30 s old. `args` may be NULL.
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
    /// Deletes a topic and its info topic, and waits until both are gone. `OCTOPUS_UNKNOWN_TOPIC`,
    /// `OCTOPUS_UNREACHABLE`, `OCTOPUS_KAFKA`; `OCTOPUS_UNSUPPORTED` with the embedded Kafka.
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
    /// `OCTOPUS_UNREACHABLE`, `OCTOPUS_KAFKA`.
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
    /// Lets the host provide the components of one kind (`OCTOPUS_ROLE_VALIDATOR`, …) and type, for topics that are made or
    /// opened from then on. The component is taken over once it has been read, also when it is refused: its `destroy`
    /// is called once, when the driver and all that came from it are gone. `OCTOPUS_INVALID_ARGUMENT` for a type that
    /// is built in or registered already, and for a kind whose functions are missing.
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
    /// Removes all records of a topic; its info topic stays, and with it its components. Consumers that are open read what
    /// comes next, after `OCTOPUS_RECORDS_LOST` if there was something that they had not read. Where the topic service
    /// makes topics, it makes this one anew: its offsets begin at 0 again, and producers and consumers of it have to be
    /// made anew too. `OCTOPUS_UNKNOWN_TOPIC`, `OCTOPUS_UNREACHABLE`, `OCTOPUS_KAFKA`; `OCTOPUS_UNSUPPORTED` with the
    /// embedded Kafka.
    pub empty_topic: Option<
        unsafe extern "C" fn(
            driver: *const octopus_driver,
            name: octopus_text,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
}

pub static DRIVER: octopus_driver_api = octopus_driver_api {
    size: size_of::<octopus_driver_api>() as u64,
    create: Some(create),
    create_topic: Some(create_topic),
    open_topic: Some(open_topic),
    delete_topic: Some(delete_topic),
    topic_exists: Some(topic_exists),
    list_topics: Some(list_topics),
    default_thread_pool: Some(default_thread_pool),
    register_component: Some(register_component),
    describe: Some(describe),
    release: Some(release),
    empty_topic: Some(empty_topic),
};

unsafe extern "C" fn create(
    config: octopus_text,
    services: *const octopus_host_services,
    driver: *mut *mut octopus_driver,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward_creation!(driver.create(config, services, driver, error), error);
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
    forward!(refuse(error); driver.create_topic(driver, name, args, error));
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
    forward!(refuse(error); driver.open_topic(driver, name, topic, error));
    // SAFETY: pointers are NULL or valid during this call; the handle is live.
    unsafe {
        call(driver, error, |driver: &Arc<Driver>| {
            check_output(topic, "topic")?;
            handle::give(Arc::new(driver.open_topic(name.read("name")?)?), topic);
            Ok(())
        })
    }
}

unsafe extern "C" fn delete_topic(
    driver: *const octopus_driver,
    name: octopus_text,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward!(refuse(error); driver.delete_topic(driver, name, error));
    // SAFETY: pointers are NULL or valid during this call; the handle is live.
    unsafe { call(driver, error, |driver: &Arc<Driver>| driver.delete_topic(name.read("name")?)) }
}

unsafe extern "C" fn empty_topic(
    driver: *const octopus_driver,
    name: octopus_text,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward!(refuse(error); driver.empty_topic(driver, name, error));
    // SAFETY: pointers are NULL or valid during this call; the handle is live.
    unsafe { call(driver, error, |driver: &Arc<Driver>| driver.empty_topic(name.read("name")?)) }
}

unsafe extern "C" fn topic_exists(
    driver: *const octopus_driver,
    name: octopus_text,
    exists: *mut i32,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward!(refuse(error); driver.topic_exists(driver, name, exists, error));
    // SAFETY: pointers are NULL or valid during this call; the handle is live.
    unsafe {
        call(driver, error, |driver: &Arc<Driver>| {
            check_output(exists, "exists")?;
            exists.write(driver.topic_exists(name.read("name")?)?.into());
            Ok(())
        })
    }
}

unsafe extern "C" fn list_topics(
    driver: *const octopus_driver,
    json: *mut *mut octopus_string,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward!(refuse(error); driver.list_topics(driver, json, error));
    // SAFETY: pointers are NULL or valid during this call; the handle is live.
    unsafe {
        call(driver, error, |driver: &Arc<Driver>| {
            check_output(json, "json")?;
            string::give(driver.list_topics()?, json);
            Ok(())
        })
    }
}

unsafe extern "C" fn default_thread_pool(
    driver: *const octopus_driver,
    pool: *mut *mut octopus_thread_pool,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward!(refuse(error); driver.default_thread_pool(driver, pool, error));
    // SAFETY: pointers are NULL or valid during this call; the handle is live.
    unsafe {
        call(driver, error, |driver: &Arc<Driver>| {
            check_output(pool, "pool")?;
            handle::give(driver.default_pool().clone(), pool);
            Ok(())
        })
    }
}

unsafe extern "C" fn register_component(
    driver: *const octopus_driver,
    kind: i32,
    type_name: octopus_text,
    component: *const octopus_component,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward!(refuse(error); driver.register_component(driver, kind, type_name, component, error));
    // SAFETY: pointers are NULL or valid during this call; the handle is live. The component is taken over before
    // anything else can fail.
    unsafe {
        let component = octopus_component::read(component, "component").map(HostComponent::new);
        call(driver, error, move |driver: &Arc<Driver>| {
            driver.register_component(type_name.read("type_name")?, component?.maker(kind)?)
        })
    }
}

unsafe extern "C" fn describe(
    driver: *const octopus_driver,
    json: *mut *mut octopus_string,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward!(refuse(error); driver.describe(driver, json, error));
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
    forward!((); driver.release(driver));
    // SAFETY: NULL, or a handle that the host gives back.
    unsafe { handle::release::<Arc<Driver>>(driver) };
}
