"""Whether the probabilities of a preference model mean what they say."""

import datasets
import evaluate

from ifllm_hub.evaluation.measures import probability_calibration

_INPUTS = """
Args:
    predictions: P(left preferred), in [0, 1].
    references: 1 where left was preferred, else 0.
Returns:
    ece, brier, bins (confidence, accuracy, share), n.
"""


class ProbabilityCalibration(evaluate.Metric):
    """`ifllm_hub.evaluation.measures.probability_calibration` as an `evaluate` module."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=__doc__,
            citation="https://huggingface.co/papers/2606.20482",
            inputs_description=_INPUTS,
            features=datasets.Features(
                {"predictions": datasets.Value("float64"), "references": datasets.Value("int64")}
            ),
        )

    def _compute(self, predictions: list[float], references: list[int]) -> dict:
        return probability_calibration(predictions, references)
