"""Checks of arguments, for errors that name the call and the argument."""

from __future__ import annotations

import operator
from typing import Any, Optional


def wrong_type(call: str, argument: str, expected: str, value: object) -> TypeError:
    return TypeError(f"{call}: {argument}: expected {expected}, got {type(value).__name__}")


def integer(call: str, argument: str, value: Any, minimum: int = 0) -> int:
    """An integer of any type, such as numpy's, that is not below the minimum."""
    try:
        number = operator.index(value)
    except TypeError:
        raise wrong_type(call, argument, "an integer", value) from None
    if number < minimum:
        raise ValueError(f"{call}: {argument}: expected at least {minimum}, got {number}")
    return number


def string(call: str, argument: str, value: object) -> str:
    if not isinstance(value, str):
        raise wrong_type(call, argument, "a string", value)
    return value


def optional_mapping(call: str, **options: Optional[Any]) -> None:
    """Rejects options that are neither None nor a dict."""
    for argument, value in options.items():
        if value is not None and not hasattr(value, "keys"):
            raise wrong_type(call, argument, "a dict", value)
