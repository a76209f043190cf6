"""Which files of a dataset folder go to the Hub (known names, no links), and whether readers must ask for access."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ifllm_hub.dataset.contents import CONTENTS, Contents
from ifllm_hub.dataset.manifest import MANIFEST, OWN_COLUMNS, TIERS, Manifest
from ifllm_hub.errors import IfllmError
from ifllm_hub.hub import Kind, sort_out

# This includes a collector's exports.
DATASET = Kind(
    "dataset",
    "dataset",
    files=(
        *("README.md", "datasheet.md", "features.md", "croissant.json", "privacy_report.json", "quarantine.csv"),
        *(MANIFEST, CONTENTS, OWN_COLUMNS, "figures/*.png", "data/*/*.parquet"),
        *("trl/kto*.jsonl", "trl/preferences_*.jsonl"),
    ),
    sign=MANIFEST,
    is_ours=lambda manifest: isinstance(manifest, dict) and "ifllm_hub" in manifest,
    insist="--force",
)


def sendable(folder: Path, contents: Contents) -> tuple[dict[str, Path], tuple[str, ...]]:
    """The files of a dataset folder to send, by path in the repo, and the names of those left out.

    Args:
        contents: of the folder, already checked against its files. Other Parquet files are sent only if they are empty.

    Raises:
        IfllmError: a file that the dataset needs is a link.
    """
    files, left_out = sort_out(folder, DATASET)
    checked = {
        path.relative_to(folder).as_posix()
        for config, entry in contents.items()
        for split in entry["rows"]
        for path in folder.glob(f"data/{config}/{split}-*.parquet")
    }
    linked = sorted({"README.md", MANIFEST, CONTENTS, *checked} - files.keys())
    if linked:
        raise IfllmError(
            f"{folder / linked[0]}: is a link, or lies in a folder that is one, and links are not followed. Put the "
            "file itself there."
        )
    stray = {name for name in files if name.startswith("data/") and name not in checked and not _is_empty(files[name])}
    return {name: path for name, path in files.items() if name not in stray}, tuple(sorted({*left_out, *stray}))


def is_gated(folder: Path, manifest: Manifest) -> bool:
    """Whether readers must ask for access, because there are trajectories.

    Args:
        manifest: the folder's.

    Raises:
        IfllmError: the folder has a config that its tier does not have.
    """
    tier = TIERS[manifest["tier"]]
    others = sorted({config for configs in TIERS.values() for config in configs} - set(tier))
    for config in others:
        if (folder / "data" / config).exists():
            raise IfllmError(
                f"{folder}: {MANIFEST} gives the tier {manifest['tier']!r}, which has no {config}, but data/{config} "
                "exists. Build it again in the tier you want: `ifllm build --tier ...`."
            )
    return "trajectories" in tier


def _is_empty(path: Path) -> bool:
    try:
        return bool(pq.read_metadata(path).num_rows == 0)
    except (pa.ArrowException, OSError):
        return False
