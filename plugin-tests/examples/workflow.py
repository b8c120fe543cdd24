"""A workflow: a parent creates tasks, forked workers process them, the parent collects the results.

    PYTHONPATH=plugin-tests/python python3 plugin-tests/examples/workflow.py localhost:9092

The parent has a driver before it forks, and each worker makes its own. The workers share the tasks
as members of one consumer group. They acknowledge a task when its result is stored, so that another
worker processes it if they fail before. Nobody closes anything.
"""

import collections
import multiprocessing
import os
import sys
import threading
import time
from typing import Any

import diaspora_octopus as octopus

WORKERS = 3
TASKS = 60
TIMEOUT = 30  # seconds


def connect(servers: str) -> octopus.Driver:
    return octopus.Driver({"kafka": {"bootstrap.servers": servers}})


def work(servers: str, run: str, is_ready: Any, is_done: Any) -> None:
    """Processes tasks until the parent has all results, or has ended."""
    driver = connect(servers)
    # By short heartbeats the members learn soon that another one joined, and by a short session
    # timeout that one has failed.
    options = {"heartbeat.interval.ms": 300, "session.timeout.ms": 6000}
    tasks = driver.open_topic(f"{run}-tasks").consumer(f"{run}-workers", kafka=options)
    results = driver.open_topic(f"{run}-results").producer("worker")
    deadline = time.monotonic() + TIMEOUT
    while not tasks.assignment():
        if time.monotonic() > deadline:
            raise TimeoutError(f"no partition was assigned within {TIMEOUT} s")
        time.sleep(0.05)
    wait_for_all(is_ready)
    parent: Any = multiprocessing.parent_process()
    while parent.is_alive() and not is_done.is_set():
        for task in tasks.events(timeout=0.2):
            number = task.metadata["number"]
            result = results.push({"number": number, "square": number**2, "worker": os.getpid()}, task.data)
            result.wait(TIMEOUT)
            try:
                task.acknowledge()
            except octopus.Error as error:
                # Meanwhile another worker got the partition from the group, and with it the task.
                if error.status != octopus.Status.STALE:
                    raise


def wait_for_all(is_ready: Any) -> None:
    """Waits until the parent and all workers are ready."""
    try:
        is_ready.wait(TIMEOUT)
    except threading.BrokenBarrierError:
        raise TimeoutError(f"not all workers were ready within {TIMEOUT} s") from None


def main(servers: str) -> None:
    driver, run = connect(servers), f"workflow-{os.getpid()}-{time.time_ns()}"
    for name in (f"{run}-tasks", f"{run}-results"):
        driver.create_topic(name, num_partitions=WORKERS, replication_factor=1)
    tasks = driver.open_topic(f"{run}-tasks").producer("parent")

    context = multiprocessing.get_context("fork")
    is_ready, is_done = context.Barrier(WORKERS + 1), context.Event()
    arguments = (servers, run, is_ready, is_done)
    # When this process ends, it ends daemons that are still running.
    workers = [context.Process(target=work, args=arguments, daemon=True) for _ in range(WORKERS)]
    results = {}
    try:
        for worker in workers:
            worker.start()
        wait_for_all(is_ready)
        for number in range(TASKS):
            tasks.push({"number": number}, os.urandom(10_000))
        for event in driver.open_topic(f"{run}-results").consumer(f"{run}-parent").events(TIMEOUT):
            # A task of a worker that fails, or loses its partition, is processed again.
            results[event.metadata["number"]] = event.metadata
            if len(results) == TASKS:
                break
    finally:
        is_done.set()  # also if this process fails
    for worker in workers:
        worker.join(TIMEOUT)

    if [results.get(number, {}).get("square") for number in range(TASKS)] != [n**2 for n in range(TASKS)]:
        sys.exit(f"workflow: {len(results)} of {TASKS} results are there")
    if any(worker.exitcode != 0 for worker in workers):
        sys.exit(f"workflow: the workers ended with {[worker.exitcode for worker in workers]}")
    counts = collections.Counter(result["worker"] for result in results.values())
    print(f"{TASKS} tasks processed by {len(counts)} of {WORKERS} workers: {sorted(counts.values())}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} BOOTSTRAP-SERVERS")
    try:
        main(sys.argv[1])
    except (octopus.Error, OSError) as error:
        sys.exit(f"workflow: {error}")
