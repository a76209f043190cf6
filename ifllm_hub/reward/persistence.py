"""A saved model is a folder, audited before anything is constructed or run.

`reward_model.skops` is the scikit-learn estimator, to go on working with; `forest.safetensors` holds the same trees as
plain arrays, to score with; `config.json` says what the columns are, and has the sha256 of both.
"""

import hashlib
import io
import json
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.tree import ExtraTreeClassifier
from sklearn.tree._tree import Tree

from ifllm_hub.errors import IfllmError
from ifllm_hub.files import read_json, write_atomically
from ifllm_hub.reward.forest import FOREST_FILE, FlatForest, check_links, check_splits, dump_forest, read_forest
from ifllm_hub.reward.model import ImplicitFeedbackRewardModel

MODEL_FILE, CONFIG_FILE, LEADERBOARD_FILE = "reward_model.skops", "config.json", "leaderboard.json"
FORMAT = 1
# A model of ours unpacks to 1 MB or so; a small file can be made that unpacks to any size.
MAX_UNPACKED_BYTES = 100_000_000

# Everything a file of ours holds beyond what skops trusts by itself. `Tree` is not trusted by default since skops 0.16
# because its node arrays are followed without bounds checks; `check_tree` makes up for that.
TRUSTED_TYPES = ("ifllm_hub.reward.model.ImplicitFeedbackRewardModel", "sklearn.tree._tree.Tree")


def save_model(model: ImplicitFeedbackRewardModel, folder: Path, config: dict[str, Any]) -> None:
    """Write the three files into an existing folder.

    Args:
        config: what the model was trained on and how it did; `format`, `sha256` and `slope` are added. Must have
            `features`, a dict with a `name` for each column of X in order.
    """
    import skops.io

    contents = {
        MODEL_FILE: skops.io.dumps(model, compression=8),
        FOREST_FILE: dump_forest(FlatForest.from_model(model)),
    }
    described = {
        "format": FORMAT,
        **config,
        "slope": model.slope_,
        "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()},
    }
    for name, content in contents.items():
        write_atomically(folder / name, content)
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

    config, content = _read(folder, MODEL_FILE)
    path = folder / MODEL_FILE
    try:
        with ZipFile(io.BytesIO(content)) as members:
            size = sum(member.file_size for member in members.infolist())
        if size > MAX_UNPACKED_BYTES:
            raise IfllmError(f"{path}: unpacks to {size:,} bytes, far more than any model of ours. Not loaded.")
        unknown = sorted(set(skops.io.get_untrusted_types(data=content)) - set(TRUSTED_TYPES))
        if unknown:
            raise IfllmError(f"{path}: holds the type {unknown[0]}, which no reward model of ours does. Not loaded.")
        model = skops.io.loads(content, trusted=list(TRUSTED_TYPES))
        problem = _check_model(model, len(config["features"]))
        if problem:
            raise IfllmError(f"{path}: {problem}. Not loaded.")
        model.predict_proba(np.zeros((1, model.n_features_in_)))
    except IfllmError:
        raise
    except Exception as error:  # skops raises whatever the first broken part happens to cause
        raise IfllmError(f"{path}: damaged ({type(error).__name__}: {error}). Download the model again.") from error
    return model, config


def load_forest(folder: Path) -> tuple[FlatForest, dict[str, Any]]:
    """Read the arrays of a model folder, to score with; scikit-learn takes no part.

    Returns:
        The forest and its `config.json`.

    Raises:
        IfllmError: a file is missing, damaged or changed, or the arrays are no sound forest.
    """
    config, content = _read(folder, FOREST_FILE)
    return read_forest(content, len(config["features"]), str(folder / FOREST_FILE)), config


def _read(folder: Path, name: str) -> tuple[dict[str, Any], bytes]:
    """The config, and a file that has the sha256 named there."""
    config = read_json(folder / CONFIG_FILE)
    if not _is_ours(config):
        raise IfllmError(f"{folder / CONFIG_FILE}: not a reward model of format {FORMAT}.")
    path = folder / name
    try:
        content = path.read_bytes()
    except OSError as error:
        raise IfllmError(f"{path}: cannot be read ({error.strerror}).") from error
    if hashlib.sha256(content).hexdigest() != config["sha256"].get(name):
        raise IfllmError(f"{path}: its sha256 is not the one in {CONFIG_FILE}. Download the model again.")
    return config, content


def _is_ours(config: Any) -> bool:
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        return False
    features, digests = config.get("features"), config.get("sha256")
    if not isinstance(features, list) or not isinstance(digests, dict):
        return False
    return all(isinstance(feature, dict) and isinstance(feature.get("name"), str) for feature in features)


def _check_model(model: Any, width: int) -> str | None:
    """What makes a model unsafe to call or incomplete, or None.

    skops trusts every estimator of scikit-learn and sets any attribute, so the types are compared exactly: another
    ensemble could hold trees that nobody checks, and an attribute could take the place of a method.
    """
    if type(model) is not ImplicitFeedbackRewardModel:
        return f"holds a {type(model).__name__}, not an ImplicitFeedbackRewardModel"
    forest, slope = vars(model).get("forest_"), vars(model).get("slope_")
    if type(forest) is not ExtraTreesClassifier:
        return "the model has no forest of extra-trees"
    trees = vars(forest).get("estimators_")
    if type(trees) is not list or not trees or type(slope) is not float or not 0 <= slope <= 10:
        return "the model is incomplete (no trees, or no slope in 0-10)"
    if any(type(tree) is not ExtraTreeClassifier or type(vars(tree).get("tree_")) is not Tree for tree in trees):
        return "the forest holds something that is no tree"
    for part in (model, forest, *trees):
        hidden = [name for name in vars(part) if hasattr(type(part), name)]
        if hidden:
            return f"an attribute takes the place of {type(part).__name__}.{hidden[0]}"
    if model.n_features_in_ != width:
        return f"the model expects {model.n_features_in_} features, and {CONFIG_FILE} names {width}"
    problems = ((number, check_tree(tree.tree_, width)) for number, tree in enumerate(trees))
    return next((f"tree {number}: {problem}" for number, problem in problems if problem), None)


def check_tree(tree: Any, width: int) -> str | None:
    """What makes a tree unsafe or meaningless to follow, or None.

    See `check_links`; every split must be of a known feature at a finite threshold, and every node have two class
    shares that add up to one.
    """
    left, right, count = tree.children_left, tree.children_right, tree.node_count
    if tree.n_features != width or tree.n_outputs != 1 or tree.max_n_classes != 2:
        return f"expects {tree.n_features} features and {tree.max_n_classes} classes, not {width} and 2"
    if len(left) != count or len(right) != count or tree.value.shape != (count, 1, 2):
        return "its arrays differ in length"
    inner = left != -1
    problem = check_links(left, right) or check_splits(tree.feature[inner], tree.threshold[inner], width)
    if problem:
        return problem
    shares = tree.value[:, 0, :]
    if not (np.isfinite(shares).all() and (shares >= 0).all() and np.allclose(shares.sum(axis=1), 1)):
        return "class shares do not add up to one"
    return None
