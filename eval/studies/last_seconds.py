"""Is it reading that tells the preference, or the way to the rating form? The claim's model on parts of the readings.

python -m eval.studies.last_seconds DATASET > docs/results/last_seconds.md
"""

import sys
from pathlib import Path

import numpy as np
import polars as pl

from eval.studies.window import off_text, reordered
from ifllm_hub.dataset.load import load_config
from ifllm_hub.features.centering import HABITUAL, center_by_past
from ifllm_hub.features.extract import extract_features
from ifllm_hub.pages.markdown import markdown_table
from ifllm_hub.reward.protocol.candidates import LONGER_ANSWER, logistic
from ifllm_hub.reward.protocol.folds import out_of_fold
from ifllm_hub.reward.protocol.pairs import FEATURES, LENGTH_FEATURES, MOUSE_FEATURES, Pairs, labeled, load_pairs
from ifllm_hub.reward.protocol.pairs import with_past_habit as causal
from ifllm_hub.reward.protocol.scores import score
from ifllm_hub.reward.protocol.tables import with_interval

SEEDS = 20
SECONDS = (5, 10)
MODELS = {"mouse + length": MOUSE_FEATURES + LENGTH_FEATURES, "mouse + gaze + length": FEATURES}
T, FIRST, LAST, VISIT, VISITS, DRAW = map(pl.col, ("t", "first", "last", "visit", "visits", "draw"))


def main(dataset: Path) -> None:
    everything = load_pairs(dataset)
    pairs = labeled(everything).filter(pl.col("mouse_dwell_log_ratio").is_not_null())
    trajectories = load_config(dataset, "trajectories")
    longer = out_of_fold(pairs, LONGER_ANSWER.fit, "worker", SEEDS)
    readings = {
        "all of it": trajectories,
        "ticks in reverse": reordered(trajectories, -pl.col("tick")),
        "ticks shuffled": reordered(trajectories, pl.col("draw")),
        **{name: off_text(trajectories, where) for name, where in parts().items()},
    }
    rows = [(name, *cells(of_reading(everything, pairs, reading), longer)) for name, reading in readings.items()]
    table = markdown_table(
        ("reading", *(f"{model}: {cell}" for model in MODELS for cell in ("accuracy", "Brier", "gain over longer"))),
        rows,
    )
    sys.stdout.write(f"""# What the last seconds of a reading tell

Written by `python -m eval.studies.last_seconds DATASET`; do not edit.

{len(pairs)} rated pairs with the mouse on text, of {pairs.rows["worker_id"].n_unique()} workers; worker folds, {SEEDS}
seeds, 95 % intervals by jackknife over workers. Models are the logistic regressions of the [claim](claim.md), with
habits from earlier readings. In each row a part of every reading counts as off the text, for the mouse and the gaze
alike, and features and habits are made anew from the rest. A visit is a stretch of the mouse on one answer.

Nothing off the text is seen in any row. Just before the rating the mouse leaves the text for the rating form, which
stands below the answers; reading an answer once more and crossing it on the way there look alike. The first seconds,
seconds drawn at random and other visits are the controls: if the end told no more than its share, leaving it out would
cost no more than leaving out those.

{table}

Reversed and shuffled ticks tell about the same: the features of these models are totals, how long each answer was read
and how much of it. The order of reading is not in them.
""")


def parts() -> dict[str, pl.Expr]:
    """What counts as off the text, by what is said of it."""
    windows = {}
    for seconds in SECONDS:
        ms = 1_000 * seconds
        start = FIRST + DRAW * (LAST - ms - FIRST).clip(0)
        windows |= {
            f"without the last {seconds} s": LAST - ms <= T,
            f"without the first {seconds} s": FIRST + ms >= T,
            f"without {seconds} s at random": (start <= T) & (start + ms > T),
        }
    one = 1 + (DRAW * (VISITS - 1)).floor()
    windows |= {
        "without the last visit": VISIT >= VISITS,
        "without the first visit": VISIT <= 1,
        "without another visit at random": (one == VISIT) & (VISITS > 1),
    }
    return windows | {f"the last {seconds} s only": LAST - 1_000 * seconds > T for seconds in SECONDS}


def of_reading(everything: Pairs, pairs: Pairs, trajectories: pl.DataFrame) -> Pairs:
    """The same pairs with the contrasts of other trajectories, null where nothing is left."""
    features = extract_features(trajectories).select("question_id", *HABITUAL)
    rows = everything.rows.drop(HABITUAL, causal(FEATURES[1:])).join(features, on="question_id", how="left")
    return Pairs(center_by_past(rows).sort("question_id").join(pairs.rows, on="question_id", how="semi"))


def cells(pairs: Pairs, longer: np.ndarray) -> list[str]:
    found = []
    for features in MODELS.values():
        row = score(out_of_fold(pairs, logistic(causal(features)), "worker", SEEDS), longer, pairs)
        found += [
            f"{row['accuracy']['mean']:.3f}",
            f"{row['brier']:.4f}",
            with_interval(row["gain_over_longer_answer"], "+.3f"),
        ]
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]))
