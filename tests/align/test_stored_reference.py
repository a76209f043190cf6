"""Log-probabilities of the reference, stored by answer: TRL's own numbers, and nothing asked twice."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from datasets import Dataset
from polars.testing import assert_frame_equal
from safetensors.torch import load_file
from trl import DPOConfig, DPOTrainer

from ifllm_hub.align.implicit_reward import answer_log_probs
from ifllm_hub.align.policies import load_policy
from ifllm_hub.align.stages.dpo import parse_dpo
from ifllm_hub.align.stored_reference import StoredReference
from ifllm_hub.align.trainer import REFERENCE, FlipProbDPOConfig, FlipProbDPOTrainer
from ifllm_hub.errors import IfllmError
from ifllm_hub.files import shipped_folder
from tests.align.scripts import run_dpo

TINY = shipped_folder("training") / "recipes" / "tiny" / "dpo.yaml"
Run = Callable[..., dict[str, Any]]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path / "cache" / "ifllm_hub"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pairs each batch has that the reference model is asked about."""
    sizes: list[int] = []
    original = DPOTrainer.compute_ref_log_probs

    def spy(self: Any, model: Any, inputs: dict[str, Any]) -> Any:
        sizes.append(len(inputs["input_ids"]) // 2)
        return original(self, model, inputs)

    monkeypatch.setattr(DPOTrainer, "compute_ref_log_probs", spy)
    return sizes


@pytest.fixture
def run(two_sources: Path, tmp_path: Path) -> Run:
    def run(out: str, **flags: Any) -> dict[str, Any]:
        flags = {"dataset": two_sources, "output_dir": tmp_path / out, "disable_tqdm": True, "max_steps": 3} | flags
        words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
        return run_dpo(*parse_dpo(["--config", str(TINY), *words]))

    return run


def trained(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize("max_length", [512, 40])
def test_the_numbers_are_those_of_trl(
    six_pairs: list[dict[str, Any]], tmp_path: Path, cache: Path, max_length: int
) -> None:
    settings: dict[str, Any] = {"max_length": max_length, "precompute_ref_log_probs": True, "report_to": "none"}
    settings |= {"use_cpu": True, "bf16": False, "activation_checkpointing": False}
    data, (_, tokenizer) = Dataset.from_list(six_pairs), load_policy("tiny")
    given: dict[str, Any] = {"train_dataset": data, "processing_class": tokenizer}
    theirs: Any = DPOTrainer(model=load_policy("tiny")[0], args=DPOConfig(str(tmp_path), **settings), **given)
    cache.mkdir(parents=True)
    stored = StoredReference(cache / "reference.parquet")
    for _ in range(2):  # computed, then looked up
        ours = FlipProbDPOTrainer(
            model=load_policy("tiny")[0],
            args=FlipProbDPOConfig(str(tmp_path), **settings),
            stored_reference=stored,
            **given,
        )
        by_hand = answer_log_probs(load_policy("tiny")[0], tokenizer, data, max_length)
        for at, column in enumerate(REFERENCE):
            found = np.array(ours.train_dataset[column])
            np.testing.assert_allclose(found, theirs.train_dataset[column], rtol=0, atol=1e-4)
            np.testing.assert_allclose(found, by_hand[:, at], rtol=0, atol=1e-3)
            assert ours.train_dataset.features[column] == theirs.train_dataset.features[column]


@pytest.mark.parametrize("flags", [{}, {"lora": True, "lora_r": 4}])
def test_training_ends_where_it_does_with_a_live_reference(
    run: Run, tmp_path: Path, asked: list[int], flags: dict[str, Any]
) -> None:
    run("live", **flags)
    run("stored", precompute_ref_log_probs=True, **flags)
    asked.clear()
    # Chosen and rejected are the other way round in four of the six pairs.
    other = run("other", precompute_ref_log_probs=True, label_source="explicit", label_smoothing=0.1, **flags)
    assert asked == []
    live, stored, start = (trained(tmp_path / name) for name in ("live", "stored", "other"))
    for name, weights in live.items():
        torch.testing.assert_close(stored[name], weights, rtol=0, atol=1e-6)
    assert max((start[name] - weights).abs().max() for name, weights in live.items()) > 1e-3
    assert other["eval_before"]["rewards/margins"] == pytest.approx(0, abs=1e-4)


def test_only_what_is_new_is_asked(run: Run, asked: list[int], cache: Path) -> None:
    run("six", precompute_ref_log_probs=True)
    (file,) = cache.glob("reference-*.parquet")
    whole = pl.read_parquet(file)
    # The test pairs are the training pairs, and no answer is in two pairs.
    assert (sum(asked), whole["answer"].n_unique()) == (6, 12)
    whole.head(10).write_parquet(file)
    asked.clear()
    run("again", precompute_ref_log_probs=True)
    assert sum(asked) == 1
    assert_frame_equal(pl.read_parquet(file).sort("answer"), whole.sort("answer"), abs_tol=1e-4)
    asked.clear()
    run("shorter", precompute_ref_log_probs=True, max_length=50)
    assert 0 < sum(asked) < 6, "answers that are not cut are known"
    assert len(list(cache.glob("reference-*.parquet"))) == 1


def test_another_policy_is_asked_itself(run: Run, asked: list[int], cache: Path, tmp_path: Path) -> None:
    run("first", precompute_ref_log_probs=True)
    run("same", precompute_ref_log_probs=True, seed=0)
    assert sum(asked) == 6
    run("seed", precompute_ref_log_probs=True, seed=1)
    run("folder", precompute_ref_log_probs=True, policy=tmp_path / "first")
    assert (sum(asked), len(list(cache.glob("reference-*.parquet")))) == (18, 3)


def test_two_that_ask_at_once_ask_once(cache: Path) -> None:
    cache.mkdir(parents=True)
    stored, rows = StoredReference(cache / "reference.parquet"), []

    def ask(missing: list[int]) -> np.ndarray:
        rows.append(missing)
        time.sleep(0.2)
        return np.array([[10 * row, 10 * row + 1] for row in missing])

    answers = np.array([["a", "b"], ["c", "d"]])
    with ThreadPoolExecutor(2) as pool:
        first, swapped = pool.map(lambda keys: stored.log_probs(keys, ask), (answers, answers[:, ::-1]))
    assert first.tolist() == [[0, 1], [10, 11]] or swapped.tolist() == [[0, 1], [10, 11]]
    np.testing.assert_array_equal(first, swapped[:, ::-1])
    assert rows == [[0, 1]]


def test_a_damaged_file_is_named(run: Run, cache: Path) -> None:
    run("first", precompute_ref_log_probs=True)
    (file,) = cache.glob("reference-*.parquet")
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(IfllmError, match=rf"{file} holds a damaged copy of the data \(.*\). Delete it"):
        run("second", precompute_ref_log_probs=True)
