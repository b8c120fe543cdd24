"""Programs that just end, forked children and workers deliver what they pushed, and the end of the
interpreter neither hangs nor crashes."""

import os
import signal
import time
import unittest

from .support import IS_REAL_KAFKA, count_events, finish_script, new_name, new_topic, run_script, start_script

EVENTS = 1000

PREPARE = """
    import os, threading, time
    name = arguments[0]
    driver = octopus.Driver(config)
    topic = driver.open_topic(name)
    producer = topic.producer()
    consumer = topic.consumer("reader", targets=[0])
"""
PUSH = f"pushes = [producer.push({{'n': n}}) for n in range({EVENTS})]"

ENDS = {
    "return": "",
    "sys.exit": "sys.exit(0)",
    "del": "del driver, topic, producer, pushes",
    "a reference cycle": "producer.cycle = [producer, pushes, driver]",
    "an event and a view": "event = consumer.pull(); view = event.data",
    "a global of another module": "import json; json.octopus = (producer, consumer, pushes)",
    "a registered function": "import atexit; atexit.register(producer.push, 'last')",
    "a function that closes": "import atexit; atexit.register(producer.close)",
    "a thread that waits": "threading.Thread(target=consumer.pull, daemon=True).start(); time.sleep(0.2)",
    "a thread that iterates": """
    def iterate():
        for event in consumer: event.acknowledge()
    threading.Thread(target=iterate, daemon=True).start(); time.sleep(0.2)""",
    "a thread that awaits": """
    import asyncio
    async def push():
        while True: await producer.push("more")
    def run(): asyncio.run(push())
    threading.Thread(target=run, daemon=True).start(); time.sleep(0.2); producer.flush()""",
    "tasks that await": """
    import asyncio
    slow = topic.producer(kafka={"linger.ms": 300})
    async def main():
        tasks = [asyncio.ensure_future(slow.push(n)._wait_in_task()) for n in range(100)]
        await asyncio.sleep(0.05)
    asyncio.run(main())""",
    "a loop that is not closed": """
    import asyncio
    slow = topic.producer(kafka={"linger.ms": 300})
    loop = asyncio.new_event_loop()
    tasks = [loop.create_task(slow.push(n)._wait_in_task()) for n in range(100)]
    for task in tasks: task._log_destroy_pending = False
    loop.run_until_complete(asyncio.sleep(0.05))
    loop.close()""",
}


class Exit(unittest.TestCase):
    def test_program_that_just_ends_delivers_all_events(self):
        for name, end in ENDS.items():
            with self.subTest(name):
                topic = new_topic().name
                began = time.monotonic()
                result = run_script(f"{PREPARE}\n    {PUSH}\n    {end}", topic)
                self.assertEqual(result, (0, "", ""))
                self.assertLess(time.monotonic() - began, 10)
                self.assertGreaterEqual(count_events(topic, EVENTS), EVENTS)

    def test_program_that_fails_delivers_all_events(self):
        topic = new_topic().name
        status, _, errors = run_script(f"{PREPARE}\n    {PUSH}\n    raise ValueError('why')", topic)
        self.assertEqual(status, 1)
        self.assertTrue(errors.endswith("ValueError: why\n"), errors)
        self.assertEqual(count_events(topic, EVENTS), EVENTS)

    def test_program_ends_although_no_broker_responds(self):
        end = """
    import asyncio
    lost = topic.producer(kafka={"bootstrap.servers": "127.0.0.1:1"})
    async def main():
        tasks = [asyncio.ensure_future(lost.push(n)._wait_in_task()) for n in range(100)]
        await asyncio.sleep(0.05)
    asyncio.run(main())"""
        source = PREPARE.replace("Driver(config)", "Driver({**config, 'exit_flush_ms': 200})")
        status, output, errors = run_script(source + end, new_topic().name)
        self.assertEqual((status, output), (0, ""), errors)
        self.assertIn("100 events were not delivered", errors)
        self.assertNotIn("Traceback", errors)


