//! When events in flight are overdue, and what becomes of them then.
//!
//! librdkafka has a time-out of its own for this, and it can double events: when one of them is over it takes on a new producer
//! epoch, and sends what is left of a batch, or of the batches behind it, once more under that epoch, although a broker that
//! was slow to answer may have stored them under the old one and can't tell that they are the same. So librdkafka is told to
//! wait for ever, and the time-out is kept here: the push fails, its event stays where it is in the order of
//! the others, and is delivered once if a broker takes it before the producer ends.

use std::time::Duration;

use crate::config::Properties;
use crate::error::{Error, Result};

/// What becomes of an event whose time is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenOverdue {
    /// Its push fails, and it may be delivered later: nothing is doubled.
    Keep,
    /// librdkafka drops it, so that it isn't delivered later, unless it is stored already.
    Drop,
}

/// How long librdkafka waits for the answer to a request, unless the user says otherwise.
const DEFAULT_REQUEST_LIMIT: Duration = Duration::from_secs(60);
const SHORTEST_REQUEST_LIMIT: Duration = Duration::from_secs(1);

/// Takes the time-out out of librdkafka's hands; `None` if there is none.
pub fn take_limit(properties: &mut Properties) -> Result<Option<Duration>> {
    let name = "delivery.timeout.ms";
    // CONFIGURATION.md's default.
    let given = properties.get(name).unwrap_or("300000");
    let limit: u64 = given.parse().map_err(|_| {
        Error::configuration(format_args!("kafka.{name}"), format_args!("{given:?} is not a number of milliseconds"))
    })?;
    properties.set(name, "0");
    if limit == 0 {
        return Ok(None);
    }
    let limit = Duration::from_millis(limit);
    // A connection on which nothing is answered is given up, and its requests are made again, when an event's time is over at
    // the latest.
    let request_limit = limit.clamp(SHORTEST_REQUEST_LIMIT, DEFAULT_REQUEST_LIMIT);
    properties.set_default("socket.timeout.ms", request_limit.as_millis().to_string());
    Ok(Some(limit))
}
