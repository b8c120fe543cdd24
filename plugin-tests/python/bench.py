"""Compares the package diaspora_octopus with confluent-kafka on one Kafka, by default at 1 KB per event:
pushing with the result of each event, and pulling up to 500 events in one call.

Usage: python3 bench.py [--events N] [--pairs N] [--size BYTES] HOST:PORT     ci/bench-python.sh calls it

Both libraries run in this process, one after the other in each pair, with the same properties of
Kafka. The processor time is that of all threads.
"""

import argparse
import statistics
import time
import uuid
from typing import Callable, Dict, List, NamedTuple

import confluent_kafka
import diaspora_octopus

PROPERTIES = {"linger.ms": 5, "enable.idempotence": True, "acks": "all"}
MANY = 500
TIMEOUT = 120.0


class Cost(NamedTuple):
    """What one event takes, in microseconds."""

    elapsed: float
    processor: float


def measure(events: int, work: Callable[[], None]) -> Cost:
    elapsed, processor = time.perf_counter(), time.process_time()
    work()
    scale = 1e6 / events
    return Cost((time.perf_counter() - elapsed) * scale, (time.process_time() - processor) * scale)


class Bench:
    def __init__(self, servers: str, events: int, size: int) -> None:
        self.servers = servers
        self.data = b"x" * size
        self.events = events
        # With the properties of the comparison for both.
        self.driver = diaspora_octopus.Driver({"kafka": {"bootstrap.servers": servers, **PROPERTIES}})

    def new_topic(self) -> str:
        name = f"bench-{uuid.uuid4()}"
        self.driver.create_topic(name, num_partitions=1, replication_factor=1)
        return name

    def push(self, name: str) -> Cost:
        with self.driver.open_topic(name).producer() as producer:
            producer.push(b"{}", self.data).wait(TIMEOUT)

            def work() -> None:
                pushes = [producer.push(b"{}", self.data) for _ in range(self.events)]
                producer.flush(TIMEOUT)
                for push in pushes:
                    push.wait(0)

            return measure(self.events, work)

    def push_many(self, name: str) -> Cost:
        event = diaspora_octopus.NewEvent(b"{}", self.data)
        with self.driver.open_topic(name).producer() as producer:
            producer.push(b"{}", self.data).wait(TIMEOUT)

            def work() -> None:
                pushes: List[diaspora_octopus.Push] = []
                for _ in range(self.events // MANY):
                    pushes += producer.push_many([event] * MANY)
                producer.flush(TIMEOUT)
                for push in pushes:
                    push.wait(0)

            return measure(self.events // MANY * MANY, work)

    def produce(self, name: str) -> Cost:
        producer = confluent_kafka.Producer({"bootstrap.servers": self.servers, **PROPERTIES})
        results: List[int] = []

        def delivered(error: object, message: confluent_kafka.Message) -> None:
            assert error is None, error
            results.append(message.offset())

        def work() -> None:
            for _ in range(self.events):
                while True:
                    try:
                        producer.produce(name, self.data, on_delivery=delivered)
                        break
                    except BufferError:
                        producer.poll(0.1)
                producer.poll(0)
            producer.flush(TIMEOUT)

        producer.produce(name, self.data, on_delivery=delivered)
        producer.flush(TIMEOUT)
        cost = measure(self.events, work)
        assert len(results) == self.events + 1, len(results)
        return cost

    def pull_many(self, name: str) -> Cost:
        with self.driver.open_topic(name).consumer(f"bench-{uuid.uuid4()}") as consumer:
            read = len(consumer.pull_many(1, TIMEOUT))
            size = 0

            def work() -> None:
                nonlocal read, size
                while read < self.events:
                    for event in consumer.pull_many(MANY, TIMEOUT):
                        size += len(event.data)
                        read += 1

            cost = measure(self.events, work)
            assert size >= (self.events - 1) * len(self.data), size
            return cost

    def consume(self, name: str) -> Cost:
        options = {"bootstrap.servers": self.servers, "group.id": f"bench-{uuid.uuid4()}", "auto.offset.reset": "earliest"}
        consumer = confluent_kafka.Consumer(options)
        consumer.subscribe([name])
        read = len(consumer.consume(1, TIMEOUT))
        size = 0

        def work() -> None:
            nonlocal read, size
            while read < self.events:
                # A short timeout, as it waits for all 500.
                for message in consumer.consume(MANY, 0.1):
                    assert message.error() is None, message.error()
                    size += len(message.value())
                    read += 1

        cost = measure(self.events, work)
        consumer.close()
        assert size >= (self.events - 1) * len(self.data), size
        return cost


def show(title: str, ours: List[Cost], theirs: List[Cost]) -> None:
    """The medians, and the median of the ratios of the pairs: below 1, Octopus needs less."""

    def median(costs: List[Cost], field: str) -> float:
        return statistics.median(getattr(cost, field) for cost in costs)

    def ratio(field: str) -> float:
        return statistics.median(getattr(a, field) / getattr(b, field) for a, b in zip(ours, theirs))

    print(
        f"{title:34} {1e6 / median(ours, 'elapsed'):9.0f} {1e6 / median(theirs, 'elapsed'):9.0f} events/s, time {ratio('elapsed'):5.2f} x"
        f"  {median(ours, 'processor'):6.2f} {median(theirs, 'processor'):6.2f} us of the processor, {ratio('processor'):5.2f} x",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("servers")
    arguments = parser.parse_args()
    bench = Bench(arguments.servers, arguments.events, arguments.size)
    costs: Dict[str, List[Cost]] = {}
    for pair in range(arguments.pairs):
        # Each reads what it has written, as both put the metadata elsewhere.
        ours, theirs = bench.new_topic(), bench.new_topic()
        sides = [("push", bench.push, ours), ("produce", bench.produce, theirs)]
        reading = [("pull_many", bench.pull_many, ours), ("consume", bench.consume, theirs)]
        for steps in (sides, reading):
            for name, step, topic in steps if pair % 2 == 0 else reversed(steps):
                costs.setdefault(name, []).append(step(topic))
        costs.setdefault("push_many", []).append(bench.push_many(bench.new_topic()))
        for topic in (ours, theirs):
            bench.driver.delete_topic(topic)
    show("push / produce(on_delivery)", costs["push"], costs["produce"])
    show("push_many(500) / produce", costs["push_many"], costs["produce"])
    show("pull_many(500) / consume(500)", costs["pull_many"], costs["consume"])


if __name__ == "__main__":
    main()
