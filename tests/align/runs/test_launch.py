"""`accelerate launch` from Python: the command, what is said when it fails, and that nothing is left running."""

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from ifllm_hub.align.policies import load_policy
from ifllm_hub.align.runs import launch
from ifllm_hub.align.runs.launch import check_machine, command_line, launch_dpo
from ifllm_hub.cli import app
from ifllm_hub.errors import IfllmError
from ifllm_hub.files import shipped_folder

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


def test_command_line_of_a_stage_and_a_sharding() -> None:
    policy = {"policy": "runs/gpt2-xl/sft"}
    command = command_line("paper", "ORG/ifllm", "out", policy, 8, "dpo-reference", "fsdp2")
    assert str(TRAINING / "accelerate" / "fsdp2.yaml") in command
    assert command[command.index("--config") - 1 :][:3] == [
        str(TRAINING / "dpo.py"),
        "--config",
        str(TRAINING / "recipes" / "paper" / "dpo-reference.yaml"),
    ]
    assert str(TRAINING / "sft.py") in command_line("paper", "ORG/ifllm", "out", policy, stage="sft")
    with pytest.raises(IfllmError, match=r"no recipe 'paper' for kto .* Name one of smollm2-135m, tiny"):
        command_line("paper", "ORG/ifllm", "out", policy, stage="kto")


def test_align_prints_the_command_and_runs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[Any] = []
    monkeypatch.setattr(launch, "launch", lambda command, out, on_progress: ran.append((command, out)))
    words = ["align", "--recipe", "tiny", "--dataset", "ORG/ifllm", "--out", str(tmp_path)]
    words += ["--label-source", "forest_mouse"]
    expected = command_line("tiny", "ORG/ifllm", tmp_path, {"label_source": "forest_mouse", "max_steps": 2})
    dry = CliRunner().invoke(app, [*words, "--steps", "2", "--dry-run"])
    assert (dry.exit_code, dry.stdout.split(), ran) == (0, expected, [])
    assert CliRunner().invoke(app, [*words, "--steps", "2"]).exit_code == 0
    assert ran == [(expected, tmp_path)]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("gpus", "processes", "sharding", "message"),
    [
        (0, 2, "ddp", None),
        (2, 2, "fsdp2", None),
        (2, 3, "ddp", r"processes is 3, but this machine has 2 GPU\(s\)"),
        (0, 2, "fsdp2", "fsdp2 needs GPUs"),
        (2, 2, "zero3", "zero3 needs DeepSpeed: pip install deepspeed"),
    ],
)
def test_what_this_machine_cannot_run(
    monkeypatch: pytest.MonkeyPatch, gpus: int, processes: int, sharding: Any, message: str | None
) -> None:
    monkeypatch.setattr(launch, "accelerator_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: gpus)
    if message is None:
        check_machine(processes, sharding)
    else:
        with pytest.raises(IfllmError, match=message):
            check_machine(processes, sharding)


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
        ("", "it printed nothing."),
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


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "out", Path("/proc/none")):
        with pytest.raises(IfllmError, match=rf"^{out}: cannot be written \(.*\)\. Choose a folder you may write to"):
            launch.launch([sys.executable, "-c", "raise AssertionError"], out)
    assert (tmp_path / "file").read_text() == "mine"


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


@pytest.mark.slow
@pytest.mark.parametrize("sharding", ["ddp", "fsdp2"])
def test_two_processes_leave_a_checkpoint_that_loads_chats_and_resumes(
    dataset: Path, tmp_path: Path, sharding: Any
) -> None:
    """Gloo on the CPU, with the launcher configs as they are; fsdp2 through `sharded_on_cpu.py`, which says why."""
    # With the log-probabilities of the reference computed first, TRL loads it again, from where the policy was.
    for part in load_policy("tiny"):
        part.save_pretrained(tmp_path / "base")

    def train(steps: int) -> dict[str, Any]:
        flags = {"max_steps": steps, "save_steps": 1, "per_device_train_batch_size": 1}
        flags |= {"policy": tmp_path / "base", "precompute_ref_log_probs": True}
        command = command_line("tiny", dataset, out, flags, 2, sharding=sharding)
        if sharding == "fsdp2":
            command.insert(command.index(str(TRAINING / "dpo.py")), str(Path(__file__).with_name("sharded_on_cpu.py")))
        launch.launch(command, out)
        return json.loads((out / "results.json").read_text())

    out = tmp_path / "policy"
    first = train(2)
    assert (first["processes"], first["eval_before"]["rewards/margins"]) == (2, pytest.approx(0, abs=1e-5))
    shards = list((out / "checkpoint-2").glob("pytorch_model_fsdp*"))
    assert bool(shards) == (sharding == "fsdp2"), "accelerate sharded, and DDP did not"
    resumed = train(3)
    assert (resumed["steps"], resumed["resumed_from"]) == (3, "checkpoint-2")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(out), AutoTokenizer.from_pretrained(out)
    start = load_policy("tiny")[0].state_dict()
    assert model.state_dict().keys() == start.keys()
    assert not any(torch.equal(weights, start[name]) for name, weights in model.state_dict().items())
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hello"}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    assert model.generate(**prompt, max_new_tokens=3, do_sample=False).shape[1] > prompt["input_ids"].shape[1]


@pytest.mark.slow
def test_sharded_weights_are_those_of_one_process(dataset: Path, tmp_path: Path) -> None:
    """Two steps of two pairs of SGD, unsharded in one process and sharded over two; weights agree to 1e-5."""
    flags = {"max_steps": 2, "optim": "sgd", "learning_rate": 0.5}
    sharded = command_line(
        "tiny", dataset, tmp_path / "two", flags | {"per_device_train_batch_size": 1}, 2, "dpo", "fsdp2"
    )
    sharded.insert(sharded.index(str(TRAINING / "dpo.py")), str(Path(__file__).with_name("sharded_on_cpu.py")))
    launch.launch(sharded, tmp_path / "two")
    launch_dpo("tiny", dataset, tmp_path / "one", flags)
    two, one = (AutoModelForCausalLM.from_pretrained(tmp_path / name).state_dict() for name in ("two", "one"))
    start = load_policy("tiny")[0].state_dict()
    assert max((one[name] - start[name]).abs().max() for name in one) > 1e-2
    for name, weights in one.items():
        torch.testing.assert_close(two[name], weights, rtol=0, atol=1e-5)
