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
        BrokerTransportFailure | AllBrokersDown | Resolve | OperationTimedOut => Kind::Unreachable,
        InvalidTopic => Kind::InvalidArgument,
        _ => Kind::Kafka,
    }
}

/// Whether the same call may succeed later without anything being changed by hand.
pub fn is_retriable(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode::*;
    matches!(
        code,
        BrokerTransportFailure
            | AllBrokersDown
            | Resolve
            | OperationTimedOut
            | MessageTimedOut
            | QueueFull
            | RequestTimedOut
            | LeaderNotAvailable
            | NotLeaderForPartition
            | CoordinatorLoadInProgress
            | CoordinatorNotAvailable
            | NotCoordinator
            | NetworkException
            | NotEnoughReplicas
            | NotEnoughReplicasAfterAppend
            | RebalanceInProgress
            | WaitingForCoordinator
            | InProgress
            | ThrottlingQuotaExceeded
    )
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
