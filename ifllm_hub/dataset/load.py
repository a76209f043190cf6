"""A config of the dataset as a Polars frame, from a folder or the Hub: the only reader, which trusts no file."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ifllm_hub.dataset.layout import Shard, parquet_path, parquet_paths
from ifllm_hub.dataset.meanings import COLLECTED, IMPORTED
from ifllm_hub.dataset.schema import SPLITS, Column, columns, label_source_of, present_configs
from ifllm_hub.errors import IfllmError, first_line
from ifllm_hub.features.viewport import LISTS
from ifllm_hub.hub import clear_hub_errors

# Limits in bytes of an unpacked file and of an entry of its footer. A few MB of Parquet can unpack to any size.
MOST_UNPACKED, MOST_METADATA = 4 << 30, 16 << 20
# Rows that are unpacked before their size is checked, and how many where a row is a list of ticks.
_BATCH, _BATCH_OF_TICKS = 4_096, 100
# Columns that may have no nulls, in configs that have them. Labels from elsewhere may come without worker ids.
_KEYS = ("question_id", "worker_id", "conversation_id", "fold_question", "fold_conversation", "fold_worker", "mode")
_TEXTS = ("query", "response", "response_left", "response_right")
_KEYS_OF_PREFERENCES = ("question_id", "prompt", "chosen", "rejected")


def load_config(
    dataset: str | Path, config: str, revision: str | None = None, question_ids: Collection[int] | None = None
) -> pl.DataFrame:
    """Both splits of a config, with a `split` column, train first.

    Args:
        dataset: a folder that `build_dataset` wrote, or a Hub repo id.
        revision: branch, tag or commit of a Hub repo.
        question_ids: only the rows of these questions; the others are never all in memory.

    Raises:
        IfllmError: there is no such dataset or config, a folder is asked for a revision, or a file cannot be read: it
            is damaged, unpacks to more than `MOST_UNPACKED`, lacks a column of the schema or has it with another type,
            has a value that the schema does not allow, a number that is not finite, no key, or a repeated question.

    Examples:
        >>> from ifllm_hub.dataset.load import load_config
        >>> pairs = load_config("ifllm", "pairwise")
        >>> pairs.group_by("split").len().sort("split").rows()
        [('test', 7), ('train', 21)]
    """
    names = [column.name for column in columns(config)]  # refuses what is no config, before it becomes a path
    asked = None if question_ids is None else pa.array(list(question_ids), pa.int64())
    none = pa.schema([(column.name, column.type) for column in columns(config)]).empty_table()
    frames, sizes = [pl.DataFrame(none).with_columns(split=pl.lit(SPLITS[0]))], Counter[str]()
    for batch, split, where in _batches(dataset, config, names, revision):
        if asked is not None:
            batch = batch.filter(pc.is_in(batch["question_id"], value_set=asked))
        sizes[where] += batch.nbytes
        _check_size(sizes[where], where)
        frames.append(_frame(batch, split))
    rows = pl.concat(frames)
    twice = rows.filter(pl.col("question_id").is_duplicated())["question_id"]
    if len(twice):
        raise IfllmError(
            f"{dataset}: {twice.n_unique()} questions have more than one row in config '{config}' (the first: "
            f"{twice[0]}). Build or download the dataset again."
        )
    return rows


def scan_config(
    dataset: str | Path,
    config: str,
    only: Sequence[str] | None = None,
    revision: str | None = None,
    shard: Shard | None = None,
) -> Iterator[pl.DataFrame]:
    """The rows of a config in the order of `load_config`, some at a time: for one column of many, or to write as read.

    Args:
        dataset: see `load_config`, also for `revision`.
        only: the columns to read; None: all.
        shard: only this one, of a folder.

    Yields:
        Frames of at most 4,096 rows (100 of `trajectories`) with the columns and `split`, each checked as it is read.

    Raises:
        IfllmError: see `load_config`; but questions that have two rows are not found.

    Examples:
        >>> from ifllm_hub.dataset.load import scan_config
        >>> sum(rows["t"].list.len().sum() for rows in scan_config("ifllm", "trajectories", ["t"]))
        4444
    """
    names = [column.name for column in columns(config)]
    for batch, split, _ in _batches(dataset, config, names if only is None else list(only), revision, shard):
        yield _frame(batch, split)


def by_people(frames: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """The same rows, with all of a worker in one frame; a worker's rows must follow one another, as in our files."""
    held: list[pl.DataFrame] = []
    for frame in frames:
        if held and frame.height and held[-1]["worker_id"][-1] != frame["worker_id"][0]:
            yield pl.concat(held)
            held = []
        if frame.height:
            last = frame["worker_id"].rle_id()
            start = int((last < last[-1]).sum())
            if start:
                yield pl.concat([*held, frame[:start]])
                held = []
            held.append(frame[start:])
    if held:
        yield pl.concat(held)


