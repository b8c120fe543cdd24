//! Services that a host gives to a driver: closures, made into the `{function, context, destroy}` that C knows. Here
//! a panic of theirs ends, since nothing may unwind into C.

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::null_mut;
use std::sync::OnceLock;

use octopus::abi::*;

use crate::raw::{read_text, text};

/// How much a message of the log matters; the first matters most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogLevel {
    /// Something failed.
    Error,
    /// Something is not as it should be.
    Warning,
    /// Something worth knowing happened.
    Info,
    /// For those who look for a fault.
    Debug,
    /// Everything.
    Trace,
    /// A level of a later version of the plugin.
    Other(i32),
}

/// What happened to partitions of a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rebalance {
    /// They are the consumer's now.
    Assigned,
    /// Taken away in good order: what was acknowledged is committed.
    Revoked,
    /// Taken away because the group gave this member up: what was acknowledged and not committed is read again.
    Lost,
    /// Something that a later version of the plugin tells of.
    Other(i32),
}

pub(crate) type Log = dyn Fn(LogLevel, &str, &str) + Send + Sync;
pub(crate) type Statistics = dyn Fn(&str, &str) + Send + Sync;
pub(crate) type Fatal = dyn Fn(&str, i32, &str) + Send + Sync;
pub(crate) type Rebalanced = dyn Fn(&str, Rebalance, &[u32]) + Send + Sync;
pub(crate) type ProvideToken = dyn Fn(&str) -> Result<Token, String> + Send + Sync;

/// What a client shows to a broker instead of a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// The token itself.
    pub value: String,
    /// Whom it is for; may be empty.
    pub principal: String,
    /// Its end, in milliseconds since 1970.
    pub expires_ms: i64,
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

/// `{function, context, destroy}` of an optional closure; the callback owns the closure then.
macro_rules! callback {
    ($type:ident, $function:expr, $closure:expr) => {
        match $closure {
            Some(closure) => {
                let (context, destroy) = give_away(closure);
                $type { function: Some($function), context, destroy }
            }
            None => $type { function: None, context: null_mut(), destroy: None },
        }
    };
}

static OVERHEARER: OnceLock<fn(&str)> = OnceLock::new();

/// Has all that the plugin says from now on - messages of whatever level, errors, descriptions - told to this function too.
/// It is for tests that look for what should not be said; only the first call counts.
pub fn overhear(hear: fn(&str)) {
    let _ = OVERHEARER.set(hear);
}

pub(crate) fn is_overheard(text: &str) {
    if let Some(hear) = OVERHEARER.get() {
        hear(text);
    }
}

/// What becomes of a driver's messages when its host has no function for them: as the plugin itself does it.
fn to_standard_error(level: LogLevel, source: &str, message: &str) {
    if level <= LogLevel::Warning {
        eprintln!("[{level:?}] {source}: {message}");
    }
}

