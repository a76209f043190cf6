"""The audit of an estimator that skops has restored: its trees, and whatever stands around them."""

import json
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

from ifllm_hub.reward.model.estimator import ImplicitFeedbackRewardModel
from ifllm_hub.reward.model.flat_forest import FOREST_FILE
from ifllm_hub.reward.model.persistence import MODEL_FILE, check_tree, load_model
from tests.reward.hostile.archives import members, packed
from tests.reward.sent import WIDTH, not_to_be_reached, put, refused, store


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
    pytest.param(no_nodes, "says that it has 0 nodes", id="no nodes"),
]


@pytest.mark.parametrize(("change", "problem"), HOSTILE_TREES)
def test_a_hostile_tree_is_refused_before_it_is_followed(
    small_model: ImplicitFeedbackRewardModel, tmp_path: Path, change: Any, problem: str
) -> None:
    store(with_tree(small_model, change), tmp_path, small_model)
    refused(tmp_path, rf"{MODEL_FILE}: tree 2: .*({problem}).*Not loaded")


def test_a_sound_tree_passes_the_same_way(small_model: ImplicitFeedbackRewardModel, tmp_path: Path) -> None:
    store(with_tree(small_model, lambda state: None), tmp_path, small_model)
    load_model(tmp_path)


@pytest.mark.parametrize(
    ("width", "classes", "outputs", "problem"),
    [
        (WIDTH + 1, 2, 1, f"expects {WIDTH + 1} features"),
        (WIDTH, 3, 1, "and 3 classes"),
        (WIDTH, 2, 2, f"expects {WIDTH} features"),
    ],
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
        (other_forest, r"holds the type sklearn\.linear_model\._logistic\.LogisticRegression"),
        (ensemble_with_hidden_trees, r"holds the type sklearn\.ensemble\._forest\.RandomForestClassifier"),
        (stub_tree, r"holds the type builtins\.str, which no reward model of ours does in that place"),
        (hidden_method, "its ExtraTreesClassifier has an attribute 'predict_proba', which none of ours does"),
        (no_trees, "incomplete"),
        (unfitted, "its ImplicitFeedbackRewardModel is incomplete"),
        (slope(-1.0), "incomplete"),
        (slope(float("nan")), "incomplete"),
        (slope(11.0), "incomplete"),
        (slope("steep"), "incomplete"),
        (other_width, "expects 3 features, and config.json names 5"),
    ],
)
def test_an_unsound_model_around_sound_trees(
    small_model: ImplicitFeedbackRewardModel, tmp_path: Path, change: Any, problem: str
) -> None:
    model = deepcopy(small_model)
    store(model, tmp_path, small_model)
    change(model)
    put(tmp_path, skops.io.dumps(model, compression=8))
    refused(tmp_path, rf"{MODEL_FILE}: .*{problem}")


def changed_schema(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the attributes of the forest in the JSON of a model file."""
    content = (folder / MODEL_FILE).read_bytes()
    schema = json.loads(members(content)["schema.json"])
    change(schema["content"]["content"]["forest_"]["content"]["content"])
    put(folder, packed(content, {"schema.json": json.dumps(schema).encode()}))


def laughing(forest: dict[str, Any]) -> None:
    """A list of twice the same list, and so on: to walk it takes 2 ** 40 steps."""
    laugh = {**forest["estimators_"], "__id__": 1, "content": []}
    for number in range(2, 42):
        laugh = {**laugh, "__id__": number, "content": [laugh, {**laugh, "content": []}]}
    forest["verbose"] = laugh


def shared(forest: dict[str, Any]) -> None:
    trees = forest["estimators_"]["content"]
    trees.append({**trees[0]})


def saying(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(forest: dict[str, Any]) -> None:
        forest[name] = {**forest["verbose"], "content": json.dumps(value), "__id__": 1_000_000}

    return change


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (laughing, r"holds the type builtins\.list, which no reward model of ours does in that place"),
        (shared, "two nodes have the same number"),
        (saying("verbose", [0, 0]), "verbose is neither a number nor a text"),
        (saying("verbose", "x" * 1_000), "verbose is longer than any of ours"),
        (saying("_sklearn_version", "\x1b[2J"), "_sklearn_version is neither a number nor a text"),
    ],
)
def test_a_schema_that_is_not_ours_never_reaches_skops(
    model_folder: Path, change: Any, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed_schema(model_folder, change)
    monkeypatch.setattr(skops.io, "get_untrusted_types", not_to_be_reached)
    refused(model_folder, rf"{MODEL_FILE}: {problem}")


def test_another_estimator_is_not_a_reward_model(model_folder: Path) -> None:
    put(model_folder, skops.io.dumps(ExtraTreesClassifier()))
    refused(model_folder, r"holds the type sklearn\.ensemble\._forest\.ExtraTreesClassifier, which no")


def more_threads(model: Any) -> None:
    model.forest_.n_jobs = 10**9


def other_classes(model: Any) -> None:
    model.forest_.n_classes_ = 5


def one_preference(model: Any) -> None:
    model.classes_ = model.classes_[:1]


def other_trees(model: Any) -> None:
    model.forest_.estimators_ = model.forest_.estimators_[::-1]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (more_threads, "asks for more trees or threads"),
        (other_classes, "another number of features or classes"),
        (one_preference, "does not know two preferences"),
        (other_trees, f"is another model than the one in {FOREST_FILE}"),
        (slope(9.0), "has the slope 9, and config.json says"),
    ],
)
def test_parts_that_do_not_fit_together(
    small_model: ImplicitFeedbackRewardModel, tmp_path: Path, change: Any, problem: str
) -> None:
    model = deepcopy(small_model)
    change(model)
    store(model, tmp_path, small_model)
    refused(tmp_path, rf"{MODEL_FILE}: .*{problem}")
