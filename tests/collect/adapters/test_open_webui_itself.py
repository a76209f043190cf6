"""The filter function in a real Open WebUI: recorded when switched on, deleted when switched off.

Needs `IFLLM_OPEN_WEBUI`, the path of an `open-webui` command (`pip install open-webui` in an environment of its own; it
takes gigabytes). Without it this skips visibly. Run last with 0.12.4.
"""

import json
import os
import re
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest

from tests.collect.adapters.product import Stored, collecting, key_of, on_most, rest_on, running
from tests.collect.store.processes import ROOT, api_key, free_port
from tests.waiting import until

pytestmark = pytest.mark.slow

ANSWER = "Bread is **old**. First baked:\n\n- in Jordan, from wild grain\n- in Egypt, with yeast 🍞\n\nLater, mills."
RENDERED = "Bread is old. First baked: in Jordan, from wild grain in Egypt, with yeast 🍞Later, mills."


class Model(BaseHTTPRequestHandler):
    """An OpenAI-compatible server whose only model always gives `ANSWER`."""

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._send("application/json", json.dumps({"data": [{"id": "scripted", "object": "model"}]}))

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        said = {"role": "assistant", "content": ANSWER}
        if not asked.get("stream"):
            self._send("application/json", json.dumps({"choices": [{"message": said, "finish_reason": "stop"}]}))
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for piece in [*re.findall(r"\S+\s*", ANSWER), ""]:
            choice = {"index": 0, "delta": {"content": piece}, "finish_reason": None if piece else "stop"}
            event = json.dumps({"object": "chat.completion.chunk", "choices": [choice]})
            self.wfile.write(f"data: {event}\n\n".encode())
            time.sleep(0.4)
        self.wfile.write(b"data: [DONE]\n\n")

    def _send(self, kind: str, content: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content.encode())))
        self.end_headers()
        self.wfile.write(content.encode())


@pytest.fixture(scope="module")
def open_webui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an Open WebUI of its own, without a login, with one scripted model, set as the docs say."""
    command = os.environ.get("IFLLM_OPEN_WEBUI")
    if not command:
        pytest.skip("needs Open WebUI: set IFLLM_OPEN_WEBUI to the path of its command")
    folder, port = tmp_path_factory.mktemp("open-webui"), free_port()
    model = ThreadingHTTPServer(("127.0.0.1", 0), Model)
    Thread(target=model.serve_forever, daemon=True).start()
    settings = {
        "DATA_DIR": str(folder / "data"),
        "WEBUI_AUTH": "False",
        "WEBUI_SECRET_KEY": "of this test",
        "OFFLINE_MODE": "True",
        "RAG_EMBEDDING_ENGINE": "openai",
        "ENABLE_OLLAMA_API": "False",
        "OPENAI_API_BASE_URL": f"http://127.0.0.1:{model.server_address[1]}/v1",
        "OPENAI_API_KEY": "none",
        "DEFAULT_INTERFACE_SETTINGS": json.dumps({"chatFadeStreamingText": False}),
    }
    address = f"http://127.0.0.1:{port}"
    words = [command, "serve", "--host", "127.0.0.1", "--port", str(port)]
    with running(words, folder, f"{address}/health", os.environ | settings):
        yield address
    model.shutdown()
    model.server_close()


@pytest.fixture(scope="module")
def collected(open_webui: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The address of a collector, and its folder."""
    folder = tmp_path_factory.mktemp("collected")
    with collecting(folder, open_webui, free_port()) as endpoint:
        yield endpoint, folder


@pytest.fixture(scope="module")
def api(open_webui: str, collected: tuple[str, Path]) -> Iterator[httpx.Client]:
    """Open WebUI's, logged in, with the filter switched on for everybody."""
    endpoint, folder = collected
    with httpx.Client(base_url=f"{open_webui}/api/v1", timeout=60) as client:
        token = client.post("/auths/signin", json={"email": "", "password": ""}).json()["token"]
        client.headers["Authorization"] = f"Bearer {token}"
        function = {"id": "ifllm", "name": "ifllm", "meta": {"description": "Records reading"}}
        content = (ROOT / "examples" / "open_webui_filter.py").read_text()
        for path, body in (
            ("create", function | {"content": content}),
            ("id/ifllm/toggle", None),
            ("id/ifllm/toggle/global", None),
            ("id/ifllm/valves/update", {"endpoint": endpoint, "key": api_key(folder)}),
        ):
            client.post(f"/functions/{path}", json=body).raise_for_status()
        yield client


