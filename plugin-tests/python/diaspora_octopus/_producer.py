"""A producer, which pushes events into one topic."""

from __future__ import annotations

import ctypes
import json
from ctypes import byref, c_uint64, c_void_p
from typing import TYPE_CHECKING, Any, Iterable, List, NamedTuple, Optional, Sequence, Tuple, Union

from . import _abi as abi
from ._calls import call
from ._error import error_of
from ._future import Flush, Push
from ._handles import ClosedAtExit, Handle
from ._memory import bytes_of
from ._worker_exit import flush_at_worker_exit

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    Data = Union[ReadableBuffer, Sequence[ReadableBuffer]]

__all__ = ["NewEvent", "Producer"]

ARGS_SIZE = ctypes.sizeof(abi.octopus_push_args)
NO_SEGMENTS = ctypes.POINTER(abi.octopus_bytes)()

encode_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


class NewEvent(NamedTuple):
    """An event for `Producer.push_many`; the fields are the parameters of `Producer.push`."""

    metadata: Any
    data: Data = b""
    partition: Optional[int] = None


class Producer(ClosedAtExit):
    """Pushes events into one topic. `Topic.producer` creates it. Any thread can use it.

    As a context manager it closes itself: it waits until all events are delivered, without a limit.
    If the block raises, it does not wait: the library delivers the events in the background.

    Events in flight are also delivered when the program just ends: the exit waits for them, at most
    the driver's `exit_flush_ms`. `os._exit` does not; a worker process that ends by it, and is not
    one of `multiprocessing`, has to close or flush first.
    """

    name: str
    """The name that log messages and statistics show."""

    def __init__(self, api: Any, handle: Handle, name: str, exit_flush_ms: int) -> None:
        """Topics create producers."""
        self._api = api
        self._handle = handle
        self.name = name
        flush_at_worker_exit(self, exit_flush_ms / 1000)

    def push(self, metadata: Any, data: Data = b"", partition: Optional[int] = None) -> Push:
        """Queues an event for delivery, and returns its future delivery. The event is copied.

        - `metadata` is a JSON value: a dict, a list, a string, a number, a boolean or None; or
          `bytes` with JSON text in UTF-8, which are stored as they are.
        - `data` is any object with contiguous memory, such as `bytes`, a `memoryview` or an array
          of numpy, or a list or tuple of such objects, which are concatenated.
        - `partition` is the requested one: the topic's selector decides. The built-in one takes
          None as "in turn".

        Waits only while the in-flight limit is reached, at most the driver's `timeout_ms`; then it
        raises an `Error` with `UNREACHABLE`, which is retriable. Ctrl+C does not interrupt this
        wait. Other statuses are `TOO_LARGE`, `INVALID_METADATA`, `COMPONENT`, `KAFKA` and `CLOSED`.
        Metadata that is not JSON raises a `TypeError` or `ValueError`; data that is not contiguous, a
        `BufferError` or `ValueError`.
        """
        args = push_args(metadata, data, partition)
        future, error = c_void_p(), c_void_p()
        status = self._api.producer.push(self._handle.pointer, byref(args), byref(future), byref(error))
        if status != abi.OCTOPUS_OK:
            raise error_of(self._api, status, error, "pushing an event")
        return Push(self._api, future.value or 0)

    def push_many(self, events: Iterable[Union[NewEvent, Tuple[Any, ...]]]) -> List[Push]:
        """Queues several events in order, with one call of the library: `NewEvent`s, or tuples with
        the parameters of `push`.

        Raises the `Error` of the first event that can't be queued; those after it are not queued.
        The error's `pushes` has the future deliveries of those before it.
        """
        kept = [push_args(*event) for event in events]
        count = len(kept)
        args = (abi.octopus_push_args * count)(*kept)
        futures: Any = (c_void_p * count)()
        pushed, error = c_uint64(), c_void_p()
        status = self._api.producer.push_many(self._handle.pointer, args, count, futures, byref(pushed), byref(error))
        pushes = [Push(self._api, pointer) for pointer in futures[: pushed.value]]
        if status != abi.OCTOPUS_OK:
            failure = error_of(self._api, status, error, "pushing events")
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
        future = c_void_p()
        call(self._api, "flushing", self._api.producer.flush, self._handle.pointer, byref(future))
        return Flush(self._api, future.value or 0)

    @property
    def max_event_size(self) -> int:
        """The size of the largest event that `push` accepts: metadata and data, in bytes."""
        size = c_uint64()
        function = self._api.producer.max_event_size
        call(self._api, "getting the maximum size", function, self._handle.pointer, byref(size))
        return size.value

    def close(self, timeout: Optional[float] = None) -> None:
        """Rejects further pushes, and waits until no event is in flight, at most `timeout` seconds;
        None waits for ever. Closing again has no effect.

        Raises `TimedOut` if events are still in flight: the library continues to deliver them.
        Raises an `Error` with `UNREACHABLE` if no broker was ever reached, or with the status of a
        flush if events failed.
        """
        self._close("closing a producer", self._api.producer.close, timeout)

    def __repr__(self) -> str:
        return f"<Producer {self.name!r}>"


def push_args(metadata: Any, data: Data = b"", partition: Optional[int] = None) -> abi.octopus_push_args:
    """The arguments of a push. Keep the result until the call returns: it owns the memory."""
    encoded = metadata if isinstance(metadata, bytes) else encode_json(metadata).encode()
    text = bytes_of(encoded)
    if isinstance(data, (list, tuple)):
        segments = [bytes_of(segment) for segment in data]
        array: Any = (abi.octopus_bytes * len(segments))(*segments)
        count = len(segments)
        owner: Any = (text, segments, array)
        pointer: Any = ctypes.cast(array, ctypes.POINTER(abi.octopus_bytes))
    elif type(data) is bytes and not data:
        count, owner, pointer = 0, text, NO_SEGMENTS
    else:
        segment = bytes_of(data)
        count, owner, pointer = 1, (text, segment), ctypes.pointer(segment)
    args = abi.octopus_push_args(ARGS_SIZE, text, pointer, count)
    args.owner = owner
    if partition is not None:
        if partition < 0:
            raise ValueError(f"partition {partition}: partitions are numbered from 0")
        args.partition = partition
        args.has_partition = 1
    return args
