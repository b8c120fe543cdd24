//! What a call fails with: the plugin's error object, copied and released, or what this side found by itself.

use octopus::abi;

/// What every call returns.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong in one call, to be branched on by `status` and shown to a person by its message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What kind of trouble it is.
    pub status: Status,
    /// librdkafka's code (negative, found by the client) or Kafka's (positive, said by a broker), if one is behind it.
    pub kafka_code: Option<i32>,
    /// Whether the same call may succeed later without anything being changed by hand.
    pub retriable: bool,
    /// Of a failed push: whether the event may be in the topic all the same.
    pub persisted: Persisted,
    /// Of [`Status::DamagedData`] and [`Status::RecordsLost`]: the offsets that reading skips, once their end is known.
    pub skipped: Option<SkippedOffsets>,
    /// What was being done, to what, what was expected, and what to do.
    pub message: String,
}

/// Whether an event whose push failed may be in the topic all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Persisted {
    /// It is not there and won't be.
    No,
    /// The broker's answer was lost.
    Possibly,
}

/// Offsets of one partition, from the first to the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SkippedOffsets {
    /// The partition.
    pub partition: u32,
    /// The first offset that is skipped.
    pub first: u64,
    /// The last offset that is skipped.
    pub last: u64,
}

macro_rules! statuses {
    ($($name:ident = $constant:ident: $meaning:literal;)*) => {
        /// What a call came to, as include/octopus.h lists it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Status {
            $(#[doc = $meaning] $name,)*
            /// The library can't be found or loaded, or breaks its own ABI. Said by this side, never by the plugin.
            BadLibrary,
            /// A status of a later version of the plugin.
            Other(i32),
        }

        impl Status {
            /// The status that the ABI has this number for.
            pub fn from_code(code: i32) -> Self {
                match code {
                    $(abi::$constant => Status::$name,)*
                    other => Status::Other(other),
                }
            }

            /// The ABI's number for it; none for [`Status::BadLibrary`].
            pub fn code(self) -> Option<i32> {
                match self {
                    $(Status::$name => Some(abi::$constant),)*
                    Status::BadLibrary => None,
                    Status::Other(code) => Some(code),
                }
            }

            fn meaning(self) -> &'static str {
                match self {
                    $(Status::$name => $meaning,)*
                    Status::BadLibrary => "the library can't be used",
                    Status::Other(_) => "a status that this host doesn't know",
                }
            }
        }
    };
}

statuses! {
    Ok = OCTOPUS_OK: "done";
    TimedOut = OCTOPUS_TIMED_OUT: "the time given has passed, and nothing is wrong";
    EndOfTopic = OCTOPUS_END_OF_TOPIC: "the record that marks the end of the topic was read";
    Closed = OCTOPUS_CLOSED: "it was closed before";
    WouldBlock = OCTOPUS_WOULD_BLOCK: "the call would have to wait and must not";
    InvalidArgument = OCTOPUS_INVALID_ARGUMENT: "an argument is not valid";
    InvalidConfiguration = OCTOPUS_INVALID_CONFIGURATION: "the configuration or the options are wrong";
    Unreachable = OCTOPUS_UNREACHABLE: "no broker answered, or took events, within the time limit";
    UnknownTopic = OCTOPUS_UNKNOWN_TOPIC: "there is no such topic";
    TopicExists = OCTOPUS_TOPIC_EXISTS: "the topic exists already";
    InvalidMetadata = OCTOPUS_INVALID_METADATA: "the metadata of an event is not JSON";
    TooLarge = OCTOPUS_TOO_LARGE: "the event is larger than the settings allow";
    Component = OCTOPUS_COMPONENT: "a validator, selector or serializer can't be made, or nobody provides it";
    MalformedRecord = OCTOPUS_MALFORMED_RECORD: "a record of the topic is not an event; the next call skips it";
    RecordsLost = OCTOPUS_RECORDS_LOST: "records were removed before they were read; the next call reads on";
    Kafka = OCTOPUS_KAFKA: "Kafka, or librdkafka, said no";
    Stale = OCTOPUS_STALE: "the event belongs to an assignment that has ended";
    WouldDeadlock = OCTOPUS_WOULD_DEADLOCK: "the call would wait for the thread of the plugin that it is made on";
    Unsupported = OCTOPUS_UNSUPPORTED: "this build has no support for it";
    CallbackFailed = OCTOPUS_CALLBACK_FAILED: "a callback of the host failed";
    Forked = OCTOPUS_FORKED: "the object belongs to the process that this one was forked from";
    Panicked = OCTOPUS_PANICKED: "a defect inside the plugin; the handle can only be dropped";
    ResourceLimit = OCTOPUS_RESOURCE_LIMIT: "a limit keeps a thread, a descriptor or memory from being created";
    DamagedData = OCTOPUS_DAMAGED_DATA: "records of the topic can't be decoded";
}

impl Error {
    /// What a callback of this program fails with.
    pub fn from_host(message: impl Into<String>) -> Self {
        Error::new(Status::CallbackFailed, message)
    }

    pub(crate) fn new(status: Status, message: impl Into<String>) -> Self {
        Error {
            status,
            kafka_code: None,
            retriable: false,
            persisted: Persisted::No,
            skipped: None,
            message: message.into(),
        }
    }

    /// A status that came without an error object.
    pub(crate) fn bare(slot: &str, status: Status) -> Self {
        Error::new(status, format!("{slot}: {}", status.meaning()))
    }

    pub(crate) fn not_built(slot: &str) -> Self {
        Error::new(Status::Unsupported, format!("{slot} is not built in this library"))
    }

    pub(crate) fn bad_library(message: impl Into<String>) -> Self {
        Error::new(Status::BadLibrary, message)
    }
}
