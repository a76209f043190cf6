"""Single measures of judges, labels and judged models; the `evaluate` modules in `eval/metrics` call these."""

from collections.abc import Sequence

import numpy as np

from ifllm_hub.errors import IfllmError
from ifllm_hub.evaluation.comparison.document import Position
from ifllm_hub.evaluation.comparison.statistics import paper_standard_error
from ifllm_hub.reward.protocol.scores import correct, reliability

VERDICTS = ("model", "baseline", "tie")


def preference_accuracy(probabilities: Sequence[float], references: Sequence[int]) -> dict[str, float]:
    """How often the likelier side is the preferred one; a probability of one half counts half.

    Args:
        probabilities: (n,) P(left preferred), in [0, 1]; hard labels are 0 and 1.
        references: (n,) 1 where left was preferred, else 0.

    Returns:
        `accuracy`; `undecided`, the share of probabilities of one half; `n`.

    Raises:
        IfllmError: the lengths differ or are 0, or a value is out of range.

    Examples:
        >>> from ifllm_hub.evaluation.comparison.measures import preference_accuracy
        >>> preference_accuracy([0.9, 0.4, 0.5, 0.2], [1, 1, 0, 0])
        {'accuracy': 0.625, 'undecided': 0.25, 'n': 4}
    """
    p, y = _checked(probabilities, references)
    return {"accuracy": float(correct(p, y).mean()), "undecided": float((p == 0.5).mean()), "n": len(p)}


def probability_calibration(
    probabilities: Sequence[float], references: Sequence[int]
) -> dict[str, float | list[dict[str, float]]]:
    """Whether probabilities mean what they say.

    Args:
        probabilities: as for `preference_accuracy`.
        references: as for `preference_accuracy`.

    Returns:
        `ece`, the expected calibration error sum_b (n_b / n) |confidence_b - accuracy_b| over ten bins of the
        confidence max(p, 1 - p) of equal width from 0.5 to 1; `brier`, the mean of (p - y)^2; `bins` with anything in
        them, each with `confidence`, `accuracy`, `share`; `n`.

    Raises:
        IfllmError: as for `preference_accuracy`.

    Examples:
        >>> from ifllm_hub.evaluation.comparison.measures import probability_calibration
        >>> measured = probability_calibration([0.75, 0.75, 0.25, 0.75], [1, 1, 0, 0])
        >>> measured["ece"], measured["brier"]
        (0.0, 0.1875)
    """
    p, y = _checked(probabilities, references)
    bins = reliability(p[None], y)
    ece = sum(bin_["share"] * abs(bin_["confidence"] - bin_["accuracy"]) for bin_ in bins)
    return {"ece": float(ece), "brier": float(((p - y) ** 2).mean()), "bins": bins, "n": len(p)}


def relative_quality(
    scores: Sequence[float], baseline_scores: Sequence[float], llms: Sequence[str] | None = None
) -> dict[str, float]:
    """The paper's relative quality gain: by how many of the judge's points a model exceeds its own baseline.

    Args:
        scores: (n,) the judge's scores of the model's answers.
        baseline_scores: (n,) its scores of the baseline's answers to the same prompts.
        llms: (n,) the LLM of each pair; by default all are of one.

    Returns:
        `relative_quality`, the mean difference over all pairs; `standard_error`, the paper's: population sd /
        sqrt(n - 1), as if pairs were independent (NaN for one); `mean_over_llms`, each LLM counting alike; `n`.

    Raises:
        IfllmError: the lengths differ or are 0, or a score is not a finite number.

    Examples:
        >>> from ifllm_hub.evaluation.comparison.measures import relative_quality
        >>> quality = relative_quality(scores=[8, 7, 9], baseline_scores=[6, 7, 5], llms=["a", "a", "b"])
        >>> quality["relative_quality"], quality["mean_over_llms"]
        (2.0, 2.5)
    """
    model, baseline = np.asarray(scores, dtype=float), np.asarray(baseline_scores, dtype=float)
    names = np.asarray(["" for _ in model] if llms is None else llms)
    _check_lengths(model, baseline, names)
    difference = model - baseline
    if not np.isfinite(difference).all():
        raise IfllmError("A score is not a finite number. Set failed judgments aside first.")
    by_llm = [difference[names == name].mean() for name in np.unique(names)]
    return {
        "relative_quality": float(difference.mean()),
        "standard_error": paper_standard_error(difference),
        "mean_over_llms": float(np.mean(by_llm)),
        "n": len(difference),
    }


def position_consistency(model_first: Sequence[str], baseline_first: Sequence[str]) -> Position:
    """How far a judge's verdict depends on which answer it is shown first.

    Args:
        model_first: (n,) the verdicts with the model's answer shown first: `model`, `baseline` or `tie`.
        baseline_first: (n,) the verdicts on the same pairs in the other order.

    Returns:
        `consistency`, the share of pairs with the same verdict in both orders; `first_in_both` and `second_in_both`,
        the shares where the answer shown first (second) won both times, so that the position alone decided; `n`.

    Raises:
        IfllmError: the lengths differ or are 0, or a verdict is something else.

    Examples:
        >>> from ifllm_hub.evaluation.comparison.measures import position_consistency
        >>> position_consistency(model_first=["model", "tie"], baseline_first=["baseline", "tie"])
        {'consistency': 0.5, 'first_in_both': 0.5, 'second_in_both': 0.0, 'n': 2}
    """
    one, other = np.asarray(model_first), np.asarray(baseline_first)
    _check_lengths(one, other)
    if unknown := {*one.tolist(), *other.tolist()} - set(VERDICTS):
        raise IfllmError(f"{sorted(map(str, unknown))[0]!r} is not a verdict. Use {', '.join(VERDICTS)}.")
    return {
        "consistency": float((one == other).mean()),
        "first_in_both": float(((one == "model") & (other == "baseline")).mean()),
        "second_in_both": float(((one == "baseline") & (other == "model")).mean()),
        "n": len(one),
    }


def _checked(probabilities: Sequence[float], references: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    p, y = np.asarray(probabilities, dtype=float), np.asarray(references, dtype=float)
    _check_lengths(p, y)
    if not ((p >= 0) & (p <= 1)).all():
        raise IfllmError("A probability is not in [0, 1]. Give P(left preferred).")
    if not np.isin(y, (0, 1)).all():
        raise IfllmError("A reference is neither 0 nor 1. Give 1 where left was preferred, else 0.")
    return p, y


def _check_lengths(*arrays: np.ndarray) -> None:
    if len({len(array) for array in arrays}) > 1:
        raise IfllmError(f"The inputs have {' and '.join(str(len(array)) for array in arrays)} entries. Pair them up.")
    if not len(arrays[0]):
        raise IfllmError("There is nothing to measure: the inputs are empty.")
