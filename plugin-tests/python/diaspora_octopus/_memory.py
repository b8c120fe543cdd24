"""Memory that is shared with the library without a copy."""

from __future__ import annotations

import ctypes
import functools
import re
from typing import Any

from . import _abi as abi
from ._calls import address_of_bytes
from ._owner import finished_despite_ctrl_c


class Py_buffer(ctypes.Structure):
    """CPython's struct of this name."""

    _fields_ = [
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.c_void_p),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_void_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    ]


PyBUF_SIMPLE = 0
"""Asks for contiguous bytes."""
get_buffer: Any = ctypes.pythonapi.PyObject_GetBuffer
get_buffer.argtypes = [ctypes.py_object, ctypes.POINTER(Py_buffer), ctypes.c_int]
release_buffer: Any = ctypes.pythonapi.PyBuffer_Release
release_buffer.argtypes = [ctypes.POINTER(Py_buffer)]
release_buffer.restype = None


class BorrowedBuffer:
    """The memory of an object with the buffer protocol, which can't move or be resized until this
    object is gone."""

    __slots__ = ("view",)

    def __init__(self, data: Any) -> None:
        view = Py_buffer()
        get_buffer(data, ctypes.byref(view), PyBUF_SIMPLE)
        self.view = view

    @finished_despite_ctrl_c
    def __del__(self) -> None:
        # It is missing if the object has no such memory. A second release has no effect.
        if hasattr(self, "view"):
            release_buffer(ctypes.byref(self.view))


def bytes_of(data: Any) -> abi.octopus_bytes:
    """The memory of a bytes-like object for a call of the library. Keep the result until the call
    returns: it keeps the memory."""
    if type(data) is bytes:
        result = abi.octopus_bytes(address_of_bytes(data), len(data))
        result.owner = data
    else:
        reject_objects(data)
        borrowed = BorrowedBuffer(data)
        result = abi.octopus_bytes(borrowed.view.buf, borrowed.view.len)
        result.owner = borrowed
    return result


FIELD_NAME = re.compile(":[^:]*:")


def reject_objects(data: Any) -> None:
    """Rejects memory that has addresses of Python's objects, which mean nothing elsewhere."""
    try:
        with memoryview(data) as view:
            form = view.format
    except (BufferError, TypeError, ValueError):
        return  # Some arrays of numpy have memory, but no format.
    if "O" in FIELD_NAME.sub("", form):
        kind = type(data).__name__
        raise TypeError(f"expected memory with bytes or numbers, got a {kind} of Python objects")


# Events of a topic often have the same size, and making a type takes ten times as long as the rest.
@functools.lru_cache(maxsize=256)
def array_type(size: int) -> Any:
    return ctypes.c_ubyte * size


def view_of(memory: Any, owner: object) -> memoryview:
    """A read-only view of memory of the library, an `octopus_bytes`. The view and everything that
    is made from it keep `owner`, to which the memory belongs."""
    if not memory.size:
        return memoryview(b"")
    array = array_type(memory.size).from_address(memory.data)
    array.owner = owner
    return memoryview(array).cast("B").toreadonly()
