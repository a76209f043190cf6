"""`trl/*.jsonl` of a dataset folder: its preference pairs and rated answers, for trainers that know nothing of us."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import polars as pl

from ifllm_hub.dataset.layout import shards_of
from ifllm_hub.dataset.load import by_people, scan_config
from ifllm_hub.dataset.schema import SPLITS, preferences_config, present_configs
from ifllm_hub.files import writing_atomically
from ifllm_hub.preferences.kto import kto_rows, thumb_rows
from ifllm_hub.preferences.load import exported_rows

TRL_FOLDER = "trl"


def write_trl_rows(folder: Path, sources: Sequence[str]) -> dict[str, int]:
    """Write the preference pairs of some label sources, and KTO rows of single answers with a rating or a thumb.

    A file that the dataset is too small for is left out: KTO needs desirable and undesirable answers in both splits.

    Returns:
        How many rows each file has.
    """
    (folder / TRL_FOLDER).mkdir(exist_ok=True)
    there = present_configs(folder)
    made: dict[str, Iterator[pl.DataFrame]] = {}
    for source in sources:
        config = preferences_config(source)
        rows = scan_config(folder, config) if config in there else iter(())
        made[config] = (exported_rows(part, source, str(folder)) for part in rows)
    answers = by_people(scan_config(folder, "pointwise"))
    made["kto"] = (kto_rows(part, "above_own_mean") for part in answers)
    if "signals" in there:
        made["kto_thumbs"] = _thumbed(folder)
    written = {}
    for name, parts in made.items():
        file = folder / TRL_FOLDER / f"{name}.jsonl"
        kinds, rows_written = _write(file, parts)
        wanted = {(split, label) for split in SPLITS for label in (False, True)}
        if rows_written and (not kinds or kinds == wanted):
            written[file.name] = rows_written
        else:
            file.unlink()
    return written


def _thumbed(folder: Path) -> Iterator[pl.DataFrame]:
    """Of one shard after the other, so that never all thumbs are in memory."""
    for shard in shards_of(folder):
        signals = scan_config(folder, "signals", ["question_id", "thumb_left"], shard=shard)
        none = pl.DataFrame(schema={"question_id": pl.Int64, "thumb_left": pl.Int8, "split": pl.String})
        thumbs = pl.concat([none, *(rows.drop_nulls() for rows in signals)])
        for answers in scan_config(folder, "pointwise", shard=shard):
            yield thumb_rows(answers, thumbs)


def _write(path: Path, parts: Iterable[pl.DataFrame]) -> tuple[set[tuple[str, bool]], int]:
    """The kinds of KTO rows written, and how many rows."""
    kinds: set[tuple[str, bool]] = set()
    written = 0
    with writing_atomically(path) as file:
        for rows in parts:
            file.write(rows.write_ndjson().encode())
            written += rows.height
            if "label" in rows.columns:
                kinds.update(rows.select("split", "label").unique().iter_rows())
    return kinds, written
