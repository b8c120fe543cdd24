"""Delivery when a worker process of `multiprocessing` ends.

Such processes end by `os._exit`, at which the library can't deliver what is in flight.
"""

from __future__ import annotations

import sys
import time
import weakref
from typing import TYPE_CHECKING, Any, Optional

if TYPE_CHECKING:
    from ._producer import Producer

    Limits = weakref.WeakKeyDictionary[Producer, float]

limits: Optional[Limits] = None
"""The producers of this process, if it is a worker, and how long its end waits for each, in seconds.
"""
worker: Any = None
"""The worker process that calls `flush_all` when it ends."""


def flush_at_worker_exit(producer: Producer, limit: float) -> None:
    """If this process is a worker of multiprocessing, its end waits for the producer's events."""
    global limits, worker
    process = sys.modules.get("multiprocessing.process")
    if process is None or process.parent_process() is None:
        return
    if limits is None or worker is not process.current_process():
        from multiprocessing.util import Finalize

        limits = weakref.WeakKeyDictionary()
        worker = process.current_process()
        Finalize(None, flush_all, exitpriority=0)
    limits[producer] = limit


def flush_all() -> None:
    began = time.monotonic()
    for producer, limit in list(limits.items() if limits else ()):
        try:
            producer.flush(max(0.0, began + limit - time.monotonic()))
        except Exception as error:
            print(f"diaspora_octopus: events of {producer!r} are not delivered: {error}", file=sys.stderr)
