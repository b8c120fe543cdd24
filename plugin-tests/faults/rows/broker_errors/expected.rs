//! The expected result for each error code in a produce response. It is derived from librdkafka's
//! `rd_kafka_err_action`, `rd_kafka_handle_Produce_error` and, for the idempotent producer,
//! `rd_kafka_handle_idempotent_Produce_error`, and from Kafka's `Errors`, not from what Octopus
//! does.

use octopus_loader::{Persisted, Status};

use super::super::mock::DISCONNECT;

pub const UNKNOWN: i32 = -1;
pub const NETWORK_EXCEPTION: i32 = 13;
pub const TOPIC_AUTHORIZATION_FAILED: i32 = 29;
pub const OUT_OF_ORDER_SEQUENCE: i32 = 45;
pub const DUPLICATE_SEQUENCE: i32 = 46;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpectedResult {
    /// The batch is sent again. When the delivery timeout expires, the event may still be stored.
    Retried,
    /// The event fails with the code.
    Failed(Persisted),
    /// The event was stored by an earlier request, at an unknown offset.
    Delivered,
    /// The event and its producer fail.
    Fatal,
}

/// The expected result of an event in the first request of its partition that fails.
pub fn expected_result(code: i32) -> ExpectedResult {
    match code {
        // The client looks for the leader and sends again: the request had no effect.
        3 | 5 | 6 | 8 | 9 | 15 | 16 => ExpectedResult::Retried,
        // A corrupted request; a coordinator, replicas or a disk that are not ready.
        2 | 14 | 19 | 56 => ExpectedResult::Retried,
        // Possibly persisted by the leader.
        7 | 20 | DISCONNECT => ExpectedResult::Retried,
        // The broker has no state of the producer, so no duplicate is possible and the client
        // starts a new epoch.
        59 => ExpectedResult::Retried,
        DUPLICATE_SEQUENCE => ExpectedResult::Delivered,
        // For the first request in flight, whose sequence number must be right: client and broker
        // disagree about the log.
        OUT_OF_ORDER_SEQUENCE => ExpectedResult::Fatal,
        // These codes leave open what the broker has done.
        UNKNOWN | NETWORK_EXCEPTION => ExpectedResult::Failed(Persisted::Possibly),
        _ => ExpectedResult::Failed(Persisted::No),
    }
}

/// Whether the same push may succeed later: Kafka's `RetriableException`s.
pub fn is_retriable(code: i32) -> bool {
    const BY_KAFKA: [i32; 28] =
        [2, 3, 5, 6, 7, 9, 13, 14, 15, 16, 19, 20, 41, 51, 56, 70, 71, 72, 74, 75, 78, 80, 83, 84, 88, 89, 100, 103];
    /// A group's error; Kafka's clients handle it themselves.
    const REBALANCE_IN_PROGRESS: i32 = 27;
    BY_KAFKA.contains(&code) || code == REBALANCE_IN_PROGRESS
}

/// docs/reference/abi.md, "Statuses".
pub fn status(code: i32) -> Status {
    match code {
        10 => Status::TooLarge,
        17 => Status::InvalidArgument,
        36 => Status::TopicExists,
        _ => Status::Kafka,
    }
}

/// The code with which a producer fails when a broker returns this code instead of a producer id;
/// `None` if the client tries again.
pub fn producer_id_failure(code: i32) -> Option<i32> {
    const FENCED: i32 = -144;
    match code {
        31 | 50 | 53 => Some(code),
        47 | 90 => Some(FENCED),
        _ => None,
    }
}
