"""Where in an answer, and on what, the time goes: by parts of its Markdown, and by position from top to bottom.

The study's page shows Markdown as it is written, so a part is what its characters say: a heading is a line that begins
with `#`. What is written where is no accident: the first sentence is at the top, where everybody begins. So each part
is also compared "in place": with the rest of the same tenth of the same answer, each character weighed by the dwell
that is expected at its position from top to bottom, which may fall to half even within a tenth, and at its place in the
line: bold terms and headings stand where lines begin, and there the cursor hardly ever is. What is expected is the mean
over all readings of answers of like length by that modality, at a ratio of 1, and for the line over what is not that
part. What counts as the same place in a line makes a difference, so that these ratios are indications. First sentence
and last paragraph hardly ever stand elsewhere: in place, nothing is said of them.

A point to the right of a short line has the line's end as its char index. Such ticks are left out here: a heading would
otherwise get the time of the empty space beside it.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from ifllm_hub.features.measures import CELL, READ_MS
from ifllm_hub.patterns.effects import Effect
from ifllm_hub.patterns.measures import LEAST_MS
from ifllm_hub.patterns.readings import Readings
from ifllm_hub.patterns.text_parts import CATEGORIES, parts_of
from ifllm_hub.statistics import Jackknife, jackknife_mean, jackknife_sums
from ifllm_hub.terms import MODALITIES, SIDES

# Equal parts of an answer: of the heat strips, and those within which parts of the text are compared.
BINS, PLACES = 40, 10
# A multiple of both: within one, the expected dwell per character is the same.
_CELLS = 120
# Steps of the place in a line, characters, and the fewest characters that say what is expected in one.
_COLUMNS, _LEAST_SIZE = 5, 1_000
# Of the expected dwell per character, 1 being even: what is never looked at has a weight, too.
_LEAST_RATE = 0.01
# Turns that find the expected dwell and the ratio, each from the other; a turn leaves a fifth of the error.
_TURNS = 5
# Their place is always the same.
_FIXED = ("first sentence", "last paragraph")
LENGTH_CLASSES = 4
_FAMILY = "attention"
# With fewer, an interval over workers spans everything.
_LEAST_WORKERS = 4


@dataclass(frozen=True)
class Part:
    """How much time goes to one part of the answers, by one modality.

    Attributes:
        category: of `CATEGORIES`, see `parts_of`.
        modality: "mouse" or "gaze".
        share_of_text, share_of_time: mean over the answers that have such a part and another one.
        ratio, low, high: dwell per character in the part / in the rest of the same answer; 1 is even. Over answers as
            the rate ratio of Mantel and Haenszel, with the same dwell for each answer.
        in_place, in_place_low, in_place_high: dwell / that expected by position, in the part / in the rest of the same
            tenth of the answer; over tenths and answers as above. NaN for first sentence and last paragraph, and where
            the part never shares a tenth with anything else.
        n, workers: those answers and their workers.
    """

    category: str
    modality: str
    share_of_text: float
    share_of_time: float
    ratio: float
    low: float
    high: float
    in_place: float
    in_place_low: float
    in_place_high: float
    n: int
    workers: int


@dataclass(frozen=True)
class Strip:
    """Time by position, of the answers of one length class.

    Attributes:
        modality, length_class: "mouse" or "gaze"; from 1, the shortest answers.
        shortest, longest: code points.
        position: (BINS,) middle of each bin, share of the answer.
        density, low, high: (BINS,) share of the dwell x BINS, mean over answers with a 95 % band; 1 is even.
        n, workers: of `density`: answers with `LEAST_MS` of dwell.
        untouched, untouched_low, untouched_high: (BINS,) share of the readings without a tick on the `CELL` characters
            in the middle of the bin: as many in short as in long answers, so that classes can be compared.
        unread, unread_low, unread_high: (BINS,) share of those with less than `READ_MS` of dwell on them.
        n_all, workers_all: of these: all answers on screen, also those that were not looked at.
    """

    modality: str
    length_class: int
    shortest: int
    longest: int
    position: list[float]
    density: list[float]
    low: list[float]
    high: list[float]
    n: int
    workers: int
    untouched: list[float]
    untouched_low: list[float]
    untouched_high: list[float]
    unread: list[float]
    unread_low: list[float]
    unread_high: list[float]
    n_all: int
    workers_all: int


@dataclass(frozen=True)
class Attention:
    """Where the time goes: parts, strips, and a comparison for each part's ratio, plain and in place (1 is even)."""

    parts: list[Part]
    strips: list[Strip]
    effects: list[Effect]


