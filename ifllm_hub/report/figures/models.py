"""Figures of the models: the leaderboard, calibration, and the curves of preference optimization."""

from typing import Any

from matplotlib.ticker import MaxNLocator

from ifllm_hub.align.runs.results import Results
from ifllm_hub.pages.plot_style import INK, MUTED, PANEL, SERIES, WIDE, Picture, legend_below, picture, styled
from ifllm_hub.reward.protocol.candidates import FOREST, LONGER_ANSWER
from ifllm_hub.reward.protocol.figures import draw_accuracies
from ifllm_hub.reward.protocol.leaderboard import Board, Row

# Diameter of the marker for the largest bin of a calibration plot, points.
_LARGEST_MARKER = 22.0

CURVES = {
    "loss": ("Loss", "loss"),
    "rewards/margins": ("Reward margin", "margin (nats)"),
    "rewards/accuracies": ("Pairs with a positive margin", "share of pairs"),
}


def leaderboard_picture(board: Board) -> Picture:
    """Accuracy with its 95 % interval, %, of every model under every protocol, and the forest on permuted labels."""
    with styled(WIDE) as (figure, axes):
        draw_accuracies(axes, board)
        best = {
            row["protocol"]: f"{row['protocol']} {100 * row['accuracy']['mean']:.1f} %"
            for row in board["rows"]
            if row["model"] == FOREST.name
        }
        alt = f"Accuracies with intervals, one row per model. {FOREST.name}: {', '.join(best.values())}."
        caption = (
            "Bars: 95 % intervals by jackknife over workers; for permuted labels one standard deviation over seeds. "
            "Dashed: chance. Question and conversation folds have a worker on both sides; worker folds do not."
        )
        return picture(figure, alt, caption)


def calibration_picture(rows: dict[str, Row]) -> Picture:
    """Confidence against accuracy, %, of the forest and of the longer answer; marker area is the share of pairs.

    Args:
        rows: leaderboard rows by model.
    """
    models = (FOREST.name, LONGER_ANSWER.name)
    with styled((PANEL[0], 3.5)) as (figure, axes):
        axes.plot([50, 100], [50, 100], color=MUTED, linewidth=1, linestyle="--", label="_")
        for name, color, marker in zip(models, SERIES, "os", strict=False):
            bins = rows[name]["reliability"]
            confidence, accuracy = ([100 * bin_[key] for bin_ in bins] for key in ("confidence", "accuracy"))
            areas = [max(_LARGEST_MARKER**2 * bin_["share"], 6.0) for bin_ in bins]
            axes.plot(
                confidence, accuracy, color=color, marker=marker, markersize=2.5, linewidth=1, alpha=0.7, label=name
            )
            axes.scatter(confidence, accuracy, s=areas, color=color, marker=marker, alpha=0.85, linewidth=0)
        lowest = min(100 * bin_["accuracy"] for name in models for bin_ in rows[name]["reliability"])
        axes.set(
            title="Calibration on unseen workers",
            xlabel="confidence, max(p, 1 - p) (%)",
            ylabel="accuracy (%)",
            xlim=(49, 101),
            ylim=(min(45.0, lowest - 3), 103),
        )
        legend_below(figure, axes, 2)
        errors = ", ".join(f"{name} {rows[name]['ece']:.3f}" for name in models)
        alt = f"Accuracy against confidence in bins; expected calibration errors: {errors}."
        caption = (
            "Dashed: calibrated. Marker area is the share of pairs, all seeds pooled; small markers are few pairs."
        )
        return picture(figure, alt, caption)


def curve_pictures(log: list[dict[str, Any]], results: Results) -> list[Picture]:
    """Loss, reward margin and accuracy over DPO steps, on training batches and before and after on test pairs.

    Args:
        log: `log_history` of the trainer.
        results: `results.json` of the policy.
    """
    return [_curve(log, results, name) for name in CURVES]


def _curve(log: list[dict[str, Any]], results: Results, name: str) -> Picture:
    title, label = CURVES[name]
    steps = [entry["step"] for entry in log if name in entry]
    values = [entry[name] for entry in log if name in entry]
    before, after = results["eval_before"][name], results["eval_after"][name]
    with styled() as (figure, axes):
        axes.plot(steps, values, color=SERIES[0], marker="o", markersize=3, linewidth=1, label="training batches")
        axes.plot(
            [0, results["steps"]],
            [before, after],
            color=SERIES[1],
            marker="D",
            markersize=6,
            linestyle="none",
            clip_on=False,
            zorder=4,
            label=f"test pairs (n = {results['test_rows_after_length_filter']})",
        )
        if name != "loss":
            axes.axhline(0.5 if name == "rewards/accuracies" else 0, color=INK, linewidth=0.7, linestyle="--")
        if name == "rewards/accuracies":
            axes.set_ylim(-0.03, 1.03)
        axes.set(title=title, xlabel="optimizer step", ylabel=label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        legend_below(figure, axes, 2)
        alt = f"{title} over {results['steps']} steps; on test pairs {before:.3f} before and {after:.3f} after."
        return picture(figure, alt)
