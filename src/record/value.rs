//! Records whose value is JSON or data only, as other programs write and read them.

use super::{Metadata, Record, check_json};
use crate::config::ValueFormat;
use crate::support::error::{Error, Kind, Result};

/// An event as a record of this format.
pub struct ValueRecord<'a, R> {
    event: &'a R,
    format: ValueFormat,
}

impl<'a, R: Record> ValueRecord<'a, R> {
    /// Rejects an event that has more than the format can store.
    pub fn new(event: &'a R, format: ValueFormat) -> Result<Self> {
        match format {
            ValueFormat::Json => check_without_data(event)?,
            ValueFormat::Bytes => check_without_metadata(event.metadata())?,
        }
        if let (ValueFormat::Json, Metadata::Serialized(bytes)) = (format, event.metadata()) {
            check_json(bytes).map_err(|reason| {
                let reason = format!("the serialized metadata is not JSON (records: \"json\"): {reason}");
                Error::new(Kind::InvalidMetadata, reason)
            })?;
        }
        Ok(ValueRecord { event, format })
    }
}

fn check_without_data(event: &impl Record) -> Result<()> {
    match event.data().iter().map(|segment| segment.len()).sum::<usize>() {
        0 => Ok(()),
        size => Err(Error::invalid(format!(
            "the event has {size} bytes of data, and a producer with records: \"json\" stores the metadata only"
        ))),
    }
}

/// `{}` is what an event without metadata has, and `null` what a consumer reads.
fn check_without_metadata(metadata: Metadata) -> Result<()> {
    let given = match metadata {
        Metadata::Json("{}" | "null") | Metadata::Serialized([]) => return Ok(()),
        Metadata::Json(text) => text.len(),
        Metadata::Serialized(bytes) => bytes.len(),
    };
    let reason =
        format!("the event has {given} bytes of metadata, and a producer with records: \"bytes\" stores the data only");
    Err(Error::new(Kind::InvalidMetadata, reason))
}

impl<R: Record> Record for ValueRecord<'_, R> {
    fn metadata(&self) -> Metadata<'_> {
        match self.format {
            ValueFormat::Json => self.event.metadata(),
            ValueFormat::Bytes => Metadata::Serialized(&[]),
        }
    }

    fn text_start(&self) -> Option<usize> {
        Some(0)
    }

    fn size(&self) -> Option<usize> {
        match self.format {
            ValueFormat::Json => Some(self.event.metadata().bytes().len()),
            ValueFormat::Bytes => self.data().iter().try_fold(0usize, |sum, segment| sum.checked_add(segment.len())),
        }
    }

    fn data(&self) -> Vec<&[u8]> {
        match self.format {
            ValueFormat::Json => Vec::new(),
            ValueFormat::Bytes => self.event.data(),
        }
    }

    fn is_tombstone(&self) -> bool {
        self.format == ValueFormat::Bytes && self.event.data().is_empty()
    }

    fn encode(&self, mut put: impl FnMut(&[u8])) {
        match self.format {
            ValueFormat::Json => put(self.event.metadata().bytes()),
            ValueFormat::Bytes => self.event.data().into_iter().for_each(put),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::EventRecord;
    use super::*;

    fn value(metadata: Metadata, data: &[&[u8]], format: ValueFormat) -> Result<Vec<u8>> {
        let event = EventRecord::new(metadata, data.iter().copied());
        let record = ValueRecord::new(&event, format)?;
        let mut value = Vec::new();
        record.encode(|bytes| value.extend_from_slice(bytes));
        assert_eq!(record.size(), Some(value.len()));
        Ok(value)
    }

    #[test]
    fn value_is_the_json_text_or_the_data() {
        use ValueFormat::{Bytes, Json};
        assert_eq!(value(Metadata::Json(r#"{"a": 1}"#), &[], Json).unwrap(), br#"{"a": 1}"#);
        assert_eq!(value(Metadata::Serialized(b"[1]"), &[b""], Json).unwrap(), b"[1]");
        assert_eq!(value(Metadata::Json("{}"), &[b"x", b"", b"yz"], Bytes).unwrap(), b"xyz");
        assert_eq!(value(Metadata::Serialized(b""), &[], Bytes).unwrap(), b"");
    }

    #[test]
    fn event_without_data_is_a_tombstone_as_bytes() {
        let is_tombstone = |data: &[&[u8]], format| {
            let event = EventRecord::new(Metadata::Json("{}"), data.iter().copied());
            ValueRecord::new(&event, format).unwrap().is_tombstone()
        };
        assert!(is_tombstone(&[], ValueFormat::Bytes));
        assert!(!is_tombstone(&[b""], ValueFormat::Bytes));
        assert!(!is_tombstone(&[], ValueFormat::Json));
    }

    #[test]
    fn event_with_more_than_the_format_stores_is_rejected_by_name() {
        let rejected = |metadata, data: &[&[u8]], format| value(metadata, data, format).unwrap_err().to_string();
        let error = rejected(Metadata::Json("1"), &[b"ab", b"c"], ValueFormat::Json);
        assert!(error.contains("3 bytes of data") && error.contains("records: \"json\""), "{error}");
        let error = rejected(Metadata::Json("1"), &[b"ab"], ValueFormat::Bytes);
        assert!(error.contains("1 bytes of metadata") && error.contains("records: \"bytes\""), "{error}");
        let error = rejected(Metadata::Serialized(b"\x01{}"), &[], ValueFormat::Json);
        assert!(error.contains("not JSON"), "{error}");
    }
}
