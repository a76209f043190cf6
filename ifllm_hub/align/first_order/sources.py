"""Which answer each label source chooses, by a model that saw no pair of the fold that is tested on."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from ifllm_hub.dataset.load import label_sources, load_config
from ifllm_hub.dataset.schema import preferences_config
from ifllm_hub.errors import IfllmError
from ifllm_hub.preferences.labels import MODELS, SHUFFLED, preference_rows
from ifllm_hub.reward.protocol.pairs import LENGTH_FEATURES, Pairs, load_pairs

if TYPE_CHECKING:
    from datasets import Dataset

EXPLICIT, LONGER = "explicit", "longer"
_SEED = 0


@dataclass(frozen=True)
class Compared:
    """The pairs of a comparison, each rated by its worker and labeled by the judge.

    Attributes:
        rows: of `load_pairs`, in the order of their ids.
        sources: the label sources to train on.
        judge: (pairs,) int8: 1 where the left answer is the better one, -1 where the right one is.
        stored: (pairs, sources) the labels of the dataset as signs, 0 where there is none; those of the package's own
            models are made anew for each fold, see `labels`.
        every: all pairs of the dataset, which the models behind labels learn from.
    """

    rows: pl.DataFrame
    sources: list[str]
    judge: np.ndarray
    stored: np.ndarray
    every: Pairs

    @property
    def folds(self) -> np.ndarray:
        """(pairs,) the fold of each pair's worker."""
        return self.rows["fold_worker"].to_numpy()

    @property
    def workers(self) -> np.ndarray:
        """(pairs,) whose pair it is."""
        return self.rows["worker_id"].to_numpy()

    @property
    def length_ratio(self) -> np.ndarray:
        """(pairs,) the log of how many times as many characters the left answer has."""
        return self.rows[LENGTH_FEATURES[0]].to_numpy()

    @property
    def longer(self) -> np.ndarray:
        """(pairs,) int8: 1 where the left answer is longer, -1 where the right one is, 0 if neither."""
        return np.sign(self.length_ratio).astype(np.int8)

    @property
    def explicit(self) -> np.ndarray:
        """(pairs,) int8: what workers said."""
        return self.stored[:, self.sources.index(EXPLICIT)]

    def texts(self) -> "Dataset":
        """`question_id`, conversational `prompt`, `left`, `right`."""
        from datasets import Dataset

        said = (
            ("prompt", "user", "query"),
            ("left", "assistant", "response_left"),
            ("right", "assistant", "response_right"),
        )
        return Dataset.from_list(
            [
                {"question_id": row["question_id"]}
                | {name: [{"role": role, "content": row[column]}] for name, role, column in said}
                for row in self.rows.select("question_id", "query", "response_left", "response_right").iter_rows(
                    named=True
                )
            ]
        )

    def labels(self, fold: int) -> np.ndarray:
        """(pairs, sources) signs for training on the other folds.

        The models of the package learn again from these: each fold of workers is labeled by a model that saw neither it
        nor `fold`. Labels from elsewhere are as stored.
        """
        signs = self.stored.copy()
        models = [name for name in self.sources if name in MODELS and name != LONGER]
        is_test = pl.col("fold_worker") == fold
        held_out = Pairs(
            self.every.rows.with_columns(split=pl.when(is_test).then(pl.lit("test")).otherwise(pl.lit("train")))
        )
        excluded = bool(self.rows["excluded_worker"].any())
        for name in models:
            rows = preference_rows(held_out, all_workers=excluded, sources=(name,))
            signs[:, self.sources.index(name)] = _signs(rows, self.rows)
        return signs

    def permuted(self, count: int) -> np.ndarray:
        """(pairs, count) what workers said, given to each other's pairs at random."""
        generator = np.random.default_rng(_SEED)
        return np.stack([generator.permutation(self.explicit) for _ in range(count)], axis=1)


def load_compared(dataset: str | Path, judged_by: str = EXPLICIT) -> Compared:
    """The pairs that workers rated and the judge labeled, with every label source of the dataset.

    Args:
        dataset: a dataset folder or Hub repo id.
        judged_by: the label source that says which answer is better.

    Raises:
        IfllmError: the dataset cannot be read or has no labels, there is no such label source, or its workers are in
            fewer than three folds.
    """
    there = [name for name in label_sources(dataset) if name != SHUFFLED]
    for name in (EXPLICIT, judged_by):
        if name not in there:
            raise IfllmError(
                f"No label source {name!r} in {dataset}. It has: {', '.join(there) or 'none at all'}. Name one of "
                "these, or write its pairs with `ifllm label`."
            )
    sources = sorted(there, key=lambda name: (name != judged_by, name != EXPLICIT, name == LONGER))
    labels = {name: load_config(dataset, preferences_config(name)) for name in sources}
    every = load_pairs(dataset)
    rows = every.rows
    for name in (EXPLICIT, judged_by):
        rows = rows.join(labels[name], on="question_id", how="semi", maintain_order="left")
    folds = rows["fold_worker"].n_unique()
    if folds < 3:
        raise IfllmError(
            f"{dataset}: the workers of its {rows.height} pairs with labels are in {folds} of the folds (fold_worker), "
            "and three are needed: to train on, to choose how long, and to test. Build the dataset from more workers."
        )
    stored = np.stack([_signs(labels[name], rows) for name in sources], axis=1)
    return Compared(rows, sources, stored[:, sources.index(judged_by)], stored, every)


def _signs(labels: pl.DataFrame, rows: pl.DataFrame) -> np.ndarray:
    """(rows,) int8: 1 where the left answer is chosen, -1 where the right one is, 0 where there is no label."""
    chosen = labels.select("question_id", chosen=pl.col("chosen").list.last().struct.field("content"))
    joined = rows.join(chosen, on="question_id", how="left", maintain_order="left")
    sign = pl.when(pl.col("chosen") == pl.col("response_left")).then(1).when(pl.col("chosen").is_not_null()).then(-1)
    return joined.select(sign.otherwise(0).cast(pl.Int8)).to_series().to_numpy()


def text_labels(compared: Compared) -> dict[str, np.ndarray]:
    """Positive controls, labels by a property of the text that a policy can learn: (pairs,) signs, 0 for a tie."""
    items = r"(?m)^\s*(?:[-*•]|\d+[.)])\s"
    left, right = (pl.col(f"response_{side}") for side in ("left", "right"))
    found = compared.rows.select(
        list_items=left.str.count_matches(items).cast(pl.Float64) - right.str.count_matches(items),
        longer_words=_mean_word(left) - _mean_word(right),
    )
    return {name: np.sign(found[name].to_numpy()).astype(np.int8) for name in found.columns}


def _mean_word(text: pl.Expr) -> pl.Expr:
    """Letters a word."""
    return text.str.count_matches(r"\p{L}") / text.str.count_matches(r"\p{L}+")
