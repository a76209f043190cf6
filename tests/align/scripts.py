"""The scripts of `training/`: as functions of flags that are parsed already, as in this process, and as commands."""

import json
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ifllm_hub.files import shipped_folder

TRAINING = shipped_folder("training")


def script(name: str) -> Callable[..., dict[str, Any]]:
    """The function `train` of a script: arguments, configuration and recipe -> what `results.json` holds."""
    train: Callable[..., dict[str, Any]] = runpy.run_path(str(TRAINING / f"{name}.py"))["train"]
    return train


run_dpo, run_sft, run_kto = (script(name) for name in ("dpo", "sft", "kto"))


def command(script: str, dataset: Path, output_dir: Path, **flags: Any) -> list[str]:
    recipe = TRAINING / "recipes" / "tiny" / f"{script}.yaml"
    flags = {"config": recipe, "dataset": dataset, "output_dir": output_dir, "disable_tqdm": True} | flags
    return [
        str(TRAINING / f"{script}.py"),
        *(word for name, value in flags.items() for word in (f"--{name}", str(value))),
    ]


def run_script(script: str, dataset: Path, output_dir: Path, **flags: Any) -> int:
    """Run a script with its tiny recipe in this process; its status."""
    words = command(script, dataset, output_dir, **flags)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", words)
        status: int = runpy.run_path(words[0])["main"]()
    return status


def finished(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=500, check=False)


def results_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text())
