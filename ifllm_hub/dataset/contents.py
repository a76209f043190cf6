"""contents.json: the rows of each split and the columns of each config, as in the folder's Parquet files.

Not in the card's YAML: `datasets` reads the types from the files themselves, and would require every `load_dataset` to
yield the row counts given there, even one that filters.
"""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from ifllm_hub.dataset.layout import parquet_paths
from ifllm_hub.dataset.load import footer
from ifllm_hub.dataset.manifest import ByMode
from ifllm_hub.dataset.schema import DEFAULT_CONFIG, SPLITS, present_configs, type_name
from ifllm_hub.errors import IfllmError
from ifllm_hub.terms import MODES

CONTENTS = "contents.json"

# config -> "rows": split -> number, "columns": name -> type. Splits without rows are left out.
Contents = dict[str, dict[str, dict[str, Any]]]


def contents_of(folder: Path) -> Contents:
    """What a folder holds, according to the footers of its Parquet files.

    An empty split is left out, because `load_dataset` would refuse the whole config; so is a config without rows.

    Raises:
        IfllmError: see `footer`.
    """
    found: Contents = {}
    for config in present_configs(folder):
        footers = {split: [footer(path, config) for path in parquet_paths(folder, config, split)] for split in SPLITS}
        rows = {split: sum(file.num_rows for file in files) for split, files in footers.items()}
        if any(rows.values()):
            found[config] = {
                "rows": {split: number for split, number in rows.items() if number},
                "columns": types_of(footers[SPLITS[0]][0].schema.to_arrow_schema()),
            }
    return found


def check_rows(folder: Path, questions: ByMode) -> None:
    """Compare the files of a new folder with what was counted as they were written.

    Raises:
        IfllmError: they differ.
    """
    contents = contents_of(folder)
    counted: dict[str, int] = {mode: questions[mode] for mode in MODES}
    if (folder / "data" / "signals").is_dir():
        counted["signals"] = sum(counted.values())
    for config, number in counted.items():
        rows = sum(contents[config]["rows"].values()) if config in contents else 0
        if rows != number:
            raise IfllmError(
                f"{folder}: has {rows} rows of {config}, but {number} were counted. Nothing was written; this is a "
                "fault of ifllm_hub, please report it."
            )


def types_of(schema: pa.Schema) -> dict[str, str]:
    """Names and types of the columns, as `datasets` names them."""
    return {field.name: type_name(field.type) for field in schema}


def read_contents(path: Path, where: str) -> Contents:
    """The content of a `contents.json`.

    Args:
        where: what an error calls the file.

    Raises:
        IfllmError: it is missing, or not what this package writes.
    """
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
        sound = all(
            entry.keys() == {"rows", "columns"}
            and all(split in SPLITS and type(rows) is int and rows > 0 for split, rows in entry["rows"].items())
            and all(isinstance(type_, str) for type_ in entry["columns"].values())
            for entry in read.values()
        )
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise IfllmError(f"{where}: missing or damaged ({error}). Build the dataset again.") from error
    if not sound:
        raise IfllmError(f"{where}: damaged: it lacks the rows and columns of configs. Build the dataset again.")
    return dict(read)


def card_configs(contents: Contents) -> list[dict[str, Any]]:
    """The entry `configs` of the card's YAML header, by which `datasets` finds the files."""
    return [
        {
            "config_name": config,
            **({"default": True} if config == DEFAULT_CONFIG else {}),
            "data_files": [{"split": split, "path": f"data/{config}/{split}-*.parquet"} for split in entry["rows"]],
        }
        for config, entry in contents.items()
    ]
