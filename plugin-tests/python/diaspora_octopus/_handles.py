"""Handles of the library's objects, and the context managers that end them."""

from __future__ import annotations

from ctypes import byref, c_void_p
from types import TracebackType
from typing import Any, Callable, Optional, Type, TypeVar

from . import _abi as abi
from ._calls import call, interruptibly, milliseconds
from ._error import Error, Status

T = TypeVar("T", bound="ContextManager")


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


class ContextManager:
    """What drivers, topics, producers and consumers have in common: a name, and a `with` block."""

    _api: Any
    _is_closed = False

    def _end(self, is_failed: bool) -> None:
        """Closes the object at the end of a `with` block."""
        raise NotImplementedError

    def _name(self) -> str:
        """The object in a message, such as "producer 'detector'"."""
        return f"{type(self).__name__.lower()} {getattr(self, 'name', '')!r}"

    def __enter__(self: T) -> T:
        if self._is_closed:
            raise Error(Status.CLOSED, f"entering a with block of {self._name()}: it was closed before")
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self._end(kind is not None)

    def __reduce__(self) -> Any:
        kind = type(self).__name__
        raise TypeError(f"a {kind} can't be sent to another process: create one there")

    def __repr__(self) -> str:
        state = ", closed" if self._is_closed else ""
        return f"<{type(self).__name__} {getattr(self, 'name', '')!r}{state}>"


class ReleasedAtExit(ContextManager):
    """An object that is released by `close`, and at the end of a `with` block."""

    _open_handle: Optional[Handle]

    def close(self) -> None:
        """Releases the object. What was made from it is not affected. Does not block."""
        self._open_handle = None
        self._is_closed = True

    def _handle(self) -> Handle:
        handle = self._open_handle
        if handle is None:
            raise Error(Status.CLOSED, f"using {self._name()}: it was closed before")
        return handle

    def _end(self, is_failed: bool) -> None:
        self.close()


class ClosedAtExit(ContextManager):
    """An object that waits for Kafka when it is closed, also at the end of a `with` block. If the
    block raises, it does not wait."""

    _handle: Handle

    def close(self, timeout: Optional[float] = None) -> None:
        raise NotImplementedError

    def _close(self, function: Any, timeout: Optional[float]) -> None:
        limit = milliseconds(timeout)
        self._is_closed = True
        try:
            self._call("closing", function, limit)
        except Error as error:
            if error.status != abi.OCTOPUS_CLOSED:
                raise

    def _call(self, verb: str, function: Any, *arguments: Any) -> None:
        """Calls a function that may wait for Kafka."""
        operation, pointer = f"{verb} {self._name()}", self._handle.pointer
        interruptibly(lambda: call(self._api, operation, function, pointer, *arguments))

    def _end(self, is_failed: bool) -> None:
        if not is_failed:
            return self.close()
        try:
            self.close(0)
        except Error:
            pass  # The block's own exception says more.
