"""The future results of pushes, flushes and pulls."""

from __future__ import annotations

from ctypes import byref, c_int32, c_uint32, c_uint64, c_void_p
from typing import Any, Generator, Generic, NamedTuple, Optional, TypeVar

from . import _abi as abi
from ._calls import call, wait_in_slices
from ._completions import completion_pipe
from ._error import error_of
from ._event import Event

__all__ = ["Delivered", "Flush", "Future", "Pull", "Push"]

T = TypeVar("T")


class Delivered(NamedTuple):
    """Where Kafka stored an event."""

    partition: int
    offset: Optional[int]
    """None if the event is stored, but Kafka did not report the offset, because its first response
    was lost."""


class Future(Generic[T]):
    """The future result of a call. Any thread can wait for it, several also at the same time, and
    each gets the result.

    Use `wait` in a thread, and `await` in a task of asyncio. Dropping the future cancels nothing.
    """

    __slots__ = ("_api", "_pointer", "__weakref__")

    _operation = "waiting"

    def __init__(self, api: Any, pointer: int) -> None:
        """Takes a reference of the library; producers and consumers create futures."""
        self._api = api
        self._pointer = pointer

    def __del__(self) -> None:
        self._api.future.release(self._pointer)

    def done(self) -> bool:
        """Whether `wait` would return or raise at once. Does not block."""
        is_complete = c_int32()
        call(self._api, self._operation, self._api.future.test, self._pointer, byref(is_complete))
        return bool(is_complete.value)

    def wait(self, timeout: Optional[float] = None) -> T:
        """Waits for the result, at most `timeout` seconds; None waits for ever.

        Raises `TimedOut` if there is no result yet, and the `Error` with which the call failed.
        """
        error = c_void_p()
        reference = byref(error)
        function, pointer = self._api.future.wait, self._pointer
        status = wait_in_slices(lambda limit: function(pointer, limit, reference), timeout)
        if status not in (abi.OCTOPUS_OK, abi.OCTOPUS_END_OF_TOPIC):
            raise error_of(self._api, status, error, self._operation)
        return self._result()

    def __await__(self) -> Generator[Any, None, T]:
        return self._wait_in_task().__await__()

    async def _wait_in_task(self) -> T:
        if not self._has_result():
            await completion_pipe().wait(self._api, self._pointer, self._has_result)
        return self.wait(0)

    def _has_result(self) -> bool:
        """Whether the future keeps what `wait` returns or raises."""
        return self.done()

    def _result(self) -> T:
        raise NotImplementedError

    def _get(self, function: Any, result: Any) -> Any:
        """Calls a getter of the future."""
        call(self._api, self._operation, function, self._pointer, byref(result))
        return result.value


class Push(Future[Delivered]):
    """The future delivery of one event. The event is sent even if nobody waits.

    A `wait` ends the linger time of the producer's events: they are sent now. `await` and `done` do
    not; set `linger.ms` to 0 for a low latency with `await`.

    A failed push raises an `Error` whose `persisted` says whether the event may be stored
    nevertheless. As long as no broker was ever reached, a wait raises `UNREACHABLE` after the
    driver's `connect_timeout_ms`; the event is kept, and a later wait may succeed.
    """

    __slots__ = ()

    _operation = "waiting for a push"

    def _result(self) -> Delivered:
        functions = self._api.future
        partition = self._get(functions.partition, c_uint32())
        offset = self._get(functions.event_id, c_uint64())
        return Delivered(partition, None if offset == abi.OCTOPUS_EVENT_ID_UNKNOWN else offset)


class Flush(Future[None]):
    """The end of a flush: no event that was pushed before it is in flight.

    It raises the `Error` of the first event that failed since the previous flush; the message has
    the number of events that failed.
    """

    __slots__ = ()

    _operation = "waiting for a flush"

    def _result(self) -> None:
        return None


class Pull(Future[Event]):
    """A future event. It takes an event inside `wait` or `done`, or, after `await`, when there is
    one.

    Pulls have no order among each other. Dropping a pull that nobody awaited loses nothing: another
    pull reads the event. A pull whose `await` was cancelled will still take an event, so await it
    again.
    """

    __slots__ = ()

    _operation = "waiting for an event"

    def _has_result(self) -> bool:
        # `done` takes an event that is there. It is also true if the consumer has a persistent
        # error, which is not a result; completions report that once a second.
        return (
            self.done()
            and self._api.future.event_id(self._pointer, byref(c_uint64()), None) != abi.OCTOPUS_WOULD_BLOCK
        )

    def _result(self) -> Event:
        return Event(self._api, self._get(self._api.future.event, c_void_p()))
