"""Scores of all readings of a dataset, a shard at a time: in this process, or on a cluster."""

import hashlib
import json
from collections.abc import Callable, Collection, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypedDict

import polars as pl
import pyarrow.parquet as pq

from ifllm_hub import __version__
from ifllm_hub.dataset.layout import Shard, complete_shards, names_of, shard_name
from ifllm_hub.dataset.load import regrouped, scan_file
from ifllm_hub.dataset.schema import SPLITS, columns
from ifllm_hub.dataset.writers import ConfigWriter
from ifllm_hub.engines.accounts import unless_done
from ifllm_hub.engines.places import at, files_in, locked, opened, remove, resolved, staged, write_json
from ifllm_hub.engines.run import Engine, run_shards
from ifllm_hub.errors import IfllmError
from ifllm_hub.features.centering import HABITUAL, SUFFIX, center_by_worker
from ifllm_hub.features.extract import feature_rows
from ifllm_hub.reward.functions import default_model
from ifllm_hub.reward.model.pretrained import ImplicitFeedbackReward
from ifllm_hub.terms import MODALITIES, Advance

# Of a folder of scores: what they are of, and the sums. Written last, so a folder without it is not complete.
SUMMARY = "scores.json"
# Ticks whose features are computed together: about 60 MB, whatever the size of a shard.
BATCH_TICKS = 200_000
_IDS = ["question_id", "worker_id", "mode"]
_SCORES = "data/scores"


class Counts(TypedDict):
    """Readings of a shard, or of all: each is scored, abstained from, or left out because its worker has withdrawn."""

    readings: int
    scored: int
    abstained: int
    withdrawn: int
    people: int


@dataclass(frozen=True)
class Scoring:
    """What all shards of a run have in common.

    Attributes:
        source: the dataset's folder or address.
        files: of the config that is read, by their path in `source`, with what tells their contents apart.
        withdrawn: ids of workers to leave out.
        batch: see `BATCH_TICKS`.
    """

    source: str
    config: str
    files: dict[str, str]
    out: str
    reward: ImplicitFeedbackReward
    withdrawn: frozenset[str]
    batch: int


def score_dataset(
    dataset: str | Path,
    out: str | Path,
    model: str | Path | None = None,
    engine: Engine = "local",
    address: str | None = None,
    withdrawn: Callable[[], Collection[str]] = frozenset,
    batch: int = BATCH_TICKS,
    advance: Advance | None = None,
) -> Counts:
    """Write P(left preferred) of every question: the config `scores`, in as many shards as the dataset.

    The questions are those of the config `features`, or, where a dataset has none, of `trajectories`, in little memory.
    The model abstains (null) where nobody was seen reading either answer, and of single answers. The scores depend on
    neither the number of shards nor the engine. A second run does only what is missing or has changed.

    Args:
        dataset: a folder, an address (`s3://...`) or a Hub repo id, laid out by person where it has several shards.
        out: folder or address to write; what it holds may be of an earlier run.
        model: a reward model's folder or Hub id; None: the one of the package.
        engine: see `run_shards`, also for `address` and `advance`.
        withdrawn: gives the ids of workers to leave out; called again after the last shard, whose answer counts.
        batch: about how many ticks to hold in memory at a time.

    Raises:
        IfllmError: there is no such dataset or model, a shard failed (after all others are done), a person is in
            another's shard, or somebody else is writing to `out`.

    Examples:
        >>> from ifllm_hub.reward.scoring import score_dataset
        >>> counts = score_dataset("ifllm", "scores")
        >>> counts["readings"] == counts["scored"] + counts["abstained"]
        True
        >>> from ifllm_hub.dataset.load import load_config
        >>> load_config("scores", "scores").columns
        ['question_id', 'worker_id', 'mode', 'probability_left', 'split']
    """
    source, place = _address(dataset), resolved(out)
    reward = ImplicitFeedbackReward.from_pretrained(model or default_model())
    if unknown := set(reward.features).difference(column.name for column in columns("features")):
        raise IfllmError(f"{reward.folder}: needs {min(unknown)}, which no dataset has. Choose another model.")
    config, files = _readings(source)
    shards = _shards(source, config, files)
    run = Scoring(source, config, files, place, reward, frozenset(withdrawn()), batch)
    if place == source:
        raise IfllmError(f"{place}: is the dataset itself. Choose another folder for the scores.")
    with locked(place):
        _check_target(place, shards)
        remove(at(place, SUMMARY))
        counts = run_shards(partial(score_shard, run), shards, engine, address, advance=advance)
        while (now := frozenset(withdrawn())) != run.withdrawn:
            run = replace(run, withdrawn=now)
            counts = run_shards(partial(score_shard, run), shards, engine, address)
        total = _total(counts)
        write_json(
            place,
            SUMMARY,
            {
                "dataset": str(dataset),
                "config": config,
                "model": str(model or "the model of ifllm_hub"),
                "model_sha256": _digest(reward.config),
                "ifllm_hub": __version__,
                "shards": len(shards),
                **total,
            },
        )
    return total