@pytest.fixture(scope="module")
def page(browser: Any, open_webui: str, api: httpx.Client) -> Iterator[Any]:
    """Open WebUI's, with a new chat."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.goto(open_webui)
    page.evaluate("token => localStorage.setItem('token', token)", api.headers["Authorization"].split()[1])
    page.goto(f"{open_webui}/?models=scripted")
    page.get_by_text("Okay, Let's Go!").click()  # what is new in this version
    yield page
    context.close()


@pytest.fixture
def stored(collected: tuple[str, Path]) -> Iterator[Stored]:
    stored = Stored(collected[1])
    yield stored
    stored.close()


def switch(api: httpx.Client, on: bool) -> None:
    api.post("/functions/id/ifllm/valves/user/update", json={"record_my_reading": on}).raise_for_status()


def say(page: Any, question: str) -> None:
    page.locator("#chat-input").click()
    page.keyboard.type(question)
    page.keyboard.press("Enter")


def wait_for_token(page: Any, answer: Any, other: str | None = None) -> str:
    """The token of the answer, when it has one, other than an earlier one."""
    until(lambda: answer.get_attribute("data-ifllm-response") != other, 60, lambda: page.wait_for_timeout(20))
    return str(answer.get_attribute("data-ifllm-response"))


def forget(page: Any, api: httpx.Client, stored: Stored) -> None:
    """Switch it off, and ask once more."""
    switch(api, False)
    say(page, "And now?")
    until(lambda: stored.answers() == stored.ticks() == [], 60, lambda: page.wait_for_timeout(100))
    assert page.locator("[data-ifllm-response]").count() == 0
    page.locator(".markdown-prose").last.get_by_text("mills.").wait_for()
    page.wait_for_timeout(3_000)
    assert stored.answers() == []


def test_it_records_from_the_first_word_on_and_deletes_when_switched_off(
    page: Any, api: httpx.Client, stored: Stored
) -> None:
    say(page, "Not recorded?")
    page.locator(".markdown-prose").nth(1).get_by_text("mills.").wait_for()
    page.wait_for_timeout(2_000)
    assert page.locator("[data-ifllm-response]").count() == 0
    assert stored.answers() == []

    switch(api, True)
    say(page, "Who baked bread first?")
    answer = page.locator("[data-ifllm-response]")
    first = wait_for_token(page, answer)
    assert "Egypt" not in answer.text_content()
    rest_on(page, answer, "First")
    final = wait_for_token(page, answer, first)
    ((_, query, shown),) = stored.answers()
    assert (query, " ".join(shown.split()), shown) == ("Who baked bread first?", RENDERED, answer.text_content())
    rest_on(page, answer, "Egypt")
    page.locator("button", has=page.locator("[d='M7 14.5L7 3.5']")).last.click()

    # Another chat, and back: the page makes the answer anew.
    answer.evaluate("element => element.isTheOld = true")
    chat = page.url
    page.locator("a[href='/']").first.click()
    answer.wait_for(state="detached")
    page.go_back()
    assert page.url == chat
    assert wait_for_token(page, answer) == final
    assert answer.evaluate("element => element.isTheOld") is None
    rest_on(page, answer, "mills")
    page.evaluate("ifllm.flush()")
    assert shown.index("First") in on_most(stored, first)
    assert {shown.index("Egypt"), shown.index("mills")} <= on_most(stored, final)
    names = [event[1] for event in stored.events()]
    assert (names.count("stream_start"), names.count("stream_end")) == (1, 1)
    assert [event[2:] for event in stored.events() if event[1] == "thumb"] == [[key_of(final), -1]]
    forget(page, api, stored)


def test_where_the_growing_text_is_another_it_does_not_count(page: Any, api: httpx.Client, stored: Stored) -> None:
    """With the effect that fades words in, Open WebUI shows more spaces in an answer that grows than in the end."""
    api.post("/users/user/settings/update", json={"ui": {"chatFadeStreamingText": True}}).raise_for_status()
    page.reload()
    switch(api, True)
    say(page, "Who baked bread first?")
    answer = page.locator("[data-ifllm-response]")
    first = wait_for_token(page, answer)
    rest_on(page, answer, "Egypt")
    final = wait_for_token(page, answer, first)
    rest_on(page, answer, "Jordan")
    page.evaluate("ifllm.flush()")
    (question, _, nothing), (other, _, shown) = stored.answers()
    assert (nothing, other) == ("", f"{question}.complete")
    assert on_most(stored, first) - {shown.index("Egypt")}  # where the cursor never was, in the complete text
    assert shown.index("Jordan") in on_most(stored, final)
    forget(page, api, stored)
