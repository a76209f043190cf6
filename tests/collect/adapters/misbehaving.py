"""A collector that answers whatever is asked of it with what it should not."""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

from ifllm_hub.collect import wire as contract

ANSWERS = {
    "fine": (200, "application/json", b'{"token": "TOKEN", "person_token": "PERSON"}'),
    "deleted": (204, "application/json", b""),
    "login_page": (200, "text/html", b"<!doctype html><title>Log in</title>"),
    "to_login": (302, "text/html", b""),
    "too_large": (413, "text/html", b"<html>413"),
    "too_many": (429, "application/json", b'{"type": "rate_limited"}'),
    "unauthorized": (401, "application/json", b"{}"),
    "failed": (500, "text/plain", b"Internal Server Error"),
    "bad_gateway": (502, "text/html", b"<html>502"),
    "empty": (200, "application/json", b""),
    "list": (200, "application/json", b"[1, 2]"),
    "null": (200, "application/json", b"null"),
    "other": (200, "application/json", b'{"token": null, "person_token": 5}'),
    "binary": (200, "application/json", bytes(range(256))),
}


class Misbehaving:
    """A server in a collector's place; how it answers is the first part of a path: `fine`, or not."""

    def __init__(self) -> None:
        self.taken: list[Any] = []
        self.silence = Event()
        misbehaving = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"] or 0))
                misbehaving.taken.append(contract.parse(contract.Registration, body) if body else self.path)
                kind = self.path.split("/")[1]
                if kind == "silent":
                    misbehaving.silence.wait(30)
                elif kind != "hangs_up":
                    status, content_type, content = ANSWERS[kind]
                    self.send_response(status)
                    self.send_header("Content-Type", content_type)
                    self.send_header("Location", "/login")
                    self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    self.wfile.write(content)

            def do_DELETE(self) -> None:
                self.headers["Content-Length"] = "0"
                self.do_POST()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        self.silence.set()
        self._server.shutdown()
        self._server.server_close()
