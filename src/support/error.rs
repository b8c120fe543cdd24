//! The error type of the library: what was attempted, on which object, what happened, and what it
//! means for the caller. `abi` converts it to a status of the C ABI.

use std::borrow::Cow;
use std::fmt;

pub type Result<T> = std::result::Result<T, Error>;

/// The category of an error, for code; the message is for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The caller's timeout has passed; this is not a failure.
    TimedOut,
    /// The handle was closed before.
    Closed,
    /// The call would block on a thread that must not wait.
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
    /// The system refuses a thread, a descriptor or memory.
    ResourceLimit,
    /// The transaction failed and can only be aborted.
    MustAbort,
    /// A newer producer has the same transactional id.
    Fenced,
    Panicked,
}

/// Whether the event of a failed push may be in the topic in spite of the error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persisted {
    No,
    Possibly,
}

/// A range of offsets in one partition, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffsetRange {
    pub partition: u32,
    pub first: u64,
    pub last: u64,
}

/// Boxed: each step of a push or pull returns a `Result`, and one larger than two registers would
/// be returned through memory.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}", .0.message)]
pub struct Error(Box<ErrorInner>);

#[derive(Debug, Clone)]
struct ErrorInner {
    kind: Kind,
    /// The error code of librdkafka, if any (negative: from the client; positive: from a broker).
    kafka_code: Option<i32>,
    retriable: bool,
    persisted: Persisted,
    /// The offsets that the consumer skips because of the error.
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

    /// An error without context, for results that the caller expects.
    pub fn from_kind(kind: Kind) -> Self {
        let message = match kind {
            Kind::TimedOut => "the timeout has passed",
            Kind::Closed => "this handle is closed",
            Kind::WouldBlock => "would block: the in-flight limit is reached, and this thread must not wait",
            _ => "",
        };
        Error::new(kind, message)
    }

    pub fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Error::new(Kind::InvalidArgument, message)
    }

    pub fn configuration(key: impl fmt::Display, expected: impl fmt::Display) -> Self {
        // One copy of the code for all types.
        #[cold]
        #[inline(never)]
        fn make(key: &dyn fmt::Display, expected: &dyn fmt::Display) -> Error {
            Error::new(Kind::Configuration, format!("configuration: {key}: {expected}"))
        }
        make(&key, &expected)
    }

    /// The option at `key` needs `what`, which builds without the feature don't have.
    pub fn missing_feature(key: &str, what: &str, feature: &str) -> Self {
        Error::new(
            Kind::Unsupported,
            format!(
                "configuration: {key}: this build does not have {what}; build Octopus with the feature {feature:?}"
            ),
        )
    }

    /// As an error of a producer that a newer one has fenced.
    pub fn into_fenced(mut self) -> Self {
        self.0.kind = Kind::Fenced;
        self
    }

    /// The error of a transaction that this error has made impossible. That of a fenced producer
    /// says more.
    pub fn requiring_abort(self) -> Self {
        const REASON: &str = "the transaction can only be aborted";
        if matches!(self.kind(), Kind::MustAbort | Kind::Fenced) {
            return self;
        }
        let mut error = self.context(REASON);
        (error.0.kind, error.0.retriable) = (Kind::MustAbort, false);
        error
    }

    /// Prepends what was attempted.
    pub fn context(self, operation: impl fmt::Display) -> Self {
        #[cold]
        #[inline(never)]
        fn add(mut error: Error, operation: &dyn fmt::Display) -> Error {
            error.0.message = format!("{operation}: {}", error.0.message).into();
            error
        }
        add(self, &operation)
    }

    /// Appends a note in parentheses.
    pub fn with_note(mut self, note: impl fmt::Display) -> Self {
        self.0.message = format!("{} ({note})", self.0.message).into();
        self
    }

    pub fn with_kafka_code(mut self, code: i32) -> Self {
        self.0.kafka_code = Some(code);
        self
    }

    pub fn retriable(mut self, retriable: bool) -> Self {
        self.0.retriable = retriable;
        self
    }

    pub fn with_persisted(mut self, persisted: Persisted) -> Self {
        self.0.persisted = persisted;
        self
    }

    pub fn with_skipped(mut self, offsets: OffsetRange) -> Self {
        self.0.skipped = Some(offsets);
        self
    }

    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    pub fn kafka_code(&self) -> Option<i32> {
        self.0.kafka_code
    }

    /// Whether the error takes the place of an event, so that only one pull reports it.
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

/// The text of a value for an error message, limited to 200 characters.
pub fn shortened(value: &impl fmt::Display) -> String {
    const MAX_LENGTH: usize = 200;
    let text = value.to_string();
    match text.char_indices().nth(MAX_LENGTH) {
        None => text,
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}
