"""A saved model is a folder: `reward_model.skops` and `config.json`, audited before anything is constructed or run."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from ifllm_hub.errors import IfllmError
from ifllm_hub.files import read_json, write_atomically
from ifllm_hub.reward.model import ImplicitFeedbackRewardModel

MODEL_FILE, CONFIG_FILE = "reward_model.skops", "config.json"
FORMAT = 1

# Everything a file of ours holds beyond what skops trusts by itself. `Tree` is not trusted by default since skops 0.16
# because its node arrays are followed without bounds checks; `check_tree` makes up for that.
TRUSTED_TYPES = ("ifllm_hub.reward.model.ImplicitFeedbackRewardModel", "sklearn.tree._tree.Tree")


def save_model(model: ImplicitFeedbackRewardModel, folder: Path, config: dict[str, Any]) -> None:
    """Write the two files into an existing folder.

    Args:
        config: what the model was trained on and how it did; `format`, `sha256` and `slope` are added. Must have
            `features`, the column names in the order of X.
    """
    import skops.io

    content = skops.io.dumps(model, compression=8)
    described = {
        "format": FORMAT,
        **config,
        "slope": model.slope_,
        "sha256": {MODEL_FILE: hashlib.sha256(content).hexdigest()},
    }
    write_atomically(folder / MODEL_FILE, content)
    write_atomically(folder / CONFIG_FILE, json.dumps(described, indent=2) + "\n")


def load_model(folder: Path) -> tuple[ImplicitFeedbackRewardModel, dict[str, Any]]:
    """Read a model folder, refusing anything but a sound model of ours.

    Returns:
        The model and its `config.json`.

    Raises:
        IfllmError: a file is missing, damaged or changed, holds a type that is not named in `TRUSTED_TYPES`, or a tree
            that `check_tree` refuses.
    """
    import skops.io

    config = read_json(folder / CONFIG_FILE)
    if not isinstance(config, dict) or config.get("format") != FORMAT or not isinstance(config.get("features"), list):
        raise IfllmError(f"{folder / CONFIG_FILE}: not a reward model of format {FORMAT}.")
    path = folder / MODEL_FILE
    try:
        content = path.read_bytes()
    except OSError as error:
        raise IfllmError(f"{path}: cannot be read ({error.strerror}).") from error
    if hashlib.sha256(content).hexdigest() != config.get("sha256", {}).get(MODEL_FILE):
        raise IfllmError(f"{path}: its sha256 is not the one in {CONFIG_FILE}. Download the model again.")
    try:
        unknown = sorted(set(skops.io.get_untrusted_types(data=content)) - set(TRUSTED_TYPES))
        if unknown:
            raise IfllmError(f"{path}: holds the type {unknown[0]}, which no reward model of ours does. Not loaded.")
        model = skops.io.loads(content, trusted=list(TRUSTED_TYPES))
    except IfllmError:
        raise
    except Exception as error:  # skops raises whatever the first broken part happens to cause
        raise IfllmError(f"{path}: damaged ({type(error).__name__}: {error}). Download the model again.") from error
    _check_model(model, len(config["features"]), path)
    return model, config


def _check_model(model: Any, width: int, path: Path) -> None:
    if not isinstance(model, ImplicitFeedbackRewardModel):
        raise IfllmError(f"{path}: holds a {type(model).__name__}, not an ImplicitFeedbackRewardModel.")
    trees = getattr(getattr(model, "forest_", None), "estimators_", None)
    slope = getattr(model, "slope_", None)
    if not trees or not isinstance(slope, float) or not 0 <= slope <= 10:
        raise IfllmError(f"{path}: the model is incomplete (no trees, or no slope in 0-10).")
    for number, estimator in enumerate(trees):
        problem = check_tree(estimator.tree_, width)
        if problem:
            raise IfllmError(f"{path}: tree {number}: {problem}. Not loaded.")


def check_tree(tree: Any, width: int) -> str | None:
    """What makes a tree unsafe or meaningless to follow, or None.

    Every inner node must have two later nodes as children (so that a walk ends), every node but the root one parent,
    every split a known feature and a finite threshold, and every node two class shares that add up to one.
    """
    left, right, count = tree.children_left, tree.children_right, tree.node_count
    if tree.n_features != width or tree.n_outputs != 1 or tree.max_n_classes != 2:
        return f"expects {tree.n_features} features and {tree.max_n_classes} classes, not {width} and 2"
    if len(left) != count or len(right) != count or tree.value.shape != (count, 1, 2):
        return "its arrays differ in length"
    node = np.arange(count)
    inner = left != -1
    if not ((right != -1) == inner).all():
        return "a node has one child"
    children = np.concatenate([left[inner], right[inner]])
    if not ((children > np.tile(node[inner], 2)) & (children < count)).all():
        return "a child is out of range"
    if len(np.unique(children)) != len(children) or len(children) != count - 1:
        return "a node has no parent or several"
    if not ((tree.feature[inner] >= 0) & (tree.feature[inner] < width)).all():
        return "a split uses an unknown feature"
    if not np.isfinite(tree.threshold[inner]).all():
        return "a threshold is not finite"
    shares = tree.value[:, 0, :]
    if not (np.isfinite(shares).all() and (shares >= 0).all() and np.allclose(shares.sum(axis=1), 1)):
        return "class shares do not add up to one"
    return None
