//! Callbacks that the host provides to a driver, and their conversion to the core's `Services`.

use std::ffi::c_void;
use std::sync::Arc;

use log::Level;

use super::args::{Growing, octopus_text};
use super::callback::{Owned, octopus_destroy_fn};
use super::token::{ask, octopus_token_callback};
use crate::support::error::Result;
use crate::support::process_exit;
use crate::support::services::{LogFunction, Rebalance, Services};

/// Log level: something failed.
pub const OCTOPUS_LOG_ERROR: i32 = 1;
/// Log level: something may need attention.
pub const OCTOPUS_LOG_WARNING: i32 = 2;
/// Log level: normal operation.
pub const OCTOPUS_LOG_INFO: i32 = 3;
/// Log level: details for debugging.
pub const OCTOPUS_LOG_DEBUG: i32 = 4;
/// Log level: all details.
pub const OCTOPUS_LOG_TRACE: i32 = 5;

/// Receives the log messages of a driver and of everything that was made from it.
///
/// The plugin passes messages of all levels; the host filters. A message never contains a secret or
/// the data of an event. A warning or an error with the same cause is repeated every 30 s at most,
/// with the number of repetitions that were suppressed.
///
/// @since 0.1
#[repr(C)]
#[derive(Clone, Copy)]
pub struct octopus_log_callback {
    /// Receives one message.
    ///
    /// @param context The `context` of this struct.
    /// @param level One of `OCTOPUS_LOG_ERROR` to `OCTOPUS_LOG_TRACE`.
    /// @param source The component of Octopus that logs. Valid during the call.
    /// @param message The message. Valid during the call.
    /// @note Called on plugin threads, and on threads of the host that are inside a call; several
    /// calls may run at the same time. It must return soon, must not unwind, and must not wait for
    /// the plugin: on a plugin thread, such calls return `OCTOPUS_WOULD_DEADLOCK`.
    pub function:
        Option<unsafe extern "C" fn(context: *mut c_void, level: i32, source: octopus_text, message: octopus_text)>,
    /// Passed to each call of `function`, and to `destroy`.
    pub context: *mut c_void,
    /// Destroys the context.
    pub destroy: octopus_destroy_fn,
}

/// Receives librdkafka's statistics of the driver's clients.
///
/// The plugin calls it every `kafka.statistics.interval.ms` milliseconds, and not at all unless
/// that property is set.
///
/// @since 0.1
#[repr(C)]
#[derive(Clone, Copy)]
pub struct octopus_statistics_callback {
    /// Receives the statistics of one client.
    ///
    /// @param context The `context` of this struct.
    /// @param client The user of the client, for example `producer "detector"`. If several
    /// producers share a client, the function is called for each of them. Valid during the call.
    /// @param json The statistics as JSON; see STATISTICS.md of librdkafka. Valid during the call.
    /// @note Called on the client's plugin thread: while it runs, this client reports no
    /// deliveries. It must not unwind, and must not wait for the plugin.
    pub function: Option<unsafe extern "C" fn(context: *mut c_void, client: octopus_text, json: octopus_text)>,
    /// Passed to each call of `function`, and to `destroy`.
    pub context: *mut c_void,
    /// Destroys the context.
    pub destroy: octopus_destroy_fn,
}

/// Receives the fatal error of a client.
///
/// The client can't recover: all further calls that use it fail. Other clients are not affected.
///
/// @since 0.1
#[repr(C)]
#[derive(Clone, Copy)]
pub struct octopus_fatal_callback {
    /// Receives the error, once for each producer or consumer that uses the client.
    ///
    /// @param context The `context` of this struct.
    /// @param client The user of the client, for example `producer "detector"`. Valid during the
    /// call.
    /// @param kafka_code The error code of librdkafka (`rd_kafka_resp_err_t`).
    /// @param message The error. Valid during the call.
    /// @note Called on the client's plugin thread. It must return soon, must not unwind, and must
    /// not wait for the plugin.
    pub function: Option<
        unsafe extern "C" fn(context: *mut c_void, client: octopus_text, kafka_code: i32, message: octopus_text),
    >,
    /// Passed to each call of `function`, and to `destroy`.
    pub context: *mut c_void,
    /// Destroys the context.
    pub destroy: octopus_destroy_fn,
}

/// The group assigned the partitions to this consumer.
pub const OCTOPUS_PARTITIONS_ASSIGNED: i32 = 0;
/// The group revoked the partitions; acknowledged events were committed before, if Kafka accepted
/// the commit.
pub const OCTOPUS_PARTITIONS_REVOKED: i32 = 1;
/// The group removed this consumer, so its partitions are lost: events that were acknowledged but
/// not committed are read again by other members.
pub const OCTOPUS_PARTITIONS_LOST: i32 = 2;

/// Receives the changes of the partitions of a consumer.
///
/// @since 0.1
#[repr(C)]
#[derive(Clone, Copy)]
pub struct octopus_rebalance_callback {
    /// Receives one change, after it happened.
    ///
    /// @param context The `context` of this struct.
    /// @param consumer The name of the consumer. Valid during the call.
    /// @param change `OCTOPUS_PARTITIONS_ASSIGNED`, `OCTOPUS_PARTITIONS_REVOKED` or
    /// `OCTOPUS_PARTITIONS_LOST`.
    /// @param partitions The partitions concerned. Valid during the call.
    /// @param partition_count The number of elements of `partitions`.
    /// @note Called on the consumer's plugin thread: while it runs, the consumer commits nothing
    /// and serves no other rebalance. It must not unwind, and must not wait for the plugin.
    pub function: Option<
        unsafe extern "C" fn(
            context: *mut c_void,
            consumer: octopus_text,
            change: i32,
            partitions: *const u32,
            partition_count: u64,
        ),
    >,
    /// Passed to each call of `function`, and to `destroy`.
    pub context: *mut c_void,
    /// Destroys the context.
    pub destroy: octopus_destroy_fn,
}

