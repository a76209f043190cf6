"""A saved model is a folder, audited before anything is constructed or run.

`reward_model.skops` is the scikit-learn estimator, to go on working with; `forest.safetensors` holds the same trees as
plain arrays, to score with; `config.json` says what the columns are, and has the sha256 of both.
"""

import hashlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from ifllm_hub.errors import IfllmError, first_line
from ifllm_hub.files import write_atomically
from ifllm_hub.reward.model.canonical import canonical
from ifllm_hub.reward.model.config import ModelConfig, Trained
from ifllm_hub.reward.model.estimator_audit import check_archive, without_repeats
from ifllm_hub.reward.model.flat_forest import (
    FOREST_FILE,
    FlatForest,
    check_forest,
    check_links,
    check_splits,
    dump_forest,
    read_forest,
)

if TYPE_CHECKING:  # scikit-learn takes no part in scoring
    from ifllm_hub.reward.model.estimator import ImplicitFeedbackRewardModel

MODEL_FILE, CONFIG_FILE, LEADERBOARD_FILE = "reward_model.skops", "config.json", "leaderboard.json"
FORMAT = 1
# A model of ours has half a megabyte.
MAX_FILE_BYTES = 50_000_000
MAX_CONFIG_BYTES = 1_000_000
# Names of features are printed in errors and tables.
_FEATURE = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,99}")

# Everything a file of ours holds beyond what skops trusts by itself. `Tree` is not trusted by default since skops 0.16
# because its node arrays are followed without bounds checks; `check_tree` makes up for that.
TRUSTED_TYPES = ("ifllm_hub.reward.model.estimator.ImplicitFeedbackRewardModel", "sklearn.tree._tree.Tree")


def flatten(model: "ImplicitFeedbackRewardModel") -> FlatForest:
    """The same model as flat arrays, without scikit-learn.

    Raises:
        IfllmError: a tree has more than `MAX_LEAVES` leaves.
    """
    trees = [estimator.tree_ for estimator in model.forest_.estimators_]

    def joined(name: str, kind: str) -> np.ndarray:
        return np.concatenate([getattr(tree, name) for tree in trees]).astype(kind)

    forest = FlatForest(
        left=joined("children_left", "i4"),
        right=joined("children_right", "i4"),
        feature=joined("feature", "i4"),
        threshold=joined("threshold", "f8"),
        share=np.concatenate([tree.value[:, 0, 1] for tree in trees]),
        start=np.cumsum([0, *(tree.node_count for tree in trees)]).astype("i4"),
        weights=model.weights_,
        slope=np.array(model.slope_),
    )
    if problem := check_forest(forest):
        raise IfllmError(f"this model cannot be written as a flat forest: {problem}.")
    return forest


def save_model(model: "ImplicitFeedbackRewardModel", folder: Path, config: Trained) -> None:
    """Write the three files into an existing folder; the same bytes for the same model and config.

    Args:
        config: what the model was trained on and how it did; `features` are the columns of X in order. `format`,
            `sha256` and `slope` are added.
    """
    import skops.io

    contents = {
        MODEL_FILE: canonical(skops.io.dumps(model)),
        FOREST_FILE: dump_forest(flatten(model)),
    }
    described: ModelConfig = {
        "format": FORMAT,
        **config,
        "slope": model.slope_,
        "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()},
    }
    for name, content in contents.items():
        write_atomically(folder / name, content)
    write_atomically(folder / CONFIG_FILE, json.dumps(described, indent=2) + "\n")


def load_model(folder: Path) -> tuple["ImplicitFeedbackRewardModel", ModelConfig]:
    """Read a model folder, refusing anything but a sound model of ours.

    Returns:
        The model and its `config.json`.

    Raises:
        IfllmError: a file is missing, damaged or changed, holds what `check_archive` refuses, a type that is not named
            in `TRUSTED_TYPES`, a tree that `check_tree` refuses, or other trees than `forest.safetensors`.
    """
    config, content = _read(folder, MODEL_FILE)
    path = folder / MODEL_FILE
    try:
        problem = check_archive(content)
        if problem:
            raise IfllmError(f"{path}: {problem}. Not loaded.")
        import skops.io

        unknown = sorted(set(skops.io.get_untrusted_types(data=content)) - set(TRUSTED_TYPES))
        if unknown:
            raise IfllmError(f"{path}: holds the type {unknown[0]}, which no reward model of ours does. Not loaded.")
        model = skops.io.loads(content, trusted=list(TRUSTED_TYPES))
        problem = (
            _check_model(model, len(config["features"]))
            or _check_slope(model.slope_, config.get("slope"))
            or _check_twin(model, config["sha256"].get(FOREST_FILE))
        )
        if problem:
            raise IfllmError(f"{path}: {problem}. Not loaded.")
        model.predict_proba(np.zeros((1, model.n_features_in_)))
    except IfllmError:
        raise
    except Exception as error:  # skops raises whatever the first broken part happens to cause
        told = f"{type(error).__name__}: {first_line(error):.200}"
        raise IfllmError(f"{path}: damaged ({told}). Download the model again.") from error
    return model, config


