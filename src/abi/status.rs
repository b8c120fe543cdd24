//! Statuses, and the one place where the core's errors become them.

use crate::error::Kind;

/// What a function says of its call. 0 is success; positive ones are outcomes that carry no error object; negative
/// ones are errors, with an object unless the caller passed NULL for it.
pub type octopus_status = i32;

/// Done; outputs are written.
pub const OCTOPUS_OK: octopus_status = 0;
/// The time given has passed, and nothing is wrong. Waiting again is fine.
pub const OCTOPUS_TIMED_OUT: octopus_status = 1;
/// The record that marks the end of a topic was read. Its event is there and carries nothing.
pub const OCTOPUS_END_OF_TOPIC: octopus_status = 2;
/// The handle was closed before; only release is left to do.
pub const OCTOPUS_CLOSED: octopus_status = 3;
/// The call would have to wait and must not: there is no room on a thread of the plugin, or no result yet.
pub const OCTOPUS_WOULD_BLOCK: octopus_status = 4;

/// NULL where a pointer is needed, a struct of size 0, a text that isn't UTF-8, a name that Kafka refuses.
pub const OCTOPUS_INVALID_ARGUMENT: octopus_status = -1;
/// The configuration or the options are wrong; the message names the key and what was expected.
pub const OCTOPUS_INVALID_CONFIGURATION: octopus_status = -2;
/// No broker answered, or took events, within the time limit; the message names the address. Retriable.
pub const OCTOPUS_UNREACHABLE: octopus_status = -3;
/// There is no such topic.
pub const OCTOPUS_UNKNOWN_TOPIC: octopus_status = -4;
/// The topic exists already.
pub const OCTOPUS_TOPIC_EXISTS: octopus_status = -5;
/// The metadata of an event is not JSON.
pub const OCTOPUS_INVALID_METADATA: octopus_status = -6;
/// The event is larger than the settings allow; the message names them.
pub const OCTOPUS_TOO_LARGE: octopus_status = -7;
/// A validator, selector or serializer can't be made, or nobody provides it; the message names it.
pub const OCTOPUS_COMPONENT: octopus_status = -8;
/// A record of the topic is not an event. It is skipped: the next call reads the one after it.
pub const OCTOPUS_MALFORMED_RECORD: octopus_status = -9;
/// Records were removed from the topic before they were read. Said once: the next call reads on.
pub const OCTOPUS_RECORDS_LOST: octopus_status = -10;
/// Kafka, or librdkafka, said no; see the error's Kafka code.
pub const OCTOPUS_KAFKA: octopus_status = -11;
/// The event belongs to an assignment that has ended: acknowledging it changes nothing.
pub const OCTOPUS_STALE: octopus_status = -12;
/// The call would wait for the thread of the plugin that it is made on.
pub const OCTOPUS_WOULD_DEADLOCK: octopus_status = -13;
/// This build has no support for what was asked for.
pub const OCTOPUS_UNSUPPORTED: octopus_status = -14;
/// A callback of the host failed: a component, a processor, a thread pool; with the reason that it gave.
pub const OCTOPUS_CALLBACK_FAILED: octopus_status = -15;
/// The object belongs to the process that this one was forked from, or the library can't be loaded for this process.
pub const OCTOPUS_FORKED: octopus_status = -16;
/// A defect inside the plugin; the handle is spoiled and can only be released.
pub const OCTOPUS_PANICKED: octopus_status = -17;
/// A limit of the process or of the system keeps a thread, a descriptor or memory from being created; the message names the
/// limit. Retriable.
pub const OCTOPUS_RESOURCE_LIMIT: octopus_status = -18;
/// Records of a partition can't be decoded: a checksum or a length is wrong, say. The error tells which offsets are skipped, as
/// soon as the end of the damage is known. See the consumer option `on_damaged`.
pub const OCTOPUS_DAMAGED_DATA: octopus_status = -19;

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
        Kind::Panicked => OCTOPUS_PANICKED,
    }
}
