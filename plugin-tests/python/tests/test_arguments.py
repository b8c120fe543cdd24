"""Wrong arguments raise errors that name the argument, and objects describe themselves."""

import pickle
import unittest

import diaspora_octopus as octopus
from diaspora_octopus import Persisted, Status

from .support import TIMEOUT, config, driver, new_topic, reader


class Scalar:
    """A number as numpy has them: no JSON form of its own, and `item`."""

    ndim = 0

    def item(self):
        return 7


class Arguments(unittest.TestCase):
    def test_wrong_type_names_the_argument(self):
        topic = new_topic()
        producer, consumer = topic.producer(), reader(topic)
        push = producer.push({})
        tuples = r"push_many: expected NewEvent or a tuple \(metadata, data, partition\), got dict"
        for text, call in (
            ("open_topic: name: expected a string, got int", lambda: driver().open_topic(5)),
            ("create_topic: name: ", lambda: driver().create_topic(5)),
            ("create_topic: config: expected a dict, got int", lambda: driver().create_topic("a", config=5)),
            ("producer: name: expected a string, got int", lambda: topic.producer(5)),
            ("producer: batch_size: expected an integer", lambda: topic.producer(batch_size="1")),
            ("consumer: targets: expected a list of partitions, got int", lambda: topic.consumer("a", targets=0)),
            ("push: partition: expected an integer, got str", lambda: producer.push({}, b"", partition="0")),
            ("push: metadata: expected a JSON value, got set", lambda: producer.push(set())),
            ("push: data: a bytes-like object is required, not 'str'", lambda: producer.push({}, "text")),
            ("push: data: a bytes-like object is required, not 'int'", lambda: producer.push({}, [b"", 5])),
            ("pull_many: max_events: expected an integer, got float", lambda: consumer.pull_many(2.5)),
            ("timeout: expected a number of seconds or None, got str", lambda: push.wait("x")),
            ("Driver: config: expected {.*bootstrap.servers.*got NoneType", lambda: octopus.Driver(None)),
            (tuples, lambda: producer.push_many([{"t": 1}, {"t": 2}])),
            (tuples, lambda: producer.push_many({"t": 1})),
            ("push_many: .* got str", lambda: producer.push_many(["text"])),
            ("push_many: .* got 7 elements", lambda: producer.push_many([(1, b"", 0, None, None, None, 0)])),
        ):
            with self.subTest(text), self.assertRaisesRegex(TypeError, text):
                call()
        with self.assertRaisesRegex(octopus.Error, "bootstrap.servers.* got 'host:9092'"):
            octopus.Driver("host:9092")

    def test_number_out_of_range_names_the_argument(self):
        topic = new_topic()
        for text, call in (
            ("seek: offset: expected at least 0, got -5", lambda: reader(topic).seek(0, -5)),
            ("producer: batch_size: ", lambda: topic.producer(batch_size=-1)),
            ("consumer: max_batches: ", lambda: topic.consumer("a", max_batches=-1)),
            ("consumer: targets: expected at least one partition", lambda: topic.consumer("a", targets=[])),
            ("consumer: targets: expected at most 4294967295", lambda: topic.consumer("a", targets=[2**32])),
            ("seek: partition: expected at most 4294967295", lambda: reader(topic).seek(2**32, 0)),
            ("seek: offset: expected at most 18446744073709551615", lambda: reader(topic).seek(0, 2**64)),
            ("position: partition: expected at most", lambda: reader(topic).position(2**32)),
            ("producer: batch_size: expected at most", lambda: topic.producer(batch_size=2**64)),
            ("push: partition: expected at most", lambda: topic.producer().push({}, b"", 2**64)),
        ):
            with self.subTest(text), self.assertRaisesRegex(ValueError, text):
                call()

    def test_data_that_is_not_contiguous_names_the_argument(self):
        with self.assertRaisesRegex(BufferError, "^push: data: "):
            new_topic().producer().push({}, memoryview(b"0123")[::2])

    def test_none_is_no_data_and_scalars_are_numbers(self):
        topic = new_topic()
        with topic.producer() as producer, reader(topic) as consumer:
            producer.push({"n": Scalar()}, None)
            event = consumer.pull(TIMEOUT)
            self.assertEqual((event.metadata, bytes(event.data)), ({"n": 7}, b""))

    def test_memory_with_objects_is_rejected(self):
        try:
            import numpy
        except ImportError:
            self.skipTest("numpy is missing")
        producer = new_topic().producer()
        for wrong in (numpy.array([{}, "a"], object), numpy.zeros(2, [("Other", int), ("b", object)])):
            with self.assertRaisesRegex(TypeError, "push: data: .*Python objects"):
                producer.push({}, wrong)
        producer.push({"a": numpy.int64(5)}, numpy.zeros(3, [("Other", int)])).wait(TIMEOUT)
        producer.push({}, numpy.zeros(3, "datetime64[s]")).wait(TIMEOUT)
        with self.assertRaises(TypeError):
            producer.push(numpy.array([1]))


class Descriptions(unittest.TestCase):
    def test_closed_objects_say_so(self):
        own = octopus.Driver(config())
        topic = own.open_topic(new_topic().name)
        producer, consumer = topic.producer("detector"), reader(topic)
        self.assertEqual(repr(producer), "<Producer 'detector'>")
        self.assertIn(config()["kafka"]["bootstrap.servers"], repr(own))
        for each in (producer, consumer, topic, own):
            self.assertNotIn("closed", repr(each))
            each.close()
            self.assertIn("closed", repr(each))
            with self.assertRaisesRegex(octopus.Error, "closed before"), each:
                pass
        with self.assertRaisesRegex(octopus.Error, "producer 'detector' of topic '.*': it was closed before"):
            producer.push({})
        self.assertEqual(repr(octopus.Driver({"kafka": {"bootstrap.servers": "a:1"}})), "<Driver a:1>")

    def test_push_describes_its_state(self):
        topic = new_topic()
        push = topic.producer(kafka={"linger.ms": 1000}).push({})
        self.assertEqual(repr(push), "<Push: pending>")
        push.wait(TIMEOUT)
        self.assertEqual(repr(push), "<Push: stored at partition 0, offset 0>")
        lost = {"bootstrap.servers": "127.0.0.1:1", "delivery.timeout.ms": 100}
        own = octopus.Driver(config()).open_topic(topic.name)
        push = own.producer(kafka=lost).push({})
        with self.assertRaises(octopus.Error):
            push.wait(TIMEOUT)
        self.assertIn("<Push: failed: ", repr(push))

    def test_statuses_are_printed_by_name(self):
        self.assertEqual((str(Status.KAFKA), f"{Persisted.POSSIBLY}"), ("KAFKA", "POSSIBLY"))
        self.assertEqual(f"{Status.KAFKA:d}", "-11")
        for status in Status:
            self.assertIn(f"`{status}`", Status.__doc__)

    def test_public_names_are_of_the_package(self):
        for name in octopus.__all__:
            value = getattr(octopus, name)
            if isinstance(value, type):
                self.assertEqual(value.__module__, "diaspora_octopus")

    def test_objects_are_not_pickled(self):
        topic = new_topic()
        for each in (driver(), topic, topic.producer(), reader(topic)):
            name = type(each).__name__
            with self.assertRaisesRegex(TypeError, f"a {name} can't be sent to another process: create one there"):
                pickle.dumps(each)


if __name__ == "__main__":
    unittest.main()
