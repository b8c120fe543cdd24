"""Ownership of the library's references, which Ctrl+C neither leaks nor releases twice."""

from __future__ import annotations

import functools
import signal
import threading
from typing import Any, Callable

def interrupt_main_thread() -> None:
    # A signal, unlike `_thread.interrupt_main`, also interrupts a system call.
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


End = Callable[[Any], None]


def finished_despite_ctrl_c(end: End) -> End:
    """Makes a `__del__` repeat itself after Ctrl+C: Python drops exceptions that leave a `__del__`,
    and with them the rest of the work. Ctrl+C is raised once more when the `__del__` has ended."""

    @functools.wraps(end)
    def __del__(self: Any) -> None:
        try:
            end(self)
        except KeyboardInterrupt:
            end(self)
            threading.Timer(0.01, interrupt_main_thread).start()

    return __del__


class Owner:
    """Owns a reference to an object of the library, and releases it with the last reference of
    Python. In a forked child the release has no effect on objects of the parent.

    ctypes passes an owner as its pointer (`_as_parameter_`), and keeps the owner until the call
    returns. So the release never runs at the same time as a call of another thread.
    """

    __slots__ = ("_as_parameter_", "__weakref__")

    def __init__(self, pointer: int) -> None:
        """Takes a reference of the library; 0 is none."""
        self._as_parameter_ = pointer

    def _release(self, pointer: int) -> None:
        raise NotImplementedError

    @finished_despite_ctrl_c
    def __del__(self) -> None:
        # It is missing if Ctrl+C came before `__init__`.
        pointer = getattr(self, "_as_parameter_", 0)
        if pointer:
            self._as_parameter_ = 0
            self._release(pointer)
