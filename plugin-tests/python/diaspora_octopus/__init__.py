"""Octopus for Python programs: events in Kafka topics, with the library `liboctopus.so`.

    import diaspora_octopus as octopus

    driver = octopus.Driver({"kafka": {"bootstrap.servers": "localhost:9092"}})
    driver.create_topic("weather", num_partitions=3, replication_factor=1, exist_ok=True)
    topic = driver.open_topic("weather")

    with topic.producer() as producer:
        push = producer.push({"celsius": 21.5}, b"raw samples")
        print(push.wait(timeout=10))

    with topic.consumer("archive") as consumer:
        for event in consumer.events(timeout=5):
            print(event.metadata, len(event.data))
            event.acknowledge()

The package needs CPython 3.9 or later, on 64-bit Linux, and no other package. It finds the library
by the environment variable `OCTOPUS_LIBRARY`, among others (`Library`).

Rules that hold for every call:

- Timeouts are in seconds, as numbers of any kind. None waits for ever, and 0 does not wait.
- Errors are `Error`s: branch on their `status`, and show their text to people. A wait whose timeout
  has passed raises `TimedOut`, which is a `TimeoutError`, too; pulls return None or an empty list.
- Any thread may use any object, several also at the same time.
- Ctrl+C raises `KeyboardInterrupt` in waits of the main thread within a tenth of a second, except
  in a `push` that waits for the in-flight limit.
- `await` waits for a `Push`, a `Flush` or a `Pull` in a task of asyncio. All other calls that wait
  would block the event loop: call them in a thread, by `asyncio.to_thread`.
- Objects are released with their last reference, in any order, and nothing waits for that: pushed
  events are still delivered. `close` and `with` wait, and raise what failed.
- A program may just end, also by an exception or an unhandled Ctrl+C. The exit of the interpreter
  waits until pushed events are delivered, at most the driver's `exit_flush_ms` (5 s by default). It
  reports on stderr what was not delivered, and failures that no call has reported. The library
  never calls Python, so nothing can run after it.
- SIGTERM ends a process of Python at once, without its exit, and loses what is in flight. Where
  programs are stopped by SIGTERM, install a handler, such as
  `signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))`. `with multiprocessing.Pool()` ends its
  workers in this way; `concurrent.futures.ProcessPoolExecutor` does not.
- Drivers, topics, producers and consumers can't be pickled.
- A child of `os.fork`, and a worker of `multiprocessing`, creates its own `Driver`.
"""

from ._consumer import Consumer, Events
from ._driver import Driver
from ._error import Error, Persisted, SkippedOffsets, Status, TimedOut
from ._event import Event
from ._future import Delivered, Flush, Future, Pull, Push
from ._library import Library
from ._producer import NewEvent, Producer
from ._topic import BATCH_SIZE_ADAPTIVE, Topic

__all__ = [
    "BATCH_SIZE_ADAPTIVE",
    "Consumer",
    "Delivered",
    "Driver",
    "Error",
    "Event",
    "Events",
    "Flush",
    "Future",
    "Library",
    "NewEvent",
    "Persisted",
    "Producer",
    "Pull",
    "Push",
    "SkippedOffsets",
    "Status",
    "TimedOut",
    "Topic",
]

__version__ = "0.1.0"

# Tracebacks and `help` show the names that programs use.
for _name in __all__:
    if isinstance(globals()[_name], type):
        globals()[_name].__module__ = __name__
