"""Trajectories -> features: the same function for a chunk, a whole dataset, or one recorded question."""

from functools import reduce

import polars as pl

from ifllm_hub.features.catalogue import CATALOGUE, DWELL_FLOOR_MS, names
from ifllm_hub.features.measures import MEASURES
from ifllm_hub.features.ticks import MODALITIES, SIDES, all_ticks, on_text


def extract_features(trajectories: pl.DataFrame) -> pl.DataFrame:
    """All features of the catalogue.

    Args:
        trajectories: rows of the `trajectories` config (also with empty lists: such a question has text features only).
            Pointwise questions have a null `length_right`.

    Returns:
        `question_id` and one Float64 column a feature, in the order of the input. Null means not defined: the modality
        was never on an answer's text, or there is no second answer.
    """
    lengths = trajectories.select("question_id", "length_left", "length_right", "length_query")
    ticks = all_ticks(trajectories)
    parts = [_text(lengths)]
    for modality in MODALITIES:
        reading = on_text(ticks, lengths, modality)
        parts += [_per_side(reading, lengths, modality), _per_question(reading, ticks, lengths, modality)]
    parts.append(_cross(ticks, lengths))

    def join(left: pl.DataFrame, right: pl.DataFrame) -> pl.DataFrame:
        return left.join(right, on="question_id", how="left", maintain_order="left")

    wide = reduce(join, parts, lengths.select("question_id"))
    return wide.select("question_id", pl.col(names(CATALOGUE)).cast(pl.Float64))


def _text(lengths: pl.DataFrame) -> pl.DataFrame:
    # An empty answer counts as one character, so that its ratio to the other stays finite.
    left, right = (pl.col(f"length_{side}").cast(pl.Float64).clip(1) for side in SIDES)
    return lengths.select(
        "question_id",
        "length_left",
        "length_right",
        "length_query",
        # A difference of logs changes sign exactly when the sides are swapped; the log of a quotient does not.
        length_log_ratio=left.log() - right.log(),
        length_log_sum=(left + right).log(),
    )


def _per_side(reading: pl.DataFrame, lengths: pl.DataFrame, modality: str) -> pl.DataFrame:
    reading = reading.with_columns(visit_dwell=pl.col("dt").sum().over("question_id", "visit"))
    measured = reading.group_by("question_id", "side").agg(
        measure.expr.cast(pl.Float64).alias(f"{modality}_{measure.name}") for measure in MEASURES
    )
    stems = [f"{modality}_{measure.name}" for measure in MEASURES]
    seen = measured.select("question_id").unique()
    pairwise = lengths.filter(pl.col("length_right").is_not_null()).select("question_id", pairwise=True)
    wide = seen.join(pairwise, on="question_id", how="left")
    for side in SIDES:
        one = measured.filter(pl.col("side") == side).drop("side")
        named = one.rename({stem: f"{stem}_{side}" for stem in stems})
        wide = wide.join(named, on="question_id", how="left")
    unseen = [
        pl.when(pl.lit(True) if side == "left" else pl.col("pairwise"))
        .then(pl.col(f"{modality}_{measure.name}_{side}").fill_null(measure.unseen))
        .alias(f"{modality}_{measure.name}_{side}")
        for measure in MEASURES
        if measure.unseen is not None
        for side in SIDES
    ]
    log_dwells = [(pl.col(f"{modality}_dwell_{side}") + DWELL_FLOOR_MS).log() for side in SIDES]
    return (
        wide.with_columns(unseen)
        .with_columns(
            *((pl.col(f"{stem}_left") - pl.col(f"{stem}_right")).alias(f"{stem}_diff") for stem in stems),
            (log_dwells[0] - log_dwells[1]).alias(f"{modality}_dwell_log_ratio"),
        )
        .drop("pairwise")
    )


def _per_question(reading: pl.DataFrame, ticks: pl.DataFrame, lengths: pl.DataFrame, modality: str) -> pl.DataFrame:
    side = pl.when(pl.col("side") == "left").then(1).otherwise(-1)
    duration = ticks.group_by("question_id").agg(duration=pl.col("dt").sum())
    pairwise = lengths.filter(pl.col("length_right").is_not_null()).select("question_id", pairwise=True)
    ordered = (
        reading.with_columns(sign=side)
        .group_by("question_id", maintain_order=True)
        .agg(
            first=pl.col("sign").first(),
            last=pl.col("sign").last(),
            switches=(pl.col("sign") != pl.col("sign").shift(1)).sum(),
            dwell=pl.col("dt").sum(),
        )
    )
    of_two = [
        pl.when("pairwise").then(name).alias(f"{modality}_{feature}")
        for name, feature in (("first", "first_side"), ("last", "last_side"), ("switches", "switches"))
    ]
    return (
        ordered.join(duration, on="question_id", how="left")
        .join(pairwise, on="question_id", how="left")
        .select(
            "question_id",
            *of_two,
            pl.when(pl.col("duration") > 0).then(pl.col("dwell") / pl.col("duration")).alias(f"{modality}_on_text"),
        )
    )


def _cross(ticks: pl.DataFrame, lengths: pl.DataFrame) -> pl.DataFrame:
    both = ticks.filter(pl.col("gaze_side").is_not_null() & pl.col("mouse_side").is_not_null()).join(
        lengths, on="question_id", how="left"
    )
    same = pl.col("gaze_side") == pl.col("mouse_side")
    gap = (pl.col("gaze_char") - pl.col("mouse_char")).abs() * pl.col("dt")

    def of(side: str) -> pl.Expr:
        return gap.filter(same & (pl.col("mouse_side") == side)).sum() / pl.col(f"length_{side}").first().clip(1)

    together = pl.col("dt").filter(same).sum()
    # Summed per side first: the two sums swap with the sides, and their total stays the same to the bit.
    total = of("left") + pl.when(pl.col("length_right").first().is_not_null()).then(of("right")).otherwise(0.0)
    return both.group_by("question_id").agg(
        gaze_mouse_same_side=pl.when((pl.col("dt").sum() > 0) & pl.col("length_right").first().is_not_null()).then(
            together / pl.col("dt").sum()
        ),
        gaze_mouse_gap=pl.when(together > 0).then(total / together),
    )
