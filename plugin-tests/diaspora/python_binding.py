"""Tests of the Diaspora API's Python binding that its own tests lack: threads, the GIL and failures.

    python3 python_binding.py LIBRARY BOOTSTRAP-SERVERS
"""

import gc
import sys
import threading
import time
import unittest

from diaspora_stream.api import Driver, Exception as DiasporaException, Validator

TIMEOUT_MS = 60_000


def driver():
    options = {"kafka": {"bootstrap.servers": SERVERS}}
    return Driver(backend=f"octopus:{LIBRARY}", options=options)


class PythonBinding(unittest.TestCase):
    def setUp(self):
        self.driver = driver()
        self.name = f"python-{self._testMethodName}-{time.time_ns()}"

    def topic(self, partitions=1, **components):
        options = {"replication_factor": 1, "num_partitions": partitions}
        self.driver.create_topic(self.name, options=options, **components)
        return self.driver.open_topic(self.name)

    def read(self, consumer, count):
        events = []
        while len(events) < count:
            event = consumer.pull().wait(timeout_ms=TIMEOUT_MS)
            self.assertIsNotNone(event)
            events.append(event)
        return events

    def test_threads_push_on_any_pool_without_needing_the_gil(self):
        topic = self.topic(partitions=2)
        for pool in [None, self.driver.make_thread_pool(0), self.driver.make_thread_pool(4)]:
            producer = topic.producer("p", thread_pool=pool)

            def push(first):
                for number in range(first, first + 250):
                    producer.push({"number": number}, bytearray(str(number), "ascii"), partition=number)

            threads = [threading.Thread(target=push, args=(1000 * index,)) for index in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.assertTrue(producer.flush().wait(timeout_ms=TIMEOUT_MS))
        events = self.read(topic.consumer("reader-" + self.name), 3000)
        for event in events:
            self.assertEqual(bytes(event.data[0]), str(event.metadata["number"]).encode())

    def test_data_may_change_as_soon_as_push_returns(self):
        topic = self.topic()
        producer = topic.producer("p", thread_pool=self.driver.make_thread_pool(2))
        data = bytearray(b"before")
        pushed = producer.push({}, [data, memoryview(b" and after")])
        data[:] = b"!!!!!!"
        data.extend(b"so nobody holds a view of it")
        self.assertEqual(pushed.wait(timeout_ms=TIMEOUT_MS), 0)
        event = self.read(topic.consumer("reader-" + self.name), 1)[0]
        self.assertEqual(bytes(event.data[0]), b"before and after")

    def test_validator_rejection_raises_the_apis_exception(self):
        schema = {"type": "object", "required": ["number"]}
        topic = self.topic(validator=Validator.from_metadata(type="schema", schema=schema))
        for pool in [None, self.driver.make_thread_pool(2)]:
            producer = topic.producer("p", thread_pool=pool)
            with self.assertRaises(DiasporaException):
                producer.push({"text": "none"}).wait(timeout_ms=TIMEOUT_MS)
            self.assertIsNotNone(producer.push({"number": 1}).wait(timeout_ms=TIMEOUT_MS))
        with self.assertRaises(DiasporaException):
            self.driver.create_topic(self.name, options={"replication_factor": 1})

    def test_failing_allocator_fails_that_pull_only(self):
        topic = self.topic()
        producer = topic.producer("p")
        for _ in range(3):
            producer.push({}, b"some data").wait(timeout_ms=TIMEOUT_MS)
        sizes = [4, None, 9]

        def allocate(_metadata, _descriptor):
            size = sizes.pop(0)
            if size is None:
                raise KeyError("no memory today")
            return [bytearray(size)]

        consumer = topic.consumer(
            "reader-" + self.name, data_selector=lambda _metadata, whole: whole, data_allocator=allocate
        )
        with self.assertRaisesRegex(DiasporaException, "9 bytes are selected"):
            consumer.pull().wait(timeout_ms=TIMEOUT_MS)
        with self.assertRaisesRegex(KeyError, "no memory today"):
            consumer.pull().wait(timeout_ms=TIMEOUT_MS)
        self.assertEqual(self.read(consumer, 1)[0].data, [bytearray(b"some data")])
        gc.collect()

    def test_getters_return_the_same_objects(self):
        pool = self.driver.make_thread_pool(1)
        topic = self.topic()
        producer, consumer = topic.producer("p", thread_pool=pool), topic.consumer("c", thread_pool=pool)
        for made in producer, consumer:
            self.assertIs(made.thread_pool, pool)
            self.assertIs(made.topic, topic)
        self.assertIs(self.driver.default_thread_pool, self.driver.default_thread_pool)
        self.assertIs(topic.producer("q").thread_pool, self.driver.default_thread_pool)

    def test_targets_and_acknowledgement(self):
        topic = self.topic(partitions=3)
        producer = topic.producer("p")
        for number in range(30):
            producer.push({"number": number}, partition=number % 3).wait(timeout_ms=TIMEOUT_MS)
        name = "targeted-" + self.name
        consumer = topic.consumer(name, targets=[1])
        events = self.read(consumer, 10)
        self.assertEqual([event.metadata["number"] for event in events], list(range(1, 30, 3)))
        self.assertEqual({event.partition["partition_id"] for event in events}, {1})
        events[5].acknowledge()
        del consumer, events
        gc.collect()
        again = self.read(topic.consumer(name, targets=[1]), 4)
        self.assertEqual([event.event_id for event in again], [6, 7, 8, 9])

    def test_futures_and_events_outlive_topic_and_driver(self):
        topic = self.topic()
        pushed = topic.producer("p").push({"number": 7}, b"data")
        self.assertEqual(pushed.wait(timeout_ms=TIMEOUT_MS), 0)
        event = self.read(topic.consumer("c-" + self.name), 1)[0]
        del topic, self.driver
        gc.collect()
        self.assertEqual((event.metadata, bytes(event.data[0])), ({"number": 7}, b"data"))
        self.assertEqual(pushed.wait(timeout_ms=0), 0)


if __name__ == "__main__":
    LIBRARY, SERVERS = sys.argv[1:]
    unittest.main(argv=sys.argv[:1], verbosity=2)
