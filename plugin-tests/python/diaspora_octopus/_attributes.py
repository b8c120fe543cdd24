"""What a record has beside its value: a key, headers and a timestamp."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any, Iterable, List, Mapping, Optional, Tuple, Union

from . import _abi as abi
from ._arguments import integer, string, wrong_type
from ._memory import bytes_of

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    Value = Union[ReadableBuffer, str, None]
    Headers = Union[Mapping[str, Value], Iterable[Tuple[str, Value]], None]

NO_BYTES = abi.octopus_bytes()
ATTRIBUTES_SIZE = ctypes.sizeof(abi.octopus_push_attributes)
MAX_TIMESTAMP = 2**63 - 1


def push_attributes(
    key: Value, headers: Headers, timestamp_ms: Optional[int]
) -> abi.octopus_push_attributes:
    """Keep the result until the call returns: it owns the memory."""
    attributes = abi.octopus_push_attributes(ATTRIBUTES_SIZE)
    key_bytes = value_of(key, "key")
    given = [] if headers is None else [header_of(header) for header in pairs(headers)]
    array = (abi.octopus_header * len(given))(*(header for header, _ in given))
    attributes.owner = (key_bytes, given, array)
    attributes.key = key_bytes
    attributes.headers = ctypes.cast(array, ctypes.POINTER(abi.octopus_header))
    attributes.header_count = len(given)
    if timestamp_ms is not None:
        attributes.timestamp_ms = integer("push", "timestamp_ms", timestamp_ms, MAX_TIMESTAMP)
        attributes.has_timestamp = 1
    return attributes


def pairs(headers: Any) -> List[Any]:
    items = headers.items() if hasattr(headers, "items") else headers
    try:
        return list(items)
    except TypeError:
        raise wrong_type("push", "headers", "a dict, or a list of (name, value)", headers) from None


def header_of(header: Any) -> Tuple[abi.octopus_header, object]:
    """A header, and the owner of its memory."""
    if not isinstance(header, (tuple, list)) or len(header) != 2:
        raise wrong_type("push", "headers", "pairs (name, value)", header)
    name = value_of(string("push", "the name of a header", header[0]), "the name of a header")
    value = value_of(header[1], f"the header {header[0]!r}")
    return abi.octopus_header(abi.octopus_text(name.data, name.size), value), (name, value)


def value_of(value: Any, argument: str) -> abi.octopus_bytes:
    """The memory of a value, which a string has in UTF-8. None is no value."""
    if value is None:
        return NO_BYTES
    try:
        return bytes_of(value.encode() if isinstance(value, str) else value)
    except UnicodeEncodeError as error:
        raise ValueError(f"push: {argument}: {error}") from None
    except (BufferError, TypeError, ValueError) as error:
        raise type(error)(f"push: {argument}: {error}") from None
