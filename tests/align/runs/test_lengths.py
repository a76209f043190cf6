"""What does not fit: counted and said where some rows do, refused before the first step where none does."""

import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from datasets import Dataset, DatasetDict

from ifllm_hub.align.runs.lengths import prompts_with_room
from ifllm_hub.align.stages.dpo import parse_dpo
from ifllm_hub.errors import IfllmError
from ifllm_hub.files import shipped_folder
from tests.align.scripts import run_dpo
from tests.align.tiny_llm import tiny_llm

TINY = shipped_folder("training") / "recipes" / "tiny" / "dpo.yaml"


def dpo(**flags: Any) -> dict[str, Any]:
    words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    return run_dpo(*parse_dpo([*words, "--disable_tqdm", "True"]))


def test_rows_that_do_not_fit_are_counted_and_said(
    dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "uneven"
    shutil.copytree(dataset, folder)
    for file in folder.glob("data/preferences_forest/*.parquet"):
        stored = Dataset.from_parquet(str(file), cache_dir=str(tmp_path / "cache"))
        rows = stored.to_list()
        for row in rows[: 2 if "train" in file.name else 1]:
            row["prompt"][0]["content"] *= 9
        Dataset.from_list(rows, features=stored.features).to_parquet(file)
    with caplog.at_level(logging.INFO, logger="ifllm_hub.align.runs.run"):
        results = dpo(config=TINY, dataset=folder, output_dir=tmp_path / "out", max_length=100)
    assert (results["train_rows"], results["rows_after_length_filter"]) == (6, 4)
    assert (results["test_rows"], results["test_rows_after_length_filter"]) == (6, 5)
    assert (results["rows_seen"], results["rows_in_one_epoch"]) == (4, 4)
    assert "Left out, as the prompt leaves no room for an answer: 2 train rows" in caplog.text
    card = (tmp_path / "out" / "README.md").read_text()
    assert "Rows: 4 of the 6 training rows" in card
    assert "\n5 test rows of workers" in card


def test_without_a_max_length_answers_are_cut_at_what_the_policy_can_read(dataset: Path, tmp_path: Path) -> None:
    for part in tiny_llm("gpt2", {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 48}):
        part.save_pretrained(tmp_path / "short")
    recipe = yaml.safe_load(TINY.read_text()) | {"max_length": None}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    paths = {"config": "recipe.yaml", "policy": "short", "output_dir": "out"}
    results = dpo(dataset=dataset, max_steps=1, **{name: tmp_path / path for name, path in paths.items()})
    assert results["max_length"] == 48
    assert results["pairs_truncated"] > 0


def test_grpo_prompts_leave_room_for_an_answer() -> None:
    policy, tokenizer = tiny_llm("gpt2", {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64})
    rows = [{"prompt": [{"role": "user", "content": "Why? " * count}]} for count in (1, 90, 2)]
    data = DatasetDict({"train": Dataset.from_list(rows), "test": Dataset.from_list(rows[:1])})
    kept = prompts_with_room(data, policy, tokenizer, 16)
    assert (kept["train"].to_list(), len(kept["test"])) == (rows[::2], 1)
    with pytest.raises(
        IfllmError, match=r"Every prompt of the train split .* max_completion_length = 64 .* the 64 that"
    ):
        prompts_with_room(data, policy, tokenizer, 64)
