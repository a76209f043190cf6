"""The paper's features: its formulas, applied to a table of ticks from any source.

Two sources make such a table: `trajectory_ticks` from the `trajectories` config (the corrected features, what users of
the dataset have), and `reference.py` from the raw release, with the parsing and matching of the paper's code ("the
reference"), whose formulas these are (docs/format.md 7.2 to 7.4). They give null wherever a quantity is not defined;
the zeros that the reference writes there are filled in by `reference.py`.

A tick of this table is one line of one file: one modality's position against one answer's panel.
`question_id` (Int64; whose reading it is, null if nobody's), `shown_id` (Int64; whose answer is on screen, null before
the first), `conversation_id` (String), `modality`, `side` (Enum), `t` (Float64, ms, one clock per conversation or
question), `on_panel` (Boolean), `char` (Int64, offset into the answer; -1 off the text), `face_ok` (Boolean or null).
"""

from functools import reduce

import polars as pl

from eval.reproduction.lists import PAPER_COMPARE, PAPER_PAIRWISE

MODALITIES, SIDES = ("gaze", "mouse"), ("left", "right")
MODALITY, SIDE = pl.Enum(MODALITIES), pl.Enum(SIDES)
# Of a longer pause between two ticks on a panel, only this much counts as engagement, ms.
_MAX_STEP = 1_000
_WINDOWS = 20
# Added to a denominator to keep the ratio finite; the value at which a ratio is capped.
_EPSILON, _MAX_RATIO = 0.001, 100.0

_ANSWER = {"left": "A", "right": "B"}


def paper_features(trajectories: pl.DataFrame) -> pl.DataFrame:
    """The paper's 50 pairwise features, corrected: from each question's own ticks, validated against the text of its
    answers.

    What the config does not hold is replaced by the nearest thing it does hold: a tick is on a panel when it is on that
    panel's text, every tick of a question counts as an entry of each of its panels, and `char` is the validated offset.

    Args:
        trajectories: rows of the `trajectories` config; pointwise questions are skipped.

    Returns:
        `question_id` and `PAPER_PAIRWISE` as Float64, in the order of the input. A modality that was never on either
        answer's text is null throughout (but for its `total_entries`), as are positions on an answer never read.
    """
    pairs = trajectories.filter(pl.col("length_right").is_not_null())
    base = blank_unseen(measure_pairwise(trajectory_ticks(pairs), _lengths(pairs), "question_id"))
    return derive_pairwise(base).select("question_id", *PAPER_PAIRWISE)


def compare_features(trajectories: pl.DataFrame, pointwise: pl.DataFrame) -> pl.DataFrame:
    """The paper's 50 features of an answer against the one before it in the same conversation, corrected.

    Args:
        trajectories: rows of the `trajectories` config; pairwise questions are skipped.
        pointwise: rows of the `pointwise` config (their conversations and dates).

    Returns:
        `question_id` and `PAPER_COMPARE` as Float64, one row per question with a date, sorted by conversation and
        question; the `prev_` columns of a conversation's first question are null. There are no ticks before the first
        answer, so "composing" of a first question begins when its answer appears.
    """
    placed = pointwise.select("question_id", "conversation_id", asked=pl.col("asked_at").dt.epoch("ms"))
    singles = trajectories.join(placed.drop_nulls(), on="question_id", maintain_order="left")
    ticks = trajectory_ticks(singles).drop("conversation_id")
    ticks = ticks.join(singles.select("question_id", "conversation_id", "asked"), on="question_id")
    ticks = ticks.with_columns(t=pl.col("t") + pl.col("asked")).drop("asked")
    questions = _lengths(singles).with_columns(singles["conversation_id"])
    base = blank_unseen(measure_pointwise(ticks, questions))
    return with_previous(derive_pointwise(base)).select("question_id", *PAPER_COMPARE)


