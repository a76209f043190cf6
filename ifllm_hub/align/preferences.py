"""Preference pairs in the form TRL trains on, from a folder laid out as the Hub repo or from the Hub itself."""

import hashlib
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import polars as pl

from ifllm_hub.align.history import History, with_history
from ifllm_hub.dataset.schema import SPLITS, features
from ifllm_hub.errors import IfllmError
from ifllm_hub.files import write_atomically

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

CONFIG = "preferences"
# What a trainer reads; worker_id, label_source and the ratings stay behind.
COLUMNS = ["question_id", "prompt", "chosen", "rejected", "flip_prob"]
# What a trainer elsewhere gets.
EXPORTED = ["prompt", "chosen", "rejected", "flip_prob", "label_source", "question_id", "split"]

Split = Literal["worker", "conversation", "question", "reference"]


def load_preferences(
    dataset: str | Path,
    label_source: str = "forest",
    revision: str | None = None,
    *,
    history: History = "none",
    split: Split = "worker",
    same_pairs: bool | Sequence[str] = False,
    constant_flip_prob: float | None = None,
) -> "DatasetDict":
    """Read the preference pairs of one label source.

    Args:
        dataset: a folder laid out as the Hub repo (`README.md` with a `configs:` block, `data/preferences/*.parquet`),
            or a Hub dataset id such as `ORG/ifllm`.
        label_source: who said which answer is better; a value of the `label_source` column.
        revision: branch, tag or commit of a Hub dataset; a folder has none.
        history: what prompts show of the earlier turns; see `with_history`.
        split: what train and test never share. By conversation or question, fold 4 of `pairwise` is the test split,
            and the labels of our own models are made anew (a matter of seconds), because the model behind a stored
            train label may have learned from a pair that is a test pair now. Labels from elsewhere stay as they are;
            whether their model did, their maker knows. `reference` draws questions one by one as the paper's released
            code does (`reference_split`), and its explicit pairs are all that the workers rated, also unread ones.
        same_pairs: keep only pairs that all compared label sources have, so that each has the same pairs: the sources
            named, or True for all of the dataset.
        constant_flip_prob: a flip probability in [0, 0.5) for all pairs, instead of their own.

    Returns:
        `train` and `test`, each with `question_id`, conversational `prompt`, `chosen`, `rejected`, and `flip_prob`, the
        probability in [0, 0.5) that the label is wrong.

    Raises:
        IfllmError: the dataset, its `preferences` config or the label source does not exist, there is no such history
            or split, a split is empty, a pair breaks the contract (`flip_prob` null or outside [0, 0.5), chosen equal
            to rejected), or a worker is in both splits that are by worker.
    """
    for what, value, known in (("history", history, get_args(History)), ("split", split, get_args(Split))):
        if value not in known:
            raise IfllmError(f"There is no {what} {value!r}. Choose one of: {', '.join(known)}.")
    frames, origin = _load_config(dataset, revision)
    _check_columns(frames, dataset)
    stored = pl.concat([frames[name].with_columns(split=pl.lit(name)) for name in SPLITS])
    compared = _sources_compared(stored, label_source, same_pairs, dataset)
    rows = stored.filter(pl.col("label_source") == label_source)
    if split != "worker":
        rows = _held_out_by(split, rows, dataset, revision)
    if len(compared) > 1:
        rows = rows.join(_pairs_of_all(stored, compared), on="question_id", how="semi", maintain_order="left")
    rows = with_history(rows, dataset, revision, history)
    if constant_flip_prob is not None:
        rows = rows.with_columns(flip_prob=pl.lit(constant_flip_prob, dtype=pl.Float64))
    parts = {name: rows.filter(pl.col("split") == name) for name in SPLITS}
    for name, part in parts.items():
        if part.is_empty():
            raise IfllmError(
                f"The {name} split of {dataset} has no pair with label source {label_source!r}, and training needs "
                "both splits. Choose another label source, or build the dataset from more workers."
            )
        _check_pairs(part, f"the {name} split of {dataset}, label source {label_source!r}")
    if split == "worker":
        _check_workers(parts, dataset)
    return _as_dataset_dict(parts, origin)


