"""Sentences that say what the numbers show and no more: every claim is made here, from the numbers of one run."""

import math
import shlex
from typing import Any

from ifllm_hub.align.runs.results import Results
from ifllm_hub.pages.amounts import percent
from ifllm_hub.reward.protocol.candidates import FOREST, LONGER_ANSWER
from ifllm_hub.reward.protocol.leaderboard import Board, Row
from ifllm_hub.statistics import Estimate

CLAIM_SEEDS = 20
# How many standard errors a permuted-label accuracy may exceed what a rule without information reaches.
_TOLERANCE = 2.0


def points(value: float) -> str:
    """A difference of shares as "+1.4", in percentage points, with a true minus sign."""
    return f"{100 * value:+.1f}".replace("-", "\u2212") if math.isfinite(value) else "not defined"


def interval(value: Estimate) -> str:
    """An accuracy as "62.3 % [58.0, 66.1]"."""
    return f"{percent(value['mean'])} [{100 * value['low']:.1f}, {100 * value['high']:.1f}]"


def gain_interval(value: Estimate) -> str:
    """A gain as "+2.9 [−0.5, +6.0]", in percentage points."""
    return f"{points(value['mean'])} [{points(value['low'])}, {points(value['high'])}]"


def worker_rows(board: Board) -> dict[str, Row]:
    """Leaderboard rows for unseen workers, by model."""
    return {row["model"]: row for row in board["rows"] if row["protocol"] == "worker"}


def accuracy_sentence(board: Board) -> str:
    """What the forest and the longer answer reach on unseen workers."""
    rows = worker_rows(board)
    return (
        f"On workers it never saw, the forest names the preferred answer of {percent(_mean(rows[FOREST.name]))} of the "
        f"{board['pairs']:,} pairs (95\u00a0% interval {_bounds(rows[FOREST.name]['accuracy'])}); the longer answer "
        f"alone, a rule without behavior, of {percent(_mean(rows[LONGER_ANSWER.name]))} "
        f"({_bounds(rows[LONGER_ANSWER.name]['accuracy'])})."
    )


def gain_sentence(board: Board) -> str:
    """Whether the forest beats the longer answer on unseen workers."""
    row = worker_rows(board)[FOREST.name]
    gain = row["adjusted"]["accuracy"]
    head = (
        f"The difference is {points(row['gain_over_longer_answer']['mean'])} points, with a 95\u00a0% interval "
        f"(adjusted for all models and measures compared) of {points(gain['low'])} to {points(gain['high'])}"
    )
    if gain["low"] > 0:
        return f"{head}, which does not include 0: on this data, behavior adds to length."
    if gain["high"] < 0:
        return f"{head}, which lies below 0: on this data, the forest is worse than the length rule."
    return f"{head}, which includes 0: this run does not show that behavior adds to length."


def simpler_sentence(board: Board) -> str:
    """Whether another model is at least as accurate as the forest on unseen workers."""
    rows = worker_rows(board)
    others = [row for name, row in rows.items() if name != FOREST.name]
    best = max(others, key=lambda row: float(row["accuracy"]["mean"]))
    if _mean(best) >= _mean(rows[FOREST.name]):
        return f"“{best['model']}” is at least as accurate: {interval(best['accuracy'])}."
    return (
        f"The next most accurate model is “{best['model']}”, {interval(best['accuracy'])}; this page does not test the "
        "difference between the two."
    )


