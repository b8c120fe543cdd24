"""The end of a program by Ctrl+C delivers what was pushed, and each end reports what failed."""

import re
import signal
import time
import unittest

from .support import count_events, finish_script, new_topic, run_script, start_script

EVENTS = 1000
NOBODY = {"bootstrap.servers": "127.0.0.1:1"}
PREPARE = """
    import time
    driver = octopus.Driver({**config, "exit_flush_ms": int(arguments[1])})
    topic = driver.open_topic(arguments[0])
"""
SLEEP = "print('ready', flush=True); time.sleep(60)"
PUSH = f"producer.push_many([({{'n': n}},) for n in range({EVENTS})])"


class Interrupted(unittest.TestCase):
    def interrupt(self, source, exit_flush_ms=5000):
        """Sends Ctrl+C to a script that sleeps. Returns its topic, its error output, and how long
        it took to end, in seconds."""
        topic = new_topic().name
        process = start_script(f"{PREPARE}\n    {source}", topic, exit_flush_ms)
        self.assertEqual(process.stdout.readline(), "ready\n", process)
        time.sleep(0.2)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        status, _, errors = finish_script(process)
        self.assertEqual(status, -signal.SIGINT, errors)
        self.assertIn("KeyboardInterrupt", errors)
        return topic, errors, time.monotonic() - began

    def test_unhandled_ctrl_c_loses_no_event(self):
        linger = "producer = topic.producer('slow', kafka={'linger.ms': 5000})"
        for source in (
            f"producer = topic.producer(); {PUSH}; {SLEEP}",
            f"{linger}; {PUSH}; {SLEEP}",
            f"{linger}; {PUSH}; del producer, topic, driver; {SLEEP}",
            f"{linger}\n    with producer: {PUSH}; {SLEEP}",
            f"{linger}; {PUSH}; producer.begin_flush(); {SLEEP}",
        ):
            with self.subTest(source):
                topic, errors, seconds = self.interrupt(source)
                self.assertNotIn("octopus:error", errors)
                self.assertLess(seconds, 3)
                self.assertEqual(count_events(topic, EVENTS), EVENTS)

    def test_exit_reports_what_no_broker_accepted(self):
        producer = f"producer = topic.producer('detector', kafka={NOBODY})"
        for source in (
            f"{producer}; {PUSH}; {SLEEP}",
            f"{producer}; {PUSH}; del producer; {SLEEP}",
            f"{producer}\n    with producer: {PUSH}; {SLEEP}",
        ):
            with self.subTest(source):
                _, errors, seconds = self.interrupt(source, exit_flush_ms=1000)
                line = r"process exit: events were not delivered: producer 'detector' of topic '\S+', within"
                self.assertEqual(len(re.findall(line, errors)), 1, errors)
                self.assertIn("exit_flush_ms (1000)", errors)
                self.assertTrue(0.9 < seconds < 3, seconds)

    def test_second_ctrl_c_ends_the_wait(self):
        source = f"{PREPARE}\n    producer = topic.producer(kafka={NOBODY}); {PUSH}; {SLEEP}"
        process = start_script(source, new_topic().name, 30000)
        self.assertEqual(process.stdout.readline(), "ready\n")
        for _ in range(2):
            time.sleep(0.5)
            process.send_signal(signal.SIGINT)
        began = time.monotonic()
        status, _, errors = finish_script(process)
        self.assertEqual(status, -signal.SIGINT)
        self.assertIn("Ctrl+C ended the wait", errors)
        self.assertLess(time.monotonic() - began, 2)


class Failures(unittest.TestCase):
    FAIL = """
    kafka = {"bootstrap.servers": "127.0.0.1:1", "delivery.timeout.ms": 300}
    producer = topic.producer("detector", kafka=kafka)
    pushes = [producer.push(n) for n in range(3)]
    """
    WAIT = "time.sleep(1.5)"
    CATCH = """
    for call in calls:
        try:
            call()
            raise SystemExit("no failure")
        except octopus.Error: pass"""

    def errors_of(self, end):
        status, _, errors = run_script(PREPARE + self.FAIL + end, new_topic().name, 1000)
        self.assertEqual(status, 0, errors)
        return [line for line in errors.splitlines() if line.startswith("[octopus:error] process exit")]

    def test_failures_that_nobody_saw_are_reported(self):
        for end in (self.WAIT, f"del producer; {self.WAIT}", f"producer.begin_flush(); {self.WAIT}"):
            with self.subTest(end):
                lines = self.errors_of(end)
                self.assertEqual(len(lines), 1, lines)
                self.assertRegex(lines[0], r"producer 'detector' of topic '\S+': flushing: 3 of the events")

    def test_failures_that_a_call_raised_are_not_repeated(self):
        for calls in ("[push.wait for push in pushes]", "[producer.flush]", "[producer.close]"):
            with self.subTest(calls):
                self.assertEqual(self.errors_of(f"{self.WAIT}; calls = {calls}{self.CATCH}"), [])

    def test_some_failures_that_a_call_raised_are_reported(self):
        lines = self.errors_of(f"{self.WAIT}; calls = [pushes[0].wait]{self.CATCH}")
        self.assertEqual(len(lines), 1, lines)


if __name__ == "__main__":
    unittest.main()
