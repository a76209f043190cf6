"""Does the mouse tell preferences of long answers, and gaze those of short ones? Two principles of arXiv 2606.20482.

Asked as an interaction with length, in one model of all pairs: short and long pairs are never compared by eye.
A principle is *supported* if the 95 % interval of its interaction lies on its side of 0, *not supported* if it reaches
0 and excludes `LEAST_EFFECT`, and *undecided* otherwise.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from ifllm_hub.patterns.effects import Effect
from ifllm_hub.patterns.readings import Readings
from ifllm_hub.statistics import (
    Jackknife,
    detectable,
    expit,
    jackknife,
    jackknife_mean,
    jackknife_sums,
    logistic,
)
from ifllm_hub.terms import MODALITIES, SIDES

# Smallest interaction that would matter, log odds: per doubling of the length, one standard deviation of the log ratio
# of dwell has an odds ratio 1.1 times as large; near even odds this is 2.5 points of accuracy. What the mouse's dwell
# tells in the study is 0.3 on this scale.
LEAST_EFFECT = 0.1
# Added to each dwell before its logarithm is taken, ms: an answer that was not looked at is not infinitely so.
_BASE_MS = 1_000
_PERMUTATIONS = 2_000
_FAMILY = "mouse and gaze"
# Fewer workers than this are no sample of workers.
_LEAST_WORKERS = 4
_NAMES = {
    "mouse": "mouse tells more of longer pairs",
    "gaze": "gaze tells more of shorter pairs",
    "both": "mouse gains on gaze with the length",
}


@dataclass(frozen=True)
class Principle:
    """One principle and what the data say.

    Attributes:
        name: in words.
        modality: "mouse", "gaze", or "both" for their difference.
        verdict: by the rule of this module.
        interaction, low, high: log odds per standard deviation of the log ratio of dwell and doubling of the length, in
            the direction of the principle (above 0: in favor); 95 % interval.
        p: two-sided, by permutation of the lengths within workers.
        least_effect: `LEAST_EFFECT`.
        detectable: the interaction that this many workers find with 80 % power.
        workers_needed, pairs_needed: for 80 % power at `least_effect`, with workers and pairs as they are here.
    """

    name: str
    modality: str
    verdict: Literal["supported", "not supported", "undecided"]
    interaction: float
    low: float
    high: float
    p: float
    least_effect: float
    detectable: float
    workers_needed: int
    pairs_needed: int


@dataclass(frozen=True)
class ClassAccuracy:
    """Of the pairs of one length class (thirds by length of both answers): accuracy on workers not in the fit."""

    length_class: str
    shortest: int
    longest: int
    mouse: float
    gaze: float
    difference: float
    low: float
    high: float
    n: int
    workers: int


@dataclass(frozen=True)
class Principles:
    """What mouse and gaze tell of preferences, by length.

    Attributes:
        principles: three, of mouse, gaze and their difference.
        classes: for display; the claim is the interaction.
        effects: the interactions (log odds; raw direction), and the accuracy of mouse less that of gaze: its mean, and
            its slope per doubling of the length.
        pairs, workers: with a preference, and both modalities on text.
    """

    principles: list[Principle]
    classes: list[ClassAccuracy]
    effects: list[Effect]
    pairs: int
    workers: int


def principles(readings: Readings) -> Principles | None:
    """The verdicts; None with fewer than four workers, or where mouse, gaze or length do not vary."""
    pairs = _pairs(readings)
    if pairs["worker_id"].n_unique() < _LEAST_WORKERS:
        return None
    codes = np.unique(pairs["worker_id"].to_numpy(), return_inverse=True)[1]
    chosen = pairs["chosen"].to_numpy()
    read = pairs.select(*MODALITIES, "length_ratio").to_numpy()
    size = pairs["size"].to_numpy()
    size = size - size.mean()
    spread = np.sqrt((read**2).mean(axis=0))
    if (spread == 0).any() or not size.any():
        return None
    read = read / spread
    interactions = interaction_fits(read, size, chosen, codes)
    p = permutation_p(read, size, chosen, codes)
    verdicts, effects = [], []
    for modality in _NAMES:
        sign = -1.0 if modality == "gaze" else 1.0
        one = interactions[modality]
        verdicts.append(_principle(modality, one, sign, p[modality], len(pairs), int(codes.max()) + 1))
        ends = one.interval()
        effects.append(
            Effect(
                _FAMILY,
                "preference: dwell x doubling of the length, "
                + ("mouse less gaze" if modality == "both" else modality),
                "preference",
                modality,
                "log odds",
                one.mean,
                ends["low"],
                ends["high"],
                p[modality],
                "randomization",
                len(pairs),
                int(codes.max()) + 1,
            )
        )
    right = {modality: _right(read[:, [i, 2]], chosen, codes) for i, modality in enumerate(MODALITIES)}
    difference = right["mouse"] - right["gaze"]
    parts = np.column_stack([np.ones(len(size)), size, difference, size**2, size * difference])
    slope = jackknife_sums(_least_squares_slope, parts, codes)
    for name, one in (
        ("accuracy of mouse less gaze", jackknife_mean(difference, codes)),
        ("accuracy of mouse less gaze, per doubling of the length", slope),
    ):
        ends = one.interval()
        count = len(pairs), int(codes.max()) + 1
        effects.append(
            Effect(
                _FAMILY,
                name,
                "preference",
                "both",
                "share",
                one.mean,
                ends["low"],
                ends["high"],
                one.p,
                "jackknife",
                *count,
            )
        )
    return Principles(verdicts, _classes(pairs, right, codes), effects, len(pairs), int(codes.max()) + 1)


def interaction_fits(read: np.ndarray, size: np.ndarray, chosen: np.ndarray, codes: np.ndarray) -> dict[str, Jackknife]:
    """The interactions of mouse and of gaze with length, and the first less the second, by logistic regression.

    Swapping the answers changes the sign of everything but `size`, so there is no intercept.

    Args:
        read: (pairs, 3) log ratios, left to right, of the dwell by mouse, by gaze, and of the lengths.
        size: (pairs,) log2 of the length of both, centered.
        chosen: (pairs,) 1.0 where the left answer is preferred, else 0.0.
        codes: (pairs,) number of the worker, from 0.
    """
    x = np.column_stack([read, read * size[:, None]])
    full, influence = logistic(x, chosen)
    without = np.array([logistic(x[codes != one], chosen[codes != one])[0] for one in range(codes.max() + 1)])
    fits = {}
    for name, weights in (("mouse", (1.0, 0.0)), ("gaze", (0.0, 1.0)), ("both", (1.0, -1.0))):
        w = np.array(weights)
        fits[name] = jackknife(float(full[3:5] @ w), without[:, 3:5] @ w, influence[:, 3:5] @ w, codes)
    return fits


def permutation_p(
    read: np.ndarray, size: np.ndarray, chosen: np.ndarray, codes: np.ndarray, draws: int = _PERMUTATIONS
) -> dict[str, float]:
    """p values of no interaction: the lengths of both answers are permuted among the pairs of each worker.

    The statistic is the score test's one-step estimate from the model without these interactions, over its standard
    error clustered by worker, so that the permuted lengths need not have the same variance (Janssen 1997).

    Args:
        read, size, chosen, codes: as in `interaction_fits`.
        draws: permutations.
    """
    rng = np.random.default_rng(0)
    base = read
    chance = expit(base @ logistic(base, chosen)[0])
    residual, weight = chosen - chance, np.sqrt(chance * (1 - chance))
    root = np.linalg.qr(base * weight[:, None])[0]
    weighted, unexplained = read * weight[:, None], residual / weight
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    statistics = np.empty((draws + 1, 3))
    for draw in range(draws + 1):
        z = size
        if draw:
            z = np.empty_like(size)
            z[order] = size[order[np.argsort(codes[order] + rng.random(len(size)))]]
        columns = weighted * z[:, None]
        columns = columns - root @ (root.T @ columns)
        inverse = np.linalg.inv(columns.T @ columns + 1e-9 * np.eye(3))
        found = inverse @ (columns.T @ unexplained)
        influence = (columns * (unexplained - columns @ found)[:, None]) @ inverse[:, :2]
        theirs = np.add.reduceat(influence[order], starts)
        theirs = np.column_stack([theirs, theirs[:, 0] - theirs[:, 1]])
        spread = np.sqrt((theirs**2).sum(axis=0))
        statistics[draw] = np.abs([found[0], found[1], found[0] - found[1]]) / np.where(spread > 0, spread, 1.0)
    as_large = (statistics[1:] >= statistics[0] - 1e-12).sum(axis=0)
    return {name: float((1 + n) / (1 + draws)) for name, n in zip(_NAMES, as_large, strict=True)}


def _pairs(readings: Readings) -> pl.DataFrame:
    """A row a pair with a preference and both modalities: log ratios, `size` (log2 of both lengths), `chosen`."""
    dwell = []
    rated = readings.questions.filter(pl.col("preference").is_in(SIDES))
    for modality in MODALITIES:
        ticks = readings.ticks[modality].select("question_id", "side", "dt")
        ticks = ticks.filter(pl.col("question_id").is_in(rated["question_id"].implode()))
        sums = [(pl.col("dt") * (pl.col("side") == side)).sum().alias(side) for side in SIDES]
        ratio = ((pl.col("left") + _BASE_MS) / (pl.col("right") + _BASE_MS)).log().alias(modality)
        dwell.append(ticks.group_by("question_id").agg(sums).select("question_id", ratio))
    lengths = readings.answers.filter(
        pl.col("side") == "left", pl.col("length") > 0, pl.col("rival_length") > 0
    ).select(
        "question_id",
        length=pl.col("length") + pl.col("rival_length"),
        length_ratio=(pl.col("length") / pl.col("rival_length")).log(),
        size=(pl.col("length") + pl.col("rival_length")).log(2),
    )
    rows = rated
    for one in (lengths, *dwell):
        rows = rows.join(one, on="question_id")
    return rows.with_columns(chosen=(pl.col("preference") == "left").cast(pl.Float64)).sort("question_id")


def _principle(modality: str, one: Jackknife, sign: float, p: float, pairs: int, workers: int) -> Principle:
    ends = one.interval()
    low, high = sorted((sign * ends["low"], sign * ends["high"]))
    verdict: Literal["supported", "not supported", "undecided"] = "undecided"
    if low > 0:
        verdict = "supported"
    elif high < LEAST_EFFECT:
        verdict = "not supported"
    found = detectable(one)
    # The standard error falls with the square root of the number of workers.
    times = (found / LEAST_EFFECT) ** 2
    needed = int(np.ceil(times * workers)), int(np.ceil(times * pairs))
    return Principle(_NAMES[modality], modality, verdict, sign * one.mean, low, high, p, LEAST_EFFECT, found, *needed)


def _right(x: np.ndarray, chosen: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """(pairs,) 1 where a fit to the other workers is right, 0 where wrong, 0.5 where it does not say."""
    score = np.empty(len(x))
    for one in range(codes.max() + 1):
        out = codes == one
        score[out] = x[out] @ logistic(x[~out], chosen[~out])[0]
    return np.where(score == 0, 0.5, (score > 0) == (chosen > 0.5))


def _least_squares_slope(sums: np.ndarray) -> np.ndarray:
    n, x, y, xx, xy = (sums[..., i] for i in range(5))
    return np.asarray((n * xy - x * y) / (n * xx - x * x))


def _classes(pairs: pl.DataFrame, right: dict[str, np.ndarray], codes: np.ndarray) -> list[ClassAccuracy]:
    lengths = pairs["length"].to_numpy()
    classes = np.searchsorted(np.quantile(lengths, (1 / 3, 2 / 3)), lengths)
    rows = []
    for number, name in enumerate(("short", "medium", "long")):
        own = classes == number
        if own.any():
            one = jackknife_mean((right["mouse"] - right["gaze"])[own], codes[own]).estimate
            span = int(lengths[own].min()), int(lengths[own].max())
            shares = float(right["mouse"][own].mean()), float(right["gaze"][own].mean())
            size = int(own.sum()), len(np.unique(codes[own]))
            rows.append(ClassAccuracy(name, *span, *shares, one["mean"], one["low"], one["high"], *size))
    return rows