impl Services {
    /// Gives the closures away: whoever gets the result has to hand it to `driver.create`, which destroys them.
    pub fn hand_over(mut self) -> octopus_host_services {
        if self.log.is_none() && OVERHEARER.get().is_some() {
            self.log = Some(Box::new(to_standard_error));
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

unsafe extern "C" fn log(context: *mut c_void, level: i32, source: octopus_text, message: octopus_text) {
    let level = match level {
        OCTOPUS_LOG_ERROR => LogLevel::Error,
        OCTOPUS_LOG_WARNING => LogLevel::Warning,
        OCTOPUS_LOG_INFO => LogLevel::Info,
        OCTOPUS_LOG_DEBUG => LogLevel::Debug,
        OCTOPUS_LOG_TRACE => LogLevel::Trace,
        other => LogLevel::Other(other),
    };
    // SAFETY: the context that came with this function and is not destroyed; texts that live during the call.
    let (tell, source, message) = unsafe { (closure::<Log>(context), read_text(source), read_text(message)) };
    contained(|| {
        is_overheard(&format!("{level:?} {source}: {message}"));
        tell(level, &source, &message);
    });
}

unsafe extern "C" fn statistics(context: *mut c_void, client: octopus_text, json: octopus_text) {
    // SAFETY: as in `log`.
    let (tell, client, json) = unsafe { (closure::<Statistics>(context), read_text(client), read_text(json)) };
    contained(|| tell(&client, &json));
}

unsafe extern "C" fn fatal(context: *mut c_void, client: octopus_text, kafka_code: i32, message: octopus_text) {
    // SAFETY: as in `log`.
    let (tell, client, message) = unsafe { (closure::<Fatal>(context), read_text(client), read_text(message)) };
    contained(|| tell(&client, kafka_code, &message));
}

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
    let partitions = match partitions.is_null() {
        true => &[],
        // SAFETY: an array of so many that lives during the call.
        false => unsafe { std::slice::from_raw_parts(partitions, partition_count as usize) },
    };
    // SAFETY: as in `log`.
    let (tell, consumer) = unsafe { (closure::<Rebalanced>(context), read_text(consumer)) };
    contained(|| tell(&consumer, what, partitions));
}

unsafe extern "C" fn token(
    context: *mut c_void,
    config: octopus_text,
    reply: *const octopus_token_reply,
) -> octopus_status {
    // SAFETY: as in `log`; so does the reply.
    let (provide, config, reply) = unsafe { (closure::<ProvideToken>(context), read_text(config), *reply) };
    let outcome = contained(|| provide(&config)).unwrap_or_else(|| Err("the provider panicked".to_owned()));
    match (outcome, reply.accept, reply.refuse) {
        (Ok(Token { value, principal, expires_ms }), Some(accept), _) => {
            // SAFETY: the reply's own token; texts that live during the call.
            unsafe { accept(reply.token, text(&value), text(&principal), expires_ms) };
            OCTOPUS_OK
        }
        (Err(why), _, Some(refuse)) => {
            // SAFETY: as above.
            unsafe { refuse(reply.token, text(&why)) };
            OCTOPUS_CALLBACK_FAILED
        }
        _ => OCTOPUS_UNSUPPORTED,
    }
}

/// The context for a closure, and what destroys it.
pub(crate) fn give_away<F: ?Sized>(closure: Box<F>) -> (*mut c_void, octopus_destroy_fn) {
    // Boxed once more, since a pointer to a `dyn Fn` is wider than a `void *`.
    (Box::into_raw(Box::new(closure)).cast(), Some(destroy::<F>))
}

/// # Safety
/// `context` came from [`give_away`] with this type and is not destroyed for as long as the result is used.
pub(crate) unsafe fn closure<'a, F: ?Sized>(context: *mut c_void) -> &'a F {
    // SAFETY: the caller's promise.
    unsafe { &*context.cast::<Box<F>>() }
}

/// # Safety
/// As for [`closure`]; and nobody else uses the context meanwhile.
pub(crate) unsafe fn closure_mut<'a, F: ?Sized>(context: *mut c_void) -> &'a mut F {
    // SAFETY: the caller's promise.
    unsafe { &mut *context.cast::<Box<F>>() }
}

unsafe extern "C" fn destroy<F: ?Sized>(context: *mut c_void) {
    // SAFETY: from `give_away` with this type, and destroyed once.
    contained(|| drop(unsafe { Box::from_raw(context.cast::<Box<F>>()) }));
}

/// What makes a closure that is called once fit for C, which may call it again for all that Rust knows.
pub(crate) fn at_most_once<A>(once: impl FnOnce(A) + Send + 'static) -> Box<dyn FnMut(A) + Send> {
    let mut once = Some(once);
    Box::new(move |argument| {
        if let Some(once) = once.take() {
            once(argument);
        }
    })
}

/// What `work` gives; none if it panics. The panic has been printed when it comes here, and there is nobody to hand it
/// to.
pub(crate) fn contained<T>(work: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).ok()
}
