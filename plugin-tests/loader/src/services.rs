//! Callbacks that this program gives to a driver: log, statistics, fatal errors, rebalances,
//! tokens.

use std::ffi::c_void;
use std::fmt;
use std::ptr::null_mut;
use std::sync::OnceLock;

use crate::abi::*;
use crate::callback::{catch_panic, closure, into_context};
use crate::raw::{read_array, read_text, text};

/// The level of a log message; the first is the most severe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogLevel {
    /// Something failed.
    Error,
    /// Something needs to be looked at.
    Warning,
    /// Something noteworthy happened.
    Info,
    /// Details for debugging.
    Debug,
    /// All details.
    Trace,
    /// A level of a later version of the library.
    Other(i32),
}

/// What happened to partitions of a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rebalance {
    /// They are assigned to the consumer.
    Assigned,
    /// They are revoked; what was acknowledged is committed.
    Revoked,
    /// The group removed this member; what was acknowledged and not committed is read again.
    Lost,
    /// A number of a later version of the library.
    Other(i32),
}

pub(crate) type Log = dyn Fn(LogLevel, &str, &str) + Send + Sync;
pub(crate) type Statistics = dyn Fn(&str, &str) + Send + Sync;
pub(crate) type Fatal = dyn Fn(&str, i32, &str) + Send + Sync;
pub(crate) type Rebalanced = dyn Fn(&str, Rebalance, &[u32]) + Send + Sync;
pub(crate) type ProvideToken = dyn Fn(&str) -> Result<Token, String> + Send + Sync;

/// An access token for SASL OAUTHBEARER. `Debug` does not show its value.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// The token itself.
    pub value: String,
    /// The principal that it is issued for; may be empty.
    pub principal: String,
    /// Its expiry in milliseconds since 1970.
    pub expires_ms: i64,
}

impl fmt::Debug for Token {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Token")
            .field("principal", &self.principal)
            .field("expires_ms", &self.expires_ms)
            .finish_non_exhaustive()
    }
}

#[derive(Default)]
pub(crate) struct Services {
    pub log: Option<Box<Log>>,
    pub statistics: Option<Box<Statistics>>,
    pub fatal: Option<Box<Fatal>>,
    pub rebalance: Option<Box<Rebalanced>>,
    pub token: Option<Box<ProvideToken>>,
    pub authorization: Option<Box<ProvideToken>>,
    pub has_components: bool,
}

/// `{function, context, destroy}` of an optional closure, which the library destroys.
macro_rules! callback {
    ($type:ident, $function:expr, $closure:expr) => {
        match $closure {
            Some(closure) => {
                let (context, destroy) = into_context(closure);
                $type { function: Some($function), context, destroy }
            }
            None => $type { function: None, context: null_mut(), destroy: None },
        }
    };
}

static TEXT_OBSERVER: OnceLock<fn(&str)> = OnceLock::new();

/// Calls `observe` with each text that the library writes from now on: log messages of every level,
/// errors, and descriptions of drivers. For tests that search these texts for secrets. Only the
/// first call has an effect, on the whole process.
pub fn set_text_observer(observe: fn(&str)) {
    let _ = TEXT_OBSERVER.set(observe);
}

pub(crate) fn observe_text(text: &str) {
    if let Some(observe) = TEXT_OBSERVER.get() {
        observe(text);
    }
}

/// Does what the library does with messages if there is no log callback.
fn log_to_stderr(level: LogLevel, source: &str, message: &str) {
    if level <= LogLevel::Warning {
        eprintln!("[{level:?}] {source}: {message}");
    }
}

impl Services {
    /// The result must be given to `driver.create`, which destroys the closures.
    pub fn into_raw(mut self) -> octopus_host_services {
        // The observer sees log messages only through a callback.
        if self.log.is_none() && TEXT_OBSERVER.get().is_some() {
            self.log = Some(Box::new(log_to_stderr));
        }
        octopus_host_services {
            size: size_of::<octopus_host_services>() as u64,
            log: callback!(octopus_log_callback, log, self.log),
            statistics: callback!(octopus_statistics_callback, statistics, self.statistics),
            fatal: callback!(octopus_fatal_callback, fatal, self.fatal),
            rebalance: callback!(octopus_rebalance_callback, rebalance, self.rebalance),
            token: callback!(octopus_token_callback, token, self.token),
            has_components: self.has_components.into(),
            reserved: 0,
            authorization: callback!(octopus_token_callback, token, self.authorization),
        }
    }
}