class Children(unittest.TestCase):
    """Forks warn in new versions of Python: the process has threads of the library."""

    OPTIONS = ("-X", "dev", "-W", "error", "-W", "ignore::DeprecationWarning")

    def run_children(self, source, expected):
        topic = new_topic().name
        self.assertEqual(run_script(source, topic, options=self.OPTIONS), (0, "", ""))
        self.assertEqual(count_events(topic, expected), expected)

    def test_forked_child_makes_its_own_driver(self):
        source = f"""{PREPARE}
    {PUSH}
    held = consumer.pull(), consumer.begin_pull(), producer.begin_flush()
    child = os.fork()
    if child == 0:
        for call in (driver.describe, lambda: producer.push(1), consumer.pull, pushes[0].wait, held[0].acknowledge):
            try:
                call()
                os._exit(1)
            except octopus.Error as error:
                if error.status != octopus.Status.FORKED: os._exit(2)
        del driver, topic, producer, consumer, pushes, held, call
        own = octopus.Driver(config).open_topic(name)
        with own.producer() as producer:
            producer.push("of the child")
        reader = own.consumer("reader of the child", targets=[0])
        if reader.pull(30) is None: os._exit(3)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    held[0].acknowledge()
    producer.push("of the parent").wait(30)
    """
        self.run_children(source, EVENTS + 2)

    def test_forked_child_ends_as_a_program_does(self):
        source = f"""{PREPARE}
    child = os.fork()
    if child == 0:
        driver = octopus.Driver(config)
        producer = driver.open_topic(name).producer()
    {PUSH}
    if child:
        assert os.waitpid(child, 0)[1] == 0
    """
        self.run_children(source, 2 * EVENTS)

    def test_forked_child_uses_asyncio_beside_its_parent(self):
        source = f"""{PREPARE}
    import asyncio
    async def push(producer):
        for n in range(10):
            await asyncio.gather(*[producer.push(n) for _ in range(50)])
    asyncio.run(push(producer))
    child = os.fork()
    if child == 0:
        producer = octopus.Driver(config).open_topic(name).producer()
    asyncio.run(push(producer))
    if child:
        assert os.waitpid(child, 0)[1] == 0
    """
        self.run_children(source, EVENTS + 500)

    def test_worker_of_multiprocessing_delivers_all_events(self):
        for method in ("fork", "spawn", "forkserver"):
            with self.subTest(method):
                source = f"""
    import multiprocessing
    kept = []
    def work(name):
        producer = octopus.Driver(config).open_topic(name).producer()
        kept.append(producer)
        {PUSH}
    if __name__ == "__main__":
        driver = octopus.Driver(config)
        context = multiprocessing.get_context("{method}")
        workers = [context.Process(target=work, args=arguments) for _ in range(2)]
        for worker in workers: worker.start()
        for worker in workers: worker.join()
        assert [worker.exitcode for worker in workers] == [0, 0]
    """
                self.run_children(source, 2 * EVENTS)

    def test_workers_of_a_pool_that_sigterm_ends_deliver_all_events(self):
        # A pool ends its workers by SIGTERM, also while they end by themselves.
        for owner, name in (("producer", "_begin_kept_flush"), ("multiprocessing.util", "_exit_function")):
            with self.subTest(name):
                source = f"""
    import multiprocessing, os, signal, time
    def prepare(topic):
        global producer
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        producer = octopus.Driver(config).open_topic(topic).producer(kafka={{"linger.ms": 1000}})
        original = {owner}.{name}
        def terminated():
            {owner}.{name} = original
            os.kill(os.getpid(), signal.SIGTERM)
            return original()
        {owner}.{name} = terminated
    def work(n):
        for _ in range(5): producer.push(n)
        time.sleep(0.1)
    if __name__ == "__main__":
        pool = multiprocessing.get_context("fork").Pool(4, prepare, arguments)
        pool.map(work, range(8), 1)
        pool.close()
        pool.join()
    """
                self.run_children(source, 40)

    def test_workers_of_an_executor_deliver_all_events_after_ctrl_c(self):
        source = """
    import concurrent.futures, multiprocessing, time
    def prepare(topic, counter):
        global producer, pushed
        pushed = counter
        producer = octopus.Driver(config).open_topic(topic).producer(kafka={"linger.ms": 2000})
    def work(_):
        for n in range(50):
            producer.push(n)
            with pushed.get_lock(): pushed.value += 1
            time.sleep(0.01)
    if __name__ == "__main__":
        context = multiprocessing.get_context("fork")
        pushed = context.Value("i", 0)
        try:
            with concurrent.futures.ProcessPoolExecutor(4, context, prepare, (arguments[0], pushed)) as pool:
                results = pool.map(work, range(20))
                while pushed.value < 20: time.sleep(0.01)
                print("ready", flush=True)
                list(results)
        finally: print(pushed.value, flush=True)
    """
        topic = new_topic().name
        process = start_script(source, topic, options=self.OPTIONS, start_new_session=True)
        self.assertEqual(process.stdout.readline(), "ready\n")
        os.killpg(process.pid, signal.SIGINT)
        _, output, errors = finish_script(process)
        pushed = int(output)
        stored = count_events(topic, pushed)
        # Ctrl+C can come between a push and its count.
        self.assertTrue(pushed <= stored <= pushed + 4, (pushed, stored, errors))

    @unittest.skipUnless(IS_REAL_KAFKA, "the embedded Kafka rejects commits while members join")
    def test_workers_of_a_pool_share_a_group(self):
        source = f"""
    import concurrent.futures, multiprocessing
    def count(name, group):
        topic = octopus.Driver(config).open_topic(name)
        read = 0
        with topic.consumer(group, kafka={{"session.timeout.ms": 6000}}) as consumer:
            for event in consumer.events(timeout=8 if read == 0 else 1):
                event.acknowledge()
                read += 1
        return read
    if __name__ == "__main__":
        topic = octopus.Driver(config).open_topic(arguments[0])
        with topic.producer() as producer:
            {PUSH}
        with concurrent.futures.ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as pool:
            counts = list(pool.map(count, *[[argument] * 2 for argument in arguments + ["{new_name('group')}"]]))
        assert sum(counts) >= {EVENTS}, counts
    """
        self.run_children(source, EVENTS)


if __name__ == "__main__":
    unittest.main()
