"""Trajectories -> features: the same function for a chunk, a whole dataset, or one recorded question."""

from collections.abc import Iterator, Mapping, Sequence
from functools import reduce

import polars as pl

from ifllm_hub.features.catalog import CATALOG, DWELL_FLOOR_MS, LOG_RATIO_FLOORS, names
from ifllm_hub.features.measures import MEASURES, PER_QUESTION, Measure
from ifllm_hub.features.ticks import all_ticks, in_context, on_text
from ifllm_hub.features.viewport import VIEWPORT_FLOORS, VIEWPORT_MEASURES, on_screen
from ifllm_hub.terms import MODALITIES, SIDES

# More ticks at once need 300 bytes each and are slower by cache misses; fewer are slower by the fixed cost of a call.
TICKS = 400_000


def extract_features(trajectories: pl.DataFrame, ticks: int = TICKS) -> pl.DataFrame:
    """All features of the catalog.

    Each row depends on its question alone.

    Args:
        trajectories: rows of the `trajectories` config; where the lists are empty, there are text features only. The
            columns of the viewport may be missing. Pointwise questions have a null `length_right`.
        ticks: in memory at a time, in whole rows; results do not depend on it.

    Returns:
        `question_id` and one Float64 column per feature, rows in the order of the input. Null means not defined: the
        modality was never on an answer's text (in the viewport: there was none of it), or there is no second answer.

    Examples:
        >>> from ifllm_hub.dataset.load import load_config
        >>> from ifllm_hub.features.extract import extract_features
        >>> features = extract_features(load_config("ifllm", "trajectories"))
        >>> features.drop_nulls("mouse_dwell_log_ratio")["mouse_dwell_log_ratio"].head(2).round(2).to_list()
        [-0.95, -1.76]
    """
    return pl.concat(map(_extract, _slices(trajectories, ticks)), rechunk=True)


def _slices(trajectories: pl.DataFrame, ticks: int) -> Iterator[pl.DataFrame]:
    """Runs of rows that have at most so many ticks together, or are a single row; one run of no rows for none."""
    start, held = 0, 0
    for row, more in enumerate(trajectories["t"].list.len().fill_null(0)):
        if held + more > ticks and row > start:
            yield trajectories[start:row]
            start, held = row, 0
        held += more
    yield trajectories[start:]


def _extract(trajectories: pl.DataFrame) -> pl.DataFrame:
    lengths = trajectories.select("question_id", "length_left", "length_right", "length_query")
    pairwise = lengths.select("question_id", pairwise=pl.col("length_right").is_not_null())
    ticks = all_ticks(trajectories)
    durations = ticks.group_by("question_id").agg(duration=pl.col("dt").sum())
    parts = [_text(lengths)]
    for modality in MODALITIES:
        reading = in_context(on_text(ticks, lengths, modality))
        parts += [
            _per_side(reading, pairwise, modality, MEASURES, LOG_RATIO_FLOORS),
            _per_question(reading, durations, pairwise, modality),
        ]
    parts.append(_cross(ticks, lengths))
    seen = on_screen(trajectories)
    parts.append(_per_side(seen, pairwise, "viewport", VIEWPORT_MEASURES, VIEWPORT_FLOORS))

    def join(left: pl.DataFrame, right: pl.DataFrame) -> pl.DataFrame:
        return left.join(right, on="question_id", how="left", maintain_order="left")

    wide = reduce(join, parts, lengths.select("question_id")).with_columns(_of_both())
    return wide.select("question_id", pl.col(names(CATALOG)).cast(pl.Float64))


def feature_rows(trajectories: pl.DataFrame) -> pl.DataFrame:
    """Rows of the config `features` without what `center_by_worker` adds to them: `extract_features`, with the ids."""
    ids = trajectories.select("question_id", "worker_id", "mode")
    return ids.join(extract_features(trajectories), on="question_id", maintain_order="left")


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


