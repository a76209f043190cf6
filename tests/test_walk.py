"""The walk of CONTRIBUTING.md: the files between a recorded line and a pair in the trainer are these, in this order."""

import ast
import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest

from ifllm_hub.align.runs.run import Run
from ifllm_hub.align.stages.dpo import parse_dpo
from ifllm_hub.dataset.build import build_dataset
from ifllm_hub.preferences.labels import write_preferences
from ifllm_hub.sources.ifllm.archive import open_release
from tests.conftest import few_trees

ROOT = Path(__file__).parents[1]
STEPS = re.findall(
    r"^\d+\. `(\S+\.py)`: `([\w.]+)`|^\*\*(.+)\*\*$",
    (ROOT / "CONTRIBUTING.md").read_text().partition("## The walk")[2],
    re.MULTILINE,
)
WALK = [(file, name) for file, name, command in STEPS if not command]


def defined(tree: ast.Module) -> set[str]:
    names = set()
    for node in tree.body:
        if isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
            names |= {f"{node.name}.{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)}
    return names


def test_each_file_is_entered_once_at_a_function_that_it_has() -> None:
    assert len({file for file, _ in WALK}) == len(WALK) == 18
    for file, name in WALK:
        assert name in defined(ast.parse((ROOT / file).read_text())), (file, name)


def entered(work: Callable[[], object]) -> list[tuple[str, str]]:
    """The functions of this repository that are called, by file and name, in the order of their first call."""
    calls: dict[tuple[str, str], None] = {}

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(f"{ROOT}/"):
            file = Path(frame.f_code.co_filename).relative_to(ROOT).as_posix()
            calls.setdefault((file, frame.f_code.co_qualname.removesuffix(".__init__").partition(".<locals>")[0]))

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return list(calls)


@pytest.mark.slow
def test_the_rows_pass_through_the_files_in_this_order(
    simulated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Run, "train", lambda self, trainer: None)
    monkeypatch.setattr(Run, "save_and_push", lambda self, *arguments, **more: None)
    train = runpy.run_path(str(ROOT / "training" / "dpo.py"))["train"]
    recipe = ROOT / "training" / "recipes" / "tiny" / "dpo.yaml"
    dataset, policy = tmp_path / "dataset", tmp_path / "policy"
    flags = ["--config", str(recipe), "--dataset", str(dataset), "--output_dir", str(policy)]
    with few_trees():
        done = {
            "ifllm build": entered(lambda: build_dataset(open_release(simulated), dataset)),
            "ifllm label": entered(lambda: write_preferences(dataset)),
            "training/dpo.py": entered(lambda: train(*parse_dpo(flags))),
        }
    listed: dict[str, list[tuple[str, str]]] = {}
    for file, name, command in STEPS:
        if command:
            listed[command] = []
        elif not name.isupper():  # constants are not called
            listed[list(listed)[-1]].append((file, name))
    assert listed == {command: [call for call in done[command] if call in listed[command]] for command in listed}
