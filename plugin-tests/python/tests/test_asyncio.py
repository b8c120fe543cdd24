"""Tasks of asyncio await pushes, flushes and events, and lose none of them."""

import asyncio
import gc
import threading
import time
import unittest
from unittest import mock

import diaspora_octopus as octopus
from diaspora_octopus import _completions

from .support import TIMEOUT, config, new_consumer, new_topic, reader


def run(coroutine):
    """Runs a coroutine on a loop of its own, without the debug mode of `-X dev`, which is slow."""
    loop = asyncio.new_event_loop()
    loop.set_debug(False)
    try:
        return loop.run_until_complete(asyncio.wait_for(coroutine, TIMEOUT))
    finally:
        loop.close()


class Await(unittest.TestCase):
    def setUp(self):
        self.topic = new_topic()
        self.producer = self.topic.producer()

    def tearDown(self):
        pipe = _completions.pipe_of_process
        if pipe is not None:
            self.assertEqual((pipe.waiting, pipe.loops), ({}, {}))

    def test_push_is_awaited(self):
        async def main():
            push = self.producer.push({"n": 0})
            self.assertEqual(await push, octopus.Delivered(0, 0))
            self.assertEqual(await push, octopus.Delivered(0, 0))
            self.assertTrue(push.done())
            pushes = await asyncio.gather(*[self.producer.push(n) for n in range(1, 2000)])
            self.assertEqual([delivered.offset for delivered in pushes], list(range(1, 2000)))
            self.producer.push("flushed")
            self.assertIsNone(await self.producer.begin_flush())

        run(main())

    def test_several_tasks_await_one_push(self):
        async def main():
            push = self.producer.push({})
            self.assertEqual(set(await asyncio.gather(push, push, push)), {octopus.Delivered(0, 0)})

        run(main())

    def test_loop_runs_while_a_push_is_awaited(self):
        async def main():
            push = self.topic.producer(kafka={"linger.ms": 200}).push({})
            ticks = 0
            waiting = asyncio.ensure_future(push._wait_in_task())
            while not waiting.done():
                ticks += 1
                await asyncio.sleep(0.01)
            self.assertGreater(ticks, 1)
            return await waiting

        self.assertEqual(run(main()).offset, 0)

    def test_failed_push_raises_its_error(self):
        own = octopus.Driver(config()).open_topic(self.topic.name)
        producer = own.producer(kafka={"bootstrap.servers": "127.0.0.1:1", "delivery.timeout.ms": 300})

        async def main():
            with self.assertRaises(octopus.Error) as caught:
                await producer.push({})
            self.assertEqual(caught.exception.status, octopus.Status.KAFKA)
            self.assertFalse(isinstance(caught.exception, TimeoutError))

        run(main())

    def test_cancelled_task_leaves_the_push_alone(self):
        async def main():
            push = self.topic.producer(kafka={"linger.ms": 500}).push({})
            with self.assertRaises(asyncio.TimeoutError):
                await asyncio.wait_for(push, 0.05)
            self.assertFalse(push.done())
            self.assertEqual((await push).offset, 0)

        run(main())

    def test_completions_that_find_the_pipe_full_are_noticed(self):
        producer = self.topic.producer(kafka={"linger.ms": 1000})

        async def main():
            pushes = [asyncio.ensure_future(producer.push(n)._wait_in_task()) for n in range(3000)]
            await asyncio.sleep(0)
            producer.flush(TIMEOUT)
            time.sleep(0.2)  # All completions come while the loop does not read.
            return [delivered.offset for delivered in await asyncio.gather(*pushes)]

        with mock.patch.multiple(_completions, pipe_of_process=None, MAX_PIPE_BYTES=4096):
            self.assertEqual(run(main()), list(range(3000)))
            self.assertEqual(_completions.pipe_of_process.capacity, 4096)

    def test_loops_of_several_threads_await(self):
        results = {}

        async def main(name):
            for n in range(50):
                await asyncio.gather(*[self.producer.push({name: n}) for _ in range(20)])
            results[name] = True

        threads = [threading.Thread(target=lambda name=name: run(main(name))) for name in "abcd"]
        for each in threads:
            each.start()
        for each in threads:
            each.join(TIMEOUT)
        self.assertEqual(results, dict.fromkeys("abcd", True))

    def test_loop_that_ends_early_harms_no_other(self):
        loop = asyncio.new_event_loop()
        push = self.topic.producer(kafka={"linger.ms": 300}).push({})
        task = loop.create_task(push._wait_in_task())
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()

        async def main():
            await asyncio.sleep(0.5)
            return await self.producer.push({})

        self.assertEqual(run(main()).partition, 0)
        task._log_destroy_pending = False
        del task
        gc.collect()


