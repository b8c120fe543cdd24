//! What a Kafka record has beside its value: a key, headers and a timestamp.

/// The attributes of a record that is pushed, or was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributes {
    pub key: Option<Box<[u8]>>,
    pub headers: Vec<Header>,
    /// Of a record that is pushed: milliseconds since 1970, or `None` for the time of the push.
    pub timestamp_ms: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    pub name: Box<str>,
    /// A header may have no value, which is not the same as an empty one.
    pub value: Option<Box<[u8]>>,
}

/// Who set a record's timestamp.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TimestampType {
    /// Nobody: the record has none.
    #[default]
    Missing,
    /// The producer: when it made the record, or what its program set.
    Create,
    /// The broker, when it stored the record.
    LogAppend,
}

/// The lengths of a header's name and value, two varints of librdkafka: as large as they can be.
const HEADER_LENGTHS: usize = 10 + 10;

impl Attributes {
    /// The bytes that they add to a record at most.
    pub fn size(&self) -> usize {
        let headers = self.headers.iter();
        let size_of = |header: &Header| HEADER_LENGTHS + header.name.len() + size_of_value(&header.value);
        size_of_value(&self.key) + headers.map(size_of).sum::<usize>()
    }
}

fn size_of_value(value: &Option<Box<[u8]>>) -> usize {
    value.as_ref().map_or(0, |value| value.len())
}
