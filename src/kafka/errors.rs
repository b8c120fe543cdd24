//! librdkafka's error codes as the core's errors.

use rdkafka::types::RDKafkaErrorCode;

use super::codes::{self, Code};
use super::native;
use crate::error::{Error, Kind};

pub fn describe(code: Code) -> String {
    // SAFETY: gives a static text for any code.
    unsafe { native::text(codes::rd_kafka_err2str(code)) }
}

/// The error for `code`, with librdkafka's words unless better ones are given.
pub fn error(code: impl Into<Code>, reason: &str) -> Error {
    let code = code.into();
    let known = RDKafkaErrorCode::from(code);
    let description = describe(code);
    let message = match reason {
        "" => description,
        reason if reason.contains(&description) => reason.to_owned(),
        reason => format!("{description}: {reason}"),
    };
    Error::new(kind(known), message).with_kafka_code(code.number()).retriable(is_retriable(known))
}

/// What the calling thread's last failed call left.
pub fn last_error() -> Error {
    // SAFETY: reads a thread-local.
    error(unsafe { codes::rd_kafka_last_error() }, "")
}

fn kind(code: RDKafkaErrorCode) -> Kind {
    use RDKafkaErrorCode::*;
    match code {
        UnknownTopic | UnknownTopicOrPartition => Kind::UnknownTopic,
        TopicAlreadyExists => Kind::TopicExists,
        MessageSizeTooLarge => Kind::TooLarge,
        code if is_unanswered(code) => Kind::Unreachable,
        InvalidTopic => Kind::InvalidArgument,
        _ => Kind::Kafka,
    }
}

/// Whether the same call may succeed later without anything being changed by hand: what the client itself meets on its
/// way, and of what brokers say Kafka's `RetriableException`s - but not that there is no such topic - and rebalances.
pub fn is_retriable(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode::*;
    if is_unanswered(code) {
        return true;
    }
    matches!(
        code,
        MessageTimedOut
            | QueueFull
            | WaitingForCoordinator
            | InProgress
            | InvalidMessage
            | LeaderNotAvailable
            | NotLeaderForPartition
            | RequestTimedOut
            | ReplicaNotAvailable
            | NetworkException
            | CoordinatorLoadInProgress
            | CoordinatorNotAvailable
            | NotCoordinator
            | NotEnoughReplicas
            | NotEnoughReplicasAfterAppend
            | RebalanceInProgress
            | NotController
            | ConcurrentTransactions
            | KafkaStorageError
            | FetchSessionIdNotFound
            | InvalidFetchSessionEpoch
            | ListenerNotFound
            | FencedLeaderEpoch
            | UnknownLeaderEpoch
            | OffsetNotAvailable
            | PreferredLeaderNotAvailable
            | EligibleLeadersNotAvailable
            | ElectionNotNeeded
            | UnstableOffsetCommit
            | ThrottlingQuotaExceeded
            | UnknownTopicId
    )
}

/// Nobody could be asked, or nobody answered. A request that no connection took in its time has timed out in a queue.
pub fn is_unanswered(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode::*;
    matches!(code, BrokerTransportFailure | AllBrokersDown | Resolve | OperationTimedOut | TimedOutQueue)
}

/// What librdkafka's own words for it don't say: it has let go of the partition, or the topic has fewer of them now.
pub fn gone(code: Code) -> Option<Error> {
    use RDKafkaErrorCode::{BrokerDestroy, UnknownPartition};
    let why = "there is no such topic any more, or it has no such partition: it was deleted, or made again";
    matches!(code.into(), BrokerDestroy | UnknownPartition)
        .then(|| Error::new(Kind::UnknownTopic, why).with_kafka_code(code.number()))
}

/// Whether an answer doesn't tell how far a broker had come with a record: it says so, or it can't be read, or librdkafka has no
/// name for what it says.
pub fn leaves_open(code: Code) -> bool {
    use RDKafkaErrorCode::{BadCompression, BadMessage, NetworkException, Underflow, Unknown};
    matches!(code.into(), Unknown | NetworkException | BadCompression | BadMessage | Underflow)
}

/// A group's coordinator is about to be another, or still reads what it keeps: it is to be asked again.
pub fn is_moving(code: Code) -> bool {
    use RDKafkaErrorCode::{CoordinatorLoadInProgress, CoordinatorNotAvailable, NotCoordinator};
    matches!(code.into(), CoordinatorLoadInProgress | CoordinatorNotAvailable | NotCoordinator)
}

/// A commit that the group refuses because it is in the middle of a rebalance, or past one that this member has not seen yet.
pub fn is_refused_in_rebalance(error: &Error) -> bool {
    use RDKafkaErrorCode::{IllegalGeneration, RebalanceInProgress};
    [IllegalGeneration, RebalanceInProgress].iter().any(|code| error.kafka_code() == Some(*code as i32))
}

/// What a topic or a group meets until somebody changes something: every call should say it, not only the first. What
/// the client itself meets on its way to brokers is `trouble`'s.
pub fn is_standing(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode::*;
    matches!(
        code,
        TopicAuthorizationFailed
            | GroupAuthorizationFailed
            | ClusterAuthorizationFailed
            | UnknownTopicOrPartition
            | UnknownTopic
            | InvalidGroupId
            | InconsistentGroupProtocol
            | Fatal
    )
}

/// What a broker has responded with, and not what this client has found by itself.
pub fn is_of_broker(code: RDKafkaErrorCode) -> bool {
    code == RDKafkaErrorCode::Unknown || code as i32 > 0
}

#[cfg(test)]
mod tests {
    use rdkafka::bindings::rd_kafka_resp_err_t;

    use super::*;

    #[test]
    fn a_request_that_nobody_took_in_time_is_as_unanswered_as_one_that_nobody_answered() {
        use rd_kafka_resp_err_t::*;
        for code in [RD_KAFKA_RESP_ERR__TIMED_OUT, RD_KAFKA_RESP_ERR__TIMED_OUT_QUEUE, RD_KAFKA_RESP_ERR__TRANSPORT] {
            let error = error(code, "");
            assert_eq!((error.kind(), error.is_retriable()), (Kind::Unreachable, true), "{error}");
        }
    }

    #[test]
    fn what_kafka_calls_retriable_is_retriable_but_that_there_is_no_topic() {
        // The `RetriableException`s of Kafka 4.3's Errors.java that librdkafka has names for.
        let by_kafka =
            [2, 5, 6, 7, 9, 13, 14, 15, 16, 19, 20, 41, 51, 56, 70, 71, 72, 74, 75, 78, 80, 83, 84, 88, 89, 100];
        let rebalance_in_progress = 27;
        for number in (-1..=130).filter(|number| *number != 0) {
            let Ok(code) = rd_kafka_resp_err_t::try_from(number) else { continue };
            let expected = by_kafka.contains(&number) || number == rebalance_in_progress;
            assert_eq!(is_retriable(code.into()), expected, "{}", describe(code.into()));
        }
    }
}
