"""Handles of the library's objects, and the context managers that end them."""

from __future__ import annotations

from ctypes import byref, c_void_p
from types import TracebackType
from typing import Any, Callable, Optional, Type, TypeVar

from . import _abi as abi
from ._calls import call, interruptibly, milliseconds
from ._error import Error, Status

T = TypeVar("T")


class Handle:
    """A reference to an object of the library, which is released with the last reference of Python.

    A call keeps the handle alive until it returns, so that the release never runs at the same time
    as another call. In a forked child the release has no effect on objects of the parent.
    """

    __slots__ = ("pointer", "release", "__weakref__")

    def __init__(self, pointer: int, release: Callable[[int], None]) -> None:
        self.pointer = pointer
        self.release = release

    def __del__(self) -> None:
        self.release(self.pointer)


def handle_result(api: Any, operation: str, release: Any, function: Any, *arguments: Any) -> Handle:
    """Calls a function whose result is a handle."""
    pointer = c_void_p()
    call(api, operation, function, *arguments, byref(pointer))
    return Handle(pointer.value or 0, release)


class ReleasedAtExit:
    """An object that is released by `close`, and at the end of a `with` block."""

    _open_handle: Optional[Handle]

    def close(self) -> None:
        """Releases the object. What was made from it is not affected. Does not block."""
        self._open_handle = None

    def _handle(self) -> Handle:
        handle = self._open_handle
        if handle is None:
            raise Error(Status.CLOSED, f"using {self!r}: it was closed before")
        return handle

    def __enter__(self: T) -> T:
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self.close()


class ClosedAtExit:
    """An object that waits for Kafka when it is closed, also at the end of a `with` block. If the
    block raises, it does not wait."""

    _api: Any
    _handle: Handle

    def close(self, timeout: Optional[float] = None) -> None:
        raise NotImplementedError

    def _close(self, operation: str, function: Any, timeout: Optional[float]) -> None:
        limit = milliseconds(timeout)
        try:
            interruptibly(lambda: call(self._api, operation, function, self._handle.pointer, limit))
        except Error as error:
            if error.status != abi.OCTOPUS_CLOSED:
                raise

    def __enter__(self: T) -> T:
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        if kind is None:
            return self.close()
        try:
            self.close(0)
        except Error:
            pass  # The block's own exception says more.
