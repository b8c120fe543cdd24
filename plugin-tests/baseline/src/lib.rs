//! The code that both sides of a benchmark share, and the baseline side: librdkafka without
//! Octopus. See docs/performance.md.

// A crate that nothing refers to is not linked.
#[cfg(test)]
use unpatched_librdkafka as _;

pub mod backend;
pub mod job;
pub mod librdkafka;
mod measure;
mod usage;

pub use measure::{ROLE, job_in, measure, print_figures};
pub use usage::Measurement;
