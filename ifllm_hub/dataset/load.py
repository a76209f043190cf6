"""A config of the dataset as a Polars frame, from a folder or from the Hub."""

from pathlib import Path

import httpx2
import polars as pl

from ifllm_hub.dataset.schema import CONFIGS, SPLITS, parquet_path
from ifllm_hub.errors import IfllmError
from ifllm_hub.hub import clear_hub_errors


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
    else:
        _check_id(str(dataset))
        frames = _from_hub(str(dataset), config, revision)
    table = pl.concat([frame.with_columns(split=pl.lit(split)) for split, frame in frames.items()])
    absent = [column.name for column in CONFIGS[config] if column.name not in table.columns]
    if absent:
        raise IfllmError(f"{dataset}: config '{config}' lacks the column {absent[0]}. Build it with this version.")
    return table


def commit_on_hub(repo_id: str, revision: str | None = None) -> str:
    """The commit that a branch or tag of a Hub dataset stands at; None means `main`.

    Raises:
        IfllmError: there is no such dataset, or the Hub cannot be reached.
    """
    from huggingface_hub import HfApi

    _check_id(repo_id)
    with clear_hub_errors(repo_id):
        return str(HfApi().dataset_info(repo_id, revision=revision).sha)


def _check_id(repo_id: str) -> None:
    if Path(repo_id).exists() or repo_id.count("/") != 1:
        raise IfllmError(f"{repo_id}: no such dataset folder, and not a Hub repo id (owner/name).")


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
