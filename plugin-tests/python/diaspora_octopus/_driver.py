"""A driver, from which everything else is created."""

from __future__ import annotations

import ctypes
import json
from ctypes import byref, c_int32
from typing import Any, Dict, Mapping, Optional, Union

from . import _abi as abi
from ._calls import call, given, interruptibly, json_text, string_result, text
from ._error import Error, Status
from ._handles import ReleasedAtExit, handle_result
from ._library import Library, default_library
from ._topic import Topic

__all__ = ["Driver"]


class Driver(ReleasedAtExit):
    """One configuration of a Kafka cluster, from which topics, producers and consumers are created.
    Any thread can use it.

    A forked child creates its own driver. There, calls with objects of the parent raise an `Error`
    with `FORKED`, and their release has no effect.

    Calls that ask Kafka wait at most the driver's `timeout_ms`. Then they raise an `Error` with
    `UNREACHABLE`; if no broker was ever reached, after `connect_timeout_ms`. Ctrl+C interrupts them;
    what they had begun may still happen.
    """

    library: Library
    """The library that the driver uses."""

    def __init__(self, config: Union[Mapping[str, Any], str], library: Optional[Library] = None) -> None:
        """Creates a driver. Does not wait for Kafka: it connects in the background.

        - `config` is the configuration of docs/reference/configuration.md, or its JSON text, such as
          `{"kafka": {"bootstrap.servers": "localhost:9092"}}`; `{"embedded": {}}` starts a Kafka
          inside the process.
        - `library` is by default `Library()`, loaded once.

        Raises an `Error` with `INVALID_CONFIGURATION`, `UNSUPPORTED` or `KAFKA`, or the `OSError` of
        `Library`.
        """
        self.library = default_library() if library is None else library
        self._api = api = self.library.api
        config_text = json_text(config)
        self._open_handle = handle_result(
            api, "creating a driver", api.driver.release, api.driver.create, config_text, None
        )
        self._exit_flush_ms: int = self.describe()["exit_flush_ms"]

    def create_topic(
        self,
        name: str,
        *,
        num_partitions: Optional[int] = None,
        replication_factor: Optional[int] = None,
        config: Optional[Mapping[str, Any]] = None,
        validator: Optional[Mapping[str, Any]] = None,
        selector: Optional[Mapping[str, Any]] = None,
        serializer: Optional[Mapping[str, Any]] = None,
        disable_info_topic: Optional[bool] = None,
        exist_ok: bool = False,
    ) -> None:
        """Creates a topic, and waits until it can be opened.

        `config` has Kafka's settings of the topic, such as `{"retention.ms": 604800000}`. The
        components are objects with a `"type"`. With `exist_ok`, a topic that exists already is no
        error, whatever its options are.

        Raises an `Error` with `TOPIC_EXISTS`, `COMPONENT`, `INVALID_CONFIGURATION`,
        `INVALID_ARGUMENT` for a name that Kafka rejects, `UNREACHABLE` or `KAFKA`.
        """
        options = given(
            num_partitions=num_partitions,
            replication_factor=replication_factor,
            config=config,
            disable_info_topic=disable_info_topic,
        )
        args = abi.octopus_create_topic_args(ctypes.sizeof(abi.octopus_create_topic_args))
        args.options = options_text = json_text(dict(options))
        args.validator = validator_text = json_text(validator)
        args.selector = selector_text = json_text(selector)
        args.serializer = serializer_text = json_text(serializer)
        args.owner = (options_text, validator_text, selector_text, serializer_text)
        try:
            self._ask(f"creating topic {name!r}", "create_topic", text(name), byref(args))
        except Error as error:
            if not exist_ok or error.status != Status.TOPIC_EXISTS:
                raise

    def open_topic(self, name: str) -> Topic:
        """Opens a topic that exists. Never creates one. Looks for a topic that is unknown at first
        for the driver's `open_retry_ms`.

        Raises an `Error` with `UNKNOWN_TOPIC`, `COMPONENT`, `UNREACHABLE` or `KAFKA`.
        """
        api, driver, name_text = self._api, self._handle(), text(name)
        functions = (api.topic.release, api.driver.open_topic)
        operation = f"opening topic {name!r}"
        handle = interruptibly(lambda: handle_result(api, operation, *functions, driver.pointer, name_text))
        return Topic(api, handle, name, self._exit_flush_ms)

    def topic_exists(self, name: str) -> bool:
        """Whether the topic exists. Never creates one."""
        exists = c_int32()
        self._ask(f"looking for topic {name!r}", "topic_exists", text(name), byref(exists))
        return bool(exists.value)

    def list_topics(self) -> Dict[str, Any]:
        """The topics of the driver's namespace that have an info topic: for each name, an object
        with `validator`, `selector`, `serializer` and `num_partitions`."""
        api, driver = self._api, self._handle()
        topics: Dict[str, Any] = json.loads(
            interruptibly(lambda: string_result(api, "listing topics", api.driver.list_topics, driver.pointer))
        )
        return topics

    def delete_topic(self, name: str) -> None:
        """Deletes a topic and its info topic, and waits until both are gone.

        Raises an `Error` with `UNKNOWN_TOPIC`, `UNSUPPORTED` with the embedded Kafka, `UNREACHABLE`
        or `KAFKA`.
        """
        self._ask(f"deleting topic {name!r}", "delete_topic", text(name))

    def empty_topic(self, name: str) -> None:
        """Removes all records of a topic, and waits until they are gone. Raises the errors of
        `delete_topic`."""
        self._ask(f"emptying topic {name!r}", "empty_topic", text(name))

    def describe(self) -> Dict[str, Any]:
        """The configuration with defaults and masked secrets, versions, and what the driver uses
        now. Does not block."""
        handle = self._handle()
        function = self._api.driver.describe
        description: Dict[str, Any] = json.loads(
            string_result(self._api, "describing a driver", function, handle.pointer)
        )
        return description

    def _ask(self, operation: str, function: str, *arguments: Any) -> None:
        """Calls a function that asks Kafka."""
        api, driver = self._api, self._handle()
        slot = getattr(api.driver, function)
        interruptibly(lambda: call(api, operation, slot, driver.pointer, *arguments))

    def __repr__(self) -> str:
        return f"<Driver of {self.library!r}>"