/// Callbacks that the host provides to a driver and to everything that is made from it.
///
/// Every field but `size` may be zero. `octopus_driver_api::create` takes ownership of the
/// callbacks when it has read the struct, even if it fails: it calls each `destroy` once, after the
/// last call of that callback's function. If the struct can't be read, ownership stays with the
/// host.
///
/// @since 0.1
#[repr(C)]
#[derive(Clone, Copy)]
pub struct octopus_host_services {
    /// `sizeof(octopus_host_services)`, set by the host.
    pub size: u64,
    /// Receives log messages. Zero: warnings and errors are written to the standard error stream.
    pub log: octopus_log_callback,
    /// Receives statistics. Zero: statistics are discarded.
    pub statistics: octopus_statistics_callback,
    /// Receives fatal errors. Zero: they are only logged, and returned by the calls that they
    /// affect.
    pub fatal: octopus_fatal_callback,
    /// Receives rebalances. Zero: they are only logged.
    pub rebalance: octopus_rebalance_callback,
    /// Provides tokens for SASL OAUTHBEARER. Zero: the host provides none.
    pub token: octopus_token_callback,
    /// Not 0: the host owns the components of its topics, and passes a preparation with each push.
    ///
    /// Then the plugin creates only components of type `default` and of registered types, and does
    /// not warn of missing ones.
    pub has_components: u32,
    /// Reserved; 0.
    pub reserved: u32,
    /// Provides the HTTP header `Authorization` for the topic service.
    ///
    /// The plugin calls it for the first header, unless the driver's configuration has one, and for
    /// a new header whenever the service rejects the current one. Zero: the configuration is read
    /// again.
    pub authorization: octopus_token_callback,
}

// SAFETY: the type is `#[repr(C)]` and begins with its size; zeros are NULL pointers and absent
// functions.
unsafe impl Growing for octopus_host_services {}

/// Takes ownership of `{function, context, destroy}`. Without a function, `destroy` is called at
/// once.
macro_rules! take {
    ($callback:expr) => {{
        let callback = $callback;
        let owned = Owned { context: callback.context, destroy: callback.destroy };
        callback.function.map(|function| (function, owned))
    }};
}

impl octopus_host_services {
    /// Takes ownership of all callbacks.
    pub fn into_services(self) -> Result<Services> {
        let mut services = Services { has_components: self.has_components != 0, ..Services::default() };
        if let Some((function, callback)) = take!(self.log) {
            services.log = Arc::new(LogFunction(move |level, source: &str, message: &str| {
                let callback = &callback;
                if process_exit::has_begun() {
                    return;
                }
                // SAFETY: function and context are the host's, and `callback` keeps the context
                // from being destroyed; the texts live during the call.
                unsafe {
                    function(callback.context, level_of(level), octopus_text::view(source), octopus_text::view(message))
                }
            }));
        }
        if let Some((function, callback)) = take!(self.statistics) {
            services.statistics = Some(Arc::new(move |client, json| {
                let callback = &callback;
                if process_exit::has_begun() {
                    return;
                }
                // SAFETY: as above.
                unsafe { function(callback.context, octopus_text::view(client), octopus_text::view(json)) }
            }));
        }
        if let Some((function, callback)) = take!(self.fatal) {
            services.fatal = Some(Arc::new(move |client, code, message| {
                let callback = &callback;
                if process_exit::has_begun() {
                    return;
                }
                // SAFETY: as above.
                unsafe { function(callback.context, octopus_text::view(client), code, octopus_text::view(message)) }
            }));
        }
        if let Some((function, callback)) = take!(self.rebalance) {
            services.rebalance = Some(Arc::new(move |consumer, rebalance, partitions| {
                let (callback, change) = (&callback, change_of(rebalance));
                let (first, count) = (partitions.as_ptr(), partitions.len() as u64);
                if process_exit::has_begun() {
                    return;
                }
                // SAFETY: as above; the array lives during the call, too.
                unsafe { function(callback.context, octopus_text::view(consumer), change, first, count) }
            }));
        }
        if let Some((function, callback)) = take!(self.token) {
            services.token = Some(Arc::new(move |config: &str| ask("token", function, &callback, config)));
        }
        if let Some((function, callback)) = take!(self.authorization) {
            services.authorization =
                Some(Arc::new(move || ask("authorization", function, &callback, "").map(|token| token.value)));
        }
        Ok(services)
    }
}

fn level_of(level: Level) -> i32 {
    match level {
        Level::Error => OCTOPUS_LOG_ERROR,
        Level::Warn => OCTOPUS_LOG_WARNING,
        Level::Info => OCTOPUS_LOG_INFO,
        Level::Debug => OCTOPUS_LOG_DEBUG,
        Level::Trace => OCTOPUS_LOG_TRACE,
    }
}

fn change_of(rebalance: Rebalance) -> i32 {
    match rebalance {
        Rebalance::Assigned => OCTOPUS_PARTITIONS_ASSIGNED,
        Rebalance::Revoked => OCTOPUS_PARTITIONS_REVOKED,
        Rebalance::Lost => OCTOPUS_PARTITIONS_LOST,
    }
}
