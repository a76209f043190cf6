"""Pointwise questions: the reading of an answer against that of the previous answer in the same conversation.

Not part of the `features` config, whose rows are made from one question each: compute it from that config.
"""

from dataclasses import replace

import polars as pl

from ifllm_hub.features.catalog import CATALOG, DWELL_FLOOR_MS, LOG_RATIO_FLOORS, Feature, names
from ifllm_hub.features.measures import MEASURES
from ifllm_hub.terms import MODALITIES

_PREFIX = "previous_"
_FLOORS = {f"{modality}_{name}": floor for modality in MODALITIES for name, floor in LOG_RATIO_FLOORS.items()} | {
    "gaze_mouse_dwell": DWELL_FLOOR_MS,
    "length": 0,
}
_OF_TWO = {f"{modality}_{measure.name}" for modality in MODALITIES for measure in MEASURES if measure.of_two}


def _compared(ending: str) -> dict[str, Feature]:
    """The features of two answers that compare one number of each, by the name of that number."""
    described = {feature.name.removesuffix(ending): feature for feature in CATALOG if feature.name.endswith(ending)}
    return {stem: one for stem, one in described.items() if f"{stem}_left" in names() and stem not in _OF_TWO}


def _against_before(stem: str, feature: Feature) -> Feature:
    formula = feature.formula.replace("left minus right", f"{stem} left minus {stem} right")
    formula = formula.replace("left", "here").replace("right", "before")
    return replace(feature, name=f"{_PREFIX}{feature.name}", formula=formula)


_DIFFERENCES, _LOG_RATIOS = _compared("_diff"), _compared("_log_ratio")

# In the formulas "here" is the question's answer and "before" that of the previous turn; odd: exchanging these two
# changes the sign.
PREVIOUS: tuple[Feature, ...] = tuple(
    _against_before(stem, feature) for part in (_DIFFERENCES, _LOG_RATIOS) for stem, feature in part.items()
)


def against_previous(features: pl.DataFrame, questions: pl.DataFrame) -> pl.DataFrame:
    """The features of `PREVIOUS`: as of a pair with this answer on the left and the previous one on the right.

    Args:
        features: rows of the `features` config, the previous turns' included.
        questions: rows of the `pointwise` config: `question_id`, `conversation_id`, `turn`.

    Returns:
        `question_id` and one Float64 column a feature, in the order of `questions`. Null on the first turn, and where
        the number is not defined for one of the two answers.
    """
    stems = list(_DIFFERENCES | _LOG_RATIOS)
    read = features.select("question_id", pl.col([f"{stem}_left" for stem in stems]).name.replace("_left$", ""))
    here = questions.select("question_id", "conversation_id", "turn").join(
        read, on="question_id", how="left", maintain_order="left"
    )
    before = here.drop("question_id").with_columns(pl.col("turn") + 1)
    both = here.join(
        before, on=["conversation_id", "turn"], how="left", suffix="_before", validate="1:1", maintain_order="left"
    )
    return both.select(
        "question_id",
        *((pl.col(stem) - pl.col(f"{stem}_before")).alias(f"{_PREFIX}{stem}_diff") for stem in _DIFFERENCES),
        *(_log_ratio(stem).alias(f"{_PREFIX}{stem}_log_ratio") for stem in _LOG_RATIOS),
    )


def _log_ratio(stem: str) -> pl.Expr:
    # The floors keep all but an empty answer's length above 0; that one counts as one character.
    here, before = ((pl.col(name) + _FLOORS[stem]).clip(1).log() for name in (stem, f"{stem}_before"))
    return here - before
