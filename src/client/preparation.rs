//! The interface of an event that the host validates, serializes and assigns to a partition itself,
//! in place of the topic's components. The producer does the rest: the in-flight limit, order, the
//! thread pool and delivery.

use crate::support::error::Result;

/// The host's part of preparing one event. Each function is called at most once, in this order. It
/// is dropped when the event is sent or has failed.
pub trait Preparation: Send {
    /// Validates the event and returns its serialized metadata. Runs on the producer's thread pool,
    /// for several events at the same time.
    fn prepare(&mut self, data: &[&[u8]]) -> Result<Vec<u8>>;

    /// Selects the partition, below `partitions`; `None` leaves it to the topic's selector. Runs
    /// for one event of a producer at a time and, in strict order, in push order.
    fn select(&mut self, requested: Option<u64>, partitions: u32) -> Result<Option<u32>>;
}
