"""The scripts beside dpo.py: what they leave, resuming, recipes and flags, bad input."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from datasets import Dataset, DatasetDict
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from ifllm_hub.align.policies import load_policy
from ifllm_hub.align.runs.arguments import DataArguments, dataset_commit, parse_arguments
from ifllm_hub.align.runs.card import model_card
from ifllm_hub.align.runs.run import code_commit
from ifllm_hub.align.runs.script import parse_flags
from ifllm_hub.align.stages.grpo import GRPOArguments, load_prompts
from ifllm_hub.align.stages.kto import KTOArguments
from ifllm_hub.align.stages.sft import SFTArguments, answers
from ifllm_hub.align.stages.text_reward import (
    StudentArguments,
    TextRewardArguments,
)
from ifllm_hub.evaluation.judge.run import JudgeArguments
from ifllm_hub.files import shipped_folder
from ifllm_hub.reward.functions import get_behavior_reward
from tests.align.scripts import command, finished, results_of, run_script

TRAINING = shipped_folder("training")


@pytest.fixture(scope="module")
def tuned(two_sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two steps of sft.py."""
    folder = tmp_path_factory.mktemp("sft") / "policy"
    assert run_script("sft", two_sources, folder, max_steps=2) == 0
    return folder


def test_sft_leaves_a_policy_that_was_trained_and_loads(tuned: Path) -> None:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tuned), AutoTokenizer.from_pretrained(tuned)
    assert tokenizer.chat_template
    assert tokenizer.pad_token
    assert not torch.equal(model.get_input_embeddings().weight, load_policy("tiny")[0].get_input_embeddings().weight)


def test_sft_results(tuned: Path, two_sources: Path) -> None:
    results = results_of(tuned)
    expected = {
        "stage": "sft",
        "model": "tiny",
        "dataset": "ifllm",
        "dataset_revision": None,
        "label_source": "explicit",
        "targets": "both",
        "train_rows": 12,
        "test_rows": 12,
        "steps": 2,
        "steps_in_one_epoch": 6,
        "rows_seen": 4,
        "rows_in_one_epoch": 12,
        "rows_after_length_filter": 12,
        "test_rows_after_length_filter": 12,
        "seed": 0,
        "lora": None,
        "resumed_from": None,
        "commit": code_commit(),
    }
    assert {key: results[key] for key in expected} == expected
    assert results["eval_after"]["loss"] < results["eval_before"]["loss"]
    assert results["recipe"]["max_steps"] == 2
    assert results["recipe"]["learning_rate"] == 1e-3
    assert {"dataset", "output_dir", "config", "hub_token"}.isdisjoint(results["recipe"])


def test_sft_card(tuned: Path, two_sources: Path) -> None:
    card = (tuned / "README.md").read_text()
    header = yaml.safe_load(card.split("---")[1])
    assert header["pipeline_tag"] == "text-generation"
    assert {"sft", "trl", "ifllm_hub"} <= set(header["tags"])
    assert {"datasets", "base_model"}.isdisjoint(header), "neither is on the Hub"
    assert "12 of the 12 training rows of a local folder, `ifllm`" in card
    assert "Both answers of a pair are targets, of the pairs labeled by `explicit`" in card
    assert "`max_steps: 2`" in card
    assert "`targets: both`" in card
    assert "only 4 of the 12 rows of one epoch (33.3%), in 2 steps" in card
    assert code_commit() is None or f"commit `{code_commit()}`" in card
    assert str(two_sources.parent) not in card, "a path of this machine"


