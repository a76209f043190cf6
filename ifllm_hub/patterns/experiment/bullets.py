"""What asking for bullet points causes: the study appended " respond using bullet points" by a coin toss a question.

Intention to treat: by what was asked for, not by what the LLMs wrote. The unit is the question, since its answers share
the toss; what is measured of two answers is averaged. Effects are the differences within worker and mode, weighted by
n1 n0 / (n1 + n0), n1 heads and n0 tails. As the coin is fair, that is nearly by questions: the mean over the readings
that took place, to which workers who read much contribute much. Weights by questions themselves would give strata with
one question on one side as much say as they have noise, and weights by worker would let those with three questions
decide.

p values deal the coin anew within worker and mode: they ask whether it changed anything for these workers. Intervals
leave out one worker at a time, and so speak of the mean of other workers, too: where workers differ in the effect, an
interval from the randomization alone covers that mean in 60-87 of 100 studies of this design, the jackknife in 96-98. A
small p beside an interval across 0 says that some readings changed, but not which way readings of others would.

Bullet points also change the length of answers. What they do to reading at the same length is not identified, as length
was not assigned by a coin: nothing here is adjusted for it.
"""

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import polars as pl

from ifllm_hub.patterns.effects import Effect
from ifllm_hub.patterns.experiment.randomization import p_value, randomization_test, tossed
from ifllm_hub.patterns.outcomes import Variable, codes, effect_of, outcomes, slope_within
from ifllm_hub.patterns.readings import Readings
from ifllm_hub.statistics import wilson
from ifllm_hub.terms import SIDES

_LIST_LINE = r"(?m)^[ \t]*(?:[-*+•–]|\d{1,3}[.)])[ \t]+\S"
# Of these, the effect of the toss before is estimated, too.
_CARRIED = ("length", "list", "rating", "dwell", "dwell_per_char", "depth", "coverage", "path_slope", "gap")
# It and later turns are counted as one.
_LAST_TURN = 4
_ASKED = "bullet points asked for"
_BEFORE = "asked for a turn before"
# Standard deviations of what is constant, but for rounding, are below this.
_CONSTANT = 1e-9


@dataclass(frozen=True)
class Tosses:
    """How the coin fell in a part of the questions: `low` and `high` end Wilson's interval of the share of heads."""

    name: str
    n: int
    heads: int
    low: float
    high: float


@dataclass(frozen=True)
class Balance:
    """What was fixed before the toss: its mean in both groups, and their difference in standard deviations."""

    name: str
    unit: str
    n: int
    heads: float
    tails: float
    difference: float


@dataclass(frozen=True)
class Coin:
    """Whether the coin was fair.

    Attributes:
        before: questions up to and with the first heads, which are left out: until the site tossed its coin, all were
            tails. What falls after the first heads is as random as if one had known when the tossing began.
        total: the tosses that count.
        over_time: by tenths of the questions, in their order.
        turns: by turn; the fourth stands for later ones, too.
        workers: by worker, the most questions first.
        balance: a row a quantity.
    """

    before: int
    total: Tosses
    over_time: list[Tosses]
    turns: list[Tosses]
    workers: list[Tosses]
    balance: list[Balance]


@dataclass(frozen=True)
class Bullets:
    """The experiment.

    Attributes:
        coin: None if it was not tossed, or fell on one side only.
        effects: of the families "coin" (is it fair?), "bullets" and "bullets, carry-over" (of the turn before).
    """

    coin: Coin | None
    effects: list[Effect]


