//! The C ABI: `extern "C"` slots and `#[repr(C)]` types. cbindgen generates include/octopus.h from
//! their doc comments, which therefore are Doxygen.
//!
//! A slot validates its arguments, makes one call into the core and converts the result; it
//! contains no logic. The core does not know this module. docs/reference/abi.md has the rules that
//! hold for all slots.

#![allow(non_camel_case_types)]

pub mod args;
pub mod callback;
pub mod component;
pub mod consumer;
pub mod driver;
pub mod error;
mod error_handle;
pub mod event;
mod forked_child;
pub mod future;
mod guard;
mod handle;
mod layout;
pub mod preparation;
pub mod producer;
mod push_args;
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
pub use error_handle::octopus_error;
pub use event::*;
pub use future::*;
pub use preparation::octopus_preparation;
pub use producer::*;
pub use push_args::{octopus_push_args, octopus_push_attributes};
pub use services::*;
pub use status::*;
pub use string::{octopus_string, octopus_string_api};
pub use thread_pool::*;
pub use token::{octopus_token_callback, octopus_token_reply};
pub use topic::*;

use crate::kafka;
use crate::support::fork;

/// The major version of the ABI that this header describes.
///
/// Within a major version, slots and fields are only appended. Major version 0 makes no such
/// promise: there, the minor versions of the header and the library must be equal too.
pub const OCTOPUS_ABI_MAJOR: u32 = 0;
/// The minor version of the ABI that this header describes.
pub const OCTOPUS_ABI_MINOR: u32 = 1;

/// The entry table: version information, and one table of functions for each type of object.
///
/// `octopus_register` returns it. It and everything that it points to is valid until the process
/// ends, and is never changed. None of the pointers is NULL.
///
/// @since 0.1
#[repr(C)]
pub struct octopus_api {
    /// The size of this struct in the plugin, in bytes.
    pub size: u64,
    /// The major version of the library's ABI; equal to the argument of `octopus_register`.
    pub abi_major: u32,
    /// The minor version of the library's ABI. While `abi_major` is 0, it must equal
    /// `OCTOPUS_ABI_MINOR`.
    pub abi_minor: u32,
    /// The name of the plugin: `octopus`.
    pub name: octopus_text,
    /// The version of the plugin.
    pub version: octopus_text,
    /// The version of the librdkafka that is linked into the plugin.
    pub librdkafka_version: octopus_text,
    /// The features that this librdkafka was built with, separated by commas: `gzip,snappy,ssl,…`.
    pub built_in: octopus_text,
    /// Functions of errors.
    pub error: *const octopus_error_api,
    /// Functions of strings.
    pub string: *const octopus_string_api,
    /// Functions of drivers.
    pub driver: *const octopus_driver_api,
    /// Functions of topics.
    pub topic: *const octopus_topic_api,
    /// Functions of producers.
    pub producer: *const octopus_producer_api,
    /// Functions of consumers.
    pub consumer: *const octopus_consumer_api,
    /// Functions of futures.
    pub future: *const octopus_future_api,
    /// Functions of events.
    pub event: *const octopus_event_api,
    /// Functions of thread pools.
    pub thread_pool: *const octopus_thread_pool_api,
}

// SAFETY: the struct is not modified after its creation, and everything that it points to lives
// until the process ends.
unsafe impl Send for octopus_api {}
// SAFETY: as above.
unsafe impl Sync for octopus_api {}

/// Initialized without a lock, since another thread may be initializing it when the process forks.
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

/// Returns the entry table. This is the only symbol that the library exports.
///
/// The function starts no thread and contacts no server. The library is never unmapped, so the
/// result stays valid after `dlclose`.
///
/// @param abi_major `OCTOPUS_ABI_MAJOR` of the header that the host is compiled with.
/// @return The table, the same one at each call; NULL if the library has another major version of
/// the ABI. While the major version is 0, compare `abi_minor` with `OCTOPUS_ABI_MINOR` too.
/// @note Any thread may call it, any number of times, also in a forked child. It does not block.
/// @since 0.1
#[unsafe(no_mangle)]
pub extern "C" fn octopus_register(abi_major: u32) -> *const octopus_api {
    match (abi_major == OCTOPUS_ABI_MAJOR).then(|| std::panic::catch_unwind(api)) {
        Some(Ok(api)) => api,
        _ => std::ptr::null(),
    }
}

fn api() -> &'static octopus_api {
    if fork::is_forked_child()
        && fork::has_fork_handler_run()
        && !fork::adopt_if_unused()
        // If the copy can't be loaded, the slots that create something report the reason.
        && let Ok(copy) = forked_child::load()
    {
        return copy;
    }
    fork::watch();
    API.get_or_init(make_api)
}
