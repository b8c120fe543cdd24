//! The slots of drivers. Each one checks its arguments and makes one call into [`Driver`].

// The contract of each slot is in docs/reference/abi.md and in the comments of its table.
#![allow(clippy::missing_safety_doc, clippy::multiple_unsafe_ops_per_block)]

use super::{octopus_create_topic_args, octopus_driver, octopus_stats};
use crate::abi::args::{Growing, check_output, octopus_text};
use crate::abi::component::{HostComponent, octopus_component};
use crate::abi::error_handle::octopus_error;
use crate::abi::forked_child::{forward, forward_creation};
use crate::abi::guard::{call, guard, refuse};
use crate::abi::handle::{self};
use crate::abi::services::octopus_host_services;
use crate::abi::status::octopus_status;
use crate::abi::string::{self, octopus_string};
use crate::abi::thread_pool::octopus_thread_pool;
use crate::abi::topic::octopus_topic;
use crate::client::driver::Driver;
use crate::kafka::Stats;
use crate::support::services::Services;
use std::sync::Arc;

pub(super) unsafe extern "C" fn create(
    config: octopus_text,
    services: *const octopus_host_services,
    driver: *mut *mut octopus_driver,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward_creation!(driver.create(config, services, driver, error), error);
    // SAFETY: all pointers are NULL or valid during this call (contract of the slot).
    unsafe {
        guard(error, || {
            // First, because the plugin owns the callbacks even if the rest fails.
            let services = match services.is_null() {
                true => Services::default(),
                false => octopus_host_services::read(services, "services")?.into_services()?,
            };
            check_output(driver, "driver")?;
            handle::write(Arc::new(Driver::create(config.read("config")?, services)?), driver);
            Ok(())
        })
    }
}