def bullets(readings: Readings, table: pl.DataFrame) -> Bullets:
    """What bullet points do to reading, to the text, to ratings and to preferences; and whether the coin was fair.

    Of questions whose answers mouse or gaze were seen on: that a question was not seen by either, or got an error
    message, could come after the toss, and cannot be seen here.

    Args:
        table: `patterns.measures.measured(readings)`.
    """
    asked = _with_previous(readings, table)
    first = asked["bullet_points"].arg_true()
    before = int(first[0]) + 1 if len(first) else len(asked)
    rows = asked[before:]
    if rows["bullet_points"].n_unique() < 2:
        return Bullets(None, [])
    variables, values = _outcomes(readings, table, rows)
    effects = [
        replace(one, caveat="a check: it is what was asked for") if one.measure == "list" else one
        for one in _effects("bullets", _ASKED, rows, "bullet_points", variables, values)
    ]
    again = [number for number, variable in enumerate(variables) if variable.name in _CARRIED]
    # The toss before counts where it was one.
    followed = rows["previous"].is_in(rows["question_id"].to_list()).fill_null(False)
    # Within a worker, tails follow heads more often than heads do: the present toss would show as the one before.
    left = _without(rows, values[:, again])
    carried = _effects(
        "bullets, carry-over",
        _BEFORE,
        rows.filter(followed),
        "previous_bullets",
        [variables[number] for number in again],
        left[followed.to_numpy()],
    )
    balance, checks = _fairness(rows)
    turns = rows.with_columns(group=pl.col("turn").clip(1, _LAST_TURN)).sort("group")
    people = rows.with_columns(group="worker_id", many=pl.len().over("worker_id"))
    coin = Coin(
        before,
        _tosses("all", rows["bullet_points"]),
        _over_time(rows["bullet_points"]),
        _by(turns),
        _by(people.sort(["many", "group"], descending=[True, False])),
        balance,
    )
    return Bullets(coin, checks + effects + carried)


def _with_previous(readings: Readings, table: pl.DataFrame) -> pl.DataFrame:
    """The questions in order, with what is known of the turn before in the same conversation."""
    dwell = table.filter(pl.col("measure") == "dwell").group_by("question_id", "modality").agg(pl.col("value").sum())
    seconds = [
        dwell.filter(modality=modality).select("question_id", (pl.col("value") / 1000).alias(f"{modality}_dwell"))
        for modality in ("mouse", "gaze")
    ]
    texts = readings.answers.group_by("question_id").agg(
        pl.col("length").mean().alias("text_length"), pl.col("text").str.count_matches(_LIST_LINE).alias("lines")
    )
    known = readings.questions.sort("question_id")
    for one in (*seconds, texts.select("question_id", "text_length")):
        known = known.join(one, on="question_id", how="left", maintain_order="left")
    known = known.with_columns(rating=pl.mean_horizontal("rating_left", "rating_right"))
    past = known.select(
        "conversation_id",
        pl.col("turn") + 1,
        previous="question_id",
        previous_bullets="bullet_points",
        previous_rating="rating",
        previous_mouse="mouse_dwell",
        previous_gaze="gaze_dwell",
        previous_length="text_length",
    ).unique(["conversation_id", "turn"], keep="first", maintain_order=True)
    return known.join(past, on=["conversation_id", "turn"], how="left", maintain_order="left")


def _outcomes(readings: Readings, table: pl.DataFrame, rows: pl.DataFrame) -> tuple[list[Variable], np.ndarray]:
    """What may have been affected, and (questions, k) its values, on the scale that is modeled; NaN: not defined."""
    variables, values = [], []
    for outcome in outcomes(table):
        variables.append(outcome.variable)
        by_question = outcome.rows.group_by("question_id").agg(pl.col("y").mean())
        values.append(rows.join(by_question, on="question_id", how="left", maintain_order="left")["y"])
    for variable, expr in _OF_QUESTIONS:
        variables.append(variable)
        values.append(rows.join(_of_texts(readings), on="question_id", maintain_order="left").select(expr).to_series())
    for modality, ticks in readings.ticks.items():
        variables.append(Variable("seen", "seen on the text", "share", modality))
        values.append(rows["question_id"].is_in(ticks["question_id"].unique().to_list()))
    filled = [one.cast(pl.Float64).fill_null(np.nan).to_numpy() for one in values]
    return variables, np.column_stack(filled)


