"""features.md: the terms in the features' formulas, and one row for features that differ only in side or modality."""

from typing import Any, NamedTuple

from ifllm_hub.features.catalog import CATALOG, Feature
from ifllm_hub.features.centering import LESS_HABIT, PRIOR_READINGS
from ifllm_hub.features.measures import CELL, MEASURES
from ifllm_hub.features.ticks import MAX_STEP_MS
from ifllm_hub.features.viewport import MAX_VIEW_MS, VIEWPORT_MEASURES
from ifllm_hub.terms import MODALITIES

FEATURES_FILE = "features.md"
# The numbers in the definitions.
CONSTANTS = {"cell": CELL, "longest_step": MAX_STEP_MS, "longest_view": MAX_VIEW_MS, "prior": PRIOR_READINGS}

_EITHER, _SIDES = f"{{{','.join(MODALITIES)}}}_", "_{left,right}"


class Row(NamedTuple):
    """Features that are computed in the same way.

    Attributes:
        names: as a shell expands them: `{mouse,gaze}_dwell_{left,right,diff}`.
        unit: of each.
        range: of each but `_diff`.
        formula: for the modality and the side in the name.
        unread: the value for an answer that was not looked at while the other one was; empty if that cannot happen.
    """

    names: str
    unit: str
    range: str
    formula: str
    unread: str


def feature_rows() -> list[Row]:
    """One row for all features that differ only in modality or side, in the catalog's order."""
    sided = {feature.name.removesuffix("_left") for feature in CATALOG if feature.name.endswith("_left")}
    measures = (*MEASURES, *VIEWPORT_MEASURES)
    unseen = {measure.name: "null" if measure.unseen is None else f"{measure.unseen:g}" for measure in measures}
    rows: dict[str, Row] = {}
    for feature in (*CATALOG, *LESS_HABIT):
        stem, ending = _split(feature.name, sided)
        names = _of_both(stem, feature) + ending
        measure = stem.removeprefix(f"{feature.modality}_")
        formula = feature.formula
        if feature.modality in MODALITIES:
            formula = formula.replace(f"{feature.modality}_", _EITHER)
        if ending == _SIDES:
            formula = formula.replace("the left answer", "that answer")
        unread = unseen.get(measure, "") if ending else ""
        rows.setdefault(names, Row(names, feature.unit, _range(feature), formula, unread))
    return list(rows.values())


def _split(name: str, sided: set[str]) -> tuple[str, str]:
    """The stem of a name, and the ending that stands for it and its siblings."""
    for ending in ("left", "right", "diff"):
        stem = name.removesuffix(f"_{ending}")
        if stem != name and stem in sided:
            return stem, _SIDES if stem == "length" else "_{left,right,diff}"
    return name, ""


def _of_both(stem: str, feature: Feature) -> str:
    if feature.modality not in MODALITIES:
        return stem
    return _EITHER + stem.removeprefix(f"{feature.modality}_")


def _range(feature: Feature) -> str:
    if feature.low is not None and feature.high is not None:
        return f"{feature.low:g} to {feature.high:g}"
    return "any" if feature.low is None else f"≥ {feature.low:g}"


def definitions() -> dict[str, Any]:
    """The values that the template of features.md needs."""
    return {"rows": feature_rows(), **CONSTANTS}
