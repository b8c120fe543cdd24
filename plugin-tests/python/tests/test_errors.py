"""Failures are errors with a status; waits report them although they consist of short calls."""

import asyncio
import pickle
import time
import unittest
from ctypes import c_void_p

import diaspora_octopus as octopus
from diaspora_octopus import Persisted, Status
from diaspora_octopus._calls import wait_in_slices

from .support import IS_REAL_KAFKA, TIMEOUT, config, driver, interrupted_after, new_name, new_topic, reader

NOBODY = {"bootstrap.servers": "127.0.0.1:1"}
"""Nothing listens there."""


async def await_pull(consumer):
    return await asyncio.wait_for(consumer.begin_pull(), TIMEOUT)


PULLS = {
    "pull": lambda consumer: consumer.pull(TIMEOUT),
    "pull_many": lambda consumer: consumer.pull_many(5, TIMEOUT)[0],
    "wait": lambda consumer: consumer.begin_pull().wait(TIMEOUT),
    "await": lambda consumer: asyncio.run(await_pull(consumer)),
}


class Errors(unittest.TestCase):
    def assert_fails(self, status, function, *arguments, **options):
        with self.assertRaises(octopus.Error) as caught:
            function(*arguments, **options)
        self.assertEqual(caught.exception.status, status, caught.exception)
        return caught.exception

    def unreachable_driver(self):
        return octopus.Driver({"kafka": NOBODY, "connect_timeout_ms": 1000, "exit_flush_ms": 0})

    def unreachable_topic(self):
        """A topic whose producers and consumers reach no broker."""
        return octopus.Driver(config(connect_timeout_ms=1000, exit_flush_ms=0)).open_topic(new_topic().name)

    def test_error_has_the_fields_of_the_library(self):
        error = self.assert_fails(
            Status.INVALID_CONFIGURATION, octopus.Driver, {"kafka": {**NOBODY, "linger.mss": 1}}
        )
        self.assertIn("linger.mss", str(error))
        self.assertEqual((error.retriable, error.persisted, error.skipped), (False, Persisted.NO, None))
        error = self.assert_fails(Status.INVALID_ARGUMENT, driver().create_topic, "a name with blanks")
        self.assertIn("a name with blanks", error.message)
        self.assert_fails(Status.INVALID_ARGUMENT, new_topic().consumer, "")
        self.assert_fails(Status.INVALID_CONFIGURATION, octopus.Driver, "not JSON")

    def test_error_is_sent_between_processes(self):
        skipped = octopus.SkippedOffsets(3, 5, 8)
        error = octopus.Error(Status.DAMAGED_DATA, "words", 5, True, Persisted.POSSIBLY, skipped)
        for each in (error, octopus.TimedOut(Status.TIMED_OUT, "late")):
            copy = pickle.loads(pickle.dumps(each))
            self.assertEqual((type(copy), vars(copy), str(copy)), (type(each), vars(each), str(each)))

    def test_unknown_topic_is_an_error(self):
        own = octopus.Driver(config(open_retry_ms=0))
        self.assert_fails(Status.UNKNOWN_TOPIC, own.open_topic, new_name())

    def test_closed_objects_are_errors(self):
        topic = new_topic()
        producer, consumer = topic.producer(), reader(topic)
        for each in (producer, consumer):
            each.close(TIMEOUT)
            each.close(TIMEOUT)
        self.assert_fails(Status.CLOSED, producer.push, {})
        self.assert_fails(Status.CLOSED, producer.flush)
        self.assert_fails(Status.CLOSED, consumer.pull, 1)
        self.assertEqual(list(consumer), [])
        topic.close()
        self.assert_fails(Status.CLOSED, topic.producer)
        own = octopus.Driver(config())
        own.close()
        self.assert_fails(Status.CLOSED, own.describe)

    def test_timeout_is_an_error_of_python_too(self):
        topic = self.unreachable_topic()
        push = topic.producer(kafka=NOBODY).push({})
        with self.assertRaises(TimeoutError) as caught:
            push.wait(0.25)
        self.assertIsInstance(caught.exception, octopus.TimedOut)
        self.assertEqual(caught.exception.status, Status.TIMED_OUT)
        self.assertFalse(push.done())

    def test_unreachable_brokers_are_reported_to_waits(self):
        topic = self.unreachable_topic()
        producer, consumer = topic.producer(kafka=NOBODY), reader(topic, kafka=NOBODY)
        push = producer.push({})
        for wait in (push.wait, producer.flush, consumer.pull):
            for timeout in (None, 30, 1.5):
                with self.subTest(wait=wait, timeout=timeout):
                    began = time.monotonic()
                    error = self.assert_fails(Status.UNREACHABLE, wait, timeout)
                    self.assertLess(time.monotonic() - began, 5)
                    self.assertTrue(error.retriable)
                    self.assertIn("127.0.0.1:1", str(error))
        self.assert_fails(Status.UNREACHABLE, producer.close)
        # A new consumer tries for some seconds to leave its group.
        with self.assertRaises(octopus.TimedOut):
            reader(topic, kafka=NOBODY).close(0.5)

    def test_unreachable_brokers_are_reported_to_calls(self):
        own = self.unreachable_driver()
        for function in (own.create_topic, own.open_topic, own.topic_exists):
            self.assert_fails(Status.UNREACHABLE, function, "any")
        self.assert_fails(Status.UNREACHABLE, own.list_topics)

    @unittest.skipUnless(IS_REAL_KAFKA, "the embedded Kafka can't empty topics")
    def test_lost_records_are_reported_with_their_offsets(self):
        topic, names = new_topic(), {pull: new_name("reader") for pull in PULLS}
        producer = topic.producer()
        producer.push_many([(n,) for n in range(10)])
        producer.flush(TIMEOUT)
        for name in names.values():
            with topic.consumer(name, targets=[0]) as consumer:
                consumer.pull(TIMEOUT).acknowledge()
        driver().empty_topic(topic.name)
        producer.push("after the loss")
        for pull in PULLS:
            with self.subTest(pull), topic.consumer(names[pull], targets=[0]) as consumer:
                error = self.assert_fails(Status.RECORDS_LOST, PULLS[pull], consumer)
                self.assertEqual(error.skipped, octopus.SkippedOffsets(partition=0, first=1, last=9))
                self.assertEqual(PULLS[pull](consumer).metadata, "after the loss")

    @unittest.skipUnless(IS_REAL_KAFKA, "the embedded Kafka can't empty topics")
    def test_error_of_an_interrupted_pull_is_the_next_one(self):
        topic, name = new_topic(), new_name("reader")
        producer = topic.producer()
        producer.push_many([(n,) for n in range(10)])
        producer.flush(TIMEOUT)
        with topic.consumer(name, targets=[0]) as consumer:
            consumer.pull(TIMEOUT).acknowledge()
        driver().empty_topic(topic.name)
        with topic.consumer(name, targets=[0]) as consumer:
            with interrupted_after(consumer._api.consumer, "pull_many"), self.assertRaises(KeyboardInterrupt):
                consumer.pull(TIMEOUT)
            self.assertEqual(len(consumer._failures), 1)
            self.assert_fails(Status.RECORDS_LOST, consumer.pull, TIMEOUT)
            producer.push("after the loss")
            self.assertEqual(consumer.pull(TIMEOUT).metadata, "after the loss")

    def test_wrong_arguments_are_errors_of_python(self):
        topic = new_topic()
        producer, consumer = topic.producer(), reader(topic)
        for error, function, arguments in (
            (ValueError, producer.push, ({}, b"", -1)),
            (ValueError, consumer.pull, (float("nan"),)),
            (ValueError, consumer.pull_many, (-1,)),
            (TypeError, producer.push, ()),
            (TypeError, topic.consumer, ()),
        ):
            with self.assertRaises(error):
                function(*arguments)
        self.assertIsNone(consumer.pull(-5))
        self.assertIsNone(consumer.pull(0))


