//! What strangers can hand to Octopus, tried with bytes that a fuzzer makes: a function for each target, which panics when a
//! promise is broken. `ci/fuzz.sh` has them called some ten million times (plugin-tests/fuzz); the tests beside this replay
//! what was found worth keeping. No build that is shipped has any of this. [`batches`] calls into librdkafka with C code of its own, which only
//! fuzzers' builds have.

mod abi;
#[cfg(fuzzing)]
mod batches;
mod components;
mod configuration;
mod input;
mod memory;
mod record;
#[cfg(test)]
mod tests;

pub use abi::abi;
#[cfg(fuzzing)]
pub use batches::batches;
pub use components::components;
pub use configuration::configuration;
pub use record::record;
