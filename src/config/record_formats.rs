//! The values of the option `records`.

/// What a consumer takes a record for, or a producer writes.
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

impl RecordFormats {
    /// Those of consumers.
    pub const ALL: [RecordFormats; 4] =
        [RecordFormats::Diaspora, RecordFormats::Json, RecordFormats::Bytes, RecordFormats::Auto];
    /// Those of producers.
    pub const WRITTEN: [RecordFormats; 3] = [RecordFormats::Diaspora, RecordFormats::Json, RecordFormats::Bytes];

    /// The option's value.
    pub fn name(self) -> &'static str {
        match self {
            RecordFormats::Diaspora => "diaspora",
            RecordFormats::Json => "json",
            RecordFormats::Bytes => "bytes",
            RecordFormats::Auto => "auto",
        }
    }
}

/// What the value of a record is, if it does not have the format of Octopus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueFormat {
    /// The metadata, as JSON text.
    Json,
    /// The data.
    Bytes,
}
