"""A test double of the topic service: creates, empties, deletes and lists topics of a Kafka over HTTP, for authorized
clients.

    topic_service.py --kafka HOST:PORT --subject S --authorization A --namespace NS [--namespace NS]
                     [--partitions N] [--certificate FILE --key FILE]
                     [--access-key ID --secret-key S --endpoint HOST:PORT]

Prints `READY URL` and serves until its standard input ends. It uses kafka-python, so that it shares no code with Octopus.
It has these routes for tests, in addition to those of the service:

    GET    /requests         returns all requests: [{"method", "path", "headers", "status"}], without secrets
    POST   /failures         {"times": N, "how": "status" | "drop" | "drop after" | "hang" | "word" | "text",
                             "status": 503, "headers": {}, "route": "GET /api/v3/namespace"}:
                             makes the next N requests, or the next N to that route, fail
    POST   /rotation         {"authorization": "Bearer new"}: replaces the token, and the old one expires
"""

import argparse
import json
import ssl
import sys
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import TopicAlreadyExistsError, UnknownTopicOrPartitionError

TIMEOUT_S = 30


class Topics:
    """The topics of the namespaces in Kafka."""

    def __init__(self, bootstrap, namespaces, partitions):
        self.namespaces = namespaces
        self.partitions = partitions
        self.lock = threading.Lock()
        self.admin = KafkaAdminClient(bootstrap_servers=bootstrap, client_id="topic-service")

    def names(self, namespace):
        prefix = namespace + "."
        with self.lock:
            return sorted(name[len(prefix):] for name in self.admin.list_topics() if name.startswith(prefix))

    def all(self):
        return {namespace: self.names(namespace) for namespace in self.namespaces}

    def create(self, namespace, topic):
        """Creates a topic. Returns whether it did not exist."""
        new = NewTopic(f"{namespace}.{topic}", num_partitions=self.partitions, replication_factor=1)
        with self.lock:
            try:
                self.admin.create_topics([new])
            except TopicAlreadyExistsError:
                return False
        return True

    def delete(self, namespace, topic):
        """Deletes a topic and waits until it is deleted. Returns whether it existed."""
        with self.lock:
            try:
                self.admin.delete_topics([f"{namespace}.{topic}"])
            except UnknownTopicOrPartitionError:
                return False
        self.await_condition(lambda: topic not in self.names(namespace), f"{topic} to be deleted")
        return True

    def recreate(self, namespace, topic):
        return self.delete(namespace, topic) and (self.create(namespace, topic) or True)

    @staticmethod
    def await_condition(holds, what):
        end = time.monotonic() + TIMEOUT_S
        while not holds():
            if time.monotonic() > end:
                raise TimeoutError(f"waited {TIMEOUT_S} s for {what}")
            time.sleep(0.05)


