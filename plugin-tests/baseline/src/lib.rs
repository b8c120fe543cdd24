//! What both sides of a benchmark share, and librdkafka's side: docs/performance.md.

// Linked only if it is named.
#[cfg(test)]
use unpatched_librdkafka as _;

pub mod job;
pub mod librdkafka;
mod measure;
pub mod side;
mod usage;

pub use measure::{ROLE, job_in, measure, tell};
pub use usage::Before;
