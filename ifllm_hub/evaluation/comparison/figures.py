"""The comparison as a figure: the difference of scores in every cell, and pooled, with intervals."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ifllm_hub.evaluation.comparison.document import Comparison, Pooled, Position
from ifllm_hub.evaluation.comparison.names import name_of
from ifllm_hub.evaluation.comparison.tables import DASH, POOLED, by_cell, half_width

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ifllm_hub.pages.plot_style import Picture

# Inches.
_WIDTH, _MARGIN, _ROW, _MARK = 7.4, 1.4, 0.22, 0.085
_MARKERS = "oDs^vP"


def draw_comparison(stem: Path, comparison: Comparison) -> None:
    """Write the figure as `<stem>.svg` and `<stem>.png`, the same bytes for the same numbers.

    Raises:
        IfllmError: the folder cannot be written.
    """
    from ifllm_hub.pages.plot_style import write_png, write_svg

    with _drawn(comparison) as figure:
        write_svg(stem.with_suffix(".svg"), figure)
        write_png(stem.with_suffix(".png"), figure)


def comparison_picture(comparison: Comparison) -> "Picture":
    """The figure for a page."""
    from ifllm_hub.pages.plot_style import picture

    with _drawn(comparison) as figure:
        best = [
            f"{name_of(row['label_source'])} {row['difference']['mean']:+.2f}"
            for row in comparison["pooled"]
            if row["n"]
        ]
        alt = (
            "Differences of scores with intervals, one row per LLM, one mark per label source. "
            f"Pooled: {', '.join(best)}."
        )
        caption = (
            "Bars: 95 % intervals, over prompts for an LLM, over prompts and LLMs for the pooled row. "
            "A dash at the left edge: no numbers. Dashed line: no difference from the LLM's own SFT model."
        )
        return picture(figure, alt, caption)


def orders_picture(comparison: Comparison) -> "Picture":
    """What each order alone would say of every label source, beside both; for a comparison of both orders."""
    from ifllm_hub.pages.plot_style import INK, LEFT, PANEL, RIGHT, legend_below, picture, styled

    rows = [row for row in comparison["pooled"] if row["n"]]
    places = np.arange(len(rows))
    with styled((PANEL[0], 1.6 + _ROW * len(rows) * 1.4)) as (figure, axes):
        alone = [row["one_order"] for row in rows]
        for values, label, marker, color in (
            ([one["model_first"] or 0.0 for one in alone], "aligned model first", ">", LEFT),
            ([one["baseline_first"] or 0.0 for one in alone], "SFT model first", "<", RIGHT),
        ):
            axes.plot(values, places, marker, color=color, markersize=6, label=label)
        axes.plot([row["difference"]["mean"] for row in rows], places, "o", color=INK, markersize=5, label="both")
        _name_rows(axes, rows)
        axes.set(title="One order against both", xlabel="difference of scores (points)")
        legend_below(figure, axes, 2)
        caption = "All LLMs. The distance between the two orders is twice the judge's position bias."
        return picture(figure, "Differences of scores with one order, the other, and both, by label source.", caption)


def position_picture(position: Position) -> "Picture":
    """What the judge's word does when the two answers change places; for a comparison of both orders."""
    from ifllm_hub.pages.plot_style import LEFT, PANEL, RIGHT, RULE, TRAIN, legend_below, picture, styled

    decided = (position["consistency"], position["first_in_both"], position["second_in_both"])
    parts = {
        "same winner": (decided[0], TRAIN),
        "first wins twice": (decided[1], LEFT),
        "second wins twice": (decided[2], RIGHT),
        "a tie in one order": (max(0.0, 1 - sum(decided)), RULE),
    }
    with styled((PANEL[0], 2.0)) as (figure, axes):
        start = 0.0
        for label, (share, color) in parts.items():
            axes.barh([0], [100 * share], left=[100 * start], color=color, height=0.5, label=label)
            start += share
        axes.set(title="When the answers change places", xlabel=f"share of {position['n']} pairs (%)", xlim=(0, 100))
        axes.set_yticks([])
        axes.grid(axis="y", visible=False)
        legend_below(figure, axes, 2)
        said = ", ".join(f"{label} {100 * share:.0f} %" for label, (share, _) in parts.items())
        caption = "A judge that looks at the answers alone names the same winner in both orders."
        return picture(figure, f"What the judge says of a pair in both orders: {said}.", caption)


