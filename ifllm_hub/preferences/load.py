"""Preference pairs in TRL's format, from a folder laid out like the Hub repo or from the Hub itself."""

import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import polars as pl

from ifllm_hub.dataset.load import label_sources, load_config
from ifllm_hub.dataset.schema import SPLITS, features, preferences_config
from ifllm_hub.errors import IfllmError
from ifllm_hub.files import write_atomically
from ifllm_hub.preferences.history import History, with_history, with_instruction

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

# What a trainer reads, without worker_id, label_source and the ratings.
COLUMNS = ["question_id", "prompt", "chosen", "rejected", "flip_prob"]
# What an export for other trainers contains.
EXPORTED = ["prompt", "chosen", "rejected", "flip_prob", "label_source", "question_id", "split"]


def load_preferences(
    dataset: str | Path,
    label_source: str = "forest",
    revision: str | None = None,
    *,
    history: History = "none",
    instruction: bool = False,
    rows: pl.DataFrame | None = None,
    same_pairs: bool | Sequence[str] = False,
    constant_flip_prob: float | None = None,
    by_decision_time: bool = False,
) -> "DatasetDict":
    """Read the preference pairs of one label source.

    Args:
        dataset: a folder laid out like the Hub repo (`data/preferences_<label source>/*.parquet`), or a Hub dataset id
            such as `ORG/ifllm`.
        label_source: who or what decided which answer is better.
        revision: branch, tag or commit of a Hub dataset; a folder has none.
        history: what prompts show of the earlier turns; see `with_history`.
        instruction: append to prompts what the study's site appended to the query; see `with_instruction`.
        rows: the rows of that label source with other splits, from `splits.relabel`; by default those stored, in which
            no worker may be in both splits.
        same_pairs: keep only the pairs that all label sources to be compared have: those named, or True for all in the
            dataset.
        constant_flip_prob: a flip probability in [0, 0.5) to use for all pairs instead of their own.
        by_decision_time: give readers' own labels flip probabilities by how long they took; see
            `flips_by_decision_time`.

    Returns:
        `train` and `test`, each with `question_id`, conversational `prompt`, `chosen`, `rejected`, and `flip_prob`, the
        probability in [0, 0.5) that the label is wrong.

    Raises:
        IfllmError: the dataset or the label source does not exist or cannot be read, there is no such history, a split
            is empty, a pair breaks the contract (`flip_prob` null or outside [0, 0.5), chosen equal to rejected), a
            worker is in both stored splits, or decision times are asked for that there are not.

    Examples:
        >>> from ifllm_hub.preferences.load import load_preferences
        >>> pairs = load_preferences("ifllm", "explicit")
        >>> pairs["train"].column_names
        ['question_id', 'prompt', 'chosen', 'rejected', 'flip_prob']
        >>> pairs["train"].num_rows, pairs["test"].num_rows, pairs["train"]["flip_prob"][0]
        (19, 6, 0.0)
    """
    if history not in get_args(History):
        raise IfllmError(f"There is no history {history!r}. Choose one of: {', '.join(get_args(History))}.")
    compared = _sources_compared(dataset, revision, label_source, same_pairs)
    is_stored = rows is None
    if rows is None:
        rows = load_config(dataset, preferences_config(label_source), revision)
    for other in compared:
        same = load_config(dataset, preferences_config(other), revision)
        rows = rows.join(same, on="question_id", how="semi", maintain_order="left")
    if history != "none":
        rows = with_history(rows, dataset, revision, history)
    if instruction:
        rows = with_instruction(rows)
    if by_decision_time:
        from ifllm_hub.preferences.decision_time import flips_by_decision_time

        rows = flips_by_decision_time(rows, label_source, dataset, revision)
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
    if is_stored:
        _check_workers(parts, dataset)
    return _as_dataset_dict(parts)


def stored_rows(dataset: str | Path, label_source: str, revision: str | None = None) -> pl.DataFrame:
    """The rows of one label source as stored, with `split`; only what `load_config` checks is checked.

    Raises:
        IfllmError: the dataset or the label source does not exist or cannot be read.
    """
    _sources_compared(dataset, revision, label_source, False)
    return load_config(dataset, preferences_config(label_source), revision)


