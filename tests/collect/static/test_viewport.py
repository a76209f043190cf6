"""What of an answer is on the screen, against the boxes of all of its characters."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.collect.static.pages import until
from tests.collect.wire import WireServer, token_of

MARKDOWN = (
    "<h2>Tides</h2><p>The <b>moon</b> pulls at the sea \U0001f30a.</p>"
    + "".join(f"<p>{n}. {'and so on ' * 30}</p><ul><li>one<li>two</ul>" for n in range(8))
    + "<table>"
    + "".join(f"<tr><td>{'cell ' * 9}<td>{'other ' * n}</tr>" for n in range(4))
    + "</table>"
    + "<pre><code>for x in range(3):\n    print(x)\n</code></pre><p>The end.</p>"
)
# Every character's box against what is visible, one by one: the numbers of those whose middle is in it.
SCRIPT = """<script type="module">
import { createTracker, visiblePart } from "/tracker.js";
window.visiblePart = visiblePart;
window.make = (options) => window.tracker = createTracker({
  endpoint: "/ifllm", person: "me", consentVersion: "1", flushMs: 300, ...options });
window.inside = (answer, top, bottom) => {
  const nodes = document.createNodeIterator(answer, NodeFilter.SHOW_TEXT), range = document.createRange();
  const found = [];
  let count = 0;
  for (let node = nodes.nextNode(); node; node = nodes.nextNode()) {
    let start = 0;
    for (const character of node.data) {
      range.setStart(node, start);
      range.setEnd(node, start += character.length);
      const box = [...range.getClientRects()].find(({ width }) => width > 0);
      if (box && box.top + box.height / 2 >= top && box.top + box.height / 2 < bottom) found.push(count);
      count++;
    }
  }
  return found;
};
</script>"""
STYLE = (
    "<style>body { margin: 0; font: 16px/24px sans-serif; } .answer { padding: 12px; } #gap { height: 300px; }</style>"
)
HEAD = f"<!doctype html><meta charset=utf-8><meta name=viewport content='width=device-width'>{STYLE}</style>"


def answer(name: str, text: str = MARKDOWN) -> str:
    return f"<div class=answer id={name} data-ifllm-response=T>{text}</div>"


PAGES = {
    "page": answer("a") + answer("b"),
    "scroller": f"<div id=box style='height: 400px; margin: 60px 0; overflow: auto'>{answer('a')}</div>",
    "covered": f"{answer('a')}<div id=gap></div>"
    "<header style='position: fixed; top: 0; height: 50px; width: 100%; background: #fff'><b>Chat</b></header>"
    "<form style='position: fixed; bottom: 0; height: 120px; width: 100%; background: #fff'><input></form>",
    "columns": f"<div style='display: flex'>{answer('a')}{answer('b')}</div>",
    "zoomed": f"<div style='zoom: 1.5'>{answer('a')}</div>",
}
HEIGHT = 700


@pytest.fixture
def open_phone(browser: Any, wire: WireServer) -> Iterator[Callable[[str], Any]]:
    """A function that opens a page in a window as large as a phone's."""
    context = browser.new_context(viewport={"width": 390, "height": HEIGHT}, has_touch=True, is_mobile=True)

    def open_phone(body: str) -> Any:
        wire.pages["/"] = f"{HEAD}{body}{SCRIPT}"
        page = context.new_page()
        page.goto(wire.url)
        page.wait_for_function("Boolean(window.visiblePart)")
        return page

    yield open_phone
    context.close()


@pytest.mark.parametrize("layout", PAGES)
def test_the_characters_on_the_screen(layout: str, open_phone: Any) -> None:
    page = open_phone(PAGES[layout])
    # A page that is wider than the window is made smaller, and more of it is seen.
    top, bottom = (50, HEIGHT - 120) if layout == "covered" else (0, page.evaluate("visualViewport.height"))
    seen = 0
    for y in (0, 3, 130, 777, 1_300, 2_000, 3_100, 5_000):
        page.evaluate(f"(document.querySelector('#box') ?? window).scrollTo(0, {y})")
        if layout == "scroller":
            box = page.locator("#box").bounding_box()
            top, bottom = max(0, box["y"]), min(HEIGHT, box["y"] + box["height"])
        for name in ("a", "b") if "id=b " in PAGES[layout] else ("a",):
            element = f"document.querySelector('#{name}')"
            inside = page.evaluate(f"inside({element}, {top}, {bottom})")
            part = page.evaluate(f"visiblePart({element})")
            if not inside:
                assert part is None or part[:2] == [-1, -1]
                continue
            first, last, share, above, below = part
            assert (first, last) == (min(inside), max(inside))
            assert 0 < share <= 1_000
            assert top - 1 <= above < below <= bottom + 1
            # In a table with cells of several lines some characters between the two are not on the screen.
            assert len(inside) > 0.9 * (last - first + 1) - 40
            seen += 1
    assert seen > 5