def trajectory_ticks(trajectories: pl.DataFrame) -> pl.DataFrame:
    """The tick table of the `trajectories` config: one row per tick, modality and answer; `t` starts at the answer."""
    parts = []
    for side in SIDES:
        shown = trajectories.filter((pl.col(f"length_{side}").is_not_null()) & (pl.col("t").list.len() > 0))
        for modality in MODALITIES:
            char = pl.col(f"{modality}_char_{side}")
            ticks = shown.select("question_id", "t", "face_ok", char=char).explode(
                "t", "face_ok", "char", empty_as_null=False
            )
            parts.append(
                ticks.select(
                    "question_id",
                    shown_id="question_id",
                    conversation_id=pl.col("question_id").cast(pl.String),
                    modality=pl.lit(modality, MODALITY),
                    side=pl.lit(side, SIDE),
                    t=pl.col("t").cast(pl.Float64),
                    on_panel=pl.col("char") >= 0,
                    char=pl.col("char").cast(pl.Int64),
                    face_ok="face_ok",
                )
            )
    return pl.concat(parts)


def _lengths(trajectories: pl.DataFrame) -> pl.DataFrame:
    return trajectories.select("question_id", "length_left", "length_right", "length_query")


def measure_pairwise(ticks: pl.DataFrame, questions: pl.DataFrame, timeline: str) -> pl.DataFrame:
    """The counts and measures of pairs, before anything is compared.

    Args:
        ticks: the tick table.
        questions: `question_id`, `length_left`, `length_right`, `length_query` (code points) and, if that is the
            timeline, `conversation_id`.
        timeline: what one reviewing phase spans: "conversation_id" (the reference) or "question_id".

    Returns:
        The questions with one column per measure, null where not defined; the input of `derive_pairwise`.
    """
    wide = _counted(ticks, questions, SIDES)
    phases = _pairwise_phases(ticks, timeline)
    for modality in MODALITIES:
        shared = {"which_side_read_further": f"{modality}_comparison_which_side_read_further"}
        one = phases.filter(pl.col("modality") == modality).drop("modality")
        named = {f"{stem}_{side}": f"{modality}_{side}_reviewing_{stem}" for stem in _PHASE_STEMS for side in SIDES}
        wide = wide.join(one.rename(named | shared), on=timeline, how="left", maintain_order="left")
    return wide


def measure_pointwise(ticks: pl.DataFrame, questions: pl.DataFrame) -> pl.DataFrame:
    """The counts and measures of single answers; see `measure_pairwise`. Questions need `conversation_id`."""
    wide = _counted(ticks, questions, SIDES[:1])
    phases = _pointwise_phases(ticks)
    for modality in MODALITIES:
        one = phases.filter(pl.col("modality") == modality).drop("modality")
        named = one.select("question_id", pl.exclude("question_id").name.prefix(f"{modality}_"))
        wide = wide.join(named, on="question_id", how="left", maintain_order="left")
    return wide


def derive_pairwise(base: pl.DataFrame) -> pl.DataFrame:
    """Add the columns that compare measures with one another; all but ids and names become Float64."""
    derived = {}
    for modality in MODALITIES:
        time, active = (
            [pl.col(f"{modality}_{side}_reviewing_{stem}") for side in SIDES]
            for stem in ("engaged_time_s", "active_ratio")
        )
        derived[f"{modality}_comparison_reviewing_time_ratio"] = _ratio(*time)
        derived[f"{modality}_comparison_reviewing_time_diff"] = time[0] - time[1]
        derived[f"{modality}_comparison_reviewing_activity_ratio"] = _ratio(*active)
    for side in SIDES:
        both = (pl.col(f"{modality}_{side}_reviewing_engaged_time_s") for modality in MODALITIES)
        derived[f"cross_modality_{side}_reviewing_duration_ratio_gaze_mouse"] = _ratio(*both)
    return _floats(base.with_columns(*_depth(SIDES), **derived))


