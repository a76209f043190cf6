"""The pairs a reward model learns from and is judged on."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from ifllm_hub.dataset.load import load_config
from ifllm_hub.errors import IfllmError

# What the forest sees: contrasts (left minus right) that grow when the left answer was read more, or is longer. All
# are odd, so swapping the answers negates the whole vector; the forest is monotone in each.
LENGTH_FEATURES = ("length_log_ratio",)
MOUSE_FEATURES = ("mouse_dwell_log_ratio", "mouse_forward_diff", "mouse_longest_visit_diff")
GAZE_FEATURES = ("gaze_dwell_log_ratio", "gaze_backward_diff")
FEATURES = LENGTH_FEATURES + MOUSE_FEATURES + GAZE_FEATURES


@dataclass(frozen=True)
class Pairs:
    """Pairwise questions with their features: columns of the configs `pairwise` and `features`, a row a question."""

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
    """All pairwise questions of a dataset folder or Hub repo, labelled or not.

    Raises:
        IfllmError: see `load_config`.
    """
    pairwise = load_config(dataset, "pairwise", revision)
    features = load_config(dataset, "features", revision).drop("worker_id", "mode", "split")
    return Pairs(pairwise.join(features, on="question_id", maintain_order="left"))


def with_behaviour(pairs: Pairs) -> Pairs:
    """Pairs that somebody was seen reading, and whose answers are both answers."""
    return pairs.filter((pl.col("has_mouse") | pl.col("has_gaze")) & ~pl.col("ai_error"))


def labelled(pairs: Pairs, all_workers: bool = False) -> Pairs:
    """Pairs to learn from and be judged on: with behaviour, rated, and not by a worker on the authors' list.

    Args:
        all_workers: keep the workers on the authors' exclusion list too.

    Raises:
        IfllmError: fewer than 20 such pairs, or preferences on one side only.
    """
    rated = with_behaviour(pairs).filter(pl.col("preference").is_not_null())
    kept = rated if all_workers else rated.filter(~pl.col("excluded_worker"))
    if len(kept) < 20 or kept.rows["preference"].n_unique() < 2:
        raise IfllmError(
            f"the dataset has {len(kept)} rated pairs with behaviour and {kept.rows['preference'].n_unique()} kind(s) "
            "of preference; a reward model needs at least 20 pairs and both kinds."
        )
    return kept
