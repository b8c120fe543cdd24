"""Clients that don't know the names of brokers: the proxy resolves them."""

import contextlib
import os
import time
import unittest

import diaspora_octopus as octopus

from .support import (
    BROKER,
    DANTE,
    EVENTS,
    GATE,
    MICROSOCKS,
    PROXIES,
    TINYPROXY,
    Relay,
    driver,
    failure,
    recorded_log,
    round_trip,
    start_proxy,
)


class Proxies(unittest.TestCase):
    def test_events_pass_through_each_proxy(self) -> None:
        for proxy in PROXIES:
            with self.subTest(proxy):
                self.assertEqual(round_trip(driver(proxy)), list(range(EVENTS)))

    def test_broker_is_unreachable_without_proxy(self) -> None:
        kafka = {"bootstrap.servers": BROKER}
        with self.assertRaises(octopus.Error) as raised:
            octopus.Driver({"kafka": kafka, "connect_timeout_ms": 2000}).topic_exists("any")
        self.assertIn("Failed to resolve", str(raised.exception))

    def test_embedded_kafka_is_not_reached_through_the_proxy(self) -> None:
        embedded = octopus.Driver({"embedded": {}, "proxy": f"socks5h://{GATE}:1"})
        self.assertEqual(round_trip(embedded, 3), [0, 1, 2])

    def test_certificate_is_verified_through_the_proxy(self) -> None:
        for broker, reason in (("localhost.cluster.test:9093", "does not connect to"), ("service.cluster.test:9093", "certificate")):
            with self.subTest(broker):
                self.assertIn(reason, failure(MICROSOCKS, broker=broker))
        self.assertIn("certificate", failure(MICROSOCKS, kafka={"ssl.ca.location": "/etc/ssl/certs/ca-certificates.crt"}))

    def test_failures_are_explained_without_the_password(self) -> None:
        password = "octopus-test-secret"
        wrong = f"alice:{password}@{GATE}"
        for proxy, reason in (
            (f"socks5h://{wrong}:1081", "rejects the user or the password"),
            (f"socks5h://{GATE}:1081", "wants a user and a password"),
            (f"http://{wrong}:8888", "rejects the user or the password"),
            (f"http://{GATE}:8888", "wants a user and a password"),
            (f"socks5h://{wrong}:1", "Connect to the proxy ipv4#10.78.0.1:1 failed: Connection refused"),
            (f"socks5h://alice:{password}@nowhere.test:1080", "Failed to resolve the proxy 'nowhere.test:1080'"),
            (f"http://{wrong}:1091", "closed the connection"),
            (f"socks5h://{wrong}:8888", "does not speak SOCKS|no response"),
            (f"http://{wrong}:1080", "closed the connection|does not speak HTTP"),
            (f"socks5h://{wrong}:1090", "through the proxy|no response to the first request"),
        ):
            with self.subTest(proxy):
                error = failure(proxy)
                self.assertRegex(error, reason)
                self.assertIn("proxy", error)
                self.assertNotIn(password, error)
                print(f"{proxy.replace(password, '…')}: {error}")

    def test_refused_targets_are_explained(self) -> None:
        for proxy, broker, reason in (
            (DANTE, "broker.cluster.test:9999", "not allowed by its rules"),
            (MICROSOCKS, "broker.cluster.test:1", "connection refused"),
            (TINYPROXY, "broker.cluster.test:9999", "403 Access violation"),
            (TINYPROXY, "broker.cluster.test:1", "500 Unable to connect"),
            (MICROSOCKS, "unknown.cluster.test:9093", "does not connect to unknown.cluster.test:9093"),
        ):
            with self.subTest(f"{proxy} {broker}"):
                error = failure(proxy, broker=broker)
                self.assertRegex(error, reason)
                print(error)

    def test_silent_or_stalling_proxy_is_given_up_by_the_setup_timeout(self) -> None:
        kafka = {"socket.connection.setup.timeout.ms": "1000"}
        for scheme, port in (("http", 1090), ("http", 1092), ("socks5h", 1092)):
            with self.subTest(f"{scheme} {port}"):
                error = failure(f"{scheme}://alice:octopus-test-secret@{GATE}:{port}", kafka=kafka, connect_timeout_ms=3000)
                self.assertIn(f"timed out in state PROXY_HANDSHAKE through the proxy {scheme}://{GATE}:{port}", error)

    def test_invalid_url_is_rejected_by_name(self) -> None:
        for proxy, reason in (("socks5h://gate", "has no port"), ("ftp://gate:1", "no protocol of a proxy"), ("gate:1", "no protocol")):
            with self.subTest(proxy):
                with self.assertRaisesRegex(octopus.Error, f"configuration: proxy: .*{reason}"):
                    driver(proxy)

    def test_events_survive_the_death_of_the_proxy(self) -> None:
        relay = Relay(GATE, 1080)
        self.addCleanup(relay.end)
        of = driver(f"socks5h://127.0.0.1:{relay.port}")
        name = f"dying-{os.getpid()}"
        of.create_topic(name, num_partitions=1, replication_factor=1)
        topic = of.open_topic(name)
        with topic.producer() as producer:
            for number in range(3000):
                producer.push(number)
                if number % 1000 == 500:
                    producer.flush(60)
                    relay.drop()
            producer.flush(60)
        self.assertGreaterEqual(relay.dropped, 3)
        with topic.consumer("reader") as consumer:
            read = []
            for number in range(3000):
                read.append(consumer.pull(60).metadata)
                if number % 1000 == 500:
                    relay.drop()
        self.assertEqual(read, list(range(3000)))

    def test_proxy_that_never_comes_back_is_named_and_close_returns(self) -> None:
        password = "octopus-test-secret"
        failed = f"the proxy ipv4#{GATE}:1083 failed|Proxy socks5h://{GATE}:1083: it closed the connection"
        proxy = start_proxy(1083, "alice", password)
        self.addCleanup(proxy.wait)
        self.addCleanup(proxy.kill)
        of = driver(
            f"socks5h://alice:{password}@{GATE}:1083",
            kafka={"delivery.timeout.ms": "2000"},
            timeout_ms=2000,
            exit_flush_ms=100,
        )
        name = f"cut-off-{os.getpid()}"
        of.create_topic(name, num_partitions=1, replication_factor=1)
        topic = of.open_topic(name)
        producer, consumer = topic.producer(), topic.consumer(name)
        producer.push(0).wait(60)
        self.assertEqual(consumer.pull(60).metadata, 0)
        with recorded_log() as log:
            proxy.kill()
            proxy.wait()
            push = producer.push(1)
            for what, call in (
                ("push", lambda: push.wait(60)),
                ("flush", lambda: producer.flush(60)),
                ("pull", lambda: consumer.pull(5)),
                ("topic_exists", lambda: of.topic_exists("any")),
            ):
                with self.subTest(what):
                    with self.assertRaises(octopus.Error) as raised:
                        call()
                    self.assertRegex(str(raised.exception), failed)
                    self.assertNotIn(password, str(raised.exception))
            producer.push(2)
            began = time.monotonic()
            consumer.close(60)
            with contextlib.suppress(octopus.TimedOut):
                producer.close(1)
            of.close()
            self.assertLess(time.monotonic() - began, 5)
        self.assertRegex(log(), failed)
        self.assertNotIn(password, log())
