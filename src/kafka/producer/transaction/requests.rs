//! The calls of librdkafka that make up a transaction.

use std::time::{Duration, Instant};

use rdkafka::bindings as rd;

use crate::kafka::client::Client;
use crate::kafka::consumer::PositionsOfGroup;
use crate::kafka::librdkafka::errors;
use crate::support::deadline::{Deadline, as_millis_rounded_up};
use crate::support::error::{Error, Kind, Result};

/// The least timeout of a call that continues in the background, and where the repeated call finds
/// its result: a call without a timeout starts nothing.
const MIN_OF_RESUMED: Duration = Duration::from_millis(20);
/// The least timeout of a call that starts again when it is repeated.
const MIN_OF_REPEATED: Duration = Duration::from_secs(5);

/// Gets a producer id, which fences older producers and ends their transactions.
pub fn init(client: &Client, deadline: Deadline) -> Result<()> {
    let operation = "getting a producer id for the transactional id";
    let result = request(client, deadline, MIN_OF_RESUMED, operation, |client, timeout_ms| {
        // SAFETY: `client` is alive.
        unsafe { rd::rd_kafka_init_transactions(client, timeout_ms) }
    });
    result.map_err(|error| if error.kind() == Kind::TimedOut { client.unreachable(operation) } else { error })
}

/// Waits for no broker.
pub fn begin(client: &Client) -> Result<()> {
    request(client, Deadline::PASSED, Duration::ZERO, "beginning a transaction", |client, _| {
        // SAFETY: `client` is alive.
        unsafe { rd::rd_kafka_begin_transaction(client) }
    })
}

pub fn add_positions(client: &Client, positions: &PositionsOfGroup, deadline: Deadline) -> Result<()> {
    let (offsets, group) = (positions.offsets.as_ptr(), positions.group.as_ptr());
    let operation = "adding positions to the transaction";
    request(client, deadline, MIN_OF_REPEATED, operation, |client, timeout_ms| {
        // SAFETY: all three are alive; librdkafka copies the list and the metadata.
        unsafe { rd::rd_kafka_send_offsets_to_transaction(client, offsets, group, timeout_ms) }
    })
}

pub fn commit(client: &Client, deadline: Deadline) -> Result<()> {
    request(client, deadline, MIN_OF_RESUMED, "committing the transaction", |client, timeout_ms| {
        // SAFETY: `client` is alive.
        unsafe { rd::rd_kafka_commit_transaction(client, timeout_ms) }
    })
}

pub fn abort(client: &Client, deadline: Deadline) -> Result<()> {
    request(client, deadline, MIN_OF_RESUMED, "aborting the transaction", |client, timeout_ms| {
        // SAFETY: `client` is alive.
        unsafe { rd::rd_kafka_abort_transaction(client, timeout_ms) }
    })
}

/// Repeats a call, which gets its timeout in milliseconds, while librdkafka's result is that it can
/// be repeated. The timeouts are short, so that a failure of all connections is noticed between two
/// calls, but at least `min_timeout`.
fn request(
    client: &Client,
    deadline: Deadline,
    min_timeout: Duration,
    operation: &str,
    mut call: impl FnMut(*mut rd::rd_kafka_t, i32) -> *mut rd::rd_kafka_error_t,
) -> Result<()> {
    const SLICE: Duration = Duration::from_secs(2);
    const PAUSE: Duration = Duration::from_millis(20);
    let began = Instant::now();
    loop {
        let called = call(client.handle.as_ptr(), as_millis_rounded_up(deadline.remaining(SLICE).max(min_timeout)));
        // SAFETY: the call has returned the error to this function, which uses it only here.
        let Some(error) = (unsafe { errors::take_transaction_error(called) }) else {
            client.record_success();
            return Ok(());
        };
        if !error.is_retriable() {
            let fatal = client.query_fatal_error();
            return Err(fatal.unwrap_or(error).context(operation));
        }
        client.check_wait(began, operation)?;
        if deadline.has_passed() {
            log::info!(logger: client.log(), target: &client.name(), "{operation}: {error}");
            return Err(Error::from_kind(Kind::TimedOut));
        }
        std::thread::sleep(deadline.remaining(PAUSE));
    }
}
