//! Topic ids (KIP-516): a topic that was deleted and created again under its name has another id.
//!
//! Kafka stores committed offsets by the name of the topic, so that an offset of a deleted topic
//! applies to the next topic of that name. Each commit of this library therefore has the topic's id
//! in its metadata, a text that Kafka stores and does not read.

use std::ffi::CStr;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
#[cfg(feature = "patched")]
use rdkafka::bindings as rd;

use super::handle::Handle;
pub use crate::positions::TopicId;

/// The beginning of the metadata of a commit; the id follows.
const METADATA_PREFIX: &str = "octopus topic-id=";

impl TopicId {
    /// `None` for 0, which brokers older than Kafka 2.8 send, as they have no ids.
    pub fn new(most_significant: i64, least_significant: i64) -> Option<Self> {
        let id = (u128::from(most_significant as u64) << 64) | u128::from(least_significant as u64);
        (id != 0).then(|| TopicId(id.to_be_bytes()))
    }

    /// The id of the topic that the client uses by this name. `None` if it does not know the topic,
    /// and in a librdkafka without patches.
    pub fn used_by(client: &Handle, topic: &CStr) -> Option<Self> {
        #[cfg(feature = "patched")]
        {
            let (mut high, mut low) = (0, 0);
            // SAFETY: `client` and `topic` are alive; both pointers are writable.
            let is_known = unsafe { octopus_topic_id(client.as_ptr(), topic.as_ptr(), &mut high, &mut low) } != 0;
            is_known.then(|| TopicId::new(high, low))?
        }
        #[cfg(not(feature = "patched"))]
        {
            let _ = (client, topic);
            None
        }
    }

    /// The metadata of a commit for this topic.
    pub fn commit_metadata(self) -> String {
        format!("{METADATA_PREFIX}{self}")
    }

    /// The topic that an offset was committed for, if the commit was made by this library.
    pub fn from_commit_metadata(metadata: &[u8]) -> Option<Self> {
        let id = metadata.strip_prefix(METADATA_PREFIX.as_bytes())?;
        URL_SAFE_NO_PAD.decode(id).ok()?.try_into().ok().map(TopicId)
    }
}

/// In the form of Kafka's tools.
impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

#[cfg(feature = "patched")]
unsafe extern "C" {
    /// Added by 0043-hook-topic-id.patch. 1 if the id is known.
    fn octopus_topic_id(
        client: *mut rd::rd_kafka_t,
        topic: *const std::ffi::c_char,
        most_significant: *mut i64,
        least_significant: *mut i64,
    ) -> std::ffi::c_int;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_id_in_commit_metadata_is_read_back() {
        let id = TopicId::new(-0x0123_4567_89ab_cdf0, 0x0123_4567_89ab_cdef).unwrap();
        assert_eq!(id.commit_metadata(), "octopus topic-id=_ty6mHZUMhABI0VniavN7w");
        assert_eq!(TopicId::from_commit_metadata(id.commit_metadata().as_bytes()), Some(id));
        assert_eq!(TopicId::new(0, 0), None);
    }

    #[test]
    fn metadata_of_other_clients_has_no_topic_id() {
        for metadata in ["", "octopus", "octopus topic-id=", "octopus topic-id=c2hvcnQ", "AcCBX8kYAAAAAAA=", "\u{0}"] {
            assert_eq!(TopicId::from_commit_metadata(metadata.as_bytes()), None, "{metadata:?}");
        }
    }
}
