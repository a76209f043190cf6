"""The npm package in a real Chromium: a Vite React app in StrictMode, a thread of assistant-ui, plain pages."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.collect.static.pages import until
from tests.collect.wire import ME, RATINGS, WireServer, token_of

pytestmark = pytest.mark.slow

PIECES = ["Twelve \U0001f642 ", "words that ", "somebody reads."]
TEXT = "".join(PIECES)
STYLE = "<style>body { margin: 20px; font: 20px/40px monospace; }</style>"
# Where the box of a code point is, by the page's own geometry.
BOX_OF = """([answer, place]) => {
  const walker = document.createTreeWalker(document.querySelector(answer), NodeFilter.SHOW_TEXT);
  for (let passed = 0, node = walker.nextNode(); node; node = walker.nextNode()) {
    let unit = 0;
    for (const point of node.data) {
      const range = document.createRange();
      range.setStart(node, unit);
      range.setEnd(node, (unit += point.length));
      const { x, y, width, height } = range.getBoundingClientRect();
      if (passed++ === place) return [x + width / 2, y + height / 2];
    }
  }
}"""


@pytest.fixture
def page(browser: Any, wire: WireServer) -> Iterator[Any]:
    page = browser.new_page(viewport={"width": 900, "height": 600})
    page.errors = []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on("console", lambda said: page.errors.append(said.text) if said.type in ("error", "warning") else None)
    yield page
    assert page.errors == []
    page.context.close()


@pytest.fixture
def chat(page: Any, wire: WireServer, built: dict[str, str]) -> Any:
    """The app's page; `change(...)` sets its state."""
    wire.pages |= built
    page.goto(f"{wire.url}/index.html")
    page.locator("#state").wait_for()
    page.change = lambda **changes: page.evaluate("(changes) => change(changes)", changes)
    return page


def read(page: Any, wire: WireServer, places: list[int], of: str = "#answer") -> None:
    """Rest on these characters in turn, and check that the collector learns of exactly these, in this order."""
    before = len(characters(wire))
    page.mouse.move(1, 590)
    for place in places:
        page.mouse.move(*page.evaluate(BOX_OF, [of, place]))
        page.wait_for_timeout(250)
    page.mouse.move(1, 590)
    until(page, lambda: set(characters(wire)[before:]) >= set(places))
    page.wait_for_timeout(400)
    read = characters(wire)[before:]
    assert list(dict.fromkeys(read)) == places
    assert len(read) > len(places)


def characters(wire: WireServer) -> list[int]:
    """Of all ticks, in the order of arrival."""
    return [tick[4] for batch in wire.batches.values() for tick in batch["ticks"]]


def streams(wire: WireServer) -> list[tuple[str, str]]:
    return [(name, token) for _, name, token, _ in wire.events() if name.startswith("stream")]


def sessions(wire: WireServer) -> list[str]:
    return list(dict.fromkeys(session for session, _ in wire.batches))


def test_an_answer_streams_into_a_strict_mode_app(chat: Any, wire: WireServer) -> None:
    begun, complete = token_of(""), token_of(TEXT)
    chat.change(person="P1", token=begun, pieces=PIECES[:1], isStreaming=True)
    chat.mouse.move(*chat.evaluate(BOX_OF, ["#answer", 3]))
    chat.wait_for_timeout(500)
    assert chat.locator("#state").text_content() == "off"
    assert wire.log == []
    chat.change(agreed=True)
    chat.locator("#state", has_text="on").wait_for()
    read(chat, wire, [0, 7])
    chat.change(pieces=PIECES[:2])
    read(chat, wire, [9, 12])
    chat.change(pieces=PIECES, token=complete, isStreaming=False)
    read(chat, wire, [7, 10, 20, len(TEXT) - 1])
    assert {tick[1] for tick in wire.ticks()} == {begun, complete}
    assert streams(wire) == [("stream_start", begun), ("stream_end", complete)]
    assert [name for _, name, _, _ in wire.events()].count("consent") == 1
    assert len(sessions(wire)) == 1


def test_a_stream_that_begins_while_it_records_is_told_once(chat: Any, wire: WireServer) -> None:
    begun, complete = token_of(""), token_of(TEXT)
    chat.change(person="P1", agreed=True)
    chat.locator("#state", has_text="on").wait_for()
    chat.change(pieces=PIECES[:1], token=begun, isStreaming=True)
    read(chat, wire, [0, 7])
    chat.change(pieces=PIECES, token=complete, isStreaming=False)
    read(chat, wire, [20])
    chat.change(pieces=[])
    chat.change(pieces=PIECES)  # mounted anew when it is complete
    read(chat, wire, [4])
    assert streams(wire) == [("stream_start", begun), ("stream_end", complete)]


def test_it_ends_with_the_component_and_begins_anew_with_another_person(chat: Any, wire: WireServer) -> None:
    first, second = token_of(TEXT), token_of(TEXT + " ")
    chat.change(person="P1", agreed=True, token=first, pieces=PIECES)
    read(chat, wire, [2])
    chat.change(person="P2", token=second, pieces=[*PIECES, " "])
    read(chat, wire, [5])
    assert len(sessions(wire)) == 2
    assert [{tick[1] for tick in wire.ticks(session)} for session in sessions(wire)] == [{first}, {second}]
    chat.mouse.move(*chat.evaluate(BOX_OF, ["#answer", 8]))
    chat.wait_for_timeout(100)
    chat.change(isShown=False)
    until(chat, lambda: characters(wire)[-1] == 8)
    chat.wait_for_timeout(300)
    count = len(wire.log)
    chat.change(isShown=True, agreed=False)
    chat.mouse.move(*chat.evaluate(BOX_OF, ["#answer", 3]))
    chat.wait_for_timeout(600)
    assert len(wire.log) == count


