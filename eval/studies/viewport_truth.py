"""How much of a reading does the screen tell? Exposure against simulated readers whose eyes are known.

python -m eval.studies.viewport_truth --out docs/results/viewport_truth.md
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
import polars as pl

from ifllm_hub.features.extract import extract_features
from ifllm_hub.features.measures import CELL
from ifllm_hub.features.viewport import LISTS, PARTS, views
from ifllm_hub.files import write_atomically
from ifllm_hub.pages.markdown import markdown_table
from ifllm_hub.sources.simulation.page import BOX_TOP, Layout, Page
from ifllm_hub.sources.simulation.paths import reading_path
from ifllm_hub.sources.simulation.people import converse
from ifllm_hub.sources.simulation.reading import record
from ifllm_hub.sources.simulation.simulate import invite
from ifllm_hub.statistics import jackknife_mean
from ifllm_hub.terms import MODALITIES, SIDES

WORKERS, QUESTIONS = 60, 1_500
TICK_MS = 80
# A phone: its window, its lines (px, characters), and what is above, between and below the two answers (px).
HEIGHT, LINE, COLUMNS = 700, 24, 42
ABOVE, BETWEEN, BELOW = 150, 50, 500
# Where on the screen a reader lets a line come before they scroll (shares of the window), and where they bring it.
HABITS = {"middle": (0.33, 0.67, 0.5), "upper half": (0.1, 0.6, 0.2), "whole screen": (0.0, 1.0, 0.05)}
ESTIMATES = ("dwell", "exposure", "central_exposure")


@dataclass(frozen=True)
class Read:
    """A question with two answers, as it was read.

    Attributes:
        worker: whose reading it is.
        path: side and character aimed at, one a tick of `TICK_MS`.
        seconds: by modality, the time that it was on each answer, for readers of the same answers on a desktop; and
            `eyes`, the time that those were read.
    """

    worker: int
    texts: tuple[str, ...]
    path: tuple[np.ndarray, np.ndarray]
    seconds: dict[str, tuple[float, ...]]


def readings(workers: int, questions: int, seed: int = 0) -> Iterator[Read]:
    """Simulated pairs; on the desktop everybody reads anew, as likely the one answer as here."""
    rng = np.random.default_rng([seed, 0])
    for number, worker in enumerate(invite(rng, workers, questions, seed, known_readers=False)):
        for place, conversation in enumerate(worker.conversations):
            if not conversation.pairwise:
                continue
            own = np.random.default_rng([seed, 1, number, place])
            turns = converse(own, conversation)
            page = Page(worker.schema_version, True, worker.reader.width, worker.reader.height)
            recording = record(own, worker.reader, page, turns, 0, cells=False)
            lasts = np.diff(recording.timer, append=recording.timer[-1]) / 1e4
            for turn, texts in enumerate(turns):
                shown = recording.shown == turn
                seconds = {
                    modality: tuple(
                        float(lasts[shown & (recording.chars[modality, side] >= 0)].sum()) for side in (0, 1)
                    )
                    for modality in MODALITIES
                }
                path = reading_path(own, worker.reader, texts)
                yield Read(number, texts.texts, path, {**seconds, "eyes": recording.reading_s[turn]})


def on_phone(read: Read, habit: tuple[float, float, float]) -> dict[str, Any]:
    """A row of `trajectories`: the answers one under the other, scrolled as the habit has it."""
    layouts = [Layout(text, COLUMNS, line_height=LINE) for text in read.texts]
    tops = [ABOVE, ABOVE + layouts[0].height + BETWEEN]
    lowest = max(0, tops[1] + layouts[1].height + BELOW - HEIGHT)
    side, char = read.path
    lines = np.where(side == 0, layouts[0].line_of(char), layouts[1].line_of(char))
    middles = np.where(side == 0, tops[0], tops[1]) + LINE * (lines + 0.5)
    low, high, aim = (HEIGHT * share for share in habit)
    scroll, scrolled = np.empty(len(middles)), 0.0
    for tick, middle in enumerate(middles):
        if not low <= middle - scrolled < high:
            scrolled = min(max(middle - aim, 0.0), float(lowest))
        scroll[tick] = scrolled
    return _row(read, layouts, lambda tick: [top - scroll[tick] for top in tops], (0, HEIGHT), scroll)


def on_desktop(read: Read, page: Page) -> dict[str, Any]:
    """The same in the study's page: side by side, each answer in a box that is scrolled by itself."""
    layouts = [Layout(text, page.columns) for text in read.texts]
    side, char = read.path
    scrolls = []
    for number, layout in enumerate(layouts):
        wanted = page.scroll_for(layout, layout.line_of(char))
        last = np.maximum.accumulate(np.where(side == number, np.arange(len(side)), -1))
        scrolls.append(np.where(last >= 0, wanted[last], 0.0))
    box = (BOX_TOP, min(BOX_TOP + page.box_height, page.height))
    together = scrolls[0] * 1e6 + scrolls[1]
    return _row(read, layouts, lambda tick: [BOX_TOP - scroll[tick] for scroll in scrolls], box, together, page.height)