def score_shard(run: Scoring, shard: Shard) -> Counts:
    """Write the scores of a shard, unless they are there. The task of `score_dataset`.

    Raises:
        IfllmError: the shard is damaged, or holds somebody of another shard.
    """
    names = [shard_name(split, shard) for split in SPLITS]
    files = [f"data/{run.config}/{name}" for name in names]
    gone = sorted(worker for worker in run.withdrawn if shard.has(worker))
    inputs = {
        "files": [run.files[file] for file in files],
        "config": run.config,
        "model_sha256": _digest(run.reward.config),
        "withdrawn_sha256": _digest(gone),
        "ifllm_hub": __version__,
    }
    targets = [f"{_SCORES}/{name}" for name in names]
    counts = unless_done(run.out, str(shard), inputs, targets, lambda: _score(run, shard, files))
    return Counts(**counts)  # type: ignore[typeddict-item]


def _score(run: Scoring, shard: Shard, files: Collection[str]) -> Counts:
    with staged(at(run.out, _SCORES)) as folder:
        with closing(ConfigWriter(folder, "scores", shard)) as writer:
            rows = _rows(run, shard, files)
            left = rows.filter(~pl.col("worker_id").is_in(run.withdrawn))
            writer.write(left.select(*_IDS, "split").with_columns(scores := _probabilities(run.reward, left)))
        counts = Counts(
            readings=rows.height,
            scored=scores.count(),
            abstained=scores.null_count(),
            withdrawn=rows.height - left.height,
            people=left["worker_id"].n_unique(),
        )
        written = sum(pq.read_metadata(file).num_rows for file in folder.iterdir())
        if written != counts["scored"] + counts["abstained"]:
            raise IfllmError(f"{run.out}: {written} rows of shard {shard} were written instead of {len(scores)}.")
    return counts


def _probabilities(reward: ImplicitFeedbackReward, rows: pl.DataFrame) -> pl.Series:
    """Null where nobody was seen reading: what the model would then say is what the lengths say."""
    read = pl.any_horizontal(pl.col(name).is_not_null() for name in reward.features if name.startswith(MODALITIES))
    likely = pl.Series("probability_left", reward.score(rows), pl.Float64).fill_nan(None)
    return rows.select(pl.when(read).then(likely).alias("probability_left")).to_series()


def _rows(run: Scoring, shard: Shard, files: Collection[str]) -> pl.DataFrame:
    """All readings of a shard: what their scores need, centered, and `split`."""
    types: dict[str, Any] = dict.fromkeys(_needed(run.reward), pl.Float64)
    types |= {"question_id": pl.Int64, "worker_id": pl.String, "mode": pl.String, "split": pl.String}
    parts = [pl.DataFrame(schema=types)]
    for split, file in zip(SPLITS, files, strict=True):
        parts += (part.with_columns(split=pl.lit(split)) for part in _features(run, shard, at(run.source, file)))
    rows = pl.concat(parts)
    if twice := rows.filter(pl.col("question_id").is_duplicated())["question_id"].to_list():
        raise IfllmError(f"{run.source}: question {twice[0]} has more than one row in shard {shard}. Build it again.")
    return center_by_worker(rows)


