"""Studies drawn as tables for `patterns_recovery.py`: the design of the study, with values of a known model.

57 readers, five of whom have half of the conversations, in conversations of three turns or a few more, with one answer
or two of like lengths. Readers differ in their habits, in the lengths they get, and in every effect.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import polars as pl

from ifllm_hub.patterns.effects import Effect
from ifllm_hub.patterns.experiment.randomization import randomization_test
from ifllm_hub.patterns.measures import BY_NAME
from ifllm_hub.patterns.mouse_gaze.principles import interaction_fits, permutation_p
from ifllm_hub.patterns.outcomes import codes, effect_of, outcomes, slope_within
from ifllm_hub.patterns.variation.groups import trait
from ifllm_hub.patterns.variation.layout import layouts
from ifllm_hub.patterns.variation.length import Curve, lengths
from ifllm_hub.patterns.variation.variance import LEVELS, Nested
from ifllm_hub.statistics import Estimate
from ifllm_hub.terms import MODALITIES

# Conversations of each reader: rounded numbers with about as many effective readers as the study has.
CONVERSATIONS = (70, 50, 45, 30, 22, 22, 14, 8, 8, 7, 7, *[6] * 4, *[5] * 5, *[4] * 7, *[3] * 7, *[2] * 8, *[1] * 15)
# What is drawn for "mouse" is normal; for "gaze", effects are skewed and errors have heavy tails.
DRAWN = {"mouse": "normal", "gaze": "skewed"}
_TURNS, _TURN_SHARES = (3, 4, 5, 6), (0.79, 0.1, 0.07, 0.04)
_PAIRS, _LEFT_FIRST = 0.54, 0.65
# Of log dwell: mean and standard deviation between readers. Lengths count in doublings.
_OWN, _RIVAL, _BULLETS, _PAIR, _SIDE, _ORDER = (
    (-0.2, 0.08),
    (-0.06, 0.05),
    (-0.15, 0.15),
    (-0.1, 0.2),
    (0.05, 0.05),
    (0.1, 0.1),
)
_PAGE_V1 = 0.2
# Standard deviations of worker, conversation, question, and the rest.
_DWELL_SD = (0.4, 0.15, 0.25, 0.5)
_SHARES = {"words_per_minute": (0.5, 0.2, 0.4, 0.7), "regression_rate": (0.3, 0.0, 0.5, 0.8)}
_LEVELS = ("worker", "conversation", "question", "rest")
_TIME_SHARE = (0.7, 0.15)
CURVE_AT = (400, 1200, 2400)
# Readings of a worker are in four parts, with shares of a Dirichlet distribution with this sum.
_PARTS, _LIKE = (0.4, 0.3, 0.2, 0.1), 2.0
# Log odds of mouse, gaze and length, and what a doubling of both lengths adds to each.
_LOG_ODDS, _PER_DOUBLING = np.array([0.4, 0.2, 0.5]), np.array([0.15, -0.1, 0.05])
_LOG_ODDS_SD, _PER_DOUBLING_SD = 0.3, 0.1
_LARGE = 300_000
OWN_PART, NO_EFFECT = "readers' own part of reading paths (Dirichlet)", "bullet points, no effect (normal)"
# Of the tests by randomization and (a quarter) permutation; fewer than the package makes, for time.
_DRAWS = 1_999


class Found(NamedTuple):
    """What one study finds of one estimand: the estimate, its 95 % interval, and a p value (NaN: none)."""

    mean: float
    low: float
    high: float
    p: float = math.nan


class Design(NamedTuple):
    """Who reads what: of each question its worker, conversation, turn, layout and lengths."""

    worker: np.ndarray
    conversation: np.ndarray
    turn: np.ndarray
    pair: np.ndarray
    bullets: np.ndarray
    lengths: np.ndarray
    habit: np.ndarray


def table_truths() -> dict[str, float]:
    """The truth of each estimand of `table_study`."""
    lean = 2 * _LEFT_FIRST - 1
    percent = {
        "length slope": _OWN[0],
        "rival's length slope": _RIVAL[0],
        "bullet points, effect": _BULLETS[0],
        "two answers less one": _PAIR[0],
        "left less right": _SIDE[0] + lean * _ORDER[0],
        "read first less second": _ORDER[0] + lean * _SIDE[0],
        "page v1 less v2": _PAGE_V1,
    }
    truths = {name: 100 * math.expm1(value) for name, value in percent.items()}
    truths["bullet points, no effect"] = 0.0
    truths["share of time on share of length, slope"] = _TIME_SHARE[0]
    truths |= {f"curve at {at} characters": float(_curve(np.log2(at))) for at in CURVE_AT}
    for number, deviations in enumerate(_SHARES.values()):
        squares = np.square(deviations)
        of = "variance share" if number == 0 else "variance share, none of conversations"
        truths |= {f"{of}: {level}": float(one) for level, one in zip(_LEVELS, squares / squares.sum(), strict=True)}
    every = {f"{name} ({drawn})": value for name, value in truths.items() for drawn in DRAWN.values()}
    every[OWN_PART] = 1 / (1 + _LIKE)
    for differ in (False, True):
        for what, value in _large_interactions(differ).items():
            every[_interaction(what, differ)] = value
            every[f"{_interaction(what, differ)}, none"] = 0.0
    return every


def table_study(seed: int) -> dict[str, Found]:
    """One study, and what the package's estimators find in it."""
    rng = np.random.default_rng([18, seed])
    table, design = _study(rng)
    found: dict[str, Found] = {}

    def note(name: str, modality: str, one: Effect | None) -> None:
        if one is not None:
            found[f"{name} ({DRAWN[modality]})"] = Found(one.mean, one.low, one.high, one.p)

    by_length = lengths(table.filter(pl.col("measure").is_in(["dwell_per_char", "dwell", "depth", "left_time_share"])))
    for length in by_length.measures:
        if length.measure == "dwell_per_char":
            note("length slope", length.modality, length.own)
        elif length.measure == "dwell":
            note("rival's length slope", length.modality, length.rival)
        elif length.measure == "depth" and length.curve is not None:
            for at in CURVE_AT:
                found[f"curve at {at} characters ({DRAWN[length.modality]})"] = _at(length.curve, at)
    for share in by_length.time_shares:
        note("share of time on share of length, slope", share.modality, share.slope)
    layout = layouts(table.filter(pl.col("measure").is_in(["dwell_per_char", "left_first"])))
    for name, effects in (
        ("two answers less one", layout.modes),
        ("left less right", layout.sides),
        ("read first less second", layout.order),
        ("page v1 less v2", [one for one in layout.formats if "v1" in one.name]),
    ):
        for one in effects:
            note(name, one.modality, one)
    for one in _of_bullets(table.filter(pl.col("measure").is_in(["dwell_per_char", "depth"]))):
        note(f"bullet points, {'' if one.measure == 'dwell_per_char' else 'no '}effect", one.modality, one)
    for measure in _SHARES:
        of = "variance share" if measure == "words_per_minute" else "variance share, none of conversations"
        for modality in MODALITIES:
            for level, estimate in shares_given_length(table.filter(measure=measure, modality=modality)).items():
                found[f"{of}: {level} ({DRAWN[modality]})"] = _found(estimate)
    found[OWN_PART] = _own_part(rng, design)
    for differ in (False, True):
        for none in (False, True):
            read, size, chosen = _choices(rng, design.worker[design.pair], differ, none)
            fits, p = interaction_fits(read, size, chosen, design.worker[design.pair]), {}
            if none:
                p = permutation_p(read, size, chosen, design.worker[design.pair], draws=_DRAWS // 4)
            for what, fit in fits.items():
                name = _interaction(what, differ) + (", none" if none else "")
                found[name] = Found(**fit.estimate, p=p.get(what, math.nan))
    return found


def own_part_again(seed: int) -> dict[str, Found]:
    """`OWN_PART` alone, in another study than those of `table_study`."""
    rng = np.random.default_rng([19, seed])
    return {OWN_PART: _own_part(rng, _design(rng))}


def no_effect_again(seed: int) -> dict[str, Found]:
    """`NO_EFFECT` alone, in another study than those of `table_study`."""
    rng = np.random.default_rng([20, seed])
    design = _design(rng)
    n, deviations = len(design.worker), (0.1, 0.05, 0.05, 0.2)
    rest = deviations[3] * rng.normal(size=(n, 2))
    y = np.where(design.pair, rest.mean(axis=1), rest[:, 0])
    for group, sd in zip((design.worker, design.conversation, np.arange(n)), deviations[:3], strict=True):
        y += sd * rng.normal(size=int(group.max()) + 1)[group]
    asked, strata = design.bullets.astype(float), 2 * design.worker + design.pair
    within = slope_within(asked, y, strata, design.worker)
    if within is None:
        return {}
    p = float(randomization_test(asked, y[:, None], strata, _DRAWS // 4)[0])
    return {NO_EFFECT: Found(**within.slope.estimate, p=p)}


def shares_given_length(rows: pl.DataFrame) -> dict[str, Estimate]:
    """As `patterns.variation.variance` has them of a measure as it is, with the log length as a fixed effect."""
    if BY_NAME[rows["measure"][0]].scale == "log":
        rows = rows.filter(pl.col("value") > 0).with_columns(pl.col("value").log())
    groups = (rows[f"{level}_id"].to_numpy() for level in LEVELS[:3])
    nested = Nested(rows["value"].to_numpy(), *groups, fixed=rows["length"].log().to_numpy()[:, None])
    return nested.intervals(nested.estimate())


def _own_part(rng: np.random.Generator, design: Design) -> Found:
    own = rng.dirichlet(_LIKE * np.array(_PARTS), len(CONVERSATIONS))
    parts = (rng.random(len(design.worker))[:, None] > own.cumsum(axis=1)[design.worker]).sum(axis=1)
    return _found(trait(parts.clip(0, len(_PARTS) - 1), design.worker))


def _of_bullets(table: pl.DataFrame) -> list[Effect]:
    """As `patterns.experiment.bullets` does, with fewer draws; every question has all measures."""
    keys = ["question_id", "worker_id", "mode", "bullet_points"]
    of, values = outcomes(table), []
    for outcome in of:
        rows = outcome.rows.group_by(keys, maintain_order=True).agg(pl.col("y").mean()).sort("question_id")
        values.append(rows["y"].to_numpy())
    asked = rows["bullet_points"].cast(pl.Float64).to_numpy()
    strata, workers = codes(rows, "worker_id", "mode"), codes(rows, "worker_id")
    p = randomization_test(asked, np.column_stack(values), strata, _DRAWS)
    return [
        effect_of("bullets", "asked for", outcome.variable, within.slope, within.n, within.workers, float(one))
        for outcome, y, one in zip(of, values, p, strict=True)
        if (within := slope_within(asked, y, strata, workers))
    ]


def _interaction(what: str, differ: bool) -> str:
    of = {"mouse": "dwell of mouse", "gaze": "dwell of gaze", "both": "dwell of mouse less gaze"}[what]
    return f"preference: {of} x doubling ({'readers differ' if differ else 'readers alike'})"


def _found(estimate: Estimate) -> Found:
    return Found(estimate["mean"], estimate["low"], estimate["high"])


def _at(curve: Curve, length: int) -> Found:
    x = np.log(curve.x)
    return Found(*(float(np.interp(np.log(length), x, one)) for one in (curve.mean, curve.low, curve.high)))


def _curve(x: np.ndarray) -> np.ndarray:
    """The share that is reached of an answer of 2^x characters: no spline, and steepest at 1,450."""
    return np.asarray(0.35 + 0.45 / (1 + np.exp(1.2 * (x - 10.5))))


def _design(rng: np.random.Generator) -> Design:
    of_worker = np.repeat(np.arange(len(CONVERSATIONS)), CONVERSATIONS)
    turns = rng.choice(_TURNS, len(of_worker), p=_TURN_SHARES)
    conversation = np.repeat(np.arange(len(of_worker)), turns)
    n, worker = len(conversation), of_worker[conversation]
    pair = (rng.random(len(of_worker)) < _PAIRS)[conversation]
    turn = np.concatenate([np.arange(1, one + 1) for one in turns])
    habit = rng.normal(size=len(CONVERSATIONS))
    asked = 10.1 + 0.62 * habit[worker] + 0.8 * rng.normal(size=n)
    sides = np.clip(asked[:, None] + 0.5 * rng.normal(size=(n, 2)), 6, 12)
    return Design(worker, conversation, turn, pair, rng.random(n) < 0.5, np.round(2**sides).astype(np.int64), habit)


def _study(rng: np.random.Generator) -> tuple[pl.DataFrame, Design]:
    """A table as of `patterns.measures.measured`, and its design."""
    design = _design(rng)
    n, pair = len(design.worker), design.pair
    worker = [f"worker_{one:02}" for one in range(len(CONVERSATIONS))]
    page = rng.permutation(np.arange(len(CONVERSATIONS)) % 3)
    about = pl.DataFrame(
        {
            "question_id": np.arange(n),
            "worker_id": [worker[one] for one in design.worker],
            "conversation_id": [f"{one:04}" for one in design.conversation],
            "task_id": design.conversation,
            "turn": design.turn,
            "mode": np.where(pair, "pairwise", "pointwise"),
            "schema_version": np.array(["v1", "v2", "v3"])[page[design.worker]],
            "bullet_points": design.bullets,
        }
    )
    shown = np.column_stack([np.ones(n, dtype=bool), pair])
    question, side = np.nonzero(shown)
    length, rival = design.lengths[question, side], design.lengths[question, 1 - side]
    answers = pl.DataFrame(
        {
            "question_id": question,
            "side": np.array(["left", "right"])[side],
            "length": length,
            "rival_length": pl.Series(rival).set(pl.Series(~pair[question]), None),
        }
    )
    rows = []
    for modality, drawn in DRAWN.items():
        draw = _normal if drawn == "normal" else _skewed
        heavy = _normal if drawn == "normal" else _heavy
        values = _values(rng, design, question, side, page, draw, heavy)
        first = values.pop("left_first")
        both = design.lengths.sum(axis=1)
        slope = _effect(rng, _TIME_SHARE, draw)[design.worker]
        time = 0.5 + slope * (design.lengths[:, 0] / both - 0.5) + 0.12 * heavy(rng, n)
        rows += [
            answers.with_columns(pl.Series("value", one), measure=pl.lit(name), modality=pl.lit(modality))
            for name, one in values.items()
        ]
        of_pairs = pl.DataFrame({"question_id": np.arange(n), "length": both}).with_columns(
            side=pl.lit(None, pl.String), rival_length=pl.lit(None, pl.Int64), modality=pl.lit(modality)
        )
        for name, one in (("left_first", first.astype(float)), ("left_time_share", time)):
            rows.append(of_pairs.with_columns(measure=pl.lit(name), value=pl.Series(one)).filter(pl.Series(pair)))
    order = ["question_id", "side", "length", "rival_length", "modality", "measure", "value"]
    table = about.join(pl.concat(one.select(order) for one in rows), on="question_id")
    return table.sort("question_id", "side", "modality", "measure", nulls_last=True), design


Draw = Callable[[np.random.Generator, int], np.ndarray]


def _normal(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.normal(size=n)


def _skewed(rng: np.random.Generator, n: int) -> np.ndarray:
    """Gamma of shape 2, with mean 0 and variance 1: skewness 1.4."""
    return np.asarray((rng.gamma(2.0, size=n) - 2) / math.sqrt(2))


def _heavy(rng: np.random.Generator, n: int) -> np.ndarray:
    """Student's t with 5 degrees of freedom, with variance 1: kurtosis 9."""
    return np.asarray(rng.standard_t(5, n) * math.sqrt(3 / 5))


def _effect(rng: np.random.Generator, of: tuple[float, float], draw: Draw) -> np.ndarray:
    """(workers,)."""
    return of[0] + of[1] * draw(rng, len(CONVERSATIONS))


def _values(
    rng: np.random.Generator,
    design: Design,
    question: np.ndarray,
    side: np.ndarray,
    page: np.ndarray,
    draw: Draw,
    heavy: Draw,
) -> dict[str, np.ndarray]:
    """(answers,) of each measure; `left_first` (questions,)."""
    worker, conversation = design.worker[question], design.conversation[question]
    x, rival = np.log2(design.lengths[question, side]) - 10, np.log2(design.lengths[question, 1 - side]) - 10
    pair, bullet = design.pair[question], design.bullets[question]
    first = rng.random(len(design.worker)) < _LEFT_FIRST
    left = np.where(pair, 0.5 - side, 0.0)
    order = np.where(pair, np.where((side == 0) == first[question], 0.5, -0.5), 0.0)

    def noise(deviations: tuple[float, ...]) -> np.ndarray:
        groups = (worker, conversation, question)
        total = deviations[3] * heavy(rng, len(question))
        for group, sd in zip(groups, deviations[:3], strict=True):
            total = total + sd * draw(rng, int(group.max()) + 1)[group]
        return total

    def times(of: tuple[float, float], what: np.ndarray) -> np.ndarray:
        return _effect(rng, of, draw)[worker] * what

    # Those who get longer answers dwell longer anyway.
    habit = 0.2 * design.habit[worker]
    per_char = noise(_DWELL_SD) + habit + times(_OWN, x) + times(_BULLETS, bullet) + times(_PAIR, pair)
    per_char += times(_SIDE, left) + times(_ORDER, order) + _PAGE_V1 * (page[worker] == 0)
    dwell = noise(_DWELL_SD) + habit + times(_OWN, x) + times(_RIVAL, np.where(pair, rival, 0.0))
    return {
        "dwell_per_char": np.exp(4 + per_char),
        "dwell": np.exp(9 + dwell),
        "depth": _curve(x + 10) + noise((0.1, 0.05, 0.05, 0.2)),
        "words_per_minute": np.exp(5 + 0.1 * x + noise(_SHARES["words_per_minute"])),
        "regression_rate": 3 + 0.2 * x + noise(_SHARES["regression_rate"]),
        "left_first": first,
    }


def _choices(
    rng: np.random.Generator, worker: np.ndarray, differ: bool, none: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The arguments of `interaction_fits`, of each pair; `none`: without interactions on average."""
    n, workers = len(worker), int(worker.max()) + 1
    reading = 0.5 * rng.normal(size=(n, 1)) + np.sqrt(0.75) * rng.normal(size=(n, 2))
    read = np.column_stack([reading, rng.normal(size=n)])
    size = 0.6 * rng.normal(size=workers)[worker] + 0.9 * rng.normal(size=n)
    main, more = np.tile(_LOG_ODDS, (workers, 1)), np.tile(0 * _PER_DOUBLING if none else _PER_DOUBLING, (workers, 1))
    if differ:
        main = main + _LOG_ODDS_SD * rng.normal(size=main.shape)
        more = more + _PER_DOUBLING_SD * rng.normal(size=more.shape)
    odds = (read * (main[worker] + size[:, None] * more[worker])).sum(axis=1)
    size -= size.mean()
    return read, size, (rng.random(n) < 1 / (1 + np.exp(-odds))).astype(float)


def _large_interactions(differ: bool) -> dict[str, float]:
    """What the estimator finds in very many pairs of very many readers: odds of all are nearer to even than of each."""
    rng = np.random.default_rng(18)
    if not differ:
        return {"mouse": _PER_DOUBLING[0], "gaze": _PER_DOUBLING[1], "both": _PER_DOUBLING[0] - _PER_DOUBLING[1]}
    read, size, chosen = _choices(rng, np.repeat(np.arange(_LARGE // 10), 10), differ, none=False)
    half = np.arange(_LARGE) % 2
    return {what: fit.mean for what, fit in interaction_fits(read, size, chosen, half).items()}
