//! The C ABI: `extern "C"` slots and `#[repr(C)]` types, from which include/octopus.h is generated. A slot checks
//! its arguments, calls the core once, and wraps the result; it has no logic. The core knows nothing of this room.
//! The rules that hold for every slot are in docs/abi.md.

#![allow(non_camel_case_types)]

pub mod args;
pub mod callback;
pub mod component;
pub mod consumer;
pub mod driver;
pub mod error;
pub mod event;
mod forked_child;
pub mod future;
mod guard;
mod handle;
mod layout;
pub mod preparation;
pub mod producer;
pub mod services;
pub mod status;
pub mod string;
#[cfg(test)]
mod tests;
pub mod thread_pool;
pub mod token;
pub mod topic;

use once_cell::race::OnceBox;

pub use args::*;
pub use callback::*;
pub use component::*;
pub use consumer::*;
pub use driver::*;
pub use error::*;
pub use event::*;
pub use future::*;
pub use preparation::octopus_preparation;
pub use producer::*;
pub use services::*;
pub use status::*;
pub use string::{octopus_string, octopus_string_api};
pub use thread_pool::*;
pub use token::{octopus_token_callback, octopus_token_reply};
pub use topic::*;

use crate::fork;
use crate::kafka;

/// The version of the ABI. Within a major, slots and fields are only appended. In major 0 any change may break, and
/// both sides must have the same minor, too.
pub const OCTOPUS_ABI_MAJOR: u32 = 0;
pub const OCTOPUS_ABI_MINOR: u32 = 1;

/// Everything the plugin offers: one table of functions per noun. All of it lives until the process ends.
#[repr(C)]
pub struct octopus_api {
    /// `sizeof(octopus_api)` in the plugin.
    pub size: u64,
    /// What the library speaks, to be compared with `OCTOPUS_ABI_MAJOR` and `OCTOPUS_ABI_MINOR`.
    pub abi_major: u32,
    pub abi_minor: u32,
    /// `octopus`.
    pub name: octopus_text,
    /// The plugin's version.
    pub version: octopus_text,
    /// The version of the librdkafka inside.
    pub librdkafka_version: octopus_text,
    /// What librdkafka was built with, separated by commas: `gzip,snappy,ssl,…`.
    pub built_in: octopus_text,
    /// The tables; none is NULL.
    pub error: *const octopus_error_api,
    pub string: *const octopus_string_api,
    pub driver: *const octopus_driver_api,
    pub topic: *const octopus_topic_api,
    pub producer: *const octopus_producer_api,
    pub consumer: *const octopus_consumer_api,
    pub future: *const octopus_future_api,
    pub event: *const octopus_event_api,
    pub thread_pool: *const octopus_thread_pool_api,
}

// SAFETY: never changed once made, and what it points to lives until the process ends.
unsafe impl Send for octopus_api {}
// SAFETY: as above.
unsafe impl Sync for octopus_api {}

/// Without a lock: another thread may be in here when the process forks.
static API: OnceBox<octopus_api> = OnceBox::new();

fn make_api() -> Box<octopus_api> {
    let text = |text: String| octopus_text::view(Box::leak(text.into_boxed_str()));
    Box::new(octopus_api {
        size: size_of::<octopus_api>() as u64,
        abi_major: OCTOPUS_ABI_MAJOR,
        abi_minor: OCTOPUS_ABI_MINOR,
        name: octopus_text::of("octopus"),
        version: octopus_text::of(env!("CARGO_PKG_VERSION")),
        librdkafka_version: text(kafka::librdkafka_version()),
        built_in: text(kafka::built_in_features()),
        error: &error::ERROR,
        string: &string::STRING,
        driver: &driver::DRIVER,
        topic: &topic::TOPIC,
        producer: &producer::PRODUCER,
        consumer: &consumer::CONSUMER,
        future: &future::FUTURE,
        event: &event::EVENT,
        thread_pool: &thread_pool::THREAD_POOL,
    })
}

/// The library's only symbol. Given the `OCTOPUS_ABI_MAJOR` of the header that the host was built with, it returns
/// everything else, or NULL if this library doesn't speak that major. Can be called from any thread, any number of
/// times. In major 0 compare `abi_minor` as well. The library is never unmapped, so the result outlives `dlclose`.
#[unsafe(no_mangle)]
pub extern "C" fn octopus_register(abi_major: u32) -> *const octopus_api {
    match (abi_major == OCTOPUS_ABI_MAJOR).then(|| std::panic::catch_unwind(api)) {
        Some(Ok(api)) => api,
        _ => std::ptr::null(),
    }
}

fn api() -> &'static octopus_api {
    if fork::is_forked_child()
        && fork::was_announced()
        && !fork::adopt_unused()
        // If there can't be a copy, whatever creates something says why.
        && let Ok(copy) = forked_child::load()
    {
        return copy;
    }
    fork::watch();
    API.get_or_init(make_api)
}
