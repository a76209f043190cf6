"""docs/collector.md as its reader uses it: its files in an empty folder, its commands, its pages in a real Chromium.

Only the ports are others, as they may be taken.
"""

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from ifllm_hub.collect.export.dataset import export_dataset
from ifllm_hub.collect.pseudonyms import Pseudonyms
from ifllm_hub.collect.settings import STORE_FILE, Secrets
from ifllm_hub.collect.store.store import Store
from ifllm_hub.collect.store.tables import BATCHES, RESPONSES
from ifllm_hub.dataset.load import load_config
from tests.collect.store.processes import api_key
from tests.docs.place import APP, BLOCKS, COLLECTOR, GRADIO, Place
from tests.waiting import until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """With the collector running."""
    place = Place(tmp_path_factory.mktemp("place"))
    try:
        place.start("serve", place.url(COLLECTOR, "/ifllm/v1/health"))
        yield place
    finally:
        place.stop()


@pytest.fixture(scope="module")
def own_chat(place: Place) -> Place:
    """With the chat of one's own running."""
    place.write("app.py", "static/recording.js", "static/index.html")
    place.start("app", place.url(APP))
    return place


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A visitor's, who has never been here. What the tracker tells is in `problems`."""
    context = browser.new_context()
    context.add_init_script("problems = []; document.addEventListener('ifllm:problem', (e) => problems.push(e.detail))")
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.errors = []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    yield page
    context.close()


class Stored:
    """What is in a collector's store."""

    def __init__(self, page: Any, folder: Path):
        self._page, self.store = page, Store(f"sqlite:///{folder / STORE_FILE}")

    def close(self) -> None:
        self.store.close()

    def rows(self) -> int:
        """How many hold anything of anybody."""
        counts = self.store.counts()
        return sum(counts[table] for table in ("responses", "sessions", "batches", "ratings"))

    def answer(self, message: str) -> str | None:
        """The registered text of the answer to a message."""
        with self.store.reading() as connection:
            return connection.scalar(select(RESPONSES.c.text).where(RESPONSES.c.query == message))

    def characters(self) -> set[int]:
        """On which characters the cursor was."""
        return {tick[4] for tick in self.ticks()} - {-1}

    def pointers(self) -> set[int]:
        return {tick[5] for tick in self.ticks()}

    def ticks(self) -> list[list[int]]:
        return [tick for body in self._bodies() for tick in body["ticks"]]

    def events(self) -> set[str]:
        return {event[1] for body in self._bodies() for event in body["events"]}

    def _bodies(self) -> list[dict[str, Any]]:
        with self.store.reading() as connection:
            return [json.loads(body) for body in connection.scalars(select(BATCHES.c.body))]

    def read(self, answer: Any) -> None:
        """Move the cursor along an answer's last line until the store knows of it."""
        before = self.store.counts()["batches"]
        answer.scroll_into_view_if_needed()
        box = answer.bounding_box()
        for step in range(25):
            self._page.mouse.move(box["x"] + 10 + 5 * step, box["y"] + box["height"] - 25)
            self._page.wait_for_timeout(80)
        self.until(lambda: self.store.counts()["batches"] > before)

    def until(self, condition: Any) -> None:
        until(condition, 60, lambda: self._page.wait_for_timeout(100))


@pytest.mark.parametrize("path", ["/", "/react.html"])
def test_a_chat_of_ones_own(own_chat: Place, page: Any, path: str) -> None:
    if path == "/react.html":
        own_chat.write("chat.jsx", "static/react.html")
        own_chat.run("react")
    stored = Stored(page, own_chat.folder / "collected")
    agree = page.get_by_role("button", name="Record my cursor")
    withdraw = page.get_by_role("button", name="Stop and delete")
    status, answers = page.get_by_role("status"), page.locator("[data-ifllm-response]")

    def ask(message: str) -> None:
        page.get_by_label("Message").fill(message)
        page.get_by_label("Message").press("Enter")
        page.locator("em", has_text=message).wait_for()

    def ask_and_read(message: str) -> None:
        ask(message)
        stored.read(answers.last)  # while it grows
        stored.until(lambda: stored.answer(message))
        assert stored.answer(message) == answers.last.text_content()
        stored.read(answers.last)
        assert "**" not in answers.last.text_content()

    def agree_now() -> None:
        agree.click()
        status.get_by_text("Recording.", exact=True).wait_for()

    def withdraw_all() -> None:
        withdraw.click()
        status.get_by_text("Everything is deleted.").wait_for()
        assert stored.rows() == 0
        assert answers.count() == 0

    def visit() -> None:
        page.goto(own_chat.url(APP, path))
        stored.until(agree.is_enabled)

    try:
        visit()
        assert status.text_content() == "Not recording."
        ask("nobody")
        assert stored.rows() == 0
        agree_now()
        ask_and_read("one")
        assert len(stored.characters()) > 5
        assert min(stored.characters()) >= 0
        withdraw_all()
        visit()
        assert status.text_content() == "Not recording."
        withdraw_all()
        agree_now()
        ask_and_read("two")
        visit()  # and goes on
        status.get_by_text("Recording.", exact=True).wait_for()
        ask_and_read("three")
        assert stored.answer("two")
        withdraw_all()
        agree_now()  # on the page that shows answers to who has withdrawn
        ask_and_read("four")
        withdraw_all()
        assert page.evaluate("problems") == []
        assert page.errors == []
    finally:
        stored.close()


