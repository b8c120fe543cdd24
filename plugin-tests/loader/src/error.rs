//! The error of every call: a copy of the library's error object, or a failure of this crate.

use std::fmt;

use crate::abi;

/// What every call returns.
pub type Result<T> = std::result::Result<T, Error>;

/// The failure of one call. Programs branch on `status`; the message is for people and not stable.
/// Print it with `{}`, which shows the message; `{:?}` shows all fields.
///
/// ```no_run
/// # use octopus_loader::{Driver, Result, Status, Topic, TopicOptions};
/// fn open_or_create(driver: &Driver, name: &str) -> Result<Topic> {
///     match driver.create_topic(name, &TopicOptions::default()) {
///         Err(error) if error.status != Status::TopicExists => Err(error),
///         _ => driver.open_topic(name),
///     }
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// The kind of failure.
    pub status: Status,
    /// The error code of librdkafka (negative) or of a broker (positive), if one is the cause.
    pub kafka_code: Option<i32>,
    /// Whether the same call may succeed later without any change to the configuration.
    pub retriable: bool,
    /// For a failed push: whether the event may be in the topic nevertheless.
    pub persisted: Persisted,
    /// For [`Status::DamagedData`] and [`Status::RecordsLost`]: the offsets that reading skips,
    /// once their end is known.
    pub skipped: Option<SkippedOffsets>,
    /// What was attempted, on what; what happened; what to do.
    pub message: String,
}

/// Whether an event whose push failed may be in the topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Persisted {
    /// It is not in the topic and will not be.
    No,
    /// It may be in the topic: no acknowledgement has arrived.
    Possibly,
}

/// A range of offsets of one partition, with both ends included.
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
        /// The outcome of a call, as include/octopus.h lists them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Status {
            $(#[doc = concat!("`", stringify!($constant), "`: ", $meaning, ".")] $name,)*
            /// The library can't be found or loaded, or violates its own ABI. Only this crate uses
            /// it.
            BadLibrary,
            /// A status of a later version of the library.
            Other(i32),
        }

        impl Status {
            /// The status with this number in the ABI.
            pub fn from_code(code: i32) -> Self {
                match code {
                    $(abi::$constant => Status::$name,)*
                    other => Status::Other(other),
                }
            }

            /// The number in the ABI; none for [`Status::BadLibrary`].
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
                    Status::Other(_) => "a status that this program does not know",
                }
            }
        }
    };
}

statuses! {
    Ok = OCTOPUS_OK: "success";
    TimedOut = OCTOPUS_TIMED_OUT: "the timeout has passed; nothing failed";
    EndOfTopic = OCTOPUS_END_OF_TOPIC: "the record that marks the end of the topic was read";
    Closed = OCTOPUS_CLOSED: "the object was closed before";
    WouldBlock = OCTOPUS_WOULD_BLOCK: "the call would have to wait and must not";
    InvalidArgument = OCTOPUS_INVALID_ARGUMENT: "an argument is not valid";
    InvalidConfiguration = OCTOPUS_INVALID_CONFIGURATION: "the configuration or the options are wrong";
    Unreachable = OCTOPUS_UNREACHABLE: "no broker responded, or took events, within the timeout";
    UnknownTopic = OCTOPUS_UNKNOWN_TOPIC: "the topic does not exist";
    TopicExists = OCTOPUS_TOPIC_EXISTS: "the topic exists already";
    InvalidMetadata = OCTOPUS_INVALID_METADATA: "the metadata of an event is not JSON";
    TooLarge = OCTOPUS_TOO_LARGE: "the event is larger than the settings allow";
    Component = OCTOPUS_COMPONENT: "a validator, selector or serializer can't be made or is not registered";
    MalformedRecord = OCTOPUS_MALFORMED_RECORD: "a record of the topic is not an event; the next call skips it";
    RecordsLost = OCTOPUS_RECORDS_LOST: "records were removed before they were read; the next call continues after them";
    Kafka = OCTOPUS_KAFKA: "Kafka or librdkafka rejected the request";
    Stale = OCTOPUS_STALE: "the event belongs to an assignment that has ended";
    WouldDeadlock = OCTOPUS_WOULD_DEADLOCK: "the call would wait for the thread that it is made on";
    Unsupported = OCTOPUS_UNSUPPORTED: "this build of the library does not support it";
    CallbackFailed = OCTOPUS_CALLBACK_FAILED: "a callback of this program failed";
    Forked = OCTOPUS_FORKED: "the object belongs to the process that this one was forked from";
    Panicked = OCTOPUS_PANICKED: "a bug of the library; the object can only be dropped";
    ResourceLimit = OCTOPUS_RESOURCE_LIMIT: "a limit prevents the creation of a thread, a descriptor or memory";
    DamagedData = OCTOPUS_DAMAGED_DATA: "records of the topic can't be decoded";
    MustAbort = OCTOPUS_MUST_ABORT: "the transaction failed and can only be aborted";
    Fenced = OCTOPUS_FENCED: "a newer producer has the same transactional id, or a transaction was open for too long";
}

impl Error {
    /// An error with this status and message and without details of Kafka.
    pub fn new(status: Status, message: impl Into<String>) -> Self {
        Error {
            status,
            kafka_code: None,
            retriable: false,
            persisted: Persisted::No,
            skipped: None,
            message: message.into(),
        }
    }

    /// The error of a callback of this program, for a processor to return.
    pub fn from_host(message: impl Into<String>) -> Self {
        Error::new(Status::CallbackFailed, message)
    }

    /// A status without an error object.
    pub(crate) fn from_status(slot: &str, status: Status) -> Self {
        Error::new(status, format!("{slot}: {}", status.meaning()))
    }

    pub(crate) fn missing_slot(slot: &str) -> Self {
        Error::new(Status::Unsupported, format!("{slot}: the loaded library does not have this function"))
    }

    pub(crate) fn bad_library(message: impl Into<String>) -> Self {
        Error::new(Status::BadLibrary, message)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_statuses_convert_both_ways() {
        for code in -30..10 {
            assert_eq!(Status::from_code(code).code(), Some(code));
        }
        assert_eq!(Status::BadLibrary.code(), None);
        assert_eq!(Status::from_code(-1_000), Status::Other(-1_000));
    }

    #[test]
    fn display_is_the_message() {
        assert_eq!(Error::from_host("disk full").to_string(), "disk full");
    }
}
