"""Which file of a config a person's rows are in: all of a person's rows lie in one shard, the same in every config.

So whatever looks at one person at a time (centering, labels, withdrawal) needs one shard at a time, and no shuffle.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ifllm_hub.errors import IfllmError
from ifllm_hub.terms import MODES

_SHARD = re.compile(r"-(\d{5,})-of-(\d{5,})\.parquet")


@dataclass(frozen=True)
class Shard:
    """One of the shards of a dataset, from 0: a file a config and split."""

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number:05d}-of-{self.of:05d}"

    def has(self, worker_id: str) -> bool:
        """Whether a worker's rows are in it."""
        return bucket_of(worker_id, self.of) == self.number


# All of a dataset.
WHOLE = Shard(0, 1)


def bucket_of(worker_id: str, buckets: int) -> int:
    """The shard, from 0, of all rows of a worker, by the sha256 of the id.

    Examples:
        >>> from ifllm_hub.dataset.layout import bucket_of
        >>> [bucket_of(worker, 4) for worker in ("ada", "bo", "cy")]
        [2, 3, 2]
    """
    return int.from_bytes(hashlib.sha256(worker_id.encode()).digest()[:8], "big") % buckets


def shard_name(split: str, shard: Shard = WHOLE) -> str:
    """The Parquet file of a shard of a split, in the folder of its config: as `datasets` names them."""
    return f"{split}-{shard}.parquet"


def parquet_path(folder: Path, config: str, split: str, shard: Shard = WHOLE) -> Path:
    """The file of a shard of a config's split, in a dataset folder."""
    return folder / "data" / config / shard_name(split, shard)


def parquet_names(folder: Path, config: str, split: str) -> list[str]:
    """The names of the files of a config's split, in order."""
    return names_of(split, (path.name for path in (folder / "data" / config).glob("*.parquet") if path.is_file()))


def shards_of(folder: Path) -> list[Shard]:
    """The shards of a dataset folder: those of its questions."""
    names = parquet_names(folder, MODES[0], "train")
    return [Shard(number, len(names)) for number in range(len(names))] or [WHOLE]


def names_of(split: str, names: Iterable[str]) -> list[str]:
    """The names of the files of a split, among those of all files of a config, in order."""
    return sorted(name for name in names if name.startswith(split) and _SHARD.fullmatch(name.removeprefix(split)))


def parquet_paths(folder: Path, config: str, split: str) -> list[Path]:
    """All files of a config's split, in order.

    Raises:
        IfllmError: there is none, a shard is missing, or there are files of several layouts.
    """
    place, names = folder / "data" / config, parquet_names(folder, config, split)
    if not names:
        raise IfllmError(
            f"{parquet_path(folder, config, split)}: missing. Write the config '{config}' first (ifllm build, ifllm "
            "label)."
        )
    complete_shards(place, split, names)
    return [place / name for name in names]


def complete_shards(place: object, split: str, names: Iterable[str]) -> int:
    """How many shards the files of a split make up.

    Args:
        names: of the files, at least one.

    Raises:
        IfllmError: a shard is missing, or there are files of several layouts.
    """
    found = {name: tuple(map(int, match.groups())) for name in names if (match := _SHARD.search(name))}
    first, last = min(found), max(found)
    layouts = {shards for _, shards in found.values()}
    if len(layouts) > 1:
        raise IfllmError(
            f"{place}: has files of {split} in several layouts ({first}, {last}). Build or download the dataset again."
        )
    (shards,) = layouts
    missing = [name for shard in range(shards) if (name := shard_name(split, Shard(shard, shards))) not in found]
    if missing:
        raise IfllmError(
            f"{place}: {len(missing)} of {shards} files of {split} are missing (the first: {missing[0]}). Build or "
            "download the dataset again."
        )
    return shards
