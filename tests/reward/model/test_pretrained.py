"""`ImplicitFeedbackReward`, the class that scores: from a folder, by rows or by name, and copied to another folder."""

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from datasets import Dataset

import ifllm_hub
from ifllm_hub import ImplicitFeedbackReward
from ifllm_hub.dataset.load import load_config
from ifllm_hub.errors import IfllmError
from ifllm_hub.reward.functions import default_model
from ifllm_hub.reward.model.estimator import ImplicitFeedbackRewardModel
from ifllm_hub.reward.model.flat_forest import FOREST_FILE
from ifllm_hub.reward.model.persistence import CONFIG_FILE, MODEL_FILE, load_model
from ifllm_hub.reward.protocol.pairs import FEATURES, GAZE_FEATURES, Pairs

BLOCKED = ("sklearn", "scipy", "skops", "torch", "pandas", "joblib", "huggingface_hub")
ALONE = f"""
import sys
for name in {BLOCKED}:
    sys.modules[name] = None  # an import of it fails
import ifllm_hub
assert "numpy" not in sys.modules
reward = ifllm_hub.ImplicitFeedbackReward.from_pretrained(sys.argv[1])
import numpy as np
X = np.random.default_rng(0).normal(size=(50, len(reward.features))) * 100
print(*(value.hex() for value in reward.predict(X)))
reward.save_pretrained(sys.argv[2])
"""


def test_it_gives_what_the_estimator_gives(
    model_folder: Path, small_model: ImplicitFeedbackRewardModel, pairs: Pairs
) -> None:
    reward = ImplicitFeedbackReward.from_pretrained(model_folder)
    expected = small_model.predict_proba(pairs.X())[:, 1]
    assert reward.predict(pairs.X()) == pytest.approx(expected, abs=1e-12)
    assert reward.logit(pairs.X()) == pytest.approx(np.log(expected / (1 - expected)), abs=1e-9)
    assert reward.features == FEATURES
    assert reward.config == load_model(model_folder)[1]


def test_rows_by_name(model_folder: Path, pairs: Pairs) -> None:
    reward = ImplicitFeedbackReward.from_pretrained(str(model_folder))
    third = pl.int_range(pl.len()) == 2
    rows = pairs.rows.with_columns(pl.when(~third).then(name) for name in GAZE_FEATURES)
    expected = reward.predict(rows.select(FEATURES).to_numpy())
    assert expected[2] != reward.predict(pairs.X())[2], "nothing is missing"
    shuffled = rows.select("question_id", *FEATURES[::-1])
    assert (reward.score(shuffled) == expected).all()
    assert (reward.score(shuffled.to_dict(as_series=False)) == expected).all()
    with pytest.raises(IfllmError, match=f"lack the column {FEATURES[2]}.*config 'features'"):
        reward.score(pairs.rows.drop(FEATURES[2]))


@pytest.mark.parametrize(
    "form",
    [
        pl.DataFrame.to_pandas,
        lambda rows: rows.to_pandas().convert_dtypes(),
        pl.DataFrame.to_arrow,
        lambda rows: Dataset.from_polars(rows),
        lambda rows: Dataset.from_polars(rows[::-1]).with_format("torch").select(range(len(rows))[::-1]),
        pl.DataFrame.to_dicts,
    ],
    ids=["pandas", "nullable pandas", "pyarrow", "datasets", "shuffled datasets", "rows"],
)
def test_rows_come_in_any_frame(model_folder: Path, pairs: Pairs, form: Callable[[pl.DataFrame], Any]) -> None:
    reward = ImplicitFeedbackReward.from_pretrained(model_folder)
    third = pl.int_range(pl.len()) == 2
    rows = pairs.rows.select("question_id", *(pl.when(~third).then(name).alias(name) for name in FEATURES))
    expected = reward.predict(rows.select(FEATURES).to_numpy())
    expected[2] = np.nan
    np.testing.assert_array_equal(reward.score(form(rows)), expected)


def test_it_abstains_where_nothing_is_known(study: Path) -> None:
    rows = load_config(study, "features")
    score = ImplicitFeedbackReward.from_pretrained(default_model()).score(rows)
    assert (np.isnan(score) == (rows["mode"] == "pointwise").to_numpy()).all()
    assert np.isnan(score).any()
    assert not np.isnan(score).all()


