//! The concurrent code of Octopus with loom's locks and atomics. loom runs each model in
//! `tests/models` in all interleavings of its threads.
//!
//! The modules have the paths of the crate `octopus` and include its sources. Modules that need
//! librdkafka, or that don't matter for concurrency, are replaced by [`stand_ins`].

#![allow(dead_code, reason = "the models use only a part of the included sources")]

pub mod stand_ins;
pub mod sync;

// The sources name the crate rdkafka, for the enum of librdkafka's error codes.
extern crate self as rdkafka;
pub use stand_ins::types;

pub use stand_ins::{components, json};

#[path = "../../../src/config"]
pub mod config {
    mod record_formats;
    pub use record_formats::{RecordFormats, ValueFormat};
}

#[path = "../../../src/client"]
pub mod client {
    pub mod consumer {
        pub mod returned_events;
    }
}

#[path = "../../../src/kafka"]
pub mod kafka {
    pub mod client {
        pub mod connection_health;
    }
    pub mod librdkafka {
        pub mod log_messages;
        pub mod record;
        pub use crate::stand_ins::{codes, errors, message, pinned_responses};
    }
}

#[path = "../../../src/delivery"]
pub mod delivery {
    pub mod future;
    pub mod promise;
    pub mod pull;
    pub mod sequencer;
}

#[path = "../../../src/event/mod.rs"]
pub mod event;

#[path = "../../../src"]
mod sources {
    pub mod positions;
    pub mod record;
}
pub use sources::{positions, record};

#[path = "../../../src/support"]
pub mod support {
    pub mod deadline;
    pub mod error;
    pub mod flagged;
    pub use crate::stand_ins::{callbacks, poison, thread_pool, threads};
    pub use crate::sync;
}
