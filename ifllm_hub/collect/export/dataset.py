"""The store -> a dataset folder as the Hub has it, and rows for TRL: what was collected, like the study's."""

import json
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
from filelock import FileLock
from sqlalchemy import select

from ifllm_hub import __version__
from ifllm_hub.collect.export.readings import readings_of
from ifllm_hub.collect.export.score import LEAST_DWELL_MS, dwell_on_text, features_of
from ifllm_hub.collect.pseudonyms import Pseudonyms
from ifllm_hub.collect.store.store import Store, now_ms
from ifllm_hub.collect.store.tables import CONSENTS
from ifllm_hub.dataset.build import by_label_source, with_has_behavior, with_messages, write_config
from ifllm_hub.dataset.card.pages import write_card
from ifllm_hub.dataset.load import load_config
from ifllm_hub.dataset.schema import preferences_config, present_configs
from ifllm_hub.dataset.splits import assign_folds
from ifllm_hub.errors import IfllmError
from ifllm_hub.files import read_json, replacing_folder, write_atomically
from ifllm_hub.preferences.kto import load_kto
from ifllm_hub.preferences.labels import external_rows, preference_rows
from ifllm_hub.preferences.load import export_preferences
from ifllm_hub.reward.functions import default_model
from ifllm_hub.reward.model.pretrained import ImplicitFeedbackReward
from ifllm_hub.reward.protocol.pairs import load_pairs

# The label source that the shipped reward model is; `forest` is one fitted on the dataset itself.
SHIPPED = "shipped_forest"
TRL_FOLDER = "trl"
MODES = ("pairwise", "pointwise")
_SOURCES = ("explicit", SHIPPED)


class TooFewPeople(IfllmError):
    """There are not readings of so many people whose consent stands."""


def export_dataset(store: Store, out: Path, pseudonyms: Pseudonyms, least_people: int = 1) -> dict[str, Any]:
    """Write the configs of the dataset, its card, and rows for TRL, of everybody whose consent stands.

    Only questions of which something was recorded or said are in it. Ids are pseudonyms. The folder is remembered in
    the store, so that a later withdrawal reaches it.

    Args:
        out: replaced as a whole when it is an earlier export.
        least_people: with fewer, nothing is written: a person who is nearly alone in a dataset is easily found.

    Returns:
        The manifest, as in `out/manifest.json`.

    Raises:
        TooFewPeople: there is nothing to export, or of too few.
        IfllmError: two ids got the same pseudonym, or `out` cannot be written.
    """
    out = out.resolve()
    with locked(out), replacing_folder(out, "manifest.json", private=True) as folder:
        store.note_export(out, now_ms())  # before the store is read: a withdrawal from now on knows of the folder
        collected = _collect(store, pseudonyms, least_people)
        questions, features = collected["questions"], collected["features"]
        for mode in MODES:
            write_config(folder, mode, with_messages(questions.filter(pl.col("mode") == mode), mode))
        named = questions.select("question_id", "split")
        trajectories = collected["trajectories"].filter(pl.col("t").list.len() > 0)
        write_config(folder, "trajectories", trajectories.join(named, on="question_id", maintain_order="left"))
        write_config(folder, "features", features.join(named, on="question_id", maintain_order="left"))
        for config, rows in by_label_source(_preferences(folder)).items():
            write_config(folder, config, rows)
        manifest = _manifest(questions, collected["statuses"], collected["wrong_clocks"])
        write_manifest(folder, manifest)
        write_card(folder)
        write_trl_rows(folder)
    store.erased(out, [worker for path, worker in store.erasures() if path == out])  # of what was there before
    gone = {pseudonyms.worker(person) for person in store.withdrawn()}
    if late := gone.intersection(questions["worker_id"]):  # who withdrew while this was written
        with locked(out):
            leave_out(out, late)
        store.erased(out, sorted(late))
    return manifest


def leave_out(folder: Path, workers: Collection[str]) -> int:
    """Write an exported folder anew without some people; it vanishes if nobody else is in it. For who holds its lock.

    Returns:
        How many questions were taken out.

    Raises:
        IfllmError: it cannot be read or written. It is as it was, then.
    """
    theirs = pl.col("worker_id").is_in(list(workers))
    configs = {config: load_config(folder, config) for config in present_configs(folder)}
    kept = {config: rows.filter(~theirs) for config, rows in configs.items()}
    gone = sum(configs[mode].height - kept[mode].height for mode in MODES)
    if not any(kept[mode].height for mode in MODES):
        shutil.rmtree(folder)
        return gone
    if not gone:
        return 0
    with replacing_folder(folder, "manifest.json", private=True) as partial:
        shutil.copytree(folder, partial, dirs_exist_ok=True)
        for config, rows in kept.items():
            write_config(partial, config, rows)
        manifest = read_json(folder / "manifest.json")
        manifest.pop("free_text", None)  # counts of `ifllm scan`, which were of all
        questions = pl.concat([kept[mode].select("worker_id", "conversation_id", mode=pl.lit(mode)) for mode in MODES])
        erased = {"erased_later": manifest["erased_later"] + gone}
        write_manifest(partial, manifest | count_questions(questions) | erased)
        write_card(partial)
        write_trl_rows(partial)
    return gone


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One process and thread at a time writes an exported folder.

    Raises:
        IfllmError: the folder it is in cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f".{folder.name}.lock")):
            yield
    except PermissionError as error:
        raise IfllmError(
            f"{folder}: cannot be written ({error.strerror}). Choose a folder you may write to."
        ) from error


