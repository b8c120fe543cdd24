"""Checks of arguments, for errors that name the call and the argument."""

from __future__ import annotations

import operator
from typing import Any, Optional

MAX_PARTITION = 2**32 - 1
MAX_INTEGER = 2**64 - 1
"""The largest integer of the ABI. ctypes would drop the upper bits of a larger one."""


def wrong_type(call: str, argument: str, expected: str, value: object) -> TypeError:
    return TypeError(f"{call}: {argument}: expected {expected}, got {type(value).__name__}")


def integer(call: str, argument: str, value: Any, maximum: int = MAX_INTEGER) -> int:
    """An integer of any type, such as numpy's, from 0 to the maximum."""
    try:
        number = operator.index(value)
    except TypeError:
        raise wrong_type(call, argument, "an integer", value) from None
    if number < 0:
        raise ValueError(f"{call}: {argument}: expected at least 0, got {number}")
    if number > maximum:
        raise ValueError(f"{call}: {argument}: expected at most {maximum}, got {number}")
    return number


def partition_number(call: str, argument: str, value: Any) -> int:
    return integer(call, argument, value, MAX_PARTITION)


def string(call: str, argument: str, value: object) -> str:
    if not isinstance(value, str):
        raise wrong_type(call, argument, "a string", value)
    return value


def optional_mapping(call: str, **options: Optional[Any]) -> None:
    """Rejects options that are neither None nor a dict."""
    for argument, value in options.items():
        if value is not None and not hasattr(value, "keys"):
            raise wrong_type(call, argument, "a dict", value)