@pytest.mark.parametrize("rows", [7, Dataset.from_dict({"x": [1]}).to_iterable_dataset()], ids=["number", "stream"])
def test_what_is_no_frame_is_one_error(rows: Any) -> None:
    with pytest.raises(IfllmError, match=r"a mapping of columns, a frame .* or a datasets\.Dataset, not a "):
        ImplicitFeedbackReward.from_pretrained(default_model()).score(rows)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (["0.5", "1"], "is no list of numbers: '0.5'"),
        ([0.5, "abc"], "is no list of numbers: 'abc'"),
        ([[1], [2]], "is no list of numbers: an array of 2 dimensions"),
        (7, "is no list of numbers"),
        ([0.5], r"has 1 values, and length_log_ratio has 2"),
        ([0.5, -math.inf], "holds an infinite value in row 1"),
        ([1e39, 0.5], "holds an infinite value in row 0"),
    ],
    ids=str,
)
def test_a_column_that_cannot_be_scored_is_named(values: Any, problem: str) -> None:
    columns = {name: [0.5, 1] for name in FEATURES} | {FEATURES[1]: values}
    with pytest.raises(IfllmError, match=f"The column {FEATURES[1]} {problem}"):
        ImplicitFeedbackReward.from_pretrained(default_model()).score(columns)


def test_scoring_needs_numpy_and_no_more(tmp_path: Path) -> None:
    """In a process where scikit-learn, scipy, skops, torch and the rest cannot be imported."""
    words = [sys.executable, "-c", ALONE, str(default_model()), str(tmp_path / "copy")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    X = np.random.default_rng(0).normal(size=(50, len(FEATURES))) * 100
    expected = ImplicitFeedbackReward.from_pretrained(default_model()).predict(X)
    assert done.stdout.split() == [value.hex() for value in expected]
    assert load_model(tmp_path / "copy")[1] == load_model(default_model())[1]


def test_a_copy_is_the_same_model(tmp_path: Path) -> None:
    ImplicitFeedbackReward.from_pretrained(default_model()).save_pretrained(tmp_path / "copy")
    ImplicitFeedbackReward.from_pretrained(tmp_path / "copy").save_pretrained(tmp_path / "copy")
    files = {path.name: path.read_bytes() for path in (tmp_path / "copy").iterdir()}
    assert files == {path.name: path.read_bytes() for path in default_model().iterdir()}


def test_a_copy_of_what_is_there(model_folder: Path, tmp_path: Path) -> None:
    (model_folder / MODEL_FILE).unlink()
    ImplicitFeedbackReward.from_pretrained(model_folder).save_pretrained(tmp_path / "copy")
    assert {path.name for path in (tmp_path / "copy").iterdir()} == {CONFIG_FILE, FOREST_FILE}


def test_a_copy_is_of_what_was_loaded(model_folder: Path, tmp_path: Path) -> None:
    reward = ImplicitFeedbackReward.from_pretrained(model_folder)
    (model_folder / FOREST_FILE).write_bytes(b"other")
    with pytest.raises(IfllmError, match="its sha256 is not the one"):
        reward.save_pretrained(tmp_path / "copy")
    ImplicitFeedbackReward.from_pretrained(default_model()).save_pretrained(model_folder)
    with pytest.raises(IfllmError, match="was changed since it was loaded"):
        reward.save_pretrained(tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_somebody_elses_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("Dear Mr Weber")
    with pytest.raises(IfllmError, match=r"was not made by this command \(no config\.json\)"):
        ImplicitFeedbackReward.from_pretrained(default_model()).save_pretrained(tmp_path)


@pytest.mark.parametrize("X", [np.zeros(5), np.zeros((1, 6)), np.full((1, 5), np.inf), np.full((1, 5), 1e39)])
def test_values_that_cannot_be_scored(X: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected \(n, 5\)|infinite in float32"):
        ImplicitFeedbackReward.from_pretrained(default_model()).predict(X)


def test_the_package_has_no_other_attributes() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Reward'"):
        ifllm_hub.Reward  # noqa: B018
