"""Ctrl+C interrupts every wait at once, and loses no event."""

import gc
import itertools
import os
import random
import signal
import sys
import time
import unittest
from unittest import mock

import diaspora_octopus as octopus
from diaspora_octopus._owner import finished_despite_ctrl_c

from .support import TIMEOUT, finish_script, interrupted_after, new_topic, reader, start_script

PREPARE = """
    import time
    name = arguments[0]
    nobody = {"bootstrap.servers": "127.0.0.1:1"}
    options = {"connect_timeout_ms": 60000, "exit_flush_ms": 0}
    topic = octopus.Driver({**config, **options}).open_topic(name)
    lost = octopus.Driver({"kafka": nobody, **options})
    consumer = topic.consumer("reader", targets=[0])
    producer = topic.producer(kafka=nobody)
    full = topic.producer(kafka={**nobody, "queue.buffering.max.messages": 1})
"""

WAITS = {
    "pull": "consumer.pull()",
    "pull with a timeout": "consumer.pull(50)",
    "pull of many": "consumer.pull_many(100, 50)",
    "pull future": "consumer.begin_pull().wait()",
    "iteration": "for event in consumer: pass",
    "push": "producer.push({}).wait()",
    "push at the in-flight limit": "for number in range(2): full.push(number)",
    "push of many at the in-flight limit": "full.push_many([({},)] * 3)",
    "flush": "producer.push({}); producer.flush(50)",
    "close": "producer.push({}); producer.close()",
    "open topic": "lost.open_topic('any')",
    "list topics": "lost.list_topics()",
    "await": "import asyncio; asyncio.run(consumer.begin_pull()._wait_in_task())",
    "with": "with producer: producer.push({}); time.sleep(50)",
}


class Interrupt(unittest.TestCase):
    def interrupt(self, wait, after=""):
        """Runs a wait in a script, and interrupts it. Returns the script's end, and how long it took
        from the signal to the end, in seconds."""
        source = f"{PREPARE}\n    print('ready', flush=True)\n    {wait}\n{after}"
        process = start_script(source, new_topic().name)
        self.assertEqual(process.stdout.readline(), "ready\n", process)
        time.sleep(0.3)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        result = finish_script(process)
        return result, time.monotonic() - began

    def test_wait_is_interrupted_at_once(self):
        for name, wait in WAITS.items():
            with self.subTest(name):
                (status, output, errors), seconds = self.interrupt(wait)
                self.assertEqual((status, output), (-signal.SIGINT, ""), errors)
                self.assertTrue(errors.rstrip().endswith("KeyboardInterrupt"), errors)
                self.assertLess(seconds, 1.5)

    def test_program_goes_on_after_an_interrupt(self):
        source = f"""{PREPARE}
    print('ready', flush=True)
    try:
        consumer.pull()
    except KeyboardInterrupt:
        topic.producer().push("next").wait(30)
        print(consumer.pull(30).metadata)
    """
        process = start_script(source, new_topic().name)
        self.assertEqual(process.stdout.readline(), "ready\n")
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        self.assertEqual(finish_script(process)[:2], (0, "next\n"))

    def test_event_of_an_interrupted_pull_is_the_next_one(self):
        topic = new_topic()
        topic.producer().push_many([(n,) for n in range(20)])
        with reader(topic) as consumer:
            self.assertEqual(consumer.pull(TIMEOUT).metadata, 0)
            events = []
            for method, arguments in ((consumer.pull, (5,)), (consumer.pull_many, (3, 5))):
                with interrupted_after(consumer._api.consumer, "pull_many"), self.assertRaises(KeyboardInterrupt):
                    method(*arguments)
                taken = [event.offset for event in consumer._ready]
                self.assertEqual(consumer.position(0), taken[0])
                events += consumer.pull_many(3)
                self.assertEqual([event.offset for event in events[-len(taken) :]], taken)
            while len(events) < 19:
                events += consumer.pull_many(5, TIMEOUT)
            self.assertEqual([event.metadata for event in events], list(range(1, 20)))

    def test_interrupts_at_any_moment_lose_no_event(self):
        topic, count = new_topic(), 20000
        topic.producer().push_many([(n,) for n in range(count)])
        package, read, interrupts = os.path.dirname(octopus.__file__), [], 0

        def interrupt(_, frame):
            # Events that a call has returned are the caller's.
            while frame is not None:
                if frame.f_code.co_filename.startswith(package):
                    raise KeyboardInterrupt
                frame = frame.f_back

        # SIGINT, too: the destructor of an object that SIGALRM interrupted sends it, 10 ms later.
        previous = {number: signal.signal(number, interrupt) for number in (signal.SIGALRM, signal.SIGINT)}
        try:
            with reader(topic) as consumer:
                read.append(consumer.pull(TIMEOUT))
                rounds = (
                    lambda: read.extend(consumer.pull_many(50, TIMEOUT)),
                    lambda: read.append(consumer.pull(TIMEOUT)),
                    lambda: read.append(next(iter(consumer))),
                    lambda: read.append(consumer.begin_pull().wait(TIMEOUT)),
                )
                for n in itertools.count():
                    if len(read) >= count - 50:
                        break
                    signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, 150e-6))
                    try:
                        rounds[n % len(rounds)]()
                    except KeyboardInterrupt:
                        interrupts += 1
                    finally:
                        signal.setitimer(signal.ITIMER_REAL, 0)
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
        self.assertGreater(interrupts, 20)
        self.assertEqual([event.offset for event in read], list(range(len(read))))

    def test_interrupt_in_a_destructor_is_raised(self):
        interrupts = []

        class Interrupted:
            @finished_despite_ctrl_c
            def __del__(self):
                interrupts.append(self)
                if len(interrupts) == 1:
                    raise KeyboardInterrupt

        with self.assertRaises(KeyboardInterrupt):
            Interrupted()
            time.sleep(TIMEOUT)
        self.assertEqual(len(interrupts), 2)

    def test_object_without_its_initialization_ends_quietly(self):
        with mock.patch.object(sys, "unraisablehook") as hook:
            for kind in (octopus.Event, octopus.Flush, octopus.Pull, octopus.Push, octopus.Producer):
                kind.__new__(kind)
            gc.collect()
        self.assertEqual(hook.call_args_list, [])

    def test_seek_drops_the_events_of_an_interrupted_pull(self):
        topic = new_topic(num_partitions=2)
        producer = topic.producer()
        pushes = [producer.push(n, partition=n % 2) for n in range(10)]
        self.assertEqual([push.wait(TIMEOUT).partition for push in pushes], [0, 1] * 5)
        with reader(topic) as consumer:
            events = [consumer.pull(TIMEOUT) for _ in range(10)]
            consumer._ready.extend(events)
            self.assertEqual([(consumer.position(n), consumer.lag(n)) for n in range(2)], [(0, 5)] * 2)
            consumer.seek(0, 4)
            left = [consumer.pull(TIMEOUT) for _ in range(6)]
            self.assertEqual(
                [(event.partition, event.offset) for event in left], [(1, n) for n in range(5)] + [(0, 4)]
            )


if __name__ == "__main__":
    unittest.main()
