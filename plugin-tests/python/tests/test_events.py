"""Events are read as they were pushed, and consumers go on where their group left."""

import array
import time
import unittest

import diaspora_octopus as octopus
from diaspora_octopus import Status

from .support import IS_REAL_KAFKA, TIMEOUT, config, driver, new_consumer, new_name, new_topic, reader


class Events(unittest.TestCase):
    def test_event_is_read_as_it_was_pushed(self):
        topic = new_topic(num_partitions=3)
        with topic.producer("detector") as producer, reader(topic) as consumer:
            delivered = producer.push({"frame": 1, "unit": "°C"}, b"\x00\xffimage", partition=2).wait(TIMEOUT)
            self.assertEqual(delivered, octopus.Delivered(partition=2, offset=0))
            event = consumer.pull(TIMEOUT)
            self.assertEqual(event.metadata, {"frame": 1, "unit": "°C"})
            self.assertIs(event.metadata, event.metadata)
            self.assertEqual(event.metadata_bytes, '{"frame":1,"unit":"°C"}'.encode())
            self.assertTrue(event.serialized_metadata.endswith(event.metadata_bytes))
            self.assertEqual(bytes(event.data), b"\x00\xffimage")
            self.assertEqual((event.partition, event.offset), (2, 0))
            self.assertFalse(event.is_end_of_topic)
            self.assertAlmostEqual(event.timestamp_ms / 1000, time.time(), delta=600)
            self.assertEqual(repr(event), "<Event of partition 2, offset 0>")

    def test_stats_count_what_was_pushed_and_read(self):
        name = new_name()
        with octopus.Driver({"embedded": {}, "disable_info_topic": True}) as own:
            own.create_topic(name, num_partitions=1)
            topic = own.open_topic(name)
            with topic.producer("detector") as producer, topic.consumer(name) as consumer:
                producer.push([1], b"12345").wait(TIMEOUT)
                self.assertIsNotNone(consumer.pull(TIMEOUT))
                stats = own.stats()
                self.assertEqual((stats["delivered"], stats["delivered_bytes"], stats["failed"]), (1, 16 + 8 + 3 + 5, 0))
                self.assertEqual(stats["producers"][0]["name"], "detector")
                self.assertEqual(stats["consumers"][0]["partitions"]["0"]["position"], 1)

    def test_records_are_read_as_the_consumer_says(self):
        topic = new_topic()
        with topic.producer() as producer:
            producer.push({"a": 1}, b"data").wait(TIMEOUT)
        for records, expected in (
            (None, ({"a": 1}, b"data", "diaspora")),
            ("auto", ({"a": 1}, b"data", "diaspora")),
            ("bytes", (None, (15).to_bytes(8, "little") + (4).to_bytes(8, "little") + (7).to_bytes(8, "little") + b'{"a":1}data', "bytes")),
        ):
            with topic.consumer(new_name("reader"), records=records) as consumer:
                event = consumer.pull(TIMEOUT)
                self.assertEqual((event.metadata, bytes(event.data), event.record_format), expected)
        with topic.consumer(new_name("reader"), records="json") as consumer, self.assertRaises(octopus.Error) as caught:
            consumer.pull(TIMEOUT)
        self.assertEqual(caught.exception.status, Status.MALFORMED_RECORD)
        with self.assertRaises(octopus.Error) as caught:
            topic.consumer(new_name("reader"), records="avro")
        self.assertIn("records", str(caught.exception))

    def test_key_headers_and_timestamp_are_those_of_the_push(self):
        topic, an_hour_ago = new_topic(), int(time.time() * 1000) - 3_600_000
        headers = [("größe", b"\x00\xff"), ("text", "Ω"), ("none", None), ("empty", bytearray())]
        with topic.producer(records="json") as producer, topic.consumer(new_name("g"), records="auto") as consumer:
            producer.push(1, key=b"\x00key", headers=headers, timestamp_ms=an_hour_ago)
            producer.push_many([octopus.NewEvent(2, key="text", headers={"name": memoryview(b"value")}), (3, b"", None, "")])
            first, second, third = (consumer.pull(TIMEOUT) for _ in range(3))
        self.assertEqual((first.key, second.key, third.key), (b"\x00key", b"text", b""))
        self.assertEqual(first.headers, [("größe", b"\x00\xff"), ("text", "Ω".encode()), ("none", None), ("empty", b"")])
        self.assertEqual((second.headers, third.headers), ([("name", b"value")], []))
        self.assertEqual((first.timestamp_ms, first.timestamp_type), (an_hour_ago, "create"))
        self.assertGreater(second.timestamp_ms, an_hour_ago + 1_800_000)

    def test_invalid_key_header_or_timestamp_is_rejected_by_name(self):
        with new_topic().producer() as producer:
            for attributes, error, name in (
                ({"key": 7}, TypeError, "key"),
                ({"headers": 7}, TypeError, "headers"),
                ({"headers": ["name"]}, TypeError, "headers"),
                ({"headers": {7: b""}}, TypeError, "header"),
                ({"headers": {"name": 7}}, TypeError, "name"),
                ({"headers": {"": b""}}, octopus.Error, "header without a name"),
                ({"timestamp_ms": "now"}, TypeError, "timestamp_ms"),
                ({"timestamp_ms": -1}, ValueError, "timestamp_ms"),
                ({"timestamp_ms": 0}, octopus.Error, "timestamp_ms"),
            ):
                with self.assertRaises(error) as caught:
                    producer.push(1, **attributes)
                self.assertIn(name, str(caught.exception))
        with self.assertRaises(octopus.Error) as caught:
            new_topic().producer(partitioner="murmur2")
        self.assertIn("partitioner", str(caught.exception))
        with new_topic().producer(records="json") as producer, self.assertRaises(octopus.Error) as caught:
            producer.push(1, b"data")
        self.assertIn("records", str(caught.exception))

    def test_metadata_is_any_json_value(self):
        values = [None, True, 7, -1.5, "text ü\U0001f419", [1, [2]], {}, {"a": {"b": None}}, 2**60]
        topic = new_topic()
        with topic.producer() as producer, reader(topic) as consumer:
            for value in values:
                producer.push(value)
            producer.push(b' {"as": "it is"} ')
            events = [consumer.pull(TIMEOUT) for _ in range(len(values) + 1)]
            self.assertEqual([event.metadata for event in events[:-1]], values)
            self.assertEqual(events[0].metadata_bytes, b"null")
            self.assertEqual(events[-1].metadata_bytes, b' {"as": "it is"} ')

    def test_metadata_that_is_not_json_is_rejected(self):
        producer = new_topic().producer()
        for value, error in (({1, 2}, TypeError), (float("nan"), ValueError), ("\ud800", ValueError)):
            with self.assertRaises(error):
                producer.push(value)
        with self.assertRaises(octopus.Error) as caught:
            producer.push(b"{warm: yes}")
        self.assertEqual(caught.exception.status, Status.INVALID_METADATA)

    def test_data_is_any_contiguous_memory(self):
        numbers = array.array("d", [1.5, 2.5])
        backing = bytearray(b"0123456789")
        cases = [
            (b"", b""),
            (b"bytes", b"bytes"),
            (bytearray(b"array"), b"array"),
            (memoryview(b"0123456789")[2:5], b"234"),
            (memoryview(backing)[4:], b"456789"),
            (numbers, numbers.tobytes()),
            ([b"header", memoryview(backing)[:2], bytearray(b"!")], b"header01!"),
            ((), b""),
        ]
        topic = new_topic()
        with topic.producer() as producer, reader(topic) as consumer:
            for data, _ in cases:
                producer.push({}, data)
            resized = bytearray(b"the producer does not keep this memory")
            producer.push({}, resized)
            resized.clear()
            for _, expected in cases:
                self.assertEqual(bytes(consumer.pull(TIMEOUT).data), expected)
            for wrong, error in ((memoryview(b"0123")[::2], BufferError), ("text", TypeError), (5, TypeError)):
                with self.assertRaises(error):
                    producer.push({}, wrong)

    def test_data_of_an_event_is_pushed_again(self):
        topic = new_topic()
        with topic.producer() as producer, reader(topic) as consumer:
            producer.push({"n": 1}, bytes(range(256)) * 100)
            event = consumer.pull(TIMEOUT)
            producer.push(event.metadata_bytes, event.data)
            again = consumer.pull(TIMEOUT)
            self.assertEqual((again.metadata, again.data), (event.metadata, event.data))

    def test_many_events_in_one_call(self):
        topic = new_topic()
        with topic.producer() as producer, reader(topic) as consumer:
            pushes = producer.push_many([octopus.NewEvent({"n": n}, b"x" * n) for n in range(500)])
            pushes += producer.push_many([(500,), (501, b"data", 0)])
            self.assertEqual(producer.push_many([]), [])
            self.assertEqual([push.wait(TIMEOUT).offset for push in pushes], list(range(502)))
            self.assertTrue(all(push.done() for push in pushes))
            events = []
            while len(events) < 502:
                events += consumer.pull_many(100, TIMEOUT)
            self.assertEqual([event.offset for event in events], list(range(502)))
            self.assertEqual(consumer.pull_many(100, 0.1), [])
            self.assertEqual(consumer.pull_many(0), [])

    def test_failed_push_of_many_has_those_before_it(self):
        topic = new_topic()
        with topic.producer() as producer:
            with self.assertRaises(octopus.Error) as caught:
                producer.push_many([(1,), (2,), (b"{",), (4,)])
            self.assertEqual(caught.exception.status, Status.INVALID_METADATA)
            self.assertEqual([push.wait(TIMEOUT).offset for push in caught.exception.pushes], [0, 1])

    def test_largest_event_is_pushed(self):
        topic = new_topic()
        with topic.producer() as producer, reader(topic) as consumer:
            data = bytes(producer.max_event_size - len("{}"))
            producer.push({}, data).wait(TIMEOUT)
            self.assertEqual(consumer.pull(TIMEOUT).data, data)
            with self.assertRaises(octopus.Error) as caught:
                producer.push({}, data + b"1")
            self.assertEqual(caught.exception.status, Status.TOO_LARGE)


