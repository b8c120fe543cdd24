"""Exchanges records with programs that use Kafka without Octopus.

    PYTHONPATH=plugin-tests/python python3 plugin-tests/examples/other_programs.py localhost:9092
"""

import sys

import diaspora_octopus as octopus

TIMEOUT = 60  # seconds


def write(topic: octopus.Topic) -> None:
    # Other programs read plain JSON, so the records have no header of Octopus.
    with topic.producer(records="json", partitioner="key") as producer:
        for frame in range(3):
            producer.push(
                {"frame": frame, "celsius": 21.5},
                key="sensor 7",  # all events of the sensor go to one partition
                headers={"run": "42", "checksum": bytes([0, frame])},
            )


def read(topic: octopus.Topic) -> None:
    # `auto` also reads the events of programs with Octopus.
    with topic.consumer("other-programs-reader", records="auto") as consumer:
        for _ in range(3):
            event = consumer.pull(TIMEOUT)
            if event is None:
                raise TimeoutError(f"no event arrived within {TIMEOUT} s")
            print(f"{event.record_format} of {event.key!r}: {event.metadata}, {event.headers}")
            event.acknowledge()


def run(servers: str) -> None:
    driver = octopus.Driver({"kafka": {"bootstrap.servers": servers}})
    driver.create_topic("other-programs", num_partitions=3, replication_factor=1, exist_ok=True)
    topic = driver.open_topic("other-programs")
    write(topic)
    read(topic)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} BOOTSTRAP-SERVERS")
    try:
        run(sys.argv[1])
    except (octopus.Error, OSError) as error:
        sys.exit(f"other_programs: {error}")
