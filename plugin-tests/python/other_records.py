"""Writes and reads records as other programs do, without Octopus:

    BOOTSTRAP TOPIC sdk-send [CODEC]    records with JSON values, one per line of the standard input
    BOOTSTRAP TOPIC sdk-receive COUNT   prints the topic's records, one per line
    BOOTSTRAP TOPIC send [CODEC]        records, one per line of the standard input
    BOOTSTRAP TOPIC receive COUNT       prints the topic's records, one per line

The first two are the clients of Globus' diaspora-event-sdk, with its serializer; only its way to a broker is replaced.
The others are those of kafka-python. A record is a JSON object with bytes in base64."""

import base64
import json
import sys

import kafka
from diaspora_event_sdk.sdk import kafka_client

TIMESTAMP_TYPES = {0: "create", 1: "log_append"}


def encoded(value):
    return None if value is None else base64.b64encode(value).decode()


def decoded(text):
    return None if text is None else base64.b64decode(text)


def sdk_send(bootstrap, topic, codec="none"):
    send_with(kafka_client.KafkaProducer(topic, **compression(codec)), topic, lambda value: json.loads(decoded(value)))


def send(bootstrap, topic, codec="none"):
    send_with(kafka.KafkaProducer(bootstrap_servers=bootstrap, **compression(codec)), topic, decoded)


def compression(codec):
    return {} if codec == "none" else {"compression_type": codec}


def send_with(producer, topic, value_of):
    for line in sys.stdin:
        record = json.loads(line)
        producer.send(
            topic,
            key=decoded(record["key"]),
            value=value_of(record["value"]),
            headers=[(name, decoded(value)) for name, value in record["headers"]],
            partition=record.get("partition"),
            timestamp_ms=record.get("timestamp_ms"),
        ).get(timeout=60)
    producer.close()


FROM_THE_BEGINNING = {"auto_offset_reset": "earliest", "consumer_timeout_ms": 30_000}


def sdk_receive(bootstrap, topic, count):
    receive_with(kafka_client.KafkaConsumer(topic, **FROM_THE_BEGINNING), count)


def receive(bootstrap, topic, count):
    receive_with(kafka.KafkaConsumer(topic, bootstrap_servers=bootstrap, **FROM_THE_BEGINNING), count)


def receive_with(consumer, count):
    for record in first(consumer, count):
        content = {
            "key": encoded(record.key),
            "value": encoded(record.value),
            "headers": [[name, encoded(value)] for name, value in record.headers],
            "partition": record.partition,
            "timestamp_ms": record.timestamp,
            "timestamp_type": TIMESTAMP_TYPES[record.timestamp_type],
        }
        print(json.dumps(content))


def first(consumer, count):
    records = [record for _, record in zip(range(int(count)), consumer)]
    consumer.close()
    return records


def main():
    bootstrap, topic, command, *arguments = sys.argv[1:]
    kafka_client.get_diaspora_config = lambda configs: {"bootstrap_servers": bootstrap, **configs}
    commands = {"sdk-send": sdk_send, "sdk-receive": sdk_receive, "send": send, "receive": receive}
    commands[command](bootstrap, topic, *arguments)


if __name__ == "__main__":
    main()
