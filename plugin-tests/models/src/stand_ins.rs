//! What the included sources use of modules that are not included.

/// Of the crate rdkafka: the error codes that `connection_health` distinguishes.
pub mod types {
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum RDKafkaErrorCode {
        AllBrokersDown,
        Authentication,
        BadMessage,
        BrokerTransportFailure,
        Resolve,
        SaslAuthenticationFailed,
        SSL,
    }
}

pub mod codes {
    use super::types::RDKafkaErrorCode;

    #[derive(Clone, Copy)]
    pub struct Code(pub RDKafkaErrorCode);

    impl Code {
        pub fn number(self) -> i32 {
            self.0 as i32
        }
    }

    impl From<Code> for RDKafkaErrorCode {
        fn from(code: Code) -> Self {
            code.0
        }
    }
}

pub mod errors {
    use super::codes::Code;
    use crate::support::error::{Error, Kind};

    pub fn error(code: Code, reason: &str) -> Error {
        Error::new(Kind::Kafka, reason.to_owned()).with_kafka_code(code.number())
    }
}

/// A message that is not in a fetch response, so that its bytes are copied.
pub mod message {
    use crate::record::{Attributes, TimestampType};
    use crate::support::error::Result;

    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct FetchResponse;

    pub struct Message(pub Vec<u8>);

    impl Message {
        pub fn payload(&self) -> &[u8] {
            &self.0
        }

        pub fn is_tombstone(&self) -> bool {
            false
        }

        pub fn response(&self) -> Option<FetchResponse> {
            None
        }

        pub fn attributes(&mut self) -> Result<Option<Box<Attributes>>> {
            Ok(None)
        }

        pub fn timestamp(&self) -> (i64, TimestampType) {
            (-1, TimestampType::Missing)
        }
    }
}

pub mod pinned_responses {
    use super::message::FetchResponse;

    pub struct PinnedResponses;
    pub struct Pin;

    impl PinnedResponses {
        pub fn pin(&self, _: FetchResponse) -> Option<Pin> {
            None
        }

        pub fn pin_beyond_limit(&self, _: FetchResponse) -> Option<Pin> {
            None
        }
    }

    impl Pin {
        pub fn is_of(&self, _: &PinnedResponses) -> bool {
            true
        }
    }
}

pub mod components {
    use std::sync::Arc;

    use crate::support::error::{Error, Result};

    pub enum Provided<T: ?Sized> {
        BuiltIn,
        Custom(Arc<T>),
        Missing(Error),
    }

    pub trait Serializer: Send + Sync {
        fn deserialize(&self, bytes: &[u8]) -> Result<String>;
    }
}

pub mod json {
    use std::str::Utf8Error;

    pub fn from_utf8(bytes: &[u8]) -> Result<&str, Utf8Error> {
        str::from_utf8(bytes)
    }

    pub fn check(_: &str) -> Result<(), String> {
        Ok(())
    }
}

/// The queue of completions. A model runs them when it likes; the plugin has a thread for that.
pub mod callbacks {
    use crate::support::error::Result;
    use crate::sync::Mutex;

    pub type Completion = Box<dyn FnOnce() + Send>;

    loom::lazy_static! {
        static ref QUEUE: Mutex<Vec<Completion>> = Mutex::new(Vec::new());
    }

    pub fn start() -> Result<()> {
        Ok(())
    }

    /// Runs the queued completions, in order.
    pub fn run_queued() {
        let queued = std::mem::take(&mut *QUEUE.lock());
        queued.into_iter().for_each(|completion| completion());
    }

    #[derive(Default)]
    pub struct CallbackBatch(());

    impl CallbackBatch {
        pub fn enqueue(&self, completions: impl IntoIterator<Item = Completion>) {
            QUEUE.lock().extend(completions);
        }
    }
}

/// Part of each handle. [`Poison::check`] stands for any use of the object: loom reports a use that
/// does not happen before the object's drop.
pub mod poison {
    use loom::cell::UnsafeCell;

    use crate::support::error::Result;

    #[derive(Debug, Default)]
    pub struct Poison(UnsafeCell<()>);

    // SAFETY: the cell has no content; loom checks the order of its uses.
    unsafe impl Send for Poison {}
    // SAFETY: as for `Send`.
    unsafe impl Sync for Poison {}

    impl Poison {
        pub fn check(&self, _: &str) -> Result<()> {
            self.0.with(|_| Ok(()))
        }
    }

    impl Drop for Poison {
        fn drop(&mut self) {
            // A second panic would abort the process before the first is reported.
            if !std::thread::panicking() {
                self.0.with_mut(|_| ());
            }
        }
    }
}

/// The threads of a model belong to the host.
pub mod threads {
    use crate::support::error::Result;

    pub fn ensure_not_plugin_thread(_: &str) -> Result<()> {
        Ok(())
    }
}

pub mod thread_pool {
    use crate::support::error::Result;

    pub struct PoolId;

    impl PoolId {
        pub const NONE: PoolId = PoolId;

        pub fn ensure_not_on_pool_thread(&self, _: &str) -> Result<()> {
            Ok(())
        }
    }
}
