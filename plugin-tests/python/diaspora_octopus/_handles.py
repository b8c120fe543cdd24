"""Handles of the library's objects, and the context managers that end them."""

from __future__ import annotations

from ctypes import byref, c_void_p
from types import TracebackType
from typing import Any, Callable, Optional, Type, TypeVar

from ._calls import call, interruptibly
from ._error import Error, Status
from ._owner import Owner

T = TypeVar("T", bound="ContextManager")


class Handle(Owner):
    """Owns a driver, a topic, a producer or a consumer of the library."""

    __slots__ = ("_release_function",)

    def __init__(self, pointer: int, release: Callable[[int], None]) -> None:
        self._release_function = release
        super().__init__(pointer)

    def _release(self, pointer: int) -> None:
        self._release_function(pointer)


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

    def _call(self, verb: str, function: Any, *arguments: Any) -> None:
        """Calls a function that may wait for Kafka."""
        operation, handle = f"{verb} {self._name()}", self._handle
        interruptibly(lambda: call(self._api, operation, function, handle, *arguments))

    def _end(self, is_failed: bool) -> None:
        if not is_failed:
            return self.close()
        try:
            self.close(0)
        except Error:
            pass  # The block's own exception says more.
