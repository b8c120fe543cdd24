"""An event that a consumer read."""

from __future__ import annotations

import ctypes
import json
from typing import Any, List, Optional, Tuple

from . import _abi as abi
from ._calls import call
from ._memory import view_of
from ._owner import Owner

__all__ = ["Event"]

RECORD_FORMATS = {
    abi.OCTOPUS_RECORD_DIASPORA: "diaspora",
    abi.OCTOPUS_RECORD_JSON: "json",
    abi.OCTOPUS_RECORD_BYTES: "bytes",
    abi.OCTOPUS_RECORD_TOMBSTONE: "tombstone",
}
TIMESTAMP_TYPES = {
    abi.OCTOPUS_TIMESTAMP_CREATE: "create",
    abi.OCTOPUS_TIMESTAMP_LOG_APPEND: "log_append",
}
NOT_PARSED: Any = object()
VIEW_SIZE = ctypes.sizeof(abi.octopus_event_view)
ATTRIBUTES_SIZE = ctypes.sizeof(abi.octopus_event_attributes)


class Event(Owner):
    """An event that a consumer read: JSON metadata, and data of any kind.

    The library's memory of the event is released when neither the event nor a view of its data is
    referenced. Events of more than 1 KiB keep a whole fetch response and their consumer's client,
    so don't collect many of them: copy what you keep with `bytes(event.data)`. An event stays valid
    after its consumer is closed. Any thread can use it.
    """

    __slots__ = ("_api", "_view", "_metadata")

    def __init__(self, api: Any, pointer: int) -> None:
        """Takes a reference of the library; consumers create events."""
        self._api = api
        self._view: Any = None
        self._metadata = NOT_PARSED
        self._as_parameter_ = pointer

    def _release(self, pointer: int) -> None:
        self._api.event.release(pointer)

    @property
    def metadata(self) -> Any:
        """The JSON value, parsed when it is first needed; the same object each time. None if the
        value is `null`, and if there is none (see `metadata_bytes`)."""
        if self._metadata is NOT_PARSED:
            encoded = self.metadata_bytes
            self._metadata = None if encoded is None else json.loads(encoded.decode())
        return self._metadata

    @property
    def metadata_bytes(self) -> Optional[bytes]:
        """The metadata as JSON text in UTF-8. None if the event marks the end of its topic, and if
        the library does not have the topic's serializer."""
        text = self._content().metadata
        return None if text.data is None else ctypes.string_at(text.data, text.size)

    @property
    def serialized_metadata(self) -> bytes:
        """The metadata as the topic's serializer wrote it."""
        content = self._content().serialized_metadata
        return ctypes.string_at(content.data, content.size) if content.size else b""

    @property
    def data(self) -> memoryview:
        """The data: a read-only view of the library's memory, not a copy. The view, its slices and
        what is made from them, such as `numpy.frombuffer(event.data)`, keep the event."""
        return view_of(self._content().data, self)

    @property
    def record_format(self) -> str:
        """The format of the record: `"diaspora"`; or `"json"`, whose value is the metadata, or
        `"bytes"`, whose value is the data, or `"tombstone"`, without a value, if the consumer has
        the option `records`."""
        return RECORD_FORMATS.get(self._content().record_format, "unknown")

    @property
    def partition(self) -> int:
        """The partition that the event was read from."""
        return int(self._content().partition)

    @property
    def offset(self) -> Optional[int]:
        """The offset in the partition; None if the event marks the end of its topic."""
        return None if self.is_end_of_topic else int(self._content().id)

    @property
    def timestamp_ms(self) -> Optional[int]:
        """The timestamp of the producer or the broker, in milliseconds since 1970-01-01 UTC; None
        if the record has none."""
        timestamp = int(self._content().timestamp_ms)
        return None if timestamp < 0 else timestamp

    @property
    def timestamp_type(self) -> Optional[str]:
        """Who set the timestamp: `"create"` is the producer, `"log_append"` the broker. None if the
        record has no timestamp."""
        return TIMESTAMP_TYPES.get(self._attributes().timestamp_type)

    @property
    def key(self) -> Optional[bytes]:
        """The record's key. None if it has none, which is not the same as an empty one."""
        return optional_bytes(self._attributes().key)

    @property
    def headers(self) -> List[Tuple[str, Optional[bytes]]]:
        """The record's headers, in their order: name and value. Several may have the same name, and
        a value may be missing."""
        headers: List[Tuple[str, Optional[bytes]]] = []
        for index in range(self._attributes().header_count):
            header = abi.octopus_header()
            operation = f"reading header {index} of an event"
            call(self._api, operation, self._api.event.header, self, index, ctypes.byref(header))
            name = ctypes.string_at(header.name.data, header.name.size).decode()
            headers.append((name, optional_bytes(header.value)))
        return headers

    @property
    def is_end_of_topic(self) -> bool:
        """Whether this is the mark at the end of a topic, which has neither metadata nor data."""
        return bool(self._content().id == abi.OCTOPUS_EVENT_ID_END_OF_TOPIC)

    def acknowledge(self) -> None:
        """Acknowledges this event and all events before it in its partition. A consumer of the same
        name that is created later starts after it. Does not block: the library commits once a
        second, in `Consumer.commit` and in `Consumer.close`.

        Raises an `Error` with `STALE` if the partition was revoked since the event was read, or if
        the consumer has left its group.
        """
        call(self._api, "acknowledging an event", self._api.event.acknowledge, self)

    def _content(self) -> Any:
        view = self._view
        if view is None:
            view = abi.octopus_event_view(VIEW_SIZE)
            call(self._api, "reading an event", self._api.event.view, self, ctypes.byref(view))
            self._view = view
        return view

    def _attributes(self) -> abi.octopus_event_attributes:
        attributes = abi.octopus_event_attributes(ATTRIBUTES_SIZE)
        operation = "reading the attributes of an event"
        call(self._api, operation, self._api.event.attributes, self, ctypes.byref(attributes))
        return attributes

    def __repr__(self) -> str:
        where = "end of topic" if self.is_end_of_topic else f"offset {self.offset}"
        return f"<Event of partition {self.partition}, {where}>"


def optional_bytes(value: abi.octopus_bytes) -> Optional[bytes]:
    return ctypes.string_at(value.data, value.size) if value.data else None