def _of_texts(readings: Readings) -> pl.DataFrame:
    """Length and list lines of both answers, a row a question; null where there is one."""
    lines = pl.col("text").str.count_matches(_LIST_LINE).cast(pl.Int64)
    of_answer = readings.answers.select("question_id", "side", "length", lines=lines)
    left, right = (
        of_answer.filter(side=side).select("question_id", pl.col("length", "lines").name.suffix(f"_{side}"))
        for side in SIDES
    )
    return left.join(right, on="question_id", how="left", maintain_order="left")


def _more(of: str) -> pl.Expr:
    """Whether the answer with more of it is preferred; null for ties."""
    left, right = (pl.col(f"{of}_{side}") for side in SIDES)
    return pl.when(left != right).then((left > right) == (pl.col("preference") == SIDES[0]))


# Which answer is longer, and by how much, comes after the toss: "longer answer preferred" has that in it.
_apart = (pl.col("length_left").log(2) - pl.col("length_right").log(2)).abs()
_listed = [pl.col(f"lines_{side}") > 0 for side in SIDES]
_OF_QUESTIONS = (
    (Variable("length", "length of the answer", "char"), pl.mean_horizontal("length_left", "length_right")),
    (Variable("list", "answers with list lines", "share"), pl.mean_horizontal(_listed)),
    (Variable("length_gap", "difference of the lengths of a pair", "doublings"), _apart),
    (Variable("rating", "rating, 1 to 5", "point"), pl.col("rating")),
    (Variable("rated", "questions that were rated", "share"), pl.col("rating").is_not_null()),
    (Variable("preference", "longer answer preferred", "share"), _more("length")),
    (Variable("preference", "answer with more list lines preferred", "share"), _more("lines")),
    # Both answers are asked for alike, so this is a placebo.
    (Variable("preference", "left answer preferred (placebo)", "share"), pl.col("preference") == SIDES[0]),
)


def _effects(
    family: str, what: str, rows: pl.DataFrame, coin: str, variables: list[Variable], values: np.ndarray
) -> list[Effect]:
    """Of the column `coin` on each variable; those that nothing can be said of are left out."""
    if rows.is_empty():
        return []
    heads = rows[coin].cast(pl.Float64).to_numpy()
    strata, workers = codes(rows, "worker_id", "mode"), codes(rows, "worker_id")
    found = []
    for number, y in enumerate(values.T):
        known = np.isfinite(y)
        within = slope_within(heads[known], y[known], strata[known], workers[known])
        if within is not None:
            found.append((number, within))
    if not found:
        return []
    p = randomization_test(heads, values[:, [number for number, _ in found]], strata)
    return [
        effect_of(family, what, variables[number], within.slope, within.n, within.workers, float(one))
        for (number, within), one in zip(found, p, strict=True)
    ]


def _without(rows: pl.DataFrame, values: np.ndarray) -> np.ndarray:
    """(questions, k) values less what the toss of the same question changes."""
    heads = rows["bullet_points"].cast(pl.Float64).to_numpy()
    strata, workers = codes(rows, "worker_id", "mode"), codes(rows, "worker_id")
    left = values.copy()
    for y in left.T:
        known = np.isfinite(y)
        if found := slope_within(heads[known], y[known], strata[known], workers[known]):
            y -= found.slope.mean * heads
    return left


