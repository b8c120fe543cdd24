//! Octopus: a Kafka backend for the Diaspora Streaming API, as a plugin with a C ABI.
//!
//! The library exports one symbol, `octopus_register` ([`abi`]). docs/architecture.md is the map of the rest: a
//! call goes host → `abi` → [`driver`] → [`topic`] → [`producer`] or [`consumer`] → `kafka`, and an event comes
//! back the same way.

#[cfg(panic = "abort")]
compile_error!("Octopus must be built with panic=unwind: a panic becomes a status, never the end of the host");

pub mod abi;
mod admin;
mod auth;
mod completions;
mod components;
mod config;
mod consumer;
mod deadline;
mod driver;
mod error;
mod event;
mod flagged;
mod fork;
mod future;
/// For fuzzers only, and for the tests that replay what they found.
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
mod in_flight;
mod json;
mod kafka;
mod log_throttle;
mod name_lookup;
mod order;
mod poison;
mod positions;
mod preparation;
mod process_exit;
mod processing;
mod producer;
mod protection;
mod record;
mod resource_limit;
mod services;
/// cbindgen:ignore
mod stack;
mod sync;
mod thread_pool;
mod topic;
