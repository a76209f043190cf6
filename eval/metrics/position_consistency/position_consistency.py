"""How far a judge's verdict depends on which answer it is shown first."""

import datasets
import evaluate

from ifllm_hub.evaluation.measures import position_consistency

_INPUTS = """
Args:
    predictions: verdicts with the model's answer first: model, baseline or tie.
    references: verdicts on the same pairs with the baseline's answer first.
Returns:
    consistency, first_in_both, second_in_both, n.
"""


class PositionConsistency(evaluate.Metric):
    """`ifllm_hub.evaluation.measures.position_consistency` as an `evaluate` module."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=__doc__,
            citation="https://huggingface.co/papers/2606.20482",
            inputs_description=_INPUTS,
            features=datasets.Features(
                {"predictions": datasets.Value("string"), "references": datasets.Value("string")}
            ),
        )

    def _compute(self, predictions: list[str], references: list[str]) -> dict:
        return position_consistency(predictions, references)
