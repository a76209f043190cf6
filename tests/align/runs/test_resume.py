"""What a run may change when it goes on: the identity by its settings, and what results and card say of all starts."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.sft_config import SFTConfig

from ifllm_hub.align.runs.launch import launch_dpo
from ifllm_hub.align.runs.resume import SETUP, Start, check_setup, last_checkpoint, prepare_config
from ifllm_hub.align.stages.dpo import parse_dpo
from ifllm_hub.errors import IfllmError
from ifllm_hub.files import make_folder, shipped_folder
from tests.align.scripts import run_dpo

TINY = shipped_folder("training") / "recipes" / "tiny" / "dpo.yaml"
CPU = {"use_cpu": True, "bf16": False, "activation_checkpointing": False, "per_device_train_batch_size": 2}
SETUP_OF_A_RUN = {"stage": "sft", "dataset": "here", "train_rows": 26, "learning_rate": 2e-5, "seed": 0}


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., list[Start]]:
    """Claim a folder for a run with these settings."""

    def start(kind: Any = SFTConfig, is_cut_freely: bool = True, **settings: Any) -> list[Start]:
        config = kind(str(tmp_path), **CPU | settings)
        setup = SETUP_OF_A_RUN | {"learning_rate": config.learning_rate}
        return check_setup(tmp_path, setup, config, "c0ffee", is_cut_freely, write=True)

    return start


def checkpoint(folder: Path, step: int) -> None:
    (folder / f"checkpoint-{step}").mkdir()
    (folder / f"checkpoint-{step}" / "trainer_state.json").write_text("{}")


def started_by(folder: Path, **changes: Any) -> None:
    """As if the last start had been another one."""
    run = json.loads((folder / SETUP).read_text())
    run["starts"][-1] |= changes
    (folder / SETUP).write_text(json.dumps(run))


@pytest.mark.parametrize(
    ("settings", "change"),
    [
        ({"optim": "adafactor"}, "optim 'adamw_torch.*' -> 'adafactor'"),
        ({"lr_scheduler_type": "cosine"}, "lr_scheduler_type 'linear' -> 'cosine'"),
        ({"warmup_steps": 3}, "warmup_steps 0.* -> 3"),
        ({"weight_decay": 0.1}, r"weight_decay 0\.0 -> 0\.1"),
        ({"max_grad_norm": 3.0}, r"max_grad_norm 1\.0 -> 3\.0"),
        ({"num_train_epochs": 2}, r"num_train_epochs 3\.0 -> 2"),
        ({"max_steps": 9}, "max_steps -1 -> 9"),
        ({"data_seed": 1}, "data_seed None -> 1"),
        ({"adam_beta2": 0.9}, r"adam_beta2 0\.999 -> 0\.9"),
        ({"learning_rate": 0.1}, r"learning_rate 2e-05 -> 0\.1"),
        ({"packing": True}, "packing False -> True"),
        (
            {"per_device_train_batch_size": 4},
            r"rows per step 2 \(per_device_train_batch_size 2 x gradient_accumulation_steps 1 x processes 1\) -> "
            r"4 \(per_device_train_batch_size 4 x gradient_accumulation_steps 1 x processes 1\)",
        ),
        ({"gradient_accumulation_steps": 2}, r"rows per step 2 \(.*\) -> 4 \(.*_steps 2 x processes 1\)"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_what_defines_a_run_is_not_changed(
    start: Callable[..., list[Start]], tmp_path: Path, settings: dict[str, Any], change: str
) -> None:
    start()
    checkpoint(tmp_path, 8)
    before = (tmp_path / SETUP).read_text()
    with pytest.raises(IfllmError, match=rf"holds checkpoints of another run \({change}\). Choose"):
        start(**settings)
    assert (tmp_path / SETUP).read_text() == before
    start(save_steps=7, logging_steps=3, dataloader_num_workers=1, report_to="none")


def test_other_processes_are_another_step_unless_the_rows_are_as_many(
    start: Callable[..., list[Start]], tmp_path: Path
) -> None:
    start()
    checkpoint(tmp_path, 4)
    started_by(tmp_path, processes=2)
    with pytest.raises(IfllmError, match=r"rows per step 4 \(.* x processes 2\) -> 2 \(.* x processes 1\)"):
        start()
    starts = start(gradient_accumulation_steps=2)
    assert [(it.from_step, it.processes, it.accumulation, it.rows) for it in starts] == [(0, 2, 1, 4), (4, 1, 2, 4)]
    # Killed before it saved: what that start did is lost, and this one takes its place.
    assert start(per_device_train_batch_size=4)[1:] == [Start(4, 4, 1, 1, 8, "cpu", "c0ffee")]


@pytest.mark.parametrize(
    "settings", [{"is_cut_freely": False}, {"dataloader_drop_last": True}, {"ACCELERATE_USE_FSDP": "true"}]
)
def test_where_the_cut_matters_it_stays(
    start: Callable[..., list[Start]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> None:
    """A KL estimate from the rows of a micro-batch, an epoch that leaves rows out, and weights in parts."""
    if "ACCELERATE_USE_FSDP" in settings:
        monkeypatch.setenv("ACCELERATE_USE_FSDP", settings.pop("ACCELERATE_USE_FSDP"))
    start(**settings)
    checkpoint(tmp_path, 4)
    start(**settings)
    with pytest.raises(IfllmError, match=r"rows per step 2 .* -> 2 \(per_device_train_batch_size 1 x"):
        start(per_device_train_batch_size=1, gradient_accumulation_steps=2, **settings)


def test_grpo_has_settings_of_its_own(start: Callable[..., list[Start]], tmp_path: Path) -> None:
    start(GRPOConfig, num_generations=2)
    checkpoint(tmp_path, 1)
    with pytest.raises(IfllmError, match=r"another run \(temperature 1\.0 -> 0\.5\)"):
        start(GRPOConfig, num_generations=2, temperature=0.5)


def test_a_run_grows_where_the_rate_does_not_depend_on_its_length(
    start: Callable[..., list[Start]], tmp_path: Path
) -> None:
    constant = {"lr_scheduler_type": "constant_with_warmup", "warmup_steps": 2}
    start(max_steps=8, **constant)
    checkpoint(tmp_path, 8)
    start(max_steps=13, **constant)
    start(num_train_epochs=9, **constant)
    shutil.rmtree(tmp_path)
    start(max_steps=8, **constant | {"warmup_steps": 0.1})
    checkpoint(tmp_path, 8)
    with pytest.raises(IfllmError, match="max_steps 8 -> 13"):
        start(max_steps=13, **constant | {"warmup_steps": 0.1})


def test_a_folder_of_something_else(start: Callable[..., list[Start]], tmp_path: Path) -> None:
    checkpoint(tmp_path, 8)
    with pytest.raises(IfllmError, match=r"holds checkpoints of something else \(there is no setup.json"):
        start()
    shutil.rmtree(tmp_path / "checkpoint-8")
    (tmp_path / "README.md").write_text("My project.")
    with pytest.raises(IfllmError, match=r"holds a README.md of something else"):
        start()
    (tmp_path / "README.md").unlink()
    start()
    with pytest.raises(IfllmError, match=r"/dev/null/out: cannot be written \(Not a directory\)"):
        make_folder(Path("/dev/null/out"))
    (tmp_path / "results.json").touch()  # finished, and no checkpoint was kept
    with pytest.raises(IfllmError, match=r"holds the result of another run \(optim"):
        start(optim="adafactor")
    (tmp_path / SETUP).write_text("{")
    with pytest.raises(IfllmError, match=r"setup\.json: missing or damaged"):
        start()


@pytest.mark.parametrize(
    "setting", ["save_only_model", "ignore_data_skip", "auto_find_batch_size", "load_best_model_at_end"]
)
def test_settings_that_would_make_a_card_untrue(setting: str, tmp_path: Path) -> None:
    config = SFTConfig(str(tmp_path), **CPU)
    prepare_config(config, evaluate_first=True)
    setattr(config, setting, True)
    with pytest.raises(IfllmError, match=f"{setting} cannot be set: .*Leave it out"):
        prepare_config(config, evaluate_first=True)


@pytest.fixture
def run(dataset: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Run the tiny recipe in this process, six pairs with a checkpoint a step and a rate that falls to 0."""

    def run(**flags: Any) -> dict[str, Any]:
        flags = {"dataset": dataset, "output_dir": tmp_path / "out", "disable_tqdm": True} | flags
        flags |= {"save_steps": 1, "save_total_limit": 9, "lr_scheduler_type": "linear"}
        words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
        return run_dpo(*parse_dpo(["--config", str(TINY), *words]))

    return run


