"""The rows keep what card and schema promise: ranges, values, nulls that are announced, and the viewer's limits."""

from itertools import product
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from ifllm_hub.dataset.load import load_config
from ifllm_hub.dataset.schema import CONFIGS, Column, features

BUILT = ("pairwise", "pointwise", "trajectories", "features")
VIEWER_ROW_BYTES = 2_000_000
VIEWER_TYPES = {"string", "bool", "timestamp[ms, tz=UTC]", "int8", "int16", "int32", "int64", "float32", "float64"}


@pytest.fixture(
    scope="module",
    params=["simulated", pytest.param("real", marks=pytest.mark.real)],
)
def folder(request: pytest.FixtureRequest) -> Path:
    if request.param == "simulated":
        return request.getfixturevalue("dataset")
    return request.getfixturevalue("real_dataset")[0]


@pytest.mark.parametrize("config", BUILT)
def test_values_are_within_the_declared_range(folder: Path, config: str) -> None:
    frame = load_config(folder, config)
    for column in CONFIGS[config]:
        values = frame[column.name]
        if pa.types.is_list(column.type) and not pa.types.is_struct(column.entry):
            values = values.explode(empty_as_null=False)
        known = values.drop_nulls()
        if column.values:
            assert set(known.unique()) <= set(column.values), column.name
        if known.is_empty():  # what the study did not record
            assert column.name.startswith(("viewport_", "gaze_a", "gaze_e")), column.name
            continue
        if column.low is not None:
            assert known.min() >= column.low, column.name
        if column.high is not None:
            assert known.max() <= column.high, column.name
        if known.dtype.is_float():
            assert known.is_finite().all(), column.name
        if config != "features":
            assert values.null_count() == 0 or "null" in column.meaning, column.name


def test_a_caret_is_at_most_behind_the_last_code_point(folder: Path) -> None:
    """The card says that a char index can be the length: `response[char]` is not always there."""
    rows = load_config(folder, "trajectories")
    behind = 0
    for modality, side in product(("mouse", "gaze"), ("left", "right")):
        carets = rows.select(f"length_{side}", caret=f"{modality}_char_{side}").explode("caret", empty_as_null=False)
        on_text = carets.filter(pl.col("caret") >= 0)
        assert (on_text["caret"] <= on_text[f"length_{side}"]).all()
        behind += (on_text["caret"] == on_text[f"length_{side}"]).sum()
    assert behind > 0
    meaning = {column.name: column.meaning for column in CONFIGS["trajectories"]}
    assert "0 to the answer's length, both included" in meaning["mouse_char_left"]


def test_nulls_are_where_the_card_says(folder: Path) -> None:
    faces = load_config(folder, "trajectories").filter(schema_version="v1")["face_ok"].explode(empty_as_null=False)
    assert faces.is_null().all()
    assert load_config(folder, "pointwise").filter(turn=1)["better_than_previous"].is_null().all()


@pytest.mark.parametrize("config", BUILT)
def test_the_viewer_can_show_every_row(folder: Path, config: str) -> None:
    frame = load_config(folder, config)
    assert max(map(len, frame.write_ndjson().encode().splitlines())) <= VIEWER_ROW_BYTES
    for column in CONFIGS[config]:
        parts = [field.type for field in column.entry] if pa.types.is_struct(column.entry) else [column.entry]
        assert {Column("", part, "", "").type_name for part in parts} <= VIEWER_TYPES
    assert features(config).arrow_schema.names == [column.name for column in CONFIGS[config]]


def test_ids_are_keys(folder: Path) -> None:
    questions = pl.concat([load_config(folder, config).select("question_id") for config in ("pairwise", "pointwise")])
    assert questions["question_id"].is_unique().all()


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (Column("x", pa.int8(), "", "", 0, 4), "0 to 4"),
        (Column("x", pa.list_(pa.float32()), "px", ""), "any"),
        (Column("x", pa.list_(pa.int16()), "px", "", -1), "≥ -1"),
        (Column("x", pa.string(), "", "", values=("left", "right")), "`left`, `right`"),
        (Column("x", pa.string(), "", ""), ""),
        (Column("x", pa.bool_(), "", ""), ""),
    ],
)
def test_a_range_in_words(column: Column, expected: str) -> None:
    assert column.range == expected
