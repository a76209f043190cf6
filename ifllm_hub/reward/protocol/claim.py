"""The one claim that is made of reading, written down before the next data is looked at, and its test on a dataset."""

from math import isfinite
from pathlib import Path
from typing import TypedDict

from ifllm_hub.dataset.manifest import Origin, data_origin
from ifllm_hub.pages.markdown import markdown_table
from ifllm_hub.reward.protocol.candidates import LONGER_ANSWER, logistic, with_habit
from ifllm_hub.reward.protocol.folds import out_of_fold
from ifllm_hub.reward.protocol.leaderboard import data_source
from ifllm_hub.reward.protocol.pairs import (
    GAZE_FEATURES,
    LENGTH_FEATURES,
    MOUSE_FEATURES,
    labeled,
    load_pairs,
    with_past_habit,
)
from ifllm_hub.reward.protocol.permutation import Permuted, permutation_test
from ifllm_hub.reward.protocol.scores import MEASURES, Measure, gains
from ifllm_hub.statistics import Estimate, effective_workers
from ifllm_hub.terms import Advance

ALPHA = 0.05
_PRIMARY = "mouse + gaze"
_MEASURE: Measure = "brier"
_SEEDS = 20
# Folds of the permutation test, which fits everything again in every draw.
_TEST_SEEDS = 3
_MOUSE, _GAZE = with_past_habit(MOUSE_FEATURES), with_past_habit(GAZE_FEATURES)
# What may stand beside the length. Only the first is claimed of; all are what `nested choice` chooses among.
_BEHAVIOR = {
    _PRIMARY: _MOUSE + _GAZE,
    "mouse": _MOUSE,
    "gaze": _GAZE,
    "mouse dwell": _MOUSE[:1],
    "mouse + gaze, habits left in": with_habit(MOUSE_FEATURES + GAZE_FEATURES),
    "mouse, habits left in": with_habit(MOUSE_FEATURES),
    "mouse dwell, habits left in": with_habit(MOUSE_FEATURES)[:1],
    "gaze dwell, habits left in": with_habit(GAZE_FEATURES)[:1],
}
_FORMS: tuple[tuple[Measure, str, str], ...] = (
    ("brier", "Brier", "+.4f"),
    ("accuracy", "accuracy", "+.3f"),
    ("auc", "AUC", "+.3f"),
)
_CAVEATS: dict[Origin, str] = {
    "study": " The claim was formed on this data, so that this confirms nothing.",
    "simulated": " The data is simulated or modified, so that this says nothing of people.",
    "collected": "",
    "imported": "",
    "unknown": " Nothing says where the data is from; if the claim was formed on it, this confirms nothing.",
}
FEATURE_SETS = {name: LENGTH_FEATURES + behavior for name, behavior in _BEHAVIOR.items()}

# Registered as it stands: tests pin it, and the constants above.
CLAIM = """**Claim.** How people read two answers says something about which one they prefer that the lengths of the
answers do not say.

- **Data**: any dataset of this layout but the study's release and simulations; one evaluation, when its collection has
  closed. Pairs that one worker rated and was seen reading, without workers on an exclusion list (`labeled` of
  `ifllm_hub.reward.protocol.pairs`). Habits and slopes on length are taken from all pairwise readings, rated or not.
- **Models**: antisymmetric logistic regressions (no intercept, L2 with C = 1, features divided by their root mean
  square in the training pairs), on the log ratio of the lengths alone, and on that and four contrasts: log ratio of
  dwell and difference of coverage, of mouse and of gaze, each less the reader's habit as known from earlier readings
  and the reading itself, shrunk as by three readings without a habit. A contrast that is not there counts as 0. Names:
  `length_log_ratio`, `mouse_dwell_log_ratio_centered_causal`, `mouse_coverage_diff_centered_causal`,
  `gaze_dwell_log_ratio_centered_causal`, `gaze_coverage_diff_centered_causal`.
- **Measure**: Brier score of probabilities for workers never seen, five folds over workers.
- **Test**: behavior exchanged given length, between a worker's conversations with equally many rated pairs
  (`ifllm_hub.reward.protocol.permutation`), 999 draws, seed 0, folds of the seeds 0, 1 and 2, one-sided, at 0.05.
- **Effect**: the differences of Brier score and of accuracy, folds of the seeds 0 to 19, with 95 % intervals by
  jackknife over workers.

Registered on 2026-11-28 for version 0.1.0 of this package, after the study's release and its simulation had been looked
at, before any other data."""


class Claim(TypedDict):
    """What `evaluate_claim` found: `permuted` tests these workers, `effects` estimate other workers."""

    origin: Origin
    pairs: int
    workers: int
    effective_workers: float
    effects: dict[Measure, Estimate]
    permuted: Permuted


