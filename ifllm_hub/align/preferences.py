"""Preference pairs in the form TRL trains on, from a folder laid out as the Hub repo or from the Hub itself."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ifllm_hub.errors import IfllmError

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

CONFIG = "preferences"
SPLITS = ("train", "test")
# What a trainer reads; worker_id, label_source and the ratings stay behind.
COLUMNS = ["question_id", "prompt", "chosen", "rejected", "flip_prob"]


def load_preferences(dataset: "str | Path", label_source: str = "forest", revision: str | None = None) -> "DatasetDict":
    """Read the preference pairs of one label source.

    Args:
        dataset: a folder laid out as the Hub repo (`README.md` with a `configs:` block, `data/preferences/*.parquet`),
            or a Hub dataset id such as `ORG/ifllm`.
        label_source: who said which answer is better; a value of the `label_source` column.
        revision: branch, tag or commit of a Hub dataset; a folder has none.

    Returns:
        `train` and `test`, held out by worker, each with `question_id`, conversational `prompt`, `chosen`, `rejected`,
        and `flip_prob`, the probability in [0, 0.5) that the label is wrong.

    Raises:
        IfllmError: the dataset, its `preferences` config or the label source does not exist, a split is empty, a pair
            breaks the contract (`flip_prob` null or outside [0, 0.5), chosen equal to rejected), or a worker is in
            both splits.
    """
    rows = _load_config(dataset, revision)
    _check_columns(rows, dataset)
    counts = {split: Counter(rows[split]["label_source"]) for split in SPLITS}
    known = sum(counts.values(), Counter())
    if label_source not in known:
        available = ", ".join(f"{name} ({count} pairs)" for name, count in known.most_common()) or "none at all"
        raise IfllmError(
            f"No label source {label_source!r} in the preferences of {dataset}. It has: {available}. Name one of these."
        )
    for split in SPLITS:
        if not counts[split][label_source]:
            raise IfllmError(
                f"The {split} split of {dataset} has no pair with label source {label_source!r}, and training needs "
                "both splits. Choose another label source, or build the dataset from more workers."
            )
        rows[split] = _select(rows[split], label_source)
        _check_pairs(rows[split], f"the {split} split of {dataset}, label source {label_source!r}")
    shared = {worker for worker in rows["train"]["worker_id"] if worker is not None} & set(rows["test"]["worker_id"])
    if shared:
        raise IfllmError(
            f"{len(shared)} worker(s) of {dataset} have pairs in both splits (for example {min(shared)!r}), so the "
            "test split would not be held out. Rebuild the dataset; its splits are by worker."
        )
    return rows.select_columns(COLUMNS)


def limit_test(preferences: "DatasetDict", size: int | None, seed: int) -> "DatasetDict":
    """Keep at most `size` test pairs, drawn with `seed`; None keeps all."""
    from datasets import DatasetDict

    if size is None:
        return preferences
    if size < 1:
        raise IfllmError(f"test_size is {size}; it must be at least 1, or unset for all test pairs.")
    # Neighbouring rows come from the same worker, so the first ones would not stand for the split.
    test = preferences["test"].shuffle(seed=seed)
    return DatasetDict(preferences | {"test": test.select(range(min(size, len(test))))})


def fingerprint(rows: "Dataset") -> str:
    """SHA-256 (hexadecimal) of the rows in order: the same pairs give the same value wherever they were read from."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row, sort_keys=True).encode())
    return digest.hexdigest()


def hub_commit(rows: "Dataset") -> str | None:
    """The commit of the Hub dataset the rows were read from, or None if they came from a folder."""
    # `datasets` notes the files it read as hf://datasets/ORG/NAME@COMMIT/PATH.
    files: Iterable[str] = rows.info.download_checksums or ()
    commits = {match[1] for file in files if (match := re.match(r"hf://datasets/[^@]+@([0-9a-f]{40})/", file))}
    return commits.pop() if len(commits) == 1 else None


def _load_config(dataset: "str | Path", revision: str | None) -> "DatasetDict":
    from datasets import get_dataset_config_names, load_dataset
    from datasets.exceptions import DatasetsError
    from huggingface_hub.errors import HFValidationError

    is_folder = Path(dataset).is_dir()
    if isinstance(dataset, Path) and not is_folder:
        raise IfllmError(f"The dataset folder {dataset} does not exist. Give a folder laid out as the Hub repo.")
    if is_folder and revision is not None:
        raise IfllmError(f"{dataset} is a folder and has no revision {revision!r}. Leave the revision out.")
    try:
        names = get_dataset_config_names(str(dataset), revision=revision)
        if CONFIG not in names:
            raise IfllmError(
                f"{dataset} has no config {CONFIG!r}; it has: {', '.join(names)}. Add the preference pairs to the "
                f"dataset and a {CONFIG!r} entry to the `configs:` block of its README.md."
            )
        return load_dataset(str(dataset), CONFIG, revision=revision)
    except (DatasetsError, OSError, HFValidationError) as error:
        what = "The folder" if is_folder else "There is no such folder here, and as a Hub dataset"
        raise IfllmError(
            f"{what} {dataset} cannot be read: {error}. Give a folder laid out as the Hub repo, or a Hub id such as "
            "ORG/ifllm; for the Hub, check the revision, the network and `hf auth login`."
        ) from error


def _check_columns(rows: "DatasetDict", dataset: "str | Path") -> None:
    for split in SPLITS:
        if split not in rows:
            raise IfllmError(
                f"The {CONFIG} config of {dataset} has no {split} split; it has: {', '.join(rows)}. Both train and "
                "test are needed."
            )
        missing = sorted({*COLUMNS, "label_source", "worker_id"} - set(rows[split].column_names))
        if missing:
            raise IfllmError(
                f"The {split} split of the {CONFIG} config of {dataset} lacks the column(s) {', '.join(missing)}. "
                "Build the dataset again."
            )


def _select(rows: "Dataset", label_source: str) -> "Dataset":
    return rows.select([index for index, source in enumerate(rows["label_source"]) if source == label_source])


def _check_pairs(rows: "Dataset", where: str) -> None:
    def wrong_probability(row: dict[str, Any]) -> bool:
        return row["flip_prob"] is None or not 0 <= row["flip_prob"] < 0.5

    def same_answer(row: dict[str, Any]) -> bool:
        return row["chosen"] == row["rejected"]

    for is_wrong, what in (
        (wrong_probability, "a flip_prob that is null or outside [0, 0.5); from 0.5 on, the robust loss is undefined"),
        (same_answer, "the same text as chosen and as rejected"),
    ):
        wrong = [row for row in rows if is_wrong(row)]
        if wrong:
            raise IfllmError(
                f"{len(wrong)} of {len(rows)} pairs in {where}, have {what}. First: question_id "
                f"{wrong[0]['question_id']}, flip_prob {wrong[0]['flip_prob']}. Correct or drop them where the labels "
                "are made."
            )
