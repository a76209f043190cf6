"""The card's figures: the folder's numbers as PNG, the same bytes for the same folder, no text by participants."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from ifllm_hub.statistics import wilson
from ifllm_hub.terms import SIDES

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


def draw_figures(folder: Path, questions: pl.DataFrame, features: pl.DataFrame | None) -> list[CardFigure]:
    """Write `folder/figures/*.png`.

    Args:
        questions: of both modes, one row each: `question_id`, `worker_id`, `split`, `preference`.
        features: the `features` config (dwell in ms); None if the folder has none.

    Raises:
        IfllmError: the folder cannot be written.
    """
    (folder / FOLDER).mkdir(exist_ok=True)
    largest = _questions_per_worker(folder, questions)
    if features is None:
        return [largest]
    pairs = questions.filter(pl.col("preference").is_not_null()).join(features, on="question_id")
    return [largest, _preference(folder, pairs), _dwell(folder, pairs)]


def _questions_per_worker(folder: Path, questions: pl.DataFrame) -> CardFigure:
    from ifllm_hub.pages.plot_style import TEST, TRAIN, styled, write_png

    counts = questions.group_by("worker_id", "split").len().sort("len", "worker_id", descending=[True, False])
    share = int(counts["len"].head(_LARGEST).sum()) / questions.height
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
        write_png(folder / FOLDER / "questions_per_worker.png", figure)
    alt = (
        f"Bars of the questions of each of {counts.height} workers, from {counts['len'][0]} to {counts['len'][-1]}; "
        f"the {_LARGEST} largest asked {share:.0%} of {questions.height:,}."
    )
    return CardFigure(
        f"{FOLDER}/questions_per_worker.png", alt, "A few workers asked many of the questions: hold out whole workers."
    )


def _preference(folder: Path, pairs: pl.DataFrame) -> CardFigure:
    """Share that prefers left against how many times larger the left value is, in bins of equally many pairs."""
    from ifllm_hub.pages.plot_style import GAZE, MOUSE, MUTED, RIGHT, legend_below, styled, write_png

    ends = []
    with styled(_SIZE) as (figure, axes):
        axes.axhline(50, color=MUTED, linewidth=0.8, linestyle="--")
        axes.axvline(1, color=MUTED, linewidth=0.8, linestyle="--")
        for (name, column), color, marker in zip(_CONTRASTS.items(), (RIGHT, MOUSE, GAZE), "so^", strict=True):
            known = pairs.filter(pl.col(column).is_not_null()).sort(column, "question_id")
            if known.is_empty():
                continue
            left = (known["preference"] == "left").to_numpy()
            bins = np.array_split(np.arange(len(left)), min(_MOST_BINS, max(1, len(left) // _PAIRS_PER_BIN)))
            ratio = [float(np.exp(np.median(known[column].to_numpy()[rows]))) for rows in bins]
            share = np.array([100 * left[rows].mean() for rows in bins])
            bounds = np.array([wilson(int(left[rows].sum()), len(rows)) for rows in bins]).T * 100
            axes.errorbar(
                ratio,
                share,
                yerr=[share - bounds[0], bounds[1] - share],
                color=color,
                marker=marker,
                markersize=4.5,
                elinewidth=0.7,
                label=f"{name} (n = {len(left)})",
            )
            ends.append(f"{name} from {share[0]:.0f}% to {share[-1]:.0f}%")
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
        write_png(folder / FOLDER / "preference.png", figure)
    alt = f"Share that prefers left against left / right: {'; '.join(ends) or 'no rated pairs'}."
    caption = (
        "Rated pairs in bins of equal size; 95% Wilson intervals, which treat pairs as independent although those of "
        "one worker are not."
    )
    return CardFigure(f"{FOLDER}/preference.png", alt, caption)


def _dwell(folder: Path, pairs: pl.DataFrame) -> CardFigure:
    """Quartiles of the time on the text of the preferred and the other answer."""
    from ifllm_hub.pages.plot_style import GAZE, MOUSE, styled, write_png

    medians = []
    with styled(_SIZE) as (figure, axes):
        names: list[str] = []
        for modality, color in (("mouse", MOUSE), ("gaze", GAZE)):
            left, right = (pl.col(f"{modality}_dwell_{side}") / 1000 for side in SIDES)
            is_left = pl.col("preference") == "left"
            seconds = pairs.filter(left.is_not_null() & right.is_not_null()).select(
                preferred=pl.when(is_left).then(left).otherwise(right),
                other=pl.when(is_left).then(right).otherwise(left),
            )
            for answer in seconds.columns if seconds.height else ():
                low, middle, high = np.quantile(seconds[answer].to_numpy(), (0.25, 0.5, 0.75))
                row, filled = len(names), answer == "preferred"
                names.append(f"{modality}, {answer}")
                axes.plot([low, high], [row, row], color=color, linewidth=5, alpha=0.35, solid_capstyle="butt")
                axes.plot(middle, row, "o", color=color, markerfacecolor=color if filled else "white", markersize=7)
                axes.annotate(f"{middle:.1f}", (middle, row), xytext=(0, 7), textcoords="offset points", ha="center")
                medians.append(f"{modality} on the {answer} answer {middle:.1f} s")
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.4, -0.7)
        axes.set_xlim(left=0)
        axes.grid(axis="y", visible=False)
        axes.set(title="Time on an answer's text", xlabel="dwell (s): median, and the middle half of the pairs")
        write_png(folder / FOLDER / "dwell.png", figure)
    alt = f"Median dwell: {', '.join(medians) or 'no rated pairs'}."
    return CardFigure(f"{FOLDER}/dwell.png", alt, "Rated pairs with the modality on the text of at least one answer.")
