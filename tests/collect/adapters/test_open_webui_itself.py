"""The filter function in a real Open WebUI: recorded when switched on, deleted when switched off.

Needs `IFLLM_OPEN_WEBUI`, the path of an `open-webui` command (`pip install open-webui` in an environment of its own; it
takes gigabytes). Without it this skips visibly. Run last with 0.12.4.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
from sqlalchemy import create_engine, text

from ifllm_hub.collect.server.app import create_app
from ifllm_hub.collect.settings import STORE_FILE, Settings
from tests.collect.store.processes import ROOT, api_key, free_port
from tests.waiting import until, wait_for_server

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
        parts = [{"index": 0, "delta": said, "finish_reason": None}, {"index": 0, "delta": {}, "finish_reason": "stop"}]
        events = [json.dumps({"object": "chat.completion.chunk", "choices": [part]}) for part in parts]
        self._send("text/event-stream", "".join(f"data: {event}\n\n" for event in [*events, "[DONE]"]))

    def _send(self, kind: str, content: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content.encode())))
        self.end_headers()
        self.wfile.write(content.encode())


@pytest.fixture
def open_webui(tmp_path: Path) -> Iterator[str]:
    """The address of an Open WebUI of its own, without a login, with one scripted model."""
    command = os.environ.get("IFLLM_OPEN_WEBUI")
    if not command:
        pytest.skip("needs Open WebUI: set IFLLM_OPEN_WEBUI to the path of its command")
    model = ThreadingHTTPServer(("127.0.0.1", 0), Model)
    Thread(target=model.serve_forever, daemon=True).start()
    port = free_port()
    settings = {
        "DATA_DIR": str(tmp_path / "open-webui"),
        "WEBUI_AUTH": "False",
        "WEBUI_SECRET_KEY": "of this test",
        "OFFLINE_MODE": "True",
        "RAG_EMBEDDING_ENGINE": "openai",
        "ENABLE_OLLAMA_API": "False",
        "OPENAI_API_BASE_URL": f"http://127.0.0.1:{model.server_address[1]}/v1",
        "OPENAI_API_KEY": "none",
    }
    log = tmp_path / "open-webui.log"
    with log.open("wb") as stream:
        words = [command, "serve", "--host", "127.0.0.1", "--port", str(port)]
        process = subprocess.Popen(words, env=os.environ | settings, stdout=stream, stderr=stream, cwd=tmp_path)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for_server(process, f"{address}/health", log, 300)
        yield address
    finally:
        process.kill()
        process.wait()
        model.shutdown()
        model.server_close()


@pytest.fixture
def collector(open_webui: str, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The address and folder of a collector that Open WebUI's pages may report to."""
    import uvicorn

    folder, port = tmp_path / "collected", free_port()
    app = create_app(Settings(folder, origins=(open_webui,)))
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error"))
    thread = Thread(target=server.run)
    thread.start()
    yield f"http://127.0.0.1:{port}/ifllm", folder
    server.should_exit = True
    thread.join()


def counts(folder: Path) -> dict[str, int]:
    with create_engine(f"sqlite:///{folder / STORE_FILE}").connect() as connection:
        return {
            table: connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()
            for table in ("responses", "batches")
        }


def install(address: str, endpoint: str, key: str) -> httpx.Client:
    """The filter, switched on for everybody; a client that is logged in."""
    client = httpx.Client(base_url=f"{address}/api/v1", timeout=60)
    token = client.post("/auths/signin", json={"email": "", "password": ""}).json()["token"]
    client.headers["Authorization"] = f"Bearer {token}"
    function = {"id": "ifllm", "name": "ifllm", "meta": {"description": "Records reading"}}
    content = (ROOT / "examples" / "open_webui_filter.py").read_text()
    for path, body in (
        ("create", function | {"content": content}),
        ("id/ifllm/toggle", None),
        ("id/ifllm/toggle/global", None),
        ("id/ifllm/valves/update", {"endpoint": endpoint, "key": key}),
    ):
        client.post(f"/functions/{path}", json=body).raise_for_status()
    return client


def ask(page: Any, question: str, answers: int) -> None:
    page.locator("#chat-input").click()
    page.keyboard.type(question)
    page.keyboard.press("Enter")
    page.locator(".markdown-prose").nth(2 * answers - 1).get_by_text("Later, mills.").wait_for()


def test_it_records_who_switched_it_on_and_deletes_for_who_switches_it_off(
    browser: Any, open_webui: str, collector: tuple[str, Path], request: pytest.FixtureRequest
) -> None:
    endpoint, folder = collector
    client = install(open_webui, endpoint, api_key(folder))
    request.addfinalizer(client.close)
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    request.addfinalizer(context.close)
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.goto(open_webui)
    page.evaluate("token => localStorage.setItem('token', token)", client.headers["Authorization"].split()[1])
    page.goto(f"{open_webui}/?models=scripted")
    page.get_by_text("Okay, Let's Go!").click()  # what is new in this version
    ask(page, "Not recorded?", 1)
    page.wait_for_timeout(2_000)
    assert page.locator("[data-ifllm-response]").count() == 0
    assert counts(folder) == {"responses": 0, "batches": 0}

    client.post("/functions/id/ifllm/valves/user/update", json={"record_my_reading": True}).raise_for_status()
    ask(page, "Who baked bread first?", 2)
    answer = page.locator("[data-ifllm-response]")
    answer.wait_for()
    box = answer.bounding_box()
    for step in range(40):
        page.mouse.move(box["x"] + 20 + 4 * step, box["y"] + 12)
        page.wait_for_timeout(80)
    page.wait_for_timeout(6_000)
    with create_engine(f"sqlite:///{folder / STORE_FILE}").connect() as connection:
        query, shown = connection.execute(text("SELECT query, text FROM responses")).one()
        bodies = [json.loads(body) for body in connection.execute(text("SELECT body FROM batches")).scalars()]
    assert (query, " ".join(shown.split())) == ("Who baked bread first?", RENDERED)
    ticks = [tick for body in bodies for tick in body["ticks"]]
    assert len(ticks) >= 20
    on_first_line = {tick[4] for tick in ticks if tick[4] >= 0}
    assert on_first_line
    assert max(on_first_line) <= shown.index("in Jordan")

    client.post("/functions/id/ifllm/valves/user/update", json={"record_my_reading": False}).raise_for_status()
    ask(page, "And now?", 3)
    until(lambda: counts(folder) == {"responses": 0, "batches": 0})