/// # Safety
/// The library calls it as include/octopus.h specifies: `context` is the one that
/// [`Services::into_raw`] passed with this function and not yet destroyed, and the other arguments
/// are valid during this call.
unsafe extern "C" fn log(context: *mut c_void, level: i32, source: octopus_text, message: octopus_text) {
    let level = match level {
        OCTOPUS_LOG_ERROR => LogLevel::Error,
        OCTOPUS_LOG_WARNING => LogLevel::Warning,
        OCTOPUS_LOG_INFO => LogLevel::Info,
        OCTOPUS_LOG_DEBUG => LogLevel::Debug,
        OCTOPUS_LOG_TRACE => LogLevel::Trace,
        other => LogLevel::Other(other),
    };
    // SAFETY: `context` came from a `Box<Log>` and is not yet destroyed (fn contract).
    let log = unsafe { closure::<Log>(context) };
    // SAFETY: `source` is valid during this call (fn contract).
    let source = unsafe { read_text(source) };
    // SAFETY: `message` is valid during this call (fn contract).
    let message = unsafe { read_text(message) };
    catch_panic(|| {
        observe_text(&format!("{level:?} {source}: {message}"));
        log(level, &source, &message);
    });
}

/// # Safety
/// As for [`log`].
unsafe extern "C" fn statistics(context: *mut c_void, client: octopus_text, json: octopus_text) {
    // SAFETY: `context` came from a `Box<Statistics>` and is not yet destroyed (fn contract).
    let report = unsafe { closure::<Statistics>(context) };
    // SAFETY: `client` is valid during this call (fn contract).
    let client = unsafe { read_text(client) };
    // SAFETY: `json` is valid during this call (fn contract).
    let json = unsafe { read_text(json) };
    catch_panic(|| report(&client, &json));
}

/// # Safety
/// As for [`log`].
unsafe extern "C" fn fatal(context: *mut c_void, client: octopus_text, kafka_code: i32, message: octopus_text) {
    // SAFETY: `context` came from a `Box<Fatal>` and is not yet destroyed (fn contract).
    let report = unsafe { closure::<Fatal>(context) };
    // SAFETY: `client` is valid during this call (fn contract).
    let client = unsafe { read_text(client) };
    // SAFETY: `message` is valid during this call (fn contract).
    let message = unsafe { read_text(message) };
    catch_panic(|| report(&client, kafka_code, &message));
}

/// # Safety
/// As for [`log`]; `partitions` has `partition_count` elements.
unsafe extern "C" fn rebalance(
    context: *mut c_void,
    consumer: octopus_text,
    what: i32,
    partitions: *const u32,
    partition_count: u64,
) {
    let what = match what {
        OCTOPUS_PARTITIONS_ASSIGNED => Rebalance::Assigned,
        OCTOPUS_PARTITIONS_REVOKED => Rebalance::Revoked,
        OCTOPUS_PARTITIONS_LOST => Rebalance::Lost,
        other => Rebalance::Other(other),
    };
    // SAFETY: `context` came from a `Box<Rebalanced>` and is not yet destroyed (fn contract).
    let report = unsafe { closure::<Rebalanced>(context) };
    // SAFETY: `consumer` is valid during this call (fn contract).
    let consumer = unsafe { read_text(consumer) };
    // SAFETY: the array is valid during this call and has `partition_count` elements (fn contract).
    let partitions = unsafe { read_array(partitions, partition_count) };
    catch_panic(|| report(&consumer, what, partitions));
}

/// # Safety
/// As for [`log`].
unsafe extern "C" fn token(
    context: *mut c_void,
    config: octopus_text,
    reply: *const octopus_token_reply,
) -> octopus_status {
    // SAFETY: `context` came from a `Box<ProvideToken>` and is not yet destroyed (fn contract).
    let provide = unsafe { closure::<ProvideToken>(context) };
    // SAFETY: `config` is valid during this call (fn contract).
    let config = unsafe { read_text(config) };
    // SAFETY: `reply` is valid during this call (fn contract).
    let reply = unsafe { *reply };
    let outcome = catch_panic(|| provide(&config)).unwrap_or_else(|| Err("the provider panicked".to_owned()));
    match (outcome, reply.accept, reply.refuse) {
        (Ok(Token { value, principal, expires_ms }), Some(accept), _) => {
            // SAFETY: `reply` and its token belong to this call, and the texts outlive it.
            unsafe { accept(reply.token, text(&value), text(&principal), expires_ms) };
            OCTOPUS_OK
        }
        (Err(why), _, Some(refuse)) => {
            // SAFETY: `reply` and its token belong to this call, and the text outlives it.
            unsafe { refuse(reply.token, text(&why)) };
            OCTOPUS_CALLBACK_FAILED
        }
        _ => OCTOPUS_UNSUPPORTED,
    }
}
