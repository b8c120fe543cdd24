//! Octopus for Rust programs: finds `liboctopus.so`, loads it, and wraps the tables of functions that it gives, so
//! that a host needs no `unsafe`. It knows include/octopus.h and nothing of what is behind it: every call goes
//! through the loaded library, and from the crate `octopus` come only the types and constants of its ABI.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use octopus_loader::{NewEvent, Octopus, TopicOptions};
//! use serde_json::json;
//!
//! # fn main() -> octopus_loader::Result<()> {
//! let octopus = Octopus::find()?;
//! let driver = octopus.driver(json!({"kafka": {"bootstrap.servers": "localhost:9092"}}))?;
//! driver.create_topic("weather", &TopicOptions::default().partitions(3).replication(1))?;
//! let topic = driver.open_topic("weather")?;
//!
//! let producer = topic.producer("station-7").kafka("linger.ms", 5).make()?;
//! let push = producer.push(&NewEvent::json(&json!({"celsius": 21.5})).data(b"raw samples"))?;
//! let delivered = push.wait(Duration::from_secs(10))?;
//! println!("in partition {}, at offset {:?}", delivered.partition, delivered.id);
//!
//! let consumer = topic.consumer("archive").make()?;
//! while let Some(event) = consumer.next(Duration::from_secs(1))? {
//!     println!("{}: {} bytes", event.json()?, event.data().len());
//!     event.acknowledge()?;
//! }
//! consumer.close(Duration::from_secs(10))?;
//! # Ok(())
//! # }
//! ```
//!
//! # What holds everywhere
//!
//! - **Threads.** Everything can be used from any thread, also at the same time.
//! - **Dropping** gives a handle back and returns at once, in any order: a topic goes on without its driver. It
//!   never cancels: what was pushed is still delivered. Only `close` waits, and tells what became of it.
//! - **Errors** are one type, [`Error`]: branch on its [`Status`], show its message. Every call can also fail with
//!   [`Status::InvalidArgument`], [`Status::Panicked`], [`Status::Forked`] in the child of a fork, and
//!   [`Status::Unsupported`] when the loaded library has no such function; docs say what else can be expected.
//! - **Times** are rounded up to whole milliseconds; zero doesn't wait, [`FOREVER`] does.

#![warn(missing_docs)]

mod component;
mod consumer;
mod driver;
mod error;
mod event;
mod future;
mod library;
mod options;
mod preparation;
mod processing;
mod producer;
mod raw;
mod services;
mod thread_pool;
mod topic;

pub use component::{Selector, Serializer, Validator};
pub use consumer::{Consumer, ConsumerBuilder};
pub use driver::{Driver, DriverBuilder};
pub use error::{Error, Persisted, Result, SkippedOffsets, Status};
pub use event::Event;
pub use future::{Delivered, Flush, Pull, Push};
pub use library::{LIBRARY_VARIABLE, Octopus};
pub use options::{TopicOptions, TopicText};
pub use preparation::Preparation;
pub use processing::{Bounds, Flow};
pub use producer::{NewEvent, Producer, ProducerBuilder};
pub use raw::FOREVER;
pub use services::{LogLevel, Rebalance, Token, overhear};
pub use thread_pool::{FIRST, HostPool, Task, ThreadPool};
pub use topic::Topic;
