"""Loads every hostile folder in a process of its own: one warm process forks a child for each.

python -m tests.reward.hostile.run FOLDER SHARE > results.jsonl
"""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from ifllm_hub.reward.model.estimator import ImplicitFeedbackRewardModel
from ifllm_hub.reward.model.flat_forest import FlatForest
from ifllm_hub.reward.model.persistence import load_forest, load_model
from ifllm_hub.reward.model.pretrained import ImplicitFeedbackReward
from tests.hostile.child import outcome
from tests.reward.hostile import CANARY, Case, sound
from tests.reward.hostile.corpus import corpus

LOADERS = {
    "from_pretrained": ImplicitFeedbackReward.from_pretrained,
    "load_forest": load_forest,
    "load_model": load_model,
}


def main(work: Path, share: float) -> None:
    """Write a line of JSON for each case and loader: what was raised, the signal, CPU seconds, bytes, what was run."""
    os.environ[CANARY] = str(work / "canary")
    model = sound(work / "sound")
    load_model(work / "sound")  # what it imports is not counted
    cases = corpus(model, work / "sound")
    chosen = np.random.default_rng(0).random(len(cases)) < share
    control = Case("control", tuple(LOADERS), lambda folder: None)
    for case in [control, *(case for case, take in zip(cases, chosen, strict=True) if take)]:
        folder = work / "case"
        shutil.copytree(work / "sound", folder)
        case.spoil(folder)
        there = sorted(os.listdir(folder)) + sorted(os.listdir(work))
        for loader in case.loaders:
            told = run(loader, folder)
            told["wrote"] = sorted(os.listdir(folder)) + sorted(os.listdir(work)) != there
            sys.stdout.write(json.dumps({"case": case.name, "loader": loader, **told}) + "\n")
            sys.stdout.flush()  # before the next fork
        shutil.rmtree(folder)


def run(loader: str, folder: Path) -> dict[str, Any]:
    """What a child that loads the folder says, or the signal that ended it."""
    followed = mock.Mock()

    def load() -> None:
        with (
            mock.patch.object(FlatForest, "logit", followed),
            mock.patch.object(ImplicitFeedbackRewardModel, "predict_proba", followed),
        ):
            LOADERS[loader](folder)

    told = outcome(load, after=lambda: {"followed": followed.called})
    canary = Path(os.environ[CANARY])
    ran = canary.exists()
    canary.unlink(missing_ok=True)
    return {**told, "folder": str(folder), "ran": ran}


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
