"""The character under the cursor, in each engine, against the boxes of all code points on the page."""

import itertools
import random
from dataclasses import dataclass, field
from typing import Any

import pytest
import regex

from tests.collect.engines import OpenPage, Page
from tests.collect.wire import WireServer
from tests.waiting import until

PITCH = 30  # px from line to line, everywhere on these pages
STYLE = f"""<meta charset="utf-8"><style>
html {{ overflow: hidden; }} body {{ margin: 24px; font: 17px/{PITCH}px sans-serif; }}
#answer {{ width: 560px; padding: 14px 18px; }} .plain {{ white-space: pre-wrap; }}
code {{ font: 14px monospace; }}
pre {{ overflow-x: auto; padding: 8px; }}
#answer, #answer * {{ line-height: {PITCH}px; }}
#scroller {{ height: 260px; overflow-y: auto; border: 3px solid; }}
th, td {{ padding: 0 6px; border: 1px solid; }}
</style>"""
# One tick a move of the mouse, in place of one in 80 ms.
SCRIPT = """<script type="module">
window.setInterval = (tick) => void addEventListener("pointermove", tick);
import { createTracker } from "/tracker.js";
window.tracker = createTracker({ endpoint: "/ifllm", person: "me", consentVersion: "1", flushMs: 1e6 });
document.body.insertAdjacentHTML("beforeend", "<p id='probe' style='width: 8px; zoom: 2'>");
const isOwnPx = probe.getBoundingClientRect().width < 12; // of the zoomed element
probe.remove();
const zoomOf = (element) => (element ? (getComputedStyle(element).zoom || 1) * zoomOf(element.parentElement) : 1);
// Edges of the part of the answer that is on screen.
window.visible = (scroller) => {
  const edges = (element, zoom = isOwnPx ? zoomOf(element) : 1) =>
    ["left", "top", "right", "bottom"].map((side) => element.getBoundingClientRect()[side] * zoom);
  const [mine, its] = [edges(answer), edges(document.querySelector(scroller))];
  const on = [0, 0, innerWidth, innerHeight];
  return mine.map((edge, i) => (i < 2 ? Math.max(edge, its[i], on[i]) : Math.min(edge, its[i], on[i])));
};
window.boxes = () => {
  const nodes = document.createNodeIterator(document.querySelector("#answer"), NodeFilter.SHOW_TEXT);
  const range = document.createRange(), boxes = [];
  let count = 0;
  for (let node = nodes.nextNode(); node; node = nodes.nextNode()) {
    let start = 0;
    const zoom = zoomOf(node.parentElement);
    for (const character of node.data) {
      range.setStart(node, start);
      range.setEnd(node, start += character.length);
      for (const { left, top, right, bottom } of range.getClientRects()) {
        boxes.push([count, zoom, ...[left, top, right, bottom].map((edge) => edge * (isOwnPx ? zoom : 1))]);
      }
      count++;
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
TABLE = f"""<table>
<tr><th>Engine</th><th>what <em>it</em> does</th></tr>
<tr><td>one</td><td>{WORDS}</td></tr>
</table>"""
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
# Those of Chrome before 128, and of Firefox before 126.
FALLBACKS = """<script>
delete Document.prototype.caretPositionFromPoint;
delete Element.prototype.currentCSSZoom;
const styleOf = getComputedStyle;
window.getComputedStyle = (element) => (({ display, lineHeight }) => ({ display, lineHeight }))(styleOf(element));
</script>"""
LINE_ENDS = f"answer.textContent = {WORDS * 6!r}.replaceAll('. ', '.\\r\\n')"
CODE = "\n".join(f"for line_{n} in answer: print(line_{n}, end='')" for n in range(8))
# Each character an element of its own, and which of them the mouse has hit.
HITS = """<script>
answer.replaceChildren(...[...answer.textContent].map((character, i) => {
  const element = Object.assign(document.createElement("span"), { textContent: character });
  element.dataset.i = i;
  return element;
}));
window.hits = [];
addEventListener("pointermove", ({ target, clientX, clientY }) => {
  if (target.dataset?.i) hits.push([clientX, clientY, Number(target.dataset.i)]);
});
</script>"""


@dataclass(frozen=True)
class Case:
    """An answer on a page; `scroller`: what clips it; `style`: more of it; `context`: of Chromium."""

    html: str
    scroller: str = ""
    after: str = ""
    style: str = ""
    context: dict[str, Any] = field(default_factory=dict)


MIXED = f'<div id="answer">{MARKDOWN}{TABLE}{SYMBOLS}</div>'
ZOOMS = {
    "of the answer": "#answer {{ zoom: {} }}",
    "of the page": "html {{ zoom: {} }}",
    "nested": "body {{ zoom: {} }} #answer {{ zoom: 1.1 }} pre, table {{ zoom: 0.8 }}",
}
CASES = {
    "plain": Case(f'<div id="answer" class="plain">{PLAIN}</div>'),
    "markdown": Case(f'<div id="answer">{MARKDOWN}{TABLE}</div>'),
    "emoji": Case(f'<div id="answer">{SYMBOLS}</div>'),
    "split": Case(f'<div id="answer">{PLAIN}{SYMBOLS}</div>', after=SPLIT),
    "scrolled": Case(f'<div id="scroller"><div id="answer">{MARKDOWN}{MARKDOWN}</div></div>', scroller="#scroller"),
    "device zoom": Case(f'<div id="answer">{MARKDOWN}</div>', context={"device_scale_factor": 1.25}),
    "older browsers": Case(f'<div id="answer">{MARKDOWN}</div>', after=FALLBACKS),
    "two directions": Case(f'<div id="answer" dir="rtl">{SCRIPTS}</div>'),
    "line ends": Case('<div id="answer" class="plain"></div>', after=f"<script>{LINE_ENDS}</script>"),
    "zoom and scroll": Case(
        f'<div id="scroller"><div id="answer">{MARKDOWN}{MARKDOWN}</div></div>',
        "#scroller",
        style="body { zoom: 1.25 }",
    ),
    **{f"zoom {n} {where}": Case(MIXED, style=css.format(n)) for where, css in ZOOMS.items() for n in (0.8, 1.25, 2)},
}
FAST = ("markdown", "emoji", "scrolled", "zoom 1.25 of the page")


def _open(open_page: OpenPage, wire: WireServer, case: Case) -> Page:
    style = f"{STYLE}<style>{case.style}</style>"
    wire.pages["/"] = f"<!doctype html><html>{style}<body>{case.html}{case.after}{SCRIPT}"
    page = open_page(**case.context)
    page.goto(wire.url)
    until(lambda: page.evaluate("!!window.boxes"))
    page.evaluate("answer.setAttribute('data-ifllm-response', 'a token'), tracker.grantConsent()")
    return page


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in CASES])
def test_the_index_is_that_of_the_character_under_the_cursor(open_page: OpenPage, wire: WireServer, name: str) -> None:
    case = CASES[name]
    page = _open(open_page, wire, case)
    begins = [match.start() for match in regex.finditer(r"\X", page.evaluate("answer.textContent")) for _ in match[0]]
    chance = random.Random(name)
    chars: list[int] = []
    wrong = []
    for scroll in (0, 150, 377) if case.scroller else (0,):
        page.evaluate(f"document.querySelector('{case.scroller or 'body'}').scrollTop = {scroll}")
        boxes = page.evaluate("boxes()")
        points = _path(chance, *page.evaluate(f"visible('{case.scroller or 'html'}')"), 45 if case.scroller else 120)
        page.move(points)
        page.evaluate("tracker.flush()")
        ticks = wire.ticks()[len(chars) :]
        assert len(ticks) >= len(points)  # or more: an engine moves the mouse itself when something scrolls under it
        for _, _, x, y, char, _ in ticks:
            meant = {begins[char] if char >= 0 else char for char in _under(boxes, x, y)}
            chars.append(char)
            if char not in meant:
                wrong.append((x, y, char, meant))
    page.close()
    assert len(wrong) <= 0.01 * len(chars), wrong
    assert sum(char >= 0 for char in chars) > 0.3 * len(chars)
    assert -1 in chars


@pytest.mark.slow
@pytest.mark.parametrize("zoom", [0.8, 1, 1.25, 2])
@pytest.mark.parametrize("where", ZOOMS)
def test_it_is_the_character_that_the_engine_itself_finds(
    open_page: OpenPage, wire: WireServer, where: str, zoom: float
) -> None:
    """By the target of the mouse's events while each character is an element of its own: no boxes are read.

    Engines round the edges of elements to whole px: a place counts if it and its neighbors have one target.
    """
    case = Case(f'<pre id="answer" style="font-size: 20px">{CODE}</pre>', after=HITS, style=ZOOMS[where].format(zoom))
    page = _open(open_page, wire, case)
    places = _path(random.Random(zoom), *page.evaluate("visible('html')"), 50)
    around = [(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)]
    page.move([(x + dx, y + dy) for x, y in places for dx, dy in around])
    hits = page.evaluate("hits")
    page.evaluate("answer.textContent = answer.textContent, tracker.flush()")
    before = len(wire.ticks())
    page.move(places)
    page.evaluate("tracker.flush()")
    page.close()
    chars = {(x, y): char for _, _, x, y, char, _ in wire.ticks()[before:]}
    sure = {
        (x, y): hit for x, y, hit in hits if all([x + dx, y + dy, hit] in hits for dx, dy in around) and (x, y) in chars
    }
    assert len(sure) > 0.2 * len(places)
    assert not {place: (chars[place], hit) for place, hit in sure.items() if chars[place] != hit}


# A letter with an accent, a family, flags, a keycap, a vowel sign, a tone of skin: where their clusters begin, by hand.
CLUSTERS = "ae\u0301\U0001f468\u200d\U0001f469\u200d\U0001f467\U0001f1e9\U0001f1ea1\ufe0f\u20e3कि\U0001f44d\U0001f3fd."
BEGINS = [0, 1, 3, 8, 10, 13, 15, 17]
LAST_HAS_THE_BOX = f"""() => {{
  const boxesOf = Range.prototype.getClientRects;
  Range.prototype.getClientRects = function () {{
    const end = [...answer.textContent.slice(0, this.endOffset)].length;
    return {BEGINS}.includes(end) || this.endOffset === this.endContainer.length ? boxesOf.call(this) : [];
  }};
}}"""


@pytest.mark.parametrize("boxes", ["its own", "at the last"])
def test_of_a_cluster_the_first_code_point_counts_whatever_has_the_box(
    open_page: OpenPage, wire: WireServer, boxes: str
) -> None:
    wire.pages["/"] = f"<!doctype html>{STYLE}<span id=answer data-ifllm-response=A>{CLUSTERS}</span>{SCRIPT}"
    page = open_page()
    page.goto(wire.url)
    page.evaluate("import('/tracker.js').then((tracker) => { window.tracker = tracker })")
    if boxes == "at the last":
        page.evaluate(f"({LAST_HAS_THE_BOX})()")
    found = page.evaluate(
        """(() => {
          const { left, right, top, bottom } = answer.getBoundingClientRect();
          const places = Array.from({ length: Math.floor(right - left) }, (_, n) => left + n + 0.5);
          return places.map((x) => tracker.charAt(answer, x, (top + bottom) / 2));
        })()"""
    )
    page.close()
    assert sorted({*found}) == [-1, *BEGINS]  # -1: the padding


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


def _under(boxes: list[list[float]], x: int, y: int) -> set[int]:
    """Which indices are right at a point: of the code points whose box, as high as its line, holds it, else -1.

    Half a pixel from the next character, and one from the middle between two lines, either is right; so it is where
    boxes overlap, as WebKit's do, which rounds them to whole px.
    """
    near = [
        (char, left, right, middle, PITCH * zoom / 2)
        for char, zoom, left, top, right, bottom in boxes
        if left < right and abs(y - (middle := (top + bottom) / 2)) < PITCH * zoom
    ]
    allowed = set()
    for dx, dy in itertools.product((-0.5, 0, 0.5), (-1, 0, 1)):
        hit = {c for c, left, right, middle, half in near if left <= x + dx < right and abs(y + dy - middle) <= half}
        allowed |= hit or {-1}
    return allowed
