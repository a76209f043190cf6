"""The loading script: a release -> a folder laid out as the Hub repo (Parquet, card, manifest)."""

import json
import shutil
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from ifllm_hub import __version__
from ifllm_hub.dataset.card.pages import write_card
from ifllm_hub.dataset.manifest import TIERS, read_manifest, read_privacy_report
from ifllm_hub.dataset.privacy.coarse import coarse
from ifllm_hub.dataset.privacy.consent import Consented, apply_consent, check_workers
from ifllm_hub.dataset.privacy.report import write_privacy_report
from ifllm_hub.dataset.schema import (
    SPLITS,
    arrow_schema,
    file_name,
    label_source_of,
    preferences_config,
    present_configs,
)
from ifllm_hub.errors import IfllmError
from ifllm_hub.features.centering import center_by_worker
from ifllm_hub.features.extract import extract_features
from ifllm_hub.files import replacing_folder
from ifllm_hub.sources.ifllm.archive import RELEASE_DIGEST, Advance, Release
from ifllm_hub.sources.ifllm.ticks import Accounts, align_tasks

# Conversations in memory at a time; results do not depend on it.
CHUNK = 32
_ROW_GROUP = {"trajectories": 100}
_DEFAULT_ROW_GROUP = 1_000


def build_dataset(
    release: Release,
    out: Path,
    chunk: int = CHUNK,
    advance: Advance | None = None,
    tier: str = "full",
    withdrawn: Collection[str] = (),
) -> dict[str, Any]:
    """Build the configs of a tier, their privacy report and the card; preferences come from labels.

    Args:
        out: the folder to write; replaced as a whole when it is an earlier build.
        chunk: conversations in memory at a time.
        advance: called with the share done (0-1).
        tier: "full"; "public": without `trajectories`; or "coarse": with two rounded features in place of all.
        withdrawn: ids of workers who are left out of everything but the count of those left out.

    Returns:
        The manifest, as written to `out/manifest.json`.

    Raises:
        IfllmError: there is no such tier, the release is damaged, most of its lines cannot be read, no reading can be
            matched to an answer, the accounts do not balance, a worker without consent would be written, or `out`
            cannot be written.
    """
    if tier not in TIERS:
        raise IfllmError(f"There is no tier '{tier}'. Choose one of: {', '.join(TIERS)}.")
    consented = apply_consent(release, withdrawn)
    questions = consented.questions
    accounts = Accounts()
    with replacing_folder(out, "manifest.json") as folder:
        writers = {config: _Writers(folder / "data" / config, config) for config in TIERS[tier]}
        features = []
        for keys, share in _chunks(consented.release, questions, chunk):
            rows = _trajectories(consented, questions, keys, accounts)
            named = rows.select("question_id", "worker_id", "mode", "split")
            features.append(named.join(extract_features(rows), on="question_id", maintain_order="left"))
            if "trajectories" in writers:
                writers["trajectories"].write(rows.filter(pl.col("t").list.len() > 0))
            if advance:
                advance(share)
        _check_read(release, accounts)
        extracted = pl.concat(features)
        centered = center_by_worker(extracted)
        if "features" in writers:
            writers["features"].write(centered)
        else:
            writers["coarse"].write(coarse(centered.filter(mode="pairwise")))
        questions = with_has_behavior(questions, extracted)
        for mode in ("pairwise", "pointwise"):
            writers[mode].write(with_messages(questions.filter(pl.col("mode") == mode), mode))
        for writer in writers.values():
            writer.close()
        manifest = {"tier": tier, **consented.left_out, **_manifest(release, consented.counts, questions, accounts)}
        (folder / "manifest.json").write_text(_compact_json(manifest), encoding="utf-8")
        pl.concat(accounts.quarantine).sort("file", "line").write_csv(folder / "quarantine.csv")
        check_workers(folder, consented.workers)
        write_privacy_report(folder, release)
        write_card(folder)
    return manifest


