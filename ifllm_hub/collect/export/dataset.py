"""The store -> a dataset folder laid out like the Hub repo, and rows for TRL."""

import shutil
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import polars as pl
from filelock import FileLock

from ifllm_hub import __version__
from ifllm_hub.collect.export.reading_time import LEAST_DWELL_MS, dwell_on_text
from ifllm_hub.collect.export.stored import TickAccount, stored_readings
from ifllm_hub.collect.pseudonyms import Pseudonyms
from ifllm_hub.collect.store.store import Store, now_ms
from ifllm_hub.dataset.build import write_configs
from ifllm_hub.dataset.card.pages import write_card
from ifllm_hub.dataset.load import load_config
from ifllm_hub.dataset.manifest import (
    MANIFEST,
    ByMode,
    Collected,
    ReceivedTicks,
    read_manifest,
    write_manifest,
)
from ifllm_hub.dataset.privacy.consent import check_workers
from ifllm_hub.dataset.schema import preferences_config, present_configs
from ifllm_hub.dataset.splits import assign_folds
from ifllm_hub.dataset.writers import by_label_source, write_config
from ifllm_hub.errors import IfllmError
from ifllm_hub.files import replacing_folder, write_atomically
from ifllm_hub.preferences.kto import load_kto
from ifllm_hub.preferences.labels import external_rows, preference_rows
from ifllm_hub.preferences.load import export_preferences
from ifllm_hub.reward.functions import default_model
from ifllm_hub.reward.model.pretrained import ImplicitFeedbackReward
from ifllm_hub.reward.protocol.pairs import load_pairs
from ifllm_hub.terms import MODES

# The label source of the shipped reward model; `forest` is a model fitted on the dataset itself.
SHIPPED = "shipped_forest"
TRL_FOLDER = "trl"
_SOURCES = ("explicit", SHIPPED)


def export_dataset(store: Store, out: Path, pseudonyms: Pseudonyms, least_people: int = 1) -> Collected:
    """Write the configs of the dataset, its card, and rows for TRL, for everybody whose consent stands.

    It holds only questions with a recording or a rating. Ids are pseudonyms. The store remembers the folder, so that a
    later withdrawal reaches it.

    Args:
        out: replaced as a whole if it is an earlier export.
        least_people: with fewer, nothing is written: a person who is nearly alone in a dataset is easily found.

    Returns:
        The manifest, as in `out/manifest.json`.

    Raises:
        TooFewPeople: there is nothing to export, or only from too few people.
        IfllmError: two ids got the same pseudonym, somebody without consent would be written, or `out` cannot be
            written.
    """
    out = out.resolve()
    with locked(out), replacing_folder(out, MANIFEST, private=True) as folder:
        store.note_export(out, now_ms())  # before the store is read: from now on a withdrawal knows the folder
        with stored_readings(store, pseudonyms, least_people) as source:
            folded = assign_folds(source.questions, grows=True)
            questions, accounts = write_configs(source, folded, folder)
        for config, rows in by_label_source(_preferences(folder)).items():
            write_config(folder, config, rows)
        manifest = _manifest(questions, accounts)
        write_manifest(folder, manifest)
        check_workers(folder, source.workers)
        write_card(folder)
        write_trl_rows(folder)
    store.erased(out, [worker for path, worker in store.erasures() if path == out])  # from the earlier export
    gone = {pseudonyms.worker(person) for person in store.withdrawn()}
    if late := gone.intersection(questions["worker_id"]):  # withdrawn while this was written
        with locked(out):
            leave_out(out, late)
        store.erased(out, sorted(late))
    return manifest


def leave_out(folder: Path, workers: Collection[str]) -> int:
    """Rewrite an exported folder without some people, or delete it if nobody else is in it. The caller holds its lock.

    Returns:
        How many questions were removed.

    Raises:
        IfllmError: it cannot be read or written; it is then left as it was.
    """
    manifest = read_manifest(folder)
    if "collected" not in manifest:
        raise IfllmError(f"{folder}: is a built dataset, not an export. Move it to another place.")
    theirs = pl.col("worker_id").is_in(list(workers))
    configs = {config: load_config(folder, config) for config in present_configs(folder)}
    kept = {config: rows.filter(~theirs) for config, rows in configs.items()}
    gone = sum(configs[mode].height - kept[mode].height for mode in MODES)
    if not any(kept[mode].height for mode in MODES):
        shutil.rmtree(folder)
        return gone
    if not gone:
        return 0
    with replacing_folder(folder, MANIFEST, private=True) as partial:
        shutil.copytree(folder, partial, dirs_exist_ok=True)
        for config, rows in kept.items():
            write_config(partial, config, rows)
        manifest.pop("free_text", None)  # counts of `ifllm scan`, which included everybody
        questions = pl.concat([kept[mode].select("worker_id", "conversation_id", mode=pl.lit(mode)) for mode in MODES])
        manifest["people"] = questions["worker_id"].n_unique()
        manifest["conversations"] = questions["conversation_id"].n_unique()
        manifest["questions"] = _by_mode(questions)
        manifest["erased_later"] += gone
        write_manifest(partial, manifest)
        write_card(partial)
        write_trl_rows(partial)
    return gone


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let one process and thread at a time write an exported folder.

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


def write_trl_rows(folder: Path) -> dict[str, int]:
    """Write `trl/*.jsonl`: preference rows of each label source, and KTO rows of the rated single answers.

    A file that the dataset is too small for is left out: KTO needs desirable and undesirable answers in both splits.

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


def _preferences(folder: Path) -> pl.DataFrame:
    """Labels that need no training: people's own, and the shipped model's for pairs that were read."""
    pairs = load_pairs(folder)
    read = pairs.filter(dwell_on_text() >= LEAST_DWELL_MS)
    model = ImplicitFeedbackReward.from_pretrained(default_model())
    scored = read.rows.select("question_id", probability=pl.Series(model.score(read.rows), dtype=pl.Float64))
    explicit = preference_rows(pairs, all_workers=True, sources=("explicit",))
    return pl.concat([explicit, external_rows(read, scored, SHIPPED, all_workers=True)])


def _manifest(questions: pl.DataFrame, accounts: list[TickAccount]) -> Collected:
    statuses = sum((account.statuses for account in accounts), Counter[str]())
    return {
        "collected": True,
        "ifllm_hub": __version__,
        "tier": "full",
        "people": questions["worker_id"].n_unique(),
        "conversations": questions["conversation_id"].n_unique(),
        "questions": _by_mode(questions),
        "erased_later": 0,
        "ticks": cast(ReceivedTicks, {"received": statuses.total(), **dict(sorted(statuses.items()))}),
        "batches_of_wrong_clocks": sum(account.wrong_clocks for account in accounts),
    }


def _by_mode(questions: pl.DataFrame) -> ByMode:
    counts = dict(questions["mode"].value_counts().iter_rows())
    return {"pairwise": counts.get("pairwise", 0), "pointwise": counts.get("pointwise", 0)}