class Groups(unittest.TestCase):
    def test_next_consumer_goes_on_behind_acknowledged_events(self):
        topic, name = new_topic(), new_name("group")
        with topic.producer() as producer:
            producer.push_many([(n,) for n in range(5)])
        with new_consumer(topic, name) as consumer:
            events = [consumer.pull(TIMEOUT) for _ in range(4)]
            self.assertEqual(consumer.assignment(), [0])
            self.assertEqual((consumer.position(0), consumer.lag(0)), (4, 1))
            self.assertIsNone(consumer.committed(0))
            events[2].acknowledge()
            consumer.commit(TIMEOUT)
            self.assertEqual(consumer.committed(0), 3)
        with new_consumer(topic, name) as consumer:
            self.assertEqual(consumer.pull(TIMEOUT).metadata, 3)
        with self.assertRaises(octopus.Error) as caught:
            events[3].acknowledge()
        self.assertEqual(caught.exception.status, Status.STALE)

    def test_seek_goes_on_at_an_offset(self):
        topic = new_topic()
        with topic.producer() as producer, reader(topic) as consumer:
            producer.push_many([(n,) for n in range(10)])
            self.assertEqual(consumer.pull(TIMEOUT).metadata, 0)
            producer.flush(TIMEOUT)
            consumer.seek(0, 7)
            self.assertEqual([consumer.pull(TIMEOUT).metadata for _ in range(3)], [7, 8, 9])
            consumer.seek(0, 2)
            self.assertEqual(consumer.position(0), 2)
            self.assertEqual(consumer.pull(TIMEOUT).metadata, 2)
            with self.assertRaises(octopus.Error) as caught:
                consumer.seek(0, 11)
            self.assertEqual(caught.exception.status, Status.INVALID_ARGUMENT)

    def test_targets_are_the_partitions_to_read(self):
        topic = new_topic(num_partitions=3)
        with topic.producer() as producer:
            for partition in range(3):
                producer.push(partition, partition=partition)
        with topic.consumer(new_name("reader"), targets=[1]) as consumer:
            self.assertEqual(consumer.pull(TIMEOUT).metadata, 1)
            self.assertIsNone(consumer.pull(0.3))
            self.assertEqual(consumer.assignment(), [1])

    def test_unsubscribed_consumer_has_no_partitions(self):
        topic = new_topic()
        with reader(topic) as consumer:
            consumer.unsubscribe()
            with self.assertRaises(octopus.Error) as caught:
                consumer.pull(1)
            self.assertEqual(caught.exception.status, Status.CLOSED)


