"""A loopback server of the OpenAI chat API whose judge does what a test tells it; it logs every request."""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any


@dataclass
class Reply:
    """What the server sends back.

    Attributes:
        content: of the judge's message.
        message: more fields of the message.
        body: the whole HTTP body, instead of a chat completion.
        delay: before anything is sent, s.
    """

    content: str | None = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    finish_reason: str = "stop"
    message: dict[str, Any] = field(default_factory=dict)
    usage: dict[str, int] | None = field(default_factory=lambda: {"prompt_tokens": 100, "completion_tokens": 20})
    body: str | None = None
    delay: float = 0.0


@dataclass
class Asked:
    """One request: its JSON body, its headers, when it came (`time.monotonic()`, s)."""

    body: dict[str, Any]
    headers: dict[str, str]
    at: float


def verdict(first: Any = 8, second: Any = 5, winner: Any = "first", explanation: Any = "It is fuller.") -> str:
    return json.dumps({"explanation": explanation, "score_first": first, "score_second": second, "winner": winner})


class JudgeServer:
    """`with JudgeServer(judge) as server: server.url`; `judge` makes a reply of a request's body and of how many
    requests with these messages came before."""

    def __init__(self, judge: Callable[[dict[str, Any], int], Reply], port: int = 0) -> None:
        self.judge = judge
        self._port = port
        self.log: list[Asked] = []
        self._lock = threading.Lock()

    def __enter__(self) -> "JudgeServer":
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                outer._answer(self)

            def log_message(self, *_: Any) -> None:
                """Nothing on stderr."""

        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        assert handler.path == "/v1/chat/completions"
        with self._lock:
            before = sum(asked.body["messages"] == body["messages"] for asked in self.log)
            self.log.append(Asked(body, dict(handler.headers), time.monotonic()))
        reply = self.judge(body, before)
        time.sleep(reply.delay)
        message = {"role": "assistant", "content": reply.content, **reply.message}
        choice = {"index": 0, "finish_reason": reply.finish_reason, "message": message}
        completion = {"id": "1", "object": "chat.completion", "created": 1, "model": body["model"], "choices": [choice]}
        sent = (json.dumps(completion | {"usage": reply.usage}) if reply.body is None else reply.body).encode()
        try:
            handler.send_response(reply.status)
            for name, value in {
                "Content-Type": "application/json",
                "Content-Length": len(sent),
                **reply.headers,
            }.items():
                handler.send_header(name, str(value))
            handler.end_headers()
            handler.wfile.write(sent)
        except ConnectionError:  # the client gave up, or was killed
            handler.close_connection = True
