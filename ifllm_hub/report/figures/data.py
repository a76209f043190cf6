"""Figures of the dataset: carets, ratings, lengths, flip probabilities."""

import itertools

import numpy as np
import polars as pl

from ifllm_hub.pages.plot_style import (
    LEFT,
    MOUSE,
    MUTED,
    RIGHT,
    SERIES,
    TEST,
    TRAIN,
    Picture,
    legend_below,
    picture,
    styled,
)
from ifllm_hub.preferences.labels import MAX_FLIP_PROB
from ifllm_hub.sources.ifllm.accounts import CaretCounts
from ifllm_hub.statistics import wilson
from ifllm_hub.terms import SIDES

_RATINGS = range(1, 6)
_BAR = 0.27
# How many times longer the longer answer is.
_RATIOS = (1.0, 1.1, 1.25, 1.5, 2.0, 4.0, np.inf)
_LENGTH_STEP = 200
_FLIP_STEP = 0.025


def caret_picture(carets: list[CaretCounts]) -> Picture:
    """Carets not found where they were recorded, in % of the carets of each schema version and modality."""
    table = pl.DataFrame(carets).group_by("schema_version", "modality", "status").agg(pl.col("ticks").sum())
    total = table.group_by("schema_version", "modality").agg(pl.col("ticks").sum()).sort("schema_version", "modality")
    with styled() as (figure, axes):
        names = [f"{version} {modality}" for version, modality, _ in total.iter_rows()]
        start = np.zeros(total.height)
        for status, color in zip(("repaired", "ambiguous", "elsewhere"), SERIES[::2], strict=False):
            counts = total.join(
                table.filter(pl.col("status") == status),
                on=["schema_version", "modality"],
                how="left",
                maintain_order="left",
            )
            share = 100 * (counts["ticks_right"].fill_null(0) / counts["ticks"]).to_numpy()
            axes.barh(names, share, left=start, color=color, height=0.62, label=status)
            start += share
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.set(title="Carets not matched in place", xlabel="share of recorded carets (%)")
        legend_below(figure, axes, 3)
        worst = int(start.argmax())
        alt = f"Stacked bars by schema version and modality; the largest is {names[worst]} at {start[worst]:.1f} %."
        return picture(figure, alt, "Repaired carets are used; ambiguous and elsewhere count as off the text.")


def rating_picture(pairwise: pl.DataFrame, pointwise: pl.DataFrame) -> Picture:
    """Satisfaction (Likert 1-5), % of the rated answers of each kind."""
    series = {
        "left": (pairwise["rating_left"], LEFT),
        "right": (pairwise["rating_right"], RIGHT),
        "pointwise": (pointwise["rating"], MUTED),
    }
    with styled() as (figure, axes):
        means = []
        for offset, (name, (ratings, color)) in zip((-_BAR, 0, _BAR), series.items(), strict=True):
            given = ratings.drop_nulls().to_numpy()
            shares = [100 * float((given == rating).sum()) / max(len(given), 1) for rating in _RATINGS]
            axes.bar(
                [rating + offset for rating in _RATINGS], shares, _BAR, color=color, label=f"{name} (n = {len(given)})"
            )
            means.append(f"{name} {given.mean():.2f}" if len(given) else f"{name} not rated")
        axes.grid(axis="x", visible=False)
        axes.set(title="Ratings", xlabel="rating (1-5)", ylabel="share of rated answers (%)")
        legend_below(figure, axes, 3)
        return picture(figure, f"Bars of the ratings 1 to 5; means: {', '.join(means)}.")


def length_picture(pairwise: pl.DataFrame, pointwise: pl.DataFrame) -> Picture:
    """Answer lengths in code points, % of answers in steps of 200."""
    series = {
        "left": (pairwise["response_left"], LEFT, "-"),
        "right": (pairwise["response_right"], RIGHT, "--"),
        "pointwise": (pointwise["response"], MUTED, ":"),
    }
    with styled() as (figure, axes):
        medians = []
        for name, (texts, color, line) in series.items():
            lengths = texts.str.len_chars().to_numpy()
            edges = np.arange(0, max(lengths.max(initial=0), 1) + _LENGTH_STEP, _LENGTH_STEP)
            counts = np.histogram(lengths, edges)[0]
            shares = 100 * counts / max(len(lengths), 1)
            axes.stairs(shares, edges, color=color, linestyle=line, linewidth=1.6, label=name)
            medians.append(f"{name} {np.median(lengths):,.0f}" if len(lengths) else f"{name} none")
        axes.set(
            title="Answer lengths",
            xlabel="length (code points)",
            ylabel=f"share of answers (%) per {_LENGTH_STEP}",
            ylim=(0, None),
            xlim=(0, None),
        )
        legend_below(figure, axes, 3)
        return picture(figure, f"Histograms of answer length; medians in code points: {', '.join(medians)}.")


