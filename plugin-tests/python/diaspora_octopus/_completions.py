"""Completions for asyncio.

A completion that called Python would need Python's global lock on a thread of the library: it would
delay deliveries while Python computes, and crash the process if it came after the interpreter began
to shut down. So the function that the library calls is `eventfd_write` of the C library, on a pipe:

    eventfd_write(int fd, eventfd_t value)      writes the 8 bytes of `value` to `fd`
    completion(void *context, octopus_future *future)

With the pipe's descriptor as the context, it writes the address of the future to the pipe. Event
loops read the other end. Both parameters are passed in the same registers in the 64-bit calling
conventions of Linux. The pipe is never closed, since completions may come at any time.
"""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import os
import struct
import threading
from typing import Any, Callable, Dict, List, Optional, Tuple

from . import _abi as abi
from ._calls import call
from ._owner import Owner

F_SETPIPE_SZ = 1031
F_GETPIPE_SZ = 1032
MAX_PIPE_BYTES = 2**20
ADDRESS = struct.Struct("=Q")
READ_BYTES = 2**16

Waiter = Tuple[asyncio.AbstractEventLoop, "asyncio.Future[None]"]


class CompletionPipe:
    """The pipe of this process, and the tasks that wait for a future of the library."""

    def __init__(self) -> None:
        if ctypes.sizeof(ctypes.c_void_p) != ADDRESS.size:
            raise NotImplementedError("await: this package needs a 64-bit system")
        self.reading, self.writing = os.pipe()
        # Writing must not block the library's thread when no event loop reads.
        os.set_blocking(self.reading, False)
        os.set_blocking(self.writing, False)
        try:
            fcntl.fcntl(self.writing, F_SETPIPE_SZ, MAX_PIPE_BYTES)
        except OSError:
            pass  # A limit of the system; a smaller pipe works, too.
        self.capacity = fcntl.fcntl(self.writing, F_GETPIPE_SZ)
        # Reentrant: the garbage collector may end a waiting task while it is held.
        self.lock = threading.RLock()
        # By the address of the future: how to know that it is complete, and who waits for it.
        self.waiting: Dict[int, Tuple[Callable[[], bool], List[Waiter]]] = {}
        # The number of waiting tasks of each loop that reads the pipe.
        self.loops: Dict[asyncio.AbstractEventLoop, int] = {}
        # The bytes that were read since the pipe was last empty.
        self.drained = 0
        fields: Any = abi.octopus_completion._fields_
        function = ctypes.cast(ctypes.CDLL(None).eventfd_write, dict(fields)["function"])
        self.completion = abi.octopus_completion(function, self.writing)

    def register(self, api: Any, future: Owner) -> None:
        """Makes the library write to the pipe when the future is complete."""
        call(api, "awaiting a result", api.future.on_complete, future, ctypes.byref(self.completion))

    def notify(self, future: Owner) -> None:
        """Makes the tasks that wait for this future look again whether they have to."""
        try:
            os.write(self.writing, ADDRESS.pack(future._as_parameter_))
        except BlockingIOError:
            pass  # The pipe is full, so all tasks will look.

    async def wait(self, future: Owner, is_complete: Callable[[], bool], timeout: Optional[float] = None) -> None:
        """Waits until a registered future is complete, at most `timeout` seconds. `is_complete` may
        be called on any thread, and changes nothing."""
        loop, pointer = asyncio.get_running_loop(), future._as_parameter_
        waiter: Waiter = (loop, loop.create_future())
        with self.lock:
            self.waiting.setdefault(pointer, (is_complete, []))[1].append(waiter)
            self.loops[loop] = self.loops.get(loop, 0) + 1
            is_first = self.loops[loop] == 1
        timer = None
        try:
            if is_first:
                loop.add_reader(self.reading, self.drain)
            if timeout is not None:
                timer = loop.call_later(timeout, resolve, waiter[1])
            # The completion may have come before the task was among those that wait.
            if not is_complete():
                await waiter[1]
        finally:
            if timer is not None:
                timer.cancel()
            self.forget(pointer, waiter)

    def forget(self, pointer: int, waiter: Waiter) -> None:
        loop = waiter[0]
        with self.lock:
            _, waiters = self.waiting.get(pointer, (None, []))
            if waiter in waiters:
                waiters.remove(waiter)
                if not waiters:
                    del self.waiting[pointer]
            self.loops[loop] -= 1
            is_last = self.loops[loop] == 0
            if is_last:
                del self.loops[loop]
        if is_last and not loop.is_closed():
            loop.remove_reader(self.reading)

    def drain(self) -> None:
        """Wakes the tasks whose futures are complete. Any of the loops that read may do so."""
        with self.lock:
            while True:
                try:
                    addresses = os.read(self.reading, READ_BYTES)
                except BlockingIOError:
                    break
                self.drained += len(addresses)
                for (pointer,) in ADDRESS.iter_unpack(addresses):
                    self.wake(pointer)
            # Completions that came while the pipe was full are not in it.
            if self.drained >= self.capacity:
                for pointer in list(self.waiting):
                    self.wake(pointer)
            self.drained = 0

    def wake(self, pointer: int) -> None:
        """Wakes those who wait for this future. Ignores an address that an earlier future had."""
        is_complete, waiters = self.waiting.get(pointer, (None, []))
        if is_complete is None:
            return
        try:
            if not is_complete():
                return
        except Exception:
            pass  # The tasks get the error when they look.
        del self.waiting[pointer]
        for loop, future in waiters:
            try:
                loop.call_soon_threadsafe(resolve, future)
            except RuntimeError:
                pass  # The loop is closed.


def resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


pipe_of_process: Optional[CompletionPipe] = None
lock = threading.Lock()


def completion_pipe() -> CompletionPipe:
    global pipe_of_process
    with lock:
        if pipe_of_process is None:
            pipe_of_process = CompletionPipe()
        return pipe_of_process


def begin_forked_child() -> None:
    """Leaves the pipe to the parent, whose futures it belongs to."""
    global pipe_of_process, lock
    lock = threading.Lock()
    if pipe_of_process is not None:
        os.close(pipe_of_process.reading)
        os.close(pipe_of_process.writing)
        pipe_of_process = None


os.register_at_fork(after_in_child=begin_forked_child)