def count_questions(questions: pl.DataFrame) -> dict[str, Any]:
    """Entries of the manifest, of `worker_id`, `conversation_id` and `mode` of every question."""
    return {
        "people": questions["worker_id"].n_unique(),
        "conversations": questions["conversation_id"].n_unique(),
        "questions": {mode: questions.filter(pl.col("mode") == mode).height for mode in MODES},
    }


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    write_atomically(folder / "manifest.json", json.dumps(manifest, indent=2) + "\n")


def write_trl_rows(folder: Path) -> dict[str, int]:
    """Write `trl/*.jsonl`: preference rows of each label source, and KTO rows of the rated single answers.

    What a dataset is too small for is left out: KTO rows need desirable and undesirable answers in both splits.

    Returns:
        How many rows each file has.
    """
    (folder / TRL_FOLDER).mkdir(exist_ok=True)
    written = {}
    there = present_configs(folder)
    for source in _SOURCES:
        config = preferences_config(source)
        file = folder / TRL_FOLDER / f"{config}.jsonl"
        if config in there and load_config(folder, config).height:
            written[file.name] = export_preferences(folder, source, file, both_splits=False)
        else:
            file.unlink(missing_ok=True)
    kto = folder / TRL_FOLDER / "kto.jsonl"
    try:
        splits = load_kto(folder)
    except IfllmError:
        kto.unlink(missing_ok=True)
    else:
        rows = pl.concat(
            [pl.DataFrame(part.data.table).with_columns(split=pl.lit(name)) for name, part in splits.items()]
        )
        write_atomically(kto, rows.write_ndjson())
        written[kto.name] = rows.height
    return written


def _collect(store: Store, pseudonyms: Pseudonyms, least_people: int) -> dict[str, Any]:
    """`questions` with folds, `trajectories`, `features` of who consents, the ticks' `statuses`, `wrong_clocks`."""
    gone = set(store.withdrawn())
    parts = []
    statuses: dict[str, int] = {}
    wrong_clocks = 0
    with store.reading() as connection:
        agreed = select(CONSENTS.c.person).where(CONSENTS.c.withdrawn_at.is_(None)).distinct()
        for person in sorted(set(connection.scalars(agreed)) - gone):
            readings = readings_of(connection, person, pseudonyms)
            if readings is not None:
                parts.append((readings.questions, readings.trajectories, features_of(readings)))
                wrong_clocks += readings.wrong_clocks
                for status, n in readings.statuses.items():
                    statuses[status] = statuses.get(status, 0) + n
    if len(parts) < max(1, least_people):
        raise TooFewPeople(
            f"The store has readings or ratings of {len(parts)} people whose consent stands; "
            f"{max(1, least_people)} are needed. Nothing was written."
        )
    questions, trajectories, features = (pl.concat(frames) for frames in zip(*parts, strict=True))
    if questions["question_id"].n_unique() != questions.height:
        raise IfllmError(
            "Two questions got the same pseudonym, which happens once in a blue moon. Nothing was written."
        )
    folded = with_has_behavior(assign_folds(questions, grows=True), features)
    return {
        "questions": folded,
        "trajectories": trajectories,
        "features": features,
        "statuses": statuses,
        "wrong_clocks": wrong_clocks,
    }


def _preferences(folder: Path) -> pl.DataFrame:
    """Labels that need no training: what people said, and what the shipped model says of pairs that were read."""
    pairs = load_pairs(folder)
    read = pairs.filter(dwell_on_text() >= LEAST_DWELL_MS)
    model = ImplicitFeedbackReward.from_pretrained(default_model())
    scored = read.rows.select("question_id", probability=pl.Series(model.score(read.rows), dtype=pl.Float64))
    explicit = preference_rows(pairs, all_workers=True, sources=("explicit",))
    return pl.concat([explicit, external_rows(read, scored, SHIPPED, all_workers=True)])


def _manifest(questions: pl.DataFrame, statuses: dict[str, int], wrong_clocks: int) -> dict[str, Any]:
    return {
        "collected": True,
        "ifllm_hub": __version__,
        "tier": "full",
        **count_questions(questions),
        "erased_later": 0,
        "ticks": {"received": sum(statuses.values()), **dict(sorted(statuses.items()))},
        "batches_of_wrong_clocks": wrong_clocks,
    }
