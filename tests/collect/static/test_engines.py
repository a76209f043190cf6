"""A reader's whole way in each engine, against the server that `ifllm collect serve` runs, from a page elsewhere."""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ifllm_hub.collect.export.readings import readings_of
from ifllm_hub.collect.pseudonyms import Pseudonyms
from ifllm_hub.collect.settings import STORE_FILE, Secrets
from ifllm_hub.collect.store.store import Store
from tests.collect.client import registration
from tests.collect.engines import OpenPage, Page
from tests.collect.store.processes import ROOT, api_key, free_port
from tests.collect.wire import WireServer
from tests.waiting import until, wait_for_server

pytestmark = pytest.mark.slow
TEXT = "The tides \U0001f30a follow the moon, " * 8
PAGE = """<!doctype html><meta charset="utf-8">
<style>body {{ margin: 0; font: 20px/40px monospace; }} #answer {{ margin: 30px; zoom: 1.25; }}</style>
<p id="answer" data-ifllm-response="{token}">{text}</p>
<button id="agree">Record my cursor</button> <button id="withdraw">Stop and delete</button>
<script type="module">
  import("{server}/ifllm/ifllm.js").then(({{ createTracker }}) => {{
    window.tracker = createTracker({{
      endpoint: "{server}/ifllm", person: "{person_token}", consentVersion: "2026-11-29", flushMs: 1e6 }});
    agree.onclick = () => tracker.grantConsent();
    withdraw.onclick = () => tracker.withdraw();
  }});
</script>"""


@dataclass
class Collecting:
    """A running collector, and its store."""

    url: str
    folder: Path
    store: Store

    def register(self, person: str, text: str) -> dict[str, Any]:
        body = json.dumps(registration(person, "question", "left", text)).encode()
        headers = {"Content-Type": "application/json", "X-Ifllm-Key": api_key(self.folder)}
        request = urllib.request.Request(f"{self.url}/ifllm/v1/responses", body, headers)
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.load(response)

    def chars(self, person: str) -> list[int]:
        """The offsets in a person's trajectory, as it would be exported."""
        pseudonyms = Pseudonyms(Secrets.load(self.folder).pseudonym)
        with self.store.reading() as connection:
            readings = readings_of(connection, [pseudonyms.person(person)], pseudonyms)
        return [char for char in readings.trajectories["mouse_char_left"].explode() if char >= 0]


@pytest.fixture
def collecting(wire: WireServer, tmp_path: Path) -> Iterator[Collecting]:
    port = free_port()
    url, log = f"http://127.0.0.1:{port}", tmp_path / "server.log"
    options = f"collect serve --origin {wire.url} --folder {tmp_path} --port {port}".split()
    command = [sys.executable, "-c", "from ifllm_hub.cli import main; main()", *options]
    with log.open("wb") as stream:
        process = subprocess.Popen(command, cwd=ROOT, stdout=stream, stderr=stream)
    wait_for_server(process, f"{url}/ifllm/v1/health", log, 120)
    store = Store(f"sqlite:///{tmp_path / STORE_FILE}")
    yield Collecting(url, tmp_path, store)
    store.close()
    process.kill()
    process.wait()


def test_from_consent_to_withdrawal(open_page: OpenPage, wire: WireServer, collecting: Collecting) -> None:
    known = collecting.register("ada", TEXT)
    wire.pages["/"] = PAGE.format(server=collecting.url, text=TEXT, **known)
    page = open_page()

    def visit() -> None:
        page.goto(wire.url)
        until(lambda: page.evaluate("!!window.tracker"))
        read(page)

    visit()
    assert collecting.store.counts()["batches"] == 0
    page.click("#agree")
    read(page)
    page.goto("about:blank")  # before the first flush is due: by beacon
    until(lambda: collecting.chars("ada"))
    chars = collecting.chars("ada")
    assert len({*chars}) > 5
    assert {*chars} <= {*range(10)}
    assert chars == sorted(chars)
    visit()
    page.click("#agree")
    read(page)
    page.evaluate("tracker.flush()")
    assert collecting.store.counts()["sessions"] == 2
    assert len(collecting.chars("ada")) > len(chars)
    page.click("#withdraw")
    until(lambda: page.evaluate("tracker.state") == "deleted")
    read(page)
    page.close()
    assert collecting.chars("ada") == []
    counts = collecting.store.counts()
    assert [counts[table] for table in ("responses", "sessions", "batches")] == [0, 0, 0]


def read(page: Page) -> None:
    """Go over the first ten characters, each of which is 15 px wide under the zoom."""
    for char in range(10):
        page.move([(45 + 15 * char, 60)])
        page.evaluate("new Promise((then) => setTimeout(then, 100))")
