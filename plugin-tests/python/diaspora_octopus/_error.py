"""The statuses and the errors of the library."""

from __future__ import annotations

import ctypes
import enum
from typing import Any, NamedTuple, Optional, Tuple

from . import _abi as abi

__all__ = ["Error", "Persisted", "SkippedOffsets", "Status", "TimedOut"]


class NamedInteger(enum.IntEnum):
    """Is printed by its name, which newer versions of Python don't do."""

    def __str__(self) -> str:
        return self.name

    def __format__(self, form: str) -> str:
        return format(int(self) if form[-1:] in tuple("bcdeEfFgGnoxX%") else self.name, form)


class Status(NamedInteger):
    """The status of a call, as in docs/reference/statuses.md.

    - `OK`: success.
    - `TIMED_OUT`: the timeout passed; nothing is wrong.
    - `END_OF_TOPIC`: a pull read the mark at the end of a topic.
    - `CLOSED`: the object was closed before.
    - `WOULD_BLOCK`: the call would wait on a thread that must not wait.
    - `INVALID_ARGUMENT`: an argument breaks a rule.
    - `INVALID_CONFIGURATION`: the configuration or the options are wrong.
    - `UNREACHABLE`: no broker responded, or accepted events, in time.
    - `UNKNOWN_TOPIC`: the topic does not exist, or was deleted.
    - `TOPIC_EXISTS`: the topic exists already.
    - `INVALID_METADATA`: the metadata of an event is not JSON, or its validator rejects it.
    - `TOO_LARGE`: an event or a record is larger than a limit.
    - `COMPONENT`: a validator, selector or serializer can't be used.
    - `MALFORMED_RECORD`: a pull found a record that is not an event.
    - `RECORDS_LOST`: records were removed before this consumer read them.
    - `KAFKA`: Kafka or librdkafka rejected the request.
    - `STALE`: the event's partition was revoked since the event was read.
    - `WOULD_DEADLOCK`: the call would wait for the thread that it is made on.
    - `UNSUPPORTED`: this build, or the embedded Kafka, does not support the request.
    - `CALLBACK_FAILED`: a function of the host failed.
    - `FORKED`: the object belongs to the parent of this forked process.
    - `PANICKED`: the library panicked, which is a bug of Octopus.
    - `RESOURCE_LIMIT`: a limit prevents a thread, a file descriptor or memory.
    - `DAMAGED_DATA`: records of a partition can't be decoded.
    - `MUST_ABORT`: the transaction failed and can only be aborted.
    - `FENCED`: a newer producer has the same transactional id, or a transaction was open for too long.
    """

    OK = abi.OCTOPUS_OK
    TIMED_OUT = abi.OCTOPUS_TIMED_OUT
    END_OF_TOPIC = abi.OCTOPUS_END_OF_TOPIC
    CLOSED = abi.OCTOPUS_CLOSED
    WOULD_BLOCK = abi.OCTOPUS_WOULD_BLOCK
    INVALID_ARGUMENT = abi.OCTOPUS_INVALID_ARGUMENT
    INVALID_CONFIGURATION = abi.OCTOPUS_INVALID_CONFIGURATION
    UNREACHABLE = abi.OCTOPUS_UNREACHABLE
    UNKNOWN_TOPIC = abi.OCTOPUS_UNKNOWN_TOPIC
    TOPIC_EXISTS = abi.OCTOPUS_TOPIC_EXISTS
    INVALID_METADATA = abi.OCTOPUS_INVALID_METADATA
    TOO_LARGE = abi.OCTOPUS_TOO_LARGE
    COMPONENT = abi.OCTOPUS_COMPONENT
    MALFORMED_RECORD = abi.OCTOPUS_MALFORMED_RECORD
    RECORDS_LOST = abi.OCTOPUS_RECORDS_LOST
    KAFKA = abi.OCTOPUS_KAFKA
    STALE = abi.OCTOPUS_STALE
    WOULD_DEADLOCK = abi.OCTOPUS_WOULD_DEADLOCK
    UNSUPPORTED = abi.OCTOPUS_UNSUPPORTED
    CALLBACK_FAILED = abi.OCTOPUS_CALLBACK_FAILED
    FORKED = abi.OCTOPUS_FORKED
    PANICKED = abi.OCTOPUS_PANICKED
    RESOURCE_LIMIT = abi.OCTOPUS_RESOURCE_LIMIT
    DAMAGED_DATA = abi.OCTOPUS_DAMAGED_DATA
    MUST_ABORT = abi.OCTOPUS_MUST_ABORT
    FENCED = abi.OCTOPUS_FENCED


class Persisted(NamedInteger):
    """Whether the event of a failed push is stored in the topic nevertheless.

    - `NO`: it is not, and won't be. Pushing it again stores it once.
    - `POSSIBLY`: Octopus sent the event, and did not receive the broker's response. It may be
      stored: pushing it again may store it twice.
    """

    NO = abi.OCTOPUS_PERSISTED_NO
    POSSIBLY = abi.OCTOPUS_PERSISTED_POSSIBLY


