"""An open topic."""

from __future__ import annotations

import ctypes
import json
from ctypes import byref, c_uint32
from typing import Any, Dict, Mapping, Optional, Sequence

from . import _abi as abi
from ._arguments import integer, optional_mapping, partition_number, string, wrong_type
from ._calls import call, given, json_text, text
from ._consumer import Consumer
from ._handles import Handle, ReleasedAtExit, handle_result
from ._producer import Producer

__all__ = ["BATCH_SIZE_ADAPTIVE", "Topic"]

BATCH_SIZE_ADAPTIVE: int = abi.OCTOPUS_BATCH_SIZE_ADAPTIVE
"""A batch size that adapts to the load."""


class Topic(ReleasedAtExit):
    """An open topic, which creates producers and consumers. `Driver.open_topic` returns it. Any
    thread can use it. Producers and consumers continue to work without it."""

    name: str
    """The name that the topic was opened with."""

    def __init__(self, api: Any, handle: Handle, name: str, exit_flush_ms: int) -> None:
        """Drivers open topics."""
        self._api = api
        self._open_handle = handle
        self._exit_flush_ms = exit_flush_ms
        self.name = name

    @property
    def partition_count(self) -> int:
        """The number of partitions that the topic had when it was opened."""
        count = c_uint32()
        function = self._api.topic.partition_count
        call(self._api, "counting partitions", function, self._handle(), byref(count))
        return count.value

    @property
    def components(self) -> Dict[str, Any]:
        """The topic's `validator`, `selector` and `serializer`, as they were given when it was
        created."""
        handle, view = self._handle(), abi.octopus_text()
        call(self._api, "reading components", self._api.topic.components, handle, byref(view))
        components: Dict[str, Any] = json.loads(ctypes.string_at(view.data, view.size).decode())
        return components

    def producer(
        self,
        name: str = "",
        *,
        kafka: Optional[Mapping[str, Any]] = None,
        client: Optional[str] = None,
        records: Optional[str] = None,
        partitioner: Optional[str] = None,
        transactional_id: Optional[str] = None,
        batch_size: int = 0,
        max_batches: int = 0,
    ) -> Producer:
        """Creates a producer. Does not wait for Kafka: it connects in the background. With a
        `transactional_id` it waits until the coordinator has ended the transactions of older
        producers with this id.

        - `name` is shown in log messages and statistics.
        - `kafka` has librdkafka's properties, such as `{"linger.ms": 0}`; they override the
          driver's.
        - `client` is `"shared"` (the default) or `"dedicated"`.
        - `records` is the format of the records: `"diaspora"` (the default); or, for other programs,
          `"json"`, whose value is the metadata, or `"bytes"`, whose value is the data.
        - `partitioner` is `"selector"` (the default), or `"key"`: the key of an event then requests
          the partition that Java's client would choose.
        - `transactional_id` is the id of a producer that pushes in transactions
          (`Producer.transaction`); no other producer that is in use has it.
        - `batch_size` is a number of events, 0 for no preference or `BATCH_SIZE_ADAPTIVE`;
          `max_batches` is the number of batches in flight, 0 for no preference.

        docs/reference/configuration.md describes the options. Raises an `Error` with
        `INVALID_CONFIGURATION`, `UNSUPPORTED`, `COMPONENT` or `KAFKA`.
        """
        string("producer", "name", name)
        optional_mapping("producer", kafka=kafka)
        args = abi.octopus_producer_args(ctypes.sizeof(abi.octopus_producer_args))
        args.name = name_text = text(name)
        options = given(
            kafka=kafka,
            client=client,
            records=records,
            partitioner=partitioner,
            transactional_id=transactional_id,
        )
        args.options = options_text = json_text(dict(options))
        args.owner = (name_text, options_text)
        args.batch_size = integer("producer", "batch_size", batch_size)
        args.max_batches = integer("producer", "max_batches", max_batches)
        handle = handle_result(
            self._api,
            f"creating producer {name!r} of {self._name()}",
            self._api.producer.release,
            self._api.topic.make_producer,
            self._handle(),
            byref(args),
        )
        return Producer(self._api, handle, name, self.name, self._exit_flush_ms)

    def consumer(
        self,
        name: str,
        *,
        targets: Optional[Sequence[int]] = None,
        kafka: Optional[Mapping[str, Any]] = None,
        on_damaged: Optional[str] = None,
        records: Optional[str] = None,
        commits: Optional[str] = None,
        batch_size: int = 0,
        max_batches: int = 0,
    ) -> Consumer:
        """Creates a consumer. Does not wait for Kafka: it joins its group in the background.

        - `name` is its consumer group. Consumers with the same name share the partitions, and
          continue at the offset that the name committed.
        - `targets` are the partitions to read, without joining the group; by default those that the
          group assigns.
        - `kafka` has librdkafka's properties, such as `{"session.timeout.ms": 10000}`; they
          override the driver's.
        - `on_damaged` is `"skip"` (the default) or `"stop"`, for records that can't be decoded.
        - `records` is the format of the records: `"diaspora"` (the default); `"json"` or `"bytes"`
          for those of other programs, whose value becomes the metadata or the data; or `"auto"`,
          each by its content.
        - `commits` is `"acknowledged"` (the default): what is acknowledged is committed every second
          and by `commit`; or `"transaction"`: only a `Producer.transaction` commits it.
        - `batch_size` and `max_batches` say how many events to prefetch; 0 for no preference.

        docs/reference/configuration.md describes the options. Raises an `Error` with
        `INVALID_ARGUMENT`, `INVALID_CONFIGURATION`, `UNSUPPORTED` or `KAFKA`.
        """
        string("consumer", "name", name)
        optional_mapping("consumer", kafka=kafka)
        args = abi.octopus_consumer_args(ctypes.sizeof(abi.octopus_consumer_args))
        args.name = name_text = text(name)
        options = given(kafka=kafka, on_damaged=on_damaged, records=records, commits=commits)
        args.options = options_text = json_text(dict(options))
        args.owner = (name_text, options_text)
        args.batch_size = integer("consumer", "batch_size", batch_size)
        args.max_batches = integer("consumer", "max_batches", max_batches)
        if targets is not None:
            if isinstance(targets, (str, bytes)) or not hasattr(targets, "__iter__"):
                raise wrong_type("consumer", "targets", "a list of partitions", targets)
            partitions = [partition_number("consumer", "targets", target) for target in targets]
            if not partitions:
                # The library would take an empty list as the default, the group.
                raise ValueError("consumer: targets: expected at least one partition, or None for the group's")
            args.targets = (c_uint32 * len(partitions))(*partitions)
            args.target_count = len(partitions)
        handle = handle_result(
            self._api,
            f"creating consumer {name!r} of {self._name()}",
            self._api.consumer.release,
            self._api.topic.make_consumer,
            self._handle(),
            byref(args),
        )
        return Consumer(self._api, handle, name)
