"""Servers for ci/proxies.sh: a web service that records its requests, and proxies that don't work."""

import http.server
import json
import socket
import sys
import time


class Service(http.server.BaseHTTPRequestHandler):
    """Responds like the topic service, an OpenID provider, and AWS' STS."""

    log_path: str

    def respond(self) -> None:
        request = self.rfile.read(int(self.headers.get("content-length", 0)))
        with open(self.log_path, "a", encoding="utf-8") as log:
            log.write(f"{self.command} {self.path} {request.decode()}\n")
        if self.path == "/token":
            body, kind = b'{"error": "not today"}', "application/json"
        elif self.path.startswith("/api/"):
            body, kind = json.dumps({"status": "success", "namespaces": {"lab": ["there"]}}).encode(), "application/json"
        else:
            body, kind = b"<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>", "text/xml"
        self.send_response(200 if self.path.startswith("/api/") else 403)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = respond

    def log_message(self, *_: object) -> None:
        pass


def main() -> None:
    kind, address, *rest = sys.argv[1:]
    if kind == "service":
        Service.log_path = rest[0]
        http.server.ThreadingHTTPServer(("127.0.0.1", int(address)), Service).serve_forever()
    host, port = address.split(":")
    with socket.create_server((host, int(port))) as server:
        kept = []
        while True:
            connection, _ = server.accept()
            if kind == "silent":
                kept.append(connection)
            else:
                # The client has sent its first message.
                connection.recv(1)
                time.sleep(0.01)
                connection.close()


main()