def _fairness(rows: pl.DataFrame) -> tuple[list[Balance], list[Effect]]:
    """The coin against what was fixed before, and the tests of it, by fair and independent tosses."""
    coin = rows["bullet_points"].cast(pl.Float64).to_numpy()
    fixed = rows.select(expr.cast(pl.Float64).alias(name) for name, _, expr in _FIXED)
    balance, columns = [], []
    for name, unit, _ in _FIXED:
        values = fixed[name].fill_null(np.nan).to_numpy()
        known = np.isfinite(values)
        groups = [values[known & (coin == side)] for side in (1, 0)]
        spread = float(values[known].std()) if known.any() else 0.0
        if spread > _CONSTANT and all(len(group) for group in groups):
            heads, tails = (float(group.mean()) for group in groups)
            balance.append(Balance(name, unit, int(known.sum()), heads, tails, (heads - tails) / spread))
            columns.append(np.where(known, (values - values[known].mean()) / spread, 0.0))
    workers = codes(rows, "worker_id")
    spaces = [_basis(np.array(columns).T), _basis((workers[:, None] == np.unique(workers)).astype(float))]
    found = [_agreements(coin[None], spaces), *(_agreements(drawn, spaces) for drawn in tossed(len(coin)))]
    share, repeats, *explained = np.concatenate(found).T
    off, lag = np.abs(share - 0.5), np.abs(repeats - repeats[1:].mean())
    p = p_value(np.column_stack([off, lag, *explained]))
    low, high = wilson(int(coin.sum()), len(coin))
    checks = (
        ("share of heads, against 1/2", share[0], low, high),
        ("agreement of a toss with the next (autocorrelation)", repeats[0], np.nan, np.nan),
        ("what was fixed before (share of variance explained)", explained[0][0], np.nan, np.nan),
        ("workers (share of variance explained)", explained[1][0], np.nan, np.nan),
    )
    about = (len(coin), int(workers.max()) + 1)
    return balance, [
        Effect(
            "coin",
            name,
            "bullet_points",
            "",
            "level",
            float(mean),
            float(low),
            float(high),
            float(one),
            "randomization",
            *about,
        )
        for (name, mean, low, high), one in zip(checks, p, strict=True)
    ]


def _agreements(coins: np.ndarray, spaces: list[np.ndarray]) -> np.ndarray:
    """(draws, 2 + spaces): share of heads, lag-1 autocorrelation, and the variance that each space explains."""
    share = coins.mean(axis=1)
    off = coins - share[:, None]
    total = np.maximum((off**2).sum(axis=1), _CONSTANT)
    explained = [((off @ space) ** 2).sum(axis=1) / total for space in spaces]
    return np.column_stack([share, (off[:, 1:] * off[:, :-1]).sum(axis=1) / total, *explained])


_FIXED = (
    ("turn", "count", pl.col("turn")),
    ("place in the study", "share", pl.int_range(pl.len()) / pl.len()),
    ("two answers", "share", pl.col("mode") == "pairwise"),
    ("recording format v1", "share", pl.col("schema_version") == "v1"),
    ("recording format v3", "share", pl.col("schema_version") == "v3"),
    ("bullet points a turn before", "share", pl.col("previous_bullets")),
    ("rating a turn before", "point", pl.col("previous_rating")),
    ("dwell a turn before, mouse", "s", pl.col("previous_mouse")),
    ("dwell a turn before, gaze", "s", pl.col("previous_gaze")),
    ("length of the answer a turn before", "char", pl.col("previous_length")),
)


def _basis(columns: np.ndarray) -> np.ndarray:
    """(n, rank) orthonormal columns that span the (n, k) ones less their means."""
    left, sizes, _ = np.linalg.svd(columns - columns.mean(axis=0), full_matrices=False)
    return np.asarray(left[:, sizes > _CONSTANT * max(sizes.max(initial=0), 1.0)])


def _tosses(name: str, heads: pl.Series) -> Tosses:
    low, high = wilson(int(heads.sum()), len(heads))
    return Tosses(name, len(heads), int(heads.sum()), low, high)


def _over_time(coin: pl.Series) -> list[Tosses]:
    ends = [len(coin) * k // 10 for k in range(11)]
    return [
        _tosses(f"{10 * k}-{10 * (k + 1)} %", coin[low:high])
        for k, (low, high) in enumerate(pairwise(ends))
        if low < high
    ]


def _by(rows: pl.DataFrame) -> list[Tosses]:
    """By the column `group`, in its order."""
    groups = rows.partition_by("group", maintain_order=True)
    return [_tosses(str(one["group"][0]), one["bullet_points"]) for one in groups]
