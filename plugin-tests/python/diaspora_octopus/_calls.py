"""Calls of the library: texts, timeouts and Ctrl+C.

ctypes releases Python's global lock during a call. A thread that is inside a call runs no signal
handler of Python, so waits on the main thread consist of short calls, and calls without a timeout
run on a helper thread. Ctrl+C then raises `KeyboardInterrupt` within `SLICE_MS`.
"""

from __future__ import annotations

import ctypes
import json
import math
import threading
import time
from ctypes import byref, c_void_p
from typing import Any, Callable, List, Mapping, Optional, Tuple, TypeVar, Union

from . import _abi as abi
from ._error import error_of

T = TypeVar("T")

SLICE_MS = 100
"""The longest single call of a wait, in milliseconds."""
MAX_WAIT_MS = 2**63 - 1


def call(api: Any, operation: str, function: Any, *arguments: Any) -> None:
    """Calls a function of the library. Raises an `Error` unless it returns `OCTOPUS_OK`."""
    error = c_void_p()
    status = function(*arguments, byref(error))
    if status != abi.OCTOPUS_OK:
        raise error_of(api, status, error, operation)


def interruptibly(work: Callable[[], T]) -> T:
    """Calls `work`, and lets Ctrl+C interrupt it, which only the main thread needs.

    After Ctrl+C the work continues on its thread, and its result is dropped.
    """
    if threading.current_thread() is not threading.main_thread():
        return work()
    results: List[T] = []
    errors: List[BaseException] = []
    done = threading.Lock()
    done.acquire()

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)
        finally:
            done.release()

    try:
        threading.Thread(target=run, name="octopus-call", daemon=True).start()
    except RuntimeError:
        # The process may have no more threads, or the interpreter is ending.
        return work()
    # With a timeout, because the signal may be delivered to another thread.
    while not done.acquire(timeout=SLICE_MS / 1000):
        pass
    if errors:
        try:
            raise errors[0]
        finally:
            # The traceback refers to this frame, which would refer to the error.
            errors.clear()
    return results[0]


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


def wait_in_slices(attempt: Callable[[int], int], timeout: Optional[float]) -> int:
    """Waits by calls of `attempt`, which gets a timeout in milliseconds and returns a status.

    The library reports the same failures to a series of short waits as to a long one.
    """
    limit = milliseconds(timeout)
    if 0 <= limit <= SLICE_MS:
        return attempt(limit)
    end = math.inf if limit < 0 else time.monotonic() + limit / 1000
    while True:
        remaining = end - time.monotonic()
        if remaining * 1000 <= SLICE_MS:
            return attempt(milliseconds(remaining))
        status = attempt(SLICE_MS)
        if status != abi.OCTOPUS_TIMED_OUT:
            return status


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