class AsyncFor(unittest.TestCase):
    def test_events_are_read(self):
        topic = new_topic()
        topic.producer().push_many([(n,) for n in range(300)])

        async def main():
            with reader(topic) as consumer:
                return [event.metadata async for event in consumer.events(timeout=3)]

        self.assertEqual(run(main()), list(range(300)))

    def test_pull_is_awaited(self):
        topic = new_topic()

        async def main():
            with reader(topic) as consumer:
                first, second = consumer.begin_pull(), consumer.begin_pull()
                waiting = asyncio.gather(first, second)
                await asyncio.sleep(0.1)
                topic.producer().push_many([(1,), (2,)])
                return sorted(event.metadata for event in await waiting)

        self.assertEqual(run(main()), [1, 2])

    def test_cancelled_pulls_lose_no_event(self):
        topic, count = new_topic(), 200
        producer = topic.producer(kafka={"linger.ms": 0})

        async def push():
            for n in range(count):
                producer.push(n)
                await asyncio.sleep(0.003)

        async def main():
            with new_consumer(topic) as consumer:
                pushing, read = asyncio.ensure_future(push()), []
                while len(read) < count:
                    # An event of a task that was cancelled in this moment is not in `read`.
                    iterator = consumer.events(timeout=0.002)
                    read += [event.metadata async for event in iterator]
                    if len(read) % 2:
                        read += [event.metadata for event in consumer.pull_many(3, 0.002)]
                await pushing
                return read

        self.assertEqual(run(main()), list(range(count)))

    def test_event_of_a_cancelled_task_is_the_next_one(self):
        topic = new_topic()
        producer = topic.producer()

        async def main():
            with reader(topic) as consumer:
                for n, pull in enumerate((consumer.pull, lambda timeout: consumer.pull_many(5, timeout)[0])):
                    task = asyncio.ensure_future(consumer.__aiter__().__anext__())
                    await asyncio.sleep(0.1)
                    task.cancel()
                    with self.assertRaises(asyncio.CancelledError):
                        await task
                    self.assertIsNone(consumer.pull(0.1))
                    producer.push(n).wait(TIMEOUT)
                    self.assertEqual(pull(TIMEOUT).metadata, n)
                    self.assertIsNone(consumer._pending)

        run(main())

    def test_pulls_whose_wait_timed_out_lose_no_event(self):
        topic, count = new_topic(), 100
        producer = topic.producer(kafka={"linger.ms": 0})

        async def main():
            read = []
            with reader(topic) as consumer:
                for _ in range(3):
                    with self.assertRaises(asyncio.TimeoutError):
                        await asyncio.wait_for(consumer.begin_pull(), 0.1)
                for n in range(count):
                    producer.push(n).wait(TIMEOUT)
                    try:
                        read.append((await asyncio.wait_for(consumer.begin_pull(), 0.002)).metadata)
                    except asyncio.TimeoutError:
                        pass
                while len(read) < count:
                    if len(read) % 2:
                        read.append(consumer.pull(TIMEOUT).metadata)
                    else:
                        read.append((await asyncio.wait_for(consumer.begin_pull(), TIMEOUT)).metadata)
                self.assertIsNone(consumer.pull(0.1))
            return read

        self.assertEqual(run(main()), list(range(count)))

    def test_cancelled_pull_is_awaited_again(self):
        topic = new_topic()
        producer = topic.producer()

        async def main():
            with reader(topic) as consumer:
                pull = consumer.begin_pull()
                for n in range(2):
                    with self.assertRaises(asyncio.TimeoutError):
                        await asyncio.wait_for(pull, 0.05)
                    producer.push(n).wait(TIMEOUT)
                    if n == 0:
                        self.assertEqual(consumer.pull(TIMEOUT).metadata, 0)
                self.assertEqual((await pull).metadata, 1)
                self.assertIsNone(consumer._pending)

        run(main())

    def test_position_and_seek_know_cancelled_pulls(self):
        topic = new_topic()
        producer = topic.producer()

        async def main():
            with reader(topic) as consumer:
                self.assertEqual([event async for event in consumer.events(timeout=0.05)], [])
                producer.push_many([(n,) for n in range(5)])
                producer.flush(TIMEOUT)
                while not consumer._settle_pending_pull():
                    await asyncio.sleep(0.01)
                self.assertEqual(consumer.position(0), 0)
                consumer.seek(0, 3)
                return [(await consumer.__aiter__().__anext__()).metadata for _ in range(2)]

        self.assertEqual(run(main()), [3, 4])

    def test_loop_ends_when_the_consumer_is_closed(self):
        topic = new_topic()

        async def main():
            consumer = reader(topic)
            asyncio.get_running_loop().call_later(0.2, consumer.close)
            return [event async for event in consumer]

        self.assertEqual(run(main()), [])

    def test_persistent_error_is_no_busy_loop(self):
        own = octopus.Driver(config(connect_timeout_ms=500))
        consumer = reader(own.open_topic(new_topic().name), kafka={"bootstrap.servers": "127.0.0.1:1"})

        async def main():
            errors, end = 0, time.monotonic() + 3
            while time.monotonic() < end:
                try:
                    async for _ in consumer.events(timeout=end - time.monotonic()):
                        self.fail("there is no event")
                except octopus.Error as error:
                    self.assertEqual(error.status, octopus.Status.UNREACHABLE)
                    errors += 1
            return errors

        self.assertIn(run(main()), range(1, 8))


if __name__ == "__main__":
    unittest.main()
