"""A consumer, which reads the events of one topic."""

from __future__ import annotations

import asyncio
import functools
import weakref
from collections import deque
from ctypes import byref, c_uint32, c_uint64, c_void_p
from typing import Any, Deque, List, Optional, TypeVar, overload

from . import _abi as abi
from ._arguments import integer
from ._calls import call, milliseconds, wait_in_slices
from ._error import Error, Status, TimedOut, error_of
from ._event import Event
from ._future import Pull
from ._handles import ClosedAtExit, Handle

__all__ = ["Consumer", "Events"]

T = TypeVar("T")


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

    def __init__(self, api: Any, handle: Handle, name: str) -> None:
        """Topics create consumers."""
        self._api = api
        self._handle = handle
        self.name = name
        # Events that a call had taken when Ctrl+C interrupted it. They are the next ones.
        self._returned: Deque[Event] = deque()
        # Pulls whose task was cancelled, or that were dropped. Each takes an event, which is one of
        # the next ones.
        self._pulls: Deque[Pull] = deque()

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
        events = self.pull_many(1, timeout)
        return events[0] if events else None

    def pull_many(self, max_events: int, timeout: Optional[float] = None) -> List[Event]:
        """Waits for an event, and returns it with further ones that are available, at most
        `max_events`. Returns an empty list if there is none within `timeout` seconds. Without a
        timeout it waits for ever.

        Raises the errors of `pull`. An error that follows events is raised by the next call.
        """
        max_events = integer("pull_many", "max_events", max_events)
        events = self._take_returned(max_events)
        if events:
            return events
        pull = pop(self._pulls)
        if pull is None:
            return self._take(max_events, timeout)
        try:
            return [pull.wait(timeout)]
        except TimedOut:
            self._pulls.appendleft(pull)
            return []
        except Error:
            if not pull._has_result():
                self._pulls.appendleft(pull)
            raise
        except BaseException:
            # Ctrl+C: the pull may have taken an event.
            self._pulls.appendleft(pull)
            raise

    def _take_returned(self, max_events: int) -> List[Event]:
        events: List[Event] = []
        while len(events) < max_events:
            event = pop(self._returned)
            if event is None:
                break
            events.append(event)
        return events

    def _collect(self) -> None:
        """Adds the events of cancelled pulls to those that were returned."""
        for pull in tuple(self._pulls):
            if pull._has_result():
                try:
                    self._returned.append(pull.wait(0))
                    self._pulls.remove(pull)
                except (Error, ValueError):
                    pass  # The next pull raises the error; or another thread took the pull.

    def _first_returned(self, partition: int) -> Optional[int]:
        """The lowest offset of the partition's returned events."""
        self._collect()
        return min((event.offset or 0 for event in self._returned if event.partition == partition), default=None)

    def _drop_returned(self, partition: Optional[int] = None) -> None:
        """Drops the returned events of one partition, or of all."""
        for event in tuple(self._returned):
            if partition is None or event.partition == partition:
                try:
                    self._returned.remove(event)
                except ValueError:
                    pass  # Another thread took it.

    def _take(self, max_events: int, timeout: Optional[float]) -> List[Event]:
        """Takes events from the library."""
        taken, count, error = pointer_array(max_events)(), c_uint64(), c_void_p()
        function, pointer = self._api.consumer.pull_many, self._handle.pointer
        outputs = (taken, byref(count), byref(error))
        status = None
        try:
            status = wait_in_slices(lambda limit: function(pointer, max_events, limit, *outputs), timeout)
        finally:
            if status is None:
                # Ctrl+C came during the call.
                self._returned.extend(Event(self._api, each) for each in taken[: count.value])
        if status == abi.OCTOPUS_OK:
            return [Event(self._api, each) for each in taken[: count.value]]
        if status == abi.OCTOPUS_TIMED_OUT:
            return []
        raise error_of(self._api, status, error, f"pulling events with {self._name()}")

    def begin_pull(self) -> Pull:
        """Begins to pull the next event, and returns at once. `await consumer.begin_pull()` waits
        in a task, and `asyncio.wait_for(consumer.begin_pull(), 5)` for at most 5 seconds."""
        event = pop(self._returned)
        if event is not None:
            return Pull(self._api, 0, weakref.ref(self), event)
        return pop(self._pulls) or self._begin_new_pull()

    def _begin_new_pull(self) -> Pull:
        future = c_void_p()
        operation, function = f"pulling an event with {self._name()}", self._api.consumer.pull
        call(self._api, operation, function, self._handle.pointer, byref(future))
        return Pull(self._api, future.value or 0, weakref.ref(self))

    def events(self, timeout: Optional[float] = None) -> Events:
        """Iterates over the events, for `for` and for `async for`. Ends when no event comes within
        `timeout` seconds (None: never), and when the consumer is closed."""
        return Events(self, timeout)

    def __iter__(self) -> Events:
        return self.events()

    def __aiter__(self) -> Events:
        return self.events()

    async def _pull_in_task(self, timeout: Optional[float]) -> Optional[Event]:
        if timeout is not None and timeout <= 0:
            return self.pull(0)
        events = self._take_returned(1)
        if events:
            return events[0]
        pull = pop(self._pulls) or self.begin_pull()
        try:
            return await asyncio.wait_for(pull._wait_in_task(), timeout)
        except asyncio.TimeoutError:
            self._pulls.append(pull)
            return None
        except Error:
            if not pull._has_result():
                self._pulls.append(pull)
            raise
        except BaseException:
            # The task was cancelled: the pull will take an event, or has taken one.
            self._pulls.append(pull)
            raise

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
        first = self._first_returned(partition)
        position = self._number("position", self._api.consumer.position, partition)
        return position if first is None else min(first, position)

    def committed(self, partition: int) -> Optional[int]:
        """The committed offset of a partition, at which a new consumer of this name starts; None if
        nothing is committed."""
        offset = self._number("committed", self._api.consumer.committed, partition)
        return None if offset == abi.OCTOPUS_OFFSET_NONE else offset

    def lag(self, partition: int) -> int:
        """The number of offsets from the position to the end of a partition."""
        first = self._first_returned(partition)
        lag = self._number("lag", self._api.consumer.lag, partition)
        if first is None:
            return lag
        return lag + self._number("position", self._api.consumer.position, partition) - first

    def seek(self, partition: int, offset: int) -> None:
        """Continues at this offset of a partition. The committed offset stays."""
        partition = integer("seek", "partition", partition)
        offset = integer("seek", "offset", offset)
        self._collect()
        self._call("seeking with", self._api.consumer.seek, partition, offset)
        self._drop_returned(partition)

    def assignment(self) -> List[int]:
        """The partitions that are assigned to this consumer, in ascending order. Does not block."""
        count = c_uint64(0)
        while True:
            capacity = count.value
            partitions = (c_uint32 * capacity)()
            operation, function = f"getting the assignment of {self._name()}", self._api.consumer.assignment
            call(self._api, operation, function, self._handle.pointer, partitions, capacity, byref(count))
            if count.value <= capacity:
                return list(partitions[: count.value])

    def unsubscribe(self) -> None:
        """Commits, leaves the group, and gives up all partitions. From then on pulls raise
        `CLOSED`."""
        self._call("unsubscribing", self._api.consumer.unsubscribe)
        self._drop_returned()

    def close(self, timeout: Optional[float] = None) -> None:
        """Commits, leaves the group, and waits for that, at most `timeout` seconds; None waits for
        ever. Events stay valid, but can't be acknowledged any more. Closing again has no effect.

        Raises `TimedOut` if it is not done yet: it continues in the background. Raises an `Error`
        with `KAFKA` or `UNREACHABLE` if a commit failed.
        """
        self._close(self._api.consumer.close, timeout)
        self._drop_returned()

    def _number(self, name: str, function: Any, partition: int) -> int:
        # After Ctrl+C the call continues, and may write the result: it keeps the result.
        result = c_uint64()
        partition = integer(name, "partition", partition)
        self._call(f"getting the {name} of", function, partition, byref(result))
        return result.value


def pop(queue: Deque[T]) -> Optional[T]:
    """The first element. Another thread may take it between a test and a removal."""
    try:
        return queue.popleft()
    except IndexError:
        return None


class Events:
    """An iterator over the events of a consumer, for `for` and for `async for`. It reads no event
    in advance, so another iterator or `pull` continues where this one ends."""

    def __init__(self, consumer: Consumer, timeout: Optional[float]) -> None:
        self._consumer = consumer
        self._timeout = timeout

    def __iter__(self) -> Events:
        return self

    def __next__(self) -> Event:
        try:
            event = self._consumer.pull(self._timeout)
        except Error as error:
            if error.status == Status.CLOSED:
                raise StopIteration from None
            raise
        if event is None:
            raise StopIteration
        return event

    def __aiter__(self) -> Events:
        return self

    async def __anext__(self) -> Event:
        try:
            event = await self._consumer._pull_in_task(self._timeout)
        except Error as error:
            if error.status == Status.CLOSED:
                raise StopAsyncIteration from None
            raise
        if event is None:
            raise StopAsyncIteration
        return event


@functools.lru_cache(maxsize=64)
def pointer_array(size: int) -> Any:
    return c_void_p * size
