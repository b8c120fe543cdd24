//! What the rows read from brokers: a topic's log, as the oracle needs it.

use std::time::Duration;

pub use octopus_testkit::Brokers;
use octopus_testkit::tools::{Record, read_records};

use crate::oracle::LogRecord;
use crate::run::Result;
use crate::worker::Content;

/// Long enough for the largest topic of a full run.
const READ_LIMIT: Duration = Duration::from_hours(1);

/// Reads all records of the topic with kcat.
pub fn read_log(brokers: &Brokers, topic: &str) -> Result<Vec<LogRecord>> {
    let records = read_records(&brokers.bootstrap(), topic, READ_LIMIT)?;
    let mut log = records.map(|record| Ok(log_record(&record?))).collect::<Result<Vec<_>>>()?;
    log.sort_by_key(|record| (record.partition, record.offset));
    Ok(log)
}

fn log_record(record: &Record) -> LogRecord {
    let (partition, offset) = (record.partition as u32, record.offset as u64);
    LogRecord { partition, offset, content: content_of(&record.value) }
}

/// Parses a record: two lengths, the metadata with a length of its own, and the data.
fn content_of(payload: &[u8]) -> Option<Content> {
    let (metadata_size, rest) = payload.split_first_chunk::<8>()?;
    let (data_size, rest) = rest.split_first_chunk::<8>()?;
    let (metadata, data) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*metadata_size)).ok()?)?;
    let (json_size, json) = metadata.split_first_chunk::<8>()?;
    let is_whole =
        data.len() as u64 == u64::from_le_bytes(*data_size) && json.len() as u64 == u64::from_le_bytes(*json_size);
    if is_whole { Content::read(json, data).ok() } else { None }
}
