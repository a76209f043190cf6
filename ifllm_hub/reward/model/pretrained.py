"""The reward model as its users load it, by folder or Hub id, and how it gets to the Hub: in one commit."""

from collections.abc import Mapping
from numbers import Real
from pathlib import Path
from typing import Any, Self

import numpy as np

from ifllm_hub.errors import IfllmError, first_line
from ifllm_hub.files import replacing_folder
from ifllm_hub.hub import Kind, clear_hub_errors, commit_files, files_to_push
from ifllm_hub.reward.model.flat_forest import FOREST_FILE, too_large
from ifllm_hub.reward.model.persistence import (
    CONFIG_FILE,
    LEADERBOARD_FILE,
    MAX_FILE_BYTES,
    MODEL_FILE,
    load_forest,
    load_model,
    read_bounded,
)

CARD_FILE, EVALUATION_FILE = "README.md", ".eval_results/ifllm.yaml"
_FILES = (MODEL_FILE, FOREST_FILE, CONFIG_FILE, LEADERBOARD_FILE, CARD_FILE)
REWARD = Kind(
    "reward model",
    "model",
    (*_FILES, EVALUATION_FILE),
    sign=CONFIG_FILE,
    is_ours=lambda config: isinstance(config, dict) and {"format", "features", "sha256"} <= config.keys(),
    insist="--force",
)


class ImplicitFeedbackReward:
    """A reward model to score with: flat arrays that are audited before they are followed, and numpy.

    scikit-learn, skops and torch take no part; `persistence.load_model` gives the scikit-learn estimator.

    Attributes:
        folder: where the model's files lie.
        config: `config.json`: features and units, training data, protocol results.
        features: names of the columns of X, in order.

    Examples:
        >>> from ifllm_hub import ImplicitFeedbackReward
        >>> from ifllm_hub.dataset.load import load_config
        >>> from ifllm_hub.reward.functions import default_model
        >>> reward = ImplicitFeedbackReward.from_pretrained(default_model())
        >>> reward.features[:2]
        ('length_log_ratio', 'mouse_dwell_log_ratio_centered')
        >>> p = reward.score(load_config("ifllm", "features"))
        >>> bool(((p > 0) & (p < 1) | (p != p)).all())  # NaN where nothing is known
        True
    """

    def __init__(self, folder: Path):
        """Read a model folder.

        Raises:
            IfllmError: see `load_forest`.
        """
        self.folder = folder
        self._forest, self.config = load_forest(folder)
        self.features: tuple[str, ...] = tuple(feature["name"] for feature in self.config["features"])

    @classmethod
    def from_pretrained(cls, model: str | Path, revision: str | None = None) -> Self:
        """Load a model by name.

        Args:
            model: a model folder, or a Hub model id (owner/name), of which all files of a model are fetched.
            revision: branch, tag or commit of a Hub model.

        Raises:
            IfllmError: there is no such model, it cannot be fetched, or it is not a sound reward model of ours.
        """
        return cls(fetch_reward(model, revision))

    def predict(self, X: np.ndarray) -> np.ndarray:
        """P(left preferred).

        Args:
            X: (n, features) float64, left minus right, NaN where not recorded.

        Returns:
            (n,) float64 in [0, 1].

        Raises:
            ValueError: X has another shape.
        """
        return self._forest.predict(X)

    def logit(self, X: np.ndarray) -> np.ndarray:
        """log(p / (1 - p)) of `predict`: the Bradley-Terry reward of left over right; finite, (n,) float64."""
        return self._forest.logit(X)

    def score(self, features: Any) -> np.ndarray:
        """P(left preferred), of rows by name, such as the dataset's config `features`.

        Args:
            features: a column for each of `self.features`, None or NaN where not recorded; others are ignored. A
                mapping of columns, a frame (polars, pandas, pyarrow) or a `datasets.Dataset`.

        Returns:
            (n,) float64 in [0, 1]; NaN where none of the features is known, as of every pointwise question: the
            model knows nothing then, and abstains.

        Raises:
            IfllmError: `features` is something else; a column is missing, of another length than the others, or holds
                what is no number or infinite in float32.
        """
        X = self.columns(features)
        for name, infinite in zip(self.features, too_large(X).T, strict=True):
            if infinite.any():
                raise IfllmError(
                    f"The column {name} holds an infinite value in row {np.flatnonzero(infinite)[0]}. Give finite "
                    "numbers, and None where a feature was not recorded."
                )
        return np.where(np.isnan(X).all(axis=1), np.nan, self.predict(X))

    def columns(self, features: Any) -> np.ndarray:
        """X for `predict`, from rows by name; infinite values are let through. See `score`."""
        table = _table(features)
        missing = [name for name in self.features if name not in table]
        if missing:
            raise IfllmError(f"The rows lack the column {missing[0]}. Take them from the dataset's config 'features'.")
        columns = {name: _numbers(name, table[name]) for name in self.features}
        lengths = {name: len(column) for name, column in columns.items()}
        for name, length in lengths.items():
            if length != lengths[self.features[0]]:
                raise IfllmError(
                    f"The column {name} has {length} values, and {self.features[0]} has {lengths[self.features[0]]}."
                )
        return np.column_stack(list(columns.values()))

    def save_pretrained(self, folder: str | Path) -> None:
        """Copy the model's files (those that are there; the arrays and `config.json` always are) to a folder.

        Raises:
            IfllmError: the folder is something else than a model's, cannot be written, or the files were changed since
                they were loaded.
        """
        with replacing_folder(Path(folder), CONFIG_FILE) as partial:
            for name in _FILES:
                if (self.folder / name).exists():
                    (partial / name).write_bytes(read_bounded(self.folder / name, MAX_FILE_BYTES))
            if load_forest(partial)[1] != self.config:
                raise IfllmError(f"{self.folder}: was changed since it was loaded. Load it again.")

    def push_to_hub(self, repo_id: str, private: bool = False, force: bool = False) -> str:
        """Push the model's files in one commit; see `push_reward`."""
        return push_reward(self.folder, repo_id, private, force)


