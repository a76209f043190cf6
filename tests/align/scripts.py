"""The scripts of `training/` as functions: what they do with flags that are parsed already."""

import runpy
from collections.abc import Callable
from typing import Any

from ifllm_hub.files import shipped_folder

TRAINING = shipped_folder("training")


def script(name: str) -> Callable[..., dict[str, Any]]:
    """The function `train` of a script: arguments, configuration and recipe -> what `results.json` holds."""
    train: Callable[..., dict[str, Any]] = runpy.run_path(str(TRAINING / f"{name}.py"))["train"]
    return train


run_dpo, run_sft, run_kto = (script(name) for name in ("dpo", "sft", "kto"))
