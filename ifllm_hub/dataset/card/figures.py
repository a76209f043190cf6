"""The card's figures: the folder's numbers as PNG, the same bytes for the same folder, no text by participants."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from ifllm_hub.statistics import wilson
from ifllm_hub.terms import MODALITIES, SIDES

FOLDER = "figures"

_SIZE = (6.6, 3.1)
_LARGEST = 5
# A share of fewer pairs says nothing; more than eight points hide the trend.
_PAIRS_PER_BIN, _MOST_BINS = 25, 8
_RATIO_TICKS = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
_CONTRASTS = {
    "answer length": "length_log_ratio",
    "mouse dwell": "mouse_dwell_log_ratio",
    "gaze dwell": "gaze_dwell_log_ratio",
}


@dataclass(frozen=True)
class CardFigure:
    """A figure in the folder.

    Attributes:
        path: from the folder, as the card refers to it.
        alt: what it shows, for readers who cannot see it.
        caption: the sentence below it.
    """

    path: str
    alt: str
    caption: str


def draw_figures(
    folder: Path, questions: pl.DataFrame, features: pl.DataFrame | None, redraw: bool = True
) -> list[CardFigure]:
    """Write `folder/figures/*.png`.

    Args:
        questions: of both modes, one row each: `question_id`, `worker_id`, `split`, `preference`.
        features: the `features` config (dwell in ms); None if the folder has none.
        redraw: draw those anew that the folder has; without, matplotlib is not imported for them.

    Raises:
        IfllmError: the folder cannot be written.
    """
    (folder / FOLDER).mkdir(exist_ok=True)
    largest = _questions_per_worker(folder, questions, redraw)
    if features is None:
        return [largest]
    pairs = questions.filter(pl.col("preference").is_not_null()).join(features, on="question_id")
    return [largest, _preference(folder, pairs, redraw), _dwell(folder, pairs, redraw)]


def _questions_per_worker(folder: Path, questions: pl.DataFrame, redraw: bool) -> CardFigure:
    counts = questions.group_by("worker_id", "split").len().sort("len", "worker_id", descending=[True, False])
    share = int(counts["len"].head(_LARGEST).sum()) / questions.height
    path = f"{FOLDER}/questions_per_worker.png"
    if redraw or not (folder / path).exists():
        _draw_questions_per_worker(folder / path, counts, share)
    alt = (
        f"Bars of the questions of each of {counts.height} workers, from {counts['len'][0]} to {counts['len'][-1]}; "
        f"the {_LARGEST} largest asked {share:.0%} of {questions.height:,}."
    )
    return CardFigure(path, alt, "A few workers asked much of it: hold out whole workers.")


def _draw_questions_per_worker(file: Path, counts: pl.DataFrame, share: float) -> None:
    from ifllm_hub.pages.plot_style import TEST, TRAIN, styled, write_png

    rank = np.arange(1, counts.height + 1)
    with styled(_SIZE) as (figure, axes):
        for split, color in (("train", TRAIN), ("test", TEST)):
            of_split = (counts["split"] == split).to_numpy()
            if of_split.any():
                axes.bar(rank[of_split], counts["len"].to_numpy()[of_split], color=color, width=0.85, label=split)
        axes.axvline(_LARGEST + 0.5, color="black", linewidth=0.8, linestyle="--")
        axes.annotate(
            f"{_LARGEST} workers: {share:.0%} of the questions",
            (_LARGEST + 0.5, 0.9),
            xycoords=("data", "axes fraction"),
            xytext=(6, 0),
            textcoords="offset points",
        )
        axes.grid(axis="x", visible=False)
        axes.set(title="Questions per worker", xlabel="worker, by rank", ylabel="questions")
        axes.legend(loc="center right")
        write_png(file, figure)


def _preference(folder: Path, pairs: pl.DataFrame, redraw: bool) -> CardFigure:
    """Share of pairs that prefer left by how many times larger the left value is, in bins of equal size."""
    path = f"{FOLDER}/preference.png"
    lines = [line for name, column in _CONTRASTS.items() if (line := _preference_line(pairs, name, column))]
    if redraw or not (folder / path).exists():
        _draw_preference(folder / path, lines)
    ends = "; ".join(f"{line.name} from {line.share[0]:.0f}% to {line.share[-1]:.0f}%" for line in lines)
    alt = f"Share that prefers left against left / right: {ends or 'no rated pairs'}."
    caption = (
        "Rated pairs in bins of equal size; 95% Wilson intervals, which treat pairs as independent although those of "
        "one worker are not."
    )
    return CardFigure(path, alt, caption)


@dataclass(frozen=True)
class _Line:
    """How often left is preferred, by one contrast.

    Attributes:
        name: of the contrast.
        pairs: how many have it.
        ratio: a bin's median of left / right.
        share: (bins,) that prefers left, percent.
        bounds: (2, bins) of its 95 % intervals, percent.
    """

    name: str
    pairs: int
    ratio: list[float]
    share: np.ndarray
    bounds: np.ndarray


def _preference_line(pairs: pl.DataFrame, name: str, column: str) -> _Line | None:
    """None: no pair has the contrast."""
    known = pairs.filter(pl.col(column).is_not_null()).sort(column, "question_id")
    if known.is_empty():
        return None
    left = (known["preference"] == "left").to_numpy()
    bins = np.array_split(np.arange(len(left)), min(_MOST_BINS, max(1, len(left) // _PAIRS_PER_BIN)))
    ratio = [float(np.exp(np.median(known[column].to_numpy()[rows]))) for rows in bins]
    share = np.array([100 * left[rows].mean() for rows in bins])
    bounds = np.array([wilson(int(left[rows].sum()), len(rows)) for rows in bins]).T * 100
    return _Line(name, len(left), ratio, share, bounds)


def _draw_preference(file: Path, lines: list[_Line]) -> None:
    from ifllm_hub.pages.plot_style import GAZE, MOUSE, MUTED, RIGHT, legend_below, styled, write_png

    looks = dict(zip(_CONTRASTS, ((RIGHT, "s"), (MOUSE, "o"), (GAZE, "^")), strict=True))
    with styled(_SIZE) as (figure, axes):
        axes.axhline(50, color=MUTED, linewidth=0.8, linestyle="--")
        axes.axvline(1, color=MUTED, linewidth=0.8, linestyle="--")
        for line in lines:
            color, marker = looks[line.name]
            axes.errorbar(
                line.ratio,
                line.share,
                yerr=[line.share - line.bounds[0], line.bounds[1] - line.share],
                color=color,
                marker=marker,
                markersize=4.5,
                elinewidth=0.7,
                label=f"{line.name} (n = {line.pairs})",
            )
        axes.set(
            title="What goes with preferring the left answer",
            xlabel="left / right (dwells + 0.5 s)",
            ylabel="left preferred (%)",
            ylim=(0, 100),
            xscale="log",
        )
        low, high = axes.get_xlim()
        ticks = [tick for tick in _RATIO_TICKS if low <= tick <= high]
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
        legend_below(figure, axes, 3)
        write_png(file, figure)


def _dwell(folder: Path, pairs: pl.DataFrame, redraw: bool) -> CardFigure:
    """Quartiles of the time on the text of the preferred and the other answer."""
    path = f"{FOLDER}/dwell.png"
    quartiles = _dwell_quartiles(pairs)
    if redraw or not (folder / path).exists():
        _draw_dwell(folder / path, quartiles)
    medians = ", ".join(
        f"{modality} on the {answer} answer {middle:.1f} s" for (modality, answer), (_, middle, _) in quartiles.items()
    )
    alt = f"Median dwell: {medians or 'no rated pairs'}."
    return CardFigure(path, alt, "Rated pairs with the modality on the text of at least one answer.")


def _dwell_quartiles(pairs: pl.DataFrame) -> dict[tuple[str, str], np.ndarray]:
    """The quartiles, s, by modality and answer ("preferred" or "other")."""
    quartiles = {}
    for modality in MODALITIES:
        left, right = (pl.col(f"{modality}_dwell_{side}") / 1000 for side in SIDES)
        is_left = pl.col("preference") == "left"
        seconds = pairs.filter(left.is_not_null() & right.is_not_null()).select(
            preferred=pl.when(is_left).then(left).otherwise(right),
            other=pl.when(is_left).then(right).otherwise(left),
        )
        for answer in seconds.columns if seconds.height else ():
            quartiles[modality, answer] = np.quantile(seconds[answer].to_numpy(), (0.25, 0.5, 0.75))
    return quartiles


def _draw_dwell(file: Path, quartiles: dict[tuple[str, str], np.ndarray]) -> None:
    from ifllm_hub.pages.plot_style import GAZE, MOUSE, styled, write_png

    colors = {"mouse": MOUSE, "gaze": GAZE}
    with styled(_SIZE) as (figure, axes):
        for row, ((modality, answer), (low, middle, high)) in enumerate(quartiles.items()):
            color, filled = colors[modality], answer == "preferred"
            axes.plot([low, high], [row, row], color=color, linewidth=5, alpha=0.35, solid_capstyle="butt")
            axes.plot(middle, row, "o", color=color, markerfacecolor=color if filled else "white", markersize=7)
            axes.annotate(f"{middle:.1f}", (middle, row), xytext=(0, 7), textcoords="offset points", ha="center")
        axes.set_yticks(range(len(quartiles)), [f"{modality}, {answer}" for modality, answer in quartiles])
        axes.set_ylim(len(quartiles) - 0.4, -0.7)
        axes.set_xlim(left=0)
        axes.grid(axis="y", visible=False)
        axes.set(title="Time on an answer's text", xlabel="dwell (s): median, and the middle half of the pairs")
        write_png(file, figure)
