//! Octopus for Rust programs: loads `liboctopus.so`, a Kafka backend for the Diaspora Stream
//! API, and wraps its C ABI in safe Rust.
//!
//! The library contains librdkafka and everything else that it needs, so a program that uses this
//! crate depends on libloading, serde and serde_json only. [`Library`] is the entry: it makes a
//! [`Driver`], which opens a [`Topic`], from which a [`Producer`] or a [`Consumer`] is made.
//!
//! # Example
//!
//! `{"embedded": {}}` starts a Kafka inside the library, so that this example needs no server. With
//! a real one the configuration is `{"kafka": {"bootstrap.servers": "localhost:9092"}}`.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use octopus_loader::{Library, NewEvent, TopicOptions};
//! use serde_json::json;
//!
//! # fn main() -> octopus_loader::Result<()> {
//! const TIMEOUT: Duration = Duration::from_secs(10);
//!
//! let library = Library::find()?;
//! let driver = library.driver(json!({"embedded": {}}))?;
//! driver.create_topic("weather", &TopicOptions::default().partitions(3).replication(1))?;
//! let topic = driver.open_topic("weather")?;
//!
//! let producer = topic.producer("station-7").kafka("linger.ms", 5).make()?;
//! let push = producer.push(&NewEvent::json(&json!({"celsius": 21.5})).data(b"raw samples"))?;
//! producer.flush()?.wait(TIMEOUT)?;
//! let delivered = push.wait(TIMEOUT)?;
//! println!("stored in partition {} at offset {:?}", delivered.partition, delivered.id);
//!
//! let consumer = topic.consumer("archive").make()?;
//! if let Some(event) = consumer.pull()?.wait(TIMEOUT)? {
//!     println!("{}: {} bytes", event.json()?, event.data().len());
//!     event.acknowledge()?;
//! }
//! consumer.close(TIMEOUT)?;
//! producer.close(TIMEOUT)?;
//! # Ok(())
//! # }
//! ```
//!
//! # Rules that hold for every call
//!
//! - **Threads.** Every object can be used from any thread, and by several at the same time.
//! - **Dropping** an object releases it and returns at once. The order does not matter: a topic
//!   works without its driver. Dropping cancels nothing; pushed events are still delivered. Only
//!   `close` waits, and reports what failed.
//! - **Errors** have one type, [`Error`]: branch on its [`Status`] and show its message to people.
//!   Every call can fail with [`Status::InvalidArgument`], [`Status::Panicked`],
//!   [`Status::Forked`] in the child of a fork, and [`Status::Unsupported`] when the loaded library
//!   is older than this crate and lacks the function. The documentation of each function lists the
//!   other statuses.
//! - **Timeouts** are rounded up to whole milliseconds. Zero does not wait; [`FOREVER`] waits
//!   without a limit.
//! - **Callbacks** run on threads of the library. A panic in one is caught. A call that would wait
//!   for the thread that it is made on fails with [`Status::WouldDeadlock`].

#![warn(missing_docs, clippy::missing_safety_doc)]

/// The types and constants of the C ABI, as `include/octopus.h` declares them; for calls that this
/// crate does not wrap, through [`Library::api`].
#[allow(missing_docs, non_camel_case_types, clippy::missing_safety_doc, clippy::multiple_unsafe_ops_per_block)]
#[path = "bindings.rs"]
pub mod abi;

mod callback;
mod component;
mod consumer;
mod driver;
mod error;
mod event;
mod find;
mod future;
mod handle;
mod library;
mod options;
mod preparation;
mod processing;
mod producer;
mod raw;
mod services;
mod stats;
mod thread_pool;
mod topic;
mod transaction;

pub use component::{Selector, Serializer, Validator};
pub use consumer::{Consumer, ConsumerBuilder};
pub use driver::{Driver, DriverBuilder};
pub use error::{Error, Persisted, Result, SkippedOffsets, Status};
pub use event::{Event, Header, RecordFormat, TimestampType};
pub use future::{Delivered, Flush, Pull, Push};
pub use library::Library;
pub use options::{TopicOptions, TopicText};
pub use preparation::Preparation;
pub use processing::{Bounds, Flow};
pub use producer::{NewEvent, Producer, ProducerBuilder};
pub use raw::FOREVER;
pub use services::{LogLevel, Rebalance, Token, set_text_observer};
pub use stats::{Latency, Stats};
pub use thread_pool::{HIGHEST_PRIORITY, HostPool, Task, ThreadPool};
pub use topic::Topic;
