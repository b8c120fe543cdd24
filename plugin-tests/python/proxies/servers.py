"""Servers for ci/proxies.sh: a web service that records its requests, and proxies that don't work."""

import base64
import contextlib
import http.server
import json
import socket
import ssl
import sys
import time


class Service(http.server.BaseHTTPRequestHandler):
    """Responds like the topic service, an OpenID provider, and AWS' STS."""

    log_path: str

    def respond(self) -> None:
        request = self.rfile.read(int(self.headers.get("content-length", 0)))
        scheme = "https" if isinstance(self.connection, ssl.SSLSocket) else "http"
        with open(self.log_path, "a", encoding="utf-8") as log:
            log.write(f"{scheme} {self.command} {self.path} {request.decode()}\n")
        status, kind = 200, "application/json"
        if self.path == "/token":
            body = json.dumps({"access_token": unsigned_token(), "token_type": "Bearer", "expires_in": 300}).encode()
        elif self.path == "/rejected-token":
            status, body = 403, b'{"error": "not today"}'
        elif self.path.startswith("/api/"):
            body = json.dumps({"status": "success", "namespaces": {"lab": ["there"]}}).encode()
        else:
            status, kind = 403, "text/xml"
            body = b"<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>"
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = respond

    def log_message(self, *_: object) -> None:
        pass


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        # A client that refuses the certificate ends the connection.
        if not isinstance(sys.exc_info()[1], (ssl.SSLError, ConnectionError)):
            super().handle_error(*_)


def unsigned_token() -> str:
    """A JSON Web Token for five minutes."""
    now = int(time.time())
    parts = [{"alg": "none"}, {"sub": "me", "iat": now, "exp": now + 300}]
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
    return ".".join([*encoded, ""])


def serve(port: int, log_path: str, certificate: str = "") -> None:
    """With a certificate, a file with its key, the service uses TLS."""
    Service.log_path = log_path
    server = Server(("127.0.0.1", port), Service)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        # The thread of each connection does the handshake, when it reads the request.
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.serve_forever()


def main() -> None:
    kind, address, *rest = sys.argv[1:]
    if kind == "service":
        serve(int(address), *rest)
    host, port = address.split(":")
    with socket.create_server((host, int(port))) as server:
        kept = []
        while True:
            connection, _ = server.accept()
            if kind == "silent":
                kept.append(connection)
                continue
            # The client has sent its first message.
            first = connection.recv(1)
            if kind == "stalling":
                kept.append(connection)
                with contextlib.suppress(OSError):
                    # The first byte of a reply: the version of SOCKS, or of HTTP/1.1.
                    connection.send(first if first == b"\5" else b"H")
            else:
                time.sleep(0.01)
                connection.close()


main()
