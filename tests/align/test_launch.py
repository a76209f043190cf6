"""`accelerate launch` from Python: the command, what is said when it fails, and that nothing is left running."""

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from ifllm_hub.align import launch
from ifllm_hub.align.launch import command_line, launch_dpo
from ifllm_hub.errors import IfllmError
from ifllm_hub.locate import shipped_folder

TRAINING = shipped_folder("training")
TINY = TRAINING / "recipes" / "tiny" / "dpo.yaml"


def test_command_line(tmp_path: Path) -> None:
    overrides = {"max_steps": 2, "loss_type": ["robust", "sft"], "lora": False, "lr_scheduler_kwargs": {"a": 1}}
    command = command_line("tiny", "ORG/ifllm", tmp_path, overrides, processes=2)
    assert command[:3] == [sys.executable, "-m", "accelerate.commands.launch"]
    assert Path(command[command.index("--config_file") + 1]).name == "ddp.yaml"
    assert command[command.index("--num_processes") + 1] == "2"
    text = " ".join(command)
    assert f"{TRAINING / 'dpo.py'} --config {TINY} --dataset ORG/ifllm --output_dir {tmp_path}" in text
    assert text.endswith('--max_steps 2 --loss_type robust sft --lora False --lr_scheduler_kwargs {"a": 1}')
    assert str(TINY) in command_line(str(TINY), "ORG/ifllm", tmp_path, {})


def test_command_line_refuses(tmp_path: Path) -> None:
    with pytest.raises(IfllmError, match=r"no recipe 'gpt5'.* Name one of .*smollm2-135m, .*tiny"):
        command_line("gpt5", "ORG/ifllm", tmp_path, {})
    with pytest.raises(IfllmError, match="processes is 0"):
        command_line("tiny", "ORG/ifllm", tmp_path, {}, processes=0)


LAUNCHER = "subprocess.CalledProcessError: Command '['python']' returned non-zero exit status 2."


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        (f"Traceback\nerror: No such thing.\nTraceback\n{LAUNCHER}", "error: No such thing."),
        (f"  raise x\ntorch.OutOfMemoryError: 8 GB\n{LAUNCHER}", "torch.OutOfMemoryError: 8 GB"),
        ("[rank1]: ValueError: no\ntorch...ChildFailedError: \n====\nRoot Cause", "[rank1]: ValueError: no"),
        ("Killed\n\n", "Killed"),
        ("", "it said nothing."),
    ],
)
def test_launch_failure_gives_the_reason_and_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: str, reason: str
) -> None:
    code = f"import sys; sys.stderr.write({log!r}); sys.exit(1)"
    monkeypatch.setattr(launch, "command_line", lambda *args: [sys.executable, "-c", code])
    with pytest.raises(IfllmError) as caught:
        launch_dpo("tiny", "ORG/ifllm", tmp_path, {})
    assert str(caught.value).startswith(f"Training ended with status 1: {reason} The whole log: {tmp_path}/train.log.")


def test_launch_ends_all_its_processes_when_the_caller_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import psutil

    entry = json.dumps({"step": 0, "max_steps": 1, "loss": None})
    sleeper = "import time; time.sleep(60)"
    code = (
        "import pathlib, subprocess, sys;"
        f"child = subprocess.Popen([sys.executable, '-c', {sleeper!r}]);"
        f"pathlib.Path({str(tmp_path / 'child')!r}).write_text(str(child.pid));"
        f"pathlib.Path({str(tmp_path / 'progress.jsonl')!r}).write_text({entry!r} + chr(10)); child.wait()"
    )
    monkeypatch.setattr(launch, "command_line", lambda *args: [sys.executable, "-c", code])

    def interrupt(*entry: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        launch_dpo("tiny", "ORG/ifllm", tmp_path, {}, on_progress=interrupt)
    child = int((tmp_path / "child").read_text())
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


def test_launch_without_trl(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(IfllmError, match=r"pip install 'ifllm_hub\[train\]'"):
        launch_dpo("tiny", "ORG/ifllm", tmp_path, {})


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(dataset: Path, tmp_path: Path) -> None:
    flags = {"max_steps": 2, "per_device_train_batch_size": 1}
    launch_dpo("tiny", dataset, tmp_path / "two", flags, processes=2)
    launch_dpo("tiny", dataset, tmp_path / "one", flags | {"gradient_accumulation_steps": 2})
    two, one = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("two", "one"))
    assert (two["processes"], one["processes"]) == (2, 1)
    logs = (json.loads((tmp_path / name / "trainer_state.json").read_text())["log_history"] for name in ("two", "one"))
    losses = [[entry["loss"] for entry in log if "loss" in entry] for log in logs]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)
    models = [AutoModelForCausalLM.from_pretrained(tmp_path / name).state_dict() for name in ("two", "one")]
    assert all(torch.allclose(models[0][name], models[1][name], atol=1e-5) for name in models[0])