def export_preferences(dataset: str | Path, label_source: str, file: Path, both_splits: bool = True) -> int:
    """Write the pairs of one label source to a file that other trainers read without this package.

    Rows are those of TRL's preference format: conversational `prompt`, `chosen`, `rejected`; beside them `flip_prob`,
    `label_source`, `question_id` and `split`, train first.

    Args:
        file: JSON lines (`.jsonl`) or Parquet (`.parquet`), by its suffix.
        both_splits: refuse a dataset that has no pair in one of the splits; without, of a folder of few people.

    Returns:
        How many pairs.

    Raises:
        IfllmError: see `load_preferences`; or another suffix, or the file cannot be written.
    """
    if file.suffix not in (".jsonl", ".parquet"):
        raise IfllmError(f"{file}: pairs are written as .jsonl or .parquet. Choose one of these suffixes.")
    if both_splits:
        parts = {name: _frame(rows) for name, rows in load_preferences(dataset, label_source).items()}
    else:
        frames, _ = _load_config(dataset, None)
        parts = {name: rows.filter(pl.col("label_source") == label_source) for name, rows in frames.items()}
        for name, part in parts.items():
            _check_pairs(part, f"the {name} split of {dataset}, label source {label_source!r}")
    rows = pl.concat([parts[name].select(COLUMNS).with_columns(split=pl.lit(name)) for name in SPLITS if name in parts])
    rows = rows.with_columns(label_source=pl.lit(label_source)).select(EXPORTED)
    content = io.BytesIO()
    if file.suffix == ".jsonl":
        rows.write_ndjson(content)
    else:
        rows.write_parquet(content)
    write_atomically(file, content.getvalue())
    return rows.height


def limited(
    preferences: "DatasetDict", seed: int, train_size: int | None = None, test_size: int | None = None
) -> "DatasetDict":
    """Keep at most so many rows of each split, drawn with `seed`; None keeps all.

    Two label sources with the same pairs (`same_pairs`) keep the same ones.

    Raises:
        IfllmError: a size is below 1.
    """
    from datasets import DatasetDict

    drawn = DatasetDict(preferences)
    for split, size in (("train", train_size), ("test", test_size)):
        if size is None:
            continue
        if size < 1:
            raise IfllmError(f"{split}_size is {size}; it must be at least 1, or unset for all rows of the split.")
        # Neighbouring rows come from the same worker, so the first ones would not stand for the split.
        rows = preferences[split].shuffle(seed=seed)
        drawn[split] = rows.select(range(min(size, len(rows))))
    return drawn


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


def _load_config(dataset: str | Path, revision: str | None) -> tuple[dict[str, pl.DataFrame], dict[str, Any]]:
    """The rows of each split, and the files of the Hub they came from, as `datasets` notes them."""
    from datasets import get_dataset_config_names, load_dataset, load_dataset_builder
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
        if is_folder:
            # Not `load_dataset`: its cache gives the old rows of a folder that was labelled again.
            files = load_dataset_builder(str(dataset), CONFIG).config.data_files
            return {str(split): pl.read_parquet(list(paths)) for split, paths in files.items()}, {}
        loaded = load_dataset(str(dataset), CONFIG, revision=revision)
        return {split: _frame(rows) for split, rows in loaded.items()}, _origin(loaded)
    except (DatasetsError, OSError, HFValidationError, pl.exceptions.PolarsError) as error:
        what = "The folder" if is_folder else "There is no such folder here, and as a Hub dataset"
        raise IfllmError(
            f"{what} {dataset} cannot be read: {error}. Give a folder laid out as the Hub repo, or a Hub id such as "
            "ORG/ifllm; for the Hub, check the revision, the network and `hf auth login`."
        ) from error


def _origin(loaded: "DatasetDict") -> dict[str, Any]:
    return {file: sizes for rows in loaded.values() for file, sizes in (rows.info.download_checksums or {}).items()}


