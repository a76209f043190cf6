"""The catalog describes exactly what is extracted."""

import re

from ifllm_hub.features.catalog import CATALOG, CONTRAST, EVEN, ODD, names
from ifllm_hub.features.extract import extract_features
from tests.features.slow_features import frame

BY_NAME = {feature.name: feature for feature in CATALOG}


def test_every_extracted_column_is_described_once() -> None:
    assert len(BY_NAME) == len(CATALOG)
    assert extract_features(frame([])).columns == ["question_id", *BY_NAME]


def test_every_feature_has_a_unit_a_formula_and_a_known_modality() -> None:
    for feature in CATALOG:
        assert feature.unit in ("ms", "char", "ms/char", "char/s", "share", "share^2", "count", "sign", "log")
        assert feature.formula
        assert feature.family
        assert feature.modality in ("mouse", "gaze", "both", "viewport", "text")
        assert feature.modality in ("both", "text") or feature.name.startswith(f"{feature.modality}_")


def test_sides_are_each_others_mirror() -> None:
    for feature in CATALOG:
        if feature.swap not in (ODD, EVEN):
            other = BY_NAME[feature.swap]
            assert other.swap == feature.name
            assert {feature.name.rsplit("_", 1)[1], other.name.rsplit("_", 1)[1]} == {"left", "right"}
            assert (feature.unit, feature.formula.replace("left", "right"), feature.modality) == (
                other.unit,
                other.formula.replace("left", "right"),
                other.modality,
            )
            assert (feature.low, feature.high, feature.fixed) == (other.low, other.high, other.fixed)
        ends = r"(diff|log_ratio|first_side|last_side|balance|balance_quarter_\d)$"
        assert (feature.swap == ODD) == (re.search(ends, feature.name) is not None)


def test_ranges_are_as_symmetric_as_their_features() -> None:
    for feature in CATALOG:
        if feature.swap == ODD:
            assert feature.low == (None if feature.high is None else -feature.high)
        elif feature.unit != "sign":
            assert feature.low is not None
            assert feature.low >= 0
        if feature.unit in ("share", "sign"):
            assert feature.high == 1
        assert set(feature.fixed) <= {"ms", "char"}


def test_the_contrast_set_cannot_tell_the_sides_apart() -> None:
    assert {feature.name for feature in CATALOG} - {feature.name for feature in CONTRAST} == {
        feature.name for feature in CATALOG if feature.name.endswith(("_left", "_right"))
    }


def test_names_are_chosen_by_modality() -> None:
    assert names() == list(BY_NAME)
    assert names(modalities=("text",)) == [name for name in BY_NAME if name.startswith("length_")]
    mouse = names(CONTRAST, ("mouse",))
    assert mouse
    assert all(name.startswith("mouse_") and not name.endswith(("left", "right")) for name in mouse)
    assert len(names()) == sum(len(names(modalities=(m,))) for m in ("mouse", "gaze", "both", "viewport", "text"))
