"""Calls of the library: texts, timeouts and Ctrl+C.

ctypes releases Python's global lock during a call. A thread that is inside a call runs no signal
handler of Python, so waits on the main thread consist of short calls, and calls without a timeout
run on a helper thread. Ctrl+C then raises `KeyboardInterrupt` within `SLICE_MS`, or within
`FIRST_CONTACT_MS` while no broker is reachable.
"""

from __future__ import annotations

import ctypes
import json
import math
import threading
import time
from ctypes import byref, c_void_p
from typing import Any, Callable, Generic, List, Mapping, Optional, Tuple, TypeVar, Union

from . import _abi as abi
from ._error import PERSISTENT, error_of, release_error

T = TypeVar("T")

SLICE_MS = 100
"""The longest single call of a wait, in milliseconds."""
FIRST_CONTACT_MS = 1200
"""As `SLICE_MS`, while no broker is reachable. If none was ever reached, the library ends a wait
after 1 s, which a wait in shorter slices would not notice."""
MAX_WAIT_MS = 2**63 - 1


def call(api: Any, operation: str, function: Any, *arguments: Any) -> None:
    """Calls a function of the library. Raises an `Error` unless it returns `OCTOPUS_OK`."""
    error = c_void_p()
    status = function(*arguments, byref(error))
    if status != abi.OCTOPUS_OK:
        raise error_of(api, status, error, operation)


class BackgroundCall(Generic[T]):
    """A call on a thread of its own, for the result of which any thread can wait. Ctrl+C ends such
    a wait, and the call continues."""

    def __init__(self, work: Callable[[], T]) -> None:
        self.work = work
        self.results: List[T] = []
        self.errors: List[BaseException] = []
        self.done = threading.Event()
        try:
            threading.Thread(target=self.run, name="octopus-call", daemon=True).start()
        except RuntimeError:
            # The process may have no more threads, or the interpreter is ending.
            self.run()

    def run(self) -> None:
        try:
            self.results.append(self.work())
        except BaseException as error:
            self.errors.append(error)
        finally:
            self.done.set()

    def wait(self, timeout: Optional[float] = None) -> bool:
        """Whether the call ends within the timeout."""
        end = end_of(timeout)
        # In slices, because the signal may be delivered to another thread.
        while not self.done.wait(min(max(end - time.monotonic(), 0), SLICE_MS / 1000)):
            if time.monotonic() >= end:
                return False
        return True

    def result(self) -> T:
        if self.errors:
            try:
                raise self.errors[0]
            finally:
                # The traceback refers to this frame, which would refer to the error.
                self.errors.clear()
        return self.results[0]


def interruptibly(work: Callable[[], T]) -> T:
    """Calls `work`, and lets Ctrl+C interrupt it, which only the main thread needs.

    After Ctrl+C the work continues on its thread, and its result is dropped.
    """
    if threading.current_thread() is not threading.main_thread():
        return work()
    background = BackgroundCall(work)
    background.wait()
    return background.result()


def milliseconds(timeout: Optional[float]) -> int:
    """A timeout in seconds as the library expects it. Rounds up, so that a short timeout is not 0,
    which does not wait. None and infinity wait for ever; a negative timeout does not wait."""
    if timeout is None or timeout == math.inf:
        return -1
    try:
        limit = math.ceil(timeout * 1000)
    except TypeError:
        kind = type(timeout).__name__
        raise TypeError(f"timeout: expected a number of seconds or None, got {kind}") from None
    return min(max(limit, 0), MAX_WAIT_MS)


def end_of(timeout: Optional[float]) -> float:
    """The time of `time.monotonic` at which the timeout is over."""
    limit = milliseconds(timeout)
    return math.inf if limit < 0 else time.monotonic() + limit / 1000


def wait_in_slices(api: Any, attempt: Callable[[int], int], error: c_void_p, timeout: Optional[float]) -> int:
    """Waits by calls of `attempt`, which gets a timeout in milliseconds, writes `error` and returns
    a status. The result is that of one long wait.

    The library reports a persistent error at the deadline of a wait, so it reports one at the end
    of each slice. The wait goes on, and the last slice reports the error, unless it is gone by
    then. Errors that the library reports before the end of a slice end the wait.
    """
    limit = milliseconds(timeout)
    if 0 <= limit <= SLICE_MS:
        return attempt(limit)
    end, slice_ms = end_of(timeout), SLICE_MS
    while True:
        began = time.monotonic()
        remaining = end - began
        if remaining * 1000 <= slice_ms:
            return attempt(milliseconds(remaining))
        status = attempt(slice_ms)
        if status == abi.OCTOPUS_TIMED_OUT:
            continue
        is_early = time.monotonic() - began < slice_ms / 1000
        is_unreachable = status == abi.OCTOPUS_UNREACHABLE
        can_vanish = limit >= 0 or is_unreachable and slice_ms == SLICE_MS
        if is_early or not can_vanish or status not in PERSISTENT:
            return status
        release_error(api, error)
        if is_unreachable:
            slice_ms = FIRST_CONTACT_MS


address_of_bytes: Any = ctypes.pythonapi.PyBytes_AsString
"""The address of the memory of a `bytes` object."""
address_of_bytes.argtypes = [ctypes.py_object]
address_of_bytes.restype = c_void_p


def text(value: Optional[str]) -> abi.octopus_text:
    """A text for the library. Keep the result until the call returns: it owns the memory."""
    result = abi.octopus_text()
    if value is not None:
        encoded = value.encode()
        result.data = address_of_bytes(encoded)
        result.size = len(encoded)
        result.owner = encoded
    return result


def json_text(value: Optional[Union[str, Mapping[str, Any]]]) -> abi.octopus_text:
    """Options for the library: an object, or its JSON text."""
    return text(value if value is None or isinstance(value, str) else json.dumps(dict(value)))


def string_result(api: Any, operation: str, function: Any, *arguments: Any) -> str:
    """Calls a function whose result is an `octopus_string`."""
    string = c_void_p()
    call(api, operation, function, *arguments, byref(string))
    try:
        view = api.string.view(string)
        return ctypes.string_at(view.data, view.size).decode()
    finally:
        api.string.release(string)


def given(**options: Any) -> Tuple[Tuple[str, Any], ...]:
    """The options that are not None."""
    return tuple((name, value) for name, value in options.items() if value is not None)
