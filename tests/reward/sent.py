"""What a sender without scruples puts into a model folder, and what must come of it."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import skops.io

from ifllm_hub.errors import IfllmError
from ifllm_hub.reward.model.estimator import ImplicitFeedbackRewardModel
from ifllm_hub.reward.model.flat_forest import FOREST_FILE, dump_forest
from ifllm_hub.reward.model.persistence import CONFIG_FILE, FORMAT, MODEL_FILE, flatten, load_model
from ifllm_hub.reward.protocol.pairs import FEATURES

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


def store(model: Any, folder: Path, like: ImplicitFeedbackRewardModel) -> None:
    """What a sender without scruples writes: any object, under checksums that fit; the forest is that of `like`."""
    digests = {FOREST_FILE: hashlib.sha256(dump_forest(flatten(like))).hexdigest()}
    (folder / CONFIG_FILE).write_text(json.dumps({"format": FORMAT, **CONFIG, "slope": like.slope_, "sha256": digests}))
    put(folder, skops.io.dumps(model))


def put(folder: Path, content: bytes) -> None:
    """Replace the model file, with a checksum that fits: whoever writes the one writes the other."""
    (folder / MODEL_FILE).write_bytes(content)
    config = json.loads((folder / CONFIG_FILE).read_text())
    config["sha256"][MODEL_FILE] = hashlib.sha256(content).hexdigest()
    (folder / CONFIG_FILE).write_text(json.dumps(config))
