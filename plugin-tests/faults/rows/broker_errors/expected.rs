//! What must come of each code in the answer to a produce request. It is taken from librdkafka's `rd_kafka_err_action`,
//! `rd_kafka_handle_Produce_error` and, for the idempotent producer, `rd_kafka_handle_idempotent_Produce_error`, and from
//! Kafka's `Errors` - not from what Octopus does.

use octopus_loader::{Persisted, Status};

use super::super::mock::HANGS_UP;

pub const UNKNOWN: i32 = -1;
pub const NETWORK_EXCEPTION: i32 = 13;
pub const TOPIC_AUTHORIZATION_FAILED: i32 = 29;
pub const OUT_OF_ORDER_SEQUENCE: i32 = 45;
pub const DUPLICATE_SEQUENCE: i32 = 46;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is sent again; when its time is over it is kept, so it may be stored yet.
    SentAgain,
    /// It fails with the code.
    Refused(Persisted),
    /// It was stored before, where is not known.
    Delivered,
    /// So does its producer.
    Fatal,
}

/// Of an event in the first request of its partition that is not answered well.
pub fn fate(code: i32) -> Fate {
    match code {
        // Looks for the leader, and sends again: the request did nothing.
        3 | 5 | 6 | 8 | 9 | 15 | 16 => Fate::SentAgain,
        // Corrupt on its way; a coordinator, replicas or a disk that aren't ready.
        2 | 14 | 19 | 56 => Fate::SentAgain,
        // Persisted by the leader at least, presumably.
        7 | 20 | HANGS_UP => Fate::SentAgain,
        // The broker forgot the producer: nothing of it is there that could be doubled, so it begins a new epoch.
        59 => Fate::SentAgain,
        DUPLICATE_SEQUENCE => Fate::Delivered,
        // Of the first request in line, whose place can't be wrong: client and broker disagree on what is there.
        OUT_OF_ORDER_SEQUENCE => Fate::Fatal,
        // These two don't say what had been done until then.
        UNKNOWN | NETWORK_EXCEPTION => Fate::Refused(Persisted::Possibly),
        _ => Fate::Refused(Persisted::No),
    }
}

/// Whether the same push may succeed later: Kafka's `RetriableException`s.
pub fn is_retriable(code: i32) -> bool {
    const BY_KAFKA: [i32; 28] =
        [2, 3, 5, 6, 7, 9, 13, 14, 15, 16, 19, 20, 41, 51, 56, 70, 71, 72, 74, 75, 78, 80, 83, 84, 88, 89, 100, 103];
    /// A group's; Kafka's clients deal with it on their own.
    const REBALANCE_IN_PROGRESS: i32 = 27;
    BY_KAFKA.contains(&code) || code == REBALANCE_IN_PROGRESS
}

/// docs/abi.md, "Statuses".
pub fn status(code: i32) -> Status {
    match code {
        10 => Status::TooLarge,
        17 => Status::InvalidArgument,
        36 => Status::TopicExists,
        _ => Status::Kafka,
    }
}

/// What ends a producer when a broker says it instead of giving it an id, as the code that the host is told.
pub fn ends_without_id(code: i32) -> Option<i32> {
    const FENCED: i32 = -144;
    match code {
        31 | 50 | 53 => Some(code),
        47 | 90 => Some(FENCED),
        _ => None,
    }
}
