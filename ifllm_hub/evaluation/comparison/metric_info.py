"""How the `evaluate` modules in `eval/metrics` describe themselves."""

import datasets
import evaluate

_PAPER = "https://huggingface.co/papers/2606.20482"


def metric_info(description: str | None, inputs: str, predictions: str, references: str) -> evaluate.MetricInfo:
    """The `MetricInfo` of a module.

    Args:
        description: its docstring.
        inputs: what `compute` takes and returns.
        predictions, references: the `datasets` type of a value of each, such as `float64`.
    """
    features = {"predictions": datasets.Value(predictions), "references": datasets.Value(references)}
    return evaluate.MetricInfo(
        description=description, citation=_PAPER, inputs_description=inputs, features=datasets.Features(features)
    )
