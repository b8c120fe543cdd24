"""Searches for liboctopus.so: docs/reference/discovery.md. The C++ header and the Rust crate search
in the same way, with the same words."""

from __future__ import annotations

import os
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from . import _abi as abi

__all__ = ["find"]

FILE_NAME = "liboctopus.so"
VARIABLE = "OCTOPUS_LIBRARY"
MANIFEST = os.path.join("octopus", "octopus.driver")
SYSTEM_FOLDER = "/etc"


def find(load: Callable[[str], Any]) -> Tuple[str, Any]:
    """The path of the first location that has the library, and what `load` returned for it.

    `load` raises `OSError` if a file can't be used. Raises `OSError` with each location that was
    tried, and the reason.
    """
    named = os.environ.get(VARIABLE)
    if named:
        try:
            return named, load(named)
        except OSError as error:
            raise OSError(f"loading Octopus: {VARIABLE}={named}: {error}") from None
    tried = [f"{VARIABLE}: not set"]
    for path, source in candidates(tried):
        try:
            return path, load(path)
        except OSError as error:
            tried.append(f"{source}{path}: {error}")
    raise OSError(
        f"loading Octopus: it was not found: {'; '.join(tried)}; "
        f"install it, or set {VARIABLE} to the path of {FILE_NAME}"
    )


def candidates(tried: List[str]) -> Iterator[Tuple[str, str]]:
    """The paths to try, each with a text for an error that says where it comes from. Adds to
    `tried` the locations that name no path."""
    bundled = os.path.join(os.path.dirname(os.path.abspath(__file__)), FILE_NAME)
    if os.path.exists(bundled):
        yield bundled, ""
    for folder in (user_folder(tried), SYSTEM_FOLDER):
        manifest = folder and os.path.join(folder, MANIFEST)
        path = manifest and path_in(manifest, tried)
        if manifest and path:
            yield path, f"{manifest}: "
    prefix = variable("CONDA_PREFIX", tried)
    if prefix:
        yield os.path.join(prefix, "lib", FILE_NAME), ""
    yield FILE_NAME, ""


def variable(name: str, tried: List[str]) -> Optional[str]:
    value = os.environ.get(name)
    if not value:
        tried.append(f"{name}: not set")
    return value or None


def user_folder(tried: List[str]) -> Optional[str]:
    configured = os.environ.get("XDG_CONFIG_HOME")
    if configured:
        return configured
    home = variable("HOME", tried)
    return home and os.path.join(home, ".config")


def path_in(manifest: str, tried: List[str]) -> Optional[str]:
    """The path of the library that a manifest names."""
    try:
        with open(manifest, encoding="utf-8", errors="surrogateescape") as lines:
            keys = parse(lines.read())
    except OSError as error:
        tried.append(f"{manifest}: {error.strerror}")
        return None
    if not keys.get("path"):
        tried.append(f"{manifest}: it has no line path=...")
        return None
    version = keys.get("abi")
    if version and not is_usable(version):
        expected = f"{abi.OCTOPUS_ABI_MAJOR}.{abi.OCTOPUS_ABI_MINOR}"
        tried.append(f"{manifest}: its library has ABI version {version}, this program is built for {expected}")
        return None
    # A relative path begins at the folder of the manifest.
    return os.path.join(os.path.dirname(manifest), keys["path"])


def parse(text: str) -> Dict[str, str]:
    keys = {}
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.lstrip().startswith("#"):
            keys[key.strip()] = value.strip()
    return keys


def is_usable(version: str) -> bool:
    """Before version 1, another minor version may differ in anything."""
    major, _, minor = version.partition(".")
    if major != str(abi.OCTOPUS_ABI_MAJOR):
        return False
    return abi.OCTOPUS_ABI_MAJOR > 0 or minor == str(abi.OCTOPUS_ABI_MINOR)
