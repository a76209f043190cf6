"""Every feature: name, unit, range, modality, family, formula, and the effect of swapping the two answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log

from ifllm_hub.features.measures import CELL, MEASURES, PER_QUESTION, Contrast, Measure
from ifllm_hub.features.viewport import VIEWPORT_FLOORS, VIEWPORT_MEASURES
from ifllm_hub.terms import MODALITIES, SIDES

# Added to both dwells before their ratio, ms: below half a second, a ratio says nothing.
DWELL_FLOOR_MS = 500
# The measures whose two sides are also compared by the logarithm of their ratio, and the constant added to both.
LOG_RATIO_FLOORS = {
    "dwell": DWELL_FLOOR_MS,
    "dwell_per_char": 1,
    "longest_visit": DWELL_FLOOR_MS,
    "cells": 1,
    "forward": CELL,
}

ODD, EVEN = "odd", "even"


@dataclass(frozen=True)
class Feature:
    """One column of the `features` config.

    Attributes:
        name: column name.
        unit: ms, char (code points), ms/char, char/s, share, share^2, count, sign (-1 or 1) or log.
        modality: mouse, gaze, both, viewport or text.
        family: what it is about.
        formula: how it is computed, in words; the code is `measures.py` and `extract.py`.
        swap: what happens to it when left and right are swapped: "odd" (changes sign), "even" (stays), or the name of
            the feature it changes places with.
        low: smallest possible value, inclusive; None: unbounded.
        high: largest possible value, inclusive.
        fixed: units of the constants in the formula. If a unit ("ms", "char") is not among them, then stretching all
            times (below the cap of a step) or all texts by a factor scales the value as its own unit says.
    """

    name: str
    unit: str
    modality: str
    family: str
    formula: str
    swap: str
    low: float | None = None
    high: float | None = None
    fixed: tuple[str, ...] = ()


def _per_side(modality: str, measures: Sequence[Measure]) -> list[Feature]:
    features = []
    for measure in measures:
        left, right, diff = (f"{modality}_{measure.name}_{end}" for end in (*SIDES, "diff"))
        about, constants = (modality, measure.family), measure.fixed
        low = None if measure.high is None else -measure.high
        features += [
            Feature(left, measure.unit, *about, measure.formula, right, 0.0, measure.high, constants),
            Feature(right, measure.unit, *about, measure.formula, left, 0.0, measure.high, constants),
            Feature(diff, measure.unit, *about, "left minus right", ODD, low, measure.high, constants),
        ]
    return features


def _log_ratios(modality: str, measures: Sequence[Measure], floors: Mapping[str, int]) -> list[Feature]:
    return [_log_ratio(modality, measure, floors[measure.name]) for measure in measures if measure.name in floors]


def _log_ratio(modality: str, measure: Measure, floor: int) -> Feature:
    name, unit = measure.name.replace("_", " "), "" if measure.unit == "count" else f" {measure.unit}"
    return Feature(
        f"{modality}_{measure.name}_log_ratio",
        "log",
        modality,
        measure.family,
        f"ln(({name} left + {floor}{unit}) / ({name} right + {floor}{unit}))",
        ODD,
        # The constant has the unit of the measure.
        fixed=tuple(part for part in ("ms", "char") if part in (*measure.unit.split("/"), *measure.fixed)),
    )


def _per_question(modality: str, contrast: Contrast) -> Feature:
    name, swap = f"{modality}_{contrast.name}", ODD if contrast.odd else EVEN
    low = 0.0 if not contrast.odd else None if contrast.high is None else -contrast.high
    return Feature(name, contrast.unit, modality, contrast.family, contrast.formula, swap, low, contrast.high)


_TOGETHER = "sum of dt over ticks with both modalities on the answer's text; null if they never were on text at once"
_CROSS = [
    Feature("gaze_mouse_dwell_left", "ms", "both", "agreement", _TOGETHER, "gaze_mouse_dwell_right", 0.0),
    Feature("gaze_mouse_dwell_right", "ms", "both", "agreement", _TOGETHER, "gaze_mouse_dwell_left", 0.0),
    Feature("gaze_mouse_dwell_diff", "ms", "both", "agreement", "left minus right", ODD),
    Feature(
        "gaze_mouse_dwell_log_ratio",
        "log",
        "both",
        "agreement",
        f"ln((gaze mouse dwell left + {DWELL_FLOOR_MS} ms) / (gaze mouse dwell right + {DWELL_FLOOR_MS} ms))",
        ODD,
        fixed=("ms",),
    ),
    Feature(
        "gaze_minus_mouse_log_ratio",
        "log",
        "both",
        "agreement",
        "gaze dwell log ratio - mouse dwell log ratio",
        ODD,
        fixed=("ms",),
    ),
    Feature(
        "gaze_mouse_agreement",
        "sign",
        "both",
        "agreement",
        "1 if both modalities dwelt longer on the same answer, -1 if not; null if one dwelt equally long on both",
        EVEN,
        -1.0,
        1.0,
    ),
    Feature(
        "gaze_mouse_same_side",
        "share",
        "both",
        "agreement",
        "share of the time with both on text in which both are on the same answer",
        EVEN,
        0.0,
        1.0,
    ),
    Feature(
        "gaze_mouse_gap",
        "share",
        "both",
        "agreement",
        "dwell-weighted mean distance of the two char indices / answer length while both are on the same answer",
        EVEN,
        0.0,
        1.0,
    ),
]

_TEXT = [
    Feature("length_left", "char", "text", "length", "length of the left answer", "length_right", 0.0),
    Feature("length_right", "char", "text", "length", "length of the right answer", "length_left", 0.0),
    Feature("length_query", "char", "text", "length", "length of the query", EVEN, 0.0),
    Feature("length_log_ratio", "log", "text", "length", "ln(length left / length right)", ODD),
    Feature("length_log_sum", "log", "text", "length", "ln(length left + length right)", EVEN, log(2), fixed=("char",)),
]

CATALOG: tuple[Feature, ...] = (
    *(
        feature
        for modality in MODALITIES
        for feature in (
            *_per_side(modality, MEASURES),
            *_log_ratios(modality, MEASURES, LOG_RATIO_FLOORS),
            *(_per_question(modality, contrast) for contrast in PER_QUESTION),
        )
    ),
    *_CROSS,
    *_per_side("viewport", VIEWPORT_MEASURES),
    *_log_ratios("viewport", VIEWPORT_MEASURES, VIEWPORT_FLOORS),
    *_TEXT,
)

# Antisymmetric and symmetric features only: a model of these cannot tell the sides apart except by their contrast.
CONTRAST: tuple[Feature, ...] = tuple(feature for feature in CATALOG if feature.swap in (ODD, EVEN))


def names(features: tuple[Feature, ...] = CATALOG, modalities: tuple[str, ...] | None = None) -> list[str]:
    """Column names, optionally of some modalities only."""
    return [feature.name for feature in features if modalities is None or feature.modality in modalities]
