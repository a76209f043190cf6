"""The flat forest gives what scikit-learn gives, and refuses arrays that could lead out of themselves."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import load, save
from scipy.special import expit

from ifllm_hub.errors import IfllmError
from ifllm_hub.reward.functions import default_model
from ifllm_hub.reward.model import flat_forest as module
from ifllm_hub.reward.model.estimator import ImplicitFeedbackRewardModel
from ifllm_hub.reward.model.flat_forest import FOREST_FILE, check_forest, dump_forest, read_forest
from ifllm_hub.reward.model.persistence import CONFIG_FILE, flatten, load_forest, load_model
from ifllm_hub.reward.protocol.pairs import FEATURES, Pairs

WIDTH = len(FEATURES)
SHIPPED, _ = load_model(default_model())
FLAT, _ = load_forest(default_model())
ROWS = hnp.arrays(
    np.float64,
    st.tuples(st.integers(0, 40), st.just(WIDTH)),
    elements=st.one_of(st.floats(-1e6, 1e6), st.just(float("nan"))),
)


@given(ROWS)
def test_it_is_the_estimator(X: np.ndarray) -> None:
    expected = SHIPPED.predict_proba(X)[:, 1] if len(X) else np.empty(0)
    assert np.abs(FLAT.predict(X) - expected).max(initial=0.0) <= 1e-12


def test_values_on_a_threshold_go_the_same_way(pairs: Pairs) -> None:
    on = np.column_stack([np.resize(FLAT.threshold[FLAT.feature == column], 500) for column in range(WIDTH)])
    X = np.vstack([on, np.nextafter(on, np.inf), np.nextafter(on, -np.inf), on.astype(np.float32)])
    assert np.abs(FLAT.predict(X) - SHIPPED.predict_proba(X)[:, 1]).max() <= 1e-12


@given(ROWS)
def test_swapping_the_answers_flips_the_probability(X: np.ndarray) -> None:
    assert np.abs(FLAT.predict(X) + FLAT.predict(-X) - 1).max(initial=0.0) <= 1e-12


@given(ROWS)
def test_the_logit_is_that_of_the_probability(X: np.ndarray) -> None:
    logit = FLAT.logit(X)
    assert np.abs(FLAT.predict(X) - expit(logit)).max(initial=0.0) <= 1e-15
    assert (FLAT.logit(-X) == -logit).all()


def test_rows_do_not_depend_on_their_company() -> None:
    X = np.random.default_rng(0).normal(size=(1_500, WIDTH)) * 100
    assert (FLAT.predict(X) == np.concatenate([FLAT.predict(row[None]) for row in X])).all()


@pytest.mark.parametrize("max_depth", [1, 3, 6])
def test_trees_of_any_depth(pairs: Pairs, max_depth: int) -> None:
    model = ImplicitFeedbackRewardModel(n_estimators=5, max_depth=max_depth, min_samples_leaf=1)
    model.fit(pairs.X(), pairs.y)
    flat = flatten(model)
    assert np.abs(flat.predict(pairs.X()) - model.predict_proba(pairs.X())[:, 1]).max() <= 1e-12


def test_a_tree_with_too_many_leaves_is_refused_when_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_LEAVES", 4)
    with pytest.raises(IfllmError, match=r"tree \d+: it has more than 4 leaves"):
        flatten(SHIPPED)


@pytest.mark.parametrize("X", [np.zeros(WIDTH), np.zeros((2, WIDTH + 1))])
def test_another_number_of_features(X: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected"):
        FLAT.predict(X)


def test_the_file_is_the_same_for_the_same_forest() -> None:
    content = dump_forest(FLAT)
    assert content == dump_forest(read_forest(content, "again")) == (default_model() / FOREST_FILE).read_bytes()


def change(name: str, at: Any, value: Any) -> Callable[[dict[str, np.ndarray]], None]:
    def apply(arrays: dict[str, np.ndarray]) -> None:
        arrays[name][at] = value

    return apply


def replace(name: str, make: Callable[[np.ndarray], np.ndarray]) -> Callable[[dict[str, np.ndarray]], None]:
    def apply(arrays: dict[str, np.ndarray]) -> None:
        arrays[name] = make(arrays[name])

    return apply


HOSTILE = [
    pytest.param(change("right", 0, 2**31 - 1), "out of range", id="child far away"),
    pytest.param(change("left", 0, -7), "out of range", id="negative child"),
    pytest.param(change("left", 0, 0), "out of range", id="its own child"),
    pytest.param(change("left", 0, -1), "one child", id="one child"),
    pytest.param(change("right", 0, 1), "no parent or several", id="shared child"),
    pytest.param(change("feature", 0, WIDTH), "unknown feature", id="feature too large"),
    pytest.param(change("feature", 0, -2), "unknown feature", id="negative feature"),
    pytest.param(change("threshold", 0, np.nan), "threshold is not finite", id="nan threshold"),
    pytest.param(change("share", 3, np.inf), "share is not in 0-1", id="infinite share"),
    pytest.param(change("share", 3, -0.1), "share is not in 0-1", id="negative share"),
    pytest.param(change("start", 1, 10**8), "do not fill", id="tree of the size of a house"),
    pytest.param(change("start", 0, 1), "do not fill", id="no root"),
    pytest.param(change("start", 2, 0), "do not fill", id="tree of negative size"),
    pytest.param(replace("start", lambda a: a[:1]), "do not fill", id="no trees"),
    pytest.param(replace("slope", lambda a: np.array(np.nan)), "slope is not in 0-10", id="nan slope"),
    pytest.param(replace("slope", lambda a: np.array(-1.0)), "slope is not in 0-10", id="negative slope"),
    pytest.param(replace("left", lambda a: a[:-1]), "differ in length", id="short array"),
    pytest.param(replace("left", lambda a: a.astype("i8")), "'left' is missing, unknown or of", id="other type"),
    pytest.param(replace("share", lambda a: a[None]), "'share' is missing, unknown or of", id="other shape"),
    pytest.param(lambda arrays: arrays.pop("feature"), "'feature' is missing", id="missing array"),
    pytest.param(lambda arrays: arrays.update(more=np.zeros(1)), "'more' is missing, unknown", id="array too many"),
    pytest.param(replace("weights", lambda a: a[:0]), "no features", id="no features"),
    pytest.param(replace("weights", lambda a: np.ones(10**6)), "far larger than any", id="tables that fill the memory"),
    pytest.param(change("weights", 0, np.nan), "weight is negative or not finite", id="nan weight"),
    pytest.param(change("weights", 0, -1.0), "weight is negative or not finite", id="negative weight"),
    pytest.param(lambda arrays: arrays.update({n: a[:0] for n, a in arrays.items() if a.ndim}), "", id="nothing"),
]


@pytest.mark.parametrize(("spoil", "problem"), HOSTILE)
def test_hostile_arrays_are_refused_before_they_are_followed(
    spoil: Callable[[dict[str, np.ndarray]], None], problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_leaves", lambda left, right: pytest.fail("an unsound forest was followed"))
    arrays = {name: array.copy() for name, array in load(dump_forest(FLAT)).items()}
    spoil(arrays)
    with pytest.raises(IfllmError, match=rf"^the file: .*{problem}.*Not loaded"):
        read_forest(save(arrays), "the file")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\xff" * 64, dump_forest(FLAT)[:-9], dump_forest(FLAT)[:90]])
def test_what_is_no_whole_safetensors_file(content: bytes) -> None:
    with pytest.raises(IfllmError, match="damaged"):
        read_forest(content, "the file")


@pytest.mark.parametrize("seed", range(60))
def test_random_damage_is_refused_or_harmless(seed: int) -> None:
    rng = np.random.default_rng(seed)
    content = bytearray(dump_forest(FLAT))
    for at in rng.integers(len(content), size=3):
        content[at] ^= 1 << int(rng.integers(8))
    try:
        forest = read_forest(bytes(content), "the file")
    except IfllmError:
        return
    p = forest.predict(np.zeros((1, WIDTH)))
    assert p == 0.5


def test_a_config_with_other_features_or_checksum(model_folder: Path) -> None:
    config = json.loads((model_folder / CONFIG_FILE).read_text())
    (model_folder / CONFIG_FILE).write_text(json.dumps(config | {"features": config["features"][:2]}))
    with pytest.raises(IfllmError, match=f"{FOREST_FILE}: the model expects 5 features, and config.json names 2"):
        load_forest(model_folder)
    (model_folder / CONFIG_FILE).write_text(json.dumps(config))
    (model_folder / FOREST_FILE).write_bytes(dump_forest(dataclasses.replace(FLAT, slope=np.array(2.0))))
    with pytest.raises(IfllmError, match=f"{FOREST_FILE}: its sha256 is not the one"):
        load_forest(model_folder)


def test_a_sound_forest_has_no_problem() -> None:
    assert check_forest(FLAT) is None