def derive_pointwise(base: pl.DataFrame) -> pl.DataFrame:
    """The same for single answers."""
    derived = {}
    for modality in MODALITIES:
        duration, active, offscreen = (
            [pl.col(f"{modality}_{phase}_{stem}") for phase in ("reviewing", "composing")]
            for stem in ("duration_s", "active_ratio", "offscreen_ratio")
        )
        whole = duration[0] + duration[1]
        lookback = pl.col(f"{modality}_composing_lookback_ratio")
        for i, phase in enumerate(("reviewing", "composing")):
            derived[f"{modality}_{phase}_pct"] = _share(duration[i], whole) * 100
            derived[f"{modality}_active_time_{phase}_s"] = duration[i] * active[i]
            derived[f"{modality}_offscreen_time_{phase}_s"] = duration[i] * offscreen[i]
        derived[f"{modality}_reviewing_composing_duration_ratio"] = _ratio(*duration)
        derived[f"{modality}_reviewing_composing_activity_ratio"] = _ratio(*active)
        derived[f"{modality}_composing_reviewing_activity_diff"] = active[1] - active[0]
        derived[f"{modality}_offscreen_increase"] = offscreen[1] - offscreen[0]
        derived[f"{modality}_lookback_time_s"] = duration[1] * lookback
    for phase in ("reviewing", "composing"):
        for name, stem in (("duration", "duration_s"), ("activity", "active_ratio")):
            both = (pl.col(f"{modality}_{phase}_{stem}") for modality in MODALITIES)
            derived[f"cross_modality_{phase}_{name}_ratio_gaze_mouse"] = _ratio(*both)
    return _floats(base.with_columns(*_depth(SIDES[:1]), **derived))


def with_previous(features: pl.DataFrame) -> pl.DataFrame:
    """Add `prev_<name>` for every column: the value at the question before in the same conversation, or null."""
    values = pl.exclude("question_id", "conversation_id")
    ordered = features.sort("conversation_id", "question_id")
    return ordered.with_columns(values.shift(1).over("conversation_id").name.prefix("prev_"))


def _depth(sides: tuple[str, ...]) -> list[pl.Expr]:
    """How far into the answer: the largest char offset over the answer's length."""
    return [
        (pl.col(f"{modality}_max_idx_{side}") / pl.col(f"response_length_{side}")).alias(
            f"{modality}_max_idx_ratio_{side}"
        )
        for modality in MODALITIES
        for side in sides
    ]


def _floats(features: pl.DataFrame) -> pl.DataFrame:
    return features.with_columns(pl.exclude("question_id", "conversation_id").cast(pl.Float64))


def blank_unseen(base: pl.DataFrame) -> pl.DataFrame:
    """Set to null whatever was measured by a modality that was never on either answer's text."""
    blanked = []
    for modality in MODALITIES:
        deepest = [name for name in base.columns if name.startswith(f"{modality}_max_idx_")]
        seen = pl.any_horizontal(pl.col(deepest).is_not_null())
        names = [name for name in base.columns if modality in name and "total_entries" not in name]
        blanked.append(pl.when(seen).then(pl.col(names)))
    return base.with_columns(blanked)


def _counted(ticks: pl.DataFrame, questions: pl.DataFrame, sides: tuple[str, ...]) -> pl.DataFrame:
    """Counts of what was on screen and measures of reading, by answer and modality, one row per question."""
    shown, read = _entries(ticks), _reading(ticks)
    parts = [questions]
    for modality in MODALITIES:
        for side in sides:
            here = (pl.col("modality") == modality) & (pl.col("side") == side)
            counts = shown.filter(here).select(
                pl.col("shown_id").alias("question_id"),
                *(pl.col(stem).alias(f"{modality}_{stem}_{side}") for stem in _ENTRY_STEMS),
            )
            measures = pl.exclude("question_id", "modality", "side").name.prefix(
                f"response_{_ANSWER[side]}_{modality}_"
            )
            parts += [counts, read.filter(here).select("question_id", measures)]

    def join(left: pl.DataFrame, right: pl.DataFrame) -> pl.DataFrame:
        return left.join(right, on="question_id", how="left", maintain_order="left")

    wide = reduce(join, parts)
    green = [f"gaze_green_{side}" for side in sides]
    known = pl.any_horizontal(pl.col(green).is_not_null())
    return wide.with_columns(
        *_over_length(wide, sides),
        camera_green=pl.when(known).then(pl.sum_horizontal(green)),
        user_query_length="length_query",
        **{f"response_length_{side}": f"length_{side}" for side in sides},
    ).drop(green, *(f"mouse_green_{side}" for side in sides))


