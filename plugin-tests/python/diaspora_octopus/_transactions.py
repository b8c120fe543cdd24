"""The transactions of a producer."""

from __future__ import annotations

from contextlib import contextmanager
from ctypes import c_void_p
from typing import Any, Iterator, Optional

from ._calls import call, milliseconds
from ._consumer import Consumer
from ._error import Error, Status
from ._handles import ClosedAtExit


class Transactions(ClosedAtExit):
    """The part of a producer that has a `transactional_id`."""

    @contextmanager
    def transaction(self, *consumers: Consumer) -> Iterator[None]:
        """A transaction: the events that the `with` block pushes, and what it acknowledges, are
        stored together or not at all.

            events = consumer.pull_many(500, timeout=1)
            with producer.transaction(consumer):
                for event in events:
                    producer.push(event.metadata, event.data)
                    event.acknowledge()

        It is committed at the end of the block, and aborted if the block raises: then the consumers
        return the events again. The `consumers` have the option `commits="transaction"`.

        If the transaction can't be committed, for example because a partition was revoked, it is
        aborted, and an `Error` with `MUST_ABORT` is raised: repeat the work. `FENCED` means that a
        newer producer has the same id, or that the transaction was open for longer than
        `kafka.transaction.timeout.ms`; this producer is of no use any more. After `UNREACHABLE` or
        `TimedOut` the transaction is still open: call `commit_transaction` again.
        """
        self.begin_transaction(*consumers)
        try:
            yield
        except BaseException:
            self._abort_quietly()
            raise
        try:
            self.commit_transaction()
        except Error as error:
            if error.status is Status.MUST_ABORT:
                self._abort_quietly()
            raise

    def begin_transaction(self, *consumers: Consumer) -> None:
        """Begins a transaction, which `commit_transaction` or `abort_transaction` ends. Outside of a
        transaction, pushes of a producer with a `transactional_id` raise an `Error`."""
        for consumer in consumers:
            if not isinstance(consumer, Consumer):
                kind = type(consumer).__name__
                raise TypeError(f"begin_transaction: consumers: expected consumers, got {kind}")
        handles: Any = (c_void_p * len(consumers))(*(consumer._handle._as_parameter_ for consumer in consumers))
        operation, function = f"beginning a transaction of {self._name()}", self._api.producer.begin_transaction
        call(self._api, operation, function, self._handle, handles, len(consumers))

    def commit_transaction(self, timeout: Optional[float] = None) -> None:
        """Waits until the events of the transaction are delivered, and stores them and the
        positions; at most `timeout` seconds, and the driver's `timeout_ms`.

        Raises `TimedOut`, or an `Error` with `UNREACHABLE`, if it is not done yet: the repeated call
        continues. `MUST_ABORT` says that the transaction can only be aborted."""
        self._call("committing a transaction of", self._api.producer.commit_transaction, milliseconds(timeout))

    def abort_transaction(self, timeout: Optional[float] = None) -> None:
        """Discards the events of the transaction. Its consumers continue at their last committed
        positions, so that they return the transaction's events again.

        Raises `TimedOut`, or an `Error` with `UNREACHABLE`, if it is not done yet: the repeated call
        continues."""
        self._call("aborting a transaction of", self._api.producer.abort_transaction, milliseconds(timeout))

    def _abort_quietly(self) -> None:
        try:
            self.abort_transaction()
        except Error:
            pass  # The error that is being raised says more.
