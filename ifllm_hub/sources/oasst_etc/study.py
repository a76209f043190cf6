"""A cloned OASST-ETC folder as a source: its readers, the pairs they read, and where they looked."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from ifllm_hub.errors import IfllmError
from ifllm_hub.sources.frames import as_questions, as_trajectories
from ifllm_hub.sources.oasst_etc.files import URL, Session, complete_it, find_sessions
from ifllm_hub.sources.oasst_etc.reading import fixations_on
from ifllm_hub.sources.oasst_etc.session import Asked, Pair, read_session
from ifllm_hub.sources.oasst_etc.ticks import ticks_of
from ifllm_hub.sources.source import Facts, Recorded
from ifllm_hub.terms import SIDES, Side

# Of the screen on which the answers were shown, px.
VIEWPORT = (1280, 1024)

# Ticks made of fixations.
_SCHEMA_VERSION = "f1"
_CHAR = {side: f"gaze_char_{side}" for side in SIDES}
_NOTHING = pl.DataFrame(
    schema={"question_id": pl.Int64, "t": pl.Int64, "gaze_x": pl.Float64, "gaze_y": pl.Float64}
    | dict.fromkeys(_CHAR.values(), pl.Int64)
)
_QUESTIONS: dict[str, type[pl.DataType]] = {
    "question_id": pl.Int64,
    "worker_id": pl.String,
    "task_id": pl.Int64,
    "query": pl.String,
    "preference": pl.String,
    "label_oasst_rank": pl.String,
    "decision_time_ms": pl.Int64,
    "viewport_width": pl.Int32,
    "viewport_height": pl.Int32,
}
# Of each answer: what was shown, what the reader said of it, and what the authors say of its recording.
_ANSWERS: dict[str, type[pl.DataType]] = {
    "response": pl.String,
    "rating": pl.Int8,
    "politeness": pl.Int8,
    "harmlessness": pl.Int8,
    "discarded": pl.Boolean,
    "calibrated": pl.Boolean,
    "mean_distance": pl.Float64,
    "fixations_removed": pl.Float64,
}
_QUESTIONS |= {f"{name}_{side}": type_ for side in SIDES for name, type_ in _ANSWERS.items()}
_KEPT, _DISCARDED, _MISSING = "trials: kept", "trials: discarded by the authors", "trials: without a recording"

FACTS: Facts = {
    "name": "oasst-etc",
    "title": "OASST-ETC: eye tracking of people who compare two answers of OASST1",
    "url": URL,
    "license": "unknown",
    "terms": (
        "The authors publish the recordings without a license, so this dataset may not be passed on; ask them first. "
        "The texts are OASST1's (Apache-2.0)."
    ),
    "citation": """@article{lopezcardona2025oasstetc,
  title = {{OASST-ETC} Dataset: Alignment Signals from Eye-tracking Analysis of {LLM} Responses},
  author = {Lopez-Cardona, Angela and Idesis, Sebastian and Barreda-Ángeles, Miguel and Abadal, Sergi and Arapakis,
    Ioannis},
  journal = {Proceedings of the ACM on Human-Computer Interaction},
  year = {2025},
  doi = {10.1145/3725840}
}
""",
    "readers": (
        "24 people in a laboratory read two answers to a prompt, one after the other, rated each (quality, politeness, "
        "harmlessness; 1-5), and then said which was better. `labels/oasst_rank.csv` says which of the two OASST's "
        "volunteers ranked higher."
    ),
    "recording": (
        "Gaze only, by a Gazepoint tracker of about 60 Hz on a screen of 1280 x 1024 px that shows one answer at a "
        "time; fixations as the tracker detected them, on the words to which the authors assigned them. A tick stands "
        "where a fixation begins, and every second while it lasts; dwell is the time of fixations and of gaps below "
        "80 ms between them."
    ),
    "problems": [
        "That the choice, 1 or 2, is the order shown is inferred, not documented: compare in the manifest how often "
        "the answer chosen was the better and the worse rated one.",
        "Words were read off screenshots; fixations on words that are not found in the answer count as off the text. "
        "The manifest has their number.",
        "Each fixation is on the middle of its word: where in the word gaze was is not known.",
        "Where the tracker's own file does not have a trial's fixations, each is taken to begin where the last ended; "
        "the manifest counts these trials.",
        "Time begins with the first fixation on each answer; how long after the answer appeared is not known.",
        "Trials that the authors discarded keep their labels and have no gaze; many others are badly calibrated "
        "(`calibrated`, `mean_distance` of the source).",
        "The pseudonyms are those of the published folders.",
    ],
    "not_comparable": [
        "Answers were read one after the other, so nobody compares them side by side: changes of side, and what was "
        "read first, were set by the experiment.",
        "A laboratory tracker, and fixations in place of samples of a webcam: numbers of ticks, visits and speeds "
        "differ by the device, dwell does not by its definition.",
        "There is no mouse, no scrolling and no conversation.",
        "The answers are of people (OASST1), the prompts and their order were chosen by the experimenters.",
    ],
}


@dataclass(frozen=True)
class OasstEtc:
    """A `Source`.

    Attributes:
        sessions: what was asked in each session, and its files, by reader.
    """

    sessions: dict[str, list[tuple[Session, Asked]]]

    @property
    def workers(self) -> frozenset[str]:
        """Every reader: nobody asked to be left out, other than those named to `open_oasst_etc`."""
        return frozenset(self.sessions)

    @cached_property
    def people(self) -> dict[str, int]:
        """Readers in the order of their ids, with how many pairs they read; each pair is a conversation of its own."""
        return {worker: sum(len(asked.pairs) for _, asked in self.sessions[worker]) for worker in sorted(self.sessions)}

    def read(self, people: Sequence[str]) -> Recorded[Counter[str]]:
        """The pairs of some readers, and the ticks of their gaze.

        Raises:
            IfllmError: a file is missing or damaged.
        """
        asked: list[dict[str, Any]] = []
        ticks: list[pl.DataFrame] = []
        account: Counter[str] = Counter()
        for worker in people:
            for session, prompts in self.sessions[worker]:
                quality, starts = _quality(session), session.starts()
                counts = Counter(
                    {
                        "pairs: kept": len(prompts.pairs),
                        "pairs: skipped by the reader": prompts.not_shown,
                        "pairs: without a second answer": prompts.incomplete,
                    }
                )
                for pair in prompts.pairs:
                    counts[_agreement(pair)] += 1
                    asked.append(_question(worker, pair, quality))
                    ticks += _ticks(pair, quality, starts, counts)
                if counts[_MISSING] and not counts[_KEPT]:
                    raise IfllmError(f"{session.folder / 'vertices'}: no fixations on any answer. {complete_it()}")
                account += counts
        questions = as_questions(pl.DataFrame(asked, schema=_QUESTIONS, orient="row"))
        return Recorded(questions, as_trajectories(questions, pl.concat([_NOTHING, *ticks]), _SCHEMA_VERSION), account)


def open_oasst_etc(folder: Path) -> OasstEtc:
    """The recordings in a folder that the user has cloned; what every reader was asked is read and checked.

    Args:
        folder: the clone, its data folder (`oasstetc_data`), or `raw_data`.

    Raises:
        IfllmError: files are missing, of another format, or damaged.
    """
    sessions: dict[str, list[tuple[Session, Asked]]] = {}
    for session in find_sessions(folder):
        worker = f"oasstetc_{session.user}"
        sessions.setdefault(worker, []).append((session, read_session(session)))
    return OasstEtc(sessions)


def _question(worker: str, pair: Pair, quality: dict[str, dict[str, Any]]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "question_id": pair.question_id,
        "worker_id": worker,
        "task_id": pair.prompt,
        "query": pair.query,
        "preference": pair.preference,
        "viewport_width": VIEWPORT[0],
        "viewport_height": VIEWPORT[1],
        "label_oasst_rank": _better(pair.left.rank, pair.right.rank, lower=True),
        "decision_time_ms": pair.decision_ms,
    }
    for side, answer in pair.answers.items():
        said = {
            "response": answer.text,
            "rating": answer.quality,
            "politeness": answer.politeness,
            "harmlessness": answer.harmlessness,
            **quality.get(answer.trial, {}),
        }
        row |= {f"{name}_{side}": value for name, value in said.items()}
    return row


def _ticks(
    pair: Pair, quality: dict[str, dict[str, Any]], starts: pl.DataFrame, counts: Counter[str]
) -> list[pl.DataFrame]:
    """The ticks on each recorded answer; what became of trials, fixations and words is added to the `counts`."""
    ticks = []
    ended = 0
    for side, answer in pair.answers.items():
        if quality.get(answer.trial, {}).get("discarded"):
            counts[_DISCARDED] += 1
            continue
        read = fixations_on(pair.session, answer, starts)
        counts[_MISSING if read is None else _KEPT] += 1
        if read is None:
            continue
        fixations, became = read
        counts.update(became)
        # PsychoPy's clock says how long after the first answer the second appeared; two answers never overlap.
        shown = max(pair.apart_ms, ended) if side == "right" else 0
        one = ticks_of(fixations.with_columns(pl.col("start", "end") + shown))
        ticks.append(
            one.select(
                pl.lit(pair.question_id).alias("question_id"),
                "t",
                pl.col("x").alias("gaze_x"),
                pl.col("y").alias("gaze_y"),
                *((pl.col("char") if side == other else pl.lit(-1, pl.Int64)).alias(_CHAR[other]) for other in SIDES),
            )
        )
        ended = shown + fixations["end"][-1]
    return ticks


def _quality(session: Session) -> dict[str, dict[str, Any]]:
    """What the authors say of each trial, under our names of it."""
    path = session.folder / "info.csv"
    table = session.quality()
    if table["trial"].is_null().any() or table["trial"].is_duplicated().any():
        raise IfllmError(f"{path}: has a trial twice, or without an id. {complete_it()}")
    flags = table.select(pl.col("discarted", "calibrate").is_in(["True", "False"]).fill_null(False).all())
    if not all(flags.row(0)):
        raise IfllmError(f"{path}: `discarted` or `calibrate` is neither True nor False. {complete_it()}")
    return {
        row["trial"]: {
            "discarded": row["discarted"] == "True",
            "calibrated": row["calibrate"] == "True",
            "mean_distance": row["mean_distance"],
            "fixations_removed": row["fix_removed"],
        }
        for row in table.iter_rows(named=True)
    }


def _agreement(pair: Pair) -> str:
    """Whether the choice, read as the order shown, is what the ratings say."""
    rated = _better(pair.left.quality, pair.right.quality, lower=False)
    if pair.preference is None:
        return "choices: not made"
    if rated is None:
        return "choices: of answers rated the same, or not rated"
    return f"choices: the {'better' if rated == pair.preference else 'worse'} rated answer"


def _better(left: float | None, right: float | None, lower: bool) -> Side | None:
    if left is None or right is None or left == right:
        return None
    return "left" if (left < right) == lower else "right"