def replace_preferences(folder: Path, rows: pl.DataFrame) -> None:
    """Write a config a label source into a dataset folder, in place of all that there were, and the card anew.

    Args:
        rows: of all label sources, with `split`.

    Raises:
        IfllmError: the folder is not a dataset, or cannot be written.
    """
    replace_configs(folder, by_label_source(rows), {name for name in present_configs(folder) if label_source_of(name)})


def by_label_source(rows: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """The rows of each config `preferences_<label source>`."""
    parts = rows.partition_by("label_source", maintain_order=True)
    return {preferences_config(part["label_source"][0]): part for part in parts}


def replace_configs(folder: Path, configs: dict[str, pl.DataFrame], earlier: Collection[str] = ()) -> None:
    """Write configs into a dataset folder, all of them before any takes its place, and the card anew.

    Args:
        configs: the rows of each, with its columns and `split`.
        earlier: configs that are deleted if they are not written.

    Raises:
        IfllmError: the folder is not a dataset, or cannot be written.
    """
    # What the card cannot be made from, such as another folder, is refused before anything is written into it.
    if "collected" not in read_manifest(folder):
        read_privacy_report(folder)
    with ExitStack() as stack:
        for config, rows in configs.items():
            place = replacing_folder(folder / "data" / config, file_name(SPLITS[0]))
            _write(stack.enter_context(place), config, rows)
    for config in set(earlier).difference(configs):
        shutil.rmtree(folder / "data" / config)
    write_card(folder)


def write_config(folder: Path, config: str, rows: pl.DataFrame) -> None:
    """Write one config into a folder that is laid out as the Hub repo and nobody reads yet.

    Args:
        rows: the config's columns and `split`.
    """
    _write(folder / "data" / config, config, rows)


def _write(folder: Path, config: str, rows: pl.DataFrame) -> None:
    writers = _Writers(folder, config)
    writers.write(rows)
    writers.close()


def _chunks(release: Release, questions: pl.DataFrame, size: int) -> Iterator[tuple[pl.DataFrame, float]]:
    """Conversations with questions or behavior, in (worker, task) order, and the share done after each chunk."""
    with_behavior = pl.DataFrame(
        [(task.worker_id, task.task_id) for task in release.tasks],
        schema={"worker_id": pl.String, "task_id": pl.Int64},
        orient="row",
    )
    keys = pl.concat([questions.select("worker_id", "task_id"), with_behavior]).unique().sort("worker_id", "task_id")
    for start in range(0, keys.height, size):
        yield keys[start : start + size], min(1.0, (start + size) / keys.height)


def _trajectories(
    consented: Consented, questions: pl.DataFrame, keys: pl.DataFrame, accounts: Accounts
) -> pl.DataFrame:
    """Rows of the `trajectories` config for all questions of some conversations; no ticks are empty lists."""
    wanted = set(keys.iter_rows())
    tasks = [task for task in consented.release.tasks if (task.worker_id, task.task_id) in wanted]
    ours = questions.join(keys, on=["worker_id", "task_id"], how="semi", maintain_order="left")
    ticks = align_tasks(tasks, ours, accounts, consented.unanswered)
    lists = ticks.group_by("question_id", maintain_order=True).agg(
        pl.col("schema_version").first(), pl.exclude("schema_version")
    )
    reach = [
        pl.col(f"mouse_{axis}").list.max().max().over("conversation_id").ceil().cast(pl.Int32) + 1 for axis in "xy"
    ]
    empty = [name for name, type_ in lists.schema.items() if isinstance(type_, pl.List)]
    lengths = {
        f"length_{name}": pl.col(column).str.len_chars().cast(pl.Int32)
        for name, column in (("left", "response_left"), ("right", "response_right"), ("query", "query"))
    }
    return (
        ours.select("question_id", "worker_id", "conversation_id", "mode", "split", **lengths)
        .join(lists, on="question_id", how="left", maintain_order="left")
        .with_columns(viewport_width=reach[0], viewport_height=reach[1])
        .with_columns(pl.col(empty).fill_null([]))
    )


def with_has_behavior(questions: pl.DataFrame, features: pl.DataFrame) -> pl.DataFrame:
    """Add `has_mouse` and `has_gaze`: whether a modality was ever on an answer's text.

    Args:
        questions: with `question_id`.
        features: `extract_features` of the same questions.
    """
    flags = {f"has_{modality}": pl.col(f"{modality}_dwell_left").is_not_null() for modality in ("mouse", "gaze")}
    return questions.join(features.select("question_id", **flags), on="question_id", maintain_order="left")


def with_messages(questions: pl.DataFrame, mode: str) -> pl.DataFrame:
    """Rows of `pairwise` or `pointwise`: with the chat each LLM had seen, which is each side's own history.

    Args:
        questions: of that mode, both sides' columns, the turns of a conversation in their order.
    """
    sides = ("left", "right") if mode == "pairwise" else ("left",)
    messages: dict[str, list[list[dict[str, str]]]] = {side: [] for side in sides}
    for _, turns in questions.group_by("conversation_id", maintain_order=True):
        for side in sides:
            so_far: list[dict[str, str]] = []
            for query, response in turns.select("query", f"response_{side}").iter_rows():
                so_far = [*so_far, {"role": "user", "content": query}]
                messages[side].append(so_far)
                so_far = [*so_far, {"role": "assistant", "content": response}]
    columns = {f"messages_{side}": pl.Series(rows, dtype=_MESSAGES) for side, rows in messages.items()}
    dated = questions.with_columns(asked_at=pl.col("asked_at").cast(pl.Datetime("ms", "UTC")), **columns)
    if mode == "pairwise":
        return dated
    return dated.rename({f"{name}_left": name for name in ("messages", "response", "model", "rating")})


_MESSAGES = pl.List(pl.Struct({"role": pl.String, "content": pl.String}))


class _Writers:
    """One Parquet file a split, in row groups of a fixed size, so that chunking leaves no trace in the bytes."""

    def __init__(self, folder: Path, config: str):
        self._schema = arrow_schema(config)
        self._rows = _ROW_GROUP.get(config, _DEFAULT_ROW_GROUP)
        self._pending: dict[str, list[pa.Table]] = {split: [] for split in SPLITS}
        folder.mkdir(parents=True, exist_ok=True)
        self._files = {
            split: pq.ParquetWriter(
                folder / file_name(split),
                self._schema,
                compression="zstd",
                use_content_defined_chunking=True,
                write_page_index=True,
            )
            for split in SPLITS
        }

    def write(self, rows: pl.DataFrame) -> None:
        for split in SPLITS:
            table = rows.filter(pl.col("split") == split).select(self._schema.names).to_arrow().cast(self._schema)
            self._pending[split].append(table)
            self._flush(split, whole=True)

    def _flush(self, split: str, whole: bool) -> None:
        table = pa.concat_tables(self._pending[split])
        while table.num_rows >= (self._rows if whole else 1):
            self._files[split].write_table(table.slice(0, self._rows).combine_chunks(), row_group_size=self._rows)
            table = table.slice(self._rows)
        self._pending[split] = [table]

    def close(self) -> None:
        for split, file in self._files.items():
            self._flush(split, whole=False)
            file.close()


def _check_read(release: Release, accounts: Accounts) -> None:
    """Refuse a release that is written in another way than it is read here, or whose parts do not belong together."""
    place = release.root / "user_behavior"
    if not accounts.files:
        raise IfllmError(f"{place}: nothing here is of a worker who consented. Do these files belong to these tables?")
    files, quarantine = pl.concat(accounts.files), pl.concat(accounts.quarantine)
    lines, bad = files["lines"].sum(), quarantine.height
    if 2 * bad > lines:
        reason = quarantine["reason"].mode().sort()[0]
        file, line, _ = quarantine.filter(reason=reason).sort("file", "line").row(0)
        raise IfllmError(
            f"{place}: {bad:,} of {lines:,} lines cannot be read (most often: {reason}; the first of these in {file}, "
            f"line {line}). Give the files as the study's site writes them."
        )
    ticks = pl.concat(accounts.ticks).sum().row(0, named=True)
    if not ticks.pop("on_a_question"):
        statuses = ", ".join(f"{n:,} {status.replace('_', ' ')}" for status, n in ticks.items() if status != "ticks")
        raise IfllmError(
            f"{place}: none of {ticks['ticks']:,} ticks falls after an answer ({statuses}). Do these files belong to "
            "these tables, and are query_timestamp and the epochs both in UTC?"
        )
    carets = pl.concat(accounts.carets)
    if carets.height and not carets["status"].is_in(["matched", "repaired"]).any():
        raise IfllmError(
            f"{place}: none of {carets['ticks'].sum():,} recorded windows stands in an answer. Do these files belong "
            "to these tables?"
        )


def _manifest(release: Release, counts: dict[str, int], questions: pl.DataFrame, accounts: Accounts) -> dict[str, Any]:
    files = pl.concat(accounts.files).sort("file")
    files = files.with_columns(
        unaccounted=pl.col("lines") - pl.col("ticks") - pl.col("duplicates") - pl.col("quarantined")
    )
    wrong = files.filter(pl.col("unaccounted") != 0)
    if wrong.height:
        raise IfllmError(f"{release.root}: {wrong['file'][0]} does not balance: {wrong.row(0, named=True)}.")
    kind = pl.col("file").str.extract(r"/(abs|rel)_[^/]*$")
    totals = files.group_by(kind.alias("kind")).agg(pl.exclude("file").sum(), files=pl.len()).sort("kind")
    reasons = pl.concat(accounts.quarantine).group_by("reason").len("lines").sort("reason")
    carets = (
        pl.concat(accounts.carets)
        .group_by("schema_version", "modality", "side", "status")
        .agg(pl.col("ticks").sum())
        .sort("schema_version", "modality", "side", "status")
    )
    digest = release.digest()
    largest = questions["worker_id"].value_counts(sort=True)["count"].head(5)
    behavior = questions.filter(pl.col("has_mouse") | pl.col("has_gaze"))
    kept = behavior.filter(~pl.col("excluded_worker"))
    return {
        "ifllm_hub": __version__,
        "release_sha256": digest,
        "is_the_released_data": digest == RELEASE_DIGEST,
        "tables": counts,
        "questions": {
            "all": _count(questions),
            "pairwise": _count(questions.filter(pl.col("mode") == "pairwise")),
            "pointwise": _count(questions.filter(pl.col("mode") == "pointwise")),
            "with_on_text_behavior": _count(behavior),
            "with_on_text_behavior_without_excluded_workers": _count(kept),
            "share_of_five_largest_workers": int(largest.sum()) / questions.height,
        },
        "lines": {row.pop("kind"): row for row in totals.iter_rows(named=True)},
        "quarantine_reasons": dict(reasons.iter_rows()),
        "ticks": {**pl.concat(accounts.ticks).sum().row(0, named=True), "lines_missing": accounts.lines_missing},
        "carets": carets.to_dicts(),
        "files": files.to_dicts(),
    }


def _count(questions: pl.DataFrame) -> dict[str, int]:
    return {
        "questions": questions.height,
        "workers": questions["worker_id"].n_unique(),
        "conversations": questions["conversation_id"].n_unique(),
    }


def _compact_json(manifest: dict[str, Any]) -> str:
    """Indented, but one line for each entry of a list."""
    head = {key: value for key, value in manifest.items() if not isinstance(value, list)}
    text = json.dumps(head, indent=2)[:-2]
    for key, value in manifest.items():
        if isinstance(value, list):
            entries = ",\n    ".join(json.dumps(entry) for entry in value)
            text += f',\n  "{key}": [\n    {entries}\n  ]'
    return text + "\n}\n"