def _over_length(wide: pl.DataFrame, sides: tuple[str, ...]) -> list[pl.Expr]:
    """Divide the char offsets of reading by the answer's length, and their variance by its square."""
    exprs = []
    for side in sides:
        for modality in MODALITIES:
            prefix = f"response_{_ANSWER[side]}_{modality}_"
            positions = [n for n in wide.columns if n.startswith((f"{prefix}window_", f"{prefix}normalized_avg"))]
            exprs.append(pl.col(positions) / pl.col(f"length_{side}"))
            exprs.append(pl.col(f"{prefix}normalized_char_position_variance") / pl.col(f"length_{side}") ** 2)
    return exprs


_ENTRY_STEMS = ("total_entries", "onscreen_points", "max_idx", "green")


def _entries(ticks: pl.DataFrame) -> pl.DataFrame:
    on_text = pl.col("char") >= 0
    flags = pl.col("face_ok")
    return (
        ticks.filter(pl.col("shown_id").is_not_null())
        .group_by("shown_id", "modality", "side")
        .agg(
            total_entries=pl.len(),
            onscreen_points=pl.col("on_panel").sum(),
            max_idx=pl.col("char").filter(on_text).max(),
            green=pl.when(flags.is_not_null().any()).then(flags.sum()),
        )
    )


def _reading(ticks: pl.DataFrame) -> pl.DataFrame:
    """Uses only sums of integers and of sorted times, so the result does not depend on the order of the ticks."""
    key = ["question_id", "modality", "side"]
    on_text = pl.col("on_panel") & (pl.col("char") >= 0)
    t, char = pl.col("t"), pl.col("char").filter(on_text)
    n, total, squares = on_text.sum().cast(pl.Int64), char.sum(), (char * char).sum()
    own = ticks.filter(pl.col("question_id").is_not_null())
    bounds = own.group_by(key).agg(
        begin=t.filter(on_text).min(), span=t.filter(on_text).max() - t.filter(on_text).min()
    )
    # Divided by NumPy: Polars would multiply by the reciprocal, and the last bit decides whether the last tick still
    # falls into the last window.
    bounds = bounds.with_columns(width=pl.Series(bounds["span"].to_numpy() / _WINDOWS))
    begin, span, width = (pl.col(name) for name in ("begin", "span", "width"))
    windows = {
        f"window_{i:03d}": _mean(pl.col("char"), on_text & (t >= begin + i * width) & (t < begin + (i + 1) * width))
        for i in range(_WINDOWS)
    }
    return (
        own.join(bounds, on=key)
        .group_by(key)
        .agg(
            focused_engagement_ratio=_share(_engaged(on_text), span.first()),
            overall_attention_ratio=on_text.mean(),
            normalized_avg_char_position=_share(total, n),
            normalized_char_position_variance=_share(n * squares - total * total, n * (n - 1)),
            **windows,
        )
    )


def _mean(values: pl.Expr, where: pl.Expr) -> pl.Expr:
    return _share(values.filter(where).sum(), where.sum())


def _engaged(where: pl.Expr) -> pl.Expr:
    """Time between consecutive ticks that satisfy `where`, with pauses capped, ms."""
    return pl.col("t").filter(where).sort().diff().clip(upper_bound=_MAX_STEP).sum()


_PHASE_STEMS = ("engaged_time_s", "engaged_pct", "active_ratio", "onscreen_ratio", "offscreen_ratio")


def _pairwise_phases(ticks: pl.DataFrame, timeline: str) -> pl.DataFrame:
    """Reviewing: up to the last tick on either answer's text. Null where a modality read no answer."""
    key = [timeline, "modality"]
    on_text = pl.col("char") >= 0
    spans = (
        ticks.filter(pl.col(timeline).is_not_null())
        .group_by(key)
        .agg(
            start=pl.col("t").min(),
            end=pl.col("t").max(),
            boundary=pl.col("t").filter(on_text).max(),
            read=(on_text & pl.col("question_id").is_not_null()).any(),
        )
        .filter("read")
    )
    reviewing = ticks.join(spans, on=key).filter(pl.col("t") < pl.col("boundary"))
    aggs, derived = {}, {}
    total, duration = ((pl.col(end) - pl.col("start")) / 1_000 for end in ("end", "boundary"))
    for side in SIDES:
        here = pl.col("side") == side
        panel = here & pl.col("on_panel")
        aggs[f"engaged_time_s_{side}"] = _engaged(panel) / 1_000
        aggs[f"onscreen_ratio_{side}"] = _share(panel.sum(), here.sum())
        aggs[f"furthest_{side}"] = pl.col("char").filter(panel).max()
        engaged = pl.col(f"engaged_time_s_{side}").fill_null(0)
        derived[f"engaged_time_s_{side}"] = engaged
        derived[f"engaged_pct_{side}"] = _share(engaged, total) * 100
        derived[f"active_ratio_{side}"] = _share(engaged, duration)
        derived[f"offscreen_ratio_{side}"] = 1 - pl.col(f"onscreen_ratio_{side}")
    further = pl.col("furthest_left").fill_null(0) - pl.col("furthest_right").fill_null(0)
    return (
        spans.join(reviewing.group_by(key).agg(**aggs), on=key, how="left")
        .with_columns(**derived, which_side_read_further=further.sign())
        .drop("start", "end", "boundary", "read", "furthest_left", "furthest_right")
    )