def longer_picture(pairwise: pl.DataFrame) -> Picture:
    """How often the longer answer is preferred, %, by how many times longer it is."""
    ratio, longer = length_contrast(pairwise)
    with styled() as (figure, axes):
        names, shares, low, high = [], [], [], []
        for start, end in itertools.pairwise(_RATIOS):
            inside = longer[(ratio > start if start == 1 else ratio >= start) & (ratio < end)]
            if not len(inside):
                continue
            bounds = f"{start:g}-{end:g}" if np.isfinite(end) else f"over {start:g}"
            names.append(f"{bounds}\nn = {len(inside)}")
            shares.append(100 * inside.mean())
            interval = wilson(int(inside.sum()), len(inside))
            low.append(shares[-1] - 100 * interval[0])
            high.append(100 * interval[1] - shares[-1])
        axes.axhline(50, color=MUTED, linewidth=1, linestyle="--")
        axes.errorbar(names, shares, yerr=[low, high], fmt="o", color=MOUSE, capsize=3, markersize=5)
        axes.grid(axis="x", visible=False)
        axes.tick_params(axis="x", labelsize=7)
        axes.margins(x=0.08)
        axes.set(
            title="Is the longer answer preferred?",
            xlabel="length of the longer / length of the shorter answer",
            ylabel="longer preferred (%)",
            ylim=(0, 100),
        )
        listed = ", ".join(
            f"{name.partition(chr(10))[0]} times: {share:.0f} %" for name, share in zip(names, shares, strict=True)
        )
        caption = "Bars: 95 % Wilson intervals that treat pairs as independent, though pairs of one worker are not."
        return picture(figure, f"Share of rated pairs that prefer the longer answer. {listed}.", caption)


def length_contrast(pairwise: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """For rated pairs whose answers differ in length: longer / shorter length, and whether the longer is preferred."""
    left, right = (pl.col(f"response_{side}").str.len_chars().clip(1) for side in SIDES)
    rated = pairwise.filter(pl.col("preference").is_not_null() & (left != right))
    table = rated.select(
        ratio=pl.max_horizontal(left, right) / pl.min_horizontal(left, right),
        longer=(left > right) == (pl.col("preference") == "left"),
    )
    return table["ratio"].to_numpy(), table["longer"].to_numpy()


def flip_picture(preferences: pl.DataFrame) -> Picture:
    """Flip probabilities of the forest's labels, % of the pairs of each split."""
    forest = preferences.filter(pl.col("label_source") == "forest")
    edges = np.arange(0, 0.5 + _FLIP_STEP / 2, _FLIP_STEP)
    with styled() as (figure, axes):
        means = []
        for split, color, line in (("train", TRAIN, "-"), ("test", TEST, "--")):
            flips = forest.filter(pl.col("split") == split)["flip_prob"].to_numpy()
            shares = 100 * np.histogram(flips, edges)[0] / max(len(flips), 1)
            axes.stairs(shares, edges, color=color, linestyle=line, linewidth=1.8, label=f"{split} (n = {len(flips)})")
            means.append(f"{split} {flips.mean():.3f}" if len(flips) else f"{split} none")
        axes.axvline(MAX_FLIP_PROB, color=MUTED, linewidth=1, linestyle=":")
        axes.annotate(
            f"cap {MAX_FLIP_PROB:g}",
            (MAX_FLIP_PROB, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(-3, -2),
            textcoords="offset points",
            ha="right",
            va="top",
            fontsize=8,
        )
        axes.set(
            title="How sure the forest's labels are",
            xlabel="flip probability, P(label is wrong)",
            ylabel=f"share of pairs (%) per {_FLIP_STEP:g}",
            xlim=(0, 0.5),
            ylim=(0, None),
        )
        legend_below(figure, axes, 3)
        caption = f"Labels less sure than {MAX_FLIP_PROB:g} are written as {MAX_FLIP_PROB:g}, right of the dotted line."
        return picture(figure, f"Histograms of the flip probability; means: {', '.join(means)}.", caption)
