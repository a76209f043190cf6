"""A seeded corpus of hostile model folders: a sound model, and in each one change that somebody could have made to it.

Digests in `config.json` are made to fit the changed files (`fit`), so that the audit of the content is what refuses,
unless a case is about stale digests. A change is always one that breaks something: no case is sound by accident.
"""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ifllm_hub.reward.model.estimator import ImplicitFeedbackRewardModel
from ifllm_hub.reward.model.persistence import CONFIG_FILE, save_model
from ifllm_hub.reward.protocol.pairs import FEATURES

WIDTH = len(FEATURES)
CANARY = "IFLLM_CANARY"
FLAT, ESTIMATOR = ("from_pretrained", "load_forest"), ("load_model",)
ALL = FLAT + ESTIMATOR
LARGEST, LOWEST = 2**31 - 1, -(2**31)

Spoiling = Callable[[Path], None]


@dataclass(frozen=True)
class Case:
    """A folder to be refused: `spoil` changes the files of a sound one, by the loaders that read what is changed."""

    name: str
    loaders: tuple[str, ...]
    spoil: Spoiling


class Armed:
    """Leaves a file where the environment says when it is made from a pickle or from a state."""

    def __reduce__(self) -> Any:
        return os.system, (f'touch "${CANARY}"',)


class ArmedState:
    """The same for whoever sets the attributes of an object."""

    value = 1

    def __getstate__(self) -> dict[str, Any]:
        return {"value": 1}

    def __setstate__(self, state: dict[str, Any]) -> None:
        Path(os.environ[CANARY]).touch()


def sound(folder: Path) -> ImplicitFeedbackRewardModel:
    """Save a small model; every tree has splits."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, WIDTH))
    model = ImplicitFeedbackRewardModel(n_estimators=3, max_depth=3).fit(X, X.sum(axis=1) + rng.normal(size=200) > 0)
    folder.mkdir(parents=True, exist_ok=True)
    save_model(model, folder, {"features": [{"name": name, "unit": "x"} for name in FEATURES]})
    return model


def fit(folder: Path, file: str, content: bytes) -> None:
    """Put a file with the digest that fits: whoever writes the one writes the other."""
    (folder / file).write_bytes(content)
    configure(lambda config: config["sha256"].update({file: hashlib.sha256(content).hexdigest()}))(folder)


def configure(change: Callable[[dict[str, Any]], Any]) -> Spoiling:
    def spoil(folder: Path) -> None:
        config = json.loads((folder / CONFIG_FILE).read_text())
        change(config)
        (folder / CONFIG_FILE).write_text(json.dumps(config))

    return spoil


def put(file: str, content: bytes) -> Spoiling:
    return lambda folder: fit(folder, file, content)