def _row(
    read: Read,
    layouts: list[Layout],
    tops_at: Callable[[int], list[float]],
    window: tuple[float, float],
    state: np.ndarray,
    height: int = HEIGHT,
) -> dict[str, Any]:
    """What the tracker records: when the state changes, and once a second when it does not."""
    lists: dict[str, list[Any]] = {name: [] for name in LISTS}
    recorded = -1_000
    for tick in range(len(state)):
        now = tick * TICK_MS
        if tick and state[tick] == state[tick - 1] and now - recorded < 1_000:
            continue
        recorded = now
        lists["viewport_t"].append(now)
        for name, layout, top in zip(SIDES, layouts, tops_at(tick), strict=True):
            shown = _visible(layout, top, window)
            for part, value in zip(("first", "last", "share", "top", "bottom"), shown, strict=True):
                lists[f"viewport_{part}_{name}"].append(value)
    lists["viewport_t"].append(len(state) * TICK_MS)
    for name in SIDES:
        for part, value in zip(("first", "last", "share", "top", "bottom"), (-1, -1, 0.0, None, None), strict=True):
            lists[f"viewport_{part}_{name}"].append(value)
    lengths = {f"length_{name}": len(text) for name, text in zip(SIDES, read.texts, strict=True)}
    return {"worker": read.worker, **lengths, "length_query": 1, "viewport_height": height, **lists}


def _visible(
    layout: Layout, top: float, window: tuple[float, float]
) -> tuple[int, int, float, float | None, float | None]:
    middles = top + layout.line_height * (np.arange(len(layout.starts)) + 0.5)
    lines = np.flatnonzero((middles >= window[0]) & (middles < window[1]) & (layout.ends > layout.starts))
    if not len(lines):
        return -1, -1, 0.0, None, None
    upper, lower = max(top, window[0]), min(top + layout.height, window[1])
    first, last = int(layout.starts[lines[0]]), int(layout.ends[lines[-1]]) - 1
    return first, last, (lower - upper) / layout.height, upper, lower


def main(out: Path, workers: int, questions: int) -> None:
    reads = list(readings(workers, questions))
    whose = np.array([read.worker for read in reads])
    truth = np.array([_log_ratio([np.sum(read.path[0] == side) * TICK_MS for side in (0, 1)]) for read in reads])
    screens = np.array([_screens(read.texts) for read in reads])
    desktop = Page(2, True, 1536, 730)
    pages = {
        **{f"phone, {name}": [on_phone(read, habit) for read in reads] for name, habit in HABITS.items()},
        "desktop": [on_desktop(read, desktop) for read in reads],
    }
    lengths = np.array([_log_ratio([1_000.0 * len(text) for text in read.texts]) for read in reads])
    rows = [("any", "length", *_cells(lengths, truth, whose, screens, None))]
    for page, made in pages.items():
        frame = pl.DataFrame(
            made, schema_overrides={**LISTS, "viewport_height": pl.Int32}, infer_schema_length=None, strict=False
        )
        frame = frame.with_columns(question_id=pl.int_range(pl.len(), dtype=pl.Int64), t=pl.lit([], pl.List(pl.Int32)))
        empty = {f"{m}_char_{s}": pl.lit([], pl.List(pl.Int16)) for m in MODALITIES for s in SIDES}
        features = extract_features(frame.with_columns(**empty))
        where = _where(reads, frame)
        for estimate in ESTIMATES:
            found = features[f"viewport_{estimate}_log_ratio"].to_numpy()
            within = where if estimate == "exposure" else None
            rows.append((page, estimate, *_cells(found, truth, whose, screens, within)))
    for modality in MODALITIES:
        found = np.array([_log_ratio([1_000 * s for s in read.seconds[modality]]) for read in reads])
        eyes = np.array([_log_ratio([1_000 * s for s in read.seconds["eyes"]]) for read in reads])
        rows.append(("desktop", f"{modality} dwell", *_cells(found, eyes, whose, screens, None)))
    long = screens > 1
    text = fill(
        f"{len(reads):,} pairs of answers, read by {workers} simulated readers whose eyes are known; the two answers "
        f"with the question take more than one screen of the phone in {long.sum():,} pairs. *Side* is the share of "
        "pairs in which the answer that was read longer is the one with more of the measure, with the 95 % interval by "
        "jackknife over readers; *r* is the correlation of the log ratios. *Within* is the mean correlation, over "
        f"answers of more than one screen, of the exposure of each {CELL} characters with the time they were read.",
        120,
    )
    head = ("page, scrolling", "measure", ">side, one screen", ">side, more", ">r, one screen", ">r, more", ">within")
    write_atomically(
        out,
        f"""# What the screen tells of a reading

Written by `python -m eval.studies.viewport_truth --out FILE`; do not edit.

{text}

{markdown_table(head, rows)}

On a phone of {HEIGHT} px the answers stand one under the other, in lines of {COLUMNS} characters and {LINE} px. Readers
scroll when the line that they read leaves a band of the screen, and bring it to one place: the middle third (and the
middle); the upper half (and a fifth from the top); or they read the whole screen before they go on. These habits are
made up, and the simulated eyes know nothing of the screen; how people scroll was not measured. On the desktop the page
is the study's: side by side, in boxes. The study's release does not say how its boxes were scrolled, so mouse and gaze
are simulated, too, for other readings of the same answers.

The longer answer is mostly read longer, so `length` is what a measure must surpass. Where both are on one screen, the
screen cannot tell which one is read: `dwell` is then the same for both, and what `exposure` shows is length.
""",
    )


