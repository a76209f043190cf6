"""What the tier `coarse` costs in accuracy and what it hides: the leaderboard's logistic, the privacy report's attack.

python -m eval.studies.coarse_tier runs/real/dataset > docs/results/coarse_tier.md
"""

import sys
from pathlib import Path
from typing import Any

import polars as pl

from ifllm_hub.dataset.coarse import COARSE, LARGEST, STEPS, coarse
from ifllm_hub.dataset.load import load_config
from ifllm_hub.dataset.privacy.attack import reidentify
from ifllm_hub.reward.protocol.candidates import LONGER_ANSWER, logistic
from ifllm_hub.reward.protocol.folds import out_of_fold
from ifllm_hub.reward.protocol.pairs import LENGTH_FEATURES, Pairs, labeled, load_pairs
from ifllm_hub.reward.protocol.scores import score

SEEDS = 20
METHOD = (
    f"Rounded to {', '.join(f'{step:g} (`{name}`)' for name, step in STEPS.items())}, at most {LARGEST:g} either way.",
    "Accuracy: of a logistic regression, out of worker folds. Re-identification: the attack of `privacy_report.json`",
    "on pairs with the mouse on text. The attacker has other conversations of the same workers and names the worker of",
    "a new one. 95 % intervals in brackets: by jackknife over workers, of the attack by bootstrap. The features and",
    "their rounding were chosen on this data, out of about twenty combinations.",
)


def main(dataset: Path) -> None:
    pairs = labeled(load_pairs(dataset)).filter(pl.col("mouse_dwell_log_ratio").is_not_null())
    features = load_config(dataset, "features").filter(pl.col("mouse_dwell_log_ratio").is_not_null())
    read = features.join(load_config(dataset, "pairwise").select("question_id", "conversation_id"), on="question_id")
    every = [name for name, type_ in features.schema.items() if type_ == pl.Float64]
    longer = out_of_fold(pairs, LONGER_ANSWER.fit, "worker", SEEDS)
    attacked = reidentify(read, every)
    lines = [
        "# What the tier `coarse` costs, and what it hides",
        "",
        "Written by `python -m eval.studies.coarse_tier DATASET`; do not edit.",
        "",
        f"{len(pairs)} rated pairs with the mouse on text, {SEEDS} seeds.",
        *METHOD,
        "",
        "| known | accuracy | AUC | gain over longer | worker named rightly | always the most frequent |",
        "|---|---|---|---|---|---|",
        row("the length, exactly", pairs, LENGTH_FEATURES, longer, reidentify(read, list(LENGTH_FEATURES))),
        row("three features, exactly", pairs, COARSE, longer, reidentify(read, list(COARSE))),
        row(
            "three features, two of them rounded (`coarse`)",
            Pairs(coarse(pairs.rows)),
            COARSE,
            longer,
            reidentify(coarse(read), list(COARSE)),
        ),
        f"| all {len(every)} features (`public`) | | | | {share(attacked)} | {attacked['majority']:.3f} |",
    ]
    sys.stdout.write("\n".join(lines) + "\n")


def row(name: str, pairs: Pairs, features: tuple[str, ...], longer: object, attack: dict[str, Any]) -> str:
    board = score(out_of_fold(pairs, logistic(features), "worker", SEEDS), longer, pairs)
    cells = [interval(board["accuracy"]), interval(board["auc"]), interval(board["gain_over_longer_answer"], "+")]
    return f"| {name} | {' | '.join(cells)} | {share(attack)} | {attack['majority']:.3f} |"


def share(attack: dict[str, Any]) -> str:
    return f"{attack['top1']:.3f} [{attack['low']:.3f}, {attack['high']:.3f}] of {attack['conversations']}"


def interval(value: dict[str, float], sign: str = "") -> str:
    return f"{value['mean']:{sign}z.3f} [{value['low']:{sign}z.3f}, {value['high']:{sign}z.3f}]"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
