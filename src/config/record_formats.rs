//! The values of the option `records`.

/// What a consumer takes a record for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RecordFormats {
    /// The format of Octopus, with a header; another record is malformed.
    #[default]
    Diaspora,
    /// A JSON value, which becomes the metadata.
    Json,
    /// Any bytes, which become the data.
    Bytes,
    /// Each record by its content.
    Auto,
}