def exposure_by_cell(trajectories: pl.DataFrame) -> dict[tuple[int, str], list[float]]:
    """How long each `CELL` code points of each answer were on the screen, where all characters there share the time.

    Args:
        trajectories: rows of the `trajectories` config, in any order.

    Returns:
        By `question_id` and side, of the answers that were on the screen: ms, one a cell.
    """
    exposed: dict[tuple[int, str], np.ndarray] = {}
    for row in views(trajectories).iter_rows(named=True):
        key, length = (row["question_id"], row["side"]), row["length"]
        change = exposed.setdefault(key, np.zeros(length + 1))
        each = row["share"] / PARTS / row["chars"]
        change[row["first"]] += each
        change[row["last"] + 1] -= each
    cells = {}
    for key, change in exposed.items():
        chars = np.cumsum(change)[:-1]
        cells[key] = np.add.reduceat(chars, np.arange(0, len(chars), CELL)).tolist()
    return cells


def _log_ratio(ms: list[float]) -> float:
    return float(np.log(ms[0] + 500) - np.log(ms[1] + 500))


def _screens(texts: tuple[str, ...]) -> float:
    heights = [Layout(text, COLUMNS, line_height=LINE).height for text in texts]
    return (ABOVE + BETWEEN + sum(heights)) / HEIGHT


def _where(reads: list[Read], frame: pl.DataFrame) -> list[float]:
    """Per answer of more than a screen: the correlation of exposure and reading time over its cells."""
    exposed = exposure_by_cell(frame)
    found = []
    for number, read in enumerate(reads):
        for place, side in enumerate(SIDES):
            cells = -(-len(read.texts[place]) // CELL)
            if LINE * len(Layout(read.texts[place], COLUMNS).starts) <= HEIGHT:
                continue
            chars = read.path[1][read.path[0] == place]
            true = np.bincount(chars // CELL, minlength=cells)
            estimated = np.array(exposed[number, side])
            if true.std() and estimated.std():
                found.append(float(np.corrcoef(true, estimated)[0, 1]))
    return found


def _cells(
    found: np.ndarray, truth: np.ndarray, whose: np.ndarray, screens: np.ndarray, within: list[float] | None
) -> list[str]:
    sides, correlations = [], []
    for some in (screens <= 1, screens > 1):
        right = np.where(found == 0, 0.5, (found > 0) == (truth > 0))[some]
        share = jackknife_mean(right, whose[some])
        interval = share.interval()
        sides.append(f"{share.mean:.2f} [{interval['low']:.2f}, {interval['high']:.2f}]")
        flat = found[some].std() == 0
        correlations.append("none" if flat else f"{np.corrcoef(found[some], truth[some])[0, 1]:.2f}")
    return [*sides, *correlations, "" if within is None else f"{np.mean(within):.2f} (N {len(within):,})"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=WORKERS)
    parser.add_argument("--questions", type=int, default=QUESTIONS)
    given = parser.parse_args()
    main(given.out, given.workers, given.questions)
