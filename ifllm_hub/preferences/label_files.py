"""Labels by somebody else's model or judge, from a file that must have been made for the dataset."""

import codecs
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from ifllm_hub.errors import IfllmError, first_line
from ifllm_hub.files import read_json
from ifllm_hub.reward.protocol.pairs import Pairs

# The optional column that says which data was labeled: `release_sha256` of the dataset's manifest.json.
DIGEST = "release_sha256"


# Readers get the content, not the path, in which Polars would take a `[` or `*` for a pattern.
def _read_parquet(content: bytes) -> pl.DataFrame:
    return pl.DataFrame(pl.from_arrow(pq.read_table(pa.BufferReader(content))))


def _read_csv(content: bytes) -> pl.DataFrame:
    return pl.read_csv(content, infer_schema_length=None)


def _read_jsonl(content: bytes) -> pl.DataFrame:
    return pl.read_ndjson(content.removeprefix(codecs.BOM_UTF8), infer_schema_length=None)


_READERS: dict[str, Callable[[bytes], pl.DataFrame]] = {
    ".parquet": _read_parquet,
    ".csv": _read_csv,
    ".jsonl": _read_jsonl,
}


def check_name(name: str, taken: Iterable[str]) -> None:
    """Refuse a label source that is not a lower-case identifier, or is one of the package's own.

    Raises:
        IfllmError: the name is not allowed.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name in taken:
        raise IfllmError(
            f"Labels cannot be named {name!r}. Choose lower-case letters, digits and underscores, but none of the "
            f"package's own label sources: {', '.join(taken)}."
        )


def read_labels(file: Path, dataset: Path, pairs: Pairs) -> pl.DataFrame:
    """Read somebody else's labels of a dataset.

    Args:
        file: Parquet, CSV or JSON lines with the columns `question_id`, `probability` (P(left answer preferred), 0 to
            1) and, if its maker recorded it, `release_sha256` of the dataset's `manifest.json`. It need not label all
            pairs. Nothing here can check that the model had not seen the pairs it labels; its maker must ensure that.
        dataset: the dataset folder.
        pairs: all pairwise questions of the dataset.

    Returns:
        `question_id` (Int64), `probability` (Float64).

    Raises:
        IfllmError: the file cannot be read, breaks this contract, or was made for other data.
    """
    table = _read(file)
    _check_digest(table, file, dataset)
    unknown = table.join(pairs.rows, on="question_id", how="anti")["question_id"]
    if len(unknown):
        raise IfllmError(
            f"{file}: {len(unknown)} of {table.height} labels have question ids that are not pairwise questions of "
            f"{dataset} (the first: {unknown[0]}). Label this revision of the dataset."
        )
    return table.select("question_id", "probability")


def _read(file: Path) -> pl.DataFrame:
    if file.suffix not in _READERS:
        raise IfllmError(f"{file}: labels are read from {', '.join(_READERS)}. Convert the file to one of these.")
    try:
        table = _READERS[file.suffix](file.read_bytes())
    except (OSError, pl.exceptions.PolarsError, pa.ArrowException) as error:
        raise IfllmError(f"{file}: cannot be read ({first_line(error)}). Write it again.") from error
    missing = [column for column in ("question_id", "probability") if column not in table.columns]
    if missing or table.is_empty():
        what = f"lacks the column(s) {', '.join(missing)}" if missing else "has no labels"
        raise IfllmError(f"{file}: {what}. A label is a question_id and a probability: that left is preferred.")
    ids, p = table["question_id"], table["probability"]
    if not ids.dtype.is_integer() or not p.dtype.is_numeric():
        raise IfllmError(
            f"{file}: question_id is {ids.dtype} and probability {p.dtype}; they must be integers and numbers. Convert "
            "the columns."
        )
    table = table.with_columns(ids.cast(pl.Int64), p.cast(pl.Float64))
    wrong = table.filter(~pl.col("probability").is_between(0, 1).fill_null(False) | pl.col("question_id").is_null())
    if not wrong.is_empty():
        raise IfllmError(
            f"{file}: {wrong.height} of {table.height} labels have no question_id, or a probability that is missing or "
            f"outside [0, 1] (the first: question_id {wrong['question_id'][0]}, probability "
            f"{wrong['probability'][0]}). Correct or drop them."
        )
    twice = table.filter(pl.col("question_id").is_duplicated())["question_id"]
    if len(twice):
        raise IfllmError(f"{file}: question_id {twice[0]} is labeled more than once. Keep one label a question.")
    return table


def _check_digest(table: pl.DataFrame, file: Path, dataset: Path) -> None:
    if DIGEST not in table.columns:
        return
    expected = read_json(dataset / "manifest.json").get(DIGEST)  # collected data has none
    others = table.filter(pl.col(DIGEST).ne_missing(pl.lit(expected)))[DIGEST]
    if len(others):
        raise IfllmError(
            f"{file}: was made for a dataset with {DIGEST} {others[0]}, but {dataset} has {expected}. Label "
            "this dataset."
        )
