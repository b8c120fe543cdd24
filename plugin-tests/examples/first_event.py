"""The first event: creates a topic, pushes an event, and reads it back.

    PYTHONPATH=plugin-tests/python python3 plugin-tests/examples/first_event.py localhost:9092
"""

import sys

import diaspora_octopus as octopus

TIMEOUT = 60  # seconds


def run(servers: str) -> None:
    driver = octopus.Driver({"kafka": {"bootstrap.servers": servers}})
    # One replica, as a Kafka for a first try has one broker.
    driver.create_topic("first-event", num_partitions=1, replication_factor=1, exist_ok=True)
    topic = driver.open_topic("first-event")

    # An event has metadata, which is JSON, and data, which is any bytes. `push` returns before the
    # event is stored, `wait` when it is.
    with topic.producer() as producer:
        push = producer.push({"sensor": "roof", "celsius": 21.5}, b"raw samples")
        print("stored at offset", push.wait(TIMEOUT).offset)

    # The name of a consumer is its consumer group, which Kafka keeps the position of.
    with topic.consumer("first-event-reader") as consumer:
        event = consumer.pull(TIMEOUT)
        if event is None:
            raise TimeoutError(f"no event arrived within {TIMEOUT} s")
        print(f"read offset {event.offset}: {event.metadata} with {len(event.data)} bytes of data")
        event.acknowledge()  # the next run starts after it


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} BOOTSTRAP-SERVERS")
    try:
        run(sys.argv[1])
    except (octopus.Error, OSError) as error:
        sys.exit(f"first_event: {error}")
