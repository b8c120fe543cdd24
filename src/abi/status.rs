//! The status codes of the C ABI, and the mapping of the core's error kinds to them.

use crate::support::error::Kind;

/// The result of a function.
///
/// 0 is success. A positive status is an outcome that is not an error: no error object is created.
/// A negative status is an error: unless the caller passed NULL for `error`, an error object
/// describes it.
///
/// Any function that returns a status can also return these statuses, which are not listed again at
/// each function: `OCTOPUS_INVALID_ARGUMENT`, `OCTOPUS_FORKED`, `OCTOPUS_PANICKED` and
/// `OCTOPUS_RESOURCE_LIMIT`.
///
/// @since 0.1
pub type octopus_status = i32;

/// The call succeeded, and its results are written.
pub const OCTOPUS_OK: octopus_status = 0;
/// The timeout passed without a result.
///
/// Nothing is wrong, and the call can be repeated.
pub const OCTOPUS_TIMED_OUT: octopus_status = 1;
/// A pull read the record that marks the end of its topic.
///
/// The event exists, has the id `OCTOPUS_EVENT_ID_END_OF_TOPIC`, and has neither metadata nor data.
/// It can be acknowledged.
pub const OCTOPUS_END_OF_TOPIC: octopus_status = 2;
/// The producer or consumer was closed before; the handle can only be released.
///
/// Of a pull also: the consumer was unsubscribed; it can still be closed.
pub const OCTOPUS_CLOSED: octopus_status = 3;
/// The call would have to wait, and must not wait here.
///
/// Of a push: the in-flight limit is reached, and the calling thread is a plugin thread or runs a
/// task of the producer's thread pool. Of a getter of a future: there is no result yet.
pub const OCTOPUS_WOULD_BLOCK: octopus_status = 4;

/// An argument breaks a rule of docs/reference/abi.md, "Arguments".
///
/// For example NULL where a pointer is required, a struct of size 0, a pointer that is not aligned,
/// a text that is not UTF-8, a topic name that Kafka rejects, or a getter of another kind of
/// future.
pub const OCTOPUS_INVALID_ARGUMENT: octopus_status = -1;
/// The configuration or the options are wrong; the message names the key and what is expected
/// there.
pub const OCTOPUS_INVALID_CONFIGURATION: octopus_status = -2;
/// No broker, or no topic service, responded or accepted events in time.
///
/// The message names the address or the setting. Usually retriable.
pub const OCTOPUS_UNREACHABLE: octopus_status = -3;
/// The topic does not exist, or was deleted.
pub const OCTOPUS_UNKNOWN_TOPIC: octopus_status = -4;
/// The topic exists already.
pub const OCTOPUS_TOPIC_EXISTS: octopus_status = -5;
/// The metadata of an event is not UTF-8, not JSON, or rejected by the topic's schema.
pub const OCTOPUS_INVALID_METADATA: octopus_status = -6;
/// An event or a record is larger than a limit of the client or of the broker; the message names
/// the limit.
pub const OCTOPUS_TOO_LARGE: octopus_status = -7;
/// A validator, selector or serializer can't be created, or is of an unknown type; the message
/// names it.
pub const OCTOPUS_COMPONENT: octopus_status = -8;
/// A pull found a record that is not an event.
///
/// The consumer skips the record: the next pull reads the record after it.
pub const OCTOPUS_MALFORMED_RECORD: octopus_status = -9;
/// Records were removed from the topic before this consumer read them.
///
/// Reported once: the next pull continues with the first record that is still there.
pub const OCTOPUS_RECORDS_LOST: octopus_status = -10;
/// Kafka, librdkafka or the topic service rejected the request.
///
/// `octopus_error_api::kafka_code` has the code; it is 0 for the topic service.
pub const OCTOPUS_KAFKA: octopus_status = -11;
/// The event's partition was revoked, or its consumer closed, since the event was read.
///
/// The acknowledgement has no effect, unless this consumer gets the partition back before another
/// member had it.
pub const OCTOPUS_STALE: octopus_status = -12;
/// The call would wait for the thread that it is made on: a plugin thread, or a thread that runs a
/// task of the same thread pool.
pub const OCTOPUS_WOULD_DEADLOCK: octopus_status = -13;
/// This build, or the embedded Kafka, does not support the request.
pub const OCTOPUS_UNSUPPORTED: octopus_status = -14;
/// A callback of the host failed: a component, a processor, a thread pool, or a token provider.
///
/// The message has the reason that the callback gave.
pub const OCTOPUS_CALLBACK_FAILED: octopus_status = -15;
/// The object belongs to the parent of this forked process, or the library can't be loaded again
/// for this process.
///
/// Create a driver in this process; see docs/reference/abi.md, "Fork".
pub const OCTOPUS_FORKED: octopus_status = -16;
/// The plugin panicked, which is a bug of Octopus; the object is poisoned and can only be released.
pub const OCTOPUS_PANICKED: octopus_status = -17;
/// A limit of the process or the system prevents the creation of a thread, a file descriptor or
/// memory.
///
/// The message names the limit. Retriable.
pub const OCTOPUS_RESOURCE_LIMIT: octopus_status = -18;
/// Records of a partition can't be decoded, for example because of a wrong checksum or length.
///
/// `octopus_error_api::skipped` has the offsets that are skipped, as soon as the end of the damage
/// is known. See the consumer option `on_damaged` in docs/reference/configuration.md.
pub const OCTOPUS_DAMAGED_DATA: octopus_status = -19;
/// The transaction failed: abort it, then repeat its work.
///
/// For example because an event was not delivered, or the partition of an acknowledged event was
/// revoked. Pushes return it, too, until the transaction is aborted.
pub const OCTOPUS_MUST_ABORT: octopus_status = -20;
/// A newer producer has the same transactional id, or a transaction was open for too long.
///
/// This producer can only be released, and its transaction is aborted already.
pub const OCTOPUS_FENCED: octopus_status = -21;

