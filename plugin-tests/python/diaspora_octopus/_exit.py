"""Delivery and reports when the process ends.

The library itself delivers what is in flight when a process exits: in an exit handler of the C
library. Two kinds of ends skip that handler, so this module waits in their stead:

- An unhandled Ctrl+C: Python runs its own exit handlers, and then ends by SIGINT.
- A worker of `multiprocessing`, which ends by `os._exit`.

It also reports the failures that no wait, flush or close has reported.
"""

from __future__ import annotations

import atexit
import os
import re
import sys
import threading
import time
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, Deque, List, NamedTuple, Optional, Set

from ._error import Error, TimedOut

if TYPE_CHECKING:
    from ._future import Flush
    from ._producer import Producer

MAX_KEPT = 1000
"""The largest number of flushes that are kept for the exit."""
POLL_S = 0.05
SHARE_OF_ORDINARY_EXIT = 0.1
"""The share of `exit_flush_ms` for which an ordinary exit waits here, for the failures. After that
the library waits, and reports what is not delivered."""
MAX_EXIT_PRIORITY = 1000
COUNT = re.compile(r"flushing: (\d+) of the events")


class FailureCount:
    """The pushes of one producer, between two flushes, whose failure a wait has reported."""

    __slots__ = ("reported",)

    def __init__(self) -> None:
        self.reported = 0


class Kept(NamedTuple):
    """A flush that nobody has waited for to its end."""

    flush: Flush
    name: str
    """The producer, in a message."""
    limit: float
    """How long the exit waits for it, in seconds."""
    failures: FailureCount


# Sets and deques change atomically, so that producers can end on any thread, and in the collector.
live: Set[weakref.ref[Producer]] = set()
kept: Deque[Kept] = deque(maxlen=MAX_KEPT)
worker: Any = None
"""The worker process of `multiprocessing` that calls `flush_in_worker` when it ends."""
is_over = False
"""Whether `flush_at_end_of_interpreter` has run."""


def flush_at_exit(producer: Producer) -> None:
    """The end of this process waits for the producer's events."""
    global worker
    live.add(weakref.ref(producer, live.discard))
    process = sys.modules.get("multiprocessing.process")
    if process is None or process.parent_process() is None:
        return
    if worker is not process.current_process():
        from multiprocessing.util import Finalize

        worker = process.current_process()
        # Early, since an exception that leaves another finalizer would skip this one.
        Finalize(None, flush_in_worker, exitpriority=MAX_EXIT_PRIORITY)
        # The `SystemExit` of a handler of SIGTERM may come just before the finalizer begins. This
        # is called then, too.
        threading._register_atexit(flush_in_worker)  # type: ignore[attr-defined]


def has_ended() -> bool:
    """Whether the interpreter has waited already: what ends later is the library's."""
    return is_over


def keep(entry: Kept) -> None:
    """The end of this process waits for the flush, and reports its failure."""
    forget_delivered()
    kept.append(entry)


def forget_delivered() -> None:
    for entry in tuple(kept):
        try:
            if entry.flush.done():
                entry.flush.wait(0)
                forget(entry)
        except Error:
            pass  # A failure is reported at the exit.


def flush_in_worker() -> None:
    flush_all(1.0)


def flush_at_end_of_interpreter() -> None:
    # Python sets it before it prints the traceback of an unhandled exception.
    is_interrupted = getattr(sys, "last_type", None) is KeyboardInterrupt
    global is_over
    flush_all(1.0 if is_interrupted else SHARE_OF_ORDINARY_EXIT)
    is_over = True


def flush_all(share: float) -> None:
    """Waits for the events of all producers, for this share of their `exit_flush_ms`. Reports the
    failures, and, if the share is all of it, the events that are still in flight.

    A `SystemExit` of a handler of SIGTERM asks for the end that is under way: the wait goes on.
    """
    began = time.monotonic()
    request: List[SystemExit] = []
    while True:
        try:
            keep_flushes_of_live_producers()
            wait_for_kept_flushes(began, share)
            break
        except SystemExit as error:
            request.append(error)
        except KeyboardInterrupt:
            names = sorted({entry.name for entry in tuple(kept)})
            say(f"Ctrl+C ended the wait for {', '.join(names)}: its events may not be delivered")
            kept.clear()
            break
    if request:
        raise request[-1]


def keep_flushes_of_live_producers() -> None:
    for reference in tuple(live):
        producer = reference()
        try:
            if producer is not None:
                kept.append(producer._begin_kept_flush())
        except Error:
            pass  # It is closed.
        live.discard(reference)


def wait_for_kept_flushes(began: float, share: float) -> None:
    for entry in iter(first_kept, None):
        report = outcome(entry, began + entry.limit * share, is_last=share >= 1 and entry.limit > 0)
        if report:
            say(report)
        forget(entry)


def first_kept() -> Optional[Kept]:
    try:
        return kept[0]
    except IndexError:
        return None


def forget(entry: Kept) -> None:
    try:
        kept.remove(entry)
    except ValueError:
        pass  # Another thread removed it.


def outcome(entry: Kept, end: float, is_last: bool) -> str:
    """Waits for a flush, and returns what to report; nothing if all is well."""
    flush, reason = entry.flush, ""
    flush._is_observed = True
    while True:
        remaining = end - time.monotonic()
        try:
            flush.wait(min(max(remaining, 0), POLL_S))
            return ""
        except TimedOut:
            pass
        except Error as error:
            reason = error.message
            if flush.done():
                count = COUNT.match(reason)
                if count and int(count[1]) <= entry.failures.reported:
                    return ""
                return f"{entry.name}: {reason}"
            # No broker is reached. It may be reached later.
            time.sleep(min(max(remaining, 0), POLL_S))
        if remaining <= 0:
            break
    if not is_last:
        return ""
    limit = round(entry.limit * 1000)
    reason = reason or "Kafka has not responded; check the brokers, or set a larger exit_flush_ms"
    return f"events were not delivered: {entry.name}, within exit_flush_ms ({limit}): {reason}"


def say(report: str) -> None:
    line = f"[octopus:error] process exit: {report}".replace("\n", " ")
    try:
        print(line, file=sys.stderr, flush=True)
    except (OSError, ValueError, AttributeError):
        pass  # The stream is closed.


def begin_forked_child() -> None:
    """Leaves the producers to the parent."""
    live.clear()
    kept.clear()


atexit.register(flush_at_end_of_interpreter)
os.register_at_fork(after_in_child=begin_forked_child)
