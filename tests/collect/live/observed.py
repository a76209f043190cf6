"""A loopback server that takes what OTLP exporters and Langfuse's client send, and keeps it."""

import gzip
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

PUBLIC_KEY, SECRET_KEY = "pk-lf-loopback", "sk-lf-loopback"


class Observer:
    """Listens at `url` from the start.

    Attributes:
        events: OTLP's log records, as JSON has them.
        scores: Langfuse's.
        others: the paths of all other requests.
    """

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.scores: list[dict[str, Any]] = []
        self.others: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def take(self, path: str, body: bytes) -> tuple[bytes, str]:
        """Keep the body of a POST; the answer to it, and its type."""
        if path == "/v1/logs":
            for resource in ExportLogsServiceRequest.FromString(body).resource_logs:
                for scope in resource.scope_logs:
                    self.events += [MessageToDict(record) | {"scope": scope.scope.name} for record in scope.log_records]
            return b"", "application/x-protobuf"
        if path == "/api/public/scores":
            self.scores += json.loads(body)
            return b'{"message": "Accepted"}', "application/json"
        self.others.append(path)
        return b"{}", "application/json"


def attributes(event: dict[str, Any]) -> dict[str, str | float]:
    """Those of a log record, each of which has one value of some type."""
    return {entry["key"]: next(iter(entry["value"].values())) for entry in event["attributes"]}


def _handler(observer: Observer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            said, kind = observer.take(self.path, body)
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler
