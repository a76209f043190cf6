"""Figures of the page: effects with intervals, variance by level, curves with bands, strips of heat."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from ifllm_hub.pages.plot_style import GAZE, INK, MOUSE, MUTED, RULE, SERIES, Picture, legend_below, picture, styled
from ifllm_hub.patterns.variation.groups import Groups
from ifllm_hub.patterns.variation.stability import CLEAR
from ifllm_hub.patterns.variation.variance import LEVELS, Decomposition

COLORS = {"mouse": MOUSE, "gaze": GAZE, "both": INK, "": INK}
_ROW = 0.21  # inches a row of a forest takes
_WIDTH = 7.4
_LEVEL_COLORS = ("#332288", "#88ccee", "#999933", "#dddddd")


@dataclass(frozen=True)
class Line:
    """A row of `forest_picture`: an estimate with its interval, `strong` if it survives all comparisons."""

    label: str
    modality: str
    mean: float
    low: float
    high: float
    strong: bool


@dataclass(frozen=True)
class Curve:
    """A line with a band: (n,) float64 each."""

    name: str
    modality: str
    x: Sequence[float]
    mean: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


def forest_picture(lines: Sequence[Line], title: str, xlabel: str, caption: str = "", at: float = 0.0) -> Picture:
    """Estimates with 95 % intervals, one below the other; what survives Holm is filled.

    Args:
        at: the value of no effect.
    """
    labels = list(dict.fromkeys(line.label for line in lines))
    with styled((_WIDTH, 1.15 + _ROW * 1.35 * len(labels))) as (figure, axes):
        for line in lines:
            offset = {"mouse": -0.16, "gaze": 0.16}.get(line.modality, 0.0)
            axes.errorbar(
                line.mean,
                labels.index(line.label) + offset,
                xerr=[[max(line.mean - line.low, 0)], [max(line.high - line.mean, 0)]],
                fmt="o",
                color=COLORS[line.modality],
                markerfacecolor=COLORS[line.modality] if line.strong else "white",
                markersize=4.5,
                elinewidth=1.1,
                capsize=0,
            )
        axes.axvline(at, color=MUTED, linewidth=1, linestyle="--")
        axes.set_yticks(range(len(labels)), labels)
        axes.set_ylim(len(labels) - 0.4, -0.6)
        axes.grid(axis="y", visible=False)
        axes.set(title=title, xlabel=xlabel)
        _clip(axes, lines, at)
        _key(figure, axes, {line.modality for line in lines})
        strong = [line.label for line in lines if line.strong]
        alt = f"{title}: {len(lines)} estimates with intervals; surviving Holm: {', '.join(strong) or 'none'}."
        return picture(figure, alt, caption)


def _clip(axes: Axes, lines: Sequence[Line], at: float) -> None:
    """Let the widest intervals run out of the picture rather than squeeze all others."""
    ends = np.array([[line.low, line.high] for line in lines if np.isfinite([line.low, line.high]).all()])
    means = np.array([line.mean for line in lines])
    if len(ends) < 4:
        return
    low, high = np.quantile(ends[:, 0], 0.05), np.quantile(ends[:, 1], 0.95)
    low, high = min(low, means.min(), at), max(high, means.max(), at)
    room = 0.04 * (high - low)
    axes.set_xlim(low - room, high + room)


def _key(figure: Figure, axes: Axes, modalities: set[str]) -> None:
    shown = [modality for modality in ("mouse", "gaze", "both") if modality in modalities]
    if len(shown) < 2:
        return
    for modality in shown:
        axes.plot([], [], "o", color=COLORS[modality], markersize=4.5, label=modality)
    legend_below(figure, axes, len(shown))


def variance_picture(found: Sequence[Decomposition], titles: dict[str, str], title: str) -> Picture:
    """Shares of the variance by level, a bar a measure, with the interval of the workers' share."""
    with styled((_WIDTH, 1.1 + _ROW * 1.25 * len(found))) as (figure, axes):
        names = [titles[one.measure] for one in found]
        start = np.zeros(len(found))
        for level, color in zip(LEVELS, _LEVEL_COLORS, strict=True):
            shares = np.array([100 * one.shares[level]["mean"] if level in one.shares else 0.0 for one in found])
            axes.barh(range(len(found)), shares, left=start, color=color, height=0.62, label=level)
            start += shares
        worker = [one.shares["worker"] for one in found]
        axes.errorbar(
            [100 * one["mean"] for one in worker],
            range(len(found)),
            xerr=np.array([[100 * (one["mean"] - one["low"]), 100 * (one["high"] - one["mean"])] for one in worker]).T,
            fmt="none",
            ecolor="#d55e00",
            elinewidth=1.3,
            capsize=2,
        )
        axes.set_yticks(range(len(found)), names)
        axes.set_ylim(len(found) - 0.4, -0.6)
        axes.grid(axis="y", visible=False)
        axes.set(title=title, xlabel="share of the variance (%)", xlim=(0, 100))
        legend_below(figure, axes, 4)
        alt = "; ".join(f"{name}: workers {100 * one['mean']:.0f} %" for name, one in zip(names, worker, strict=True))
        return picture(figure, f"{title}. {alt}.", "Orange: 95 % interval of the workers' share.")


def stability_picture(groups: Groups) -> Picture:
    """How stable 2 to 8 groups of paths are, beside data without groups."""
    counts = [one.k for one in groups.stability]
    with styled() as (figure, axes):
        axes.axhline(CLEAR, color=MUTED, linewidth=1, linestyle=":")
        axes.plot(counts, [one.index for one in groups.stability], "o-", color=COLORS[groups.modality], label="paths")
        for name, style in (("normal", "s--"), ("uniform", "^:")):
            means = [getattr(one, name) for one in groups.stability]
            spreads = [getattr(one, f"{name}_deviation") for one in groups.stability]
            axes.errorbar(counts, means, spreads, fmt=style, color=MUTED, markersize=4, linewidth=1, label=name)
        axes.set(
            title=f"How stable groups are, {groups.modality}",
            xlabel="number of groups",
            ylabel="adjusted Rand index",
            ylim=(0, 1.02),
        )
        legend_below(figure, axes, 3)
        listed = "; ".join(f"{one.k} groups {one.index:.2f}" for one in groups.stability)
        caption = f"Normal, uniform: data without groups, with SD. Dotted: {CLEAR}, the least of clear groups."
        return picture(figure, f"Adjusted Rand index: {listed}.", caption)


def curve_picture(
    curves: Sequence[Curve],
    title: str,
    xlabel: str,
    ylabel: str,
    log: bool = False,
    limits: tuple[float | None, float | None] = (None, None),
    diagonal: bool = False,
    caption: str = "",
) -> Picture:
    """Curves with 95 % bands.

    Args:
        log: whether the y axis is logarithmic.
        limits: of what is shown: the smallest and the largest possible value, as far as there are.
        diagonal: draw the line on which x and y are equal.
    """
    with styled() as (figure, axes):
        for number, curve in enumerate(curves):
            color = COLORS[curve.modality] if curve.modality else SERIES[number % len(SERIES)]
            twice = sum(other.modality == curve.modality for other in curves) > 1
            style = ("-", "--", ":", "-.")[number % 4] if twice else "-"
            axes.fill_between(curve.x, curve.low, curve.high, color=color, alpha=0.16, linewidth=0)
            axes.plot(curve.x, curve.mean, color=color, linestyle=style, label=curve.name)
        if diagonal:
            span = [min(curves[0].x), max(curves[0].x)]
            axes.plot(span, span, color=MUTED, linewidth=1, linestyle=":")
        if log:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.5g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
        low, high = axes.get_ylim()
        ends = (low if limits[0] is None else max(low, limits[0]), high if limits[1] is None else min(high, limits[1]))
        axes.set(title=title, xlabel=xlabel, ylabel=ylabel, ylim=ends)
        legend_below(figure, axes, min(len(curves), 3))
        listed = "; ".join(f"{curve.name}: {curve.mean[0]:.3g} to {curve.mean[-1]:.3g}" for curve in curves)
        return picture(figure, f"{title}. {ylabel}, from left to right: {listed}.", caption)


def heat_picture(rows: Sequence[tuple[str, Sequence[float]]], title: str, modality: str, caption: str = "") -> Picture:
    """Density of dwell over an answer from its beginning (left) to its end, a strip a row; 1 is even.

    Args:
        rows: a name and (bins,) densities each.
    """
    from matplotlib.colors import LinearSegmentedColormap

    scale = LinearSegmentedColormap.from_list("heat", ["#ffffff", COLORS[modality]])
    with styled((_WIDTH, 0.9 + 0.42 * len(rows))) as (figure, axes):
        grid = np.array([values for _, values in rows])
        image = axes.imshow(grid, aspect="auto", cmap=scale, vmin=0, extent=(0, 100, len(rows) - 0.5, -0.5))
        for edge in range(1, len(rows)):
            axes.axhline(edge - 0.5, color="white", linewidth=3)
        axes.set_yticks(range(len(rows)), [name for name, _ in rows])
        axes.grid(visible=False)
        axes.set(title=title, xlabel="position in the answer (% of its length)")
        bar = figure.colorbar(image, ax=axes, pad=0.015, fraction=0.05)
        bar.set_label("dwell, 1 = even")
        bar.outline.set_edgecolor(RULE)
        alt = "; ".join(
            f"{name}: {values[0]:.2f} at the beginning, {values[-1]:.2f} at the end" for name, values in rows
        )
        return picture(figure, f"{title}. {alt}.", caption)
