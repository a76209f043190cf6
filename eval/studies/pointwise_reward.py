"""What the time spent on a single answer says about its rating, on the study's data.

python -m eval.studies.pointwise_reward runs/real/dataset > docs/results/pointwise_reward.md
"""

import sys
from pathlib import Path

import numpy as np
import polars as pl
from scipy.stats import rankdata

from ifllm_hub.dataset.load import load_config
from ifllm_hub.features.catalog import DWELL_FLOOR_MS
from ifllm_hub.reward.engagement import COLUMNS, LEAST_MS, LEAST_OTHERS, SLOPE, engagement
from ifllm_hub.reward.protocol.scores import auc
from ifllm_hub.statistics import Jackknife, jackknife, jackknife_sums

MEASURES = {
    "engagement": "`engagement`, as `POST /v1/score` gives it",
    "engagement_then": "the same among this and earlier readings only, as in a live chat",
    "mouse_dwell_left": "time of the mouse on the text",
    "mouse_coverage_left": "share of the text that the mouse passed",
    "length_left": "length of the answer",
}
METHOD = (
    "Single answers with a rating and at least {least} s of the mouse on the text, of workers with more than {others}",
    "such answers who are not on the authors' list of exclusions. AUC: of an answer rated 4 or 5 and one rated 1 to 3,",
    "of whomever, how often the first has more of the measure (ties count half). Within workers: of two answers of one",
    "worker with different ratings, how often the better rated has more. 0.5 is chance. Intervals are 95 %, by",
    "jackknife over workers, not adjusted for the number of rows. Nothing here is fitted to ratings.",
)


def main(dataset: Path) -> None:
    features = load_config(dataset, "features").filter(mode="pointwise")
    asked = load_config(dataset, "pointwise").filter(~pl.col("excluded_worker") & ~pl.col("ai_error"))
    rows = asked.select("question_id", "asked_at", "rating").join(features, on="question_id", maintain_order="left")
    rows = rows.join(engagement(rows), on="question_id").join(_then(rows), on="question_id", how="left")
    slope, spread = _slope(rows.filter(pl.col("mouse_dwell_left") >= LEAST_MS))
    rated = rows.filter(pl.col("rating").is_not_null() & pl.col("engagement").is_not_null())
    low = rated.filter(pl.col("rating") < 4)
    lines = [
        "# What the time on a single answer says",
        "",
        "Written by `python -m eval.studies.pointwise_reward DATASET`; do not edit.",
        "",
        f"{rated.height} answers of {rated['worker_id'].n_unique()} workers; {low.height} of them, by "
        f"{low['worker_id'].n_unique()} workers, are rated 1 to 3.",
        *(line.format(least=LEAST_MS // 1_000, others=LEAST_OTHERS) for line in METHOD),
        "",
        "| measure | answers | AUC, 4 or 5 against 1 to 3 | within workers |",
        "|---|---|---|---|",
    ]
    for name, meaning in MEASURES.items():
        known = rated.filter(pl.col(name).is_not_null())
        values, ratings = known[name].to_numpy().astype(float), known["rating"].to_numpy()
        workers = known["worker_id"].rank("dense").to_numpy()
        cells = [meaning, str(known.height), _cell(area(values, ratings >= 4, workers))]
        lines.append("| " + " | ".join([*cells, _cell(concordance(values, ratings, workers))]) + " |")
    lines += [
        "",
        f"Within workers, ln(dwell + {DWELL_FLOOR_MS} ms) rises by {slope:.2f} a unit of ln(length); the SD of what is "
        f"left is {spread:.2f}. `engagement` takes {SLOPE:g}.",
    ]
    sys.stdout.write("\n".join(lines) + "\n")


def area(values: np.ndarray, good: np.ndarray, workers: np.ndarray) -> Jackknife:
    """The AUC of (n,) values, by jackknife over workers."""
    every = np.unique(workers)
    without = [float(auc(values[None, workers != one], good[workers != one])[0]) for one in every]
    # Where each row ranks among those of the other kind: what it adds to the AUC, to first order.
    placed = rankdata(values)
    for kind in (False, True):
        placed[good == kind] -= rankdata(values[good == kind])
    share = np.where(good, placed / (~good).sum(), 1 - placed / good.sum())
    mean = float(auc(values[None], good)[0])
    return jackknife(mean, np.array(without), (share - mean) / np.where(good, good.mean(), 1 - good.mean()), workers)


def concordance(values: np.ndarray, ratings: np.ndarray, workers: np.ndarray) -> Jackknife:
    """Of two rows of one worker with different ratings, how often the better rated has the larger value."""
    parts = np.zeros((len(values), 2))
    for one in np.unique(workers):
        theirs = np.flatnonzero(workers == one)
        order = np.sign(np.subtract.outer(ratings[theirs], ratings[theirs]))
        same = order * np.sign(np.subtract.outer(values[theirs], values[theirs]))
        parts[theirs] = np.column_stack([((same + 1) / 2 * (order != 0)).sum(axis=1), (order != 0).sum(axis=1)])
    return jackknife_sums(lambda sums: sums[..., 0] / sums[..., 1], parts, workers)


def _then(rows: pl.DataFrame) -> pl.DataFrame:
    """`engagement_then`: the engagement of each reading when it and the earlier ones were known."""
    found = []
    for _, theirs in rows.sort("asked_at", "question_id").select("asked_at", *COLUMNS).group_by("worker_id"):
        parts = (engagement(theirs[:number]) for number in range(1, theirs.height + 1))
        found += [part.tail(1).select("question_id", engagement_then="engagement") for part in parts]
    return pl.concat(found)


def _slope(rows: pl.DataFrame) -> tuple[float, float]:
    """Of ln dwell on ln length within workers, and the SD of what is left."""
    logs = {"dwell": (pl.col("mouse_dwell_left") + DWELL_FLOOR_MS).log(), "length": pl.col("length_left").log()}
    centered = rows.select((value - value.mean().over("worker_id")).alias(name) for name, value in logs.items())
    dwell, length = centered["dwell"].to_numpy(), centered["length"].to_numpy()
    slope = float(length @ dwell / (length @ length))
    return slope, float((dwell - slope * length).std())


def _cell(found: Jackknife) -> str:
    estimate = found.estimate
    return f"{estimate['mean']:.3f} [{max(estimate['low'], 0):.3f}, {min(estimate['high'], 1):.3f}]"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