def scan_file(
    file: Path | BinaryIO, config: str, where: str, only: Sequence[str] | None = None
) -> Iterator[pl.DataFrame]:
    """The rows of one file of a config, some at a time and each checked, as in `scan_config`, but without `split`.

    Args:
        file: to read, or open to read.
        where: its name, for errors.
        only: the columns to read, which may be others than the schema's; None: all of the schema.

    Raises:
        IfllmError: see `load_config`; but questions that have two rows are not found.
    """
    names = [column.name for column in columns(config)] if only is None else list(only)
    with _opened(file, config, where, names) as opened:
        for batch in _checked_batches(opened, config, names, where):
            yield pl.DataFrame(pl.from_arrow(batch, rechunk=False))


def regrouped(parts: Iterable[pl.DataFrame], size: Callable[[pl.DataFrame], int], least: int) -> Iterator[pl.DataFrame]:
    """The same rows, in frames that have at least this size, but for the last."""
    held: list[pl.DataFrame] = []
    reached = 0
    for rows in parts:
        held.append(rows)
        reached += size(rows)
        if reached >= least:
            yield pl.concat(held)
            held, reached = [], 0
    if held:
        yield pl.concat(held)


def label_sources(dataset: str | Path, revision: str | None = None) -> list[str]:
    """The label sources for which a dataset folder or Hub repo has preference pairs.

    Raises:
        IfllmError: there is no such dataset, or the Hub cannot be reached.

    Examples:
        >>> from ifllm_hub.dataset.load import label_sources
        >>> label_sources("ifllm")
        ['explicit', 'forest', 'forest_mouse', 'forest_gaze', 'longer', 'shuffled']
    """
    folder = _folder(dataset, revision)
    names = present_configs(folder) if folder else _names_on_hub(str(dataset), revision)
    return [source for name in names if (source := label_source_of(name))]


def footer(path: Path, config: str) -> pq.FileMetaData:
    """The footer of a config's file: its rows, and the sizes of its columns.

    Raises:
        IfllmError: the file is missing, is not Parquet, or unpacks to more than `MOST_UNPACKED`.
    """
    with _opened(path, config, str(path), names=()) as file:
        return file.metadata


def commit_on_hub(repo_id: str, revision: str | None = None) -> str:
    """The commit that a branch or tag of a Hub dataset points to; None means `main`.

    Raises:
        IfllmError: there is no such dataset, or the Hub cannot be reached.
    """
    from huggingface_hub import HfApi

    _check_id(repo_id)
    with clear_hub_errors(repo_id):
        return str(HfApi().dataset_info(repo_id, revision=revision).sha)


def _folder(dataset: str | Path, revision: str | None) -> Path | None:
    """The dataset folder, or None where `dataset` is a Hub repo id."""
    folder = Path(dataset)
    if not folder.is_dir():
        _check_id(dataset)
        return None
    if revision is not None:
        raise IfllmError(f"{dataset} is a folder and has no revision {revision!r}. Leave the revision out.")
    return folder


def _check_id(repo_id: str | Path) -> None:
    if isinstance(repo_id, Path) or Path(repo_id).exists() or repo_id.count("/") != 1:
        raise IfllmError(f"{repo_id}: no such dataset folder, and not a Hub repo id (owner/name).")


def _batches(
    dataset: str | Path, config: str, names: list[str], revision: str | None, shard: Shard | None = None
) -> Iterator[tuple[pa.RecordBatch, str, str]]:
    """Checked batches of these columns, each with its split and where it is from."""
    folder = _folder(dataset, revision)
    if folder is None:
        yield from _from_hub(str(dataset), config, names, revision)
        return
    for split in SPLITS:
        paths = parquet_paths(folder, config, split)
        for path in paths if shard is None else [parquet_path(folder, config, split, shard)]:
            with _opened(path, config, str(path), names) as file:
                for batch in _checked_batches(file, config, names, str(path)):
                    yield batch, split, str(path)