def evaluate_claim(
    dataset: str | Path,
    draws: int = 999,
    n_jobs: int = 1,
    revision: str | None = None,
    advance: Advance | None = None,
) -> Claim:
    """Test the claim on a dataset, and beside it the other feature sets that `nested choice` chooses among.

    Args:
        dataset: a dataset folder or Hub repo id.
        draws: of the permutation test; the claim says 999.
        n_jobs: processes.
        advance: called with the share done (0-1).

    Raises:
        IfllmError: the dataset is not usable.
    """
    source = data_source(dataset, revision)
    everything = load_pairs(dataset, source.get("revision"))
    pairs = labeled(everything)
    ours, longer = (
        out_of_fold(pairs, fit, "worker", _SEEDS) for fit in (logistic(FEATURE_SETS[_PRIMARY]), LONGER_ANSWER.fit)
    )
    effects = gains(ours, longer, pairs)
    return {
        "origin": data_origin(dataset, source.get("revision")),
        "pairs": len(pairs),
        "workers": int(pairs.rows["worker_id"].n_unique()),
        "effective_workers": effective_workers(pairs.groups("worker_id")),
        "effects": {measure: effects[measure].estimate for measure in MEASURES},
        "permuted": permutation_test(everything, FEATURE_SETS, draws, _TEST_SEEDS, n_jobs, advance=advance),
    }


def claim_sentence(claim: Claim) -> str:
    """What the test says, and of which data."""
    permuted, effect = claim["permuted"], claim["effects"]["accuracy"]
    p = permuted["p"][_PRIMARY][_MEASURE]
    heard = (
        f"reading says something about preferences that length does not (p = {p:.3f})"
        if p <= ALPHA
        else f"this data does not show that reading says anything about preferences that length does not (p = {p:.3f})"
    )
    if permuted["smallest_p"] > ALPHA:
        heard = (
            f"the claim cannot be tested: of {permuted['conversations']} conversations, {permuted['exchanged']} can "
            "exchange their behavior with another"
        )
    open_ = (
        f"how much more accurate it makes a model on other workers is between {100 * effect['low']:+.1f} and "
        f"{100 * effect['high']:+.1f} points (95 %)"
        if isfinite(effect["low"])
        else "of other workers it says nothing"
    )
    return f"Of these {claim['workers']} workers, {heard}; {open_}.{_CAVEATS[claim['origin']]}"


def claim_page(claim: Claim) -> str:
    """The claim, its test on a dataset, and apart from it what else was looked at, as Markdown."""
    permuted = claim["permuted"]
    effects = [
        (f"{name} (less is better)" if measure == "brier" else name, _signed(claim["effects"][measure], form))
        for measure, name, form in _FORMS
    ]
    family = [
        (
            f"{name} + length",
            *(f"{permuted['gains'][name][measure]:{form}}" for measure, _, form in _FORMS),
            *(f"{permuted['p'][name][measure]:.3f}" for measure, *_ in _FORMS),
        )
        for name in permuted["gains"]
    ]
    best = ("**best of all**, adjusted", "", "", "", *(f"{permuted['best_p'][measure]:.3f}" for measure, *_ in _FORMS))
    return f"""# What is claimed of reading

Written by `ifllm claim DATASET --out FILE`; do not edit.

## Written down beforehand

{CLAIM}

## The test

{claim_sentence(claim)}

{claim["pairs"]} pairs of {claim["workers"]} workers, who, where workers differ much, tell as much as
{claim["effective_workers"]:.1f} with equally many pairs each; {permuted["conversations"]} conversations, of which
{permuted["exchanged"]} could exchange their behavior with another; {permuted["draws"]} draws. The p value is that of
the Brier score of "{_PRIMARY} + length".

{markdown_table(("over the longer answer", "effect on workers never seen [95 % CI]"), effects)}

The test asks about these workers: is it chance that they prefer what they read? The intervals ask about others: would
the gain be there with workers drawn anew? With few workers the first can be certain and the second open.

## Looked at beside it

The eight sets of behavior that the leaderboard's "nested choice" chooses among, by the same test ({_TEST_SEEDS} seeds).
The last row is the p value of the best set, adjusted for the choice among these eight (max-T), and for no other: more
was tried on the study ([ideas](reward_ideas.md)).

{markdown_table(("model", ">Brier", ">accuracy", ">AUC", ">p, Brier", ">p, accuracy", ">p, AUC"), [*family, best])}
"""


def _signed(value: Estimate, form: str) -> str:
    return f"{value['mean']:{form}} [{value['low']:{form}}, {value['high']:{form}}]"