def attention(readings: Readings) -> Attention:
    """Where in the answers, and on what, the time goes."""
    parts: list[Part] = []
    strips: list[Strip] = []
    effects: list[Effect] = []
    answers = readings.answers.filter(pl.col("length") >= BINS).join(
        readings.questions.select("question_id", "worker_id"), on="question_id", maintain_order="left"
    )
    if answers.is_empty():
        return Attention(parts, strips, effects)
    text = _characters(answers)
    workers = np.unique(answers["worker_id"].to_numpy(), return_inverse=True)[1]
    lengths = answers["length"].to_numpy()
    classes = np.searchsorted(np.quantile(lengths, np.arange(1, LENGTH_CLASSES) / LENGTH_CLASSES), lengths)
    sizes = text.in_cells(text.shown, np.ones(len(text.shown)))
    sizes_of = [text.in_cells(mark, np.ones(len(text.shown))) for mark in text.marks]
    for modality in MODALITIES:
        seen = answers["question_id"].is_in(readings.ticks[modality]["question_id"].unique().implode()).to_numpy()
        dwell, ticks = _by_character(answers, text, readings.ticks[modality])
        ticked = ticks > 0
        time = text.in_cells(ticked, dwell)
        read = np.flatnonzero(seen & (time.sum(axis=1) >= LEAST_MS))
        was_read = np.zeros(len(answers), dtype=bool)
        was_read[read] = True
        chars = np.repeat(was_read, np.diff(text.starts))
        weight = np.repeat(1 / np.maximum(time.sum(axis=1), 1), np.diff(text.starts))
        for category, mark, own_sizes in zip(CATEGORIES, text.marks, sizes_of, strict=True):
            own_time = text.in_cells(ticked & mark, dwell)
            rates = _by_column(text, chars & text.shown & ~mark, weight, dwell)
            base, all_base = (text.in_cells(which, rates)[read] for which in (mark, text.shown))
            sums = _compared(own_time[read], own_sizes[read], time[read], sizes[read], base, all_base, classes[read])
            has = (sums[:, 0] > 0) & (sums[:, 0] < 1)
            if len(np.unique(workers[read][has])) >= _LEAST_WORKERS:
                parts.append(_part(category, modality, sums[has], workers[read][has], effects))
        for one in range(LENGTH_CLASSES):
            own = np.flatnonzero(seen & (classes == one))
            if len(own):
                near = (_around(values, text.starts)[own] for values in (dwell, ticks))
                strips.append(_strip(modality, one + 1, lengths[own], workers[own], time[own], *near))
    return Attention(parts, strips, effects)


@dataclass(frozen=True)
class _Characters:
    """The characters of all answers, one after the other.

    Attributes:
        starts: (answers + 1,) where each answer begins, and the end of the last.
        column: (characters,) place in the line as written, in steps of `_COLUMNS`.
        cell: (characters,) number of the answer x `_CELLS` + that of the cell within it.
        shown: (characters,) false for the end of a line.
        marks: (8, characters) those shown that belong to each of `CATEGORIES`.
    """

    starts: np.ndarray
    column: np.ndarray
    cell: np.ndarray
    shown: np.ndarray
    marks: np.ndarray

    def in_cells(self, which: np.ndarray, values: np.ndarray) -> np.ndarray:
        """(answers, _CELLS) sums of (characters,) values over some of them."""
        answers = len(self.starts) - 1
        return np.bincount(self.cell[which], values[which], answers * _CELLS).reshape(answers, _CELLS)


