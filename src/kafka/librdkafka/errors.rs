//! librdkafka's error codes as the library's errors, and the properties of codes.

use rdkafka::bindings as rd;
use rdkafka::types::RDKafkaErrorCode;

use super::codes::{self, Code};
use super::text::text;
use crate::support::error::{Error, Kind};

/// librdkafka's description of a code.
pub fn describe(code: Code) -> String {
    // SAFETY: has no precondition; returns a static text for any number.
    let description = unsafe { codes::rd_kafka_err2str(code) };
    // SAFETY: the text is static and NUL-terminated.
    unsafe { text(description) }
}

/// Converts and destroys an error object of librdkafka; `None` for NULL, which means success.
///
/// # Safety
/// `error` is NULL or an error object that the caller owns and does not use again.
pub unsafe fn take_error(error: *mut rd::rd_kafka_error_t) -> Option<Error> {
    if error.is_null() {
        return None;
    }
    // SAFETY: `error` is alive (contract of this function).
    let code = unsafe { codes::rd_kafka_error_code(error) };
    // SAFETY: as above.
    let reason = unsafe { rd::rd_kafka_error_string(error) };
    // SAFETY: the text belongs to `error`, which is alive.
    let reason = unsafe { text(reason) };
    // SAFETY: the caller owns `error` and does not use it again (contract of this function).
    unsafe { rd::rd_kafka_error_destroy(error) };
    Some(self::error(code, &reason))
}

/// As [`take_error`], of a call that belongs to a transaction.
///
/// # Safety
/// As for [`take_error`].
pub unsafe fn take_transaction_error(error: *mut rd::rd_kafka_error_t) -> Option<Error> {
    if error.is_null() {
        return None;
    }
    // SAFETY: `error` is alive (contract of this function).
    let must_abort = unsafe { rd::rd_kafka_error_txn_requires_abort(error) } != 0;
    // SAFETY: as above.
    let is_retriable = unsafe { rd::rd_kafka_error_is_retriable(error) } != 0;
    // SAFETY: the caller owns `error` and does not use it again (contract of this function).
    let error = unsafe { take_error(error) }?;
    Some(if must_abort { error.requiring_abort() } else { of_transaction(error.retriable(is_retriable)) })
}

/// The error of a producer with a transactional id, which a newer one fences.
pub fn of_transaction(error: Error) -> Error {
    use RDKafkaErrorCode::{Fenced, ProducerFenced};
    let is_fenced = [Fenced, ProducerFenced].iter().any(|code| error.kafka_code() == Some(*code as i32));
    if is_fenced { error.into_fenced() } else { error }
}

/// The error for `code`. Its message is librdkafka's description, followed by `reason` if there is
/// one.
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

/// The error of the calling thread's last failed call.
pub fn last_error() -> Error {
    // SAFETY: has no precondition; reads a thread-local.
    error(unsafe { codes::rd_kafka_last_error() }, "")
}

fn kind(code: RDKafkaErrorCode) -> Kind {
    use RDKafkaErrorCode::*;
    match code {
        UnknownTopic | UnknownTopicOrPartition => Kind::UnknownTopic,
        TopicAlreadyExists => Kind::TopicExists,
        MessageSizeTooLarge => Kind::TooLarge,
        code if is_unreachable(code) => Kind::Unreachable,
        InvalidTopic => Kind::InvalidArgument,
        _ => Kind::Kafka,
    }
}

/// Whether the same call may succeed later without intervention: connection errors, Kafka's
/// `RetriableException`s except for an unknown topic, and rebalances.
pub fn is_retriable(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode::*;
    if is_unreachable(code) {
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

/// Whether no broker could be reached or none responded. A request times out in a queue
/// (`TimedOutQueue`) if no connection has sent it in time, and fails (`DestroyBroker`) if the
/// cluster has no broker of that number any more.
pub fn is_unreachable(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode::*;
    matches!(
        code,
        BrokerTransportFailure | AllBrokersDown | Resolve | OperationTimedOut | TimedOutQueue | DestroyBroker
    )
}

/// Whether librdkafka has found no leader of any of the partitions: they don't exist, or have no
/// leader at present.
pub fn is_without_leader(error: &Error) -> bool {
    error.kafka_code() == Some(RDKafkaErrorCode::UnknownPartition as i32)
}

/// The error of a partition that librdkafka has removed because the topic was deleted or has fewer
/// partitions now, which librdkafka's own texts omit.
pub fn deleted_topic_error(code: Code) -> Option<Error> {
    use RDKafkaErrorCode::{BrokerDestroy, UnknownPartition};
    let reason = "the topic or this partition no longer exists: the topic was deleted, or deleted and created again";
    matches!(code.into(), BrokerDestroy | UnknownPartition)
        .then(|| Error::new(Kind::UnknownTopic, reason).with_kafka_code(code.number()))
}

/// Whether a response leaves open if the broker has stored a record: it says so, it can't be
/// parsed, or its code is unknown to librdkafka.
pub fn is_outcome_unknown(code: Code) -> bool {
    use RDKafkaErrorCode::{BadCompression, BadMessage, NetworkException, Underflow, Unknown};
    matches!(code.into(), Unknown | NetworkException | BadCompression | BadMessage | Underflow)
}

/// Whether a group's coordinator is moving to another broker or still loading its state, so that
/// the request is to be repeated.
pub fn is_coordinator_moving(code: Code) -> bool {
    use RDKafkaErrorCode::{CoordinatorLoadInProgress, CoordinatorNotAvailable, NotCoordinator};
    matches!(code.into(), CoordinatorLoadInProgress | CoordinatorNotAvailable | NotCoordinator)
}

/// Whether the coordinator rejected a commit because of a rebalance that is under way, or that this
/// member has not taken part in yet.
pub fn is_rejected_in_rebalance(error: &Error) -> bool {
    use RDKafkaErrorCode::{IllegalGeneration, RebalanceInProgress};
    [IllegalGeneration, RebalanceInProgress].iter().any(|code| error.kafka_code() == Some(*code as i32))
}

/// Whether an error of a topic or a group persists until somebody changes something, so that each
/// call reports it. Errors of connections are those of `ConnectionHealth`.
pub fn is_persistent(code: RDKafkaErrorCode) -> bool {
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

/// Whether a broker sent the code; the others are errors of the client itself.
pub fn is_broker_error(code: RDKafkaErrorCode) -> bool {
    code == RDKafkaErrorCode::Unknown || code as i32 > 0
}

#[cfg(test)]
mod tests {
    use rdkafka::bindings::rd_kafka_resp_err_t;

    use super::*;

    #[test]
    fn timeout_in_queue_or_of_response_is_a_retriable_unreachable() {
        use rd_kafka_resp_err_t::*;
        for code in [RD_KAFKA_RESP_ERR__TIMED_OUT, RD_KAFKA_RESP_ERR__TIMED_OUT_QUEUE, RD_KAFKA_RESP_ERR__TRANSPORT] {
            let error = error(code, "");
            assert_eq!((error.kind(), error.is_retriable()), (Kind::Unreachable, true), "{error}");
        }
    }

    #[test]
    fn retriable_codes_are_those_of_kafka_except_unknown_topic() {
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
