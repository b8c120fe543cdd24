"""What the tests of proxies share: the servers that ci/proxies.sh has started."""

import contextlib
import itertools
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any, Callable, ContextManager, Dict, Iterator, List
from unittest import mock

import diaspora_octopus as octopus

GATE = "10.78.0.1"
MICROSOCKS = f"socks5h://{GATE}:1080"
WITH_PASSWORD = f"socks5h://alice:open%2Fsesame%3A1@{GATE}:1081"
DANTE = f"socks5h://{GATE}:1082"
TINYPROXY = f"http://alice:sesame@{GATE}:8888"
PROXIES = (MICROSOCKS, WITH_PASSWORD, DANTE, TINYPROXY)
BROKER = "broker.cluster.test:9093"
SERVICE = "http://service.cluster.test:8000"
TLS_SERVICE = "https://service.cluster.test:8443"
SERVICES = (SERVICE, TLS_SERVICE)
WORK = os.environ["OCTOPUS_TEST_PROXIES"]
EVENTS = 1000

_numbers = itertools.count()


def driver(proxy: str, broker: str = BROKER, **options: Any) -> octopus.Driver:
    kafka = {
        "bootstrap.servers": broker,
        "security.protocol": "ssl",
        "ssl.ca.location": f"{WORK}/certificate.pem",
        **options.pop("kafka", {}),
    }
    return octopus.Driver({"connect_timeout_ms": 2000, **options, "kafka": kafka, "proxy": proxy})


def round_trip(of: octopus.Driver, count: int = EVENTS) -> List[int]:
    """Pushes events to a new topic, and returns those that were read."""
    name = f"through-{os.getpid()}-{next(_numbers)}"
    of.create_topic(name, num_partitions=1, replication_factor=1)
    topic = of.open_topic(name)
    with topic.producer() as producer:
        for number in range(count):
            producer.push(number, b"x" * 100)
        producer.flush(60)
    with topic.consumer("reader") as consumer:
        read: List[int] = []
        while len(read) < count:
            event = consumer.pull(60)
            assert event is not None, f"only {len(read)} events were read"
            read.append(event.metadata)
    return read


def failure(proxy: str, **options: Any) -> str:
    """The error of a call through this proxy."""
    began = time.monotonic()
    try:
        driver(proxy, **options).topic_exists("any")
    except octopus.Error as error:
        assert time.monotonic() - began < 30, "the error came too late"
        return str(error)
    raise AssertionError(f"no error through {proxy}")


def start_proxy(port: int, user: str, password: str) -> "subprocess.Popen[bytes]":
    """Starts a SOCKS proxy among the servers, for a test that ends it."""
    enter = ["nsenter", "--target", os.environ["OCTOPUS_TEST_SERVERS"], "--net", "--mount"]
    proxy = subprocess.Popen(
        [*enter, "microsocks", "-i", GATE, "-p", str(port), "-u", user, "-P", password], stderr=subprocess.DEVNULL
    )
    end = time.monotonic() + 60
    while True:
        try:
            socket.create_connection((GATE, port)).close()
            return proxy
        except OSError:
            assert proxy.poll() is None and time.monotonic() < end, "microsocks did not start"
            time.sleep(0.05)


@contextlib.contextmanager
def recorded_log() -> Iterator[Callable[[], str]]:
    """Records what the library writes to stderr, and also writes it there in the end."""
    sys.stderr.flush()
    original = os.dup(2)
    with tempfile.NamedTemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        lines = ""
        try:
            yield lambda: lines or pathlib.Path(file.name).read_text(encoding="utf-8")
        finally:
            os.dup2(original, 2)
            os.close(original)
            lines = pathlib.Path(file.name).read_text(encoding="utf-8")
            sys.stderr.write(lines)


class Relay:
    """Connects a port of this machine to a proxy, until `drop` closes all connections at once."""

    def __init__(self, host: str, port: int) -> None:
        self.dropped = 0
        self._target = (host, port)
        self._open: List[socket.socket] = []
        self._lock = threading.Lock()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            proxy = socket.create_connection(self._target)
            with self._lock:
                self._open += [client, proxy]
            for source, sink in ((client, proxy), (proxy, client)):
                threading.Thread(target=self._copy, args=(source, sink), daemon=True).start()

    @staticmethod
    def _copy(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                data = source.recv(65536)
                if not data:
                    break
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def drop(self) -> None:
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
                connection.close()
            self.dropped += len(self._open)
            self._open.clear()

    def end(self) -> None:
        self._server.close()
        self.drop()


def topic_service(url: str) -> Dict[str, str]:
    """The option `octopus`."""
    return {"url": url, "subject": "octopus-test-subject", "authorization": "Bearer octopus-test-secret"}


def trusted(certificate: str) -> ContextManager[Any]:
    """Makes this file the only authority for web services."""
    return mock.patch.dict(os.environ, SSL_CERT_FILE=f"{WORK}/{certificate}")


def request_count(url: str, text: str) -> int:
    """The number of requests with this text that the web service has received."""
    scheme = url.split(":")[0]
    with open(f"{WORK}/requests", encoding="utf-8") as log:
        return sum(line.startswith(f"{scheme} ") and text in line for line in log)
