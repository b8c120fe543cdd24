"""Each event is delivered once, in order, whatever happens to the pulls that took it."""

import asyncio
import threading
import time
import unittest
from unittest import mock

import diaspora_octopus as octopus
from diaspora_octopus import Status, _completions
from diaspora_octopus._pull_result import PullResult, place

from .support import TIMEOUT, new_topic, reader


class Pulls(unittest.TestCase):
    def setUp(self):
        self.topic = new_topic()
        self.producer = self.topic.producer(kafka={"linger.ms": 0})
        self.consumer = reader(self.topic)
        self.addCleanup(self.consumer.close, TIMEOUT)

    def push(self, count):
        self.producer.push_many([(n,) for n in range(count)])
        self.producer.flush(TIMEOUT)

    def is_settled(self):
        """Whether the pull of the library has taken an event."""
        return PullResult(self.consumer, 1).is_settled(self.consumer._pending)

    async def cancel_a_pull(self):
        """Leaves a pull of the library that takes the next event."""
        with self.assertRaises(asyncio.TimeoutError):
            await asyncio.wait_for(self.consumer.begin_pull(), 0.1)

    def test_event_is_delivered_once_by_a_pull(self):
        self.push(2)
        pull = self.consumer.begin_pull()
        event = pull.wait(TIMEOUT)
        self.assertTrue(pull.done())
        self.assertIs(pull.wait(), event)
        self.assertIs(asyncio.run(pull._wait_in_task()), event)
        del pull
        self.assertEqual(self.consumer.pull(TIMEOUT).metadata, 1)

    def test_event_of_a_dropped_pull_is_the_next_one(self):
        self.push(3)
        pulls = [self.consumer.begin_pull() for _ in range(2)]
        for pull in pulls:
            while not pull.done():
                time.sleep(0.01)
        del pull
        pulls.reverse()
        pulls.clear()
        self.assertEqual(self.consumer.position(0), 0)
        self.assertEqual([self.consumer.pull(TIMEOUT).metadata for _ in range(3)], [0, 1, 2])

    def test_pulls_that_timed_out_keep_the_order(self):
        async def wait(seconds):
            with self.assertRaises(asyncio.TimeoutError):
                await asyncio.wait_for(self.consumer.begin_pull(), seconds)

        async def main():
            await asyncio.gather(wait(0.4), wait(0.2))
            self.push(4)
            events = [event async for event in self.consumer.events(timeout=2)]
            return [event.offset for event in events]

        self.assertEqual(asyncio.run(main()), [0, 1, 2, 3])

    def test_tasks_that_await_one_pull_get_its_event(self):
        async def main():
            pull = self.consumer.begin_pull()
            tasks = [asyncio.ensure_future(pull._wait_in_task()) for _ in range(3)]
            await asyncio.sleep(0.1)
            tasks[0].cancel()
            await asyncio.sleep(0.1)
            self.push(2)
            events = await asyncio.wait_for(asyncio.gather(*tasks[1:]), TIMEOUT)
            self.assertIs(events[0], events[1])
            self.assertEqual((await self.consumer.begin_pull()).offset, events[0].offset + 1)

        asyncio.run(main())

    def test_task_gets_the_event_of_a_dropped_pull(self):
        async def main():
            self.push(1)
            pull = self.consumer.begin_pull()
            while not pull.done():
                await asyncio.sleep(0.01)
            task = asyncio.ensure_future(self.consumer.begin_pull()._wait_in_task())
            await asyncio.sleep(0.1)
            del pull
            return (await asyncio.wait_for(task, 2)).offset

        self.assertEqual(asyncio.run(main()), 0)

    def test_threads_and_tasks_share_a_consumer(self):
        count, read, lock = 2000, [], threading.Lock()

        def iterate():
            for event in self.consumer:
                with lock:
                    read.append(event.offset)

        async def main():
            end = time.monotonic() + TIMEOUT
            while len(read) < count and time.monotonic() < end:
                async for event in self.consumer.events(timeout=0.003):
                    with lock:
                        read.append(event.offset)

        threads = [threading.Thread(target=iterate) for _ in range(2)]
        threads += [threading.Thread(target=lambda: asyncio.run(main())) for _ in range(2)]
        for each in threads:
            each.start()
        while not self.consumer.assignment():
            time.sleep(0.01)
        for n in range(count):
            self.producer.push(n)
            if n % 20 == 0:
                self.consumer.position(0)
        for each in threads[2:]:
            each.join(TIMEOUT)
        self.consumer.close(TIMEOUT)
        for each in threads:
            each.join(TIMEOUT)
        self.assertEqual(sorted(read), list(range(count)))

    def test_closed_consumer_drops_the_events_of_its_pulls(self):
        for end in ("close", "unsubscribe"):
            with self.subTest(end):
                self.consumer = reader(self.topic)

                async def main():
                    await self.cancel_a_pull()
                    self.push(2)
                    while not self.is_settled():
                        await asyncio.sleep(0.01)

                asyncio.run(main())
                getattr(self.consumer, end)()
                for pull in (self.consumer.pull, self.consumer.begin_pull().wait):
                    with self.assertRaises(octopus.Error) as caught:
                        pull(1)
                    self.assertEqual(caught.exception.status, Status.CLOSED)
                self.assertEqual(list(self.consumer), [])
                self.topic = new_topic()
                self.producer = self.topic.producer()

    def test_seek_drops_the_event_of_a_pending_pull(self):
        async def main():
            self.push(1)
            self.assertEqual((await self.consumer.begin_pull()).offset, 0)
            await self.cancel_a_pull()

        asyncio.run(main())
        seek, seeks = self.consumer._api.consumer.seek, []

        def take_meanwhile(*arguments):
            if not seeks:
                self.push(4)
                while not self.is_settled():
                    time.sleep(0.01)
            seeks.append(arguments)
            return seek(*arguments)

        with mock.patch.object(self.consumer._api.consumer, "seek", take_meanwhile):
            self.consumer.seek(0, 3)
        self.assertEqual([self.consumer.pull(TIMEOUT).offset for _ in range(2)], [3, 4])

    def test_position_is_known_while_threads_pull(self):
        self.push(300)
        failures, is_over = [], threading.Event()

        def ask():
            try:
                while not is_over.is_set():
                    self.consumer._first_ready(0)
            except BaseException as error:
                failures.append(error)

        self.consumer._ready.extend(self.consumer.pull(TIMEOUT) for _ in range(300))
        threads = [threading.Thread(target=ask) for _ in range(3)]
        for each in threads:
            each.start()
        offsets = [self.consumer.pull(TIMEOUT).offset for _ in range(300)]
        is_over.set()
        for each in threads:
            each.join(TIMEOUT)
        self.assertEqual((offsets, failures), (list(range(300)), []))

    def test_mark_at_the_end_of_a_topic_is_the_last_event(self):
        end = mock.Mock()
        end._content.return_value = mock.Mock(partition=0, id=2**64 - 1)
        self.push(2)
        events = [self.consumer.pull(TIMEOUT) for _ in range(2)]
        self.assertEqual(sorted([end, *reversed(events)], key=place), [*events, end])

    def test_pull_of_no_events_does_not_wait(self):
        asyncio.run(self.cancel_a_pull())
        began = time.monotonic()
        self.assertEqual(self.consumer.pull_many(0), [])
        self.assertLess(time.monotonic() - began, 1)

    def test_future_that_fails_its_test_wakes_its_task(self):
        async def main():
            push = self.topic.producer(kafka={"linger.ms": 300}).push({})
            calls = []

            def fail():
                calls.append(1)
                if len(calls) > 1:
                    raise octopus.Error(Status.PANICKED, "a test")

            pipe = _completions.completion_pipe()
            pipe.register(push._api, push)
            await asyncio.wait_for(pipe.wait(push, fail), TIMEOUT)
            return len(calls)

        self.assertEqual(asyncio.run(main()), 2)


if __name__ == "__main__":
    unittest.main()
