//! When events in flight are overdue, and what happens to them then.
//!
//! librdkafka's own delivery timeout can store events twice: when one times out, librdkafka takes a
//! new producer epoch and sends the rest of the batch, or the batches after it, again under that
//! epoch. A slow broker may have stored them under the old epoch already and can't deduplicate
//! them. Therefore librdkafka gets no timeout, and this library enforces it: the push fails, its
//! event keeps its place in the order of the others, and it is delivered once if a broker accepts
//! it before the producer ends.

use std::time::Duration;

use crate::config::Properties;
use crate::support::error::{Error, Result};

/// What happens to an overdue event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenOverdue {
    /// Its push fails, and it may be delivered later, once.
    Keep,
    /// librdkafka drops it, so that it is not delivered later, unless it is stored already.
    Drop,
}

/// How long librdkafka waits for the response to a request by default.
const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
const MIN_REQUEST_TIMEOUT: Duration = Duration::from_secs(1);

/// Removes the delivery timeout from librdkafka's properties and returns it; `None` if there is
/// none.
pub fn take_delivery_timeout(properties: &mut Properties) -> Result<Option<Duration>> {
    let name = "delivery.timeout.ms";
    // The default of CONFIGURATION.md.
    let given = properties.get(name).unwrap_or("300000");
    let timeout: u64 = given.parse().map_err(|_| {
        Error::configuration(format_args!("kafka.{name}"), format_args!("{given:?} is not a number of milliseconds"))
    })?;
    properties.set(name, "0");
    if timeout == 0 {
        return Ok(None);
    }
    let timeout = Duration::from_millis(timeout);
    // librdkafka closes a connection without responses, and repeats its requests, no later than
    // when an event is overdue.
    let request_timeout = timeout.clamp(MIN_REQUEST_TIMEOUT, DEFAULT_REQUEST_TIMEOUT);
    properties.set_default("socket.timeout.ms", request_timeout.as_millis().to_string());
    Ok(Some(timeout))
}
