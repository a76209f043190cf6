"""How much reading the live score needs before it says anything: accuracy by how long the mouse was on the answers.

python -m eval.studies.live_score runs/real/dataset > docs/results/live_score.md
"""

import sys
from pathlib import Path

import numpy as np
import polars as pl

from ifllm_hub.reward.protocol.candidates import LONGER_ANSWER, forest
from ifllm_hub.reward.protocol.folds import out_of_fold
from ifllm_hub.reward.protocol.pairs import FEATURES, GAZE_FEATURES, Pairs, labeled, load_pairs, with_past_habit
from ifllm_hub.reward.protocol.scores import correct
from ifllm_hub.statistics import jackknife_sums

SEEDS = 20
SECONDS = (0, 1, 2, 3, 5, 8, 12, 20, 30, 45)
DWELL = pl.sum_horizontal("mouse_dwell_left", "mouse_dwell_right") / 1_000
CONFIDENCE = (0.5, 0.51, 0.52, 0.54, 0.56, 0.58, 0.6, 0.65, 0.7)
METHOD = (
    "The reward model as it ships, fitted on pairs of other workers with both modalities and habits from all of their",
    "readings, then asked as a collector asks it: about the mouse and the lengths alone, with habits from the reader's",
    "earlier readings and the reading itself. Accuracy is out of fold, the mean over seeds; intervals are 95 %, by",
    "jackknife over workers, not adjusted for the number of rows. The gain is over saying that the longer answer is",
    "better, on the same pairs. The last columns are of the pairs that the row leaves out.",
)
HEAD = "| pairs | workers | coverage | accuracy | gain over longer | left out | their accuracy | their gain |"


def main(dataset: Path) -> None:
    pairs = labeled(load_pairs(dataset))
    seconds = pairs.rows.select(DWELL.fill_null(0.0)).to_series().to_numpy()
    probability = out_of_fold(pairs, mouse_only, "worker", SEEDS)
    hits = correct(probability, pairs.y)
    gains = hits - correct(out_of_fold(pairs, LONGER_ANSWER.fit, "worker", SEEDS), pairs.y)
    sure = np.maximum(probability, 1 - probability)
    read = seconds > 0
    lines = [
        "# How much reading a live score needs",
        "",
        "Written by `python -m eval.studies.live_score DATASET`; do not edit.",
        "",
        f"{len(pairs)} rated pairs of {pairs.rows['worker_id'].n_unique()} workers, worker folds, {SEEDS} seeds.",
        *METHOD,
        "",
        "By how long the mouse was on the text of the two answers together:",
        "",
        HEAD.replace("|", "| mouse on text |", 1),
        "|---" * 9 + "|",
    ]
    for least in SECONDS:
        kept = np.broadcast_to(seconds >= least if least else read, hits.shape)
        lines.append(f"| {f'>= {least} s' if least else 'ever'} | {row(kept, hits, gains, pairs)} |")
    lines += [
        "",
        "By how sure the model is, max(p, 1 - p), of pairs on which the mouse ever was:",
        "",
        HEAD.replace("|", "| sure |", 1),
        "|---" * 9 + "|",
    ]
    for least in CONFIDENCE:
        lines.append(
            f"| >= {least:.2f} | {row((sure >= least)[:, read], hits[:, read], gains[:, read], pairs, read)} |"
        )
    sys.stdout.write("\n".join(lines) + "\n")


def row(
    kept: np.ndarray, hits: np.ndarray, gains: np.ndarray, pairs: Pairs, of: np.ndarray | slice = slice(None)
) -> str:
    """Cells of what is kept, (seeds, n) Boolean, and of what is left out; counts are means over seeds."""
    workers = pairs.groups("worker_id")[of]
    cells = [
        f"{kept.sum(axis=1).mean():.0f}",
        str(len(np.unique(workers[kept.any(axis=0)]))),
        f"{kept.mean():.2f}",
        interval(hits, kept, workers),
        interval(gains, kept, workers, "+"),
        f"{(~kept).sum(axis=1).mean():.0f}",
        interval(hits, ~kept, workers),
        interval(gains, ~kept, workers, "+"),
    ]
    return " | ".join(cells)


def mouse_only(train: Pairs, test: Pairs, seed: int) -> np.ndarray:
    known = [pl.col(past).alias(name) for name, past in zip(FEATURES, with_past_habit(FEATURES), strict=True)]
    no_gaze = [pl.lit(None, pl.Float64).alias(name) for name in GAZE_FEATURES]
    return forest(FEATURES)(train, Pairs(test.rows.with_columns(known).with_columns(no_gaze)), seed)


def interval(values: np.ndarray, of: np.ndarray, workers: np.ndarray, sign: str = "") -> str:
    """Mean of some (seed, pair) values, and its 95 % interval by jackknife over workers."""
    if not of.any():
        return "-"
    parts = np.column_stack([(values * of).sum(axis=0), of.sum(axis=0)]).astype(float)
    some = of.any(axis=0)
    found = jackknife_sums(lambda sums: sums[..., 0] / sums[..., 1], parts[some], workers[some]).estimate
    low, high = np.clip([found["low"], found["high"]], -1.0 if sign else 0.0, 1.0)
    return f"{found['mean']:{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
