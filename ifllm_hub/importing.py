"""Somebody else's recordings, from any source -> a dataset folder, its explicit labels, and rows for other trainers."""

from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from ifllm_hub import __version__
from ifllm_hub.dataset.build import write_parts
from ifllm_hub.dataset.card.pages import write_card
from ifllm_hub.dataset.contents import check_rows
from ifllm_hub.dataset.manifest import COUNTED, MANIFEST, OWN_COLUMNS, Imported, write_manifest
from ifllm_hub.dataset.privacy.consent import check_workers
from ifllm_hub.dataset.schema import columns, preferences_config
from ifllm_hub.dataset.splits import assign_folds
from ifllm_hub.dataset.writers import ConfigWriter
from ifllm_hub.errors import IfllmError
from ifllm_hub.files import make_folder, replacing_folder, write_atomically, write_parquet
from ifllm_hub.preferences.kto import trl_answers
from ifllm_hub.preferences.labels import rated_rows
from ifllm_hub.preferences.trl_rows import TRL_FOLDER, write_trl_rows
from ifllm_hub.reward.protocol.pairs import pairs_of
from ifllm_hub.sources.source import Facts, Recorded, Source
from ifllm_hub.terms import MODES, SIDES, Advance

EXPLICIT = "explicit"
# Columns of a source's questions that are second labels of the same pairs, and the folder of their files.
_LABEL, LABELS_FOLDER = "label_", "labels"
# Those that say whether a single answer is desirable.
_KTO = "kto_"


def import_dataset(
    source: Source[Counter[str]],
    facts: Facts,
    out: Path,
    withdrawn: Collection[str] = (),
    advance: Advance | None = None,
) -> Imported:
    """Write a source as a dataset folder that every later command reads.

    Beside the configs it has the pairs' labels by the readers themselves (`preferences_explicit`), `trl/*.jsonl`,
    `labels/NAME.csv` of second labels, for `ifllm label --labels-file`, and `source.parquet` with what the source alone
    has of its questions.

    Args:
        facts: what the card says about the source.
        out: replaced as a whole if it is a dataset.
        withdrawn: ids of workers to leave out.
        advance: called with the share done (0-1).

    Returns:
        The manifest, as in `out/manifest.json`.

    Raises:
        IfllmError: the source is damaged, empty or breaks the contract, two of its questions have one id, or `out`
            cannot be written.
    """
    for worker in source.people:
        if not isinstance(worker, str):
            raise IfllmError(
                f"{facts['title']}: the worker {worker!r} is no text. Read ids as texts, also if they are numbers."
            )
    kept = _Kept(facts["title"], source, frozenset(withdrawn))
    with replacing_folder(out, MANIFEST, private=True) as folder:
        received: Counter[str] = Counter()
        counted: Counter[str] = Counter()
        labels: list[pl.DataFrame] = []
        desirable: list[pl.DataFrame] = []
        beside: list[pl.DataFrame] = []
        ids: list[pl.Series] = []
        explicit = preferences_config(EXPLICIT)
        with closing(ConfigWriter(folder / "data" / explicit, explicit)) as preferences:
            for part in write_parts(kept, folder, advance=advance):
                pairwise = part.questions.filter(mode="pairwise")
                differ = pairwise.filter(pl.col("response_left") != pl.col("response_right"))
                preferences.write(rated_rows(pairs_of(differ, part.features)))
                labels += _second_labels(pairwise)
                desirable += _desirable(part.questions)
                beside.append(_own_columns(part.questions))
                ids.append(part.questions["question_id"])
                received.update(part.account)
                counted.update(
                    people=part.questions["worker_id"].n_unique(),
                    conversations=part.questions["conversation_id"].n_unique(),
                    **{mode: part.questions.filter(mode=mode).height for mode in MODES},
                )
        if not any(map(len, ids)):
            seen = "; ".join(f"{number:,} {status}" for status, number in sorted(received.items()))
            raise IfllmError(
                f"{facts['title']}: no question is in what was given{f' ({seen})' if seen else ''}. Give all of the "
                "source's files."
            )
        _check_ids(facts["title"], pl.concat(ids))
        manifest: Imported = {
            "imported": facts,
            "ifllm_hub": __version__,
            "tier": "full",
            "people": counted["people"],
            "conversations": counted["conversations"],
            "questions": {"pairwise": counted["pairwise"], "pointwise": counted["pointwise"]},
            "received": dict(sorted(received.items())),
        }
        write_manifest(folder, manifest)
        check_rows(folder, manifest["questions"])
        check_workers(folder, kept.workers)
        _write_by_name(folder / LABELS_FOLDER, labels, ".csv")
        own = pl.concat(beside, how="vertical_relaxed")  # a part may know nothing of a column
        if own.width > 1:
            write_parquet(folder / OWN_COLUMNS, own)
        write_card(folder)
        write_trl_rows(folder, (EXPLICIT,))
        _write_by_name(folder / TRL_FOLDER, desirable, ".jsonl")
    return manifest