class SkippedOffsets(NamedTuple):
    """The offsets that a consumer skips because of an error."""

    partition: int
    first: int
    """The first offset that is skipped."""
    last: int
    """The last offset that is skipped."""


class Error(Exception):
    """A call of the library failed. The exception's text is for people, and may change in any
    version; programs look at the attributes:

    - `status`: a `Status`, why the call failed.
    - `message`: what was attempted, on what; what happened; what to do.
    - `kafka_code`: librdkafka's error code: positive if a broker reported the error, negative if
      the client detected it, 0 if there is none.
    - `retriable`: whether the same call may succeed later although nobody changes anything.
    - `persisted`: of a failed push, a `Persisted`: whether the event may be stored nevertheless.
    - `skipped`: of `DAMAGED_DATA` and `RECORDS_LOST`, the `SkippedOffsets` that reading skips, once
      they are known; else None.
    - `pushes`: of a failed `Producer.push_many`, the pushes of the events that were queued before.
    """

    status: Status
    """Why the call failed."""
    message: str
    """What was attempted, on what; what happened; what to do."""
    kafka_code: int
    """librdkafka's error code: positive if a broker reported the error, negative if the client
    detected it, 0 if there is none."""
    retriable: bool
    """Whether the same call may succeed later although nobody changes anything."""
    persisted: Persisted
    """Of a failed push: whether the event may be stored nevertheless."""
    skipped: Optional[SkippedOffsets]
    """Of `DAMAGED_DATA` and `RECORDS_LOST`: the offsets that reading skips, once they are known."""
    pushes: Tuple[Any, ...] = ()
    """Of a failed `Producer.push_many`: the pushes of the events that were queued before."""

    def __init__(
        self,
        status: Status,
        message: str,
        kafka_code: int = 0,
        retriable: bool = False,
        persisted: Persisted = Persisted.NO,
        skipped: Optional[SkippedOffsets] = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kafka_code = kafka_code
        self.retriable = retriable
        self.persisted = persisted
        self.skipped = skipped

    def __reduce__(self) -> Tuple[Any, ...]:
        """Lets worker processes send the error to their parent."""
        fields = (self.status, self.message, self.kafka_code, self.retriable, self.persisted, self.skipped)
        return type(self), fields

    def __str__(self) -> str:
        return self.message

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.status.name}, {self.message!r})"


class TimedOut(Error, TimeoutError):
    """The timeout of a call passed without a result. Nothing is wrong, and the call can be
    repeated. Python's `TimeoutError` is a base class."""


REPORTED_ONCE = {Status.MALFORMED_RECORD, Status.RECORDS_LOST, Status.DAMAGED_DATA, Status.CALLBACK_FAILED}
"""The errors of pulls that take the place of an event: the next pull continues behind them."""
PERSISTENT = {Status.UNREACHABLE, Status.UNKNOWN_TOPIC, Status.TOO_LARGE, Status.KAFKA, Status.RESOURCE_LIMIT}
"""The errors that each wait reports until their cause is removed."""

OUTCOMES = {
    Status.TIMED_OUT: "the timeout passed without a result",
    Status.CLOSED: "it was closed before",
    Status.WOULD_BLOCK: "the call would have to wait, and must not wait on this thread",
}
"""The messages of positive statuses, for which the library creates no error object."""


def error_of(api: Any, status: int, error: ctypes.c_void_p, operation: str) -> Error:
    """Converts and releases the error object of a call that returned this status.

    `api` has the library's functions. `operation` is the call, for a message of a status without an
    error object, such as "pulling events".
    """
    try:
        return read_error(api, status, error, operation)
    finally:
        release_error(api, error)


def release_error(api: Any, error: ctypes.c_void_p) -> None:
    pointer, error.value = error.value, None
    api.error.release(pointer)


def read_error(api: Any, status: int, error: ctypes.c_void_p, operation: str) -> Error:
    """As `error_of`, but leaves the error object to the caller."""
    if not error:
        try:
            outcome = Status(status)
        except ValueError:
            return Error(Status.UNSUPPORTED, f"{operation}: this package does not know the status {status}")
        kind = TimedOut if outcome is Status.TIMED_OUT else Error
        message = f"{operation}: {OUTCOMES.get(outcome, outcome.name)}"
        return kind(outcome, message, retriable=outcome in (Status.TIMED_OUT, Status.WOULD_BLOCK))
    functions = api.error
    message = functions.message(error)
    return Error(
        Status(status),
        ctypes.string_at(message.data, message.size).decode(errors="replace"),
        functions.kafka_code(error),
        bool(functions.retriable(error)),
        Persisted(functions.persisted(error)),
        skipped_offsets(functions, error),
    )


def skipped_offsets(functions: Any, error: ctypes.c_void_p) -> Optional[SkippedOffsets]:
    partition, first, last = ctypes.c_uint32(), ctypes.c_uint64(), ctypes.c_uint64()
    references = (ctypes.byref(partition), ctypes.byref(first), ctypes.byref(last))
    if not functions.skipped(error, *references):
        return None
    return SkippedOffsets(partition.value, first.value, last.value)
