"""Ctrl+C interrupts every wait at once, and loses no event."""

import signal
import time
import unittest

from .support import TIMEOUT, finish_script, new_topic, reader, start_script

PREPARE = """
    import time
    name = arguments[0]
    nobody = {"bootstrap.servers": "127.0.0.1:1"}
    options = {"connect_timeout_ms": 60000, "exit_flush_ms": 0}
    topic = octopus.Driver({**config, **options}).open_topic(name)
    lost = octopus.Driver({"kafka": nobody, **options})
    consumer = topic.consumer("reader", targets=[0])
    producer = topic.producer(kafka=nobody)
"""

WAITS = {
    "pull": "consumer.pull()",
    "pull with a timeout": "consumer.pull(50)",
    "pull of many": "consumer.pull_many(100, 50)",
    "pull future": "consumer.begin_pull().wait()",
    "iteration": "for event in consumer: pass",
    "push": "producer.push({}).wait()",
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
            functions = consumer._api.consumer
            pull_many = functions.pull_many

            def interrupted(*arguments):
                pull_many(*arguments)
                raise KeyboardInterrupt

            events = []
            for method, arguments in ((consumer.pull, (5,)), (consumer.pull_many, (3, 5))):
                functions.pull_many = interrupted
                try:
                    with self.assertRaises(KeyboardInterrupt):
                        method(*arguments)
                finally:
                    functions.pull_many = pull_many
                taken = [event.offset for event in consumer._returned]
                self.assertEqual(consumer.position(0), taken[0])
                events += consumer.pull_many(3)
                self.assertEqual([event.offset for event in events[-len(taken) :]], taken)
            while len(events) < 19:
                events += consumer.pull_many(5, TIMEOUT)
            self.assertEqual([event.metadata for event in events], list(range(1, 20)))

    def test_seek_drops_the_events_of_an_interrupted_pull(self):
        topic = new_topic(num_partitions=2)
        producer = topic.producer()
        pushes = [producer.push(n, partition=n % 2) for n in range(10)]
        self.assertEqual([push.wait(TIMEOUT).partition for push in pushes], [0, 1] * 5)
        with reader(topic) as consumer:
            events = [consumer.pull(TIMEOUT) for _ in range(10)]
            consumer._returned.extend(events)
            self.assertEqual([(consumer.position(n), consumer.lag(n)) for n in range(2)], [(0, 5)] * 2)
            consumer.seek(0, 4)
            left = [consumer.pull(TIMEOUT) for _ in range(6)]
            self.assertEqual(
                [(event.partition, event.offset) for event in left], [(1, n) for n in range(5)] + [(0, 4)]
            )


if __name__ == "__main__":
    unittest.main()
