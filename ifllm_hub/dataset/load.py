"""A config of the dataset as a Polars frame, from a folder or from the Hub."""

from pathlib import Path

import httpx2
import polars as pl

from ifllm_hub.dataset.schema import CONFIGS, SPLITS, parquet_path
from ifllm_hub.errors import IfllmError


def load_config(dataset: str | Path, config: str, revision: str | None = None) -> pl.DataFrame:
    """Both splits of a config, with a `split` column, train first.

    Args:
        dataset: a folder that `build_dataset` wrote, or a Hub repo id.
        revision: branch, tag or commit of a Hub repo.

    Raises:
        IfllmError: there is no such dataset or config, it cannot be read, or it lacks a column of the schema.
    """
    folder = Path(dataset)
    if folder.is_dir():
        paths = {split: parquet_path(folder, config, split) for split in SPLITS}
        missing = [path for path in paths.values() if not path.is_file()]
        if missing:
            raise IfllmError(f"{missing[0]}: not there. Write the config '{config}' first (ifllm build, ifllm label).")
        frames = {split: _read(path) for split, path in paths.items()}
    elif folder.exists() or str(dataset).count("/") != 1:
        raise IfllmError(f"{dataset}: no such dataset folder, and not a Hub repo id (owner/name).")
    else:
        frames = _from_hub(str(dataset), config, revision)
    table = pl.concat([frame.with_columns(split=pl.lit(split)) for split, frame in frames.items()])
    absent = [column.name for column in CONFIGS[config] if column.name not in table.columns]
    if absent:
        raise IfllmError(f"{dataset}: config '{config}' lacks the column {absent[0]}. Build it with this version.")
    return table


def _read(path: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise IfllmError(f"{path}: is not readable Parquet ({error}). Build or download the dataset again.") from error


def _from_hub(repo_id: str, config: str, revision: str | None) -> dict[str, pl.DataFrame]:
    from datasets import load_dataset

    try:
        loaded = load_dataset(repo_id, config, revision=revision)
    except (httpx2.HTTPError, OSError, ValueError) as error:  # no network, no such repo; no such config
        raise IfllmError(
            f"{repo_id}: config '{config}' cannot be loaded from the Hub ({error}). Check the repo id, the revision "
            "and the network, or give a dataset folder."
        ) from error
    return {split: pl.DataFrame(loaded[split].data.table) for split in SPLITS if split in loaded}