def _table(features: Any) -> Mapping[str, Any]:
    """Columns by name."""
    if isinstance(features, Mapping):
        return features
    import polars as pl

    try:
        # Of a datasets.Dataset, the rows that it has after `select` or `shuffle`.
        rows = features.with_format("arrow")[: len(features)] if hasattr(features, "with_format") else features
        return pl.DataFrame(rows).to_dict()
    except (TypeError, ValueError, pl.exceptions.PolarsError) as error:
        raise IfllmError(
            "Rows to score are a mapping of columns, a frame (polars, pandas, pyarrow) or a datasets.Dataset, "
            f"not a {type(features).__name__}."
        ) from error


def _numbers(name: str, values: Any) -> np.ndarray:
    """A column as (n,) float64, NaN for None."""
    try:
        column = np.asarray(values)
        if column.dtype.kind not in "iuf":
            column = np.asarray(values, dtype=object)
            for value in column:
                if not (value is None or isinstance(value, Real)) or isinstance(value, bool):
                    raise TypeError(ascii(value))
        if column.ndim != 1:
            raise TypeError(f"an array of {column.ndim} dimensions")
        return column.astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise IfllmError(
            f"The column {name} is no list of numbers: {first_line(error):.60}. A feature is a number, or None where "
            "it was not recorded."
        ) from error


def fetch_reward(model: str | Path, revision: str | None = None) -> Path:
    """The folder of a reward model, with all its files.

    Args:
        model: a model folder, or a Hub model id (owner/name).
        revision: branch, tag or commit of a Hub model.

    Raises:
        IfllmError: there is no such folder, the model cannot be fetched, or a file is larger than any of ours.
    """
    folder = Path(model)
    if folder.is_dir():
        if revision is not None:
            raise IfllmError(f"{model}: is a folder and has no revision {revision!r}. Leave the revision out.")
        return folder
    if isinstance(model, Path) or model.count("/") != 1:
        raise IfllmError(f"{model}: no such reward model folder. Train one: ifllm reward DATASET --out FOLDER.")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import DryRunError

    files = list(_FILES)
    with clear_hub_errors(model):
        try:
            planned = snapshot_download(model, revision=revision, allow_patterns=files, dry_run=True)
        except DryRunError:  # without a network, what was fetched before will do
            planned = []
        for file in planned:
            if (file.file_size or 0) > MAX_FILE_BYTES:
                raise IfllmError(
                    f"{model}: {file.filename} has {file.file_size:,} bytes, far more than any of ours. Not fetched."
                )
        return Path(snapshot_download(model, revision=revision, allow_patterns=files))


def push_reward(folder: Path, repo_id: str, private: bool = False, force: bool = False) -> str:
    """Push a model folder in one commit, after the audit that loading makes; unchanged content makes no commit.

    The results in the card go along as `.eval_results/ifllm.yaml` if the model was trained on a Hub dataset: that
    format names the dataset by its id.

    Args:
        repo_id: owner/name of a model repo, made where there is none.
        private: make a new repo private.
        force: replace all of a repo that holds something else than a reward model of ours.

    Returns:
        The commit that `main` is at.

    Raises:
        IfllmError: the folder is not a sound reward model, the repo holds something else, no token may write there, or
            the Hub failed.
    """
    import yaml
    from huggingface_hub import ModelCard

    from ifllm_hub.reward.model.results import evaluation_yaml

    load_model(folder)
    _, config = load_forest(folder)
    files: dict[str, Path | bytes] = {**files_to_push(folder, REWARD)}
    missing = [name for name in _FILES if name not in files]
    if missing:
        raise IfllmError(
            f"{folder / missing[0]}: not there, or a link. Train the model again: ifllm reward DATASET --out FOLDER."
        )
    try:
        evaluation = evaluation_yaml(config)
    except (KeyError, TypeError) as error:
        raise IfllmError(
            f"{folder / CONFIG_FILE}: does not say what the model was trained on and how it did ({error}). Train it "
            "again: ifllm reward DATASET --out FOLDER."
        ) from error
    files.pop(EVALUATION_FILE, None)
    if evaluation is not None:
        files[EVALUATION_FILE] = evaluation.encode()
    try:
        card = ModelCard.load(folder / CARD_FILE)
    except (ValueError, yaml.YAMLError) as error:
        raise IfllmError(f"{folder / CARD_FILE}: its YAML header cannot be read ({first_line(error)}).") from error
    with clear_hub_errors(repo_id):
        card.validate()
    return commit_files(files, repo_id, REWARD, private, force)
