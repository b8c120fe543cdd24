"""Forwards the events of one topic to another one exactly once, although it is killed meanwhile.

    PYTHONPATH=plugin-tests/python python3 plugin-tests/examples/exactly_once.py localhost:9092

This process pushes readings and starts another one, the forwarder, which makes a result of each
reading. It kills the forwarder three times, starts it again, and counts the results.
"""

import collections
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any, Dict

import diaspora_octopus as octopus

READINGS = 4000
KILLS = 3
TIMEOUT = 60  # seconds


def connect(servers: str) -> octopus.Driver:
    return octopus.Driver({"kafka": {"bootstrap.servers": servers}})


def process(reading: Dict[str, Any]) -> Dict[str, Any]:
    return {"number": reading["number"], "fahrenheit": reading["celsius"] * 1.8 + 32}


def forward(servers: str, name: str, worker: str) -> None:
    """Makes a result of each reading until SIGTERM."""
    is_stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: is_stopped.set())
    driver = connect(servers)
    results = driver.open_topic(f"{name}-results").producer(transactional_id=f"{name}-{worker}")
    readings = driver.open_topic(f"{name}-readings").consumer(
        name, commits="transaction", kafka={"group.instance.id": worker}
    )
    with results, readings:
        while not is_stopped.is_set():
            events = readings.pull_many(100, timeout=0.5)
            if not events:
                continue
            try:
                with results.transaction(readings):
                    for event in events:
                        results.push(process(event.metadata))
                        event.acknowledge()
            except octopus.Error as error:
                # The transaction is aborted, and the next pull returns its events again.
                if error.status in (octopus.Status.MUST_ABORT, octopus.Status.STALE):
                    continue
                # For example FENCED: a newer process has the id. A restarted one continues.
                raise


def kill_and_count(servers: str) -> None:
    driver, name = connect(servers), f"exactly-once-{os.getpid()}-{time.time_ns()}"
    for topic in (f"{name}-readings", f"{name}-results"):
        driver.create_topic(topic, num_partitions=2, replication_factor=1)
    with driver.open_topic(f"{name}-readings").producer() as producer:
        for number in range(READINGS):
            producer.push({"number": number, "celsius": 21.5})

    results: Dict[int, int] = collections.Counter()
    arguments = [sys.executable, __file__, servers, name, "worker-1"]
    forwarder, kills = subprocess.Popen(arguments), 0
    try:
        with driver.open_topic(f"{name}-results").consumer(f"{name}-reader") as reader:
            while len(results) < READINGS:
                event = reader.pull(TIMEOUT)
                if event is None:
                    raise TimeoutError(f"no result arrived within {TIMEOUT} s")
                results[event.metadata["number"]] += 1
                if kills < KILLS and len(results) > READINGS * kills // KILLS:
                    forwarder.kill()
                    forwarder.wait()
                    forwarder, kills = subprocess.Popen(arguments), kills + 1
            forwarder.terminate()
            forwarder.wait(TIMEOUT)
            for event in reader.events(timeout=2):  # what is left would be a duplicate
                results[event.metadata["number"]] += 1
    finally:
        forwarder.kill()
    if forwarder.wait() != 0:
        sys.exit(f"exactly_once: the forwarder ended with status {forwarder.returncode}")
    duplicates = sum(results.values()) - READINGS
    print(f"{READINGS} readings, {len(results)} results, {duplicates} duplicates, {kills} kills")
    if duplicates > 0:
        sys.exit("exactly_once: a result is there twice")


if __name__ == "__main__":
    try:
        if len(sys.argv) == 2:
            kill_and_count(sys.argv[1])
        elif len(sys.argv) == 4:
            forward(*sys.argv[1:])
        else:
            sys.exit(f"usage: {sys.argv[0]} BOOTSTRAP-SERVERS")
    except (octopus.Error, OSError) as error:
        sys.exit(f"exactly_once: {error}")