def load_forest(folder: Path) -> tuple[FlatForest, ModelConfig]:
    """Read the arrays of a model folder, to score with; scikit-learn takes no part.

    Returns:
        The forest and its `config.json`.

    Raises:
        IfllmError: a file is missing, damaged or changed, or the arrays are no sound forest.
    """
    config, content = _read(folder, FOREST_FILE)
    path = folder / FOREST_FILE
    forest = read_forest(content, str(path))
    problem = _check_width(forest.width, len(config["features"])) or _check_slope(
        float(forest.slope), config.get("slope")
    )
    if problem:
        raise IfllmError(f"{path}: {problem}. Not loaded.")
    return forest, config


def read_bounded(path: Path, limit: int) -> bytes:
    """The content of a file that somebody else may have put there.

    Raises:
        IfllmError: it is missing, cannot be read, is no regular file (a pipe would be waited for), or is too large.
    """
    try:
        if not path.is_file():
            raise IfllmError(f"{path}: there is no such file. Download the model again.")
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise IfllmError(f"{path}: cannot be read ({error.strerror}).") from error
    if len(content) > limit:
        raise IfllmError(f"{path}: has more than {limit:,} bytes, far more than any model of ours. Not loaded.")
    return content


def _read(folder: Path, name: str) -> tuple[ModelConfig, bytes]:
    """The config, and a file that has the sha256 named there."""
    path = folder / CONFIG_FILE
    try:
        config = json.loads(read_bounded(path, MAX_CONFIG_BYTES), object_pairs_hook=without_repeats)
    except (ValueError, RecursionError) as error:
        raise IfllmError(f"{path}: damaged ({first_line(error)}). Download the model again.") from error
    if not _is_ours(config):
        raise IfllmError(f"{path}: not a reward model of format {FORMAT}.")
    content = read_bounded(folder / name, MAX_FILE_BYTES)
    if _sha256(content) != config["sha256"].get(name):
        raise IfllmError(f"{folder / name}: its sha256 is not the one in {CONFIG_FILE}. Download the model again.")
    return config, content


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _is_ours(config: Any) -> TypeGuard[ModelConfig]:
    if not isinstance(config, dict) or type(config.get("format")) is not int or config["format"] != FORMAT:
        return False
    features, digests = config.get("features"), config.get("sha256")
    if not isinstance(features, list) or not isinstance(digests, dict):
        return False
    names = [feature.get("name") if isinstance(feature, dict) else None for feature in features]
    known = all(isinstance(name, str) and _FEATURE.fullmatch(name) for name in names)
    return known and len(set(names)) == len(names)


def _check_width(width: Any, named: int) -> str | None:
    return None if width == named else f"the model expects {width} features, and {CONFIG_FILE} names {named}"


def _check_slope(slope: float, named: Any) -> str | None:
    return None if slope == named else f"the model has the slope {slope:g}, and {CONFIG_FILE} says {named!a:.40}"


def _check_model(model: Any, width: int) -> str | None:
    """What makes a model, of parts of the right types, unsafe to call or incomplete; or None."""
    forest, slope = model.forest_, model.slope_
    trees = forest.estimators_
    if not trees or type(slope) is not float or not 0 <= slope <= 10:
        return "the model is incomplete (no trees, or no slope in 0-10)"
    if (forest.n_estimators, forest.n_jobs) != (len(trees), None):
        return "the forest asks for more trees or threads than it has trees"
    if model.classes_.shape != (2,):
        return "the model does not know two preferences"
    problem = _check_width(model.n_features_in_, width)
    if problem:
        return problem
    weights = vars(model).get("weights_")
    if type(weights) is not np.ndarray or weights.dtype != np.float64 or weights.shape != (width,):
        return "the model has no line, or one for another number of features"
    if any((part.n_features_in_, part.n_classes_, part.n_outputs_) != (width, 2, 1) for part in (forest, *trees)):
        return "a tree says that it has another number of features or classes"
    problems = ((number, check_tree(tree.tree_, width)) for number, tree in enumerate(trees))
    return next((f"tree {number}: {problem}" for number, problem in problems if problem), None)


def _check_twin(model: "ImplicitFeedbackRewardModel", digest: Any) -> str | None:
    """How a model whose trees are sound differs from the arrays beside it, which have this sha256; or None."""
    try:
        content = dump_forest(flatten(model))
    except IfllmError as error:
        return str(error).rstrip(".")
    return None if _sha256(content) == digest else f"is another model than the one in {FOREST_FILE}"


def check_tree(tree: Any, width: int) -> str | None:
    """What makes a tree unsafe or meaningless to follow, or None.

    See `check_links`; every split must be of a known feature at a finite threshold, and every node have two class
    shares that add up to one.
    """
    if tree.n_features != width or tree.n_outputs != 1 or tree.max_n_classes != 2:
        return f"expects {tree.n_features} features and {tree.max_n_classes} classes, not {width} and 2"
    count = tree.node_count
    if not 0 < count <= tree.capacity:  # the arrays below are views of so many nodes, there or not
        return f"says that it has {count} nodes, and has {tree.capacity}"
    left, right = tree.children_left, tree.children_right
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
