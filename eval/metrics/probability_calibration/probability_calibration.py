"""Whether the probabilities of a preference model mean what they say."""

import evaluate

from ifllm_hub.evaluation.comparison.measures import probability_calibration
from ifllm_hub.evaluation.comparison.metric_info import metric_info

_INPUTS = """
Args:
    predictions: P(left preferred), in [0, 1].
    references: 1 where left was preferred, else 0.
Returns:
    ece, brier, bins (confidence, accuracy, share), n.
"""


class ProbabilityCalibration(evaluate.Metric):
    """`ifllm_hub.evaluation.comparison.measures.probability_calibration` as an `evaluate` module."""

    def _info(self) -> evaluate.MetricInfo:
        return metric_info(__doc__, _INPUTS, "float64", "int64")

    def _compute(self, predictions: list[float], references: list[int]) -> dict:
        return probability_calibration(predictions, references)
