"""Finds and loads liboctopus.so."""

from __future__ import annotations

import _ctypes
import ctypes
import functools
import os
from types import SimpleNamespace
from typing import Any, Optional, Tuple, Union

from . import _abi as abi
from ._find import find

__all__ = ["Library"]


class Library:
    """The loaded library. It is never unmapped. Any thread can use it, and a forked child, too.

    A program that has one library does not need this class: `Driver` loads the default one.
    """

    path: str
    """The path or the name that was loaded."""
    version: str
    """The version of the library."""
    librdkafka_version: str
    """The version of the librdkafka inside."""
    built_in: Tuple[str, ...]
    """The features that librdkafka was built with, such as `"ssl"` and `"zstd"`."""

    def __init__(self, path: Optional[Union[str, os.PathLike[str]]] = None) -> None:
        """Loads the library at `path`, or finds it. The search ends at the first of these:

        1. the path in the environment variable `OCTOPUS_LIBRARY`; if it is set, nothing else is
           tried
        2. the library in this package, if it was installed from a wheel
        3. the manifest of the user, `$XDG_CONFIG_HOME/octopus/octopus.driver` (by default in
           `~/.config`), then that of the system, `/etc/octopus/octopus.driver`
        4. `$CONDA_PREFIX/lib/liboctopus.so`
        5. `liboctopus.so` where the system's loader finds it

        A path without a slash is a name that the loader searches for, as `dlopen` does. Loading
        runs code of the file, so load only files that you trust.

        Raises `OSError` if the file can't be loaded, is not Octopus, or has another version of the
        ABI than this package. If none was found, the error lists each location that was tried.
        """
        if path is None:
            self.path, self.api = find(load)
        else:
            self.path = os.fspath(path)
            try:
                self.api = load(self.path)
            except OSError as error:
                raise OSError(f"loading Octopus from {self.path!r}: {error}") from None
        self.version = self.api.version
        self.librdkafka_version = self.api.librdkafka_version
        self.built_in = tuple(self.api.built_in.split(","))

    def __repr__(self) -> str:
        return f"<Library {self.path!r}, version {self.version}>"


@functools.cache
def default_library() -> Library:
    """The library that is used where none is given."""
    return Library()


def load(path: str) -> Any:
    """Returns the functions of the library: an object with a table for each type of object."""
    try:
        library = ctypes.CDLL(path)
    except OSError as error:
        raise OSError(without_path(error, path)) from None
    try:
        return functions_of_library(library, path)
    except OSError:
        # It stays open otherwise, and the system's loader would find it again by its name.
        _ctypes.dlclose(library._handle)
        raise


def functions_of_library(library: ctypes.CDLL, path: str) -> Any:
    try:
        register = abi.octopus_register_fn(("octopus_register", library))
    except AttributeError as error:
        raise OSError(f"it is not Octopus: {without_path(error, path)}") from None
    table = register(abi.OCTOPUS_ABI_MAJOR)
    expected = f"{abi.OCTOPUS_ABI_MAJOR}.{abi.OCTOPUS_ABI_MINOR}"
    mismatch = f"the ABI is not {expected}, for which this package is built"
    if not table:
        raise OSError(f"{mismatch}: install the package of the library's version")
    contents = table.contents
    # In major version 0, another minor version may differ in anything.
    if abi.OCTOPUS_ABI_MAJOR == 0 and contents.abi_minor != abi.OCTOPUS_ABI_MINOR:
        found = f"{contents.abi_major}.{contents.abi_minor}"
        raise OSError(f"{mismatch}, but {found}: install the package of the library's version")
    api = SimpleNamespace()
    fields: Any = abi.octopus_api._fields_
    for name, kind in fields:
        value = getattr(contents, name)
        if kind is abi.octopus_text:
            value = ctypes.string_at(value.data, value.size).decode()
        elif isinstance(value, ctypes._Pointer):
            value = functions_of(value.contents, f"{mismatch} (table {name})")
        setattr(api, name, value)
    return api


def without_path(error: Exception, path: str) -> str:
    """The text of `dlerror`, which mostly begins with the path."""
    text = str(error)
    return text[len(path) + 2 :] if text.startswith(f"{path}: ") else text


def functions_of(table: Any, mismatch: str) -> SimpleNamespace:
    """The functions of a table. Reading them from the table would create a function object at each
    call."""
    if table.size < ctypes.sizeof(table):
        raise OSError(f"{mismatch}: the library is older than this package")
    return SimpleNamespace(**{name: getattr(table, name) for name, _ in table._fields_ if name != "size"})