def null_sentence(board: Board) -> str:
    """Whether the forest falls to chance on permuted labels, under each protocol.

    A permutation keeps the share of left, so a rule that knows nothing else may reach the share of the more common
    side; a mean counts as chance if it is at most two standard errors above that. A lower mean is not a leak: out of
    fold, the test labels have too few of what the training labels have too many of.
    """
    majority = max(board["left_preferred"], 1 - board["left_preferred"])
    margin = _TOLERANCE * 0.5 / math.sqrt(max(board["pairs"] * board["seeds"], 1))
    means = {protocol: null["mean"] for protocol, null in board["permuted_labels"].items()}
    off = [protocol for protocol, mean in means.items() if not mean <= majority + margin]
    listed = ", ".join(f"{percent(mean)} with {protocol} folds" for protocol, mean in means.items())
    bar = (
        f"a rule that knows only which side is more common reaches {percent(majority)}, give or take "
        f"{points(margin)[1:]} points (two standard errors)"
    )
    if not off:
        return f"With permuted labels the forest falls to chance: {listed}; {bar}."
    return (
        f"With permuted labels the forest does NOT fall to chance with {', '.join(off)} folds: {listed}; {bar}. "
        "Something other than the labels reaches the test folds; take no accuracy on this page at face value."
    )


def seeds_sentence(board: Board) -> str:
    """How many seeds, and whether they are enough for a claim."""
    seeds = board["seeds"]
    plural = "seed" if seeds == 1 else "seeds"
    if seeds < CLAIM_SEEDS:
        return f"These are means over {seeds} {plural}; a claim needs at least {CLAIM_SEEDS}. Read them as a rehearsal."
    return f"These are means over {seeds} {plural}; each draws new folds and a new forest."


def agreement_sentences(shares: dict[str, float], flips: dict[str, float]) -> list[str]:
    """How often the forest's label is the worker's, and how often its flip probabilities predict it, per split.

    Args:
        shares: measured agreement on rated pairs.
        flips: mean flip probability of the forest's pairs.
    """
    return [
        f"On the {split} split the forest's label is the worker's own on {percent(share)} of the rated pairs; its mean "
        f"flip probability of {flips[split]:.3f} predicts {percent(1 - flips[split])}."
        for split, share in shares.items()
    ]


def extent_sentence(results: Results) -> str:
    """How far preference optimization went."""
    seen, epoch, steps = results["rows_seen"], results["rows_in_one_epoch"], results["steps"]
    taken = f"{steps:,} {'step' if steps == 1 else 'steps'}"
    if seen < epoch:
        return (
            f"The policy was trained on {seen:,} of the {epoch:,} pairs of one epoch ({percent(seen / epoch)}), in "
            f"{taken}. That shows that training runs; it says nothing about whether the policy got better."
        )
    return f"The policy was trained on {seen:,} pairs in {taken}; one epoch is {epoch:,} pairs."


def limit_sentence(results: Results) -> str:
    """What preference optimization does not show."""
    whose = "the workers" if results["label_source"] == "explicit" else f"the labels of “{results['label_source']}”"
    return (
        f"The evaluation measures agreement with {whose} on pairs of existing answers; no text was generated and "
        "nobody judged an answer, so no improvement of the answers is claimed."
    )


def margin_sentence(results: Results) -> str:
    """What changed on the test pairs."""
    before, after = results["eval_before"], results["eval_after"]
    pairs, margin = results["test_rows_after_length_filter"], f"{after['rewards/margins']:+.3f}".replace("-", "\u2212")
    return (
        f"On {pairs:,} test pairs the mean reward margin went from {before['rewards/margins']:.3f} to {margin} nats; "
        f"afterwards {percent(after['rewards/accuracies'], 0)} of the pairs have a positive margin "
        "(means over batches). Before the first step the policy is its own reference: every margin is 0 and no pair "
        "counts as right, so a rise from 0 is no gain by itself."
    )


def command(settings: dict[str, Any]) -> str:
    """The command line that repeats this run."""
    words = ["ifllm", "run", "--out", "runs/again"]
    if settings["release"] is None:
        words += ["--workers", str(settings["workers"]), "--questions", str(settings["questions"])]
    else:
        words += ["--release", settings["release"]]
    for name in ("seed", "seeds", "recipe", "policy", "label_source", "steps", "processes"):
        if settings[name] is not None:
            words += [f"--{name.replace('_', '-')}", str(settings[name])]
    return shlex.join(words)


def _mean(row: Row) -> float:
    return float(row["accuracy"]["mean"])


def _bounds(value: Estimate) -> str:
    return f"{100 * value['low']:.1f} to {percent(value['high'])}"