def _per_side(
    reading: pl.DataFrame,
    pairwise: pl.DataFrame,
    modality: str,
    measures: Sequence[Measure],
    floors: Mapping[str, int],
) -> pl.DataFrame:
    measured = reading.group_by("question_id", "side").agg(
        measure.expr.cast(pl.Float64).alias(f"{modality}_{measure.name}") for measure in measures
    )
    stems = [f"{modality}_{measure.name}" for measure in measures]
    wide = measured.select("question_id").unique().join(pairwise, on="question_id", how="left")
    for side in SIDES:
        one = measured.filter(pl.col("side") == side).drop("side")
        wide = wide.join(one.rename({stem: f"{stem}_{side}" for stem in stems}), on="question_id", how="left")
    defined = [
        # A question with one answer has no right side, and nothing to come back from.
        pl.when(pl.col("pairwise") | pl.lit(side == "left" and not measure.of_two))
        .then(pl.col(f"{stem}_{side}").fill_null(pl.lit(measure.unseen, pl.Float64)))
        .alias(f"{stem}_{side}")
        for stem, measure in zip(stems, measures, strict=True)
        for side in SIDES
    ]
    differences = [(pl.col(f"{stem}_left") - pl.col(f"{stem}_right")).alias(f"{stem}_diff") for stem in stems]
    log_ratios = [_log_ratio(f"{modality}_{name}", floor) for name, floor in floors.items()]
    return wide.with_columns(defined).with_columns(*differences, *log_ratios).drop("pairwise")


def _log_ratio(stem: str, floor: int) -> pl.Expr:
    left, right = ((pl.col(f"{stem}_{side}") + floor).log() for side in SIDES)
    return (left - right).alias(f"{stem}_log_ratio")


def _per_question(
    reading: pl.DataFrame, durations: pl.DataFrame, pairwise: pl.DataFrame, modality: str
) -> pl.DataFrame:
    asked = reading.join(durations.join(pairwise, on="question_id"), on="question_id", maintain_order="left")
    return asked.group_by("question_id").agg(
        pl.when(pl.col("pairwise").first() | pl.lit(not one.of_two)).then(one.expr).alias(f"{modality}_{one.name}")
        for one in PER_QUESTION
    )


def _cross(ticks: pl.DataFrame, lengths: pl.DataFrame) -> pl.DataFrame:
    both = ticks.filter(pl.col("gaze_side").is_not_null() & pl.col("mouse_side").is_not_null()).join(
        lengths, on="question_id", how="left"
    )
    same = pl.col("gaze_side") == pl.col("mouse_side")
    pairwise = pl.col("length_right").first().is_not_null()
    gap = (pl.col("gaze_char") - pl.col("mouse_char")).abs() * pl.col("dt")

    def of(side: str) -> pl.Expr:
        return gap.filter(same & (pl.col("mouse_side") == side)).sum() / pl.col(f"length_{side}").first().clip(1)

    def dwell(side: str) -> pl.Expr:
        return pl.col("dt").filter(same & (pl.col("mouse_side") == side)).sum().cast(pl.Float64)

    together = pl.col("dt").filter(same).sum()
    # Summed per side first: the two sums swap with the sides, and their total stays the same to the bit.
    total = of("left") + pl.when(pairwise).then(of("right")).otherwise(0.0)
    return both.group_by("question_id").agg(
        gaze_mouse_dwell_left=dwell("left"),
        gaze_mouse_dwell_right=pl.when(pairwise).then(dwell("right")),
        gaze_mouse_same_side=pl.when((pl.col("dt").sum() > 0) & pairwise).then(together / pl.col("dt").sum()),
        gaze_mouse_gap=pl.when(together > 0).then(total / together),
    )


def _of_both() -> list[pl.Expr]:
    """The features that compare the two modalities."""
    agreement = (pl.col("gaze_dwell_diff") * pl.col("mouse_dwell_diff")).sign()
    return [
        (pl.col("gaze_mouse_dwell_left") - pl.col("gaze_mouse_dwell_right")).alias("gaze_mouse_dwell_diff"),
        _log_ratio("gaze_mouse_dwell", DWELL_FLOOR_MS),
        (pl.col("gaze_dwell_log_ratio") - pl.col("mouse_dwell_log_ratio")).alias("gaze_minus_mouse_log_ratio"),
        pl.when(agreement != 0).then(agreement).alias("gaze_mouse_agreement"),
    ]
