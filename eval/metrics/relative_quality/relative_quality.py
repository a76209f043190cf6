"""The relative quality gain of IFLLM: by how many of a judge's points a model exceeds its own baseline."""

import evaluate

from ifllm_hub.evaluation.comparison.measures import relative_quality
from ifllm_hub.evaluation.comparison.metric_info import metric_info

_INPUTS = """
Args:
    predictions: the judge's scores of the model's answers.
    references: the judge's scores of the baseline's answers to the same prompts.
    llms: optional, the LLM of each pair.
Returns:
    relative_quality, standard_error (the paper's), mean_over_llms, n.
"""


class RelativeQuality(evaluate.Metric):
    """`ifllm_hub.evaluation.comparison.measures.relative_quality` as an `evaluate` module."""

    def _info(self) -> evaluate.MetricInfo:
        return metric_info(__doc__, _INPUTS, "float64", "float64")

    def _compute(self, predictions: list[float], references: list[float], llms: list[str] | None = None) -> dict:
        return relative_quality(predictions, references, llms)