def _batch_size(config: str) -> int:
    return min(_BATCH, _BATCH_OF_TICKS) if config == "trajectories" else _BATCH


def _checked_batches(file: pq.ParquetFile, config: str, names: list[str], where: str) -> Iterator[pa.RecordBatch]:
    batches = file.iter_batches(_batch_size(config), columns=names)
    return _checked(batches, names, file.metadata.num_rows, config, where)


def _frame(batch: pa.RecordBatch, split: str) -> pl.DataFrame:
    return pl.DataFrame(pl.from_arrow(batch, rechunk=False)).with_columns(split=pl.lit(split))


@contextmanager
def _opened(
    path: Path | BinaryIO, config: str, where: str, names: Sequence[str] | None = None
) -> Iterator[pq.ParquetFile]:
    """Open a file after checking its footer; Arrow's errors about damage become clear ones.

    Args:
        names: the columns that it must have; None: all of the config.
    """
    if isinstance(path, Path) and not path.is_file():
        raise IfllmError(f"{where}: missing. Write the config '{config}' first (ifllm build, ifllm label).")
    try:
        with pq.ParquetFile(path, pre_buffer=False, thrift_string_size_limit=MOST_METADATA) as file:
            _check_columns(file.schema_arrow, config, where, names)
            groups = (file.metadata.row_group(number) for number in range(file.metadata.num_row_groups))
            chunks = (group.column(number) for group in groups for number in range(group.num_columns))
            # Nulls and repeated values take almost no space in the file, but about 8 bytes each in memory.
            _check_size(sum(max(chunk.total_uncompressed_size, 8 * chunk.num_values) for chunk in chunks), where)
            yield file
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise IfllmError(
            f"{where}: is not readable Parquet ({first_line(error)}). Build or download the dataset again."
        ) from error


def _check_columns(schema: pa.Schema, config: str, where: str, names: Sequence[str] | None = None) -> None:
    for column in columns(config):
        if names is not None and column.name not in names:
            continue
        places = schema.get_all_field_indices(column.name)
        if len(places) != 1:
            what = "lacks" if not places else "has more than once"
            raise IfllmError(f"{where}: config '{config}' {what} the column {column.name}. Build it with this version.")
        found = schema.field(places[0]).type
        if not _is_type(found, column.type):
            raise IfllmError(
                f"{where}: the column {column.name} of config '{config}' is {str(found)[:80]!a}, not "
                f"{str(column.type)!a}. Build it with this version."
            )


def _is_type(found: pa.DataType, declared: pa.DataType) -> bool:
    """Whether types agree, apart from wider offsets or other names of list entries, as Polars writes them."""
    types = pa.types
    if types.is_string(declared):
        return types.is_string(found) or types.is_large_string(found) or types.is_string_view(found)
    if types.is_list(declared):
        return _is_list(found) and _is_type(found.value_type, declared.value_type)
    if types.is_struct(declared):
        pairs = zip(found, declared, strict=False) if types.is_struct(found) else ()
        same = sum(part.name == other.name and _is_type(part.type, other.type) for part, other in pairs)
        return same == declared.num_fields == found.num_fields
    return bool(found == declared)


def _check_size(size: int, where: str) -> None:
    if size > MOST_UNPACKED:
        raise IfllmError(
            f"{where}: unpacks to {size / 2**30:.1f} GiB, but at most {MOST_UNPACKED >> 30} are read of a file. It "
            "is damaged, or too large for this version."
        )


