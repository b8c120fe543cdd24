"""The future results of pushes, flushes and pulls."""

from __future__ import annotations

from ctypes import byref, c_int32, c_uint32, c_uint64, c_void_p
from typing import TYPE_CHECKING, Any, Generator, Generic, NamedTuple, Optional, TypeVar

from . import _abi as abi
from ._calls import call, wait_in_slices
from ._completions import completion_pipe
from ._error import Error, Status, TimedOut, error_of
from ._event import Event
from ._exit import FailureCount, Kept, has_ended, keep
from ._owner import Owner, finished_despite_ctrl_c
from ._pull_result import PullResult

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


class Future(Owner, Generic[T]):
    """The future result of a call. Any thread can wait for it, several also at the same time, and
    each gets the result.

    Use `wait` in a thread, and `await` in a task of asyncio. Dropping the future cancels nothing.
    """

    __slots__ = ("_api",)

    _operation = "waiting"

    def __init__(self, api: Any, pointer: int) -> None:
        """Takes a reference of the library; producers and consumers create futures."""
        self._api = api
        self._as_parameter_ = pointer

    def _release(self, pointer: int) -> None:
        self._api.future.release(pointer)

    def done(self) -> bool:
        """Whether `wait` would return or raise at once. Does not block."""
        is_complete = c_int32()
        call(self._api, self._operation, self._api.future.test, self, byref(is_complete))
        return bool(is_complete.value)

    def wait(self, timeout: Optional[float] = None) -> T:
        """Waits for the result, at most `timeout` seconds; None waits for ever.

        Raises `TimedOut` if there is no result yet, and the `Error` with which the call failed.
        """
        error = c_void_p()
        reference, function = byref(error), self._api.future.wait
        status = wait_in_slices(self._api, lambda limit: function(self, limit, reference), error, timeout)
        if status != abi.OCTOPUS_OK:
            raise error_of(self._api, status, error, self._operation)
        return self._result()

    def __await__(self) -> Generator[Any, None, T]:
        return self._wait_in_task().__await__()

    async def _wait_in_task(self) -> T:
        if not self.done():
            pipe = completion_pipe()
            pipe.register(self._api, self)
            await pipe.wait(self, self.done)
        return self.wait(0)

    def _result(self) -> T:
        raise NotImplementedError

    def _get(self, function: Any, result: Any) -> Any:
        """Calls a getter of the future."""
        call(self._api, self._operation, function, self, byref(result))
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

    _operation = "waiting for a flush"

    # Until Python has the flush, nobody can observe it.
    _is_observed = True

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
            self._is_observed = self._is_observed or self.done()
            raise

    wait.__doc__ = Future.wait.__doc__

    def _state(self) -> str:
        super().wait(0)
        return "done"

    def _entry(self, flush: Flush) -> Kept:
        return Kept(flush, self._name, self._limit, self._failures)

    @finished_despite_ctrl_c
    def __del__(self) -> None:
        if not self._is_observed and not has_ended() and not self._is_delivered():
            # The end of the process waits for it instead.
            self._api.future.retain(self)
            flush = Flush(self._api, self._as_parameter_, self._name, self._limit, self._failures)
            flush._is_observed = True
            keep(self._entry(flush))
            self._is_observed = True
        super().__del__()

    def _is_delivered(self) -> bool:
        """Whether there is nothing to report. Of a forked child's parent, there never is."""
        error = c_void_p()
        status = self._api.future.wait(self, 0, byref(error))
        if error:
            forked = self._api.error.code(error) == abi.OCTOPUS_FORKED
            self._api.error.release(error)
            return bool(forked)
        return bool(status == abi.OCTOPUS_OK)

    def _result(self) -> None:
        return None


class Pull(Future[Event]):
    """A future event. It takes an event inside `wait` or `done`, or, after `await`, when there is
    one, and keeps it, or the error in its place.

    Pulls have no order among each other. Dropping a pull, and canceling its `await`, for example
    by `asyncio.wait_for`, lose nothing: the next pull of the consumer gets the event.
    """

    _operation = "waiting for an event"

    # What it took, and whether somebody got that.
    _kept: Optional[PullResult] = None
    _is_delivered = False

    def __init__(self, consumer: Consumer) -> None:
        """Consumers create pulls."""
        super().__init__(consumer._api, 0)
        self._consumer = consumer

    @finished_despite_ctrl_c
    def __del__(self) -> None:
        kept = self._kept
        if kept is not None and not self._is_delivered:
            kept.give_back()

    def done(self) -> bool:
        result = self._take(0)
        return bool(result.events or result.failure)

    done.__doc__ = Future.done.__doc__

    def wait(self, timeout: Optional[float] = None) -> Event:
        return self._deliver(self._take(timeout))

    wait.__doc__ = Future.wait.__doc__

    def _is_kept(self) -> bool:
        return self._kept is not None

    def _take(self, timeout: Optional[float]) -> PullResult:
        result = PullResult(self._consumer, 1)
        try:
            result.wait(timeout, self._is_kept)
            return self._keep(result)
        except BaseException:
            self._abandon(result)
            raise

    async def _wait_in_task(self) -> Event:
        result = PullResult(self._consumer, 1)
        try:
            await result.wait_in_task(None, self._is_kept)
            kept = self._keep(result)
        except BaseException:
            self._abandon(result)
            raise
        return self._deliver(kept)

    def _keep(self, result: PullResult) -> PullResult:
        """Keeps the result that comes first. Of several waits, each returns that one."""
        if result.is_final():
            with self._consumer._lock:
                self._kept = self._kept or result
        if self._kept is None:
            return result
        self._abandon(result)
        return self._kept

    def _abandon(self, result: PullResult) -> None:
        if result is not self._kept:
            result.give_back()

    def _deliver(self, result: PullResult) -> Event:
        if result is self._kept:
            self._is_delivered = True
        if result.failure is not None:
            raise result.failure
        if not result.events:
            raise TimedOut(Status.TIMED_OUT, f"{self._operation}: the timeout passed without a result", retriable=True)
        return result.events[0]

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"
