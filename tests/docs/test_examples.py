"""The examples in docstrings, and that the API reference lists their names: each runs as its reader would run it."""

import doctest
import importlib
import re
from pathlib import Path
from typing import Any

import pytest

REFERENCE = (Path(__file__).parents[2] / "docs" / "reference.md").read_text(encoding="utf-8")
LISTED = re.findall(r"^::: ([\w.]+)$", REFERENCE, re.MULTILINE)
# These import torch or build a dataset.
TAKE_LONG = {
    "ifllm_hub.align.policies.load_policy",
    "ifllm_hub.align.trainer.FlipProbDPOConfig",
    "ifllm_hub.align.trainer.FlipProbDPOTrainer",
    "ifllm_hub.dataset.build.build_dataset",
}


def named(name: str) -> Any:
    """What a full name stands for."""
    module, _, attribute = name.rpartition(".")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        return getattr(importlib.import_module(module), attribute)


def examples(name: str) -> list[doctest.DocTest]:
    """The examples of one listed name, and of the functions of a listed module."""
    thing = named(name)
    found = doctest.DocTestFinder(exclude_empty=True).find(thing, name, globs={})
    return [test for test in found if test.examples]


# TRL sets and calls what transformers has renamed.
@pytest.mark.filterwarnings("ignore:.* is deprecated and will be removed in v6:FutureWarning")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in TAKE_LONG else name for name in LISTED]
)
def test_the_examples_run(
    name: str, simulated: Path, labeled_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "simulated").symlink_to(simulated)
    (tmp_path / "ifllm").symlink_to(labeled_dataset)
    monkeypatch.chdir(tmp_path)
    for test in examples(name):
        said: list[str] = []
        failed, _ = doctest.DocTestRunner(verbose=False).run(test, out=said.append)
        assert not failed, "".join(said)


def test_entry_points_have_examples() -> None:
    """All but the errors, a folder's path and a configuration, whose trainer has the example."""
    quick = [name for name in LISTED if name not in TAKE_LONG]
    without = {name.rpartition(".")[2] for name in quick if not examples(name)}
    assert without == {"IfllmError", "default_model"}
    assert len(LISTED) - len(without) >= 15
