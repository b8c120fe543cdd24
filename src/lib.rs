//! Octopus: a Kafka backend for the Diaspora Stream API, as a plugin with a C ABI.
//!
//! The library exports one symbol, `octopus_register` ([`abi`]). A module uses the modules below it
//! in this list, and none above; docs/architecture.md describes each.

#[cfg(panic = "abort")]
compile_error!(
    "Octopus must be built with panic=unwind: it catches panics and returns a status instead of ending the host"
);

/// Fuzz targets, and the tests that replay their findings.
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;

pub mod abi;
mod client;
mod kafka;
mod topics;

mod delivery;
mod event;

mod positions;

mod auth;
mod components;
mod config;
/// cbindgen:ignore
#[cfg(feature = "https")]
mod http_client;
mod json;
mod record;

mod support;
