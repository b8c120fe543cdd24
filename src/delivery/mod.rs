//! Work in progress: the events that are in flight, the order in which they are dispatched, and the
//! futures that report what became of them.

pub mod future;
pub mod in_flight;
pub mod promise;
pub mod pull;
pub mod sequencer;
pub mod totals;