class Topics(unittest.TestCase):
    def test_topic_is_found_by_its_name(self):
        name = new_name()
        self.assertFalse(driver().topic_exists(name))
        validator = {"type": "schema", "schema": {"type": "object"}}
        options = {"num_partitions": 2, "replication_factor": 1, "disable_info_topic": False}
        driver().create_topic(name, validator=validator, **options)
        self.assertTrue(driver().topic_exists(name))
        with driver().open_topic(name) as topic:
            self.assertEqual((topic.name, topic.partition_count), (name, 2))
            self.assertEqual(topic.components["validator"]["type"], "schema")
            producer = topic.producer()
        self.assertEqual(driver().list_topics()[name]["num_partitions"], 2)
        with self.assertRaises(octopus.Error) as caught:
            producer.push(5)
        self.assertEqual(caught.exception.status, Status.INVALID_METADATA)
        with self.assertRaises(octopus.Error) as caught:
            topic.producer()
        self.assertEqual(caught.exception.status, Status.CLOSED)

    def test_existing_topic_is_tolerated_on_request(self):
        topic = new_topic()
        driver().create_topic(topic.name, num_partitions=9, exist_ok=True)
        with self.assertRaises(octopus.Error) as caught:
            driver().create_topic(topic.name, replication_factor=1)
        self.assertEqual(caught.exception.status, Status.TOPIC_EXISTS)

    @unittest.skipUnless(IS_REAL_KAFKA, "the embedded Kafka can't delete topics")
    def test_deleted_topic_is_gone(self):
        topic = new_topic()
        driver().delete_topic(topic.name)
        self.assertFalse(driver().topic_exists(topic.name))
        with self.assertRaises(octopus.Error) as caught:
            octopus.Driver(config(open_retry_ms=0)).open_topic(topic.name)
        self.assertEqual(caught.exception.status, Status.UNKNOWN_TOPIC)

    def test_objects_outlive_what_they_were_made_from(self):
        with octopus.Driver(config()) as own, own.open_topic(new_topic().name) as topic:
            producer, consumer = topic.producer(), reader(topic)
        push = producer.push({"n": 1})
        del own, topic, producer
        self.assertEqual(push.wait(TIMEOUT).offset, 0)
        event = consumer.pull(TIMEOUT)
        del consumer
        self.assertEqual(event.metadata, {"n": 1})


if __name__ == "__main__":
    unittest.main()
