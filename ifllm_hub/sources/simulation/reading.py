"""How a simulated worker reads, rates and types: the ticks of one conversation, and the behavior files.

A reader scans each answer from left to right and top to bottom, jumps back, switches sides, and stops earlier on an
answer they like less. Gaze is noisy around the point they read; the mouse follows it late, sometimes rests, and is
sampled on each gaze tick. After reading, the mouse goes to the rating form, near the chosen answer.
"""

import csv
import io
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ifllm_hub.sources.ifllm.archive import PAIRWISE_FILES, POINTWISE_FILES
from ifllm_hub.sources.simulation.page import BOX_TOP, PLACEHOLDER, Layout, Page
from ifllm_hub.sources.simulation.paths import reading_path
from ifllm_hub.sources.simulation.readers import Reader, Turn

BATCH = 100  # ticks that the page sends at once; a last, incomplete batch is lost
_BEFORE, _READING, _RATING, _WAITING = range(4)
_INPUT_Y = 190  # px, the query field above the boxes
_GOOD_LINE = re.compile(r'-?[\d.]+,-?[\d.]+,("(.*)")?,\d*,[\d.]+,([01],)?\d+')
_QUOTED_END = re.compile(r'[^,]"",\d')


@dataclass
class Recording:
    """The ticks of one conversation in order of time.

    Attributes:
        epoch: Unix ms. timer: page timer in 0.1 ms; stops while the tab is hidden.
        gaze, mouse: (ticks, 2), viewport px. face_ok: 0 or 1.
        cells: (modality, side) -> the `x,y,"window",index` part of each row; empty where no files are to be written.
        chars: (modality, side) -> code point offset of the point in the answer that is on screen; -1 off it.
        shown: turn on screen, from 0; -1 before the first answer.
        rendered_at: Unix ms of each answer. reading_s: seconds each side of each turn was read.
        kept: how many ticks reached the server. ended_at: Unix ms.
    """

    epoch: np.ndarray
    timer: np.ndarray
    gaze: np.ndarray
    mouse: np.ndarray
    face_ok: np.ndarray
    shown: np.ndarray
    rendered_at: list[int]
    reading_s: list[tuple[float, ...]]
    kept: int
    first_batch: int
    ended_at: int
    cells: dict[tuple[str, int], list[str]] = field(default_factory=dict)
    chars: dict[tuple[str, int], np.ndarray] = field(default_factory=dict)


@dataclass
class _Plan:
    """Where the reader aims to look: at a character of a side, or (side -1) at a point of the viewport."""

    sizes: list[int] = field(default_factory=list)
    places: list[tuple[float, ...]] = field(default_factory=list)
    sides: list[np.ndarray] = field(default_factory=list)
    chars: list[np.ndarray] = field(default_factory=list)

    def add(
        self,
        phase: int,
        shown: int,
        side: np.ndarray | int,
        char: np.ndarray,
        x: float = 0,
        y: float = 0,
        page_scroll: float = 0,
    ) -> None:
        self.sizes.append(len(char))
        self.places.append((phase, shown, x, y, page_scroll))
        self.sides.append(np.full(len(char), side) if isinstance(side, int) else side)
        self.chars.append(char)

    def columns(self) -> list[np.ndarray]:
        """Per tick: phase, shown, x, y and page scroll, side, char."""
        phase, shown, *points = (np.repeat(column, self.sizes) for column in zip(*self.places, strict=True))
        return [phase, shown, *points, np.concatenate(self.sides), np.concatenate(self.chars)]


