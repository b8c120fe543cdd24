//! The interfaces of components.

use crate::support::error::Result;

/// Decides which events may be pushed. Called on any thread, concurrently.
pub trait Validator: Send + Sync {
    /// Whether [`validate`](Self::validate) reads the data. If not, it receives no segments.
    fn wants_data(&self) -> bool;
    fn validate(&self, metadata: &str, data: &[&[u8]]) -> Result<()>;
}

/// Converts metadata to bytes and back. Called on any thread, concurrently.
pub trait Serializer: Send + Sync {
    fn serialize(&self, metadata: &str) -> Result<Vec<u8>>;
    fn deserialize(&self, bytes: &[u8]) -> Result<String>;
}

/// Selects the partition of an event. May keep state from one event to the next.
pub trait Selector: Send {
    fn select(&mut self, metadata: &str, requested: Option<u64>, partitions: u32) -> Result<u32>;
}
