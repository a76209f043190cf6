"""How far a judge's verdict depends on which answer it is shown first."""

import evaluate

from ifllm_hub.evaluation.comparison.measures import position_consistency
from ifllm_hub.evaluation.comparison.metric_info import metric_info

_INPUTS = """
Args:
    predictions: verdicts with the model's answer first: model, baseline or tie.
    references: verdicts on the same pairs with the baseline's answer first.
Returns:
    consistency, first_in_both, second_in_both, n.
"""


class PositionConsistency(evaluate.Metric):
    """`ifllm_hub.evaluation.comparison.measures.position_consistency` as an `evaluate` module."""

    def _info(self) -> evaluate.MetricInfo:
        return metric_info(__doc__, _INPUTS, "string", "string")

    def _compute(self, predictions: list[str], references: list[str]) -> dict:
        return position_consistency(predictions, references)
