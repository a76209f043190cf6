"""Splits other than those stored, and the labels that go with them."""

from pathlib import Path
from typing import Literal, get_args

import numpy as np
import polars as pl

from ifllm_hub.dataset.splits import TEST_FOLD
from ifllm_hub.errors import IfllmError
from ifllm_hub.preferences.labels import SHUFFLED, SOURCES, preference_rows, rated_rows
from ifllm_hub.preferences.load import stored_rows
from ifllm_hub.reward.protocol.pairs import Pairs, load_pairs

Split = Literal["worker", "conversation", "question", "reference"]


def relabel(
    dataset: str | Path,
    label_source: str,
    split: Split,
    revision: str | None = None,
    shuffle_seed: int | None = None,
) -> pl.DataFrame:
    """The rows of one label source with other splits or another permutation, for `load_preferences(..., rows=)`.

    The labels of the package's own models are made again, which fits the models (a matter of seconds): the one behind a
    stored train label may have learned from what is now a test pair. Labels from elsewhere stay as they are; only their
    maker can know whether their model saw such a pair.

    Args:
        dataset: a dataset folder or Hub repo id.
        split: what train and test never share. With `conversation` or `question`, fold 4 of `pairwise` is the test
            split; `worker` is the split as stored. `reference` draws single questions as the paper's released code does
            (`reference_split`); its explicit pairs are all that workers rated, even without a recorded reading.
        revision: branch, tag or commit of a Hub dataset.
        shuffle_seed: of the permutation of `shuffled`; None is the stored one.

    Raises:
        IfllmError: there is no such split or label source, the dataset cannot be read, or labels that are not shuffled
            are given a seed.
    """
    if split not in get_args(Split):
        raise IfllmError(f"There is no split {split!r}. Choose one of: {', '.join(get_args(Split))}.")
    if shuffle_seed is not None and label_source != SHUFFLED:
        raise IfllmError(
            f"shuffle_seed is {shuffle_seed}, but the labels of {label_source!r} are not shuffled. Leave it out."
        )
    rows = stored_rows(dataset, label_source, revision)
    if split == "worker" and shuffle_seed is None:
        return rows
    every = load_pairs(dataset, revision)
    pairs = reference_split(every) if split == "reference" else held_out_by(every, split)
    if split == "reference" and label_source == "explicit":
        return rated_rows(pairs)
    places = rows.drop("split").join(
        pairs.rows.select("question_id", "split", "excluded_worker"), on="question_id", maintain_order="left"
    )
    if label_source not in SOURCES:
        return places.drop("excluded_worker")
    all_workers = bool(places["excluded_worker"].any())
    return preference_rows(pairs, all_workers, (label_source,), shuffle_seed or 0)


def held_out_by(pairs: Pairs, group: str) -> Pairs:
    """The pairs with `split` by `fold_worker` (as stored), `fold_conversation` or `fold_question`: fold 4 is test."""
    test = pl.col(f"fold_{group}") == TEST_FOLD
    return Pairs(pairs.rows.with_columns(split=pl.when(test).then(pl.lit("test")).otherwise(pl.lit("train"))))


def reference_split(pairs: Pairs) -> Pairs:
    """The rows that the paper's released code uses, with its `split`: a fifth of the questions, drawn singly.

    These are the pairwise questions of the workers it keeps, rated or not, read or not, error messages included; it
    calls scikit-learn's `train_test_split(test_size=0.2, random_state=42)` on them. Workers and conversations are in
    both splits.

    Args:
        pairs: all pairwise questions, in the order of their ids.
    """
    from sklearn.model_selection import train_test_split

    rows = pairs.rows.filter(~pl.col("excluded_worker"))
    _, test = train_test_split(np.arange(rows.height), test_size=0.2, random_state=42)
    is_test = pl.Series(np.isin(np.arange(rows.height), test))
    return Pairs(rows.with_columns(split=pl.when(is_test).then(pl.lit("test")).otherwise(pl.lit("train"))))
