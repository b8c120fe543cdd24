"""The protocol `socks5`: the client resolves the names of brokers, and the proxy gets addresses."""

import unittest

from .support import EVENTS, GATE, SERVICES, driver, failure, request_count, round_trip, topic_service, trusted


class LocalNames(unittest.TestCase):
    def test_events_pass_through_each_proxy(self) -> None:
        for port in (1080, 1082):
            with self.subTest(port):
                self.assertEqual(round_trip(driver(f"socks5://{GATE}:{port}")), list(range(EVENTS)))

    def test_web_service_is_reached_through_each_proxy(self) -> None:
        for port in (1080, 1082):
            for url in SERVICES:
                with self.subTest(f"{port} {url}"), trusted("service-certificate.pem"):
                    before = request_count(url, "/api/v3/namespace")
                    driver(f"socks5://{GATE}:{port}", octopus=topic_service(url), namespace="lab").list_topics()
                    self.assertGreater(request_count(url, "/api/v3/namespace"), before)

    def test_unknown_name_is_reported(self) -> None:
        error = failure(f"socks5://{GATE}:1080", broker="unknown.cluster.test:9093")
        self.assertIn("Failed to resolve 'unknown.cluster.test:9093'", error)