def record(
    rng: np.random.Generator, reader: Reader, page: Page, turns: list[Turn], started_at: int, cells: bool = True
) -> Recording:
    """Simulate one conversation from the loading of the page at `started_at` (Unix ms).

    Args:
        cells: prepare the rows of the behavior files, which takes longer than all the rest.
    """
    layouts = _layouts(rng, reader, page, turns)
    sides = range(2 if page.pairwise else 1)
    phase, shown, x, y, page_scroll, side, char = _plan(rng, reader, page, turns).columns()
    top = BOX_TOP - page_scroll
    starts = np.searchsorted(shown, np.arange(-1, len(turns) + 1))
    screens = [(slice(starts[i], starts[i + 1]), layouts[i]) for i in range(len(turns) + 1)]

    # Where the eyes aim, and how far each box is scrolled at that time (a new answer starts at the top).
    scroll = np.zeros((len(sides), len(char)))
    for span, texts in screens:
        for s in sides:
            here = side[span] == s
            wanted = page.scroll_for(texts[s], texts[s].line_of(char[span]))
            last = np.maximum.accumulate(np.where(here, np.arange(len(here)), -1))
            scroll[s, span] = np.where(last >= 0, wanted[last], 0.0)
            aim_x, aim_y = page.point_of(texts[s], s, char[span], top[span], scroll[s, span])
            x[span] = np.where(here, aim_x, x[span])
            y[span] = np.where(here, aim_y, y[span])

    epoch, timer, face_ok = _clock(rng, reader, started_at, phase)
    mouse = _mouse(rng, reader, x, y, epoch)
    gaze = _gaze(rng, reader, x, y, mouse)
    read_for = np.diff(timer, append=timer[-1]) / 1e4
    reading = phase == _READING
    first_batch = max(BATCH, int(starts[1]))
    recording = Recording(
        epoch=epoch,
        timer=timer,
        gaze=gaze,
        mouse=mouse,
        face_ok=face_ok,
        shown=shown,
        rendered_at=[int(epoch[at]) - int(rng.integers(5, 25)) for at in starts[1:-1]],
        reading_s=[
            tuple(float(read_for[reading & (shown == k) & (side == s)].sum()) for s in sides) for k in range(len(turns))
        ],
        kept=first_batch + (len(char) - first_batch) // BATCH * BATCH,
        first_batch=first_batch,
        ended_at=int(epoch[-1]) + int(rng.integers(1500, 5000)),
    )
    for modality, points in (("gaze", gaze), ("mouse", mouse)):
        for s in sides:
            rows: list[str] = []
            chars = np.full(len(char), -1)
            for span, texts in screens:
                under = page.probe(texts[s], s, points[span, 0], points[span, 1], top[span], scroll[s, span])
                chars[span] = np.where(shown[span] >= 0, under.caret, -1)
                if cells:
                    rows += under.cells(texts[s])
            recording.cells[modality, s] = rows
            recording.chars[modality, s] = chars
    return recording


def _layouts(rng: np.random.Generator, reader: Reader, page: Page, turns: list[Turn]) -> list[list[Layout]]:
    """The placeholder, then each turn's answers."""
    placeholder = Layout(PLACEHOLDER, page.columns)
    layouts = [[placeholder, placeholder]]
    for turn in turns:
        layouts.append([])
        for text in turn.texts:
            nodes = [0]
            while reader.splits_text:
                space = text.find(" ", nodes[-1] + int(rng.integers(120, 400)))
                if space < 0:
                    break
                nodes.append(space + 1)
            layouts[-1].append(Layout(text, page.columns, tuple(nodes)))
    return layouts


def _plan(rng: np.random.Generator, reader: Reader, page: Page, turns: list[Turn]) -> _Plan:
    plan = _Plan()
    # While rating, the page is scrolled far enough for the form below the boxes to be in view.
    form_scroll = BOX_TOP + page.box_height + 190 - page.height
    form_y = BOX_TOP - form_scroll + page.box_height
    read_scroll = float(rng.uniform(0.4, 1.0)) * form_scroll
    _wait(rng, reader, page, plan, -1, (PLACEHOLDER,), seconds=rng.uniform(3, 6))
    for k, turn in enumerate(turns):
        side, char = reading_path(rng, reader, turn)
        plan.add(_READING, k, side, char, page_scroll=read_scroll)
        if turn.chosen is not None:
            stops = [0, 1, turn.chosen] if page.pairwise else [0, 0]
            for i, s in enumerate(stops):
                n = reader.ticks(rng.uniform(0.9, 1.8))
                center = page.box_left(s) + 0.42 * page.box_width if page.pairwise else 0.25 * page.width
                spread = 0.07 * page.width
                x = center + rng.normal(0, spread) + (0.08 * page.width * turn.chosen if not page.pairwise and i else 0)
                y = form_y + 40 + 50 * i + rng.normal(0, 6)
                plan.add(_RATING, k, -1, np.zeros(n, dtype=np.int64), x, y, form_scroll)
        if k + 1 < len(turns):
            # The page is scrolled back to the query field only after the hand has left the form.
            n = reader.ticks(0.9)
            plan.add(_WAITING, k, -1, np.zeros(n, dtype=np.int64), 0.5 * page.width, form_y + 175, form_scroll)
            _wait(rng, reader, page, plan, k, turn.texts, seconds=rng.uniform(2.5, 7))
        else:
            n = reader.ticks(rng.uniform(5, 7))
            plan.add(_WAITING, k, -1, np.zeros(n, dtype=np.int64), 0.5 * page.width, form_y + 175, form_scroll)
    return plan