def thirds_picture(comparison: Comparison) -> "Picture":
    """The difference of every label source on short, medium and long prompts."""
    from ifllm_hub.pages.plot_style import PANEL, SERIES, legend_below, picture, styled

    rows = [row for row in comparison["pooled"] if row["n"]]
    thirds = list(dict.fromkeys(part["third"] for row in rows for part in row["thirds_by_prompt"]))
    with styled((PANEL[0], 1.6 + _ROW * len(rows) * 1.4)) as (figure, axes):
        for third, offset, marker, color in zip(thirds, _offsets(len(thirds)), _MARKERS, SERIES, strict=False):
            there = [
                (place, part)
                for place, row in enumerate(rows)
                for part in row["thirds_by_prompt"]
                if part["third"] == third
            ]
            axes.errorbar(
                [part["mean"] for _, part in there],
                [place + 0.8 * offset for place, _ in there],
                xerr=[half_width(part) or 0.0 for _, part in there],
                fmt=marker,
                color=color,
                markersize=4,
                linewidth=1,
                label=third,
            )
        _name_rows(axes, rows)
        axes.set(title="By the length of the prompt", xlabel="difference of scores (points)")
        legend_below(figure, axes, 3)
        caption = "All LLMs; thirds by words. Bars: 95 % intervals over prompts and LLMs."
        return picture(figure, "Differences of scores on short, medium and long prompts, by label source.", caption)


def _name_rows(axes: "Axes", rows: list[Pooled]) -> None:
    from ifllm_hub.pages.plot_style import MUTED

    axes.axvline(0, color=MUTED, linewidth=1, linestyle="--")
    axes.set_yticks(range(len(rows)), [name_of(row["label_source"]) for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)


@contextmanager
def _drawn(comparison: Comparison) -> Iterator["Figure"]:
    from ifllm_hub.pages.plot_style import styled

    rows, sources = [*comparison["llms"], POOLED], comparison["label_sources"]
    with styled((_WIDTH, _MARGIN + len(rows) * (_ROW + _MARK * len(sources)))) as (figure, axes):
        _draw(axes, comparison, rows, sources)
        figure.legend(loc="outside upper center", ncols=3, columnspacing=1.4, handletextpad=0.4)
        yield figure


def _draw(axes: "Axes", comparison: Comparison, rows: list[str], sources: list[str]) -> None:
    from ifllm_hub.pages.plot_style import MUTED, SERIES

    cells = by_cell(comparison)
    axes.axvline(0, color=MUTED, linewidth=1, linestyle="--")
    axes.axhline(len(rows) - 1.5, color=MUTED, linewidth=0.7)
    for place, (source, offset) in enumerate(zip(sources, _offsets(len(sources)), strict=True)):
        color, marker = SERIES[place % len(SERIES)], _MARKERS[place % len(_MARKERS)]
        there = [(row, cells[source, llm]["difference"]) for row, llm in enumerate(rows) if (source, llm) in cells]
        axes.errorbar(
            [score["mean"] for _, score in there],
            [row + offset for row, _ in there],
            xerr=[half_width(score) or 0.0 for _, score in there],
            fmt=marker,
            color=color,
            markersize=4.5,
            capsize=2,
            linewidth=1.1,
            label=name_of(source),
        )
        for row, llm in enumerate(rows):
            if (source, llm) not in cells:
                axes.text(
                    0.008,
                    row + offset,
                    f"{DASH} missing",
                    color=color,
                    fontsize=7,
                    transform=axes.get_yaxis_transform(),
                    va="center",
                )
    axes.set_yticks(range(len(rows)), [name_of(row) for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("difference of the judge's scores, aligned model minus its own SFT model (points)")


def _offsets(count: int) -> np.ndarray:
    return np.linspace(-0.32, 0.32, count) if count > 1 else np.zeros(1)
