"""The topic service, a provider of tokens, and AWS through proxies, with TLS and without."""

import os
import unittest
from typing import Dict
from unittest import mock

import diaspora_octopus as octopus

from .support import (
    GATE,
    MICROSOCKS,
    PROXIES,
    SERVICE,
    SERVICES,
    TINYPROXY,
    TLS_SERVICE,
    WITH_PASSWORD,
    driver,
    failure,
    recorded_log,
    request_count,
    topic_service,
    trusted,
)


class WebServices(unittest.TestCase):
    def setUp(self) -> None:
        authority = trusted("service-certificate.pem")
        authority.__enter__()
        self.addCleanup(authority.__exit__, None, None, None)

    def test_topic_service_is_reached_through_each_proxy(self) -> None:
        for proxy in PROXIES:
            for url in SERVICES:
                with self.subTest(f"{proxy} {url}"):
                    before = request_count(url, "/api/v3/namespace")
                    driver(proxy, octopus=topic_service(url), namespace="lab").list_topics()
                    self.assertGreater(request_count(url, "/api/v3/namespace"), before)

    def test_certificate_of_the_service_is_verified_through_each_proxy(self) -> None:
        # The service has both names, and its certificate only one.
        other_name = TLS_SERVICE.replace("service.", "broker.")
        for proxy in PROXIES:
            for authority, url, reason in (
                ("certificate.pem", TLS_SERVICE, "certificate.*self-signed certificate.*set SSL_CERT_FILE"),
                ("service-certificate.pem", other_name, "no alternative certificate subject name matches.*URL must have a host name"),
            ):
                with self.subTest(f"{proxy} {authority} {url}"), trusted(authority):
                    before = request_count(url, "")
                    with self.assertRaisesRegex(octopus.Error, reason):
                        driver(proxy, octopus=topic_service(url), namespace="lab").list_topics()
                    self.assertEqual(request_count(url, ""), before)

    def test_failing_proxies_end_requests_in_time_without_the_password(self) -> None:
        password = "octopus-test-password"
        for scheme, port in (("socks5h", 1081), ("http", 8888), ("socks5h", 1092), ("http", 1092)):
            with self.subTest(f"{scheme} {port}"), recorded_log() as log:
                proxy = f"{scheme}://alice:{password}@{GATE}:{port}"
                error = failure(proxy, octopus=topic_service(TLS_SERVICE), namespace="lab", timeout_ms=2000)
                self.assertIn(f"no response from {TLS_SERVICE}: through the proxy {scheme}://{GATE}:{port}", error)
                self.assertNotIn(password, error + log())

    def test_refusal_by_the_proxy_is_not_repeated_and_not_the_service(self) -> None:
        for scheme, port in (("socks5h", 1081), ("http", 8888)):
            for url in SERVICES:
                with self.subTest(f"{scheme} {port} {url}"):
                    proxy = f"{scheme}://alice:wrong@{GATE}:{port}"
                    error = failure(proxy, octopus=topic_service(url), namespace="lab")
                    self.assertIn(f"no response from {url}: through the proxy {scheme}://{GATE}:{port}", error)
                    self.assertNotRegex(error, "tried|octopus.authorization")

    def test_connection_that_the_proxy_drops_is_tried_again(self) -> None:
        for scheme in ("socks5h", "http"):
            with self.subTest(scheme):
                error = failure(f"{scheme}://{GATE}:1091", octopus=topic_service(TLS_SERVICE), namespace="lab")
                self.assertIn("tried", error)

    def test_token_is_fetched_through_the_proxy(self) -> None:
        for proxy in (WITH_PASSWORD, TINYPROXY):
            for url in SERVICES:
                with self.subTest(f"{proxy} {url}"):
                    before = request_count(url, "/token")
                    error = failure(proxy, kafka=with_token_of(f"{url}/token"))
                    self.assertGreater(request_count(url, "/token"), before)
                    # The client has a token, and begins to authenticate. The broker wants none.
                    self.assertIn("SASL OAUTHBEARER mechanism handshake failed", error)

    def test_provider_that_is_not_trusted_gets_no_request(self) -> None:
        with trusted("certificate.pem"), recorded_log() as log:
            before = request_count(TLS_SERVICE, "/token")
            failure(TINYPROXY, kafka=with_token_of(f"{TLS_SERVICE}/token"))
            self.assertEqual(request_count(TLS_SERVICE, "/token"), before)
        self.assertRegex(log(), "Failed to retrieve OIDC token .*certificate")

    def test_rejection_by_the_token_provider_is_reported(self) -> None:
        kafka = with_token_of(f"{TLS_SERVICE}/rejected-token")
        self.assertIn("not today", failure(TINYPROXY, kafka=kafka, connect_timeout_ms=20000))

    def test_aws_is_reached_through_the_proxy(self) -> None:
        msk = {"region": "us-east-1", "role_arn": "arn:aws:iam::1:role/r"}
        for proxy, url in ((MICROSOCKS, SERVICE), (TINYPROXY, TLS_SERVICE)):
            environment = mock.patch.dict(
                os.environ,
                AWS_ACCESS_KEY_ID="octopus-test-key",
                AWS_SECRET_ACCESS_KEY="octopus-test-secret",
                AWS_ENDPOINT_URL_STS=url,
                AWS_EC2_METADATA_DISABLED="true",
            )
            with self.subTest(f"{proxy} {url}"), environment:
                before = request_count(url, "AssumeRole")
                failure(proxy, aws_msk_iam=msk, kafka={"security.protocol": "sasl_ssl"})
                self.assertGreater(request_count(url, "AssumeRole"), before)


def with_token_of(endpoint: str) -> Dict[str, str]:
    """The properties of a client that gets its token there."""
    return {
        "security.protocol": "sasl_ssl",
        "sasl.mechanism": "OAUTHBEARER",
        "sasl.oauthbearer.method": "oidc",
        "sasl.oauthbearer.client.id": "me",
        "sasl.oauthbearer.client.secret": "octopus-test-secret",
        "sasl.oauthbearer.token.endpoint.url": endpoint,
    }
