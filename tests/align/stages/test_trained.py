"""What three steps of the tiny recipe leave: progress, a policy that chats, results, a card, the loss by hand."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from ifllm_hub.align.policies import load_policy
from ifllm_hub.align.runs.card import model_card
from ifllm_hub.align.runs.launch import PROGRESS, launch_dpo
from ifllm_hub.align.runs.launch import _report as report
from ifllm_hub.align.runs.run import code_commit
from tests.align.scripts import run_script
from tests.align.stages.by_hand import by_hand


@pytest.fixture(scope="module")
def trained(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three steps of the tiny recipe in this process."""
    output_dir = tmp_path_factory.mktemp("trained") / "policy"
    assert run_script("dpo", dataset, output_dir, max_steps=3) == 0
    return output_dir


def test_every_step_is_reported(trained: Path) -> None:
    progress: list[tuple[int, int, float | None]] = []
    report(trained / PROGRESS, 0, lambda *entry: progress.append(entry))
    check_progress(trained, progress)


@pytest.mark.slow
def test_launched_run_reports_every_step(dataset: Path, tmp_path: Path) -> None:
    """Under the real `accelerate launch`, which tests/test_pipeline.py runs whenever tests are run."""
    progress: list[tuple[int, int, float | None]] = []
    launch_dpo("tiny", dataset, tmp_path, {"max_steps": 3}, on_progress=lambda *entry: progress.append(entry))
    check_progress(tmp_path, progress)


def check_progress(folder: Path, progress: list[tuple[int, int, float | None]]) -> None:
    logged = [entry["loss"] for entry in history(folder) if "loss" in entry]
    assert progress == [(0, 3, None), *((step, 3, loss) for step, loss in enumerate(logged, start=1))]


def history(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "trainer_state.json").read_text())["log_history"]


def test_the_checkpoint_loads_and_chats(trained: Path) -> None:
    folder = trained
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hello"}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    assert model.generate(**prompt, max_new_tokens=3, do_sample=False).shape[1] > prompt["input_ids"].shape[1]
    assert (folder / "model.safetensors").is_file()
    assert not any(
        torch.equal(a, b) for a, b in zip(model.parameters(), load_policy("tiny")[0].parameters(), strict=True)
    )


def test_results(trained: Path, dataset: Path) -> None:
    results = json.loads((trained / "results.json").read_text())
    expected = {
        "model": "tiny",
        "dataset": dataset.name,
        "dataset_revision": None,
        "label_source": "forest",
        "train_rows": 6,
        "test_rows": 6,
        "pairs_truncated": 0,
        "flip_prob_mean": pytest.approx(0.2),
        "flip_prob_max": 0.4,
        "flip_prob_origin": "each pair its own",
        "flip_weighting": "inverse_variance",
        "robust_weight": 1.0,
        "nll": "token_mean",
        "nll_weight": 1.0,
        "steps": 3,
        "steps_in_one_epoch": 3,
        "seed": 0,
        "processes": 1,
        "device": "cpu",
        "resumed_from": None,
        "lora": None,
    }
    assert {key: results[key] for key in expected} == expected
    assert results["versions"]["trl"].startswith("1.16")
    assert 0 < results["wall_seconds"] < 600


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("forest", "on labels made from how people read LLM answers. Made"),
        ("explicit", "on labels that people gave: which of two LLM answers they preferred. Made"),
        ("longer", "on labels that call the longer of two LLM answers the better one, whatever people did. Made"),
        ("shuffled", "on labels that people gave to other pairs: shuffled, so that they carry no information. Made"),
        ("my_judge", "on labels that were made elsewhere (`my_judge`). Made"),
    ],
)
def test_the_card_says_what_the_labels_are(source: str, said: str, trained: Path) -> None:
    results = json.loads((trained / "results.json").read_text())
    assert said in " ".join(model_card("policy", results | {"label_source": source}).split())


def test_the_card(trained: Path, dataset: Path) -> None:
    card = (trained / "README.md").read_text()
    header = yaml.safe_load(card.split("---")[1])
    assert header["library_name"] == "transformers"
    assert header["license"] == "apache-2.0"
    assert {"dpo", "trl"} <= set(header["tags"])
    assert "base_model" not in header, "tiny is on no Hub"
    assert "datasets" not in header, "a folder is not a Hub id"
    assert "Rows: 6 of the 6 training rows of a local folder" in card
    assert "`learning_rate: 0.001`" in card, "the recipe"
    assert code_commit() is None or f"commit `{code_commit()}`" in card
    assert "0.2000 on average, at most 0.4000 (each pair its own)" in card
    assert "1 x robust DPO + 1 x NLL of the chosen answer (mean over its tokens), beta 0.1" in card
    assert "do not expect" not in card, "one epoch is complete"
    assert str(dataset.parent) not in card, "a path of this machine"


def test_loss_before_and_after_equals_the_closed_form(trained: Path, six_pairs: list[dict[str, Any]]) -> None:
    folder = trained
    results = json.loads((folder / "results.json").read_text())
    reference, tokenizer = load_policy("tiny")
    before = by_hand(six_pairs, reference, reference, tokenizer)
    assert before["loss"] == pytest.approx(math.log(2) + before["nll"])
    assert results["eval_before"]["loss"] == pytest.approx(before["loss"], abs=1e-4)
    assert results["eval_before"]["rewards/margins"] == 0

    policy = AutoModelForCausalLM.from_pretrained(folder)
    after = by_hand(six_pairs, policy, reference, AutoTokenizer.from_pretrained(folder))
    assert after["rewards/margins"] != pytest.approx(0, abs=1e-3)
    for metric in ("loss", "nll", "rewards/margins", "rewards/accuracies"):
        assert results["eval_after"][metric] == pytest.approx(after[metric], abs=1e-4)
    mean = by_hand(six_pairs, policy, reference, tokenizer, epsilon=0.2)
    assert results["eval_after"]["loss"] != pytest.approx(mean["loss"], abs=1e-3), "the test cannot see the pairs' own"
