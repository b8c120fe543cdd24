"""A script that pulls and acknowledges events of a topic, even if the topic has damaged or missing records. It calls
the C ABI with ctypes.

    reading.py LIBRARY BOOTSTRAP-SERVERS TOPIC GROUP EVENTS

Prints each event and each error, and exits after EVENTS events.
"""

import ctypes
import json
import sys

from exiting import ABI_MAJOR, STATUS_OK, Text, make, slot, text

STATUS_TIMED_OUT = 1
pointer = ctypes.c_void_p


class Api(ctypes.Structure):
    _fields_ = (
        [("size", ctypes.c_uint64), ("major", ctypes.c_uint32), ("minor", ctypes.c_uint32)]
        + [(name, Text) for name in ("name", "version", "librdkafka_version", "built_in")]
        + [
            (table, ctypes.POINTER(ctypes.c_void_p))
            for table in ("error", "string", "driver", "topic", "producer", "consumer", "future", "event")
        ]
    )


class ConsumerArgs(ctypes.Structure):
    _fields_ = [
        ("size", ctypes.c_uint64),
        ("name", Text),
        ("options", Text),
        ("batch_size", ctypes.c_uint64),
        ("max_batches", ctypes.c_uint64),
        ("targets", pointer),
        ("target_count", ctypes.c_uint64),
        ("thread_pool", pointer),
    ]


class EventView(ctypes.Structure):
    _fields_ = [
        ("size", ctypes.c_uint64),
        ("metadata", Text),
        ("serialized_metadata", Text),
        ("data", Text),
        ("id", ctypes.c_uint64),
        ("timestamp_ms", ctypes.c_int64),
        ("partition", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
    ]


def print_line(line):
    print(line, flush=True)


def print_error(api, status, error):
    """Prints the error of a call that returned no event."""
    partition, first, last = ctypes.c_uint32(), ctypes.c_uint64(), ctypes.c_uint64()
    skipped = slot(api.error, 7, pointer, pointer, pointer, pointer)
    if skipped(error, ctypes.byref(partition), ctypes.byref(first), ctypes.byref(last)):
        print_line(f"skipped {first.value} to {last.value} of partition {partition.value}")
    elif status != STATUS_TIMED_OUT:
        print_line(f"status {status}")
    ctypes.CFUNCTYPE(None, pointer)(api.error[6])(error)


def main(library, servers, topic_name, group, wanted):
    octopus = ctypes.CDLL(library)
    octopus.octopus_register.restype = ctypes.POINTER(Api)
    api = octopus.octopus_register(ABI_MAJOR).contents
    config = json.dumps({"kafka": {"bootstrap.servers": servers}})
    driver = make(slot(api.driver, 1, Text, pointer, pointer, pointer), text(config), None)
    topic = make(slot(api.driver, 3, pointer, Text, pointer, pointer), driver, text(topic_name))
    arguments = ConsumerArgs(size=ctypes.sizeof(ConsumerArgs), name=text(group))
    consumer = make(slot(api.topic, 5, pointer, pointer, pointer, pointer), topic, ctypes.byref(arguments))
    pull_many = slot(api.consumer, 2, pointer, ctypes.c_uint64, ctypes.c_int64, pointer, pointer, pointer)
    view = slot(api.event, 1, pointer, pointer, pointer)
    acknowledge = slot(api.event, 2, pointer, pointer)
    count = 0
    while count < int(wanted):
        event, taken, error = pointer(), ctypes.c_uint64(), pointer()
        status = pull_many(consumer, 1, 1000, ctypes.byref(event), ctypes.byref(taken), ctypes.byref(error))
        if status != STATUS_OK:
            print_error(api, status, error)
            continue
        content = EventView(size=ctypes.sizeof(EventView))
        if view(event, ctypes.byref(content), None) != STATUS_OK or acknowledge(event, None) != STATUS_OK:
            sys.exit("an event can't be used")
        print_line(f"event {content.id}")
        ctypes.CFUNCTYPE(None, pointer)(api.event[4])(event)
        count += 1
    if slot(api.consumer, 11, pointer, ctypes.c_int64, pointer)(consumer, 60_000, None) != STATUS_OK:
        sys.exit("closing failed")


if __name__ == "__main__":
    main(*sys.argv[1:])