def _characters(answers: pl.DataFrame) -> _Characters:
    lengths = answers["length"].to_numpy()
    starts = np.concatenate([[0], np.cumsum(lengths)])
    # By the middle of the character, so that each of `BINS` has one.
    cell = np.concatenate([(2 * np.arange(n) + 1) * _CELLS // (2 * n) + k * _CELLS for k, n in enumerate(lengths)])
    shown = np.frombuffer("".join(answers["text"]).encode("utf-32-le"), dtype=np.uint32) != ord("\n")
    marks = np.concatenate([parts_of(text) for text in answers["text"]], axis=1)
    column = np.concatenate([_columns(text) for text in answers["text"]])
    return _Characters(starts, column // _COLUMNS, cell, shown, marks & shown)


def _columns(text: str) -> np.ndarray:
    """(code points,) place in the line."""
    return np.concatenate([np.arange(len(line) + 1) for line in text.split("\n")])[: len(text)]


def _by_column(text: _Characters, rest: np.ndarray, weight: np.ndarray, dwell: np.ndarray) -> np.ndarray:
    """(characters,) dwell expected by the place in the line, from `rest` of the characters; 1 is even.

    Args:
        rest: (characters,) which, all of answers that were read.
        weight: (characters,) by which each answer's dwell adds up to 1; `dwell`: (characters,).
    """
    time = np.bincount(text.column[rest], (weight * dwell)[rest], text.column.max() + 1)
    size = np.bincount(text.column[rest], minlength=len(time))
    even = time.sum() / max(size.sum(), 1)
    # Few characters say nothing of a column.
    rates = np.where(size >= _LEAST_SIZE, time / np.maximum(size, 1) / max(even, 1e-300), 1.0)
    return np.asarray(np.maximum(rates, _LEAST_RATE)[text.column])


def _by_character(answers: pl.DataFrame, text: _Characters, ticks: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """(characters,) dwell (ms) and number of ticks; without those at the end of a line."""
    questions, of = np.unique(answers["question_id"].to_numpy(), return_inverse=True)
    known = ticks.filter(pl.col("question_id").is_in(questions))
    number = np.full((len(questions), len(SIDES)), -1)
    number[of, (answers["side"] == SIDES[1]).to_numpy().astype(np.int64)] = np.arange(len(answers))
    right = (known["side"] == SIDES[1]).to_numpy().astype(np.int64)
    whose = number[np.searchsorted(questions, known["question_id"].to_numpy()), right]
    at = text.starts[whose] + known["char"].to_numpy()
    kept = (whose >= 0) & (at < text.starts[whose + 1])
    kept[kept] = text.shown[at[kept]]
    size = len(text.shown)
    dwell = np.bincount(at[kept], known["dt"].to_numpy()[kept], size)
    return dwell, np.bincount(at[kept], minlength=size)


def _in(count: int, cells: np.ndarray) -> np.ndarray:
    """(..., count) sums of (..., _CELLS)."""
    return np.asarray(cells.reshape(*cells.shape[:-1], count, _CELLS // count).sum(axis=-1))


def _compared(
    time: np.ndarray,
    size: np.ndarray,
    all_time: np.ndarray,
    all_size: np.ndarray,
    base: np.ndarray,
    all_base: np.ndarray,
    classes: np.ndarray,
) -> np.ndarray:
    """(answers, 6) of a part: shares of text and time, and the two sums of the rate ratio in the answer, and in places.

    In places, characters are weighed by the dwell expected at their position from top to bottom, too. What is expected
    depends on the ratio, as the part is not everywhere alike frequent; so they are found in turns, each from the other.

    Args:
        time, size: (answers, _CELLS) dwell and characters of the part.
        all_time, all_size: the same of all.
        base, all_base: `size` and `all_size`, characters weighed by the dwell expected at their place in the line.
        classes: (answers,) length class, from 0.
    """
    whole, text, expected = (cells.sum(axis=1) for cells in (all_time, all_size, all_base))
    shares = size.sum(axis=1) / text, time.sum(axis=1) / whole
    some = (shares[0] > 0) & (shares[0] < 1)
    in_answer = _ends(time, all_time, size, all_size, 1)
    binned = [
        _by_class(_in(BINS, cells) / total[:, None], classes)
        for cells, total in ((all_time, whole), (all_base, expected), (base, expected))
    ]
    ratio = 1.0
    for _ in range(_TURNS):
        rates = _rates(binned[0], binned[1] + (ratio - 1) * binned[2])[classes]
        in_places = _ends(time, all_time, base * rates, all_base * rates, PLACES)
        own, rest = (in_places / whole[:, None])[some].sum(axis=0)
        if own == 0 or rest == 0:
            break
        ratio = float(own / rest)
    return np.column_stack([*shares, in_answer / whole[:, None], in_places / whole[:, None]])


def _by_class(values: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """(LENGTH_CLASSES, BINS) sums of (answers, BINS)."""
    return np.array([values[classes == one].sum(axis=0) for one in range(LENGTH_CLASSES)])


def _rates(time: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """(LENGTH_CLASSES, _CELLS) expected dwell per character, 1 being even, from sums of shares by class and bin.

    Between the middles of `BINS` it goes along straight lines.
    """
    rates = np.maximum(time / np.where(sizes > 0, sizes, 1.0), _LEAST_RATE)
    fine, coarse = ((np.arange(count) + 0.5) / count for count in (_CELLS, BINS))
    return np.array([np.interp(fine, coarse, one) for one in rates])


def _ends(time: np.ndarray, all_time: np.ndarray, base: np.ndarray, all_base: np.ndarray, places: int) -> np.ndarray:
    """(answers, 2) the sums of the rate ratio of Mantel and Haenszel over so many places; all are (answers, _CELLS)."""
    own, all_own, of, of_all = (_in(places, cells) for cells in (time, all_time, base, all_base))
    share = of / np.where(of_all > 0, of_all, 1.0)
    return np.column_stack([(own * (1 - share)).sum(axis=1), ((all_own - own) * share).sum(axis=1)])


def _part(category: str, modality: str, sums: np.ndarray, workers: np.ndarray, effects: list[Effect]) -> Part:
    """One part; adds its comparisons to `effects`."""
    size = len(sums), len(np.unique(workers))
    found: list[float] = []
    for name, columns in ((category, sums[:, 2:4]), (f"{category} in place", sums[:, 4:6])):
        if (columns.sum(axis=0) > 0).all() and not (len(found) and category in _FIXED):
            one = jackknife_sums(_log_ratio, columns, workers)
            three = _exp(one)
            effects.append(
                Effect(
                    _FAMILY,
                    f"{name}, {modality}",
                    "dwell_per_char",
                    modality,
                    "ratio",
                    *three,
                    one.p,
                    "jackknife",
                    *size,
                    caveat="where it stands is in it"
                    if name == category
                    else "it depends on what is taken for the same place",
                )
            )
        else:
            three = (np.nan, np.nan, np.nan)
        found += three
    shares = float(sums[:, 0].mean()), float(sums[:, 1].mean())
    ratio, low, high, in_place, in_place_low, in_place_high = found
    return Part(category, modality, *shares, ratio, low, high, in_place, in_place_low, in_place_high, *size)


def _log_ratio(sums: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.log(sums[..., 0]) - np.log(sums[..., 1]))


def _exp(one: Jackknife) -> tuple[float, float, float]:
    ends = one.interval()
    return float(np.exp(one.mean)), float(np.exp(ends["low"])), float(np.exp(ends["high"]))


def _around(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """(answers, BINS) sums of (characters,) values over the `CELL` characters in the middle of each bin."""
    sums, lengths = np.concatenate([[0], np.cumsum(values)]), np.diff(starts)[:, None]
    middle = (2 * np.arange(BINS) + 1) * lengths // (2 * BINS)
    low, high = (np.clip(middle + side * CELL // 2, 0, lengths) + starts[:-1, None] for side in (-1, 1))
    return np.asarray(sums[high] - sums[low])


def _strip(
    modality: str,
    length_class: int,
    lengths: np.ndarray,
    workers: np.ndarray,
    time: np.ndarray,
    near_time: np.ndarray,
    near_count: np.ndarray,
) -> Strip:
    time = _in(BINS, time)
    total = time.sum(axis=1)
    enough = total >= LEAST_MS
    density = _band(BINS * time[enough] / total[enough, None], workers[enough])
    untouched, unread = (_band(one.astype(float), workers) for one in (near_count == 0, near_time < READ_MS))
    return Strip(
        modality,
        length_class,
        int(lengths.min()),
        int(lengths.max()),
        ((np.arange(BINS) + 0.5) / BINS).tolist(),
        *density,
        int(enough.sum()),
        len(np.unique(workers[enough])),
        *untouched,
        *unread,
        len(lengths),
        len(np.unique(workers)),
    )


def _band(values: np.ndarray, workers: np.ndarray) -> tuple[list[float], list[float], list[float]]:
    """Mean of each column with its interval; NaN where there is none."""
    if not len(values):
        return [np.nan] * BINS, [np.nan] * BINS, [np.nan] * BINS
    bands = [jackknife_mean(column, workers).estimate for column in values.T]
    return [one["mean"] for one in bands], [one["low"] for one in bands], [one["high"] for one in bands]
