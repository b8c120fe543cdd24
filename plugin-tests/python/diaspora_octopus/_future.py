"""The future results of pushes, flushes and pulls."""

from __future__ import annotations

import weakref
from ctypes import byref, c_int32, c_uint32, c_uint64, c_void_p
from typing import TYPE_CHECKING, Any, Generator, Generic, NamedTuple, Optional, TypeVar

from . import _abi as abi
from ._calls import call, wait_in_slices
from ._completions import completion_pipe
from ._error import Error, error_of
from ._event import Event
from ._exit import FailureCount, Kept, has_ended, keep

if TYPE_CHECKING:
    from ._consumer import Consumer

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


    def __repr__(self) -> str:
        name = type(self).__name__
        try:
            return f"<{name}: {self._state() if self.done() else 'pending'}>"
        except Error as error:
            return f"<{name}: failed: {error.message}>"

    def _state(self) -> str:
        """The result in words. Raises the error of a failure."""
        return f"done, {self.wait(0)}"


class Push(Future[Delivered]):
    """The future delivery of one event. The event is sent even if nobody waits.

    A `wait` ends the linger time of the producer's events: they are sent now. `await` and `done` do
    not; set `linger.ms` to 0 for a low latency with `await`.

    A failed push raises an `Error` whose `persisted` says whether the event may be stored
    nevertheless. As long as no broker was ever reached, a wait raises `UNREACHABLE` after the
    driver's `connect_timeout_ms`; the event is kept, and a later wait may succeed.
    """

    __slots__ = ("_failures",)

    _operation = "waiting for a push"

    def __init__(self, api: Any, pointer: int, failures: FailureCount) -> None:
        super().__init__(api, pointer)
        self._failures: Optional[FailureCount] = failures

    def wait(self, timeout: Optional[float] = None) -> Delivered:
        try:
            return super().wait(timeout)
        except Error:
            failures = self._failures
            if failures is not None and self.done():
                self._failures = None
                failures.reported += 1
            raise

    wait.__doc__ = Future.wait.__doc__

    def _state(self) -> str:
        delivered = super().wait(0)
        return f"stored at partition {delivered.partition}, offset {delivered.offset}"

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

    __slots__ = ("_name", "_limit", "_failures", "_is_observed")

    _operation = "waiting for a flush"

    def __init__(self, api: Any, pointer: int, name: str, limit: float, failures: FailureCount) -> None:
        super().__init__(api, pointer)
        self._name = name
        self._limit = limit
        self._failures = failures
        self._is_observed = False

    def wait(self, timeout: Optional[float] = None) -> None:
        try:
            super().wait(timeout)
            self._is_observed = True
        except Error:
            self._is_observed = self.done()
            raise

    wait.__doc__ = Future.wait.__doc__

    def _state(self) -> str:
        super().wait(0)
        return "done"

    def _entry(self, flush: Flush) -> Kept:
        return Kept(flush, self._name, self._limit, self._failures)

    def __del__(self) -> None:
        if not self._is_observed and not has_ended() and not self._is_delivered():
            # The end of the process waits for it instead. The new object has the reference.
            flush = Flush(self._api, self._pointer, self._name, self._limit, self._failures)
            flush._is_observed = True
            keep(self._entry(flush))
        else:
            super().__del__()

    def _is_delivered(self) -> bool:
        """Whether there is nothing to report. Of a forked child's parent, there never is."""
        error = c_void_p()
        status = self._api.future.wait(self._pointer, 0, byref(error))
        if error:
            forked = self._api.error.code(error) == abi.OCTOPUS_FORKED
            self._api.error.release(error)
            return bool(forked)
        return bool(status == abi.OCTOPUS_OK)

    def _result(self) -> None:
        return None


class Pull(Future[Event]):
    """A future event. It takes an event inside `wait` or `done`, or, after `await`, when there is
    one.

    Pulls have no order among each other. Dropping a pull, and canceling its `await`, for example
    by `asyncio.wait_for`, lose nothing: the next pull of the consumer gets the event.
    """

    __slots__ = ("_consumer", "_event", "_is_started", "_returned")

    _operation = "waiting for an event"

    def __init__(
        self, api: Any, pointer: int, consumer: weakref.ref[Consumer], event: Optional[Event] = None
    ) -> None:
        """`event` is one that the consumer has already; there is no reference of the library
        then."""
        super().__init__(api, pointer)
        self._consumer = consumer
        self._event = event
        # Whether it may have taken an event that nobody got.
        self._is_started = event is not None
        # The pull that the consumer got when the task of this one was cancelled.
        self._returned: Optional[Pull] = None

    def __del__(self) -> None:
        if self._is_started:
            self._give_back()
        if self._pointer:
            super().__del__()

    def _give_back(self) -> None:
        """Lets the consumer's next pull have the event."""
        consumer = self._consumer()
        self._is_started = False
        if consumer is None or consumer._is_closed:
            return
        if self._event is not None:
            consumer._returned.appendleft(self._event)
            return
        self._api.future.retain(self._pointer)
        self._returned = Pull(self._api, self._pointer, self._consumer)
        self._returned._is_started = True
        consumer._pulls.append(self._returned)

    def _resume(self) -> None:
        """Takes back what `_give_back` gave; if another pull got it, this one is a new pull."""
        returned, self._returned = self._returned, None
        consumer = self._consumer()
        if returned is None or consumer is None:
            return
        try:
            consumer._pulls.remove(returned)
            returned._is_started = False
        except ValueError:
            fresh = consumer._begin_new_pull()
            self._pointer, fresh._pointer = fresh._pointer, self._pointer
        self._is_started = True

    def done(self) -> bool:
        if self._event is not None:
            return True
        self._resume()
        self._is_started = True
        return super().done()

    done.__doc__ = Future.done.__doc__

    def wait(self, timeout: Optional[float] = None) -> Event:
        if self._event is not None:
            return self._result()
        self._resume()
        self._is_started = True
        return super().wait(timeout)

    wait.__doc__ = Future.wait.__doc__

    def __await__(self) -> Generator[Any, None, Event]:
        return self._wait_or_give_back().__await__()

    async def _wait_or_give_back(self) -> Event:
        self._resume()
        try:
            return await self._wait_in_task()
        except Error:
            raise
        except BaseException:
            # The task was cancelled: the pull will take an event, or has taken one.
            if self._is_started:
                self._give_back()
            raise

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def _has_result(self) -> bool:
        # `done` takes an event that is there. It is also true if the consumer has a persistent
        # error, which is not a result; completions report that once a second.
        if self._event is not None:
            return True
        return (
            self.done()
            and self._api.future.event_id(self._pointer, byref(c_uint64()), None) != abi.OCTOPUS_WOULD_BLOCK
        )

    def _result(self) -> Event:
        event = self._event
        if event is None:
            event = Event(self._api, self._get(self._api.future.event, c_void_p()))
        self._is_started = False
        return event
