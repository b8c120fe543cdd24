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
import time
from typing import Any

import diaspora_octopus as octopus

WORKERS = 3
TASKS = 60
TIMEOUT = 30  # seconds


def connect(servers: str) -> octopus.Driver:
    return octopus.Driver({"kafka": {"bootstrap.servers": servers}})


def work(servers: str, run: str, is_ready: Any, is_done: Any) -> None:
    """Processes tasks until the parent has all results."""
    driver = connect(servers)
    # A short heartbeat, by which members learn that another one joins.
    tasks = driver.open_topic(f"{run}-tasks").consumer(f"{run}-workers", kafka={"heartbeat.interval.ms": 300})
    results = driver.open_topic(f"{run}-results").producer("worker")
    while not tasks.assignment():
        time.sleep(0.05)
    is_ready.wait(TIMEOUT)
    while not is_done.is_set():
        for task in tasks.events(timeout=0.2):
            number = task.metadata["number"]
            result = results.push({"number": number, "square": number**2, "worker": os.getpid()}, task.data)
            result.wait(TIMEOUT)
            task.acknowledge()


def main(servers: str) -> None:
    driver, run = connect(servers), f"workflow-{os.getpid()}-{time.time_ns()}"
    for name in (f"{run}-tasks", f"{run}-results"):
        driver.create_topic(name, num_partitions=WORKERS, replication_factor=1)
    tasks = driver.open_topic(f"{run}-tasks").producer("parent")

    context = multiprocessing.get_context("fork")
    is_ready, is_done = context.Barrier(WORKERS + 1), context.Event()
    arguments = (servers, run, is_ready, is_done)
    workers = [context.Process(target=work, args=arguments) for _ in range(WORKERS)]
    for worker in workers:
        worker.start()
    is_ready.wait(TIMEOUT)

    for number in range(TASKS):
        tasks.push({"number": number}, os.urandom(10_000))
    results = {}
    for event in driver.open_topic(f"{run}-results").consumer(f"{run}-parent").events(TIMEOUT):
        # A task of a worker that fails, or loses its partition, is processed again.
        results[event.metadata["number"]] = event.metadata
        if len(results) == TASKS:
            break
    is_done.set()
    for worker in workers:
        worker.join()

    if [results.get(number, {}).get("square") for number in range(TASKS)] != [n**2 for n in range(TASKS)]:
        sys.exit(f"workflow: {len(results)} of {TASKS} results are there")
    if any(worker.exitcode for worker in workers):
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