def test_a_finished_run_is_taken_up_and_another_is_refused(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("sft", max_steps=1) == 0
    before = results_of(tmp_path / "out")
    assert run("sft", max_steps=2) == 0
    after = results_of(tmp_path / "out")
    assert (after["resumed_from"], after["steps"]) == ("checkpoint-1", 2)
    assert after["eval_before"] == before["eval_before"]
    capsys.readouterr()
    assert run("sft", max_steps=2, targets="chosen") == 2
    assert "holds checkpoints of another run" in capsys.readouterr().err


def test_the_card_of_a_run_on_a_hub_dataset_names_its_revision(tuned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    args = DataArguments(dataset="ORG/ifllm", dataset_revision="v1")
    found = SimpleNamespace(sha="c0ffee")
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", lambda self, name, revision: {"v1": found}[revision])
    assert dataset_commit(args) == "v1"  # offline, as given
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    assert dataset_commit(args) == "c0ffee"
    results = results_of(tuned) | {"dataset": "ORG/ifllm", "dataset_on_hub": True, "dataset_revision": "c0ffee"}
    card = model_card("policy", results)
    assert "training rows of `ORG/ifllm` at revision `c0ffee`" in card
    assert yaml.safe_load(card.split("---")[1])["datasets"] == ["ORG/ifllm"]


def test_targets() -> None:
    rows = {
        "question_id": [1, 2],
        "prompt": ["p", "q"],
        "chosen": ["a", "c"],
        "rejected": ["b", "d"],
        "flip_prob": [0, 0],
    }
    preferences = DatasetDict({"train": Dataset.from_dict(rows)})
    assert answers(preferences, "both")["train"].to_dict() == {
        "question_id": [1, 1, 2, 2],
        "prompt": ["p", "p", "q", "q"],
        "completion": ["a", "b", "c", "d"],
    }
    assert answers(preferences, "chosen")["train"]["completion"][:] == ["a", "c"]


def policy_without(what: str, folder: Path) -> Path:
    model, tokenizer = load_policy("tiny")
    if what == "chat template":
        tokenizer.chat_template = None
    else:
        tokenizer.pad_token = tokenizer.eos_token = None
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("what", ["chat template", "padding"])
def test_policy_that_cannot_chat(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    assert run("sft", policy=policy_without(what, tmp_path / "base")) == 2
    error = capsys.readouterr().err
    assert re.search(f"^error: .*{what}.*$", error, re.MULTILINE)


@pytest.mark.parametrize(
    ("script", "flags", "message"),
    [
        ("sft", {"policy": "no-such-model"}, "Unknown policy 'no-such-model'"),
        ("sft", {"label_source": "gpt"}, "No label source 'gpt'"),
        ("sft", {"resume_from_checkpoint": "elsewhere"}, "resume_from_checkpoint cannot be set"),
        ("sft", {"dataset_revision": "v2"}, "is a folder and has no revision 'v2'"),
        ("sft", {"padding_free": True}, "TRL does not accept this configuration"),
        ("sft", {"max_length": 16}, "Every prompt of the train split has max_length = 16 tokens or more"),
        ("sft", {"max_length": 4096}, "max_length is 4096, but the policy 'tiny' can read 2048 tokens"),
        ("sft", {"save_only_model": True}, "save_only_model cannot be set"),
        ("reward_student", {"text_model": "no-such-model"}, "text model 'no-such-model' cannot be loaded"),
        ("reward_student", {"label_source": "gpt"}, "No label source 'gpt'"),
        ("reward_student", {"max_length": 8}, "max_length is 8"),
        ("reward_student", {"form": "cross_encoder"}, "--form"),
        ("reward_student", {"flip_prob": 0.5}, "flip_prob is 0.5, but must lie in [0, 0.5)"),
        ("kto", {"dataset_revision": "v2"}, "is a folder and has no revision 'v2'"),
        ("grpo", {}, "reward_model is not set"),
        ("grpo", {"reward_model": ".", "dataset_revision": "v2"}, "is a folder and has no revision 'v2'"),
    ],
)
def test_bad_input(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str], script: str, flags: dict[str, Any], message: str
) -> None:
    assert run(script, **flags) == 2
    assert re.search(f"^error: .*{re.escape(message)}", capsys.readouterr().err, re.MULTILINE)


def test_recipes_and_flags_may_name_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trl.trainer.sft_config import SFTConfig

    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "r.yaml").write_text("dataset: ~/ds\noutput_dir: ~/out\n")
    arguments, config, _ = parse_arguments(DataArguments, SFTConfig, ["--config", str(tmp_path / "r.yaml")])
    assert (arguments.dataset, config.output_dir) == (f"{tmp_path}/ds", f"{tmp_path}/out")
    monkeypatch.setattr(sys, "argv", ["sft.py", "--dataset=~/ds", "--output_dir", "~/out"])
    arguments, config, _ = parse_arguments(DataArguments, SFTConfig)
    assert (arguments.dataset, config.output_dir) == (f"{tmp_path}/ds", f"{tmp_path}/out")
    (tmp_path / "judge.yaml").write_text("judge: j\noutput: ~/judged.parquet\n")
    judged = parse_flags(JudgeArguments, ["--config", str(tmp_path / "judge.yaml")])
    assert Path(judged.output) == tmp_path / "judged.parquet"


def test_dashes_and_underscores_are_one_spelling() -> None:
    from trl.trainer.sft_config import SFTConfig

    words = ["--dataset", "d", "--label_source", "forest", "--max_steps", "2"]
    one, other = (
        parse_arguments(SFTArguments, SFTConfig, given)
        for given in (words, [word.replace("_", "-") if word[:2] == "--" else word for word in words])
    )
    assert one[0] == other[0]
    assert one[2] == other[2] == {"label_source": "forest", "max_steps": 2}


ARGUMENTS = {
    "sft": SFTArguments,
    "kto": KTOArguments,
    "grpo": GRPOArguments,
    "reward_text": TextRewardArguments,
    "reward_student": StudentArguments,
}
RECIPES = sorted(path for path in TRAINING.glob("recipes/*/*.yaml") if path.stem in ARGUMENTS)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_shipped_recipes_parse_and_flags_override_them(recipe: Path) -> None:
    import trl

    name = "Reward" if recipe.stem.startswith("reward") else recipe.stem.upper()
    words = ["--config", str(recipe), "--dataset", "ORG/ifllm", "--learning_rate", "0.25", "--seed=7"]
    args, config, given = parse_arguments(ARGUMENTS[recipe.stem], getattr(trl, f"{name}Config"), words)
    assert args.dataset == "ORG/ifllm"
    assert (config.learning_rate, config.seed) == (0.25, 7)
    assert (given["learning_rate"], given["seed"]) == (0.25, 7)
    assert set(yaml.safe_load(recipe.read_text())) <= {*given, "output_dir"}, "the card shows the whole recipe"


@pytest.mark.slow
@pytest.mark.parametrize("script", ["sft", "kto", "reward_text", "reward_student", "grpo"])
def test_two_launched_steps_on_the_simulated_dataset(labeled_dataset: Path, tmp_path: Path, script: str) -> None:
    flags: dict[str, Any] = {"max_steps": 2}
    if script == "grpo":
        assert finished(command("reward_student", labeled_dataset, tmp_path / "student", max_steps=1)).returncode == 0
        flags["reward_model"] = tmp_path / "student"
    launcher = ["-m", "accelerate.commands.launch", "--config_file", str(TRAINING / "accelerate" / "cpu.yaml")]
    done = finished([*launcher, *command(script, labeled_dataset, tmp_path / "out", **flags)])
    assert done.returncode == 0, done.stderr[-2000:]
    results = results_of(tmp_path / "out")
    assert results["steps"] == 2
    assert results["eval_after"]["loss"] == pytest.approx(results["eval_after"]["loss"])
    loader = AutoModelForSequenceClassification if script.startswith("reward") else AutoModelForCausalLM
    assert AutoTokenizer.from_pretrained(tmp_path / "out").pad_token
    assert loader.from_pretrained(tmp_path / "out").num_parameters() > 50_000
    if script == "grpo":
        assert results["eval_after"]["behavior_reward/coverage"] == 0, "nobody has read what was just written"
        assert "rewards/behavior_reward/mean" not in results["eval_after"]
        assert results["eval_after"]["reward"] == pytest.approx(results["eval_after"]["rewards/text_reward/mean"])


@pytest.mark.slow
def test_prompts_carry_what_the_behavior_reward_needs(labeled_dataset: Path) -> None:
    rows = load_prompts(labeled_dataset)["train"]
    columns = {name: rows[name][:] for name in rows.column_names}
    logged = [[{"role": "assistant", "content": text}] for text in columns["response_left"]]
    prompts = columns.pop("prompt")
    known = [reward for reward in get_behavior_reward()(prompts, logged, **columns) if reward is not None]
    assert len(known) > len(rows) / 2
    assert set(get_behavior_reward()(prompts, [[{"role": "assistant", "content": "New."}]] * len(rows), **columns)) == {
        None
    }


@pytest.mark.slow
def test_a_killed_run_continues_and_ends_like_one_that_was_not(two_sources: Path, tmp_path: Path) -> None:
    flags = {"max_steps": 40, "save_steps": 5}
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert finished(command("sft", two_sources, whole, **flags)).returncode == 0
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, *command("sft", two_sources, broken, **flags)], stdout=log, stderr=log, env=os.environ
        )
        try:
            deadline = time.monotonic() + 300
            while not list(broken.glob("checkpoint-*/trainer_state.json")) and time.monotonic() < deadline:
                time.sleep(0.005)
        finally:
            process.kill()
            process.wait()
    assert not (broken / "results.json").exists(), "killed too late for this test to say anything"
    assert finished(command("sft", two_sources, broken, **flags)).returncode == 0
    expected, results = results_of(whole), results_of(broken)
    assert results["resumed_from"].startswith("checkpoint-")
    assert results["steps"] == 40
    assert results["eval_before"] == expected["eval_before"]
    assert results["eval_after"]["loss"] == pytest.approx(expected["eval_after"]["loss"], abs=1e-5)