class Failures:
    """The failures that the tests have requested."""

    def __init__(self):
        self.requested = []
        self.lock = threading.Lock()

    def add(self, failure):
        with self.lock:
            self.requested.append(failure)

    def take(self, route):
        with self.lock:
            for failure in self.requested:
                if failure["times"] > 0 and failure.get("route", route) == route:
                    failure["times"] -= 1
                    return failure
        return None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    topics = None
    failures = Failures()
    requests = []
    subject = None
    authorization = None
    ended = []
    key = None

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.route(self.get)

    def do_POST(self):
        self.route(self.post)

    def do_PUT(self):
        self.route(self.put)

    def do_DELETE(self):
        self.route(self.delete)

    def route(self, serve):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        self.entry = None
        if self.path == "/requests":
            return self.reply(200, Handler.requests)
        if self.path == "/failures":
            Handler.failures.add(json.loads(body))
            return self.reply(200, {"status": "success"})
        if self.path == "/rotation":
            Handler.ended.append(Handler.authorization)
            Handler.authorization = json.loads(body)["authorization"]
            return self.reply(200, {"status": "success"})
        secrets = ("authorization", "subject")
        shown = {name.lower(): value for name, value in self.headers.items() if name.lower() not in secrets}
        self.entry = {"method": self.command, "path": self.path, "headers": shown, "status": None}
        Handler.requests.append(self.entry)
        failure = Handler.failures.take(f"{self.command} {self.path}")
        if failure and failure["how"] != "drop after":
            return self.fail(failure)
        if (self.headers.get("subject"), self.headers.get("authorization")) != (self.subject, self.authorization):
            # Contains the credentials, as the messages of some servers do. The plugin must not pass
            # them on.
            message = f"{self.headers.get('subject')} may not, with {self.headers.get('authorization')}"
            is_unknown = self.headers.get("authorization") in [None, *self.ended]
            return self.reply(401 if is_unknown else 403, {"status": "error", "message": message})
        try:
            status, response = serve()
        except Exception as error:
            status, response = 500, {"status": "error", "message": f"{type(error).__name__}: {error}"}
        if failure:
            # "drop after": the request was executed, and the response is lost.
            self.close_connection = True
            return None
        return self.reply(status, response)

    def fail(self, failure):
        self.close_connection = True
        if failure["how"] == "status":
            return self.reply(failure["status"], {"status": "error", "message": "as was ordered"}, failure.get("headers"))
        if failure["how"] == "word":
            return self.reply(200, {"status": "failure", "message": "as was ordered", "topics": []})
        if failure["how"] == "text":
            return self.reply(200, None)
        if failure["how"] == "hang":
            time.sleep(TIMEOUT_S)
        return None

    def parts(self):
        """Returns the unescaped parts of the path: the namespace, the topic and the rest."""
        parts = [urllib.parse.unquote(part) for part in self.path.split("/")]
        if parts[:3] != ["", "api", "v3"] or len(parts) < 5:
            return None
        return parts[3:]

    def get(self):
        if self.path != "/api/v3/namespace":
            return 404, {"status": "error", "message": "no such route"}
        namespaces = self.topics.all()
        return 200, {
            "status": "success", "message": f"Found {len(namespaces)} namespaces", "namespaces": namespaces
        }

    def post(self):
        if self.path == "/api/v3/key":
            if not self.key:
                return 404, {"status": "error", "message": "this service has no keys"}
            return 200, {"status": "success", "message": "Key retrieved", "fresh": False, **self.key}
        return self.change(lambda namespace, topic: (self.topics.create(namespace, topic), True)[1], "created", 2)

    def delete(self):
        return self.change(self.topics.delete, "deleted", 2)

    def put(self):
        return self.change(self.topics.recreate, "recreated", 3)

    def change(self, do, done, length):
        parts = self.parts()
        if not parts or len(parts) != length or parts[2:] not in ([], ["recreate"]):
            return 404, {"status": "error", "message": "no such route"}
        namespace, topic = parts[:2]
        if namespace not in self.topics.namespaces:
            return 403, {"status": "error", "message": f"namespace {namespace} is somebody else's"}
        if not do(namespace, topic):
            return 404, {"status": "error", "message": f"there is no topic {topic} in {namespace}"}
        return 200, {
            "status": "success", "message": f"Topic {topic} {done}", "topics": self.topics.names(namespace)
        }

    def reply(self, status, response, headers=None):
        if self.entry:
            self.entry["status"] = status
        body = b"<html>not a topic service</html>" if response is None else json.dumps(response).encode()
        self.send_response(status)
        for name, value in {"content-type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        # A client may close its connection at any time.
        pass


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--kafka", required=True)
    parser.add_argument("--subject", required=True)
    parser.add_argument("--authorization", required=True)
    parser.add_argument("--namespace", action="append", required=True)
    parser.add_argument("--partitions", type=int, default=1)
    parser.add_argument("--access-key", help="the user's key at Amazon; with --secret-key and --endpoint")
    parser.add_argument("--secret-key")
    parser.add_argument("--endpoint")
    parser.add_argument("--certificate")
    parser.add_argument("--key")
    options = parser.parse_args()
    Handler.topics = Topics(options.kafka, options.namespace, options.partitions)
    Handler.subject, Handler.authorization = options.subject, options.authorization
    if options.access_key:
        Handler.key = {
            "access_key": options.access_key,
            "secret_key": options.secret_key,
            "create_date": "2026-01-01T00:00:00",
            "endpoint": options.endpoint,
        }
    server = Server(("127.0.0.1", 0), Handler)
    scheme = "http"
    if options.certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.certificate, options.key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        scheme = "https"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"READY {scheme}://127.0.0.1:{server.server_port}", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
