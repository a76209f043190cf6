"""The scripts beside dpo.py: processes that train, what they leave, the soft-label loss by hand, bad input."""

import json
import math
import os
import re
import runpy
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
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
from ifllm_hub.align.runs.results import Results
from ifllm_hub.align.runs.run import code_commit
from ifllm_hub.align.runs.script import parse_flags
from ifllm_hub.align.stages.grpo import GRPOArguments, load_prompts
from ifllm_hub.align.stages.kto import KTOArguments
from ifllm_hub.align.stages.sft import SFTArguments, answers
from ifllm_hub.align.stages.text_reward import (
    StudentArguments,
    TextReward,
    TextRewardArguments,
    encode_pairs,
    load_encoder,
)
from ifllm_hub.align.stages.text_reward import _encode as encode
from ifllm_hub.dataset.load import load_config
from ifllm_hub.documents import checked
from ifllm_hub.errors import IfllmError
from ifllm_hub.evaluation.judge.run import JudgeArguments
from ifllm_hub.files import shipped_folder
from ifllm_hub.reward.functions import get_behavior_reward
from tests.align.made import write_pairs

TRAINING = shipped_folder("training")


def command(script: str, dataset: Path, output_dir: Path, **flags: Any) -> list[str]:
    recipe = TRAINING / "recipes" / "tiny" / f"{script}.yaml"
    flags = {"config": recipe, "dataset": dataset, "output_dir": output_dir, "disable_tqdm": True} | flags
    return [
        str(TRAINING / f"{script}.py"),
        *(word for name, value in flags.items() for word in (f"--{name}", str(value))),
    ]


def finished(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=500, check=False)


def results_of(folder: Path) -> dict[str, Any]:
    file = folder / "results.json"
    return dict(checked(json.loads(file.read_text()), Results, file, "Declare it as it is."))


