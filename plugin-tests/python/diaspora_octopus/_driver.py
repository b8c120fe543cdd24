"""A driver, from which everything else is created."""

from __future__ import annotations

import ctypes
import json
from ctypes import byref, c_int32
from typing import Any, Dict, Mapping, Optional, Union

from . import _abi as abi
from ._arguments import integer, optional_mapping, string, wrong_type
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
    `UNREACHABLE`; if no broker was ever reached, after `connect_timeout_ms`. Ctrl+C interrupts
    them; what they had begun may still happen.
    """

    library: Library
    """The library that the driver uses."""

    def __init__(self, config: Union[Mapping[str, Any], str], library: Optional[Library] = None) -> None:
        """Creates a driver. Does not wait for Kafka: it connects in the background.

        - `config` is the configuration of docs/reference/configuration.md, or its JSON text, such
          as `{"kafka": {"bootstrap.servers": "localhost:9092"}}`; `{"embedded": {}}` starts a Kafka
          inside the process.
        - `library` is by default `Library()`, loaded once.

        Raises an `Error` with `INVALID_CONFIGURATION`, `UNSUPPORTED` or `KAFKA`, or the `OSError`
        of `Library`.
        """
        self.library = default_library() if library is None else library
        self._api = api = self.library.api
        check_config(config)
        config_text = json_text(config)
        self._open_handle = handle_result(
            api, "creating a driver", api.driver.release, api.driver.create, config_text, None
        )
        description = self.describe()
        self._exit_flush_ms: int = description["exit_flush_ms"]
        servers = description.get("kafka", {}).get("bootstrap.servers")
        self._servers = "embedded" if "embedded_bootstrap_servers" in description else str(servers)

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

        - `num_partitions` is 1 by default.
        - `replication_factor` is the number of copies of each partition: 3 by default, at most the
          number of brokers. A cluster of one broker needs 1.
        - `config` has Kafka's settings of the topic, such as `{"retention.ms": 604800000}`; by
          default those of the brokers.
        - `validator`, `selector` and `serializer` are objects with a `"type"`; by default the topic
          accepts all JSON, takes partitions in turn, and stores JSON text.
        - `disable_info_topic` is by default the driver's option of this name.
        - `exist_ok`: a topic that exists already is no error, whatever its options are.

        Raises an `Error` with `TOPIC_EXISTS`, `COMPONENT`, `INVALID_CONFIGURATION`,
        `INVALID_ARGUMENT` for a name that Kafka rejects, `UNREACHABLE` or `KAFKA`.
        """
        string("create_topic", "name", name)
        optional_mapping("create_topic", config=config, validator=validator, selector=selector, serializer=serializer)
        if num_partitions is not None:
            num_partitions = integer("create_topic", "num_partitions", num_partitions)
        if replication_factor is not None:
            replication_factor = integer("create_topic", "replication_factor", replication_factor)
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
        """Opens a topic that exists. Never creates one.

        A topic that was just created may not be known to all brokers yet. So the call looks again
        for a name that is unknown, and waits for the driver's `open_retry_ms`, 5 s by default,
        before it raises `UNKNOWN_TOPIC`.

        Raises an `Error` with `UNKNOWN_TOPIC`, `COMPONENT`, `UNREACHABLE` or `KAFKA`.
        """
        name_text = text(string("open_topic", "name", name))
        api, driver = self._api, self._handle()
        functions = (api.topic.release, api.driver.open_topic)
        operation = f"opening topic {name!r}"
        handle = interruptibly(lambda: handle_result(api, operation, *functions, driver, name_text))
        return Topic(api, handle, name, self._exit_flush_ms)

    def topic_exists(self, name: str) -> bool:
        """Whether the topic exists. Never creates one."""
        exists = c_int32()
        string("topic_exists", "name", name)
        self._ask(f"looking for topic {name!r}", "topic_exists", text(name), byref(exists))
        return bool(exists.value)

    def list_topics(self) -> Dict[str, Any]:
        """The topics of the driver's namespace that have an info topic: for each name, an object
        with `validator`, `selector`, `serializer` and `num_partitions`."""
        api, driver = self._api, self._handle()
        topics: Dict[str, Any] = json.loads(
            interruptibly(lambda: string_result(api, "listing topics", api.driver.list_topics, driver))
        )
        return topics

    def delete_topic(self, name: str) -> None:
        """Deletes a topic and its info topic, and waits until both are gone.

        Raises an `Error` with `UNKNOWN_TOPIC`, `UNSUPPORTED` with the embedded Kafka, `UNREACHABLE`
        or `KAFKA`.
        """
        string("delete_topic", "name", name)
        self._ask(f"deleting topic {name!r}", "delete_topic", text(name))

    def empty_topic(self, name: str) -> None:
        """Removes all records of a topic, and waits until they are gone. Raises the errors of
        `delete_topic`."""
        string("empty_topic", "name", name)
        self._ask(f"emptying topic {name!r}", "empty_topic", text(name))

    def describe(self) -> Dict[str, Any]:
        """The configuration with defaults and masked secrets, versions, and what the driver uses
        now. Does not block."""
        handle = self._handle()
        function = self._api.driver.describe
        description: Dict[str, Any] = json.loads(
            string_result(self._api, "describing a driver", function, handle)
        )
        return description

    def stats(self) -> Dict[str, Any]:
        """The figures of the driver, and of its producers, consumers and partitions, as of now. They
        are always counted. docs/reference/statistics.md explains each one. Does not block."""
        handle = self._handle()
        stats: Dict[str, Any] = json.loads(
            string_result(self._api, "reading statistics", self._api.driver.stats_json, handle)
        )
        return stats

    def _ask(self, operation: str, function: str, *arguments: Any) -> None:
        """Calls a function that asks Kafka."""
        api, driver = self._api, self._handle()
        slot = getattr(api.driver, function)
        interruptibly(lambda: call(api, operation, slot, driver, *arguments))

    def _name(self) -> str:
        return f"driver of {self._servers}"

    def __repr__(self) -> str:
        return f"<Driver {self._servers}{', closed' if self._is_closed else ''}>"


def check_config(config: object) -> None:
    """Rejects what is not a configuration at all. The library checks the rest."""
    expected = '{"kafka": {"bootstrap.servers": "host:port"}} or its JSON text'
    if isinstance(config, str):
        if not config.lstrip().startswith("{"):
            found = f"creating a driver: config: expected {expected}, got {config!r}"
            raise Error(Status.INVALID_CONFIGURATION, found)
    elif not hasattr(config, "keys"):
        raise wrong_type("Driver", "config", expected, config)
