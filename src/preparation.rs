//! An event that its host makes ready itself, with objects of its own where the topic's components would do it. What
//! stays here is the rest: room, order, the thread pool, delivery.

use crate::error::Result;

/// One event's, asked once each and in this order; dropped when the event is out or has failed.
pub trait Preparation: Send {
    /// Validates the event and gives its metadata as the host's serializer writes it. Where the producer's pool runs
    /// it, several at a time.
    fn prepare(&mut self, data: &[&[u8]]) -> Result<Vec<u8>>;

    /// The partition, below `partitions`; `None` leaves it to the topic's selector. One event of a producer at a time
    /// and, in strict order, in the order of the pushes.
    fn select(&mut self, requested: Option<u64>, partitions: u32) -> Result<Option<u32>>;
}
