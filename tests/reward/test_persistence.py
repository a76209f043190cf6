"""Saving and loading: a round trip, and every way in which a folder that somebody else wrote can be hostile."""

import contextlib
import hashlib
import io
import json
import subprocess
import zipfile
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.tree._tree import Tree

from ifllm_hub.errors import IfllmError
from ifllm_hub.reward import persistence
from ifllm_hub.reward.model import ImplicitFeedbackRewardModel
from ifllm_hub.reward.pairs import FEATURES, Pairs
from ifllm_hub.reward.persistence import (
    CONFIG_FILE,
    FORMAT,
    MODEL_FILE,
    TRUSTED_TYPES,
    check_tree,
    load_model,
    save_model,
)

WIDTH = len(FEATURES)
CONFIG = {"features": [{"name": name, "unit": "x"} for name in FEATURES]}


def refused(folder: Path, message: str) -> None:
    """Loading ends in one error that names the file, before any tree is followed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ImplicitFeedbackRewardModel, "predict_proba", not_to_be_reached)
        with pytest.raises(IfllmError, match=message) as caught:
            load_model(folder)
    assert str(caught.value).startswith(str(folder))


def not_to_be_reached(*args: Any) -> None:
    pytest.fail("an unsound model was used")


def store(model: Any, folder: Path) -> None:
    """What a sender without scruples writes: any object, under a checksum that fits."""
    (folder / CONFIG_FILE).write_text(json.dumps({"format": FORMAT, **CONFIG, "slope": 1.0, "sha256": {}}))
    put(folder, skops.io.dumps(model))


def put(folder: Path, content: bytes) -> None:
    """Replace the model file, with a checksum that fits: whoever writes the one writes the other."""
    (folder / MODEL_FILE).write_bytes(content)
    config = json.loads((folder / CONFIG_FILE).read_text())
    config["sha256"][MODEL_FILE] = hashlib.sha256(content).hexdigest()
    (folder / CONFIG_FILE).write_text(json.dumps(config))


def test_round_trip(small_model: ImplicitFeedbackRewardModel, model_folder: Path, pairs: Pairs) -> None:
    loaded, config = load_model(model_folder)
    assert np.array_equal(loaded.predict_proba(pairs.X()), small_model.predict_proba(pairs.X()))
    assert loaded.get_params() == small_model.get_params()
    assert config["features"] == CONFIG["features"]
    assert config["slope"] == small_model.slope_


def test_nothing_needs_trust_but_the_named_types(model_folder: Path) -> None:
    content = (model_folder / MODEL_FILE).read_bytes()
    assert set(skops.io.get_untrusted_types(data=content)) == set(TRUSTED_TYPES)
    assert set(TRUSTED_TYPES) == {"ifllm_hub.reward.model.ImplicitFeedbackRewardModel", "sklearn.tree._tree.Tree"}


class Armed:
    """Leaves a file where it stands when it is made or restored."""

    marker = Path()

    def __init__(self) -> None:
        self.value = 1

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.marker.touch()

    def __getstate__(self) -> dict[str, Any]:
        return {"value": 1}


class ArmedConstructor:
    marker = Path()

    def __init__(self, value: int):
        if self.marker.name:
            self.marker.touch()

    def __reduce__(self) -> Any:
        return type(self), (1,)


@pytest.mark.parametrize("kind", [Armed, ArmedConstructor])
def test_a_foreign_type_is_named_and_never_made(
    kind: type, small_model: ImplicitFeedbackRewardModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = deepcopy(small_model)
    model.forest_.verbose = kind() if kind is Armed else kind(1)
    store(model, tmp_path)
    monkeypatch.setattr(kind, "marker", tmp_path / "executed")
    refused(tmp_path, rf"holds the type .*\.{kind.__name__}, which no reward model of ours does")
    assert not (tmp_path / "executed").exists()
    trusting = [*TRUSTED_TYPES, f"{kind.__module__}.{kind.__name__}"]
    skops.io.loads((tmp_path / MODEL_FILE).read_bytes(), trusted=trusting)
    assert (tmp_path / "executed").exists(), "the file was harmless to begin with"


def test_a_function_is_not_called(small_model: ImplicitFeedbackRewardModel, tmp_path: Path) -> None:
    model = deepcopy(small_model)
    model.forest_.verbose = subprocess.check_call
    store(model, tmp_path)
    refused(tmp_path, r"holds the type subprocess\.check_call")


def test_trust_given_elsewhere_does_not_count(
    small_model: ImplicitFeedbackRewardModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(small_model, tmp_path)
    monkeypatch.setattr(persistence, "TRUSTED_TYPES", TRUSTED_TYPES[:1])
    refused(tmp_path, r"holds the type sklearn\.tree\._tree\.Tree")


def with_tree(model: ImplicitFeedbackRewardModel, change: Callable[[dict[str, Any]], None]) -> Any:
    """The model with one tree changed in the form that a file holds."""
    changed = deepcopy(model)
    estimator = changed.forest_.estimators_[2]
    state = deepcopy(estimator.tree_.__getstate__())
    assert state["node_count"] > 5, "too small to break in every way"
    change(state)
    estimator.tree_ = Tree(WIDTH, np.array([2]), 1)
    estimator.tree_.__setstate__(state)
    return changed


def node(number: int, field: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(state: dict[str, Any]) -> None:
        state["nodes"][field][number] = value

    return change


def value(number: int, shares: list[float]) -> Callable[[dict[str, Any]], None]:
    def change(state: dict[str, Any]) -> None:
        state["values"][number, 0] = shares

    return change


def last_child(state: dict[str, Any]) -> None:
    """A second parent for the last node, whose own parent keeps it."""
    left = state["nodes"]["left_child"]
    left[0] = state["node_count"] - 1


def loop_apart(state: dict[str, Any]) -> None:
    """An inner node becomes its own child, and its parent takes one of its children instead."""
    left, right = state["nodes"]["left_child"], state["nodes"]["right_child"]
    inner = next(number for number in range(1, state["node_count"]) if left[number] != -1)
    side = left if inner in left else right
    side[list(side).index(inner)], left[inner] = left[inner], inner


def no_nodes(state: dict[str, Any]) -> None:
    state |= {"node_count": 0, "nodes": state["nodes"][:0], "values": state["values"][:0]}


HOSTILE_TREES = [
    pytest.param(node(0, "right_child", 10**9), "a child is out of range", id="child far away"),
    pytest.param(node(0, "left_child", -7), "a child is out of range", id="negative child"),
    pytest.param(node(0, "left_child", 0), "a child is out of range", id="its own child"),
    pytest.param(node(1, "left_child", 0), r"a child is out of range|one child", id="cycle"),
    pytest.param(loop_apart, "a child is out of range", id="loop apart"),
    pytest.param(node(0, "left_child", -1), "a node has one child", id="one child"),
    pytest.param(last_child, "a node has no parent or several", id="two parents"),
    pytest.param(node(0, "feature", WIDTH), "unknown feature", id="feature too large"),
    pytest.param(node(0, "feature", -3), "unknown feature", id="negative feature"),
    pytest.param(node(0, "threshold", np.nan), "threshold is not finite", id="nan threshold"),
    pytest.param(node(0, "threshold", -np.inf), "threshold is not finite", id="infinite threshold"),
    pytest.param(value(1, [0.7, 0.7]), "do not add up to one", id="shares of 1.4"),
    pytest.param(value(1, [-1.0, 2.0]), "do not add up to one", id="negative share"),
    pytest.param(value(1, [np.nan, 1.0]), "do not add up to one", id="nan share"),
    pytest.param(no_nodes, "no parent or several", id="no nodes"),
]


@pytest.mark.parametrize(("change", "problem"), HOSTILE_TREES)
def test_a_hostile_tree_is_refused_before_it_is_followed(
    small_model: ImplicitFeedbackRewardModel, tmp_path: Path, change: Any, problem: str
) -> None:
    store(with_tree(small_model, change), tmp_path)
    refused(tmp_path, rf"{MODEL_FILE}: tree 2: .*({problem}).*Not loaded")


def test_a_sound_tree_passes_the_same_way(small_model: ImplicitFeedbackRewardModel, tmp_path: Path) -> None:
    store(with_tree(small_model, lambda state: None), tmp_path)
    load_model(tmp_path)


@pytest.mark.parametrize(
    ("width", "classes", "outputs", "problem"),
    [(WIDTH + 1, 2, 1, "expects 7 features"), (WIDTH, 3, 1, "and 3 classes"), (WIDTH, 2, 2, "expects 6 features")],
)
def test_a_tree_of_another_shape(width: int, classes: int, outputs: int, problem: str) -> None:
    tree = Tree(width, np.array([classes] * outputs), outputs)
    assert problem in str(check_tree(tree, WIDTH))


def other_forest(model: Any) -> None:
    model.forest_ = LogisticRegression()


def ensemble_with_hidden_trees(model: Any) -> None:
    """Sound trees where the check looks, and something else that predicts."""
    trees = model.forest_.estimators_
    model.forest_ = RandomForestClassifier()
    model.forest_.estimators_ = trees


def stub_tree(model: Any) -> None:
    model.forest_.estimators_[0] = "tree"


def hidden_method(model: Any) -> None:
    model.forest_.predict_proba = np.exp


def no_trees(model: Any) -> None:
    model.forest_.estimators_ = []


def unfitted(model: Any) -> None:
    del model.forest_


def slope(value: Any) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        model.slope_ = value

    return change


def other_width(model: Any) -> None:
    model.n_features_in_ = 3


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (other_forest, "no forest of extra-trees"),
        (ensemble_with_hidden_trees, "no forest of extra-trees"),
        (stub_tree, "something that is no tree"),
        (hidden_method, r"takes the place of ExtraTreesClassifier\.predict_proba"),
        (no_trees, "incomplete"),
        (unfitted, "no forest of extra-trees"),
        (slope(-1.0), "incomplete"),
        (slope(float("nan")), "incomplete"),
        (slope(11.0), "incomplete"),
        (slope("steep"), "incomplete"),
        (other_width, "expects 3 features, and config.json names 6"),
    ],
)
def test_an_unsound_model_around_sound_trees(
    small_model: ImplicitFeedbackRewardModel, tmp_path: Path, change: Any, problem: str
) -> None:
    model = deepcopy(small_model)
    store(model, tmp_path)
    change(model)
    put(tmp_path, skops.io.dumps(model, compression=8))
    refused(tmp_path, rf"{MODEL_FILE}: .*{problem}")


def test_another_estimator_is_not_a_reward_model(model_folder: Path) -> None:
    put(model_folder, skops.io.dumps(ExtraTreesClassifier()))
    refused(model_folder, "holds a ExtraTreesClassifier, not an ImplicitFeedbackRewardModel")


def test_parts_that_do_not_fit_together_are_damage(small_model: ImplicitFeedbackRewardModel, tmp_path: Path) -> None:
    model = deepcopy(small_model)
    model.forest_.n_classes_ = 5
    store(model, tmp_path)
    with pytest.raises(IfllmError, match=rf"{MODEL_FILE}: damaged \(ValueError"):
        load_model(tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_file_is_noticed_even_with_its_own_checksum(model_folder: Path, share: float) -> None:
    content = (model_folder / MODEL_FILE).read_bytes()
    (model_folder / MODEL_FILE).write_bytes(content[: int(share * len(content))])
    refused(model_folder, "its sha256 is not the one")
    put(model_folder, content[: int(share * len(content))])
    refused(model_folder, f"{MODEL_FILE}: damaged")


@pytest.mark.parametrize("content", [b"not a zip", b"PK\x03\x04", b"\x80\x04\x95pickle"])
def test_a_file_that_is_no_archive(model_folder: Path, content: bytes) -> None:
    put(model_folder, content)
    refused(model_folder, f"{MODEL_FILE}: damaged")


def test_an_archive_of_something_else(model_folder: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("schema.json", "[]")
    put(model_folder, buffer.getvalue())
    refused(model_folder, f"{MODEL_FILE}: damaged")


def test_an_archive_that_unpacks_to_any_size(model_folder: Path) -> None:
    buffer = io.BytesIO((model_folder / MODEL_FILE).read_bytes())
    with zipfile.ZipFile(buffer, "a", compression=zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros.npy", bytes(persistence.MAX_UNPACKED_BYTES))
    put(model_folder, buffer.getvalue())
    assert len(buffer.getvalue()) < 200_000
    refused(model_folder, r"unpacks to 100,\d{3},\d{3} bytes")


@pytest.mark.parametrize("seed", range(40))
def test_random_damage_never_yields_an_unsound_model(model_folder: Path, seed: int) -> None:
    """Bytes of one array or of the schema are overwritten; the archive itself stays whole."""
    generator = np.random.default_rng(seed)
    buffer, original = io.BytesIO(), zipfile.ZipFile(model_folder / MODEL_FILE)
    names = original.namelist()
    broken = "schema.json" if seed % 4 == 0 else names[generator.integers(len(names))]
    with original, zipfile.ZipFile(buffer, "w", compression=zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            content = bytearray(original.read(name))
            if name == broken:
                for at in generator.integers(len(content), size=3):
                    content[at] = generator.integers(256)
            archive.writestr(name, bytes(content))
    put(model_folder, buffer.getvalue())
    with contextlib.suppress(IfllmError):
        model, _ = load_model(model_folder)
        X = generator.normal(size=(20, WIDTH))
        probability = model.predict_proba(X)
        assert ((probability >= 0) & (probability <= 1)).all()
        assert np.array_equal(model.predict_proba(-X), probability[:, ::-1])


@pytest.mark.parametrize("file", [CONFIG_FILE, MODEL_FILE])
def test_a_missing_file_is_named(model_folder: Path, file: str) -> None:
    (model_folder / file).unlink()
    refused(model_folder, file)


@pytest.mark.parametrize("config", ["{", "", "\ufeff{}", "[]", "null", "{}"])
def test_a_config_that_is_no_config(model_folder: Path, config: str) -> None:
    (model_folder / CONFIG_FILE).write_text(config)
    refused(model_folder, f"{CONFIG_FILE}: (missing or damaged|not a reward model)")


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"format": None},
        {"features": None},
        {"features": list(FEATURES)},
        {"features": [{"unit": "log"}] * WIDTH},
        {"features": [{"name": 1}] * WIDTH},
        {"sha256": None},
        {"sha256": "abc"},
    ],
    ids=str,
)
def test_a_config_of_another_form(model_folder: Path, change: dict[str, Any]) -> None:
    config = json.loads((model_folder / CONFIG_FILE).read_text())
    (model_folder / CONFIG_FILE).write_text(json.dumps(config | change))
    refused(model_folder, f"{CONFIG_FILE}: not a reward model of format 1")


def test_a_config_with_other_features(model_folder: Path) -> None:
    config = json.loads((model_folder / CONFIG_FILE).read_text())
    config["features"].pop()
    (model_folder / CONFIG_FILE).write_text(json.dumps(config))
    refused(model_folder, "expects 6 features, and config.json names 5")


def test_an_interrupted_save_leaves_the_old_model(
    model_folder: Path, small_model: ImplicitFeedbackRewardModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    before = {path.name: path.read_bytes() for path in model_folder.iterdir()}
    other = deepcopy(small_model)
    other.slope_ = 9.0
    monkeypatch.setattr(Path, "write_bytes", killed)
    with pytest.raises(KeyboardInterrupt):
        save_model(other, model_folder, CONFIG)
    monkeypatch.undo()
    assert {path.name: path.read_bytes() for path in model_folder.iterdir()} == before


def test_a_save_cut_off_between_its_files_is_refused_not_mixed_up(
    model_folder: Path, small_model: ImplicitFeedbackRewardModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = persistence.write_atomically

    def killed_at_the_config(path: Path, content: Any) -> None:
        if path.name == CONFIG_FILE:
            raise KeyboardInterrupt
        written(path, content)

    other = deepcopy(small_model)
    other.slope_ = 9.0
    monkeypatch.setattr(persistence, "write_atomically", killed_at_the_config)
    with pytest.raises(KeyboardInterrupt):
        save_model(other, model_folder, CONFIG)
    refused(model_folder, "its sha256 is not the one")


def test_an_unwritable_folder_is_one_error(small_model: ImplicitFeedbackRewardModel, tmp_path: Path) -> None:
    with pytest.raises(IfllmError, match="cannot be written"):
        save_model(small_model, tmp_path / "missing", CONFIG)
