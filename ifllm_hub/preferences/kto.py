"""Single rated answers in the format of TRL's KTOTrainer, from the config `pointwise`."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import polars as pl

from ifllm_hub.dataset.load import load_config
from ifllm_hub.dataset.schema import SPLITS
from ifllm_hub.errors import IfllmError
from ifllm_hub.preferences.history import message

if TYPE_CHECKING:
    from datasets import DatasetDict

Desirable = Literal["above_own_mean", "at_least_4"]
# Under `at_least_4`, an answer with this rating or a higher one is desirable, whoever gave it.
_GOOD = 4


def load_kto(
    dataset: str | Path,
    desirable: Desirable = "above_own_mean",
    revision: str | None = None,
    all_workers: bool = False,
) -> "DatasetDict":
    """Rated answers, each labeled desirable or not.

    Ratings say more about who rates generously than about which answer is good: of the 800 usable ones in the study's
    release, 92 % are 4 or 5. So by default, an answer is compared with the same worker's others. On that
    release, `above_own_mean` makes 403 of 718 answers desirable and drops 82, by workers who always gave the same
    rating; `at_least_4` makes 737 of 800 desirable.

    Args:
        dataset: a dataset folder or Hub repo id.
        desirable: `above_own_mean`: rated above the mean of the worker's own ratings in the split; answers rated
            exactly at it are left out, and so is every worker whose ratings never differ. `at_least_4`: rated 4 or 5.
        revision: branch, tag or commit of a Hub dataset.
        all_workers: keep the workers on the authors' exclusion list.

    Returns:
        `train` and `test`, held out by worker, each with `question_id`, conversational `prompt` (the query alone) and
        `completion`, and `label`, True where the answer is desirable.

    Raises:
        IfllmError: the dataset cannot be read, there is no such rule, or a split has no desirable or no undesirable
            answer.

    Examples:
        >>> from ifllm_hub.preferences.kto import load_kto
        >>> answers = load_kto("ifllm")
        >>> answers["train"].num_rows, sorted(set(answers["train"]["label"]))
        (21, [False, True])
    """
    from datasets import Dataset, DatasetDict

    rows = kto_rows(load_config(dataset, "pointwise", revision), desirable, all_workers)
    splits = {split: rows.filter(pl.col("split") == split).drop("split") for split in SPLITS}
    for split, part in splits.items():
        if part["label"].n_unique() < 2:
            raise IfllmError(
                f"The {split} split of {dataset} has {part['label'].sum()} desirable of {part.height} rated answers; "
                "both kinds are needed. Build the dataset from more workers, or choose another rule."
            )
    return DatasetDict({split: Dataset.from_polars(part) for split, part in splits.items()})


def kto_rows(pointwise: pl.DataFrame, desirable: Desirable, all_workers: bool = False) -> pl.DataFrame:
    """The rated ones of some rows of `pointwise`, as in `load_kto`, with `split`.

    Args:
        pointwise: all rows of each worker in them.

    Raises:
        IfllmError: there is no such rule.
    """
    if desirable not in get_args(Desirable):
        raise IfllmError(f"There is no rule {desirable!r}. Choose one of: {', '.join(get_args(Desirable))}.")
    rows = pointwise.filter(pl.col("rating").is_not_null() & ~pl.col("ai_error"))
    if not all_workers:
        rows = rows.filter(~pl.col("excluded_worker"))
    return trl_answers(_labeled(rows, desirable))


def thumb_rows(pointwise: pl.DataFrame, signals: pl.DataFrame) -> pl.DataFrame:
    """Those of some rows of `pointwise` that have a thumb, in the same format: desirable is a thumb up.

    Args:
        signals: `question_id`, `thumb_left`.
    """
    thumbs = signals.filter(pl.col("thumb_left") != 0).select("question_id", label=pl.col("thumb_left") > 0)
    return trl_answers(pointwise.join(thumbs, on="question_id", maintain_order="left"))


def trl_answers(answers: pl.DataFrame, prompt: pl.Expr | None = None, response: str = "response") -> pl.DataFrame:
    """Labeled answers as TRL reads them: `question_id`, `prompt`, `completion`, `label`, `split`.

    Args:
        answers: `question_id`, `query`, the response, `label` (is it desirable), `split`.
        prompt: a conversation; None: the query alone.
        response: the column of the response.
    """
    return answers.select(
        "question_id",
        (message("user", pl.col("query")) if prompt is None else prompt).alias("prompt"),
        message("assistant", pl.col(response)).alias("completion"),
        "label",
        "split",
    )


def _labeled(rows: pl.DataFrame, desirable: Desirable) -> pl.DataFrame:
    if desirable == "at_least_4":
        return rows.with_columns(label=pl.col("rating") >= _GOOD)
    rating = pl.col("rating").cast(pl.Int64)
    # Computed in whole numbers, so that rounding never moves a rating off the mean.
    above = rating * pl.len().over("worker_id", "split") - rating.sum().over("worker_id", "split")
    return (
        rows.with_columns(above=above.cast(pl.Int64))
        .filter(pl.col("above") != 0)
        .with_columns(label=pl.col("above") > 0)
    )