@pytest.fixture(scope="module")
def two_sources(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The six pairs of `dataset`, labeled by the forest and, the other way round from the third on, by the worker."""
    folder = tmp_path_factory.mktemp("two") / "ifllm"
    splits = []
    for _, part in load_config(dataset, "preferences_forest").group_by("split", maintain_order=True):
        rows = [row | {"rating_chosen": 4, "rating_rejected": 3} for row in part.drop("split").to_dicts()]
        explicit = [row | {"label_source": "explicit", "flip_prob": 0.0} for row in rows]
        for row in explicit[2:]:
            row["chosen"], row["rejected"] = row["rejected"], row["chosen"]
        splits.append(rows + explicit)
    write_pairs(folder, *splits)
    return folder


@pytest.fixture
def run(two_sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run a script with its tiny recipe in this process; gives its status."""

    def run(script: str, **flags: Any) -> int:
        arguments = command(script, two_sources, tmp_path / "out", **flags)
        monkeypatch.setattr(sys, "argv", arguments)
        return runpy.run_path(arguments[0])["main"]()

    return run


@pytest.fixture(scope="module")
def tuned(two_sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two steps of sft.py in a process of its own."""
    folder = tmp_path_factory.mktemp("sft") / "policy"
    done = finished(command("sft", two_sources, folder, max_steps=2))
    assert done.returncode == 0, done.stderr[-2000:]
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


def scores_by_hand(folder: Path, prompts: list[str], texts: list[str]) -> list[float]:
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    scores = []
    for prompt, text in zip(prompts, texts, strict=True):
        parts = [tokenizer.encode(part, add_special_tokens=False) for part in (prompt, text)]
        cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
        with torch.no_grad():
            scores.append(model.eval()(torch.tensor([[cls, *parts[0], sep, *parts[1], sep]])).logits.item())
    return scores


def test_student_learns_soft_labels_and_is_a_reward_function(
    run: Callable[..., int], tmp_path: Path, six_pairs: list[dict[str, Any]]
) -> None:
    assert run("reward_student", max_steps=12, learning_rate=5e-3) == 0
    folder, results = tmp_path / "out", results_of(tmp_path / "out")
    prompts, chosen, rejected = (
        [row[column][0]["content"] for row in six_pairs] for column in ("prompt", "chosen", "rejected")
    )
    r_chosen, r_rejected = scores_by_hand(folder, prompts, chosen), scores_by_hand(folder, prompts, rejected)
    differences = [one - other for one, other in zip(r_chosen, r_rejected, strict=True)]

    def cross_entropy(flips: list[float]) -> float:
        p = [1 / (1 + math.exp(-d)) for d in differences]
        return -sum((1 - e) * math.log(q) + e * math.log(1 - q) for e, q in zip(flips, p, strict=True)) / len(p)

    soft = cross_entropy([row["flip_prob"] for row in six_pairs])
    assert results["eval_after"]["loss"] == pytest.approx(soft, abs=1e-5)
    assert soft != pytest.approx(cross_entropy([0.0] * 6), abs=1e-3), "the test cannot see the soft labels"
    assert results["eval_before"]["loss"] == pytest.approx(math.log(2), abs=0.05)

    against = results["against_explicit"]
    flipped = [d if at < 2 else -d for at, d in enumerate(differences)]
    longer = [(len(c) > len(r)) == (at < 2) for at, (c, r) in enumerate(zip(chosen, rejected, strict=True))]
    assert (against["pairs"], against["workers"]) == (6, 1)
    assert against["models"]["this model"]["correct"] == sum(d > 0 for d in flipped)
    assert against["models"]["the longer answer"]["correct"] == sum(longer)
    low, high = (against["models"]["the longer answer"][bound] for bound in ("low", "high"))
    for bound in (low, high):  # Wilson: the shares whose own standard error puts them 1.96 away
        assert abs(bound - sum(longer) / 6) == pytest.approx(1.96 * math.sqrt(bound * (1 - bound) / 6))

    reward = TextReward(folder)
    conversations = [row["prompt"] for row in six_pairs], [row["chosen"] for row in six_pairs]
    assert reward(*conversations, completion_ids=[], trainer_state=None) == pytest.approx(r_chosen, abs=1e-5)
    assert reward(prompts, rejected) == pytest.approx(r_rejected, abs=1e-5)

    card = (folder / "README.md").read_text()
    assert "Labeled by `forest`, with P(label is wrong) 0.2000 on average (each pair its own)" in card
    assert f"| the longer answer | {sum(longer)} |" in card


def test_cross_encoder_reads_both_orders_and_is_no_reward_function(run: Callable[..., int], tmp_path: Path) -> None:
    assert run("reward_text", max_steps=1) == 0
    assert results_of(tmp_path / "out")["form"] == "cross_encoder"
    with pytest.raises(IfllmError, match="cannot score a single answer"):
        TextReward(tmp_path / "out")
    tokenizer = load_encoder("tiny", 0)[1]
    rows = {
        "question_id": [1, 1],
        "prompt": ["Why?"] * 2,
        "chosen": ["Because.", "So."],
        "rejected": ["So.", "Because."],
    }
    pair, swapped = encode_pairs(Dataset.from_dict(rows), tokenizer, "cross_encoder")
    assert pair["chosen_ids"] == swapped["rejected_ids"] != pair["rejected_ids"] == swapped["chosen_ids"]


@pytest.mark.parametrize("length", [32, 61, 200])
@pytest.mark.parametrize("count", [1, 2])
def test_long_texts_are_cut_alike(length: int, count: int) -> None:
    tokenizer = load_encoder("tiny", 0)[1]
    tokenizer.model_max_length = length
    ids = encode(tokenizer, "a b c d " * 50 + "?", ["e f g h " * (50 * (at + 1)) for at in range(count)])
    assert length - count < len(ids) <= length
    ends = [at for at, token in enumerate(ids) if token == tokenizer.sep_token_id]
    assert ids[0] == tokenizer.cls_token_id
    assert ends[-1] == len(ids) - 1
    assert len(ends) == count + 1
    assert tokenizer.decode(ids[1 : ends[0]]).endswith("?"), "the end of the prompt is the question"
    assert len({end - start for start, end in pairwise(ends)}) == 1, "each answer has the same room"


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


def test_a_causal_model_is_no_encoder(tmp_path: Path) -> None:
    model, tokenizer = load_policy("tiny")
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(IfllmError, match="has no cls_token and no sep_token"):
        load_encoder(str(tmp_path), 0)


def test_the_new_layer_follows_from_the_seed() -> None:
    one, same, other = (load_encoder("tiny", seed)[0].classifier.weight for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


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
