"""The filter function for Open WebUI: against a real collector, and its scripts in a real page."""

import asyncio
import importlib.util
import json
import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.collect.client import ORIGIN, batch, encoded
from tests.collect.processes import ROOT, api_key, free_port, start_server
from tests.collect.wire import WireServer

TEXT = 'It is </script><script>window.hit = 1</script> "quoted" \u2028 and `ticked` ${window.hit = 2}.'
BODY = {
    "chat_id": "chat-1",
    "model": "llama",
    "messages": [
        {"id": "m0", "role": "user", "content": "Why?"},
        {"id": "m1", "role": "assistant", "content": "**It** is"},
    ],
}


def make_filter() -> Any:
    spec = importlib.util.spec_from_file_location("open_webui_filter", ROOT / "examples" / "open_webui_filter.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Filter()


def user(agreed: bool) -> dict[str, Any]:
    return {"id": "user-1", "valves": SimpleNamespace(record_my_reading=agreed)}


class Page:
    """Plays Open WebUI's page: it answers the first script with the answer's text, and keeps all."""

    def __init__(self) -> None:
        self.scripts: list[str] = []

    async def __call__(self, event: dict[str, Any]) -> Any:
        assert event["type"] == "execute"
        self.scripts.append(event["data"]["code"])
        return TEXT if len(self.scripts) == 1 else True


def test_the_filter_registers_for_who_agreed_only(tmp_path: Path) -> None:
    port = free_port()
    server = start_server(tmp_path, port)
    try:
        recorder, page = make_filter(), Page()
        recorder.valves.endpoint = f"http://127.0.0.1:{port}/ifllm"
        recorder.valves.key = "wrong"
        assert asyncio.run(recorder.outlet(BODY, user(False), page)) is BODY
        assert asyncio.run(recorder.outlet(BODY)) is BODY
        assert page.scripts == []
        assert asyncio.run(recorder.outlet(BODY, user(True), page)) is BODY  # the chat goes on
        assert len(page.scripts) == 1
        recorder.valves.key, page = api_key(tmp_path), Page()
        asyncio.run(recorder.outlet(BODY, user(True), page))
        constants = dict(line[6:-1].split(" = ", 1) for line in page.scripts[1].splitlines() if line[:6] == "const ")
        token = json.loads(constants["TOKEN"])
        assert json.loads(constants["TEXT"]) == TEXT
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/ifllm/v1/batches",
            encoded(batch([token], ticks=[[1_000, 0, 5, 5, 3, 0]])),
            {"Content-Type": "text/plain", "Origin": ORIGIN},
        )
        with urllib.request.urlopen(request) as response:
            assert response.status == 202
        # Switched off: what was stored is deleted, and what the page still sends is refused.
        asyncio.run(recorder.outlet(BODY, user(False), page))
        with pytest.raises(urllib.error.HTTPError, match="410"):
            urllib.request.urlopen(request)
        assert len(page.scripts) == 2
    finally:
        server.kill()
        server.wait()


def test_its_scripts_mark_the_answer_and_run_nothing_else(
    browser: Any, wire: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire.pages["/"] = (
        '<!doctype html><meta charset="utf-8"><div id="message-m1"><div class="markdown-prose"></div></div>'
    )
    page = browser.new_page()
    page.goto(wire.url)
    page.evaluate("text => document.querySelector('.markdown-prose').textContent = text", TEXT)
    recorder = make_filter()
    recorder.valves.endpoint = f"{wire.url}/ifllm"
    scripts: list[str] = []

    async def call(event: dict[str, Any]) -> Any:
        scripts.append(event["data"]["code"])
        return TEXT

    async def post(self: Any, url: str, **more: Any) -> Any:
        answer = {"token": "TOKEN", "person_token": "PERSON"}
        return SimpleNamespace(raise_for_status=lambda: None, json=lambda: answer)

    monkeypatch.setattr("httpx.AsyncClient.post", post)
    asyncio_run_in_thread(recorder.outlet(BODY, user(True), call))
    # As Open WebUI runs them.
    run = "code => new Function(`return (async () => { ${code} })()`)()"
    assert page.evaluate(run, scripts[0]) == TEXT
    assert page.evaluate(run, scripts[1]) is True
    box = page.locator("[data-ifllm-response=TOKEN]").bounding_box()
    for step in range(12):
        page.mouse.move(box["x"] + 5 + 6 * step, box["y"] + box["height"] / 2)
        page.wait_for_timeout(90)
    page.evaluate("window.ifllm.then((tracker) => tracker.flush())")
    assert {tick[1] for tick in wire.ticks()} == {"TOKEN"}
    assert page.evaluate("window.hit") is None
    page.close()


def asyncio_run_in_thread(work: Any) -> None:
    """Playwright's loop is running in this thread."""
    import threading

    thread = threading.Thread(target=asyncio.run, args=(work,))
    thread.start()
    thread.join()
