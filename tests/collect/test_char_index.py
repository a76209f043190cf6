"""The character under the cursor, in a real Chromium, against the boxes of all code points on the page."""

import itertools
import random
from dataclasses import dataclass, field
from typing import Any

import pytest
import regex

from tests.collect.wire import WireServer

PITCH = 30  # px from line to line, everywhere on these pages
STYLE = f"""<meta charset="utf-8"><style>
body {{ margin: 24px; font: 17px/{PITCH}px sans-serif; }}
#answer {{ width: 560px; padding: 14px 18px; }} .plain {{ white-space: pre-wrap; }}
code {{ font: 14px monospace; line-height: inherit; }}
pre {{ overflow-x: auto; padding: 8px; line-height: inherit; }}
#scroller {{ height: 260px; overflow-y: auto; border: 3px solid; }}
</style>"""
# One tick a move of the mouse, in place of one in 80 ms.
SCRIPT = """<script type="module">
window.setInterval = (tick) => void addEventListener("pointermove", tick);
import { createTracker } from "/tracker.js";
window.tracker = createTracker({ endpoint: "/ifllm", person: "me", consentVersion: "1", flushMs: 1e6 });
window.boxes = () => {
  const nodes = document.createNodeIterator(document.querySelector("#answer"), NodeFilter.SHOW_TEXT);
  const range = document.createRange(), boxes = [];
  for (let node = nodes.nextNode(); node; node = nodes.nextNode()) {
    let start = 0;
    for (const character of node.data) {
      range.setStart(node, start);
      range.setEnd(node, start += character.length);
      const { left, top, right, bottom } = range.getBoundingClientRect();
      boxes.push([left, top, right, bottom]);
    }
  }
  return boxes;
};
</script>"""
WORDS = "Reading an answer takes time, and the cursor often follows the eyes from word to word along the lines. "
PLAIN = "\n".join(WORDS * n for n in (3, 1, 2))
MARKDOWN = f"""
<h2>What the <em>cursor</em> tells</h2>
<p>{WORDS}<strong>Bold words</strong>, a <a href="#">link with <code>code</code></a>, and <b><i>both</i></b>.</p>
<ul>
  <li>First item, {WORDS}</li>
  <li>Second item
    <ol><li>nested <code>inline()</code></li><li>{WORDS}</li></ol>
  </li>
</ul>
<pre><code>def read(answer):
    for line in answer:
\tprint("line", line)  # a comment that goes on and on until it needs a scroll bar of its own
</code></pre>
<blockquote>Quoted &amp; escaped: &lt;b&gt;</blockquote>
"""
SYMBOLS = (
    "Emoji \U0001f600 and \U0001f468\u200d\U0001f469\u200d\U0001f467, flags \U0001f1e9\U0001f1ea\U0001f1eb\U0001f1f7, "
    "skin \U0001f44d\U0001f3fd, astral \U0001d54f\U00020bb7, combining e\u0301 o\u0308\u0304 k\u0328, wide 漢字かな, "
    "keycap 1\ufe0f\u20e3. "
) * 4
SCRIPTS = "English beside العربية مرحبا بالعالم and עברית שלום עולם with numbers 12 and 345 in between. " * 4
SPLIT = """<script>
const answer = document.querySelector("#answer");
for (const node of [...answer.childNodes]) if (node.nodeType === 3)
  for (let rest = node, n = 1; rest.length > n; n = n % 9 + 1) {
    const pair = rest.data.codePointAt(n - 1) > 0xffff; // a code point stays whole
    rest = rest.splitText(n + pair);
  }
answer.insertBefore(new Text(""), answer.childNodes[3]);
answer.insertBefore(new Comment("not text"), answer.childNodes[5]);
for (const i of [8, 20]) {
  const span = document.createElement("span");
  answer.childNodes[i].replaceWith(span);
  span.append("<\U0001f642 &");
}
</script>"""
FALLBACK = "delete Document.prototype.caretPositionFromPoint"


@dataclass(frozen=True)
class Case:
    """An answer on a page; `scroller`: what clips it; `zoom`: of the page by CSS; `context`: of the browser."""

    html: str
    scroller: str = ""
    after: str = ""
    zoom: float = 1.0
    context: dict[str, Any] = field(default_factory=dict)


CASES = {
    "plain": Case(f'<div id="answer" class="plain">{PLAIN}</div>'),
    "markdown": Case(f'<div id="answer">{MARKDOWN}</div>'),
    "emoji": Case(f'<div id="answer">{SYMBOLS}</div>'),
    "split": Case(f'<div id="answer">{PLAIN}{SYMBOLS}</div>', after=SPLIT),
    "scrolled": Case(f'<div id="scroller"><div id="answer">{MARKDOWN}{MARKDOWN}</div></div>', scroller="#scroller"),
    "device zoom": Case(f'<div id="answer">{MARKDOWN}</div>', context={"device_scale_factor": 1.25}),
    "css zoom": Case(f'<div id="answer">{MARKDOWN}{SYMBOLS}</div>', zoom=1.25),
    "older browsers": Case(f'<div id="answer">{MARKDOWN}</div>', after=f"<script>{FALLBACK}</script>"),
    "two directions": Case(f'<div id="answer" dir="rtl">{SCRIPTS}</div>'),
}


