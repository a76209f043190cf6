"""What the label sources of a dataset are worth, beside each other; `dataset/label_worth.py` counts it."""

from pathlib import Path

import polars as pl

from ifllm_hub.dataset.label_worth import LabelWorth, label_worth
from ifllm_hub.dataset.load import label_sources, load_config
from ifllm_hub.dataset.schema import preferences_config
from ifllm_hub.errors import IfllmError


def worth_by_source(dataset: str | Path, revision: str | None = None) -> dict[str, LabelWorth]:
    """What the labels of each source are worth in explicit labels, those of both splits together.

    Args:
        dataset: a dataset folder or Hub repo id.
        revision: branch, tag or commit of a Hub dataset.

    Raises:
        IfllmError: the dataset does not exist, cannot be read, or has no labels.

    Examples:
        >>> from ifllm_hub.preferences.value import worth_by_source
        >>> worths = worth_by_source("ifllm")
        >>> worths["explicit"].labels, round(worths["longer"].said["mean"], 1)
        (25, 0.6)
    """
    sources = label_sources(dataset, revision)
    if not sources:
        raise IfllmError(f"{dataset}: has no labels. Write them: ifllm label {dataset}")
    rows = pl.concat(load_config(dataset, preferences_config(source), revision) for source in sources)
    return {worth.label_source: worth for worth in label_worth(rows)}
