"""config.json: what a saved reward model was trained on and how it did, as cards, reports and the Hub read it."""

from typing import TypedDict

from ifllm_hub.statistics import Estimate


class FeatureColumn(TypedDict):
    """A column of X."""

    name: str
    unit: str


class DataSource(TypedDict, total=False):
    """What names the data: a Hub dataset and its commit, or for a folder the release that it was built from, or the
    digest of the manifest of collected or imported data, and the name of the source of the latter.
    """

    dataset: str
    revision: str
    release_sha256: str
    is_the_released_data: bool
    collected_sha256: str
    imported: str
    imported_sha256: str


class Training(DataSource):
    """The data that the model learned from."""

    pairs: int
    workers: int
    excluded_workers_kept: bool


class Spread(Estimate):
    """A mean with its interval over workers, and its standard deviation over seeds."""

    sd: float


class ProtocolScores(TypedDict):
    """How the model did where the test pairs share no question, conversation or worker with its training."""

    accuracy: Spread
    auc: Spread
    brier: float
    ece: float
    accuracy_at_50: float


class Trained(TypedDict):
    """What training says of a model."""

    features: list[FeatureColumn]
    training: Training
    protocol: dict[str, ProtocolScores]
    seeds: int
    versions: dict[str, str]


class ModelConfig(Trained):
    """The whole document. Loading a model checks `format`, `features`, `slope` and `sha256`, which scoring rests on."""

    format: int
    slope: float
    sha256: dict[str, str]