def _pointwise_phases(ticks: pl.DataFrame) -> pl.DataFrame:
    """Composing: from the last tick on the previous answer's text to the first on this one's; reviewing: from there
    to the last, and in the last question to the end of the recording. Ticks of a phase may be off all text."""
    key = ["conversation_id", "modality"]
    own = [*key, "question_id"]
    on_text = pl.col("char") >= 0
    spans = (
        ticks.filter(pl.col("question_id").is_not_null())
        .group_by(own)
        .agg(
            first=pl.col("t").min(),
            reads_from=pl.col("t").filter(on_text).min(),
            reads_to=pl.col("t").filter(on_text).max(),
        )
        .sort(*key, "first", "question_id")
        .with_columns(previous=pl.col("question_id").shift(1).over(key), last=_is_last().over(key))
        .filter(pl.col("reads_from").is_not_null())
    )
    times = ticks.select(*key, "t", "on_panel", "char", on_text=on_text, of="question_id")
    whole = times.group_by(key).agg(begin=pl.col("t").min(), end=pl.col("t").max())
    before = (pl.col("of") == pl.col("previous")) & pl.col("on_text") & (pl.col("t") < pl.col("reads_from"))
    left_off = spans.join(times, on=key).group_by(own).agg(left_off=pl.col("t").filter(before).max())
    bounded = (
        spans.join(left_off, on=own)
        .join(whole, on=key)
        .with_columns(
            composes_from=pl.when(pl.col("previous").is_null())
            .then("begin")
            .otherwise(pl.coalesce("left_off", "reads_from")),
            reviews_to=pl.when("last").then("end").otherwise("reads_to"),
        )
    )
    t, on_panel, text = pl.col("t"), pl.col("on_panel"), pl.col("on_text")
    reviewing = (t >= pl.col("reads_from")) & (t <= pl.col("reviews_to"))
    composing = (t >= pl.col("composes_from")) & (t < pl.col("reads_from"))
    long = bounded.join(times, on=key).group_by(own)
    return long.agg(
        reviewing_duration_s=(pl.col("reviews_to") - pl.col("reads_from")).first() / 1_000,
        composing_duration_s=(pl.col("reads_from") - pl.col("composes_from")).first() / 1_000,
        max_char_position_reached=pl.col("char").filter(reviewing & text).max(),
        reviewing_active_ratio=_share((reviewing & on_panel).sum(), reviewing.sum()),
        composing_active_ratio=_share((composing & on_panel).sum(), composing.sum()),
        composing_lookback_ratio=_share((composing & text).sum(), composing.sum()),
        reviewing_offscreen_ratio=_share((reviewing & ~on_panel).sum(), reviewing.sum()),
        composing_offscreen_ratio=_share((composing & ~on_panel).sum(), composing.sum()),
    ).drop("conversation_id")


def _is_last() -> pl.Expr:
    return pl.int_range(pl.len()) == pl.len() - 1


def _share(part: pl.Expr, whole: pl.Expr) -> pl.Expr:
    return pl.when(whole > 0).then(part / whole)


def _ratio(numerator: pl.Expr, denominator: pl.Expr) -> pl.Expr:
    return (numerator / (denominator + _EPSILON)).clip(upper_bound=_MAX_RATIO)
