"""Data of events is not copied, stays valid as long as a view refers to it, and is released then."""

import ctypes
import gc
import resource
import sys
import threading
import time
import unittest
import weakref

import diaspora_octopus as octopus
from diaspora_octopus._calls import call
from diaspora_octopus._handles import Handle

from .support import TIMEOUT, driver, new_topic, reader

PAGE = resource.getpagesize()


def resident_bytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * PAGE


class ZeroCopy(unittest.TestCase):
    def setUp(self):
        self.topic = new_topic()
        self.data = bytes(range(256)) * 400
        self.topic.producer().push({"n": 1}, self.data)

    def test_views_share_the_memory_of_the_library(self):
        with reader(self.topic) as consumer:
            event = consumer.pull(TIMEOUT)
            addresses = {event._content().data.data for _ in range(3)}
            self.assertEqual(len(addresses), 1)
            for view in (event.data, event.data[:10], memoryview(event.data)):
                self.assertEqual(view.format, "B")
                self.assertTrue(view.readonly and view.contiguous)
                self.assertIs(view.obj.owner, event)
            with self.assertRaises(TypeError):
                event.data[0] = 1
            self.assertEqual(event.data.nbytes, len(self.data))

    def test_view_keeps_the_event(self):
        with reader(self.topic) as consumer:
            event = consumer.pull(TIMEOUT)
        view, released = event.data[100:], weakref.ref(event)
        del event, consumer
        gc.collect()
        self.assertIsNotNone(released())
        self.assertEqual(view, self.data[100:])
        copy = view[5:10].tobytes()
        view.release()
        del view
        self.assertIsNone(released())
        self.assertEqual(copy, self.data[105:110])

    def test_event_without_references_is_released_at_once(self):
        with reader(self.topic) as consumer:
            event = consumer.pull(TIMEOUT)
            functions, released = event._api.event, []
            original = functions.release
            functions.release = lambda pointer: (released.append(pointer), original(pointer))
            try:
                pointer = event._as_parameter_
                event.data, event.metadata
                del event
                self.assertEqual(released, [pointer])
            finally:
                functions.release = original

    def test_events_of_many_sizes_are_read(self):
        producer = self.topic.producer()
        producer.push_many([({}, bytes(n)) for n in range(600)])
        with reader(self.topic) as consumer:
            consumer.pull(TIMEOUT)
            for size in range(600):
                self.assertEqual(consumer.pull(TIMEOUT).data, bytes(size))


class Growth(unittest.TestCase):
    def test_memory_does_not_grow_with_pushes_and_pulls(self):
        topic, batch, rounds = new_topic(), 1000, 100
        producer = topic.producer(kafka={"linger.ms": 0})
        event = ({"n": 1, "text": "x" * 40}, bytes(100))
        with reader(topic, kafka={"queued.min.messages": 1000, "fetch.wait.max.ms": 10}) as consumer:

            def run(count):
                for _ in range(count):
                    producer.push_many([event] * batch)
                    producer.flush(TIMEOUT)
                    read = 0
                    while read < batch:
                        events = consumer.pull_many(batch, TIMEOUT)
                        self.assertEqual([(each.metadata, each.data) for each in events], [event] * len(events))
                        events[-1].acknowledge()
                        read += len(events)

            run(rounds // 5)
            gc.collect()
            before, objects = resident_bytes(), len(gc.get_objects())
            run(rounds)
            gc.collect()
            # A copy of each event, or an object for each, would be 20 MB or more. The embedded
            # Kafka is in this process and keeps at most 5 MB in the partition.
            self.assertLess(resident_bytes() - before, 12 * 2**20)
            self.assertLess(len(gc.get_objects()) - objects, 1000)

    def test_references_of_a_push_are_dropped(self):
        producer = new_topic().producer()
        data, metadata = bytes(1000), {"a": 1}
        before = sys.getrefcount(data), sys.getrefcount(metadata)
        for _ in range(100):
            producer.push(metadata, data).wait(TIMEOUT)
            producer.push(metadata, [data, memoryview(data)])
        producer.push_many([(metadata, data)] * 10)
        self.assertEqual((sys.getrefcount(data), sys.getrefcount(metadata)), before)


class Threads(unittest.TestCase):
    def test_threads_share_producer_and_consumer(self):
        topic, count, threads = new_topic(num_partitions=2), 2000, 4
        producer, consumer = topic.producer(), reader(topic)
        read, failures, lock = [], [], threading.Lock()

        def push(thread):
            pushes = [producer.push([thread, n]) for n in range(count)]
            offsets = [push.wait(TIMEOUT).offset for push in pushes]
            if None in offsets:
                failures.append(offsets)

        def pull():
            for event in consumer:
                event.acknowledge()
                with lock:
                    read.append(tuple(event.metadata))

        pushing = [threading.Thread(target=push, args=(n,)) for n in range(threads)]
        pulling = [threading.Thread(target=pull) for _ in range(threads)]
        for each in pushing + pulling:
            each.start()
        for each in pushing:
            each.join(TIMEOUT)
        end = time.monotonic() + TIMEOUT
        while len(read) < count * threads and time.monotonic() < end:
            time.sleep(0.01)
        consumer.close(TIMEOUT)
        for each in pulling:
            each.join(TIMEOUT)
            self.assertFalse(each.is_alive())
        self.assertEqual(failures, [])
        self.assertEqual(sorted(read), [(thread, n) for thread in range(threads) for n in range(count)])

    def test_topic_is_closed_while_threads_use_it(self):
        name = new_topic().name
        uses = (
            lambda topic: topic.partition_count,
            lambda topic: topic.producer(),
            lambda topic: topic.consumer("reader", targets=[0]),
        )
        for n in range(21):
            own, use, statuses = driver().open_topic(name), uses[n % 3], []
            # Python may switch threads before the call of the library begins.
            interval = sys.getswitchinterval()
            sys.setswitchinterval(1e-6)

            def run(own=own, use=use, statuses=statuses):
                try:
                    while True:
                        use(own)
                except octopus.Error as error:
                    statuses.append(error.status)

            threads = [threading.Thread(target=run) for _ in range(3)]
            for each in threads:
                each.start()
            time.sleep(0.01)
            own.close()
            sys.setswitchinterval(interval)
            for each in threads:
                each.join(TIMEOUT)
            self.assertEqual(statuses, [octopus.Status.CLOSED] * 3)

    def test_call_keeps_the_object_that_it_uses(self):
        released, kept = [], []

        class Released(Handle):
            def _release(self, pointer):
                released.append(pointer)

        @ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p))
        def function(pointer, error):
            gc.collect()
            kept.append((pointer, list(released)))
            return 0

        call(octopus.Library().api, "a test", function, Released(7, print))
        self.assertEqual((kept, released), ([(7, [])], [7]))

    def test_driver_is_closed_while_threads_use_it(self):
        topic = new_topic()
        for _ in range(20):
            own = octopus.Driver({"kafka": {"bootstrap.servers": "127.0.0.1:1"}, "connect_timeout_ms": 200})

            def describe(own=own):
                try:
                    while True:
                        own.describe()
                except octopus.Error as error:
                    statuses.append(error.status)

            statuses = []
            threads = [threading.Thread(target=describe) for _ in range(3)]
            for each in threads:
                each.start()
            time.sleep(0.01)
            own.close()
            for each in threads:
                each.join(TIMEOUT)
            self.assertEqual(statuses, [octopus.Status.CLOSED] * 3)
        self.assertEqual(topic.partition_count, 1)


if __name__ == "__main__":
    unittest.main()
