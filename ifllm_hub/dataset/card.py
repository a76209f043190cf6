"""The dataset card: templates plus what is in the folder -> README.md. Nothing in it is typed by hand."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

from ifllm_hub.dataset.schema import CONFIGS, DEFAULT_CONFIG, SPLITS, features
from ifllm_hub.files import read_json, write_atomically
from ifllm_hub.locate import shipped_folder

_HEAD = {
    "pretty_name": "IFLLM: implicit feedback on LLM answers",
    "language": ["en"],
    "license": "apache-2.0",
    "annotations_creators": ["crowdsourced"],
    "size_categories": ["1K<n<10K"],
    "task_categories": ["text-generation"],
    "tags": [
        "preference",
        "implicit-feedback",
        "mouse-tracking",
        "eye-tracking",
        "dpo",
        "reward-model",
        "arxiv:2606.20482",
    ],
}


def write_card(folder: Path) -> None:
    """Write README.md from the manifest and the Parquet files of a dataset folder; call it again when they change.

    Raises:
        IfllmError: the manifest is missing or the folder cannot be written.
    """
    manifest = read_json(folder / "manifest.json")
    infos = [info for config in CONFIGS if (info := _dataset_info(folder, config))]
    present = [info["config_name"] for info in infos]
    head = {
        **_HEAD,
        "configs": [
            {
                "config_name": config,
                **({"default": True} if config == DEFAULT_CONFIG else {}),
                "data_files": [
                    {"split": split["name"], "path": f"data/{config}/{split['name']}-*.parquet"}
                    for split in info["splits"]
                ],
            }
            for config, info in zip(present, infos, strict=True)
        ],
        "dataset_info": infos,
    }
    body = _template().render(
        manifest=manifest,
        sizes={
            info["config_name"]: {split["name"]: split["num_examples"] for split in info["splits"]} for info in infos
        },
        columns={config: CONFIGS[config] for config in present},
        carets=_caret_table(manifest["carets"]),
    )
    yaml_head = yaml.safe_dump(head, sort_keys=False, allow_unicode=True, width=120)
    write_atomically(folder / "README.md", f"---\n{yaml_head}---\n\n{body}\n")


def _dataset_info(folder: Path, config: str) -> dict[str, Any] | None:
    """None where the config is not there. An empty split is not declared: `load_dataset` would refuse the config."""
    files = {split: folder / "data" / config / f"{split}-00000-of-00001.parquet" for split in SPLITS}
    if not all(path.is_file() for path in files.values()):
        return None
    splits = []
    for split, path in files.items():
        metadata = pq.read_metadata(path)
        size = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
        if metadata.num_rows:
            splits.append({"name": split, "num_bytes": size, "num_examples": metadata.num_rows})
    if not splits:
        return None
    return {
        "config_name": config,
        "features": features(config)._to_yaml_list(),
        "splits": splits,
        "download_size": sum(files[split["name"]].stat().st_size for split in splits),
        "dataset_size": sum(split["num_bytes"] for split in splits),
    }


def _caret_table(carets: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Per schema version: recorded carets, and the share that matched, was repaired, or was taken off the text."""
    versions: dict[str, dict[str, int]] = {}
    for row in carets:
        fates = versions.setdefault(row["schema_version"], {})
        fates[row["fate"]] = fates.get(row["fate"], 0) + row["ticks"]
    return [
        {
            "version": version,
            "carets": (total := sum(fates.values())),
            "share": {k: n / total for k, n in fates.items()},
        }
        for version, fates in sorted(versions.items())
    ]


def _template() -> Any:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(shipped_folder("dataset_card")),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # Markdown, and nothing of it comes from outside the folder
    )
    return environment.get_template("README.md.jinja")
