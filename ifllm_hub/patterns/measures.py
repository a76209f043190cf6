"""What is measured of one reading: of an answer, of a pair of answers, of mouse and gaze together. One expression each.

Where the reward model's features measure the same thing, their expression is taken (`features.measures`). Ticks off the
text take no part. A value is null where it is not defined; what an answer that nobody looked at gets is declared.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import polars as pl

from ifllm_hub.features import measures as features
from ifllm_hub.features.measures import CELL, PAUSE_MS
from ifllm_hub.patterns.readings import PARTS, Readings
from ifllm_hub.terms import MODALITIES, SIDES

# Dwell below which the form of a path is not described, ms.
LEAST_MS = 2_000

Scope = Literal["answer", "pair", "both"]

_dt, _char, _length, _t, _elapsed, _read = (pl.col(name) for name in ("dt", "char", "length", "t", "elapsed", "read"))
_dwell = _dt.sum()
_has_path = _dwell >= LEAST_MS
_move = pl.col("move")
_reading = {measure.name: measure for measure in features.MEASURES}
_contrast = {measure.name: measure for measure in features.PER_QUESTION}


@dataclass(frozen=True)
class Measure:
    """One number about a reading.

    Attributes:
        name: unique among the measures.
        title: for figures and tables.
        unit: ms, char (code points), char/s, 1/min, bit, share, count, or a quotient of these.
        scope: "answer": one number an answer and modality; "pair": one a pair of answers and modality; "both": one an
            answer, of mouse and gaze together.
        formula: in words; the code is `expr`.
        expr: over the ticks of that answer or pair (`Readings.ticks`), or over the joint ticks of the answer.
        low, high: smallest and largest possible value; None: unbounded.
        scale: "log": its logarithm is modeled, where it is positive.
        unseen: of an answer that was not looked at while the other was; None: not defined then.
        source: where the measure is known from.
    """

    name: str
    title: str
    unit: str
    scope: Scope
    formula: str
    expr: pl.Expr
    low: float | None = 0.0
    high: float | None = None
    scale: Literal["linear", "log"] = "linear"
    unseen: float | None = None
    source: str = ""


def _known(name: str, title: str, scale: Literal["linear", "log"] = "linear", source: str = "") -> Measure:
    """A measure of an answer that is a feature, too."""
    one = _reading[name]
    # What a log is taken of is not 0.
    unseen = None if scale == "log" else one.unseen
    return Measure(name, title, one.unit, "answer", one.formula, one.expr, 0.0, one.high, scale, unseen, source)


def _when_path(expr: pl.Expr) -> pl.Expr:
    return pl.when(_has_path).then(expr)


# Position in the answer (share of its length) and in the time spent on it (share of the dwell), at each tick.
_place, _moment = _char / _length, (_elapsed + _dt / 2) / _read
_mean_place, _mean_moment = ((_dt * one).sum() / _dwell for one in (_place, _moment))
_cov = (_dt * (_place - _mean_place) * (_moment - _mean_moment)).sum()
_var_place, _var_moment = (
    (_dt * (one - mean) ** 2).sum() for one, mean in ((_place, _mean_place), (_moment, _mean_moment))
)
_slope = _cov / _var_moment
_moved = _move.clip(0).sum() + (-_move).clip(0).sum()


ANSWER = (
    _known("depth", "reached", source="scroll and gaze depth, Buscher et al. 2009"),
    Measure(
        "reach_time",
        "time to the furthest point",
        "ms",
        "answer",
        "time from the first tick on the answer to the first tick at its largest char index",
        _t.filter(_char == _char.max()).first() - _t.first(),
        scale="log",
    ),
    _known("coverage", "covered"),
    Measure(
        "skipped",
        "skipped",
        "share",
        "answer",
        f"{CELL}-character cells without a tick / cells up to the furthest one reached",
        1 - pl.col("cell").n_unique() / (pl.col("cell").max() + 1),
        high=1.0,
    ),
    _known("dwell", "dwell", "log"),
    _known("dwell_per_char", "dwell per character", "log"),
    Measure(
        "words_per_minute",
        "words a minute",
        "1/min",
        "answer",
        f"words of the answer x coverage / dwell, from {LEAST_MS:,} ms of dwell",
        _when_path(60_000 * pl.col("words").first() * _reading["coverage"].expr / _dwell),
        scale="log",
    ),
    _known("head_share", "dwell on the first third"),
    _known("tail_share", "dwell on the last third"),
    Measure(
        "first_screen_excess",
        "dwell on the first screen beyond its length",
        "share",
        "answer",
        "dwell on the text in view before scrolling / dwell - its length / length of the answer, if longer than "
        "the screen, whose size is estimated",
        pl.when((_dwell > 0) & (pl.col("first_screen").first() < _length.first())).then(
            _dt.filter(_char <= pl.col("first_screen")).sum() / _dwell
            - pl.col("first_screen").first() / _length.first()
        ),
        low=-1.0,
        high=1.0,
    ),
    _known("position_mean", "mean position"),
    _known("lookback_share", "re-reading", source="second-pass time, Rayner 1998"),
    Measure(
        "regression_rate",
        "moves back a minute",
        "1/min",
        "answer",
        f"moves back by more than {CELL} characters / dwell, from {LEAST_MS:,} ms of dwell",
        _when_path(60_000 * _reading["regressions"].expr / _dwell),
    ),
    Measure(
        "pause_share",
        "long stays",
        "share",
        "answer",
        f"dwell in dwell runs of at least {PAUSE_MS} ms / dwell",
        pl.when(_dwell > 0).then(_reading["pause_dwell"].expr / _dwell),
        high=1.0,
    ),
    Measure(
        "path_slope",
        "slope of the path",
        "share/share",
        "answer",
        "least-squares slope of the position in the answer on the share of the dwell spent on it so far, weighted by "
        f"dt; 1 if read once at a constant pace to its end; from {LEAST_MS:,} ms of dwell",
        _when_path(pl.when(_var_moment > 0).then(_slope)),
        low=None,
        source="linear reading order, Busjahn et al. 2015",
    ),
    Measure(
        "path_residual",
        "scatter of the path",
        "share",
        "answer",
        f"standard deviation of the position about that line; from {LEAST_MS:,} ms of dwell",
        _when_path(pl.when(_var_moment > 0).then(((_var_place - _cov**2 / _var_moment).clip(0) / _dwell).sqrt())),
        high=0.5,
    ),
    Measure(
        "forward_share",
        "forward moves",
        "share",
        "answer",
        f"characters moved forward / characters moved, within visits; 1 if monotone; from {LEAST_MS:,} ms of dwell",
        _when_path(pl.when(_moved > 0).then(_move.clip(0).sum() / _moved)),
        high=1.0,
        source="linear reading order, Busjahn et al. 2015",
    ),
    Measure(
        "dwell_entropy",
        "entropy of dwell",
        "bit",
        "answer",
        f"Shannon entropy of the shares of dwell on {PARTS} equal parts of the answer; from {LEAST_MS:,} ms of dwell",
        # Over parts, the sum of D log D is that over ticks of dt log D.
        _when_path((_dwell.log(2) - (_dt * pl.col("part_dwell").clip(1).log(2)).sum() / _dwell).clip(0)),
        high=3.3219280948873626,  # log2 of the parts
        source="stationary gaze entropy, Krejtz et al. 2015",
    ),
    Measure(
        "transition_entropy",
        "entropy of transitions",
        "bit",
        "answer",
        f"entropy of the next of {PARTS} equal parts of the answer given the one before, over the changes of part; "
        f"0 if each part is always left for the same one; from {LEAST_MS:,} ms of dwell",
        _when_path(pl.col("surprise").mean()),
        high=3.169925001442312,  # log2 of the other parts
        source="gaze transition entropy, Krejtz et al. 2015",
    ),
    _known("visits", "visits", "log"),
)

_time_share = (_dt * (pl.col("side") == SIDES[0])).sum() / _dwell
_longest_stays = pl.sum_horizontal(
    pl.col("stay_dwell").filter(pl.col("side") == side).max().fill_null(0) for side in SIDES
)

PAIR = (
    Measure(
        "left_first",
        "first on the left",
        "share",
        "pair",
        "1 if the first tick on text is on the left answer, 0 if on the right",
        (pl.col("side").first() == SIDES[0]).cast(pl.Float64),
        high=1.0,
    ),
    Measure(
        "switches",
        "switches",
        "count",
        "pair",
        _contrast["switches"].formula,
        _contrast["switches"].expr,
        scale="log",
        source="comparison of options, Krajbich et al. 2010",
    ),
    Measure(
        "switch_rate",
        "switches a minute",
        "1/min",
        "pair",
        f"changes of side / dwell on both, from {LEAST_MS:,} ms of dwell",
        _when_path(60_000 * _contrast["switches"].expr / _dwell),
    ),
    Measure(
        "alternation",
        "alternation",
        "share",
        "pair",
        "1 - (longest stay on the left + longest stay on the right) / dwell on both; 0 if one answer was read after "
        f"the other; from {LEAST_MS:,} ms of dwell",
        _when_path(1 - _longest_stays / _dwell),
        high=1.0,
    ),
    Measure(
        "first_stay_share",
        "dwell before the first switch",
        "share",
        "pair",
        _contrast["first_stay_share"].formula,
        _contrast["first_stay_share"].expr,
        high=1.0,
    ),
    Measure(
        "left_time_share",
        "dwell on the left",
        "share",
        "pair",
        "dwell on the left answer / dwell on both",
        pl.when(_dwell > 0).then(_time_share),
        high=1.0,
    ),
    Measure(
        "left_excess",
        "dwell on the left beyond its length",
        "share",
        "pair",
        "dwell on the left answer / dwell on both - its length / both lengths",
        pl.when(_dwell > 0).then(_time_share - pl.col("length_share").first()),
        low=-1.0,
        high=1.0,
    ),
)

_same = pl.col("gaze_side") == pl.col("mouse_side")
_together = _dt.filter(_same).sum()

BOTH = (
    Measure(
        "gap",
        "distance of mouse and gaze",
        "char",
        "both",
        "dwell-weighted mean distance of the two char indices while both are on this answer, from "
        f"{LEAST_MS:,} ms of that",
        pl.when(_together >= LEAST_MS).then(
            ((pl.col("gaze_char") - pl.col("mouse_char")).abs() * _dt).filter(_same).sum() / _together
        ),
        scale="log",
        source="gaze-cursor distance, Huang et al. 2012",
    ),
    Measure(
        "same_answer",
        "on the same answer",
        "share",
        "both",
        "time with the mouse on this answer and the gaze on it, too / time with the mouse on it and the gaze on any "
        f"text; of two answers, from {LEAST_MS:,} ms of that",
        pl.when((_dwell >= LEAST_MS) & pl.col("rival_length").first().is_not_null()).then(_together / _dwell),
        high=1.0,
    ),
)

MEASURES = (*ANSWER, *PAIR, *BOTH)
BY_NAME = {measure.name: measure for measure in MEASURES}
# Rows of `measured` are sorted by these.
_ORDER = ("question_id", "side", "modality", "measure")


def measured(readings: Readings) -> pl.DataFrame:
    """Every measure of every reading, in long format.

    Returns:
        `question_id`, `worker_id`, `conversation_id`, `task_id`, `turn`, `mode`, `schema_version`, `bullet_points`,
        `side` (null for measures of a pair), `length` (Int64, code points: of the answer or of both), `rival_length`
        (Int64; null for a pair), `modality` ("mouse", "gaze" or "both"), `measure` and `value` (Float64, never null:
        what is not defined has no row), sorted.

    Examples:
        >>> from ifllm_hub.patterns.measures import measured
        >>> from ifllm_hub.patterns.readings import load_readings
        >>> table = measured(load_readings("ifllm"))
        >>> table.filter(measure="coverage", modality="mouse").height
        77
    """
    answer = ["question_id", "side"]
    of_answer = readings.answers.select(*answer, "length", "rival_length")
    parts = []
    for modality in MODALITIES:
        ticks = readings.ticks[modality]
        wide = ticks.group_by(answer).agg(measure.expr.cast(pl.Float64).alias(measure.name) for measure in ANSWER)
        seen = of_answer.join(ticks.select("question_id").unique(), on="question_id", how="semi")
        wide = seen.join(wide, on=answer, how="left").with_columns(
            pl.col(measure.name).fill_null(pl.lit(measure.unseen, pl.Float64))
            if measure.unseen is not None
            else measure.name
            for measure in ANSWER
        )
        parts += [_long(wide, ANSWER, modality), _long(_of_pairs(ticks, of_answer), PAIR, modality)]
    together = readings.joint.join(
        of_answer, left_on=["question_id", "mouse_side"], right_on=answer, maintain_order="left"
    )
    wide = together.group_by("question_id", side="mouse_side").agg(
        pl.first("length", "rival_length"), *(measure.expr.cast(pl.Float64).alias(measure.name) for measure in BOTH)
    )
    parts.append(_long(wide, BOTH, "both"))
    about = readings.questions.select(
        "question_id", "worker_id", "conversation_id", "task_id", "turn", "mode", "schema_version", "bullet_points"
    )
    rows = about.join(pl.concat(parts), on="question_id")
    return rows.sort(_ORDER, nulls_last=True)


def _of_pairs(ticks: pl.DataFrame, answers: pl.DataFrame) -> pl.DataFrame:
    """The measures of pairs of answers, a row a question, with the length of both."""
    both = pl.col("length") + pl.col("rival_length")
    pairs = answers.filter((pl.col("side") == SIDES[0]) & pl.col("rival_length").is_not_null()).select(
        "question_id", both=both, length_share=pl.when(both > 0).then(pl.col("length") / both)
    )
    stays = ticks.join(pairs, on="question_id", maintain_order="left").with_columns(
        stay_dwell=_dt.sum().over("question_id", "stay")
    )
    wide = stays.group_by("question_id").agg(
        pl.first("both"), *(measure.expr.cast(pl.Float64).alias(measure.name) for measure in PAIR)
    )
    return wide.select(
        "question_id",
        pl.lit(None, pl.String).alias("side"),
        pl.col("both").alias("length"),
        pl.lit(None, pl.Int64).alias("rival_length"),
        *(measure.name for measure in PAIR),
    )


def _long(wide: pl.DataFrame, of: Sequence[Measure], modality: str) -> pl.DataFrame:
    index = ["question_id", "side", "length", "rival_length"]
    long = wide.unpivot([measure.name for measure in of], index=index, variable_name="measure")
    return long.filter(pl.col("value").is_not_null() & pl.col("value").is_finite()).select(
        *index, pl.lit(modality).alias("modality"), "measure", "value"
    )
