"""Which labels make a policy prefer what workers prefer: one training run per label source and seed.

Loss, starting policy, reference model, pairs and their order, number of steps and flip probability are the same for all
label sources of a seed. They differ only in who said which answer is better.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl

from ifllm_hub.align.implicit_reward import answer_log_probs
from ifllm_hub.align.policies import load_policy
from ifllm_hub.align.runs.launch import command_line, launch, recipe_file
from ifllm_hub.align.runs.results import RESULTS
from ifllm_hub.dataset.load import load_config
from ifllm_hub.dataset.schema import preferences_config
from ifllm_hub.errors import IfllmError
from ifllm_hub.files import claim_folder, read_parquet, write_parquet
from ifllm_hub.preferences.labels import SHUFFLED
from ifllm_hub.preferences.load import fingerprint, load_preferences
from ifllm_hub.terms import Advance

LOG_PROBS = "log_probs.parquet"
COMPARED = "comparison.json"
# The policy as the recipe names it, and after supervised fine-tuning, which is where all label sources start.
BASE, SFT = "base", "sft"
# What each row is trained on: a label source, and the flags of the recipe that it changes. A recipe need not have the
# likelihood that `nll_only` is about.
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "nll_only": ("explicit", {"loss_weights": [0.0], "nll": "token_mean"}),
    "explicit": ("explicit", {}),
    "forest": ("forest", {}),
    "forest_mouse": ("forest_mouse", {}),
    "forest_gaze": ("forest_gaze", {}),
    "longer": ("longer", {}),
    SHUFFLED: (SHUFFLED, {}),
}
# The labels that policies are judged by: the test workers' own.
JUDGED_BY = "explicit"


@dataclass(frozen=True)
class Comparison:
    """The settings of a comparison.

    Attributes:
        dataset: a folder or Hub id with the preferences of every label source in `ROWS`.
        recipe: a recipe with the stages `sft` and `dpo`, the latter with `beta` and `max_length`.
        out: where the runs go, `<out>/seed-<n>/<row>`; a second call runs only what is missing there.
        seeds: how many (0, 1, ...); each seeds the draw and order of the pairs, the adapter and the permutation of
            `shuffled`.
        jobs: training processes at a time.
    """

    dataset: str
    recipe: str
    out: Path
    seeds: int = 3
    jobs: int = 1


def compare_labels(comparison: Comparison, advance: Advance = lambda _: None) -> pl.DataFrame:
    """Train whatever is missing, and measure each policy on the explicit pairs of the test workers.

    Returns:
        One row per policy and test pair: `row` (`sft`, or a key of `ROWS`), `seed`, `question_id`, `worker_id`,
        `margin`:
        the implicit reward (nats) of the answer that the worker preferred minus that of the other. The reference is the
        policy that training started from: the recipe's for `sft`, the `sft` of the same seed for the others.

    Raises:
        IfllmError: the recipe, the dataset or a label source does not exist, `out` holds runs of another recipe or of
            other labels, or a training run fails.
    """
    beta = recipe_settings(comparison.recipe)["beta"]
    _claim(comparison)
    seeds = range(comparison.seeds)
    stages = [[(0, BASE)], [(seed, SFT) for seed in seeds], [(seed, row) for seed in seeds for row in ROWS]]
    done, total = 0, sum(map(len, stages))
    for jobs in stages:
        with ThreadPoolExecutor(comparison.jobs) as pool:
            for _ in pool.map(lambda job: _run(comparison, *job), jobs):
                done += 1
                advance(done / total)
    parts = []
    for seed, row in stages[1] + stages[2]:
        reference = _folder(comparison, seed, SFT) if row in ROWS else _folder(comparison, 0, BASE)
        parts.append(_margins(_folder(comparison, seed, row), reference, beta).with_columns(row=pl.lit(row), seed=seed))
    workers = _test_pairs(comparison.dataset)[1]
    return pl.concat(parts).join(workers, on="question_id").select("row", "seed", "question_id", "worker_id", "margin")


def recipe_settings(recipe: str) -> dict[str, Any]:
    """The values of `dpo.yaml`.

    Raises:
        IfllmError: there is no such recipe, or it does not set `beta` or `max_length`.
    """
    content = _content(recipe, "dpo")
    missing = [name for name in ("beta", "max_length") if name not in content]
    if missing:
        raise IfllmError(
            f"{recipe_file(recipe)} does not set {missing[0]}, which is needed to measure policies. Add it."
        )
    return content


def _content(recipe: str, stage: Literal["sft", "dpo"]) -> dict[str, Any]:
    import yaml

    return dict(yaml.safe_load(recipe_file(recipe, stage).read_text()))


def _claim(comparison: Comparison) -> None:
    """Record a new comparison, or refuse to add to one with other settings; only seeds and jobs may change."""
    from datasets import Dataset

    settings = {
        f"{stage} {name}": value
        for stage in ("sft", "dpo")
        for name, value in _content(comparison.recipe, stage).items()
    }
    sources = dict.fromkeys(source for source, _ in ROWS.values())
    rows = [load_config(comparison.dataset, preferences_config(source)) for source in sources]
    digest = fingerprint(Dataset.from_polars(pl.concat(rows)))
    now = settings | {"SHA-256 of the labels": digest}
    claim_folder(comparison.out / COMPARED, now, "runs of another comparison")


def _folder(comparison: Comparison, seed: int, row: str) -> Path:
    return comparison.out / BASE if row == BASE else comparison.out / f"seed-{seed}" / row


def _run(comparison: Comparison, seed: int, row: str) -> None:
    """Train one policy and measure it, unless that is done."""
    folder = _folder(comparison, seed, row)
    if (folder / LOG_PROBS).is_file():
        return
    if row != BASE and not (folder / RESULTS).is_file():
        launch(_command(comparison, seed, row), folder)
    settings = recipe_settings(comparison.recipe)
    model, tokenizer = load_policy(settings["policy"] if row == BASE else str(folder), seed=seed)
    pairs, ids = _test_pairs(comparison.dataset)
    sums = answer_log_probs(model, tokenizer, pairs, settings["max_length"])
    folder.mkdir(parents=True, exist_ok=True)
    table = pl.DataFrame({"question_id": ids["question_id"], "chosen": sums[:, 0], "rejected": sums[:, 1]})
    write_parquet(folder / LOG_PROBS, table)


def _command(comparison: Comparison, seed: int, row: str) -> list[str]:
    folder = _folder(comparison, seed, row)
    if row == SFT:
        return command_line(comparison.recipe, comparison.dataset, folder, {"seed": seed}, stage="sft")
    source, changes = ROWS[row]
    same_pairs = sorted({source for source, _ in ROWS.values()})
    start = _folder(comparison, seed, SFT)
    overrides = {"seed": seed, "policy": start, "label_source": source, "same_pairs": same_pairs, **changes}
    if source == SHUFFLED:
        overrides["shuffle_seed"] = seed
    return command_line(comparison.recipe, comparison.dataset, folder, overrides)


def _margins(folder: Path, reference: Path, beta: float) -> pl.DataFrame:
    after, before = (read_parquet(place / LOG_PROBS) for place in (folder, reference))
    joined = after.join(before, on="question_id", suffix="_before", validate="1:1")
    chosen = pl.col("chosen") - pl.col("chosen_before")
    rejected = pl.col("rejected") - pl.col("rejected_before")
    return joined.select("question_id", margin=beta * (chosen - rejected))


def _test_pairs(dataset: str) -> tuple[Any, pl.DataFrame]:
    """The explicit pairs of the test workers, and their `question_id` and `worker_id`."""
    from ifllm_hub.dataset.load import load_config

    pairs = load_preferences(dataset, JUDGED_BY)["test"]
    workers = load_config(dataset, "pairwise").select("question_id", "worker_id")
    ids = pl.DataFrame({"question_id": pairs["question_id"]})
    return pairs, ids.join(workers, on="question_id", how="left", maintain_order="left")
