"""A producer, which pushes events into one topic."""

from __future__ import annotations

import ctypes
import json
import time
from ctypes import byref, c_uint64, c_void_p
from typing import TYPE_CHECKING, Any, Iterable, List, NamedTuple, Optional, Sequence, Tuple, Union

from . import _abi as abi
from ._arguments import integer, wrong_type
from ._attributes import push_attributes
from ._calls import SLICE_MS, call, end_of, interruptibly, milliseconds
from ._error import Error, error_of
from ._exit import FailureCount, Kept, flush_at_exit
from ._future import Flush, Push
from ._handles import ClosedAtExit, Handle
from ._memory import bytes_of
from ._owner import finished_despite_ctrl_c
from ._transactions import Transactions

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from ._attributes import Headers, Value

    Data = Union[ReadableBuffer, Sequence[ReadableBuffer], None]

__all__ = ["NewEvent", "Producer"]

ARGS_SIZE = ctypes.sizeof(abi.octopus_push_args)
NO_SEGMENTS = ctypes.POINTER(abi.octopus_bytes)()


def json_form(value: Any) -> Any:
    """The JSON form of a value that `json` does not know: of a scalar, such as numpy's."""
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
        return value.item()
    raise wrong_type("push", "metadata", "a JSON value", value)


encode_json = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=json_form
).encode


class NewEvent(NamedTuple):
    """An event for `Producer.push_many`; the fields are the parameters of `Producer.push`."""

    metadata: Any
    data: Data = None
    partition: Optional[int] = None
    key: Value = None
    headers: Headers = None
    timestamp_ms: Optional[int] = None


class Producer(Transactions, ClosedAtExit):
    """Pushes events into one topic. `Topic.producer` creates it. Any thread can use it.

    As a context manager it closes itself: it waits until all events are delivered, without a limit.
    If the block raises, it does not wait: the library delivers the events in the background.

    Events in flight are also delivered when the program just ends: the exit waits for them, at most
    the driver's `exit_flush_ms`, and reports on stderr what was not delivered. `os._exit` does not
    wait, and neither does SIGTERM: close or flush first.
    """

    name: str
    """The name that log messages and statistics show."""

    # The flush that `close` waits for, until somebody got its result.
    _closing: Optional[Flush] = None

    def __init__(self, api: Any, handle: Handle, name: str, topic: str, exit_flush_ms: int) -> None:
        """Topics create producers."""
        self._api = api
        self._handle = handle
        self.name = name
        self._topic = topic
        self._exit_limit = exit_flush_ms / 1000
        self._failures = FailureCount()
        flush_at_exit(self)

    @finished_despite_ctrl_c
    def __del__(self) -> None:
        # The library delivers the events. If the process ends before that, the end waits for them.
        try:
            self._begin_flush()
        except Exception:
            pass  # It is closed, belongs to the parent of this process, or the interpreter ends.

    def _name(self) -> str:
        return f"{super()._name()} of topic {self._topic!r}"

    def push(
        self,
        metadata: Any,
        data: Data = None,
        partition: Optional[int] = None,
        key: Value = None,
        headers: Headers = None,
        timestamp_ms: Optional[int] = None,
    ) -> Push:
        """Queues an event for delivery, and returns its future delivery. The event is copied.

        - `metadata` is a JSON value: a dict, a list, a string, a number, a boolean or None; or
          `bytes` with JSON text in UTF-8, which are stored as they are. Scalars of numpy are
          numbers.
        - `data` is any object with contiguous memory, such as `bytes`, a `memoryview` or an array
          of numpy, or a list or tuple of such objects, which are concatenated; None is no data.
          With the producer's option `records="bytes"`, None is a record without a value (a
          tombstone), and `b""` one with an empty value.
        - `partition` is the requested one: the topic's selector decides. The built-in one takes
          None as "in turn".
        - `key` is the key of the Kafka record, bytes-like or a string. With the producer's option
          `partitioner="key"` it requests a partition, the same one as with Java's client.
        - `headers` are those of the Kafka record: a dict, or a list of pairs of a name and a value,
          which is bytes-like, a string or None.
        - `timestamp_ms` is the record's timestamp, in milliseconds since 1970-01-01 UTC; None is
          the time of the push.

        Waits only while the in-flight limit is reached, at most the driver's `timeout_ms`; then it
        raises an `Error` with `UNREACHABLE`, which is retriable. Ctrl+C interrupts this wait; the
        event may still be queued. Other statuses are `TOO_LARGE`, `INVALID_METADATA`, `COMPONENT`, `KAFKA` and `CLOSED`.
        Metadata that is not JSON raises a `TypeError` or `ValueError`; data that is not contiguous,
        a `BufferError` or `ValueError`.
        """
        args = push_args(metadata, data, partition, key, headers, timestamp_ms)
        push = self._queue(args)
        if push is None:
            args.has_timeout = 0
            push = interruptibly(lambda: self._queue(args))
        assert push is not None, "a push without a timeout does not time out"
        return push

    def _queue(self, args: abi.octopus_push_args) -> Optional[Push]:
        """None if the timeout has passed."""
        future, error = c_void_p(), c_void_p()
        status = self._api.producer.push(self._handle, byref(args), byref(future), byref(error))
        if status == abi.OCTOPUS_TIMED_OUT:
            return None
        if status != abi.OCTOPUS_OK:
            raise error_of(self._api, status, error, f"pushing an event with {self._name()}")
        return Push(self._api, future.value or 0, self._failures)

    def push_many(self, events: Iterable[Union[NewEvent, Tuple[Any, ...]]]) -> List[Push]:
        """Queues several events in order, with one call of the library: `NewEvent`s, or tuples with
        the parameters of `push`.

        Raises the `Error` of the first event that can't be queued; those after it are not queued.
        The error's `pushes` has the future deliveries of those before it. Waits as `push` does, for
        each event; after Ctrl+C the events may still be queued.
        """
        if hasattr(events, "keys"):
            raise not_an_event(events)
        args = [args_of_event(event) for event in events]
        pushes = self._queue_many(args)
        rest = args[len(pushes) :]
        if rest:
            for event in rest:
                event.has_timeout = 0
            try:
                pushes += interruptibly(lambda: self._queue_many(rest))
            except Error as failure:
                failure.pushes = (*pushes, *failure.pushes)
                raise
        return pushes

    def _queue_many(self, kept: Sequence[abi.octopus_push_args]) -> List[Push]:
        """Those that are queued before the timeout."""
        count = len(kept)
        args = (abi.octopus_push_args * count)(*kept)
        futures: Any = (c_void_p * count)()
        pushed, error = c_uint64(), c_void_p()
        status = self._api.producer.push_many(self._handle, args, count, futures, byref(pushed), byref(error))
        pushes = [Push(self._api, pointer, self._failures) for pointer in futures[: pushed.value]]
        if status not in (abi.OCTOPUS_OK, abi.OCTOPUS_TIMED_OUT):
            failure = error_of(self._api, status, error, f"pushing events with {self._name()}")
            failure.pushes = tuple(pushes)
            raise failure
        return pushes

    def flush(self, timeout: Optional[float] = None) -> None:
        """Waits until all events that were pushed before are delivered or have failed, at most
        `timeout` seconds; None waits for ever.

        Raises `TimedOut` if some are still in flight, or the `Error` of the first event that failed
        since the previous flush; the message has the number of events that failed.
        """
        self.begin_flush().wait(timeout)

    def begin_flush(self) -> Flush:
        """Begins a flush, and returns at once. `await producer.begin_flush()` waits in a task."""
        return self._begin_flush()

    def _begin_flush(self) -> Flush:
        future = c_void_p()
        call(self._api, f"flushing {self._name()}", self._api.producer.flush, self._handle, byref(future))
        failures, self._failures = self._failures, FailureCount()
        return Flush(self._api, future.value or 0, self._name(), self._exit_limit, failures)

    def _begin_kept_flush(self) -> Kept:
        flush = self._closing or self._begin_flush()
        return flush._entry(flush)

    @property
    def max_event_size(self) -> int:
        """The size of the largest event that `push` accepts: metadata and data, in bytes."""
        size = c_uint64()
        function = self._api.producer.max_event_size
        operation = f"getting the maximum event size of {self._name()}"
        call(self._api, operation, function, self._handle, byref(size))
        return size.value

    def close(self, timeout: Optional[float] = None) -> None:
        """Rejects further pushes, and waits until no event is in flight, at most `timeout` seconds;
        None waits for ever. Closing again has no effect, once nothing is in flight.

        Raises `TimedOut` if events are still in flight: the library continues to deliver them, and
        closing again waits for them. Raises an `Error` with `UNREACHABLE` if no broker was ever
        reached, or with the status of a flush if events failed.
        """
        end = end_of(timeout)
        if not self._is_closed:
            # `close` of the library ends after this flush, which has the failures. If the wait ends
            # early, the next `close` waits for the flush, or the end of the process.
            self._closing = self._begin_flush()
            self._is_closed = True
            self._call("closing", self._api.producer.close, milliseconds(timeout))
        flush = self._closing
        if flush is not None:
            try:
                flush.wait(max(end - time.monotonic(), 0))
            finally:
                if flush.done():
                    self._closing = None