class Slices(unittest.TestCase):
    """A wait that consists of short calls has the result of a long one."""

    def setUp(self):
        self.api = octopus.Library().api

    def wait(self, outcomes, timeout, delay=True):
        """Waits by calls that have these statuses, the last one repeatedly. Returns the status, how
        many calls there were, and how long it took."""
        calls, began = [], time.monotonic()

        def attempt(limit):
            calls.append(limit)
            status = outcomes[min(len(calls), len(outcomes)) - 1]
            if delay:
                time.sleep(limit / 1000)
            return status

        status = wait_in_slices(self.api, attempt, c_void_p(), timeout)
        return status, len(calls), time.monotonic() - began

    def test_persistent_error_is_raised_at_the_deadline(self):
        for status in (Status.UNKNOWN_TOPIC, Status.TOO_LARGE, Status.KAFKA, Status.RESOURCE_LIMIT, Status.UNREACHABLE):
            with self.subTest(status):
                result, _, seconds = self.wait([status], 0.5)
                self.assertEqual(result, status)
                self.assertGreaterEqual(seconds, 0.5)

    def test_fault_that_ends_in_time_is_no_error(self):
        for status in (Status.UNREACHABLE, Status.UNKNOWN_TOPIC):
            self.assertEqual(self.wait([status, Status.TIMED_OUT, Status.OK], 5)[:2], (Status.OK, 3))

    def test_other_errors_are_raised_at_once(self):
        for status in (Status.RECORDS_LOST, Status.MALFORMED_RECORD, Status.CLOSED, Status.FORKED, Status.PANICKED):
            self.assertEqual(self.wait([status], 5)[:2], (status, 1))
        # The library reports a fatal error before the deadline of the call.
        self.assertEqual(self.wait([Status.KAFKA], 5, delay=False)[:2], (Status.KAFKA, 1))

    def test_wait_without_a_limit_raises_a_persistent_error(self):
        self.assertEqual(self.wait([Status.UNKNOWN_TOPIC], None)[:2], (Status.UNKNOWN_TOPIC, 1))
        self.assertEqual(self.wait([Status.UNREACHABLE], None)[:2], (Status.UNREACHABLE, 2))


