"""What a pull takes from its consumer, and who has it when.

Ctrl+C can come between any two instructions. So the result of a pull is filled in steps that can be
repeated, and the caller calls `PullResult.give_back` if an exception interrupts it.
"""

from __future__ import annotations

import functools
import time
from ctypes import byref, c_uint64, c_void_p
from typing import TYPE_CHECKING, Any, Callable, List, Optional, Tuple

from . import _abi as abi
from ._calls import milliseconds, wait_in_slices
from ._completions import completion_pipe
from ._error import PERSISTENT, REPORTED_ONCE, Error, Status, read_error, release_error
from ._event import Event
from ._handles import Handle

if TYPE_CHECKING:
    from ._consumer import Consumer

SUCCESSES = (abi.OCTOPUS_OK, abi.OCTOPUS_END_OF_TOPIC)


class PendingPull(Handle):
    """The pull of the library that takes an event for the tasks that wait. It keeps the event, or
    the error in its place."""

    __slots__ = ("is_registered",)

    def __init__(self, pointer: int, release: Callable[[int], None]) -> None:
        self.is_registered = False
        super().__init__(pointer, release)


class PullResult:
    """The events that a pull takes from its consumer, or the error in their place. Neither, if the
    timeout passes."""

    def __init__(self, consumer: Consumer, max_events: int) -> None:
        self.consumer = consumer
        self.max_events = max_events
        self.events: List[Event] = []
        self.failure: Optional[Error] = None
        # What the library writes.
        self.taken = pointer_array(max_events)()
        self.count, self.error = c_uint64(), c_void_p()
        # The consumer's pull whose result this is.
        self.claimed: Optional[PendingPull] = None

    def wait(self, timeout: Optional[float], is_over: Callable[[], bool] = bool) -> None:
        """Waits for events, unless the wait `is_over`."""

        def attempt(limit: int) -> int:
            return abi.OCTOPUS_OK if is_over() else self.attempt(limit)

        self.finish(wait_in_slices(self.consumer._api, attempt, self.error, timeout))

    async def wait_in_task(self, timeout: Optional[float], is_over: Callable[[], bool] = bool) -> None:
        """As `wait`, in a task."""
        limit, consumer = milliseconds(timeout), self.consumer
        if limit == 0:
            return self.wait(0)
        end = time.monotonic() + limit / 1000
        while not is_over():
            status = self.attempt(0)
            # A pull without a timeout reports a persistent error, but not sooner than a wait would.
            if status != abi.OCTOPUS_TIMED_OUT and (self.claimed or status not in PERSISTENT):
                return self.finish(status)
            release_error(consumer._api, self.error)
            remaining = None if limit < 0 else end - time.monotonic()
            if remaining is not None and remaining <= 0:
                return
            pending = consumer._begin_pending_pull()

            def is_changed(pending: PendingPull = pending) -> bool:
                return is_over() or consumer._has_ready() or self.is_settled(pending)

            await completion_pipe().wait(pending, is_changed, remaining)

    def attempt(self, limit: int) -> int:
        """Takes what is there, or waits for it, at most `limit` milliseconds. Returns a status."""
        consumer, functions = self.consumer, self.consumer._api
        if self.take_ready():
            return abi.OCTOPUS_OK
        pending = consumer._pending
        if pending is None:
            outputs = (self.taken, byref(self.count), byref(self.error))
            return int(functions.consumer.pull_many(consumer._handle, self.max_events, limit, *outputs))
        status = int(functions.future.wait(pending, limit, byref(self.error)))
        if not self.is_settled(pending):
            return status
        release_error(functions, self.error)
        if not self.claim(pending):
            return abi.OCTOPUS_TIMED_OUT
        status = self.read_claimed()
        if limit > 0 and status in PERSISTENT:
            # The library reports it to the rest of the wait, unless it is gone by then.
            release_error(functions, self.error)
            self.claimed = None
            return abi.OCTOPUS_TIMED_OUT
        return status

    def take_ready(self) -> bool:
        """Takes what other pulls gave back."""
        consumer = self.consumer
        if not consumer._has_ready():
            return False
        with consumer._lock:
            self.events = sorted(consumer._ready, key=place)[: self.max_events]
            for event in self.events:
                consumer._ready.remove(event)
            if not self.events and consumer._failures:
                self.failure = consumer._failures[0]
                consumer._failures.remove(self.failure)
        return bool(self.events or self.failure)

    def is_settled(self, pending: PendingPull) -> bool:
        """Whether the pull has an event, or an error that it keeps. Changes nothing."""
        function = self.consumer._api.future.event_id
        return bool(function(pending, byref(c_uint64()), None) != abi.OCTOPUS_WOULD_BLOCK)

    def claim(self, pending: PendingPull) -> bool:
        """Makes the event of the pull this one, unless another wait did so."""
        consumer = self.consumer
        with consumer._lock:
            if consumer._pending is not pending:
                return False
            self.claimed = pending
            consumer._pending = None
        return True

    def read_claimed(self) -> int:
        if not self.count.value:
            status = int(self.consumer._api.future.event(self.claimed, self.taken, byref(self.error)))
            if status != abi.OCTOPUS_OK:
                return status
            self.count.value = 1
        return abi.OCTOPUS_OK

    def finish(self, status: int) -> None:
        """Converts what the library wrote."""
        if status in SUCCESSES:
            self.own_events()
        elif status != abi.OCTOPUS_TIMED_OUT:
            api, name = self.consumer._api, self.consumer._name()
            self.failure = read_error(api, status, self.error, f"pulling events with {name}")
            release_error(api, self.error)

    def own_events(self) -> None:
        """Makes objects of the events that the library wrote. They get the references only when
        the list is there, so that an interrupted call neither drops nor releases one twice."""
        count = self.count.value
        if count and not self.events:
            api = self.consumer._api
            self.events = [Event(api, 0) for _ in range(count)]
        for event, pointer in zip(self.events, self.taken[:count]):
            event._as_parameter_ = pointer

    def is_end(self) -> bool:
        """Whether an iteration ends here."""
        return self.failure is None or self.failure.status == Status.CLOSED

    def take_failure(self) -> Error:
        """The error, to raise it. Its traceback will refer to the caller's frame, and thereby to
        this object, which must not refer to the error then."""
        failure, self.failure = self.failure, None
        assert failure is not None
        return failure

    def is_final(self) -> bool:
        """Whether this took what no other pull can take."""
        return bool(self.events) or self.failure is not None and self.failure.status in REPORTED_ONCE

    def give_back(self) -> None:
        """Makes this the result of the consumer's next pulls."""
        consumer = self.consumer
        if self.claimed is not None:
            if consumer._pending is self.claimed:
                return
            self.read_claimed()
        self.own_events()
        if self.error and self.failure is None:
            status = consumer._api.error.code(self.error)
            self.failure = read_error(consumer._api, status, self.error, "")
        release_error(consumer._api, self.error)
        if self.is_final() and not consumer._has_left:
            known = set(map(id, consumer._ready))
            consumer._ready.extend([event for event in self.events if id(event) not in known])
            if self.failure is not None:
                consumer._failures.append(self.failure)
            consumer._wake_tasks()


def place(event: Event) -> Tuple[int, int]:
    """Orders events by partition and offset. The mark at the end of a topic is the last one."""
    content = event._content()
    return content.partition, content.id


@functools.lru_cache(maxsize=64)
def pointer_array(size: int) -> Any:
    return c_void_p * size