FAST = ("markdown", "emoji", "scrolled", "css zoom")


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in CASES])
def test_the_index_is_that_of_the_character_under_the_cursor(browser: Any, wire: WireServer, name: str) -> None:
    case = CASES[name]
    wire.pages["/"] = f"<!doctype html>{STYLE}<body style='zoom: {case.zoom}'>{case.html}{case.after}{SCRIPT}"
    page = browser.new_page(viewport={"width": 900, "height": 700}, **case.context)
    page.goto(wire.url)
    page.wait_for_function("window.boxes")
    page.evaluate("document.querySelector('#answer').setAttribute('data-ifllm-response', 'a token')")
    page.evaluate("tracker.grantConsent()")
    chance = random.Random(name)
    expected: list[set[int]] = []
    for scroll in (0, 150, 377) if case.scroller else (0,):
        page.evaluate(f"document.querySelector('{case.scroller or 'body'}').scrollTop = {scroll}")
        boxes = page.evaluate("boxes()")
        left, top, right, bottom = _visible(page, case.scroller)
        for x, y in _path(chance, left, top, right, bottom, 45 if case.scroller else 120):
            page.mouse.move(x, y)
            expected.append(_under(boxes, x, y, PITCH * case.zoom))
    clusters = list(regex.finditer(r"\X", page.evaluate("answer.textContent")))
    page.evaluate("tracker.flush()")
    page.context.close()
    chars = [c for _, _, _, _, c, _ in wire.ticks()]
    assert len(chars) == len(expected)
    begins = [begin for cluster in clusters for begin in [cluster.start()] for _ in cluster[0]]
    meant = [{begins[char] if char >= 0 else char for char in under} for under in expected]
    wrong = [pair for pair in zip(chars, meant, strict=True) if pair[0] not in pair[1]]
    assert len(wrong) <= 0.01 * len(chars), wrong
    assert sum(char >= 0 for char in chars) > 0.3 * len(chars)
    assert -1 in chars


# A letter with an accent, a family, flags, a keycap, a vowel sign, a tone of skin: where their clusters begin, by hand.
CLUSTERS = "ae\u0301\U0001f468\u200d\U0001f469\u200d\U0001f467\U0001f1e9\U0001f1ea1\ufe0f\u20e3कि\U0001f44d\U0001f3fd."
BEGINS = [0, 1, 3, 8, 10, 13, 15, 17]
# As Firefox does.
LAST_HAS_THE_BOX = """(begins) => {
  const boxesOf = Range.prototype.getClientRects;
  Range.prototype.getClientRects = function () {
    const end = [...answer.textContent.slice(0, this.endOffset)].length;
    return begins.includes(end) || this.endOffset === this.endContainer.length ? boxesOf.call(this) : [];
  };
}"""


@pytest.mark.parametrize("boxes", ["its own", "at the last"])
def test_of_a_cluster_the_first_code_point_counts_whatever_has_the_box(
    browser: Any, wire: WireServer, boxes: str
) -> None:
    wire.pages["/"] = f"<!doctype html>{STYLE}<span id=answer data-ifllm-response=A>{CLUSTERS}</span>{SCRIPT}"
    page = browser.new_page()
    page.goto(wire.url)
    page.evaluate("import('/tracker.js').then((tracker) => { window.tracker = tracker })")
    if boxes == "at the last":
        page.evaluate(LAST_HAS_THE_BOX, BEGINS)
    found = page.evaluate(
        """() => {
          const { left, right, top, bottom } = answer.getBoundingClientRect();
          const places = Array.from({ length: Math.floor(right - left) }, (_, n) => left + n + 0.5);
          return places.map((x) => tracker.charAt(answer, x, (top + bottom) / 2));
        }"""
    )
    page.close()
    assert sorted({*found}) == [-1, *BEGINS]  # -1: the padding


def _visible(page: Any, scroller: str) -> list[float]:
    """Edges of the part of the answer that is on screen, px: left, top, right, bottom."""
    found = page.evaluate(
        "(s) => ['#answer', s || 'html'].map((q) => document.querySelector(q).getBoundingClientRect().toJSON())",
        scroller,
    )
    edges = [max(box[side] for box in found) for side in ("left", "top")]
    edges += [min(box[side] for box in found) for side in ("right", "bottom")]
    return [edges[0], edges[1], min(edges[2], 900), min(edges[3], 700)]


def _path(
    chance: random.Random, left: float, top: float, right: float, bottom: float, points: int
) -> list[tuple[int, int]]:
    """A third of the points jumps about; the others read line by line."""
    inside = (int(left) + 5, int(top) + 5, int(right) - 20, int(bottom) - 5)
    jumps = [(chance.randint(inside[0], inside[2]), chance.randint(inside[1], inside[3])) for _ in range(points // 3)]
    rows = max(1, (inside[3] - inside[1]) // PITCH)
    step = max(1, (inside[2] - inside[0]) * rows // (2 * points // 3))
    places = range(0, (inside[2] - inside[0]) * rows, step)
    width = inside[2] - inside[0]
    reading = [(inside[0] + n % width, inside[1] + n // width * PITCH + chance.randint(-4, 4) + 9) for n in places]
    return jumps + [(x, min(y, inside[3])) for x, y in reading]


def _under(boxes: list[list[float]], x: int, y: int, pitch: float) -> set[int]:
    """Which indices are right at a point: the first code point whose box, as high as its line, holds it, else -1.

    Half a pixel from the next character, and one from the middle between two lines, either is right.
    """
    near = [(i, *box) for i, box in enumerate(boxes) if box[0] < box[2] and abs(y - (box[1] + box[3]) / 2) < pitch]
    allowed = set()
    for dx, dy in itertools.product((-0.5, 0, 0.5), (-1, 0, 1)):
        hit = (
            index
            for index, left, top, right, bottom in near
            if left <= x + dx < right and abs(y + dy - (top + bottom) / 2) <= pitch / 2
        )
        allowed.add(next(hit, -1))
    return allowed