class Closing(unittest.TestCase):
    def test_second_close_waits_for_the_events_in_flight(self):
        own = octopus.Driver(config(exit_flush_ms=0)).open_topic(new_topic().name)
        kafka = {"bootstrap.servers": "127.0.0.1:1", "delivery.timeout.ms": 1500}
        producer = own.producer(kafka=kafka)
        producer.push({})
        for _ in range(2):
            with self.assertRaises(octopus.TimedOut):
                producer.close(0.05)
        with self.assertRaisesRegex(octopus.Error, "1 of the events") as caught:
            producer.close(30)
        self.assertEqual(caught.exception.status, Status.KAFKA)
        producer.close(0)

    def test_second_close_of_a_consumer_waits_until_it_has_left(self):
        topic = octopus.Driver(config(exit_flush_ms=0)).open_topic(new_topic().name)
        consumer = reader(topic, kafka=NOBODY)
        for _ in range(2):
            with self.assertRaises(octopus.TimedOut):
                consumer.close(0.05)
        began = time.monotonic()
        consumer.close(30)
        self.assertGreater(time.monotonic() - began, 0.5)
        consumer.close(0)


class Loading(unittest.TestCase):
    def test_library_has_a_version(self):
        library = octopus.Library(octopus.Library().path)
        self.assertRegex(library.version, r"^\d+\.\d+\.\d+")
        self.assertRegex(library.librdkafka_version, r"^2\.")
        self.assertIn("zstd", library.built_in)
        self.assertEqual(octopus.Driver(config(), library).library, library)

    def test_library_that_is_missing_is_named(self):
        for path in ("/no/such/liboctopus.so", "no-such-octopus.so"):
            with self.assertRaisesRegex(OSError, path):
                octopus.Library(path)

    def test_library_that_is_not_octopus_is_named(self):
        with self.assertRaisesRegex(OSError, "octopus_register"):
            octopus.Library("libc.so.6")


if __name__ == "__main__":
    unittest.main()