def _needed(reward: ImplicitFeedbackReward) -> list[str]:
    """What a score and the centering take from a row: about 100 bytes, so those of a whole shard fit in memory."""
    return list(dict.fromkeys([*_IDS, *HABITUAL, *(name for name in reward.features if not name.endswith(SUFFIX))]))


def _features(run: Scoring, shard: Shard, file: str) -> Iterator[pl.DataFrame]:
    needed = _needed(run.reward)
    with opened(file) as stream:
        if run.config == "features":
            parts = scan_file(stream, "features", file, needed)
        else:
            ticks = scan_file(stream, "trajectories", file)
            parts = map(feature_rows, regrouped(ticks, lambda rows: int(rows["t"].list.len().sum()), run.batch))
        for rows in parts:
            for worker in rows["worker_id"].unique():
                if not shard.has(worker):
                    raise IfllmError(
                        f"{file}: has a person ({worker}) who belongs into another shard, so not all of a person's "
                        "rows lie together. Lay them out by person: ifllm partition SOURCE --out FOLDER --shards N."
                    )
            yield rows.select(needed)


def _address(dataset: str | Path) -> str:
    """The folder or address of a dataset; of a Hub repo id, that of the repo."""
    place = resolved(dataset)
    if "://" in place or Path(place).is_dir():
        return place
    if isinstance(dataset, Path) or dataset.count("/") != 1:
        raise IfllmError(f"{dataset}: no such dataset folder, no address (s3://...), and not a Hub repo id.")
    return f"hf://datasets/{dataset}"


def _readings(source: str) -> tuple[str, dict[str, str]]:
    """The config that readings are scored from, and its files."""
    for config in ("features", "trajectories"):
        folder = f"data/{config}"
        if files := files_in(at(source, folder), ".parquet"):
            return config, {f"{folder}/{name}": mark for name, mark in files.items()}
    raise IfllmError(
        f"{source}: has neither features nor trajectories to score, as `datasets` names them. Give a dataset, or lay "
        "the files out: ifllm partition SOURCE --out FOLDER --shards N."
    )


def _shards(source: str, config: str, files: Collection[str]) -> list[Shard]:
    folder = f"data/{config}/"
    found = set()
    for split in SPLITS:
        names = names_of(split, (file.removeprefix(folder) for file in files))
        if not names:
            raise IfllmError(
                f"{source}: config '{config}' has no files of {split} named as `datasets` names them. Lay it out anew: "
                "ifllm partition SOURCE --out FOLDER --shards N."
            )
        found.add(complete_shards(at(source, folder), split, names))
    if len(found) > 1:
        raise IfllmError(f"{source}: config '{config}' has another number of shards for each split. Build it again.")
    (of,) = found
    return [Shard(number, of) for number in range(of)]


def _check_target(out: str, shards: list[Shard]) -> None:
    """Refuse a folder in which scores would stand beside something else."""
    ours = {shard_name(split, shard) for split in SPLITS for shard in shards}
    others = [name for name in files_in(at(out, _SCORES)) if name not in ours and not name.startswith(".")]
    if others:
        raise IfllmError(
            f"{out}: holds scores of another layout ({others[0]}; the dataset has {len(shards)} shards). Choose "
            "another folder, or delete it."
        )


def _total(counts: list[Counts]) -> Counts:
    total = Counts(**{name: sum(part[name] for part in counts) for name in Counts.__annotations__})  # type: ignore
    if total["readings"] != total["scored"] + total["abstained"] + total["withdrawn"]:
        raise IfllmError(f"The accounts do not balance: {total}. This is a fault of ifllm_hub, please report it.")
    return total


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
