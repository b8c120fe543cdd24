"""Writes records as other programs do, without Octopus: BOOTSTRAP TOPIC, and JSON values on the standard input, one per
line. The producer is that of Globus' diaspora-event-sdk, with its serializer; only its way to a broker is replaced."""

import json
import sys

from diaspora_event_sdk.sdk import kafka_client


def main():
    bootstrap, topic = sys.argv[1:]
    kafka_client.get_diaspora_config = lambda configs: {"bootstrap_servers": bootstrap, **configs}
    producer = kafka_client.KafkaProducer(topic)
    for line in sys.stdin:
        producer.send(topic, json.loads(line), partition=0).get(timeout=60)
    producer.close()


if __name__ == "__main__":
    main()