def _checked(
    batches: Iterable[pa.RecordBatch], names: list[str], rows: int, config: str, where: str
) -> Iterator[pa.RecordBatch]:
    """The batches with these columns, each checked before the next is read.

    Args:
        rows: how many the file declares.
    """
    seen = 0
    source = label_source_of(config)
    filled = set(_KEYS_OF_PREFERENCES if source else (*_KEYS, *_TEXTS)).intersection(names)
    for batch in batches:
        batch = batch.select(names)
        batch.validate(full=True)
        seen += batch.num_rows
        for name in sorted(filled):
            if batch[name].null_count:
                raise IfllmError(f"{where}: has rows without {name}. Build or download the dataset again.")
        for column in columns(config):
            if column.name not in names:
                continue
            others = (declared[column.name].values for declared in (COLLECTED, IMPORTED) if column.name in declared)
            allowed = column.values and sum(others, column.values)
            if source and column.name == "label_source":
                allowed = (source,)
            if problem := _problem(batch[column.name], column, allowed):
                raise IfllmError(f"{where}: {column.name} has {problem}. Build or download the dataset again.")
        _check_ticks(batch, where)
        yield batch
    if seen != rows:
        raise IfllmError(f"{where}: has {seen} rows but declares {rows}. Build or download the dataset again.")


def _problem(values: pa.Array, column: Column, allowed: tuple[str, ...]) -> str | None:
    """Which values of a column (or of the entries of its lists) are not allowed, or None."""
    if _is_list(values.type):
        values = values.flatten()
    if pa.types.is_floating(values.type):
        return None if pc.all(pc.is_finite(values)).as_py() in (True, None) else "values that are not finite"
    if pa.types.is_integer(values.type) and not column.name.endswith("_id"):  # an id is a name and may be any number
        ends = pc.min_max(values)
        least, most = ends["min"].as_py(), ends["max"].as_py()
        if least is not None and column.low is not None and least < column.low:
            return f"the value {least}, but the smallest allowed is {column.low:g}"
        if most is not None and column.high is not None and most > column.high:
            return f"the value {most}, but the largest allowed is {column.high:g}"
    elif allowed:
        others = set(pc.unique(values).to_pylist()).difference(allowed, {None})
        if others:
            return f"the value {min(others)[:80]!a}, but allowed are only {', '.join(map(ascii, allowed))}"
    return None


def _check_ticks(batch: pa.RecordBatch, where: str) -> None:
    """Check that the lists of ticks have the same length within a row, and so have those of the viewport."""
    lists = [
        field.name for field in batch.schema if _is_list(field.type) and not pa.types.is_nested(field.type.value_type)
    ]
    seen = [name for name in lists if name in LISTS]
    for alike in ([name for name in lists if name not in seen], seen):
        for name in alike[1:]:
            if not pc.list_value_length(batch[name]).equals(pc.list_value_length(batch[alike[0]])):
                raise IfllmError(
                    f"{where}: the lists of {name} and {alike[0]} differ in length. "
                    "Build or download the dataset again."
                )


def _is_list(type_: pa.DataType) -> bool:
    return bool(pa.types.is_list(type_) or pa.types.is_large_list(type_))


def _names_on_hub(repo_id: str, revision: str | None) -> list[str]:
    from datasets import get_dataset_config_names
    from datasets.exceptions import DatasetsError
    from huggingface_hub.utils import httpx

    try:
        return list(get_dataset_config_names(repo_id, revision=revision))
    except (httpx.HTTPError, OSError, ValueError, DatasetsError) as error:
        raise _not_from_hub(repo_id, "its configs cannot be listed", error) from error


def _from_hub(
    repo_id: str, config: str, names: list[str], revision: str | None
) -> Iterator[tuple[pa.RecordBatch, str, str]]:
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError
    from huggingface_hub.utils import httpx

    splits = []
    try:
        loaded = load_dataset(repo_id, config, revision=revision)
        splits = [split for split in SPLITS if split in loaded]
        for split in splits:
            table, where = loaded[split].data.table, f"{repo_id}, {split}"
            _check_columns(table.schema, config, where)
            batches = table.select(names).to_batches(_batch_size(config))
            for batch in _checked(batches, names, table.num_rows, config, where):
                yield batch, split, where
    except (httpx.HTTPError, OSError, ValueError, DatasetsError, pa.ArrowException) as error:
        raise _not_from_hub(repo_id, f"config '{config}' cannot be loaded", error) from error
    if not splits:
        raise IfllmError(f"{repo_id}: config '{config}' has neither a train nor a test split. Check the repo id.")


def _not_from_hub(repo_id: str, what: str, error: Exception) -> IfllmError:
    return IfllmError(
        f"{repo_id}: {what} from the Hub ({first_line(error)}). Check the repo id, the revision, the network and `hf "
        "auth login`, or give a dataset folder."
    )
