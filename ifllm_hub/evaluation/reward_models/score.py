"""Score reward models and write the results: what `ifllm score-models` and `eval/reward_model.py` run."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from ifllm_hub.errors import IfllmError
from ifllm_hub.evaluation.results import write_results
from ifllm_hub.evaluation.reward_models.best_of_n import benchmark_page, read_benchmark, score_benchmark
from ifllm_hub.evaluation.reward_models.board import evaluate_reward_models, reward_models_page
from ifllm_hub.evaluation.reward_models.text_scorer import load_scorer
from ifllm_hub.evaluation.tables import JUDGMENTS, read_table


def score_on_workers(
    dataset: str | Path,
    behavior: Sequence[str],
    text: Sequence[str],
    judgments: Sequence[Path],
    out: Path,
    every_worker: bool = False,
    all_workers: bool = False,
    seeds: int = 20,
    revision: str | None = None,
) -> str:
    """Score models by what workers preferred, and write `reward_models.json` and `.md` into a folder.

    Args:
        judgments: files of judgments of the dataset's pairs, in both orders.
        out: the folder; it is created.

    The other arguments are those of `evaluate_reward_models`.

    Returns:
        The page.

    Raises:
        IfllmError: see `evaluate_reward_models`; or the folder cannot be written.
    """
    judged = pl.concat([read_table(file, JUDGMENTS) for file in judgments]) if judgments else None
    board = evaluate_reward_models(dataset, behavior, text, judged, every_worker, all_workers, seeds, revision)
    page = reward_models_page(board)
    write_results(out, "reward_models", board, page)
    return page


def score_on_benchmark(file: Path, text: Sequence[str], out: Path) -> str:
    """Score text models on a file of RewardBench 2, and write `reward_bench.json` and `.md` into a folder.

    Returns:
        The page.

    Raises:
        IfllmError: the file cannot be read, no text model is named or one cannot be loaded, or the folder cannot be
            written.
    """
    rows = read_benchmark(file)
    if not text:
        raise IfllmError("RewardBench 2 has texts and no behavior: name a text model (--text).")
    results = {model: score_benchmark(rows, load_scorer(model)) for model in text}
    page = benchmark_page(results)
    write_results(out, "reward_bench", results, page)
    return page