def test_gradio(place: Place, page: Any) -> None:
    place.write("chat.py")
    place.start("gradio", place.url(GRADIO))
    stored = Stored(page, place.folder / "collected_by_gradio")
    box, complete = page.locator(".ifllm-box"), page.locator("[data-ifllm-complete]")

    def ask(message: str) -> None:
        page.locator("textarea:visible").first.fill(message)
        page.locator("textarea:visible").first.press("Enter")
        page.get_by_text(f"You asked {message}").last.wait_for()
        page.get_by_role("button", name="Stop", exact=True).wait_for(state="hidden")

    def ask_and_read(message: str) -> None:
        ask(message)
        stored.until(lambda: stored.answer(message))
        assert stored.answer(message) == complete.last.text_content()
        assert complete.last.locator("strong").text_content() == "short"  # of the first additional input
        assert complete.last.text_content().count("words") == 80  # of the second
        stored.read(complete.last)

    def withdraw_all() -> None:
        box.get_by_role("button", name="Stop and delete").click()
        box.get_by_text("Everything that was recorded of you is deleted").wait_for()
        assert stored.rows() == 0

    def visit() -> None:
        page.goto(place.url(GRADIO))
        page.get_by_label("Style").fill("short")
        page.get_by_label("number input for Words").fill("80")

    try:
        visit()
        ask("nobody")
        assert stored.rows() == 0
        box.get_by_role("checkbox").check()
        ask_and_read("one")
        assert len(stored.characters()) > 5
        withdraw_all()
        visit()
        assert not box.get_by_role("checkbox").is_checked()
        assert box.get_by_role("button", name="Stop and delete").count() == 0  # there is nothing
        box.get_by_role("checkbox").check()
        ask_and_read("two")
        visit()
        withdraw_all()
        assert page.evaluate("problems") == []
        assert page.errors == []
    finally:
        stored.close()
        place.stop("gradio")


def test_what_a_phone_leaves(own_chat: Place, browser: Any, tmp_path: Path) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 500}, is_mobile=True, has_touch=True)
    page = context.new_page()
    page.set_default_timeout(60_000)
    collected = own_chat.folder / "collected"
    stored = Stored(page, collected)
    try:
        page.goto(own_chat.url(APP))
        stored.until(page.get_by_role("button", name="Record my cursor").is_enabled)
        page.get_by_role("button", name="Record my cursor").tap()
        page.get_by_text("Recording.", exact=True).wait_for()
        page.get_by_label("Message").fill("phone")
        page.get_by_label("Message").press("Enter")
        stored.until(lambda: stored.answer("phone"))
        page.evaluate("log.style.paddingBottom = '3000px'")
        answer = page.locator("[data-ifllm-response]")
        answer.scroll_into_view_if_needed()
        box = answer.bounding_box()
        devtools = context.new_cdp_session(page)
        for way in (-10, 10, -10):  # px from one movement to the next, of a finger that scrolls
            y = box["y"] + box["height"] / 2 - max(0, way) * 6
            for kind, step in (("touchStart", 0), *(("touchMove", step) for step in range(1, 13)), ("touchEnd", None)):
                points = [] if step is None else [{"x": 200, "y": y + way * step}]
                devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
                page.wait_for_timeout(40)
        assert page.evaluate("scrollY") > 50
        stored.until(lambda: {"shown", "stream_start", "stream_end"} <= stored.events())
        assert stored.pointers() <= {2}
        assert len(stored.ticks()) <= 6
        secrets = Pseudonyms(Secrets.load(collected).pseudonym)
        export_dataset(stored.store, tmp_path / "out", secrets, 1)
        assert load_config(tmp_path / "out", "pointwise")["query"].to_list() == ["phone"]
        left = load_config(tmp_path / "out", "trajectories").row(0, named=True)
        assert left["t"] == []
        assert max(left["viewport_last_left"]) > min(first for first in left["viewport_first_left"] if first >= 0)
        page.get_by_role("button", name="Stop and delete").tap()
        page.get_by_text("Everything is deleted.").wait_for()
        assert stored.rows() == 0
    finally:
        context.close()
        stored.close()