def test_a_withdrawal(chat: Any, wire: WireServer) -> None:
    chat.change(person="P1", agreed=True, token=token_of(TEXT), pieces=PIECES)
    read(chat, wire, [2])
    chat.get_by_role("button", name="Delete").click()
    chat.locator("#state", has_text="deleted").wait_for()
    assert (wire.log[-1]["path"], wire.log[-1]["headers"]["authorization"]) == (ME, "Bearer P1")
    chat.change(agreed=False)
    chat.locator("#state", has_text="off").wait_for()


def test_the_component_of_the_page(page: Any, wire: WireServer, built: dict[str, str]) -> None:
    wire.pages |= built
    page.goto(f"{wire.url}/answers.html#{urlencode({'person': 'P', 'token': token_of(TEXT), 'text': TEXT})}")
    status, answer = page.get_by_role("status"), "[data-ifllm-response]"
    assert status.text_content() == "Not recording."
    page.get_by_role("button", name="Record my cursor").click()
    status.get_by_text("Recording.", exact=True).wait_for()
    page.evaluate("setInterval(() => ifllm.flush(), 100)")
    read(page, wire, [0, 7, 20], answer)
    page.get_by_role("button", name="Stop and delete").click()
    status.get_by_text("Not recording.").wait_for()
    until(page, lambda: wire.log[-1]["path"] == ME)
    page.wait_for_timeout(300)
    assert wire.log[-1]["path"] == ME


def test_the_findings_are_a_file_of_their_own(chat: Any, built: dict[str, str]) -> None:
    chat.change(person="P1")
    chat.wait_for_function("window.ifllm")
    asked: list[str] = []
    chat.on("request", lambda request: asked.append(request.url))
    assert chat.evaluate("ifllm.diagnose().then((found) => found[0].ok)")
    assert [url for url in asked if "diagnose" in url]
    chat.errors.clear()  # the server has no /v1/check


def test_thumbs_of_assistant_ui_are_ratings(page: Any, wire: WireServer, built: dict[str, str]) -> None:
    token = token_of(TEXT)
    wire.pages |= built | {f"/thread.html?token={token}": built["/thread.html"]}

    def ask(path: str) -> None:
        page.goto(wire.url + path)
        page.get_by_label("Message").fill("Why?")
        page.get_by_label("Message").press("Enter")
        page.get_by_role("button", name="Good").wait_for()

    ask(f"/thread.html?token={token}")
    assert page.locator(f"[data-ifllm-response='{token}']").text_content() == "An answer."
    for name in ("Good", "Bad"):
        page.get_by_role("button", name=name).click()
    until(page, lambda: len(wire.log) == 2)
    assert {request["path"] for request in wire.log} == {RATINGS}
    said = [json.loads(request["body"]) for request in wire.log]
    assert said == [{"token": token, "rating": 5}, {"token": token, "rating": 1}]
    # What the page's tracker is told, if there is one.
    page.evaluate(
        "window.told = []; window.ifllm = { thumb: ({ textContent }, value) => told.push([textContent, value]) }"
    )
    for name in ("Good", "Bad"):
        page.get_by_role("button", name=name).click()
    assert page.evaluate("told") == [["An answer.", 1], ["An answer.", -1]]
    until(page, lambda: len(wire.log) == 4)
    wire.answers.append(410)
    page.get_by_role("button", name="Good").click()
    until(page, lambda: len(page.errors) == 2)  # the browser's, and the default of `onError`
    assert "a rating was not stored: the collector answered 410" in page.errors.pop()
    page.errors.clear()
    wire.log.clear()
    ask("/thread.html")  # an answer without a token
    page.get_by_role("button", name="Good").click()
    page.wait_for_timeout(300)
    assert wire.log == []


def test_a_plain_page_that_imports_the_packed_file(page: Any, wire: WireServer, package: Path) -> None:
    token = token_of(TEXT)
    wire.pages["/npm/index.js"] = (package / "dist/ifllm.js").read_text()
    wire.pages["/"] = f"""<!doctype html>{STYLE}<div id="answer" data-ifllm-response="{token}">{TEXT}</div>
      <script type="module">
        import {{ createTracker }} from "/npm/index.js";
        window.before = window.ifllm;
        createTracker({{ endpoint: "/ifllm", person: "P", consentVersion: "1", flushMs: 200 }}).grantConsent();
      </script>"""
    page.goto(wire.url)
    page.wait_for_function("window.ifllm")
    assert page.evaluate("before") is None
    read(page, wire, [0, 7, 20])


def test_a_plain_page_with_the_script(page: Any, wire: WireServer, package: Path) -> None:
    """In the head, as a classic script: it starts from its tag, and its functions are a global."""
    token = token_of(TEXT)
    wire.pages["/npm/script.js"] = (package / "dist/ifllm.iife.js").read_text()
    wire.pages["/"] = f"""<!doctype html>{STYLE}
      <script src="/npm/script.js" data-endpoint="/ifllm" data-person="P" data-consent="1"></script>
      <button data-ifllm-consent="grant">Agree</button>
      <div id="answer" data-ifllm-response="{token}">{TEXT}</div>"""
    page.goto(wire.url)
    assert page.evaluate("Object.keys(IfllmTracker).sort().join()") == "charAt,codePoints,createTracker,visiblePart"
    page.get_by_role("button", name="Agree").click()
    assert page.evaluate("ifllm.state") == "on"
    page.evaluate("setInterval(() => ifllm.flush(), 100)")
    read(page, wire, [0, 7, 20])
