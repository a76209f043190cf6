"""Is it reading that tells the preference, or the way to the rating form? The leaderboard's logistic on cut readings.

python -m eval.studies.last_seconds runs/real/dataset > docs/results/last_seconds.md
"""

import sys
from pathlib import Path

import polars as pl

from eval.studies.window import around_the_end
from ifllm_hub.dataset.load import load_config
from ifllm_hub.features.centering import center_by_worker
from ifllm_hub.features.extract import extract_features
from ifllm_hub.reward.protocol.candidates import LONGER_ANSWER, logistic
from ifllm_hub.reward.protocol.folds import out_of_fold
from ifllm_hub.reward.protocol.pairs import LENGTH_FEATURES, MOUSE_FEATURES, Pairs, labeled, load_pairs
from ifllm_hub.reward.protocol.scores import score

SEEDS = 20
SECONDS = (3, 5, 10, 20)
METHOD = (
    "Readings are cut at so many seconds before the mouse was last on an answer's text; the features, habits",
    "included, are those of what is left. Nothing off the text is seen in any row. Reading an answer once more and",
    "crossing it on the way to the rating form, which stands below the answers, look alike here: what only the last",
    "seconds tell may be either.",
)


def main(dataset: Path) -> None:
    pairs = labeled(load_pairs(dataset)).filter(pl.col("mouse_dwell_log_ratio").is_not_null())
    trajectories = load_config(dataset, "trajectories")
    longer = out_of_fold(pairs, LONGER_ANSWER.fit, "worker", SEEDS)
    lines = [
        "# What the last seconds of a reading tell",
        "",
        "Written by `python -m eval.studies.last_seconds DATASET`; do not edit.",
        "",
        f"{len(pairs)} rated pairs with the mouse on text, worker folds, {SEEDS} seeds, 95 % bootstraps over workers.",
        *METHOD,
        "",
        "| reading | mouse: accuracy | AUC | mouse + length: accuracy | AUC | gain over longer |",
        "|---|---|---|---|---|---|",
        row("all of it", pairs, longer),
    ]
    for before, words in ((True, "without the last {} s"), (False, "the last {} s only")):
        for seconds in SECONDS:
            cut = of_reading(pairs, around_the_end(trajectories, 1_000 * seconds, before))
            lines.append(row(words.format(seconds), cut, longer))
    sys.stdout.write("\n".join(lines) + "\n")


def of_reading(pairs: Pairs, trajectories: pl.DataFrame) -> Pairs:
    """The same pairs with the mouse features of other trajectories, null where nothing is left."""
    workers = trajectories.select("question_id", "worker_id")
    features = center_by_worker(extract_features(trajectories).join(workers, on="question_id"))
    read = features.select("question_id", *MOUSE_FEATURES)
    return Pairs(pairs.rows.drop(MOUSE_FEATURES).join(read, on="question_id", how="left", maintain_order="left"))


def row(name: str, pairs: Pairs, longer: object) -> str:
    cells = []
    for features in (MOUSE_FEATURES, MOUSE_FEATURES + LENGTH_FEATURES):
        board = score(out_of_fold(pairs, logistic(features), "worker", SEEDS), longer, pairs)
        cells += [interval(board["accuracy"]), interval(board["auc"])]
    return f"| {name} | {' | '.join(cells)} | {interval(board['gain_over_longer_answer'], '+')} |"


def interval(value: dict[str, float], sign: str = "") -> str:
    return f"{value['mean']:{sign}.3f} [{value['low']:{sign}.3f}, {value['high']:{sign}.3f}]"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