def not_an_event(value: object) -> TypeError:
    kind = type(value).__name__
    return TypeError(f"push_many: expected NewEvent or a tuple (metadata, data, partition), got {kind}")


def args_of_event(event: object) -> abi.octopus_push_args:
    if not isinstance(event, tuple):
        raise not_an_event(event)
    if not 1 <= len(event) <= len(NewEvent._fields):
        expected = "a tuple with up to six parameters of push"
        raise TypeError(f"push_many: expected {expected}, got {len(event)} elements")
    return push_args(*event)


def data_of(segment: Any) -> abi.octopus_bytes:
    try:
        return bytes_of(segment)
    except (BufferError, TypeError, ValueError) as error:
        raise type(error)(f"push: data: {error}") from None


def push_args(
    metadata: Any,
    data: Data = None,
    partition: Optional[int] = None,
    key: Value = None,
    headers: Headers = None,
    timestamp_ms: Optional[int] = None,
) -> abi.octopus_push_args:
    """The arguments of a push that waits for `SLICE_MS`. Keep the result until the call returns: it
    owns the memory."""
    encoded = metadata if isinstance(metadata, bytes) else encode_json(metadata).encode()
    text = bytes_of(encoded)
    if isinstance(data, (list, tuple)):
        segments = [data_of(segment) for segment in data]
        array: Any = (abi.octopus_bytes * len(segments))(*segments)
        count = len(segments)
        owner: Any = (text, segments, array)
        pointer: Any = ctypes.cast(array, ctypes.POINTER(abi.octopus_bytes))
    elif data is None:
        count, owner, pointer = 0, text, NO_SEGMENTS
    else:
        segment = data_of(data)
        count, owner, pointer = 1, (text, segment), ctypes.pointer(segment)
    args = abi.octopus_push_args(ARGS_SIZE, text, pointer, count, timeout_ms=SLICE_MS, has_timeout=1)
    args.owner = owner
    if partition is not None:
        args.partition = integer("push", "partition", partition)
        args.has_partition = 1
    if key is not None or headers or timestamp_ms is not None:
        attributes = push_attributes(key, headers, timestamp_ms)
        args.owner = (owner, attributes)
        args.attributes = ctypes.pointer(attributes)
    return args