def killed_after(step: int, folder: Path) -> None:
    """Leave what a run has on disk when it is killed after a step."""
    for path in folder.iterdir():
        later = path.name.startswith("checkpoint-") and int(path.name[11:]) > step
        if path.is_dir() and later:
            shutil.rmtree(path)
        elif path.is_file() and path.name != SETUP:
            path.unlink()
    assert last_checkpoint(folder) == str(folder / f"checkpoint-{step}")


def rates(folder: Path) -> list[float]:
    log = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    return [entry["learning_rate"] for entry in log if "learning_rate" in entry]


def test_a_killed_run_goes_on_with_as_many_rows_a_step_and_with_no_others(
    run: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    whole, out = run(), tmp_path / "out"
    assert (whole["rows_seen"], whole["rows_in_one_epoch"], whole["steps"]) == (6, 6, 3)
    expected = rates(out)
    card = (out / "README.md").read_text()
    assert "Extent: 6 rows in 3 steps; one epoch is 6 rows in 3 steps." in card
    assert "A step: 1 process(es) on cpu with 1 x 2 rows each." in card
    killed_after(1, out)
    with pytest.raises(IfllmError, match=r"another run \(rows per step 2 \(.*\) -> 4 \(.*\)\)"):
        run(per_device_train_batch_size=4)
    with pytest.raises(IfllmError, match=r"another run \(num_train_epochs 1.* -> 2"):
        run(num_train_epochs=2)
    assert not (out / "results.json").exists()
    # As if two processes had begun it, one pair each.
    started_by(out, processes=2, per_device=1)
    resumed = run(per_device_train_batch_size=1, gradient_accumulation_steps=2, per_device_eval_batch_size=3)
    assert (resumed["resumed_from"], resumed["steps"], resumed["rows_seen"]) == ("checkpoint-1", 3, 6)
    assert rates(out) == pytest.approx(expected)
    assert resumed["eval_after"]["loss"] == pytest.approx(whole["eval_after"]["loss"], abs=1e-5)
    assert [start["processes"] for start in resumed["starts"]] == [2, 1]
    card = (out / "README.md").read_text()
    said = "2 process(es) on cpu with 1 x 1 rows each until step 1, then 1 process(es) on cpu with 2 x 1 rows each"
    assert f"A step: {said}." in card
    assert "Evaluation batches had 8 rows before training and 3 after." in card


def test_rows_of_a_smaller_last_batch_and_of_a_run_shorter_than_it_was(
    run: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    results = run(per_device_train_batch_size=4, num_train_epochs=1.5)
    # Two steps of 4 and 2 rows, and one of 4.
    assert (results["steps"], results["steps_in_one_epoch"]) == (3, 2)
    assert (results["rows_seen"], results["rows_in_one_epoch"]) == (10, 6)
    out = tmp_path / "short"
    assert run(max_steps=1, per_device_train_batch_size=4, output_dir=out)["rows_seen"] == 4
    assert "**only 4 of the 6 rows of one epoch (66.7%), in 1 steps." in (out / "README.md").read_text()


def test_a_run_is_not_made_shorter_than_it_is(dataset: Path, tmp_path: Path) -> None:
    def run(steps: int) -> dict[str, Any]:
        flags = {"dataset": dataset, "output_dir": tmp_path / "out", "disable_tqdm": True, "max_steps": steps}
        words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
        return run_dpo(*parse_dpo(["--config", str(TINY), *words]))

    run(2)
    with pytest.raises(IfllmError, match="holds a run of 2 steps, and these settings ask for 1"):
        run(1)


@pytest.mark.slow
def test_two_processes_become_one_and_one_becomes_two(dataset: Path, tmp_path: Path) -> None:
    """Over gloo: refused with other rows a step; with as many, it ends where an uninterrupted run does."""
    always = {"save_steps": 1, "save_total_limit": 9, "lr_scheduler_type": "linear"}
    # All six test pairs at once, so that no batch is filled up.
    one = {"per_device_train_batch_size": 2, "per_device_eval_batch_size": 6}
    two = {"per_device_train_batch_size": 1, "per_device_eval_batch_size": 3}
    whole = tmp_path / "whole"
    launch_dpo("tiny", dataset, whole, always | one)
    expected = json.loads((whole / "results.json").read_text())["eval_after"]["loss"]
    for first, then, counts in ((one, two, (1, 2)), (two, one, (2, 1))):
        out = tmp_path / f"{counts[0]}-{counts[1]}"
        launch_dpo("tiny", dataset, out, always | first, processes=counts[0])
        killed_after(1, out)
        with pytest.raises(IfllmError, match=r"rows per step 2 \(.*\) -> [14] \("):
            launch_dpo("tiny", dataset, out, always | first, processes=counts[1])
        launch_dpo("tiny", dataset, out, always | then, processes=counts[1])
        results = json.loads((out / "results.json").read_text())
        assert (results["steps"], results["rows_seen"], results["resumed_from"]) == (3, 6, "checkpoint-1")
        assert [start["processes"] for start in results["starts"]] == list(counts)
        assert rates(out) == pytest.approx(rates(whole))
        assert results["eval_after"]["loss"] == pytest.approx(expected, abs=1e-4)
