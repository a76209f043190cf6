"""The study's task page, as far as its behavior files reveal it: text layout, boxes, and what is under a point.

All lengths are CSS px. Viewport coordinates have their origin at the top left and y down, like `clientX/clientY`.
"""

from bisect import bisect_right
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

CHAR_WIDTH, LINE_HEIGHT = 11, 70
# Distance of the boxes from the left edge, and from the top edge while the page is not scrolled.
_MARGIN, BOX_TOP = 20, 335
_PADDING = 9
_WINDOW = 10  # UTF-16 units on each side of the caret

PLACEHOLDER = "Your answer is going to be displayed in this panel. Please read all of it and then rate it below."
_FORM = "Rate this answer\nvery bad, bad, fair, good, very good\nPreferred answer\nSend"
_FORM_OFFSET, _FORM_LINE_HEIGHT = 30, 45


class Layout:
    """A text in a monospace font, wrapped at spaces, line feeds kept (CSS `pre-wrap`).

    Args:
        text: what is on screen, without CR/LF artifacts.
        columns: characters per line.
        nodes: code point offsets where the DOM text nodes start; caret offsets are relative to these.
    """

    def __init__(self, text: str, columns: int, nodes: tuple[int, ...] = (0,), line_height: int = LINE_HEIGHT) -> None:
        self.text = text
        self.nodes = nodes
        self.line_height = line_height
        codes = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
        self.units = np.concatenate([[0], np.cumsum(1 + (codes > 0xFFFF))])
        self._utf16 = text.encode("utf-16-le")
        starts, ends = [], []
        at = 0
        for paragraph in text.split("\n"):
            paragraph_end = at + len(paragraph)
            while paragraph_end - at > columns:
                space = text.rfind(" ", at, at + columns + 1)
                end = space if space > at else at + columns
                starts.append(at)
                ends.append(end)
                at = end + (space > at)
            starts.append(at)
            ends.append(paragraph_end)
            at = paragraph_end + 1
        self._starts = starts
        self.starts = np.array(starts)
        self.ends = np.array(ends)

    @property
    def height(self) -> int:
        return len(self._starts) * self.line_height

    def line_of(self, char: np.ndarray) -> np.ndarray:
        """Line number of each code point offset."""
        return np.searchsorted(self.starts, char, side="right") - 1

    def caret_at(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Code point offset of the caret nearest to points relative to the text's top left; -1 above and below it."""
        line = np.floor(y / self.line_height).astype(np.int64)
        on_line = (line >= 0) & (line < len(self._starts))
        line = np.where(on_line, line, 0)
        column = np.clip(np.rint(x / CHAR_WIDTH).astype(np.int64), 0, (self.ends - self.starts)[line])
        return np.where(on_line, self.starts[line] + column, -1)

    def fields(self, carets: np.ndarray) -> list[str]:
        """The `"window",index` part of each row; `,` where the caret is -1."""
        unique, inverse = np.unique(carets, return_inverse=True)
        table = [self._field(int(caret)) for caret in unique]
        return [table[i] for i in inverse]

    def _field(self, caret: int) -> str:
        if caret < 0:
            return ","
        line = bisect_right(self._starts, caret) - 1
        node = bisect_right(self.nodes, caret) - 1
        node_end = self.nodes[node + 1] if node + 1 < len(self.nodes) else len(self.text)
        unit = int(self.units[caret])
        first = max(unit - _WINDOW, int(self.units[max(self._starts[line], self.nodes[node])]))
        last = min(unit + _WINDOW, int(self.units[min(int(self.ends[line]), node_end)]))
        # A window's edge may cut an emoji in half; the half is not shown.
        window = self._utf16[2 * first : 2 * last].decode("utf-16-le", errors="ignore").strip()
        return f'"{window}",{unit - int(self.units[self.nodes[node]])}'


@dataclass(frozen=True)
class Page:
    """One worker's page: schema 1 is September 2025, 2 October to December 2025, 3 January 2026."""

    schema_version: int
    pairwise: bool
    width: int
    height: int

    @property
    def box_height(self) -> float:
        return 0.6 * self.height

    @property
    def box_width(self) -> float:
        return self.width / 2 - _MARGIN if self.pairwise else self.width - 2 * _MARGIN

    @property
    def columns(self) -> int:
        """Characters per line."""
        return int((self.box_width - 70) / CHAR_WIDTH)

    @property
    def lines_in_view(self) -> int:
        """Whole lines that the box shows at a time."""
        return int((self.box_height - _PADDING) // LINE_HEIGHT)

    def box_left(self, side: int) -> float:
        return self.width / 2 + 0.5 if side else _MARGIN

    def scroll_for(self, layout: Layout, line: np.ndarray) -> np.ndarray:
        """How far a reader scrolls the box to bring a line into view, in steps of two lines."""
        highest = max(0.0, layout.height + 2 * _PADDING - self.box_height)
        return np.minimum(2 * LINE_HEIGHT * np.maximum(0, (line - 2) // 2), highest)

    def point_of(
        self, layout: Layout, side: int, char: np.ndarray, top: np.ndarray, scroll: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Viewport position of characters, given the box's top edge and its scroll offset at that time."""
        line = layout.line_of(char)
        x = self.box_left(side) + _PADDING + CHAR_WIDTH * (char - layout.starts[line] + 0.5)
        y = top + _PADDING + LINE_HEIGHT * (line + 0.5) - scroll
        return x, y

    def probe(
        self, layout: Layout, side: int, x: np.ndarray, y: np.ndarray, top: np.ndarray, scroll: np.ndarray
    ) -> "Probe":
        """What the site sees under viewport points, relative to one answer."""
        box_x, box_y = x - self.box_left(side), y - top
        text_x, text_y = box_x - _PADDING, box_y - _PADDING + scroll
        in_box = (box_x >= 0) & (box_x <= self.box_width) & (box_y >= 0) & (box_y <= self.box_height)
        if self.schema_version == 3 and self.pairwise:
            # Here the element is the paragraph, which extends above and below the visible box.
            rel_x, rel_y = text_x, text_y
            width = self.box_width - 2 * _PADDING
            inside = (text_x >= 0) & (text_x <= width) & (text_y >= 0) & (text_y <= layout.height)
        else:
            rel_x, rel_y = box_x, box_y if self.pairwise else box_y + scroll
            inside = in_box
        in_view = (x >= 0) & (x < self.width) & (y >= 0) & (y < self.height)
        caret = np.where(inside & in_box & in_view, layout.caret_at(text_x, text_y), -1)
        below = np.flatnonzero(inside & ~in_box & in_view & (box_y > self.box_height))
        return Probe(rel_x, rel_y, inside, caret, below, text_x[below], box_y[below] - self.box_height - _FORM_OFFSET)


class Probe(NamedTuple):
    """What lies under viewport points.

    Attributes:
        x, y: relative to the box, px.
        inside: whether the point is in the box.
        caret: code point offset in the answer; -1: not on it.
        below: positions of the points on the rating form; `form_x`, `form_y`: relative to it, px.
    """

    x: np.ndarray
    y: np.ndarray
    inside: np.ndarray
    caret: np.ndarray
    below: np.ndarray
    form_x: np.ndarray
    form_y: np.ndarray

    def cells(self, layout: Layout) -> list[str]:
        """The `x,y,"window",index` part of each row that the site records."""
        fields = layout.fields(self.caret)
        for i, field in zip(self.below, _FORM_LAYOUT.fields(_form_caret(self.form_x, self.form_y)), strict=True):
            fields[i] = field
        return [
            f"{px:.8g},{py:.8g},{field}" if hit else "-1,-1,,"
            for px, py, field, hit in zip(
                np.round(self.x, 2).tolist(), np.round(self.y, 2).tolist(), fields, self.inside.tolist(), strict=True
            )
        ]


# Each label of the form is a text node of its own.
_FORM_NODES = tuple(_FORM.find(label) for label in _FORM.split("\n"))
_FORM_LAYOUT = Layout(_FORM, 60, _FORM_NODES, _FORM_LINE_HEIGHT)


def _form_caret(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Caret on a label of the rating form; -1 between labels (they are centered words, not whole lines)."""
    caret = _FORM_LAYOUT.caret_at(x - 250, y)
    past_end = np.isin(caret, _FORM_LAYOUT.ends) | np.isin(caret, _FORM_LAYOUT.starts)
    return np.where(past_end, -1, caret)