@pytest.mark.parametrize("scale", [0.9, 1.25, 2.625])
def test_a_whole_answer_is_one_thousand_thousandths(browser: Any, wire: WireServer, scale: float) -> None:
    """On screens whose px are no whole number of the device's, too: the collector takes no more."""
    context = browser.new_context(viewport={"width": 391, "height": 701}, device_scale_factor=scale)
    wire.pages["/"] = f"{HEAD}{SCRIPT}"
    page = context.new_page()
    page.goto(wire.url)
    page.wait_for_function("Boolean(window.visiblePart)")
    shares = page.evaluate(
        """Array.from({ length: 300 }, (_, n) => {
          const style = `margin: ${n / 7}px ${n / 11}px; font-size: ${9 + n / 13}px`;
          document.body.innerHTML = `<div id=a style="${style}">words</div>`;
          return visiblePart(a)[2];
        })"""
    )
    context.close()
    assert set(shares) == {1_000}


def test_a_page_zoomed_by_two_fingers_shows_a_part(open_phone: Any) -> None:
    page = open_phone(PAGES["page"])
    whole = page.evaluate("visiblePart(a)")
    session = page.context.new_cdp_session(page)
    session.send("Input.synthesizePinchGesture", {"x": 100, "y": 100, "scaleFactor": 2})
    top, height = page.evaluate("[visualViewport.offsetTop, visualViewport.height]")
    assert height < 0.6 * HEIGHT
    inside = page.evaluate(f"inside(a, {top}, {top + height})")
    part = page.evaluate("visiblePart(a)")
    assert part[:2] == [min(inside), max(inside)]
    assert part[1] - part[0] < 0.6 * (whole[1] - whole[0])


def test_when_it_is_recorded(open_phone: Any, wire: WireServer) -> None:
    """At once when it changes, once a second when it does not; both answers together; the end is said."""
    page = open_phone(f"{answer('a')}<div id=gap style='height: 2000px'></div>".replace("=T", f"={token_of('x')}"))
    page.evaluate("document.querySelector('#a').textContent = 'x'; make(); tracker.grantConsent()")
    page.wait_for_timeout(2_600)
    until(page, lambda: len(wire.views()) >= 3)
    times = [row[0] for row in wire.views()]
    assert all(later - at >= 900 for at, later in itertools.pairwise(times))  # a busy machine is late
    assert {tuple(row[2:4]) for row in wire.views()} == {(0, 0)}
    page.evaluate("scrollTo(0, 1000)")
    until(page, lambda: wire.views()[-1][2:] == [-1, -1, 0, 0, 0])
    count = len(wire.views())
    page.wait_for_timeout(1_500)
    page.evaluate("tracker.flush()")
    assert len(wire.views()) == count  # nothing is in view any more
    page.evaluate("scrollTo(0, 0)")
    until(page, lambda: wire.views()[-1][2:4] == [0, 0])
    page.evaluate("tracker.stop()")
    until(page, lambda: wire.views()[-1][2:] == [-1, -1, 0, 0, 0])


def test_another_text_than_the_registered_one(open_phone: Any, wire: WireServer) -> None:
    page = open_phone(answer("a", "x").replace("=T", f"={token_of('y')}"))
    page.evaluate("make(); tracker.grantConsent()")
    page.wait_for_timeout(400)
    page.evaluate("tracker.flush()")
    until(page, wire.views)
    assert {tuple(row[2:4]) for row in wire.views()} == {(-2, -2)}
    assert wire.views()[0][4] == 1_000
