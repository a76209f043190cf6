"""Label sources compared with the tiny policy: log-probabilities as TRL's, the table by hand, a run taken up again."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
import yaml
from scipy.stats import t

from ifllm_hub.align.compare_labels import LOG_PROBS, ROWS, SFT, Comparison, compare_labels
from ifllm_hub.align.compare_labels import _claim as check_setup
from ifllm_hub.align.compare_labels import _command as command_of
from ifllm_hub.align.implicit_reward import answer_log_probs
from ifllm_hub.align.labels_table import labels_markdown, summary, write_labels_page
from ifllm_hub.align.policies import load_policy
from ifllm_hub.align.stages.dpo import parse_dpo
from ifllm_hub.errors import IfllmError
from ifllm_hub.files import shipped_folder
from ifllm_hub.preferences.load import load_preferences
from ifllm_hub.statistics import degrees_of_freedom
from tests.align.made import write_config
from tests.align.scripts import run_dpo

TINY = shipped_folder("training") / "recipes" / "tiny"


@pytest.mark.parametrize("max_length", [512, 40])
def test_margins_are_those_that_trl_reports(dataset: Path, tmp_path: Path, max_length: int) -> None:
    flags = {"dataset": dataset, "output_dir": tmp_path, "max_steps": 2, "max_length": max_length, "disable_tqdm": True}
    words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    results = run_dpo(*parse_dpo(["--config", str(TINY / "dpo.yaml"), *words]))
    pairs = load_preferences(dataset)["test"]
    reference, after = (
        answer_log_probs(*load_policy(name), pairs, max_length, batch_size=batch)
        for name, batch in (("tiny", 5), (str(tmp_path), 3))
    )
    rewards = 0.1 * (after - reference)
    assert rewards[:, 0].mean() == pytest.approx(results["eval_after"]["rewards/chosen"], abs=1e-4)
    assert rewards[:, 1].mean() == pytest.approx(results["eval_after"]["rewards/rejected"], abs=1e-4)
    assert (rewards[:, 0] > rewards[:, 1]).mean() == pytest.approx(results["eval_after"]["rewards/accuracies"])


def test_the_log_probability_of_one_answer_by_hand(dataset: Path) -> None:
    model, tokenizer = load_policy("tiny")
    pair = load_preferences(dataset)["test"].select([3])
    whole = tokenizer.apply_chat_template(pair[0]["prompt"] + pair[0]["rejected"])["input_ids"]
    prompt = tokenizer.apply_chat_template(pair[0]["prompt"], add_generation_prompt=True)["input_ids"]
    with torch.no_grad():
        said = model(torch.tensor([whole])).logits[0].double().log_softmax(-1)
    expected = sum(said[at - 1, whole[at]].item() for at in range(len(prompt), len(whole)))
    assert answer_log_probs(model, tokenizer, pair, 512)[0, 1] == pytest.approx(expected, abs=1e-3)


def made(values: dict[str, list[list[float]]]) -> pl.DataFrame:
    """Margins of 4 questions, the first 3 of worker a; a list a seed."""
    return pl.DataFrame(
        [
            {"row": row, "seed": seed, "question_id": at, "worker_id": "aaab"[at], "margin": margin}
            for row, seeds in values.items()
            for seed, margins in enumerate(seeds)
            for at, margin in enumerate(margins)
        ]
    )


def test_summary_by_hand() -> None:
    flat = [[0.0] * 4, [0.0] * 4]
    board = summary(made(dict.fromkeys((SFT, *ROWS), flat) | {"forest": [[1, 1, -1, 2], [1, 0, -1, -3]]}).sample(
        fraction=1, shuffle=True, seed=0
    ))  # fmt: skip
    assert (board["pairs"], board["workers"], board["seeds"]) == (4, 2, 2)
    rows = {row["row"]: row for row in board["rows"]}
    forest = rows["forest"]
    assert forest["seeds"] == [0.75, 0.375]
    assert forest["accuracy"]["mean"] == 0.5625
    assert forest["margin"]["mean"] == pytest.approx((3 - 3) / 8)
    assert forest["over_control"]["mean"] == 0.0625
    # Without worker a: right once of twice; without b: (1 + .75 + 0) / 3.
    error = math.sqrt(((0.5 - 0.5625) ** 2 + (1.75 / 3 - 0.5625) ** 2) / 2)
    found = degrees_of_freedom(np.array([1, 0.75, 0, 0.5]), np.array([0, 0, 0, 1]))
    assert forest["accuracy"]["high"] - 0.5625 == pytest.approx(error * t.isf(0.025, found))
    assert forest["accuracy"]["low"] + forest["accuracy"]["high"] == pytest.approx(2 * 0.5625)
    assert rows["shuffled"]["accuracy"] == {"mean": 0.5, "low": 0.5, "high": 0.5}
    table = labels_markdown(board)
    low, high = forest["accuracy"]["low"], forest["accuracy"]["high"]
    assert f"| 0.562 [{low:.3f}, {high:.3f}] | 0.750, 0.375 | +0.0000" in table
    assert len(table.splitlines()) == 2 + 1 + len(ROWS)


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    """A recipe of the tiny policy, two steps a stage."""
    for stage in ("sft", "dpo"):
        content = yaml.safe_load((TINY / f"{stage}.yaml").read_text()) | {"max_steps": 2, "save_strategy": "no"}
        (tmp_path / "recipes" / "two" / f"{stage}.yaml").parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "recipes" / "two" / f"{stage}.yaml").write_text(yaml.safe_dump(content))
    return str(tmp_path / "recipes" / "two")


@pytest.mark.slow
def test_all_sources_are_trained_alike_and_a_second_call_trains_nothing(
    labeled_dataset: Path, recipe: str, tmp_path: Path
) -> None:
    comparison = Comparison(str(labeled_dataset), recipe, tmp_path / "out", seeds=1, jobs=2)
    margins = compare_labels(comparison)
    page = write_labels_page(comparison, margins)
    assert "| `nll_only`: likelihood of the preferred answer alone" in page.read_text()
    results = {row: json.loads((tmp_path / "out/seed-0" / row / "results.json").read_text()) for row in ROWS}
    assert len({results[row]["train_rows"] for row in ROWS}) == 1
    assert {results[row]["steps"] for row in ROWS} == {2}
    assert [results[row]["robust_weight"] for row in ("nll_only", "explicit")] == [0.0, 1.0]
    explicit = load_preferences(labeled_dataset, "explicit")["test"]
    assert margins["row"].value_counts(sort=True)["count"].to_list() == [len(explicit)] * (1 + len(ROWS))
    assert not np.allclose(
        margins.filter(row="explicit")["margin"].to_numpy(), margins.filter(row="shuffled")["margin"].to_numpy()
    )
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob(LOG_PROBS)}
    assert compare_labels(comparison).equals(margins)
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_runs_of_another_comparison_are_not_mixed_in(
    six_pairs: list[dict[str, Any]], recipe: str, tmp_path: Path
) -> None:
    folder, out = tmp_path / "data", tmp_path / "out"

    def label(rows: list[dict[str, Any]]) -> None:
        for source in {source for source, _ in ROWS.values()}:
            test = [row | {"question_id": 100 + row["question_id"]} for row in rows]
            parts = ([row | {"label_source": source} for row in part] for part in (rows, test))
            write_config(folder, f"preferences_{source}", *parts)

    label(six_pairs)
    check_setup(Comparison(str(folder), recipe, out))
    check_setup(Comparison(str(folder), recipe, out, seeds=5, jobs=2))
    label([row | {"flip_prob": 0.25} for row in six_pairs])
    with pytest.raises(
        IfllmError, match=r"out holds runs of another comparison \(SHA-256 of the labels '\w+' -> '\w+'\)"
    ):
        check_setup(Comparison(str(folder), recipe, out))
    label(six_pairs)
    file = Path(recipe) / "dpo.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"beta": 0.2, "optim": "sgd"}))
    with pytest.raises(IfllmError, match=r"another comparison \(dpo beta 0\.1 -> 0\.2, dpo optim None -> 'sgd'\)"):
        check_setup(Comparison(str(folder), recipe, out))


def test_each_row_is_what_it_says_with_the_shipped_recipe(tmp_path: Path) -> None:
    comparison = Comparison("ORG/ifllm", "smollm2-135m-labels", tmp_path, seeds=3)
    parsed = {}
    for row in ROWS:
        words = command_of(comparison, 2, row)
        parsed[row] = parse_dpo(words[next(at for at, word in enumerate(words) if word.endswith("dpo.py")) + 1 :])
    assert (parsed["nll_only"][1].loss_weights, parsed["nll_only"][1].nll) == ([0.0], "token_mean")
    assert {config.nll for row, (_, config, _) in parsed.items() if row != "nll_only"} == {"none"}
    assert {row: args.shuffle_seed for row, (args, _, _) in parsed.items() if args.shuffle_seed is not None} == {
        "shuffled": 2
    }
    assert {(config.max_length, config.precompute_ref_log_probs) for _, config, _ in parsed.values()} == {(768, True)}


def test_a_recipe_that_does_not_say_how_to_measure(tmp_path: Path) -> None:
    (tmp_path / "dpo.yaml").write_text("policy: tiny\nbeta: 0.1\n")
    with pytest.raises(IfllmError, match=r"dpo\.yaml does not set max_length"):
        compare_labels(Comparison("nowhere", str(tmp_path), tmp_path / "out"))
