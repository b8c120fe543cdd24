//! The objects that a host works with: drivers, topics, producers and consumers. Safe Rust without
//! raw pointers; [`kafka`](crate::kafka) is their way to the brokers.

pub mod consumer;
pub mod context;
pub mod driver;
pub mod preparation;
pub mod producer;
pub mod topic;
