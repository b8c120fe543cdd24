"""A consumer, which reads the events of one topic."""

from __future__ import annotations

import threading
from ctypes import byref, c_uint32, c_uint64, c_void_p
from typing import Any, List, Optional, overload

from . import _abi as abi
from ._arguments import integer, partition_number
from ._calls import BackgroundCall, call, milliseconds
from ._completions import completion_pipe
from ._error import Error, Status, TimedOut
from ._event import Event
from ._future import Pull
from ._handles import ClosedAtExit, Handle
from ._pull_result import PendingPull, PullResult, place

__all__ = ["Consumer", "Events"]

class Consumer(ClosedAtExit):
    """Reads the events of one topic, as a member of the consumer group of its name.
    `Topic.consumer` creates it. Any thread can use it.

    `for event in consumer` and `async for event in consumer` wait for events without a limit, and
    end when the consumer is closed; `events` has a timeout. An `Error` of a pull leaves the loop,
    and another loop continues as the next `pull` would.

    As a context manager it closes itself. If the block raises, it does not wait for Kafka: the
    library commits and leaves the group in the background.
    """

    name: str
    """The name of the consumer, which is its consumer group."""

    # The close that goes on in the background, until somebody got its result.
    _closing: Optional[BackgroundCall[None]] = None
    # Whether it was closed or unsubscribed.
    _has_left = False

    def __init__(self, api: Any, handle: Handle, name: str) -> None:
        """Topics create consumers."""
        self._api = api
        self._handle = handle
        self.name = name
        # What pulls took and nobody got: the next pulls get it, in the order of the offsets.
        self._ready: List[Event] = []
        self._failures: List[Error] = []
        # The one pull of the library that takes an event although no call waits for it.
        self._pending: Optional[PendingPull] = None
        # Guards what is taken from the three above. A collected `Pull` adds without it.
        self._lock = threading.Lock()

    @overload
    def pull(self) -> Event: ...

    @overload
    def pull(self, timeout: Optional[float]) -> Optional[Event]: ...

    def pull(self, timeout: Optional[float] = None) -> Optional[Event]:
        """Returns the next event, or None if there is none within `timeout` seconds. Without a
        timeout it waits for ever.

        Raises an `Error`. After `MALFORMED_RECORD`, `RECORDS_LOST` and `DAMAGED_DATA` the next pull
        continues; `UNREACHABLE`, `UNKNOWN_TOPIC`, `TOO_LARGE` and `KAFKA` are raised until their
        cause is removed; `CLOSED` is raised always.
        """
        result = PullResult(self, 1)
        try:
            result.wait(timeout)
            if result.failure is None:
                return result.events[0] if result.events else None
        except BaseException:
            result.give_back()
            raise
        raise result.take_failure()

    def pull_many(self, max_events: int, timeout: Optional[float] = None) -> List[Event]:
        """Waits for an event, and returns it with further ones that are available, at most
        `max_events`. Returns an empty list if there is none within `timeout` seconds, or if
        `max_events` is 0. Without a timeout it waits for ever.

        Raises the errors of `pull`. An error that follows events is raised by the next call.
        """
        max_events = integer("pull_many", "max_events", max_events)
        if max_events == 0:
            return []
        result = PullResult(self, max_events)
        try:
            result.wait(timeout)
            if result.failure is None:
                return result.events
        except BaseException:
            result.give_back()
            raise
        raise result.take_failure()

    def begin_pull(self) -> Pull:
        """Begins to pull the next event, and returns at once. `await consumer.begin_pull()` waits
        in a task, and `asyncio.wait_for(consumer.begin_pull(), 5)` for at most 5 seconds."""
        return Pull(self)

    def _begin_pending_pull(self) -> PendingPull:
        with self._lock:
            pending = self._pending
            if pending is None:
                function, pointer = self._api.consumer.pull, c_void_p()
                call(self._api, f"pulling an event with {self._name()}", function, self._handle, byref(pointer))
                pending = self._pending = PendingPull(pointer.value or 0, self._api.future.release)
            if not pending.is_registered:
                completion_pipe().register(self._api, pending)
                pending.is_registered = True
            return pending

    def _has_ready(self) -> bool:
        return bool(self._ready or self._failures) and not self._has_left

    def _wake_tasks(self) -> None:
        """Makes the tasks that wait look for what was given back."""
        pending = self._pending
        if pending is not None and pending.is_registered:
            completion_pipe().notify(pending)

    def _settle_pending_pull(self) -> bool:
        """Makes an event that the pending pull took a ready one. Returns whether there was one."""
        result, pending = PullResult(self, 1), self._pending
        try:
            return pending is not None and result.is_settled(pending) and result.claim(pending)
        finally:
            if result.claimed is not None:
                result.give_back()

    def _first_ready(self, partition: int) -> Optional[int]:
        """The lowest offset of the partition's ready events."""
        self._settle_pending_pull()
        places = map(place, tuple(self._ready))
        return min((offset for number, offset in places if number == partition), default=None)

    def _drop_ready(self, partition: int) -> None:
        with self._lock:
            for event in tuple(self._ready):
                if event.partition == partition:
                    self._ready.remove(event)

    def _leave(self) -> None:
        """Drops what nobody can acknowledge any more."""
        self._has_left = True
        self._ready.clear()
        self._failures.clear()
        self._pending = None

    def events(self, timeout: Optional[float] = None) -> Events:
        """Iterates over the events, for `for` and for `async for`. Ends when no event comes within
        `timeout` seconds (None: never), and when the consumer is closed."""
        return Events(self, timeout)

    def __iter__(self) -> Events:
        return self.events()

    def __aiter__(self) -> Events:
        return self.events()

    def commit(self, timeout: Optional[float] = None) -> None:
        """Commits the events that were acknowledged before, and waits for Kafka's response, at most
        `timeout` seconds and the driver's `timeout_ms`. Raises the error of an earlier commit that
        failed, too. Optional: the library commits once a second, and when partitions are revoked.

        Raises `TimedOut`, or an `Error` with `KAFKA`, `UNREACHABLE` or `CLOSED`.
        """
        self._call("committing the events of", self._api.consumer.commit, milliseconds(timeout))

    def position(self, partition: int) -> int:
        """The offset of the next event of a partition that is assigned to this consumer; `lag` and
        `seek` need one, too, else they raise `INVALID_ARGUMENT`. Waits for Kafka, at most the
        driver's `timeout_ms`, as the functions below do."""
        first = self._first_ready(partition)
        position = self._number("position", self._api.consumer.position, partition)
        return position if first is None else min(first, position)

    def committed(self, partition: int) -> Optional[int]:
        """The committed offset of a partition, at which a new consumer of this name starts; None if
        nothing is committed."""
        offset = self._number("committed", self._api.consumer.committed, partition)
        return None if offset == abi.OCTOPUS_OFFSET_NONE else offset

    def lag(self, partition: int) -> int:
        """The number of offsets from the position to the end of a partition."""
        first = self._first_ready(partition)
        lag = self._number("lag", self._api.consumer.lag, partition)
        if first is None:
            return lag
        return lag + self._number("position", self._api.consumer.position, partition) - first

    def seek(self, partition: int, offset: int) -> None:
        """Continues at this offset of a partition. The committed offset stays."""
        partition = partition_number("seek", "partition", partition)
        offset = integer("seek", "offset", offset)
        self._settle_pending_pull()
        self._call("seeking with", self._api.consumer.seek, partition, offset)
        if self._settle_pending_pull():
            # It took an event of the old position or of the new one. Another seek reads both again.
            self._call("seeking with", self._api.consumer.seek, partition, offset)
        self._drop_ready(partition)

    def assignment(self) -> List[int]:
        """The partitions that are assigned to this consumer, in ascending order. Does not block."""
        count = c_uint64(0)
        while True:
            capacity = count.value
            partitions = (c_uint32 * capacity)()
            operation, function = f"getting the assignment of {self._name()}", self._api.consumer.assignment
            call(self._api, operation, function, self._handle, partitions, capacity, byref(count))
            if count.value <= capacity:
                return list(partitions[: count.value])

    def unsubscribe(self) -> None:
        """Commits, leaves the group, and gives up all partitions. From then on pulls raise
        `CLOSED`."""
        try:
            self._call("unsubscribing", self._api.consumer.unsubscribe)
        finally:
            self._leave()

    def close(self, timeout: Optional[float] = None) -> None:
        """Commits, leaves the group, and waits for that, at most `timeout` seconds; None waits for
        ever. Events stay valid, but can't be acknowledged any more. Closing again has no effect,
        once that is done.

        Raises `TimedOut` if it is not done yet: it continues in the background, and closing again
        waits for it. Raises an `Error` with `KAFKA` or `UNREACHABLE` if a commit failed.
        """
        milliseconds(timeout)  # Rejects a wrong one before anything happens.
        operation, close, handle = f"closing {self._name()}", self._api.consumer.close, self._handle
        if not self._is_closed:
            self._closing = BackgroundCall(lambda: call(self._api, operation, close, handle, -1))
            self._is_closed = True
            self._leave()
        closing = self._closing
        if closing is not None:
            if not closing.wait(timeout):
                raise TimedOut(Status.TIMED_OUT, f"{operation}: the timeout passed", retriable=True)
            self._closing = None
            closing.result()

    def _number(self, name: str, function: Any, partition: int) -> int:
        # After Ctrl+C the call continues, and may write the result: it keeps the result.
        result = c_uint64()
        partition = partition_number(name, "partition", partition)
        self._call(f"getting the {name} of", function, partition, byref(result))
        return result.value


class Events:
    """An iterator over the events of a consumer, for `for` and for `async for`. It reads no event
    in advance, so another iterator or `pull` continues where this one ends."""

    def __init__(self, consumer: Consumer, timeout: Optional[float]) -> None:
        self._consumer = consumer
        self._timeout = timeout

    def __iter__(self) -> Events:
        return self

    def __next__(self) -> Event:
        result = PullResult(self._consumer, 1)
        try:
            result.wait(self._timeout)
            if result.events:
                return result.events[0]
        except BaseException:
            result.give_back()
            raise
        if result.is_end():
            raise StopIteration
        raise result.take_failure()

    def __aiter__(self) -> Events:
        return self

    async def __anext__(self) -> Event:
        result = PullResult(self._consumer, 1)
        try:
            await result.wait_in_task(self._timeout)
            if result.events:
                return result.events[0]
        except BaseException:
            result.give_back()
            raise
        if result.is_end():
            raise StopAsyncIteration
        raise result.take_failure()