pub(super) unsafe extern "C" fn create_topic(
    driver: *const octopus_driver,
    name: octopus_text,
    args: *const octopus_create_topic_args,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward!(refuse(error); driver.create_topic(driver, name, args, error));
    // SAFETY: the handle is NULL or live, and all pointers are NULL or valid during this call
    // (contract of the slot).
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

pub(super) unsafe extern "C" fn open_topic(
    driver: *const octopus_driver,
    name: octopus_text,
    topic: *mut *mut octopus_topic,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward!(refuse(error); driver.open_topic(driver, name, topic, error));
    // SAFETY: the handle is NULL or live, and all pointers are NULL or valid during this call
    // (contract of the slot).
    unsafe {
        call(driver, error, |driver: &Arc<Driver>| {
            check_output(topic, "topic")?;
            handle::write(Arc::new(driver.open_topic(name.read("name")?)?), topic);
            Ok(())
        })
    }
}

pub(super) unsafe extern "C" fn delete_topic(
    driver: *const octopus_driver,
    name: octopus_text,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward!(refuse(error); driver.delete_topic(driver, name, error));
    // SAFETY: the handle is NULL or live, and all pointers are NULL or valid during this call
    // (contract of the slot).
    unsafe { call(driver, error, |driver: &Arc<Driver>| driver.delete_topic(name.read("name")?)) }
}

pub(super) unsafe extern "C" fn empty_topic(
    driver: *const octopus_driver,
    name: octopus_text,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward!(refuse(error); driver.empty_topic(driver, name, error));
    // SAFETY: the handle is NULL or live, and all pointers are NULL or valid during this call
    // (contract of the slot).
    unsafe { call(driver, error, |driver: &Arc<Driver>| driver.empty_topic(name.read("name")?)) }
}

pub(super) unsafe extern "C" fn topic_exists(
    driver: *const octopus_driver,
    name: octopus_text,
    exists: *mut i32,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward!(refuse(error); driver.topic_exists(driver, name, exists, error));
    // SAFETY: the handle is NULL or live, and all pointers are NULL or valid during this call
    // (contract of the slot).
    unsafe {
        call(driver, error, |driver: &Arc<Driver>| {
            check_output(exists, "exists")?;
            exists.write(driver.topic_exists(name.read("name")?)?.into());
            Ok(())
        })
    }
}

pub(super) unsafe extern "C" fn list_topics(
    driver: *const octopus_driver,
    json: *mut *mut octopus_string,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward!(refuse(error); driver.list_topics(driver, json, error));
    // SAFETY: the handle is NULL or live, and all pointers are NULL or valid during this call
    // (contract of the slot).
    unsafe {
        call(driver, error, |driver: &Arc<Driver>| {
            check_output(json, "json")?;
            string::write(driver.list_topics()?, json);
            Ok(())
        })
    }
}

pub(super) unsafe extern "C" fn default_thread_pool(
    driver: *const octopus_driver,
    pool: *mut *mut octopus_thread_pool,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward!(refuse(error); driver.default_thread_pool(driver, pool, error));
    // SAFETY: the handle is NULL or live, and all pointers are NULL or valid during this call
    // (contract of the slot).
    unsafe {
        call(driver, error, |driver: &Arc<Driver>| {
            check_output(pool, "pool")?;
            handle::write(driver.default_pool().clone(), pool);
            Ok(())
        })
    }
}

pub(super) unsafe extern "C" fn register_component(
    driver: *const octopus_driver,
    role: i32,
    type_name: octopus_text,
    component: *const octopus_component,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward!(refuse(error); driver.register_component(driver, role, type_name, component, error));
    // SAFETY: the handle is NULL or live, and all pointers are NULL or valid during this call
    // (contract of the slot). The plugin owns the component before anything else can fail.
    unsafe {
        let component = octopus_component::read(component, "component").map(HostComponent::new);
        call(driver, error, move |driver: &Arc<Driver>| {
            driver.register_component(type_name.read("type_name")?, component?.maker(role)?)
        })
    }
}

pub(super) unsafe extern "C" fn describe(
    driver: *const octopus_driver,
    json: *mut *mut octopus_string,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward!(refuse(error); driver.describe(driver, json, error));
    // SAFETY: the handle is NULL or live, and all pointers are NULL or valid during this call
    // (contract of the slot).
    unsafe {
        call(driver, error, |driver: &Arc<Driver>| {
            check_output(json, "json")?;
            string::write(driver.describe(), json);
            Ok(())
        })
    }
}

pub(super) unsafe extern "C" fn stats(
    driver: *const octopus_driver,
    stats: *mut octopus_stats,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward!(refuse(error); driver.stats(driver, stats, error));
    // SAFETY: the handle is NULL or live, and all pointers are NULL or valid during this call
    // (contract of the slot).
    unsafe { call(driver, error, |driver: &Arc<Driver>| figures(&driver.stats()).write(stats, "stats")) }
}

fn figures(stats: &Stats) -> octopus_stats {
    let or_none = |figure: Option<u64>| figure.map_or(-1, |figure| i64::try_from(figure).unwrap_or(i64::MAX));
    let Stats { deliveries, counters, resources, .. } = stats;
    octopus_stats {
        size: size_of::<octopus_stats>() as u64,
        events_in_flight: stats.events_in_flight,
        bytes_in_flight: stats.bytes_in_flight,
        oldest_event_ms: or_none(stats.oldest_event_ms),
        delivered: deliveries.delivered,
        delivered_bytes: deliveries.delivered_bytes,
        failed: deliveries.failed,
        latency_p50_ms: deliveries.latency_ms.p50,
        latency_p90_ms: deliveries.latency_ms.p90,
        latency_p99_ms: deliveries.latency_ms.p99,
        latency_max_ms: deliveries.latency_ms.max,
        lag: or_none(stats.lag),
        rebalances: stats.rebalances,
        retries: counters.retries,
        request_timeouts: counters.request_timeouts,
        sent_bytes: counters.sent_bytes,
        received_bytes: counters.received_bytes,
        connects: counters.connects,
        disconnects: counters.disconnects,
        token_age_ms: or_none(stats.token_age_ms),
        clients: resources.clients as u64,
        threads: resources.threads as u64,
        connections: resources.connections as u64,
        suppressed_log_lines: stats.suppressed_log_lines,
    }
}

pub(super) unsafe extern "C" fn stats_json(
    driver: *const octopus_driver,
    json: *mut *mut octopus_string,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward!(refuse(error); driver.stats_json(driver, json, error));
    // SAFETY: the handle is NULL or live, and all pointers are NULL or valid during this call
    // (contract of the slot).
    unsafe {
        call(driver, error, |driver: &Arc<Driver>| {
            check_output(json, "json")?;
            string::write(driver.stats_json(), json);
            Ok(())
        })
    }
}

pub(super) unsafe extern "C" fn release(driver: *mut octopus_driver) {
    forward!((); driver.release(driver));
    // SAFETY: NULL, or a live handle that the host does not use afterwards (contract of the slot).
    unsafe { handle::release::<Arc<Driver>>(driver) };
}
