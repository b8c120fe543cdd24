"""A script that pushes events and exits. It calls the C ABI with ctypes.

    exiting.py LIBRARY WAY EVENTS CONFIG TOPIC COUNTER

Writes the number of pushes that the plugin accepted to the file COUNTER, in 8 bytes.
"""

import ctypes
import struct
import sys

STATUS_OK = 0
ABI_MAJOR = 0


class Text(ctypes.Structure):
    _fields_ = [("data", ctypes.c_char_p), ("size", ctypes.c_uint64)]


class Api(ctypes.Structure):
    _fields_ = (
        [("size", ctypes.c_uint64), ("major", ctypes.c_uint32), ("minor", ctypes.c_uint32)]
        + [(name, Text) for name in ("name", "version", "librdkafka_version", "built_in")]
        + [(table, ctypes.POINTER(ctypes.c_void_p)) for table in ("error", "string", "driver", "topic", "producer")]
    )


class PushArgs(ctypes.Structure):
    _fields_ = [
        ("size", ctypes.c_uint64),
        ("metadata", Text),
        ("segments", ctypes.c_void_p),
        ("segment_count", ctypes.c_uint64),
        ("partition", ctypes.c_uint64),
        ("has_partition", ctypes.c_uint32),
        ("metadata_is_serialized", ctypes.c_uint32),
        ("preparation", ctypes.c_void_p),
    ]


def text(value):
    encoded = value.encode()
    return Text(encoded, len(encoded))


def slot(table, index, *arguments):
    """Returns the function at this index of a table. Index 0 is the size of the table."""
    return ctypes.CFUNCTYPE(ctypes.c_int32, *arguments)(table[index])


def make(function, *arguments):
    """Calls a slot that creates an object. Its last two arguments are pointers for the object and for an error."""
    made = ctypes.c_void_p()
    status = function(*arguments, ctypes.byref(made), None)
    if status != STATUS_OK:
        sys.exit(f"status {status}")
    return made


def main(library, way, events, config, topic_name, counter):
    octopus = ctypes.CDLL(library)
    octopus.octopus_register.restype = ctypes.POINTER(Api)
    api = octopus.octopus_register(ABI_MAJOR).contents
    pointer = ctypes.c_void_p
    driver = make(slot(api.driver, 1, Text, pointer, pointer, pointer), text(config), None)
    topic = make(slot(api.driver, 3, pointer, Text, pointer, pointer), driver, text(topic_name))
    producer = make(slot(api.topic, 4, pointer, pointer, pointer, pointer), topic, None)
    push = slot(api.producer, 1, pointer, pointer, pointer, pointer)
    event = PushArgs(size=ctypes.sizeof(PushArgs), metadata=text('{"from": "a script"}'))
    accepted = sum(push(producer, ctypes.byref(event), None, None) == STATUS_OK for _ in range(int(events)))
    with open(counter, "wb") as file:
        file.write(struct.pack("=Q", accepted))
    if way == "release":
        ctypes.CFUNCTYPE(None, pointer)(api.producer[6])(producer)
    elif way == "sys.exit":
        sys.exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