/// The status that reports an error of this kind.
pub fn status_of(kind: Kind) -> octopus_status {
    match kind {
        Kind::TimedOut => OCTOPUS_TIMED_OUT,
        Kind::Closed => OCTOPUS_CLOSED,
        Kind::WouldBlock => OCTOPUS_WOULD_BLOCK,
        Kind::InvalidArgument => OCTOPUS_INVALID_ARGUMENT,
        Kind::Configuration => OCTOPUS_INVALID_CONFIGURATION,
        Kind::Unreachable => OCTOPUS_UNREACHABLE,
        Kind::UnknownTopic => OCTOPUS_UNKNOWN_TOPIC,
        Kind::TopicExists => OCTOPUS_TOPIC_EXISTS,
        Kind::InvalidMetadata => OCTOPUS_INVALID_METADATA,
        Kind::TooLarge => OCTOPUS_TOO_LARGE,
        Kind::Component => OCTOPUS_COMPONENT,
        Kind::MalformedRecord => OCTOPUS_MALFORMED_RECORD,
        Kind::RecordsLost => OCTOPUS_RECORDS_LOST,
        Kind::DamagedData => OCTOPUS_DAMAGED_DATA,
        Kind::Kafka => OCTOPUS_KAFKA,
        Kind::Stale => OCTOPUS_STALE,
        Kind::WouldDeadlock => OCTOPUS_WOULD_DEADLOCK,
        Kind::Unsupported => OCTOPUS_UNSUPPORTED,
        Kind::HostCallback => OCTOPUS_CALLBACK_FAILED,
        Kind::Forked => OCTOPUS_FORKED,
        Kind::ResourceLimit => OCTOPUS_RESOURCE_LIMIT,
        Kind::MustAbort => OCTOPUS_MUST_ABORT,
        Kind::Fenced => OCTOPUS_FENCED,
        Kind::Panicked => OCTOPUS_PANICKED,
    }
}
