"""Hostile `reward_model.skops` files of honest make: objects that skops itself wrote."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import numpy as np
import skops.io
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.tree._tree import Tree

from ifllm_hub.reward.model.estimator import ImplicitFeedbackRewardModel
from ifllm_hub.reward.model.persistence import MODEL_FILE
from tests.reward.hostile import WIDTH, Spoiling, fit


def hostile_trees(model: ImplicitFeedbackRewardModel) -> Iterator[tuple[str, Spoiling]]:
    """Trees as scikit-learn restores them, without a check of its own."""

    def case(name: str, change: Callable[[dict[str, Any]], Any], *shape: Any) -> tuple[str, Spoiling]:
        changed = deepcopy(model)
        part = changed.forest_.estimators_[1]
        state = deepcopy(part.tree_.__getstate__())
        change(state)
        width, classes, outputs = shape or (WIDTH, [2], 1)
        part.tree_ = Tree(width, np.array(classes), outputs)
        part.tree_.__setstate__(state)
        content = skops.io.dumps(changed)
        return name, lambda folder: fit(folder, MODEL_FILE, content)

    def node(field: str, index: int, value: float) -> Callable[[dict[str, Any]], None]:
        return lambda state: state["nodes"][field].__setitem__(index, value)

    tree = model.forest_.estimators_[1].tree_
    inner = int(np.flatnonzero(tree.children_left != -1)[1])
    leaf = int(np.flatnonzero(tree.children_left == -1)[0])
    for side in ("left_child", "right_child"):
        for child in (tree.node_count, 10**9, 2**62, -7, -(2**62), 0):
            yield case(f"{side} {child}", node(side, 0, child))
        yield case(f"no {side}", node(side, 0, -1))
        yield case(f"own {side}", node(side, inner, inner))
        yield case(f"{side} of a leaf", node(side, leaf, leaf + 1))
    yield case("shared child", node("left_child", 0, int(tree.children_right[0])))
    for feature in (WIDTH, 10**9, 2**62, -1, -3, -(2**62)):
        yield case(f"feature {feature}", node("feature", 0, feature))
    for threshold in (np.nan, np.inf, -np.inf):
        yield case(f"threshold {threshold}", node("threshold", 0, threshold))
    for shares in ([0.7, 0.7], [-1.0, 2.0], [np.nan, 1.0], [np.inf, -np.inf], [0.0, 0.0]):
        yield case(f"shares {shares}", lambda state, shares=shares: state["values"].__setitem__((leaf, 0), shares))
    cut = {"node_count": 0, "nodes": tree.__getstate__()["nodes"][:0], "values": tree.value[:0]}
    yield case("no nodes", lambda state: state.update(cut))
    yield case("more features", lambda state: None, WIDTH + 1, [2], 1)
    yield case("no features", lambda state: None, 0, [2], 1)
    threes = np.zeros((tree.node_count, 1, 3))
    yield case("three classes", lambda state: state.update(values=threes), WIDTH, [3], 1)
    twice = np.zeros((tree.node_count, 2, 2))
    yield case("two outputs", lambda state: state.update(values=twice), WIDTH, [2, 2], 2)


def hostile_estimators(model: ImplicitFeedbackRewardModel) -> Iterator[tuple[str, Spoiling]]:
    """Sound trees in the wrong places, with objects that skops trusts."""

    def case(name: str, change: Callable[[Any], Any]) -> tuple[str, Spoiling]:
        changed = deepcopy(model)
        instead = change(changed)
        content = skops.io.dumps(changed if instead is None else instead)
        return name, lambda folder: fit(folder, MODEL_FILE, content)

    def forest(**attributes: Any) -> Callable[[Any], None]:
        return lambda changed: vars(changed.forest_).update(attributes)

    def own(**attributes: Any) -> Callable[[Any], None]:
        return lambda changed: vars(changed).update(attributes)

    trees = model.forest_.estimators_
    ensemble = RandomForestClassifier()
    ensemble.estimators_ = trees
    yield case("another estimator", lambda changed: ExtraTreesClassifier())
    yield case("a dictionary", lambda changed: {"forest_": changed.forest_})
    yield case("another forest", own(forest_=LogisticRegression()))
    yield case("another kind of forest around the trees", own(forest_=ensemble))
    yield case("no forest", lambda changed: delattr(changed, "forest_"))
    yield case("a hidden method of the model", own(predict_proba=np.exp))
    yield case("a hidden method of the forest", forest(predict_proba=np.exp))
    yield case("a hidden method of a tree", lambda changed: vars(changed.forest_.estimators_[0]).update(predict=np.exp))
    yield case("trees that are texts", forest(estimators_=["tree"] * 3))
    yield case("a tuple of trees", forest(estimators_=tuple(trees)))
    yield case("no trees", forest(estimators_=[]))
    yield case("a tree less", forest(estimators_=trees[:2], n_estimators=2))
    yield case("the trees in another order", forest(estimators_=trees[::-1]))
    yield case("a tree that was never grown", lambda changed: delattr(changed.forest_.estimators_[0], "tree_"))
    yield case("forests in the forest", forest(estimators_=[model.forest_] * 3))
    yield case("a thread for everything", forest(n_jobs=10**9, n_estimators=10**9))
    yield case("as many threads as processors", forest(n_jobs=-1))
    yield case("an array of threads", forest(n_jobs=np.arange(3)))
    for name, value in (("5", 5), ("a billion", 10**9), ("a list of", [2, 2]), ("an array of", np.full(4, 2))):
        yield case(f"{name} classes", forest(n_classes_=value))
    yield case("a billion outputs", forest(n_outputs_=10**9))
    yield case("a forest of other features", forest(n_features_in_=3))
    yield case("a tree of other classes", lambda changed: vars(changed.forest_.estimators_[0]).update(n_classes_=7))
    yield case("other features", own(n_features_in_=3))
    yield case("features of another kind", own(n_features_in_="six"))
    yield case("one preference", own(classes_=np.array([1])))
    yield case("preferences that are no array", own(classes_=7))
    for name, weights in (
        ("none", None),
        ("too few", model.weights_[1:]),
        ("float32", model.weights_.astype("f4")),
        ("negative", -1 - model.weights_),
        ("not finite", model.weights_ + np.inf),
        ("other", model.weights_ + 1),
        ("a list of", [1.0] * WIDTH),
        ("a table of", model.weights_[None]),
    ):
        yield case(f"{name} weights", own(weights_=weights))
    for slope in (-1.0, 11.0, float("nan"), float("inf"), "steep", None, 10**400, True, model.slope_ / 2):
        yield case(f"slope {str(slope)[:10]}", own(slope_=slope))
