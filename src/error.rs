//! The one error type of the core: what was being done, to what, what went wrong, and what that means for
//! the caller. Statuses of the C ABI are made from it at the edge, in `abi`.

use std::borrow::Cow;
use std::fmt;

pub type Result<T> = std::result::Result<T, Error>;

/// What kind of trouble it is; a caller branches on this, a person reads the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The time that the caller gave has passed; nothing is wrong.
    TimedOut,
    /// The handle was closed before.
    Closed,
    /// The call would have to wait on a thread that must not.
    WouldBlock,
    InvalidArgument,
    Configuration,
    Unreachable,
    UnknownTopic,
    TopicExists,
    InvalidMetadata,
    TooLarge,
    Component,
    MalformedRecord,
    RecordsLost,
    /// Records that can't be decoded.
    DamagedData,
    Kafka,
    Stale,
    WouldDeadlock,
    Unsupported,
    HostCallback,
    Forked,
    /// A thread, a descriptor or memory can't be had.
    ResourceLimit,
    Panicked,
}

/// Whether the event that the error is about may be in the topic all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persisted {
    No,
    Possibly,
}

/// Offsets of one partition, from the first to the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffsetRange {
    pub partition: u32,
    pub first: u64,
    pub last: u64,
}

/// As large as a pointer, since what an event passes through returns a result at each step: larger ones were moved through memory.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}", .0.message)]
pub struct Error(Box<ErrorInner>);

#[derive(Debug, Clone)]
struct ErrorInner {
    kind: Kind,
    /// librdkafka's code (negative: found by the client; positive: said by a broker), where there is one.
    kafka_code: Option<i32>,
    retriable: bool,
    persisted: Persisted,
    /// The offsets that reading passes over because of the error.
    skipped: Option<OffsetRange>,
    message: Cow<'static, str>,
}

impl Error {
    pub fn new(kind: Kind, message: impl Into<Cow<'static, str>>) -> Self {
        Error(Box::new(ErrorInner {
            kind,
            kafka_code: None,
            retriable: false,
            persisted: Persisted::No,
            skipped: None,
            message: message.into(),
        }))
    }

    /// A result without a story: the caller knows what it asked for.
    pub fn from_kind(kind: Kind) -> Self {
        let message = match kind {
            Kind::TimedOut => "the time given has passed",
            Kind::Closed => "closed: this handle was closed before",
            Kind::WouldBlock => "would block: no room, and this thread must not wait",
            _ => "",
        };
        Error::new(kind, message)
    }

    pub fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Error::new(Kind::InvalidArgument, message)
    }

    pub fn configuration(key: impl fmt::Display, expected: impl fmt::Display) -> Self {
        Error::new(Kind::Configuration, format!("configuration: {key}: {expected}"))
    }

    /// Puts what was being done in front of what went wrong.
    pub fn context(mut self, doing: impl fmt::Display) -> Self {
        self.0.message = format!("{doing}: {}", self.0.message).into();
        self
    }

    /// Adds what else there is to know.
    pub fn with_note(mut self, remark: impl fmt::Display) -> Self {
        self.0.message = format!("{} ({remark})", self.0.message).into();
        self
    }

    pub fn with_kafka_code(mut self, code: i32) -> Self {
        self.0.kafka_code = Some(code);
        self
    }

    pub fn retriable(mut self, yes: bool) -> Self {
        self.0.retriable = yes;
        self
    }

    pub fn with_persisted(mut self, persisted: Persisted) -> Self {
        self.0.persisted = persisted;
        self
    }

    pub fn skipping(mut self, offsets: OffsetRange) -> Self {
        self.0.skipped = Some(offsets);
        self
    }

    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    pub fn kafka_code(&self) -> Option<i32> {
        self.0.kafka_code
    }

    /// Whether it stands where an event would: whoever gets it is the only one to hear of it.
    pub fn is_reported_once(&self) -> bool {
        matches!(self.0.kind, Kind::MalformedRecord | Kind::RecordsLost | Kind::DamagedData | Kind::HostCallback)
    }

    pub fn is_retriable(&self) -> bool {
        self.0.retriable
    }

    pub fn persisted(&self) -> Persisted {
        self.0.persisted
    }

    pub fn skipped(&self) -> Option<OffsetRange> {
        self.0.skipped
    }

    pub fn message(&self) -> &str {
        &self.0.message
    }
}

/// A value for an error's message, which should stay readable.
pub fn shortened(value: &impl fmt::Display) -> String {
    const LONGEST: usize = 200;
    let text = value.to_string();
    match text.char_indices().nth(LONGEST) {
        None => text,
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}
