"""Who answers: an endpoint over HTTP as OpenAI's streams, a policy on this machine, several at once."""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from ifllm_hub.collect.study.models import (
    ENDPOINT_KEY,
    AnswerFailed,
    EndpointModel,
    LocalModel,
    model_of,
    streamed_together,
)
from ifllm_hub.errors import IfllmError

MESSAGES = [{"role": "user", "content": "Why?"}]


async def text_of(stream: AsyncIterator[str]) -> str:
    return "".join([piece async for piece in stream])


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """An OpenAI-compatible server: `asked` has what came in, `status` what it answers with, `refuses` parameters."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    state: dict[str, Any] = {"asked": [], "status": 200, "refuses": ()}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            state["asked"].append((self.path, self.headers.get("authorization"), body))
            if refused := next((name for name in state["refuses"] if name in body), None):
                self.send_response(400)
                self.end_headers()
                self.wfile.write(f'{{"error": {{"message": "Unsupported parameter: {refused}"}}}}'.encode())
                return
            self.send_response(state["status"])
            self.send_header("content-type", "text/event-stream")
            self.end_headers()
            for piece in ("Because", " of", " \U0001f41d."):
                choice = {"index": 0, "delta": {"role": "assistant", "content": piece}, "finish_reason": None}
                chunk = {"id": "1", "created": 1, "model": "m", "system_fingerprint": "", "choices": [choice]}
                self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
            self.wfile.write(b"data: [DONE]\n\n")

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    state["url"] = f"http://127.0.0.1:{server.server_address[1]}/v1"
    yield state
    server.shutdown()
    server.server_close()
    thread.join()


def test_an_endpoint(endpoint: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    model = model_of(f"owner/m@{endpoint['url']}")
    assert asyncio.run(text_of(model.stream(MESSAGES, 77))) == "Because of \U0001f41d."
    monkeypatch.setenv(ENDPOINT_KEY, "its own key")
    asyncio.run(text_of(model.stream(MESSAGES, 77)))
    (path, first, body), (_, second, _) = endpoint["asked"]
    assert path == "/v1/chat/completions"
    # The Hub's token is nobody else's business.
    assert (first, second) == ("Bearer none", "Bearer its own key")
    assert (body["model"], body["messages"], body["max_tokens"], body["stream"]) == ("owner/m", MESSAGES, 77, True)


def test_an_endpoint_of_another_dialect(endpoint: dict[str, Any]) -> None:
    endpoint["refuses"] = ("max_tokens", "temperature")
    model = EndpointModel("m", endpoint["url"])
    for _ in range(2):
        assert asyncio.run(text_of(model.stream(MESSAGES, 77))) == "Because of \U0001f41d."
    *refused, first, second = [body for _, _, body in endpoint["asked"]]
    assert len(refused) == 2
    for body in (first, second):
        assert body["max_completion_tokens"] == 77
        assert not {"max_tokens", "temperature"} & body.keys()


def test_an_endpoint_that_fails(endpoint: dict[str, Any]) -> None:
    endpoint["status"] = 500
    with pytest.raises(AnswerFailed, match=r"^m: no answer"):
        asyncio.run(text_of(EndpointModel("m", endpoint["url"]).stream(MESSAGES, 5)))
    with pytest.raises(AnswerFailed, match=r"^m: no answer"):
        asyncio.run(text_of(EndpointModel("m", "http://127.0.0.1:9/v1").stream(MESSAGES, 5)))


@pytest.mark.slow
def test_a_policy_on_this_machine_stops_for_who_leaves() -> None:
    model = LocalModel("tiny")

    async def leave() -> None:
        stream = model.stream(MESSAGES, 100_000)
        await anext(stream)
        await stream.aclose()

    async def run() -> str:
        started = time.monotonic()
        await leave()
        assert time.monotonic() - started < 120
        return await text_of(model.stream(MESSAGES, 8))

    assert asyncio.run(run())
    with pytest.raises(IfllmError, match="Unknown policy"):
        asyncio.run(text_of(LocalModel("no/such/folder").stream(MESSAGES, 8)))


def test_answers_come_together_and_fail_apart() -> None:
    ended = []

    async def stream(name: str, *pieces: Any) -> AsyncIterator[str]:
        try:
            for piece in pieces:
                await asyncio.sleep(0.01)
                if isinstance(piece, Exception):
                    raise piece
                yield piece
        finally:
            ended.append(name)

    async def run() -> None:
        failure = AnswerFailed("no")
        got = [piece async for piece in streamed_together({"a": stream("a", "1", failure), "b": stream("b", *"123")})]
        assert [piece for key, piece in got if key == "a"] == ["1", failure]
        assert [piece for key, piece in got if key == "b"] == ["1", "2", "3"]
        assert got.index(("b", "1")) < got.index(("a", failure))
        left = streamed_together({"c": stream("c", *"1" * 1_000)})
        await anext(left)
        await left.aclose()

    asyncio.run(run())
    assert ended == ["a", "b", "c"]


@pytest.mark.parametrize("spec", ["", "gpt", "local:", "hub:", "@http://host/v1", "m@ftp://host", "javascript:1"])
def test_what_is_no_model(spec: str) -> None:
    with pytest.raises(IfllmError, match="not a model"):
        model_of(spec)