def _check_columns(rows: dict[str, pl.DataFrame], dataset: str | Path) -> None:
    for split in SPLITS:
        if split not in rows:
            raise IfllmError(
                f"The {CONFIG} config of {dataset} has no {split} split; it has: {', '.join(rows)}. Both train and "
                "test are needed."
            )
        missing = sorted({*COLUMNS, "label_source", "worker_id"} - set(rows[split].columns))
        if missing:
            raise IfllmError(
                f"The {split} split of the {CONFIG} config of {dataset} lacks the column(s) {', '.join(missing)}. "
                "Build the dataset again."
            )


def _frame(rows: "Dataset") -> pl.DataFrame:
    return pl.DataFrame(rows.to_polars())


def _as_dataset_dict(parts: dict[str, pl.DataFrame], origin: dict[str, Any]) -> "DatasetDict":
    """`COLUMNS` of the parts, with the note of the files they came from."""
    from datasets import Dataset, DatasetDict, Features

    declared = features(CONFIG)
    made = DatasetDict()
    for name, part in parts.items():
        made[name] = Dataset.from_polars(part.select(COLUMNS), features=Features({c: declared[c] for c in COLUMNS}))
        made[name].info.download_checksums = origin
    return made


def _sources_compared(
    stored: pl.DataFrame, label_source: str, same_pairs: bool | Sequence[str], dataset: str | Path
) -> set[str]:
    counts = Counter(stored["label_source"])
    others = same_pairs if not isinstance(same_pairs, bool) else list(counts) if same_pairs else []
    for name in (label_source, *others):
        if name not in counts:
            available = ", ".join(f"{known} ({count} pairs)" for known, count in counts.most_common()) or "none at all"
            raise IfllmError(
                f"No label source {name!r} in the preferences of {dataset}. It has: {available}. Name one of these."
            )
    return {label_source, *others}


def _pairs_of_all(stored: pl.DataFrame, sources: set[str]) -> pl.DataFrame:
    """`question_id` of the pairs that each of the sources has."""
    having = stored.filter(pl.col("label_source").is_in(sources)).group_by("question_id")
    return having.agg(pl.col("label_source").n_unique()).filter(pl.col("label_source") == len(sources))


def _held_out_by(split: Split, rows: pl.DataFrame, dataset: str | Path, revision: str | None) -> pl.DataFrame:
    """The rows of one label source, with other splits."""
    from ifllm_hub.reward.labels import SOURCES, held_out_by, preference_rows, rated_rows, reference_split
    from ifllm_hub.reward.pairs import load_pairs

    every = load_pairs(dataset, revision)
    pairs = reference_split(every) if split == "reference" else held_out_by(every, split)
    if split == "reference" and rows["label_source"][0] == "explicit":
        return rated_rows(pairs)
    places = rows.drop("split").join(
        pairs.rows.select("question_id", "split", "excluded_worker"), on="question_id", maintain_order="left"
    )
    source = rows["label_source"][0]
    if source not in SOURCES:
        return places.drop("excluded_worker")
    return preference_rows(pairs, all_workers=bool(places["excluded_worker"].any()), sources=(source,))


def _check_workers(parts: dict[str, pl.DataFrame], dataset: str | Path) -> None:
    train, test = (set(parts[name]["worker_id"].drop_nulls()) for name in SPLITS)
    if shared := train & test:
        raise IfllmError(
            f"{len(shared)} worker(s) of {dataset} have pairs in both splits (for example {min(shared)!r}), so the "
            "test split would not be held out. Rebuild the dataset; its splits are by worker."
        )


def _check_pairs(rows: pl.DataFrame, where: str) -> None:
    flip = pl.col("flip_prob")
    for is_wrong, what in (
        (
            ~(flip.is_not_nan() & (flip >= 0) & (flip < 0.5)).fill_null(False),
            "a flip_prob that is null or outside [0, 0.5); from 0.5 on, the robust loss is undefined",
        ),
        (pl.col("chosen") == pl.col("rejected"), "the same text as chosen and as rejected"),
    ):
        wrong = rows.filter(is_wrong)
        if not wrong.is_empty():
            raise IfllmError(
                f"{wrong.height} of {rows.height} pairs in {where}, have {what}. First: question_id "
                f"{wrong['question_id'][0]}, flip_prob {wrong['flip_prob'][0]}. Correct or drop them where the labels "
                "are made."
            )