def _wait(
    rng: np.random.Generator,
    reader: Reader,
    page: Page,
    plan: _Plan,
    shown: int,
    texts: tuple[str, ...],
    seconds: float,
) -> None:
    """Typing a query and waiting for the answer, with a glance at the old one, which is still on screen."""
    n = reader.ticks(seconds)
    x = float(rng.uniform(0.2, 0.7)) * page.width
    side = int(rng.integers(len(texts)))
    glance = min(n // 3, reader.ticks(rng.uniform(0.8, 2)))
    start = float(rng.uniform(0, 0.7)) * len(texts[side])
    char = np.minimum(start + np.arange(glance) * reader.pace * reader.interval / 1000, len(texts[side]) - 1)
    phase = _WAITING if shown >= 0 else _BEFORE
    before = int(rng.integers(n // 3, 2 * n // 3))
    plan.add(phase, shown, -1, np.zeros(before, dtype=np.int64), x, _INPUT_Y)
    plan.add(phase, shown, side, char.astype(np.int64))
    plan.add(phase, shown, -1, np.zeros(max(n - before - glance, 3), dtype=np.int64), x + 40, _INPUT_Y + 10)


def _clock(
    rng: np.random.Generator, reader: Reader, started_at: int, phase: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Epoch (ms), page timer (0.1 ms) and face flag; the timer stops while the tab is hidden."""
    n = len(phase)
    unit = 10 if reader.whole_ms else 1
    step = np.maximum(reader.interval * rng.lognormal(-0.05, 0.3, n), 30.0)
    step *= np.where(rng.random(n) < 0.015, rng.uniform(3, 5, n), 1.0)
    step_tenths = np.rint(step * 10 / unit).astype(np.int64) * unit
    timer = int(rng.integers(3000, 9000)) * 10 + np.cumsum(step_tenths)
    hidden = rng.random(n) < np.where(phase == _WAITING, 0.002, 0.0003)
    hidden[0] = False
    # If a tick comes before the timer runs again, two rows have the same timer.
    frozen = hidden & (rng.random(n) < 0.5)
    shift = np.cumsum(np.where(frozen, step_tenths, 0))
    away = np.cumsum(np.where(hidden, rng.integers(2_000, 30_000, n), 0))
    face_ok = np.ones(n, dtype=np.int64)
    face_ok[: int(rng.integers(1, 6))] = 0
    for at in np.flatnonzero(rng.random(n) < 0.002):
        face_ok[at : at + int(rng.integers(5, 60))] = 0
    return started_at + timer // 10 + away, timer - shift, face_ok


def _mouse(rng: np.random.Generator, reader: Reader, x: np.ndarray, y: np.ndarray, epoch: np.ndarray) -> np.ndarray:
    """Follows the aim a few ticks or a known time late, rests now and then, and is (-1, -1) before its first move."""
    n = len(x)
    lag = int(rng.integers(3, 7))
    source = np.maximum(np.arange(n) - lag, 0)
    if reader.habit is not None:
        # The tick nearest in time.
        source = np.searchsorted((epoch[1:] + epoch[:-1]) / 2, epoch - reader.habit.mouse_lag_ms)
    stretch = np.cumsum(rng.random(n) < 1 / 45)
    resting = (rng.random(int(stretch[-1]) + 1) < 0.25)[stretch]
    moves = (rng.random(n) < reader.follow) & ~resting
    far = np.hypot(np.diff(x, prepend=x[0]), np.diff(y, prepend=y[0]))[source]
    moves |= (far > 0.35 * reader.width) & (rng.random(n) < 0.8)
    at = np.maximum.accumulate(np.where(moves, np.arange(n), -1))
    points = np.stack([x, y], axis=1)[source] + (rng.standard_normal((n, 2)) * (10, 9) + (0, 8))
    points = np.clip(np.rint(points), 0, (reader.width - 1, reader.height - 1))
    return np.where((at >= 0)[:, None], points[at], -1).astype(np.int64)


def _gaze(rng: np.random.Generator, reader: Reader, x: np.ndarray, y: np.ndarray, mouse: np.ndarray) -> np.ndarray:
    """The aim with the webcam's error: a bias, slow drift, rare wild values, and a pull towards the mouse."""
    n = len(x)
    noise = rng.normal(0, 1, (n + 8, 2))
    drift = np.stack([np.convolve(noise[:, i], np.full(9, 1 / 3), mode="valid") for i in range(2)], axis=1)
    gaze = np.stack([x, y], axis=1) + reader.gaze_bias + drift * (38, 26) + rng.normal(0, 14, (n, 2))
    gaze += 0.12 * (mouse - gaze) * (mouse[:, :1] >= 0)
    gaze[rng.random(n) < 0.0006] *= -9.0
    return gaze


def write_recording(
    rng: np.random.Generator, recording: Recording, page: Page, folder: Path, late_batch: bool, damaged: int
) -> np.ndarray:
    """Write the behavior files of one conversation.

    Args:
        late_batch: let one batch of ticks arrive after the next one.
        damaged: rows of one rel file that went through a CSV round trip, which breaks their quoting.

    Returns:
        The positions of the damaged ticks in the recording.
    """
    order = np.arange(recording.kept)
    batches = np.split(order, range(recording.first_batch, recording.kept, BATCH))
    if late_batch and len(batches) > 2:
        late = len(batches) // 2 - 1
        batches[late], batches[late + 1] = batches[late + 1], batches[late]
    order = np.concatenate(batches)

    epoch = recording.epoch[order]
    # Each file reads the clock again, but never across a full second, which would make the tick's turn ambiguous.
    later = np.where(epoch % 1000 < 998, rng.choice(3, len(epoch), p=(0.78, 0.21, 0.01)), 0)
    timers = [f"{t // 10}.{t % 10}" if t % 10 else str(t // 10) for t in recording.timer[order].tolist()]
    abs_tails = [f",{timer},{e}\n" for timer, e in zip(timers, epoch.tolist(), strict=True)]
    face_ok = [""] * len(order) if page.schema_version == 1 else [f"{ok}," for ok in recording.face_ok[order].tolist()]
    rel_tails = [f",{t},{ok}{e}\n" for t, ok, e in zip(timers, face_ok, (epoch + later).tolist(), strict=True)]

    lines: dict[str, list[str]] = {}
    gaze, mouse = recording.gaze[order].tolist(), recording.mouse[order].tolist()
    lines["abs_gaze.csv"] = [f"{x:.14g},{y:.14g}{tail}" for (x, y), tail in zip(gaze, abs_tails, strict=True)]
    lines["abs_mouse.csv"] = [f"{x},{y}{tail}" for (x, y), tail in zip(mouse, abs_tails, strict=True)]
    rel_files = (PAIRWISE_FILES if page.pairwise else POINTWISE_FILES)[2:]
    for name, key in zip(rel_files, sorted(recording.cells), strict=True):
        cells = recording.cells[key]
        lines[name] = [cells[i] + tail for i, tail in zip(order.tolist(), rel_tails, strict=True)]
    broken = _damage(rng, lines, rel_files, damaged)
    if page.pairwise:
        # The server of the study writes every batch of this file twice.
        ends = np.cumsum([len(batch) for batch in batches]).tolist()
        once = lines["abs_gaze.csv"]
        lines["abs_gaze.csv"] = [line for a, b in zip([0, *ends], ends, strict=False) for line in once[a:b] * 2]
    folder.mkdir(parents=True)
    for name, rows in lines.items():
        (folder / name).write_text("".join(rows), encoding="utf-8", newline="\n")
    return order[broken]


def _damage(rng: np.random.Generator, lines: dict[str, list[str]], names: tuple[str, ...], n: int) -> np.ndarray:
    """Pass `n` lines of one file through a CSV reader and writer, in place; only lines that become unreadable count.

    A plain window loses its quotes; one that ends in a quotation mark swallows the rest of its line.
    """
    if n == 0:
        return np.zeros(0, dtype=np.int64)
    swallowing = {name: [i for i, line in enumerate(lines[name]) if i and _QUOTED_END.search(line)] for name in names}
    name = max(names, key=lambda name: len(swallowing[name]))
    rows = lines[name]
    broken: list[int] = []
    for i in [*swallowing[name][: n // 3], *rng.permutation(np.arange(1, len(rows))).tolist()]:
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerow(next(csv.reader([rows[i][:-1]])))
        if i not in broken and _GOOD_LINE.fullmatch(out.getvalue()[:-1]) is None:
            rows[i] = out.getvalue()
            broken.append(i)
        if len(broken) == n:
            break
    return np.array(sorted(broken), dtype=np.int64)
