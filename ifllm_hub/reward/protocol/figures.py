"""Figures of the leaderboard: accuracy of every model under every protocol, and accuracy against coverage."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ifllm_hub.reward.protocol.candidates import FOREST, LONGER_ANSWER
from ifllm_hub.reward.protocol.folds import LEAVE_ONE_OUT, PROTOCOLS
from ifllm_hub.reward.protocol.leaderboard import Board

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ACCURACY_FILE, COVERAGE_FILE = "leaderboard.png", "coverage.png"

# Marker and color of each protocol; unseen workers, the headline, are darkest.
_LOOKS = dict(
    zip(
        (*PROTOCOLS, LEAVE_ONE_OUT),
        (("s", "#2a9d8f"), ("D", "#d55e00"), ("o", "#332288"), ("^", "#882255")),
        strict=True,
    )
)
_NULL_LABEL = "forest: permuted labels"
_COVERAGE_MODELS = (FOREST.name, "logistic: mouse + length", "nested choice", LONGER_ANSWER.name)
# Inches.
_WIDTH, _ROW, _MARGIN = 7.4, 0.42, 1.3
_COVERAGE_SIZE = (5.6, 4.0)


def draw_figures(folder: Path, board: Board) -> None:
    """Write `leaderboard.png` and `coverage.png`, the same bytes for the same numbers.

    Raises:
        IfllmError: the folder cannot be written.
    """
    from ifllm_hub.pages.plot_style import styled, write_png

    models = len({row["model"] for row in board["rows"]})
    with styled((_WIDTH, _MARGIN + _ROW * (models + 1))) as (figure, axes):
        draw_accuracies(axes, board)
        write_png(folder / ACCURACY_FILE, figure)
    with styled(_COVERAGE_SIZE) as (figure, axes):
        _draw_coverage(figure, axes, board)
        write_png(folder / COVERAGE_FILE, figure)


def draw_accuracies(axes: "Axes", board: Board) -> None:
    """Accuracy with its 95 % interval, %, of every model under every protocol of the board, and on permuted labels."""
    from ifllm_hub.pages.plot_style import MUTED

    models = list(dict.fromkeys(row["model"] for row in board["rows"]))
    protocols = [protocol for protocol in _LOOKS if any(row["protocol"] == protocol for row in board["rows"])]
    axes.axvline(50, color=MUTED, linewidth=1, linestyle="--")
    axes.axhline(len(models) - 0.5, color=MUTED, linewidth=0.7)
    for offset, protocol in zip(np.linspace(-0.25, 0.25, len(protocols)), protocols, strict=True):
        rows = [row for row in board["rows"] if row["protocol"] == protocol]
        spans = [(models.index(row["model"]), row["accuracy"]) for row in rows]
        if protocol in board["permuted_labels"]:
            null = board["permuted_labels"][protocol]
            spans.append((len(models), {"low": null["mean"] - null["sd"], "high": null["mean"] + null["sd"], **null}))
        center, low, high = (100 * np.array([span[key] for _, span in spans]) for key in ("mean", "low", "high"))
        marker, color = _LOOKS[protocol]
        axes.errorbar(
            center,
            np.array([place for place, _ in spans]) + offset,
            xerr=np.maximum([center - low, high - center], 0),
            fmt=marker,
            color=color,
            markersize=5,
            capsize=2.5,
            linewidth=1.2,
            label=protocol if protocol == LEAVE_ONE_OUT else f"{protocol} folds",
        )
    axes.set_yticks(range(len(models) + 1), [*models, _NULL_LABEL])
    axes.set_ylim(len(models) + 0.6, -0.6)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("accuracy out of fold (%)")
    axes.figure.legend(loc="outside upper center", ncols=len(protocols), columnspacing=1.4, handletextpad=0.4)


def _draw_coverage(figure: "Figure", axes: "Axes", board: Board) -> None:
    """Accuracy on the surest share of the pairs, both %, on workers never seen."""
    from ifllm_hub.pages.plot_style import INK, MUTED, SERIES, legend_below

    rows = {row["model"]: row for row in board["rows"] if row["protocol"] == "worker"}
    shares = 10 * np.arange(1, 11)
    for name, color, marker in zip(_COVERAGE_MODELS, (*SERIES[:3], INK), "oD^s", strict=True):
        axes.plot(
            shares,
            100 * np.array(rows[name]["coverage"]),
            color=color,
            marker=marker,
            markersize=4,
            linestyle="--" if name == LONGER_ANSWER.name else "-",
            label=name,
        )
    axes.axhline(50, color=MUTED, linewidth=1, linestyle=":")
    axes.set(xlabel="share of the pairs the model is surest of (%)", ylabel="accuracy (%)", xticks=shares)
    axes.set_title(f"Workers never seen, {board['pairs']} pairs")
    legend_below(figure, axes, 2)
