"""A loopback server that speaks the collector's wire contract: it serves pages, and keeps every request."""

import hashlib
import json
import mimetypes
import socket
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from ifllm_hub.collect.tokens import ResponseToken, Signer
from ifllm_hub.collect.wire import Rating, parse

STATIC = Path(__file__).parents[2] / "ifllm_hub" / "collect" / "static"
BATCHES, RATINGS, ME = "/ifllm/v1/batches", "/ifllm/v1/ratings", "/ifllm/v1/people/me"

_KEYS = {"v", "session", "sequence", "consent", "origin", "viewport", "responses", "ticks", "views", "events"}
_VALUES = {
    **dict.fromkeys(("stream_start", "stream_end", "shown", "first_key", "vote", "regenerate", "consent"), "null"),
    **dict.fromkeys(("copy", "thumb", "dropped", "leave"), "int"),
}
_ON_ANSWER = {"stream_start", "stream_end", "shown", "copy", "thumb", "vote", "regenerate", "leave"}


def token_of(text: str) -> str:
    """The server's token for an answer."""
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    # In base64url an id like this one has what is not in base64.
    return Signer([b"key" * 12]).sign(ResponseToken("r", "?>?>?>?>", "left", sha256, len(text), "p", 0, 1))


class WireServer:
    """Start, stop (the port then refuses connections) and start again at the same port.

    Attributes:
        pages: by path, HTML or what the path's ending says.
        moved: addresses by the path that redirects to them.
        log: requests but those for pages and scripts, in the order of arrival: method, path, headers, body (bytes).
        batches: accepted batches by (session, sequence), in the order of arrival.
        answers: status codes to give in place of the next answers, one a request; "withdrawn" is 410 with that reason.
    """

    def __init__(self) -> None:
        self.pages: dict[str, str] = {}
        self.moved: dict[str, str] = {}
        self.log: list[dict[str, Any]] = []
        self.batches: dict[tuple[str, int], dict[str, Any]] = {}
        self.duplicates = 0
        self.answers: list[int | str] = []
        self._lock = threading.Lock()
        self._port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        self._server = _Server(("127.0.0.1", self._port), _handler(self))
        self._port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._server.hang_up()

    def ticks(self, session: str | None = None) -> list[list[Any]]:
        """All accepted ticks in the order of their batches, the token in place of its index."""
        return self._rows("ticks", 1, session)

    def views(self, session: str | None = None) -> list[list[Any]]:
        """Likewise, all that was said about what is on the screen."""
        return self._rows("views", 1, session)

    def events(self, session: str | None = None) -> list[list[Any]]:
        """All accepted events; the token in place of its index, or None."""
        return self._rows("events", 2, session)

    def _rows(self, kind: str, place: int, session: str | None) -> list[list[Any]]:
        rows = []
        for (owner, _), batch in sorted(self.batches.items()):
            for row in batch[kind]:
                named = list(row)
                named[place] = batch["responses"][row[place]] if row[place] >= 0 else None
                if session in (None, owner):
                    rows.append(named)
        return rows

    def receive(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, Any]:
        """Status and JSON of the answer to one request."""
        with self._lock:
            self.log.append({"method": method, "path": path, "headers": headers, "body": body})
            if self.answers:
                answer = self.answers.pop(0)
                return (410, {"detail": "withdrawn"}) if answer == "withdrawn" else (int(answer), {})
            if (method, path) == ("DELETE", ME):
                return 204, None
            if (method, path) == ("POST", RATINGS):
                parse(Rating, body)
                return 202, {"accepted": True}
            if (method, path) != ("POST", BATCHES):
                return 404, {}
            batch = json.loads(body)
            check_batch(batch)
            key = (batch["session"], batch["sequence"])
            if key in self.batches:
                self.duplicates += 1
                return (202 if self.batches[key] == batch else 409), {"accepted": True, "duplicate": True}
            self.batches[key] = batch
            return 202, {"accepted": True, "duplicate": False}


def check_batch(batch: dict[str, Any]) -> None:
    """Assert that a batch is what the contract says, and nothing else."""
    assert set(batch) - {"gaze", "calibration"} == _KEYS
    assert batch["v"] == 1
    assert len(batch["session"]) == 32
    assert set(batch["session"]) <= set("0123456789abcdef")
    assert type(batch["sequence"]) is int
    assert type(batch["origin"]) is int
    assert len(batch["viewport"]) == 3
    assert 1 <= len(batch["responses"]) <= 16
    assert len(set(batch["responses"])) == len(batch["responses"])
    for kind, most in (("ticks", 512), ("gaze", 512)):
        rows = batch.get(kind, [])
        assert len(rows) <= most
        for row in rows:
            assert [type(value) for value in row] == [int] * 6
            assert 0 <= row[1] < len(batch["responses"])
            assert row[4] >= -2
            assert row[5] in ((0, 1, 2) if kind == "ticks" else (3, 4))
    assert len(batch["views"]) <= 512
    for _, r, first, last, share, top, bottom in batch["views"]:
        assert 0 <= r < len(batch["responses"])
        assert -2 <= first <= last
        assert 0 <= share <= 1_000
        assert top <= bottom
        assert {type(value) for value in (first, last, share, top, bottom)} == {int}
    assert len(batch["events"]) <= 256
    for t, name, r, value in batch["events"]:
        assert type(t) is int
        assert (type(value) is int) if _VALUES[name] == "int" else value is None
        assert (0 <= r < len(batch["responses"])) if name in _ON_ANSWER else r == -1


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._connections: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """End what is connected: a browser connects ahead of its next request."""
        for connection in list(self._connections):
            with suppress(OSError):  # it ended just now
                connection.shutdown(socket.SHUT_RDWR)


def _handler(wire: WireServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.endswith(("/tracker.js", "/ifllm.js")) or self.path == "/favicon.ico":
                content = b"" if self.path == "/favicon.ico" else (STATIC / "tracker.js").read_bytes()
                self._answer(200, "text/javascript", content)
            elif self.path in wire.moved:
                self.send_response(302)
                self.send_header("location", wire.moved[self.path])
                self.send_header("content-length", "0")
                self.end_headers()
            elif self.path in wire.pages:
                kind = mimetypes.guess_type(self.path)[0] or "text/html"
                self._answer(200, f"{kind}; charset=utf-8", wire.pages[self.path].encode())
            else:
                self._receive()

        def do_POST(self) -> None:
            self._receive()

        def do_DELETE(self) -> None:
            self._receive()

        def _receive(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, answer = wire.receive(self.command, self.path, headers, body)
            self._answer(status, "application/json", b"" if answer is None else json.dumps(answer).encode())

        def _answer(self, status: int, kind: str, content: bytes) -> None:
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler
