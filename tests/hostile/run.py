"""Hands every hostile dataset folder and archive to what reads it, each in a process of its own.

python -m tests.hostile.run DATASET RELEASE WORK EVERY > results.jsonl
"""

import json
import shutil
import sys
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import sklearn.ensemble  # noqa: F401 - so that no child imports it

from ifllm_hub.preferences.labels import write_preferences
from ifllm_hub.preferences.load import load_preferences
from ifllm_hub.report.replay import write_replay
from ifllm_hub.sources.ifllm.archive import open_release
from tests.hostile.archives import hostile_archives
from tests.hostile.child import outcome
from tests.hostile.datasets import LABEL, REPLAY, Spoiling, hostile_datasets


def main(dataset: Path, release: Path, work: Path, every: int) -> None:
    """Write a line of JSON a case: what became of it (see `outcome`), and whether anything was written.

    Args:
        dataset: a sound folder with the configs of its label sources.
        release: a sound simulated release.
        work: an empty folder.
        every: 1 for all cases, n for each nth.
    """
    folder, out, before = work / "dataset", work / "out", work / "before"

    def copy(spoil: Spoiling, seed: int) -> None:
        shutil.copytree(dataset, folder)
        spoil(folder, np.random.default_rng(seed))
        before.write_text(_listing(folder))

    for seed, (name, reader, spoil) in islice(enumerate(hostile_datasets()), 0, None, every):
        out.mkdir()
        told = outcome(partial(_read, reader, folder, out), partial(copy, spoil, seed))
        _tell(name, told, folder, written=_listing(folder) != before.read_text() or any(out.iterdir()))
        shutil.rmtree(folder)
        shutil.rmtree(out)
    for seed, (name, make) in islice(enumerate(hostile_archives()), every // 2, None, every):
        archive, cache = work / "archive", work / "cache"
        told = outcome(
            partial(open_release, archive, cache), partial(make, release, archive, np.random.default_rng(seed))
        )
        _tell(name, told, archive, written=any(path.is_file() for path in cache.rglob("*")))
        archive.unlink()
        shutil.rmtree(cache, ignore_errors=True)


def _read(reader: str, folder: Path, out: Path) -> None:
    if reader == LABEL:
        write_preferences(folder)
    elif reader == REPLAY:
        question = pq.read_table(folder / "data/features/train-00000-of-00001.parquet")["question_id"][0].as_py()
        write_replay(str(folder), question, out / "replay.html")
    else:
        load_preferences(folder, "explicit")


def _tell(name: str, told: dict[str, Any], path: Path, written: bool) -> None:
    sys.stdout.write(json.dumps({"case": name, **told, "path": str(path), "written": written}) + "\n")
    sys.stdout.flush()  # before the next fork


def _listing(folder: Path) -> str:
    """Names, kinds, sizes and times of all that is in a folder."""
    entries = ((path, path.lstat()) for path in sorted(folder.rglob("*")))
    return "\n".join(f"{path} {stat.st_mode} {stat.st_size} {stat.st_mtime_ns}" for path, stat in entries)


if __name__ == "__main__":
    main(*(Path(word) for word in sys.argv[1:4]), int(sys.argv[4]))
