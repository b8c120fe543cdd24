//! Fuzz targets for untrusted input: each is a function that takes the bytes of a fuzzer and panics
//! if a guarantee is violated. `ci/fuzz.sh` calls them some ten million times (plugin-tests/fuzz);
//! the tests in this module replay the corpora. No released build contains this module. [`batches`]
//! calls librdkafka through C code that only builds for fuzzing have.

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
