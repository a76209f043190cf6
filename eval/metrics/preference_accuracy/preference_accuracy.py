"""How often the likelier of two answers is the one that was preferred."""

import evaluate

from ifllm_hub.evaluation.comparison.measures import preference_accuracy
from ifllm_hub.evaluation.comparison.metric_info import metric_info

_INPUTS = """
Args:
    predictions: P(left preferred), in [0, 1]; hard labels are 0 and 1. A probability of one half counts half.
    references: 1 where left was preferred, else 0.
Returns:
    accuracy, undecided (share of probabilities of one half), n.
"""


class PreferenceAccuracy(evaluate.Metric):
    """`ifllm_hub.evaluation.comparison.measures.preference_accuracy` as an `evaluate` module."""

    def _info(self) -> evaluate.MetricInfo:
        return metric_info(__doc__, _INPUTS, "float64", "int64")

    def _compute(self, predictions: list[float], references: list[int]) -> dict:
        return preference_accuracy(predictions, references)
