"""The catalogue describes exactly what is extracted."""

from ifllm_hub.features.catalogue import CATALOGUE, CONTRAST, EVEN, ODD, names
from ifllm_hub.features.extract import extract_features
from tests.features.slow_features import frame

BY_NAME = {feature.name: feature for feature in CATALOGUE}


def test_every_extracted_column_is_described_once() -> None:
    assert len(BY_NAME) == len(CATALOGUE)
    assert extract_features(frame([])).columns == ["question_id", *BY_NAME]


def test_every_feature_has_a_unit_a_formula_and_a_known_modality() -> None:
    for feature in CATALOGUE:
        assert feature.unit
        assert feature.formula
        assert feature.family
        assert feature.modality in ("mouse", "gaze", "both", "text")
        assert feature.modality in ("both", "text") or feature.name.startswith(f"{feature.modality}_")


def test_sides_are_each_others_mirror() -> None:
    for feature in CATALOGUE:
        if feature.swap not in (ODD, EVEN):
            other = BY_NAME[feature.swap]
            assert other.swap == feature.name
            assert {feature.name.rsplit("_", 1)[1], other.name.rsplit("_", 1)[1]} == {"left", "right"}
            assert (feature.unit, feature.formula.replace("left", "right"), feature.modality) == (
                other.unit,
                other.formula.replace("left", "right"),
                other.modality,
            )
        assert (feature.swap == ODD) == feature.name.endswith(("_diff", "_log_ratio", "_first_side", "_last_side"))


def test_the_contrast_set_cannot_tell_the_sides_apart() -> None:
    assert {feature.name for feature in CATALOGUE} - {feature.name for feature in CONTRAST} == {
        feature.name for feature in CATALOGUE if feature.name.endswith(("_left", "_right"))
    }


def test_names_are_chosen_by_modality() -> None:
    assert names() == list(BY_NAME)
    assert names(modalities=("text",)) == [name for name in BY_NAME if name.startswith("length_")]
    mouse = names(CONTRAST, ("mouse",))
    assert mouse
    assert all(name.startswith("mouse_") and not name.endswith(("left", "right")) for name in mouse)
    assert len(names()) == sum(len(names(modalities=(m,))) for m in ("mouse", "gaze", "both", "text"))
