//! A record as librdkafka fetched it: its bytes stay in the fetch response until they are copied or
//! the response is pinned.

use super::message::{FetchResponse, Message};
use super::pinned_responses::{Pin, PinnedResponses};
use crate::positions::Assignment;
use crate::record::{Attributes, TimestampType};
use crate::support::error::Result;

/// The largest payload that is copied, in bytes. A larger one stays in its fetch response, unless
/// too many responses are pinned.
const MAX_COPIED: usize = 1024;

/// A record, and the assignment that it was read under.
pub struct RawRecord<'a> {
    pub payload: Payload<'a>,
    pub partition: u32,
    pub offset: u64,
    pub assignment: Assignment,
}

/// The bytes of a record, where librdkafka put them.
pub enum Payload<'a> {
    Fetched(Fetched<'a>),
    #[cfg(any(test, fuzzing))]
    Given(&'a [u8]),
}

impl Payload<'_> {
    pub fn bytes(&self) -> &[u8] {
        match self {
            Payload::Fetched(fetched) => fetched.message.payload(),
            #[cfg(any(test, fuzzing))]
            Payload::Given(bytes) => bytes,
        }
    }

    /// Whether the record has no value, which is not the same as an empty one.
    pub fn is_absent(&self) -> bool {
        match self {
            Payload::Fetched(fetched) => fetched.message.is_tombstone(),
            #[cfg(any(test, fuzzing))]
            Payload::Given(_) => false,
        }
    }

    /// The key and the headers, if the record has any.
    pub fn attributes(&mut self) -> Result<Option<Box<Attributes>>> {
        match self {
            Payload::Fetched(fetched) => fetched.message.attributes(),
            #[cfg(any(test, fuzzing))]
            Payload::Given(_) => Ok(None),
        }
    }

    /// Milliseconds since 1970, or -1 if the record has no timestamp, and who set it.
    pub fn timestamp(&self) -> (i64, TimestampType) {
        match self {
            Payload::Fetched(fetched) => fetched.message.timestamp(),
            #[cfg(any(test, fuzzing))]
            Payload::Given(_) => (-1, TimestampType::Missing),
        }
    }

    /// The fetch response to pin, if the payload is too large to be copied.
    pub fn response(&self) -> Option<FetchResponse> {
        match self {
            Payload::Fetched(fetched) if fetched.message.payload().len() > MAX_COPIED => fetched.message.response(),
            _ => None,
        }
    }

    /// As [`pin`](Self::pin), also beyond the limit. `None` if no response holds the payload.
    pub fn pin_beyond_limit(&self) -> Option<Pin> {
        match self {
            Payload::Fetched(Fetched { responses, message }) => responses.pin_beyond_limit(message.response()?),
            #[cfg(any(test, fuzzing))]
            Payload::Given(_) => None,
        }
    }

    /// Pins the fetch response of this payload. `None` if the limit on pinned bytes is reached.
    pub fn pin(&self, response: FetchResponse) -> Option<Pin> {
        match self {
            Payload::Fetched(Fetched { responses, .. }) => responses.pin(response),
            #[cfg(any(test, fuzzing))]
            Payload::Given(_) => None,
        }
    }
}

/// A message that is dropped before its consumer, unless its fetch response is pinned.
pub struct Fetched<'a> {
    message: Message,
    responses: &'a PinnedResponses,
}

impl<'a> Fetched<'a> {
    pub fn new(message: Message, responses: &'a PinnedResponses) -> Self {
        Fetched { message, responses }
    }

    /// The message without the lifetime of its consumer.
    ///
    /// # Safety
    /// The caller drops the message before `pin`, which keeps the client of the message alive.
    pub unsafe fn keep(self, pin: &Pin) -> Message {
        assert!(pin.is_of(self.responses), "the pin belongs to another consumer");
        self.message
    }
}
