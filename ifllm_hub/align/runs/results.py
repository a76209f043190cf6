"""results.json: what a training run did, as its card, the Hub and the report read it."""

from typing import Any, NotRequired, TypedDict

RESULTS = "results.json"


class StartCounts(TypedDict):
    """See `resume.Start`."""

    from_step: int
    per_device: int
    accumulation: int
    processes: int
    evaluation_batch: int
    device: str
    commit: str | None


class Adapter(TypedDict):
    """A LoRA adapter; `layers` None: on all of them. `frozen_weights`: what it was trained beside, if not float32."""

    r: int
    alpha: int
    layers: int | None
    frozen_weights: NotRequired[str]


class Correct(TypedDict):
    """How often a rule prefers the answer that the worker preferred, with the 95 % interval (Wilson)."""

    correct: int
    accuracy: float
    low: float
    high: float


class AgainstExplicit(TypedDict):
    """A text reward model and the longer answer against what people said."""

    pairs: int
    workers: int
    models: dict[str, Correct]


class Results(TypedDict):
    """The whole document; what is not required, the stages `dpo` (up to `pairs_truncated`) and `reward` add."""

    name: str
    stage: str
    llm: str | None
    model: str
    base_model: str | None
    weights: str
    license: str | None
    lora: NotRequired[Adapter | None]
    label_source: str
    learning_rate: float
    max_length: NotRequired[int | None]
    dataset: str
    dataset_on_hub: bool
    dataset_revision: str | None
    dataset_fingerprint: str
    test_fingerprint: str
    train_rows: int
    test_rows: int
    data: str
    seed: int
    recipe: dict[str, Any]
    commit: str | None
    steps: int
    steps_in_one_epoch: int
    rows_seen: int
    rows_in_one_epoch: int
    rows_after_length_filter: int
    test_rows_after_length_filter: int
    eval_before: dict[str, float]
    eval_after: dict[str, float]
    processes: int
    device: str
    resumed_from: str | None
    starts: list[StartCounts]
    versions: dict[str, str]
    wall_seconds: float
    split: NotRequired[str]
    quirks: NotRequired[dict[str, Any]]
    flip_prob_mean: NotRequired[float]
    flip_prob_max: NotRequired[float]
    flip_prob_origin: NotRequired[str]
    flip_weighting: NotRequired[str]
    robust_weight: NotRequired[float]
    nll: NotRequired[str]
    nll_weight: NotRequired[float]
    beta: NotRequired[float]
    pairs_truncated: NotRequired[int]
    form: NotRequired[str]
    against_explicit: NotRequired[AgainstExplicit]
