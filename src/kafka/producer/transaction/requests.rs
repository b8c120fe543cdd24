//! The calls of librdkafka that make up a transaction.

use std::time::{Duration, Instant};

use rdkafka::bindings as rd;

use crate::kafka::client::Client;
use crate::kafka::consumer::PositionsOfGroup;
use crate::kafka::librdkafka::errors;
use crate::support::deadline::{Deadline, as_millis_rounded_up};
use crate::support::error::{Error, Kind, Result};

/// The least and the longest timeout of one call.
struct Timeouts {
    min: Duration,
    max: Duration,
}

/// Of a call that continues in the background, and where the repeated call finds its result. The
/// calls are short, so that a failure of all connections is noticed between two of them; a call
/// without a timeout starts nothing.
const RESUMED: Timeouts = Timeouts { min: Duration::from_millis(20), max: Duration::from_secs(2) };
/// Of a call that fails for good when its timeout passes.
const NOT_RESUMED: Timeouts = Timeouts { min: Duration::from_secs(5), max: Duration::from_secs(3600) };

/// Gets a producer id, which fences older producers and ends their transactions.
pub fn init(client: &Client, deadline: Deadline) -> Result<()> {
    let operation = "getting a producer id for the transactional id";
    let result = request(client, deadline, RESUMED, operation, |client, timeout_ms| {
        // SAFETY: `client` is alive.
        unsafe { rd::rd_kafka_init_transactions(client, timeout_ms) }
    });
    result.map_err(|error| if error.kind() == Kind::TimedOut { client.unreachable(operation) } else { error })
}

/// Waits for no broker.
pub fn begin(client: &Client) -> Result<()> {
    request(client, Deadline::PASSED, RESUMED, "beginning a transaction", |client, _| {
        // SAFETY: `client` is alive.
        unsafe { rd::rd_kafka_begin_transaction(client) }
    })
}

pub fn add_positions(client: &Client, positions: &PositionsOfGroup, deadline: Deadline) -> Result<()> {
    let (offsets, group) = (positions.offsets.as_ptr(), positions.group.as_ptr());
    let operation = "adding positions to the transaction";
    request(client, deadline, NOT_RESUMED, operation, |client, timeout_ms| {
        // SAFETY: all three are alive; librdkafka copies the list and the metadata.
        unsafe { rd::rd_kafka_send_offsets_to_transaction(client, offsets, group, timeout_ms) }
    })
}

pub fn commit(client: &Client, deadline: Deadline) -> Result<()> {
    request(client, deadline, RESUMED, "committing the transaction", |client, timeout_ms| {
        // SAFETY: `client` is alive.
        unsafe { rd::rd_kafka_commit_transaction(client, timeout_ms) }
    })
}

pub fn abort(client: &Client, deadline: Deadline) -> Result<()> {
    request(client, deadline, RESUMED, "aborting the transaction", |client, timeout_ms| {
        // SAFETY: `client` is alive.
        unsafe { rd::rd_kafka_abort_transaction(client, timeout_ms) }
    })
}

/// Repeats a call, which gets its timeout in milliseconds, while librdkafka's result is that it can
/// be repeated.
fn request(
    client: &Client,
    deadline: Deadline,
    timeouts: Timeouts,
    operation: &str,
    mut call: impl FnMut(*mut rd::rd_kafka_t, i32) -> *mut rd::rd_kafka_error_t,
) -> Result<()> {
    const PAUSE: Duration = Duration::from_millis(20);
    let began = Instant::now();
    loop {
        let timeout = deadline.remaining(timeouts.max).max(timeouts.min);
        let called = call(client.handle.as_ptr(), as_millis_rounded_up(timeout));
        // SAFETY: the call has returned the error to this function, which uses it only here.
        let Some(error) = (unsafe { errors::take_transaction_error(called) }) else {
            client.record_success();
            return Ok(());
        };
        if let Some(fatal) = client.query_fatal_error() {
            return Err(fatal.context(operation));
        }
        if !error.is_retriable() {
            return Err(error.context(operation));
        }
        client.check_wait(began, operation)?;
        if deadline.has_passed() {
            log::info!(logger: client.log(), target: &client.name(), "{operation}: {error}");
            return Err(Error::from_kind(Kind::TimedOut));
        }
        std::thread::sleep(deadline.remaining(PAUSE));
    }
}
