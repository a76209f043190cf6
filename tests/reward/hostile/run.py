"""Loads every hostile folder in a process of its own: one warm process forks a child for each.

python -m tests.reward.hostile.run FOLDER SHARE > results.jsonl
"""

import json
import os
import resource
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from ifllm_hub.errors import IfllmError
from ifllm_hub.reward.forest import FlatForest
from ifllm_hub.reward.hub import ImplicitFeedbackReward
from ifllm_hub.reward.model import ImplicitFeedbackRewardModel
from ifllm_hub.reward.persistence import load_forest, load_model
from tests.reward.hostile import CANARY, Case, sound
from tests.reward.hostile.corpus import corpus

LOADERS = {
    "from_pretrained": ImplicitFeedbackReward.from_pretrained,
    "load_forest": load_forest,
    "load_model": load_model,
}
SECONDS = 20
MEMORY = 1_000_000_000


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
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            told = load(loader, folder)
        except BaseException:
            told = {"error": "harness", "message": traceback.format_exc()}
        os.write(writing, json.dumps(told).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        told = pipe.read()
    status = os.waitpid(child, 0)[1]
    canary = Path(os.environ[CANARY])
    ran = canary.exists()
    canary.unlink(missing_ok=True)
    return {**(json.loads(told) if told else {}), "signal": os.WTERMSIG(status), "ran": ran}


def load(loader: str, folder: Path) -> dict[str, Any]:
    """Load in this process, under limits of time and memory."""
    signal.alarm(SECONDS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    followed, started = mock.Mock(), time.process_time()
    told: dict[str, Any] = {"error": None, "message": ""}
    with (
        mock.patch.object(FlatForest, "logit", followed),
        mock.patch.object(ImplicitFeedbackRewardModel, "predict_proba", followed),
    ):
        try:
            LOADERS[loader](folder)
        except IfllmError as error:
            told = {"error": "IfllmError", "message": str(error)}
        except BaseException as error:
            told = {"error": type(error).__name__, "message": traceback.format_exc()[-2_000:]}
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    seconds = time.process_time() - started
    return {**told, "folder": str(folder), "followed": followed.called, "seconds": seconds, "bytes": 1_024 * grown}


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