WEBGAZER = """<script>window.webgazer = {
  setGazeListener(listen) { this.looks = setInterval(() => listen({ x: 30, y: 20 }), 50); return this; },
  begin() {}, end() { clearInterval(this.looks); },
};</script>"""


# Around the block, in a page whose answer was registered before it was made.
ANSWER = '<div data-ifllm-response="TOKEN">The answer.</div>'
BUTTONS = (
    '<button id="agreeButton" disabled>Record my cursor</button><button id="withdrawButton">Stop and delete</button>'
)
AROUND = {
    "embedded page": f"BLOCK<script>{BLOCKS['state'].code}{BLOCKS['problem'].code}</script>",
    "tag": f"{ANSWER}BLOCK",
    # WebGazer is scripted: it needs a camera, and has another license.
    "gaze": f"""{ANSWER}{BUTTONS}{WEBGAZER}<script type="module">
import {{ createTracker }} from "/ifllm/ifllm.js";
BLOCK
agreeButton.onclick = () => tracker.grantConsent();
withdrawButton.onclick = () => tracker.withdraw();
agreeButton.disabled = false;
</script>""",
}


def read_in_page(place: Place, page: Any, name: str) -> Stored:
    """Let the person PERSON agree and read in a page of a block, which is served at the collector's own address."""
    collected = place.folder / "collected"

    def ask_collector(path: str, body: dict[str, str]) -> dict[str, str]:
        headers = {"X-Ifllm-Key": api_key(collected), "Content-Type": "application/json"}
        request = urllib.request.Request(place.url(COLLECTOR, path), json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=30) as reply:
            return dict(json.load(reply))

    ids = {"person": "PERSON", "question_id": "q1", "conversation": "c1", "side": "left"}
    answer = {**ids, "text": "The answer.", "query": "Why?", "model": "my-model", "consent": "2026-11-29"}
    token = ask_collector("/ifllm/v1/responses", answer)["token"]
    person = ask_collector("/ifllm/v1/people", {"person": "PERSON"})["person_token"]
    body = AROUND[name].replace("BLOCK", BLOCKS[name].code).replace("PERSON_TOKEN", person).replace("TOKEN", token)
    page.route("**/page", lambda route: route.fulfill(body=f"<!doctype html>{body}", content_type="text/html"))
    page.goto(place.url(COLLECTOR, "/page"))
    stored = Stored(page, collected)
    agree = page.get_by_role("button", name="Record my cursor")
    stored.until(agree.is_enabled)
    agree.click()
    stored.read(page.locator("[data-ifllm-response]"))
    return stored


@pytest.mark.parametrize("name", AROUND)
def test_a_page_that_has_its_answer(place: Place, page: Any, name: str) -> None:
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    stored = read_in_page(place, page, name)
    try:
        if name == "embedded page":
            assert page.locator("#light").text_content() == "recording"
            page.evaluate("document.dispatchEvent(new CustomEvent('ifllm:problem', { detail: { problem: 'kept' } }))")
            assert "kept" in said[-1]
        assert (3 in stored.pointers()) == (name == "gaze")
        page.get_by_role("button", name="Stop and delete").click()
        stored.until(lambda: stored.rows() == 0)
        assert page.errors == []
    finally:
        stored.close()


def test_what_was_collected_is_exported_and_deleted(place: Place, page: Any) -> None:
    stored = read_in_page(place, page, "embedded page")
    page.close()
    out = place.folder / "runs/collected"
    try:
        said = place.run("export")
        assert "1 questions of 1 people" in said
        assert "1 questions removed" in said
        assert not [path for path in out.rglob("*.*") if b"The answer." in path.read_bytes()]
        assert stored.rows() == 0
    finally:
        stored.close()


def test_the_study_and_its_space(place: Place, page: Any) -> None:
    place.start("study", place.url(GRADIO))
    page.goto(place.url(GRADIO))
    page.get_by_role("button", name="Take part").wait_for()
    assert "Ada Example" in page.locator("body").inner_text()
    place.run("space")
    assert {path.name for path in (place.folder / "space").iterdir()} >= {"app.py", "requirements.txt", "study.json"}
