"""Tests of ordinary scripts that use the Diaspora API's Python module: they push and exit, or fork
workers, and all events that they pushed are delivered.

    python3 scripts.py LIBRARY BOOTSTRAP-SERVERS
"""

import multiprocessing
import subprocess
import sys
import time
import unittest

from diaspora_stream.api import Driver

TIMEOUT_MS = 60_000
EVENTS = 1000
# As large as the messages of the workflow in plugin-tests/hosts/workflow.c.
MESSAGE = {"text": "m" * 37 * 1024}


def make_driver():
    return Driver(backend=f"octopus:{LIBRARY}", options={"kafka": {"bootstrap.servers": SERVERS}})


def push_and_end(topic):
    """Pushes like a script that waits for, flushes and closes nothing."""
    producer = make_driver().open_topic(topic).producer("script")
    for number in range(EVENTS):
        producer.push({"number": number})


def push_in_worker(topic):
    """Pushes like a forked worker, which ends by _exit. Releasing the producer waits for the deliveries."""
    producer = make_driver().open_topic(topic).producer("worker")
    for number in range(EVENTS):
        producer.push({"number": number})


def serve(prefix, tasks):
    driver = make_driver()
    requests = driver.open_topic(f"{prefix}-requests").consumer(f"{prefix}-server")
    results = driver.open_topic(f"{prefix}-results").producer("server")
    for _ in range(tasks):
        event = pull(requests)
        event.acknowledge()
        results.push(event.metadata).wait(timeout_ms=TIMEOUT_MS)
        results.flush().wait(timeout_ms=TIMEOUT_MS)


def pull(consumer):
    for _ in range(TIMEOUT_MS // 1000):
        event = consumer.pull().wait(timeout_ms=1000)
        if event is not None:
            return event
    raise TimeoutError(f"no event arrived within {TIMEOUT_MS} ms")


class Scripts(unittest.TestCase):
    def setUp(self):
        self.name = f"scripts-{self._testMethodName}-{time.time_ns()}"

    def create(self, driver, name):
        driver.create_topic(name, options={"replication_factor": 1})

    def check_events(self, count):
        consumer = make_driver().open_topic(self.name).consumer(f"reader-{self.name}")
        for _ in range(count):
            self.assertIn("number", pull(consumer).metadata)
        self.assertIsNone(consumer.pull().wait(timeout_ms=500))

    def test_script_that_pushes_and_ends_loses_nothing(self):
        self.create(make_driver(), self.name)
        script = [sys.executable, __file__, LIBRARY, SERVERS, "push_and_end", self.name]
        ended = subprocess.run(script, capture_output=True, timeout=60, check=True)
        self.assertNotIn(b"process exit", ended.stderr)
        self.check_events(EVENTS)

    def test_forked_workers_push_while_parent_handles_are_open(self):
        driver = make_driver()
        self.create(driver, self.name)
        topic = driver.open_topic(self.name)
        producer, consumer = topic.producer("parent"), topic.consumer(f"parent-{self.name}")
        self.assertIsNotNone(producer.push({"number": 0}).wait(timeout_ms=TIMEOUT_MS))
        self.assertIsNotNone(pull(consumer))
        context = multiprocessing.get_context("fork")
        workers = [context.Process(target=push_in_worker, args=(self.name,)) for _ in range(3)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60)
            self.assertEqual(worker.exitcode, 0)
        self.check_events(3 * EVENTS + 1)

    def test_forked_server_responds_to_all_requests(self):
        tasks, driver = 10, make_driver()
        for queue in ["requests", "results"]:
            self.create(driver, f"{self.name}-{queue}")
        results = driver.open_topic(f"{self.name}-results").consumer(f"{self.name}-thinker")
        server = multiprocessing.get_context("fork").Process(target=serve, args=(self.name, tasks))
        server.start()
        requests = driver.open_topic(f"{self.name}-requests").producer("thinker")
        for _ in range(tasks):
            requests.push(MESSAGE).wait(timeout_ms=TIMEOUT_MS)
            requests.flush().wait(timeout_ms=TIMEOUT_MS)
        for _ in range(tasks):
            self.assertEqual(pull(results).metadata["text"], MESSAGE["text"])
        server.join(60)
        self.assertEqual(server.exitcode, 0)


if __name__ == "__main__":
    LIBRARY, SERVERS, *rest = sys.argv[1:]
    if rest:
        globals()[rest[0]](*rest[1:])
    else:
        unittest.main(argv=sys.argv[:1], verbosity=2)
