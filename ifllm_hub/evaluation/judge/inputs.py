"""What is to be judged: the answers of a model and of its baseline, or the pairs that people rated."""

import json
import logging
from pathlib import Path

import polars as pl

from ifllm_hub.dataset.load import load_config
from ifllm_hub.errors import IfllmError
from ifllm_hub.evaluation.generation.prompts import conversation, sample
from ifllm_hub.evaluation.tables import JUDGMENTS, read_generations
from ifllm_hub.preferences.history import History

logger = logging.getLogger(__name__)

# The columns of `JUDGMENTS` that are known before a judge is asked.
COLUMNS = [
    *("llm", "label_source", "question_id", "worker_id", "messages"),
    *("model", "model_revision", "answer_model", "baseline", "baseline_revision", "answer_baseline"),
]
SCHEMA = {name: JUDGMENTS[name] for name in COLUMNS}
# How the pairs that people rated are marked.
PEOPLE = {"llm": "ifllm", "label_source": "human"}


def pairs_of_generations(model: Path, baseline: Path, llm: str, label_source: str) -> pl.DataFrame:
    """`COLUMNS` of the questions that both files have, in the order of the model's.

    Raises:
        IfllmError: a file is not a table of answers, or has those of several models or settings; the files share no
            question, or asked one with different prompts.
    """
    ours, theirs = _generations(model), _generations(baseline)
    both = ours.join(theirs, on="question_id", how="inner", suffix="_baseline", maintain_order="left")
    if both.is_empty():
        raise IfllmError(f"{model} and {baseline} share no question. Generate both with the same prompt_seed.")
    other = both.filter(pl.col("messages") != pl.col("messages_baseline"))["question_id"]
    if len(other):
        raise IfllmError(
            f"{model} and {baseline} were asked {len(other)} questions with different prompts (the first: {other[0]}). "
            "Generate both with the same history."
        )
    _note_differences(model, baseline, both, max(ours.height, theirs.height))
    renamed = both.rename({"answer": "answer_model", "model_baseline": "baseline"}).rename(
        {"model_revision_baseline": "baseline_revision"}
    )
    return _columns(renamed.with_columns(llm=pl.lit(llm), label_source=pl.lit(label_source)))


def single_answers(model: Path, llm: str, label_source: str) -> pl.DataFrame:
    """`COLUMNS` of one file of answers, without a baseline.

    Raises:
        IfllmError: the file is not a table of answers, or has those of several models or settings.
    """
    rows = _generations(model).rename({"answer": "answer_model"})
    nothing = {name: pl.lit(None, pl.String) for name in ("baseline", "baseline_revision", "answer_baseline")}
    return _columns(rows.with_columns(llm=pl.lit(llm), label_source=pl.lit(label_source), **nothing))


def human_rated_pairs(dataset: str, revision: str | None, history: History, n: int | None, seed: int) -> pl.DataFrame:
    """`COLUMNS` of pairs that a worker rated, of both splits: the left answer is the model's, the right the baseline's.

    A judge was trained on neither split, so both measure it. Revisions are null, since nobody recorded which weights
    the study's servers had. From the second turn on the two answers were written after different conversations; see
    `with_history` on what to show.

    Args:
        n: how many, drawn with `seed` as in `sample`; all if None.

    Raises:
        IfllmError: the dataset cannot be read, or has fewer such pairs.
    """
    rated = load_config(dataset, "pairwise", revision).filter(
        pl.col("preference").is_not_null(), ~pl.col("ai_error"), ~pl.col("excluded_worker")
    )
    rows = sample(rated, n, seed, f"{dataset}, rated pairs").with_columns(
        messages=conversation(history, has_sides=True),
        model="model_left",
        answer_model="response_left",
        baseline="model_right",
        answer_baseline="response_right",
        model_revision=pl.lit(None, pl.String),
        baseline_revision=pl.lit(None, pl.String),
        **{name: pl.lit(value) for name, value in PEOPLE.items()},
    )
    return _columns(rows)


def _generations(file: Path) -> pl.DataFrame:
    rows = read_generations(file)
    if rows.is_empty():
        raise IfllmError(f"{file}: holds no answers. Generate some.")
    for name in ("model", "model_revision", "settings"):
        if rows[name].n_unique() != 1:
            raise IfllmError(f"{file}: holds answers of several {name}s. Give one file for each.")
    if rows["question_id"].is_duplicated().any():
        raise IfllmError(f"{file}: holds a question twice. Generate it again.")
    return rows


def _note_differences(model: Path, baseline: Path, both: pl.DataFrame, asked: int) -> None:
    ours, theirs = (json.loads(both[name][0]) for name in ("settings", "settings_baseline"))
    differing = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
    if differing:
        logger.warning("%s and %s were generated with different settings: %s", model, baseline, ", ".join(differing))
    if both.height < asked:
        logger.warning("%d of %d questions are in both files; the others are left out", both.height, asked)


def _columns(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.select(COLUMNS).cast(SCHEMA)  # type: ignore[arg-type]  # its stub wants no classes among the types
