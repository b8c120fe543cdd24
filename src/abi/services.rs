//! What the host provides to a driver: its callbacks, and the services made of them.

use std::ffi::c_void;
use std::sync::Arc;

use log::Level;

use super::args::{Growing, octopus_text};
use super::callback::{Owned, octopus_destroy_fn};
use super::token::{ask, octopus_token_callback};
use crate::error::Result;
use crate::process_exit;
use crate::services::{LogFunction, Rebalance, Services};

/// The levels of messages: what failed, what may need looking at, what happens, and two of detail.
pub const OCTOPUS_LOG_ERROR: i32 = 1;
pub const OCTOPUS_LOG_WARNING: i32 = 2;
pub const OCTOPUS_LOG_INFO: i32 = 3;
pub const OCTOPUS_LOG_DEBUG: i32 = 4;
pub const OCTOPUS_LOG_TRACE: i32 = 5;

/// One message: `level` (`OCTOPUS_LOG_…`), the part of Octopus that speaks, and the text; both texts are valid
/// during the call. Never holds a secret or an event's data. Called on threads of the plugin and on threads of the
/// host that are inside a call; several at a time. On threads of the plugin, calls
/// that would wait for the plugin's own work say `OCTOPUS_WOULD_DEADLOCK`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct octopus_log_callback {
    pub function:
        Option<unsafe extern "C" fn(context: *mut c_void, level: i32, source: octopus_text, message: octopus_text)>,
    pub context: *mut c_void,
    pub destroy: octopus_destroy_fn,
}

/// librdkafka's statistics of one client as JSON (its STATISTICS.md), every `kafka.statistics.interval.ms`
/// milliseconds; none unless that is set. `client` names who uses the client: producers that share one are told one after
/// the other. The texts are valid during the call, which is made on
/// the client's thread of the plugin: while it runs, that client reports no deliveries.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct octopus_statistics_callback {
    pub function: Option<unsafe extern "C" fn(context: *mut c_void, client: octopus_text, json: octopus_text)>,
    pub context: *mut c_void,
    pub destroy: octopus_destroy_fn,
}

/// A client met an error that it can't recover from: its calls fail from now on, other clients go on. Called once
/// for each producer or consumer that uses the client, whom `client` names, on the client's thread of the plugin.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct octopus_fatal_callback {
    pub function: Option<
        unsafe extern "C" fn(context: *mut c_void, client: octopus_text, kafka_code: i32, message: octopus_text),
    >,
    pub context: *mut c_void,
    pub destroy: octopus_destroy_fn,
}

/// The partitions are this consumer's from now on.
pub const OCTOPUS_PARTITIONS_ASSIGNED: i32 = 0;
/// Taken away in good order: what was acknowledged is committed.
pub const OCTOPUS_PARTITIONS_REVOKED: i32 = 1;
/// Taken away because the group gave this member up: what was acknowledged and not committed is read again.
pub const OCTOPUS_PARTITIONS_LOST: i32 = 2;

/// A group gave partitions to a consumer or took them away (`what` is an `OCTOPUS_PARTITIONS_…`). Called after the
/// fact, on the consumer's thread of the plugin; the array is valid during the call.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct octopus_rebalance_callback {
    pub function: Option<
        unsafe extern "C" fn(
            context: *mut c_void,
            consumer: octopus_text,
            what: i32,
            partitions: *const u32,
            partition_count: u64,
        ),
    >,
    pub context: *mut c_void,
    pub destroy: octopus_destroy_fn,
}

/// What a host provides to a driver and all that comes from it; every field may be zero. The plugin takes the
/// callbacks over when it has read the struct, whether or not the driver can be made, and calls each `destroy` once,
/// after the last call of its function.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct octopus_host_services {
    /// `sizeof(octopus_host_services)`, set by the host.
    pub size: u64,
    /// Zero: warnings and errors go to the standard error stream.
    pub log: octopus_log_callback,
    /// Zero: librdkafka's statistics are thrown away.
    pub statistics: octopus_statistics_callback,
    /// Zero: fatal errors are logged only, and told by the calls that suffer.
    pub fatal: octopus_fatal_callback,
    /// Zero: rebalances are logged only.
    pub rebalance: octopus_rebalance_callback,
    /// Zero: the host provides no tokens.
    pub token: octopus_token_callback,
    /// Not 0: the host has the components of its topics itself, and pushes with preparations. None that isn't `default`
    /// or registered is made here, or missed with a warning.
    pub has_components: u32,
    /// Zero.
    pub reserved: u32,
    /// The header `authorization` for the topic service: the first one, unless the driver's configuration has it, and the next one when
    /// the service refuses it. Zero: the configuration's is read again.
    pub authorization: octopus_token_callback,
}

// SAFETY: `#[repr(C)]`, the size first, and zeros are NULL pointers and absent functions.
unsafe impl Growing for octopus_host_services {}

/// Takes over `{function, context, destroy}`; without a function only `destroy` is left to be called, at once.
macro_rules! take {
    ($callback:expr) => {{
        let callback = $callback;
        let owned = Owned { context: callback.context, destroy: callback.destroy };
        callback.function.map(|function| (function, owned))
    }};
}

impl octopus_host_services {
    /// Takes every callback over.
    pub fn into_services(self) -> Result<Services> {
        let mut services = Services { has_components: self.has_components != 0, ..Services::default() };
        if let Some((function, callback)) = take!(self.log) {
            services.log = Arc::new(LogFunction(move |level, source: &str, message: &str| {
                let callback = &callback;
                if process_exit::has_begun() {
                    return;
                }
                // SAFETY: the host's function with its context, not destroyed yet; the texts live during the call.
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
            services.rebalance = Some(Arc::new(move |consumer, what, partitions| {
                let (callback, what) = (&callback, what_of(what));
                let (first, count) = (partitions.as_ptr(), partitions.len() as u64);
                if process_exit::has_begun() {
                    return;
                }
                // SAFETY: as above; so does the array.
                unsafe { function(callback.context, octopus_text::view(consumer), what, first, count) }
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

fn what_of(rebalance: Rebalance) -> i32 {
    match rebalance {
        Rebalance::Assigned => OCTOPUS_PARTITIONS_ASSIGNED,
        Rebalance::Revoked => OCTOPUS_PARTITIONS_REVOKED,
        Rebalance::Lost => OCTOPUS_PARTITIONS_LOST,
    }
}