def export_preferences(dataset: str | Path, label_source: str, file: Path) -> int:
    """Write the pairs of one label source to a file that other trainers read without this package.

    Rows are in TRL's preference format (conversational `prompt`, `chosen`, `rejected`), and also have `flip_prob`,
    `label_source`, `question_id` and `split`; train comes first.

    Args:
        file: JSON lines (`.jsonl`) or Parquet (`.parquet`), by its suffix.

    Returns:
        The number of pairs.

    Raises:
        IfllmError: see `load_preferences`; or the suffix is another one, or the file cannot be written.

    Examples:
        >>> from pathlib import Path
        >>> from ifllm_hub.preferences.load import export_preferences
        >>> export_preferences("ifllm", "explicit", Path("pairs.jsonl"))
        25
    """
    if file.suffix not in (".jsonl", ".parquet"):
        raise IfllmError(f"{file}: pairs are written as .jsonl or .parquet. Choose one of these suffixes.")
    parts = load_preferences(dataset, label_source)
    rows = pl.concat(
        [_frame(parts[name]).with_columns(split=pl.lit(name), label_source=pl.lit(label_source)) for name in SPLITS]
    ).select(EXPORTED)
    content = io.BytesIO()
    if file.suffix == ".jsonl":
        rows.write_ndjson(content)
    else:
        rows.write_parquet(content)
    write_atomically(file, content.getvalue())
    return rows.height


def exported_rows(rows: pl.DataFrame, label_source: str, where: str) -> pl.DataFrame:
    """Some stored rows of a label source as `export_preferences` writes them.

    Raises:
        IfllmError: a pair breaks the contract; see `load_preferences`.
    """
    _check_pairs(rows, f"{where}, label source {label_source!r}")
    return rows.with_columns(label_source=pl.lit(label_source)).select(EXPORTED)


def subsample(
    preferences: "DatasetDict", seed: int, train_size: int | None = None, test_size: int | None = None
) -> "DatasetDict":
    """Keep at most this many rows of each split, drawn with `seed`; None keeps all.

    Two label sources with the same pairs (`same_pairs`) keep the same pairs.

    Raises:
        IfllmError: a size is below 1.

    Examples:
        >>> from ifllm_hub.preferences.load import load_preferences, subsample
        >>> subsample(load_preferences("ifllm", "explicit"), seed=0, train_size=8)["train"].num_rows
        8
    """
    from datasets import DatasetDict

    drawn = DatasetDict(preferences)
    for split, size in (("train", train_size), ("test", test_size)):
        if size is None:
            continue
        if size < 1:
            raise IfllmError(f"{split}_size is {size}; it must be at least 1, or unset for all rows of the split.")
        # Neighboring rows come from the same worker, so the first ones would not represent the split.
        rows = preferences[split].shuffle(seed=seed)
        drawn[split] = rows.select(range(min(size, len(rows))))
    return drawn


def fingerprint(rows: "Dataset") -> str:
    """SHA-256 (hexadecimal) of the rows in order: the same pairs give the same value wherever they were read from."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row, sort_keys=True).encode())
    return digest.hexdigest()


def _frame(rows: "Dataset") -> pl.DataFrame:
    return pl.DataFrame(rows.to_polars())


def _as_dataset_dict(parts: dict[str, pl.DataFrame]) -> "DatasetDict":
    """`COLUMNS` of the parts."""
    from datasets import Dataset, DatasetDict, Features

    declared = features(preferences_config("explicit"))
    wanted = Features({name: declared[name] for name in COLUMNS})
    return DatasetDict(
        {name: Dataset.from_polars(part.select(COLUMNS), features=wanted) for name, part in parts.items()}
    )


def _sources_compared(
    dataset: str | Path, revision: str | None, label_source: str, same_pairs: bool | Sequence[str]
) -> list[str]:
    """The label sources that must have a pair besides `label_source`; raises if one of them does not exist."""
    there = label_sources(dataset, revision)
    others = same_pairs if not isinstance(same_pairs, bool) else there if same_pairs else []
    for name in (label_source, *others):
        if name not in there:
            raise IfllmError(
                f"No label source {name!r} in {dataset}. It has: {', '.join(there) or 'none at all'}. Name one of "
                "these, or write its pairs with `ifllm label`."
            )
    return [name for name in dict.fromkeys(others) if name != label_source]


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
        (pl.any_horizontal(pl.col("prompt", "chosen", "rejected").list.len() == 0), "a prompt or answer without text"),
    ):
        wrong = rows.filter(is_wrong)
        if not wrong.is_empty():
            raise IfllmError(
                f"{wrong.height} of {rows.height} pairs in {where}, have {what}. First: question_id "
                f"{wrong['question_id'][0]}, flip_prob {wrong['flip_prob'][0]}. Correct or drop them where the labels "
                "are made."
            )