@dataclass(frozen=True)
class _Kept:
    """A source without those who have withdrawn, and with folds."""

    title: str
    source: Source[Counter[str]]
    withdrawn: frozenset[str]

    @property
    def workers(self) -> frozenset[str]:
        return self.source.workers - self.withdrawn

    @property
    def people(self) -> dict[str, int]:
        return {worker: number for worker, number in self.source.people.items() if worker not in self.withdrawn}

    def read(self, people: Sequence[str]) -> Recorded[Counter[str]]:
        recorded = self.source.read(people)
        _check_ids(self.title, recorded.questions["question_id"])  # before anything is joined by them
        _check_values(self.title, recorded.questions)
        if not recorded.trajectories["question_id"].equals(recorded.questions["question_id"]):
            raise IfllmError(f"{self.title}: its trajectories are not those of its questions, in the same order.")
        return replace(recorded, questions=assign_folds(recorded.questions, grows=True))


def _check_ids(title: str, ids: pl.Series) -> None:
    if ids.is_duplicated().any():
        raise IfllmError(f"{title}: two questions have the same id. Is something in it twice?")


def _check_values(title: str, questions: pl.DataFrame) -> None:
    """What would otherwise become a wrong label."""
    for name in questions.columns:
        values = questions[name].drop_nulls()
        if name == "preference" or name.startswith(_LABEL):
            wrong = values.filter(~values.cast(pl.String).is_in(SIDES))
        elif name in ("rating_left", "rating_right"):
            wrong = values.filter(~values.is_between(1, 5))
        elif name.startswith(_KTO):
            wrong = values.clear() if values.dtype == pl.Boolean else values
        else:
            continue
        if len(wrong):
            allowed = "1 to 5" if name.startswith("rating") else "true or false" if name.startswith(_KTO) else SIDES
            raise IfllmError(f"{title}: {name} has the value {wrong[0]!r}; allowed are {allowed}, and null.")


def _second_labels(pairwise: pl.DataFrame) -> list[pl.DataFrame]:
    """`name`, `question_id`, `probability` that the left answer is better, of each second label."""
    return [
        pairwise.filter(pl.col(column).is_not_null()).select(
            pl.lit(column.removeprefix(_LABEL)).alias("name"),
            "question_id",
            probability=(pl.col(column) == "left").cast(pl.Float64),
        )
        for column in pairwise.columns
        if column.startswith(_LABEL)
    ]


def _desirable(questions: pl.DataFrame) -> list[pl.DataFrame]:
    """`name`, and rows in TRL's format, of each way in which single answers are desirable or not."""
    prompt = pl.col("context") if "context" in questions.columns else None
    labeled = {column: questions.filter(pl.col(column).is_not_null()) for column in questions.columns}
    return [
        trl_answers(rows.with_columns(label=column), prompt, "response_left").with_columns(name=pl.lit(column))
        for column, rows in labeled.items()
        if column.startswith(_KTO)
    ]


def _own_columns(questions: pl.DataFrame) -> pl.DataFrame:
    """What the source alone has of its questions."""
    known = {
        *COUNTED,
        "context",
        "split",
        *(column.name for config in (*MODES, "trajectories") for column in columns(config)),
    }
    # Those of the left side have other names in `pointwise`.
    known |= {f"{name}_{side}" for name in ("response", "model", "rating", "messages") for side in SIDES}
    names = [name for name in questions.columns if name not in known and not name.startswith((_LABEL, _KTO))]
    return questions.select("question_id", *names)


def _write_by_name(folder: Path, parts: list[pl.DataFrame], suffix: str) -> None:
    """One file for each `name` in the parts."""
    for rows in pl.concat(parts).partition_by("name", maintain_order=True) if parts else ():
        make_folder(folder)
        content = rows.drop("name")
        text = content.write_csv() if suffix == ".csv" else content.write_ndjson()
        write_atomically(folder / f"{rows['name'][0]}{suffix}", text)
