"""How often the likelier of two answers is the one that was preferred."""

import datasets
import evaluate

from ifllm_hub.evaluation.measures import preference_accuracy

_INPUTS = """
Args:
    predictions: P(left preferred), in [0, 1]; hard labels are 0 and 1. A probability of one half counts half.
    references: 1 where left was preferred, else 0.
Returns:
    accuracy, undecided (share of probabilities of one half), n.
"""


class PreferenceAccuracy(evaluate.Metric):
    """`ifllm_hub.evaluation.measures.preference_accuracy` as an `evaluate` module."""

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
        return preference_accuracy(predictions, references)
