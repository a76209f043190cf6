"""The pairs a reward model learns from and is judged on."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from ifllm_hub.dataset.load import load_config
from ifllm_hub.errors import IfllmError
from ifllm_hub.features.centering import CAUSAL_SUFFIX, SUFFIX, center_by_past

# What the reward model sees: how much longer the left answer is, and by each modality how much longer it was read and
# how much more of it, less what this reader does on every question. All are odd, so swapping the answers negates the
# whole vector; the model is monotone in each.
LENGTH_FEATURES = ("length_log_ratio",)
MOUSE_FEATURES = ("mouse_dwell_log_ratio_centered", "mouse_coverage_diff_centered")
GAZE_FEATURES = ("gaze_dwell_log_ratio_centered", "gaze_coverage_diff_centered")
FEATURES = LENGTH_FEATURES + MOUSE_FEATURES + GAZE_FEATURES


def with_past_habit(features: tuple[str, ...]) -> tuple[str, ...]:
    """The same contrasts, less the habit as it was known when the question was rated (`center_by_past`)."""
    return tuple(name.removesuffix(SUFFIX) + CAUSAL_SUFFIX if name.endswith(SUFFIX) else name for name in features)


# Fewer rated pairs say nothing of a model.
LEAST_PAIRS = 20


@dataclass(frozen=True)
class Pairs:
    """Pairwise questions with their features, a row a question.

    The columns are those of the configs `pairwise` and `features`, and what `center_by_past` adds to them.
    """

    rows: pl.DataFrame

    def X(self, features: tuple[str, ...] = FEATURES) -> np.ndarray:
        """(n, d) float64; NaN where a feature is not defined."""
        return self.rows.select(features).to_numpy()

    @property
    def y(self) -> np.ndarray:
        """(n,) int64: 1 where the left answer is preferred, 0 where the right one is."""
        return (self.rows["preference"] == "left").cast(pl.Int64).to_numpy()

    def groups(self, column: str) -> np.ndarray:
        """(n,) int64 codes of an id column."""
        return self.rows[column].rank("dense").cast(pl.Int64).to_numpy()

    def filter(self, predicate: pl.Expr) -> "Pairs":
        return Pairs(self.rows.filter(predicate))

    def __len__(self) -> int:
        return self.rows.height


def load_pairs(dataset: str | Path, revision: str | None = None) -> Pairs:
    """All pairwise questions of a dataset folder or Hub repo, labeled or not, in the order of their ids.

    Raises:
        IfllmError: see `load_config`.

    Examples:
        >>> from ifllm_hub.reward.protocol.pairs import load_pairs
        >>> pairs = load_pairs("ifllm")
        >>> len(pairs), pairs.X().shape
        (28, (28, 5))
    """
    return pairs_of(load_config(dataset, "pairwise", revision), load_config(dataset, "features", revision))


def pairs_of(pairwise: pl.DataFrame, features: pl.DataFrame) -> Pairs:
    """The same, of rows of the two configs: all of each worker in them."""
    features = features.drop("worker_id", "mode", "split")
    rows = pairwise.join(features, on="question_id", maintain_order="left").sort("question_id")
    return Pairs(center_by_past(rows))


def with_behavior(pairs: Pairs, all_workers: bool = False, on_screen: bool = False) -> Pairs:
    """Pairs that somebody was seen reading, and whose answers are both answers.

    Args:
        all_workers: keep the workers on the authors' exclusion list too.
        on_screen: also pairs of which no more is known than that they were on the reader's screen.
    """
    read = pl.col("has_mouse") | pl.col("has_gaze")
    if on_screen:
        read |= pl.col("viewport_dwell_left").is_not_null()
    seen = pairs.filter(read & ~pl.col("ai_error"))
    return seen if all_workers else seen.filter(~pl.col("excluded_worker"))


def labeled(pairs: Pairs, all_workers: bool = False) -> Pairs:
    """Of `with_behavior`, the rated pairs: what is learned from and judged on.

    Raises:
        IfllmError: nobody was seen reading; there are fewer than `LEAST_PAIRS` such pairs, of one worker only, or with
            preferences on one side only.
    """
    rated = with_behavior(pairs, all_workers).filter(pl.col("preference").is_not_null())
    if len(pairs) and not pairs.rows.select(pl.any_horizontal("has_mouse", "has_gaze").any()).item():
        raise IfllmError(
            "nobody was seen reading the pairs of this dataset: there is nothing that a model could learn from."
        )
    workers, sides = rated.rows["worker_id"].n_unique(), rated.rows["preference"].n_unique()
    if len(rated) < LEAST_PAIRS or workers < 2 or sides < 2:
        raise IfllmError(
            f"the dataset has {len(rated)} rated pairs with behavior, of {workers} worker(s), with {sides} kind(s) of "
            f"preference; a reward model needs at least {LEAST_PAIRS} pairs, two workers and both kinds."
        )
    return rated
