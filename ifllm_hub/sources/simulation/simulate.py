"""A simulated release: the files and quirks of the real one (docs/format.md), with the truth beside them.

Nothing in it was recorded: workers, topics, answers, models, readings and ratings are generated from a seed. With it,
every step of the package runs, and is tested against known answers, without the real release.
"""

import csv
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ifllm_hub.errors import IfllmError
from ifllm_hub.files import replacing_folder
from ifllm_hub.sources.simulation.page import Page
from ifllm_hub.sources.simulation.people import (
    Conversation,
    Question,
    Worker,
    assign_conversations,
    converse,
    know_readers,
    person_id,
    place_quirks,
    recruit,
)
from ifllm_hub.sources.simulation.reading import record, write_recording
from ifllm_hub.terms import MODALITIES, SIDES

TRUTH_FILE = "ground_truth.parquet"

_WORKERS = (4, 200)
_MIN_QUESTIONS, _QUESTIONS_PER_WORKER = 30, (4, 40)

# Schema version -> when the first worker may start (UTC), and the days over which workers start.
_PERIODS = {
    1: (datetime(2025, 9, 9, 13, tzinfo=UTC), 3.0),
    2: (datetime(2025, 10, 15, 13, tzinfo=UTC), 55.0),
    3: (datetime(2026, 1, 17, 3, tzinfo=UTC), 1.5),
}
_DAY_MS = 86_400_000
_CLOCK_ERROR_MS = 4 * 3_600_000

_LOG_HEADER = (
    "query_ID,user_id,task_id,user_query,llm_response_1,llm_response_2,llm_name_1,llm_name_2,likert_1,likert_2,"
    "preference,adjustment,query_timestamp"
)
_TASK_HEADER = (
    "user_id,task_id,copy_sentence,summary,feedback,understand_before,understand_after,query_copy,llm_response_copy,"
    "accuracy,finished,domain"
)
_RECORD_HEADER = "user_id,consent,age,location,education,race,gender,inserted_at"
_LOCATIONS = ("Northland", "Westmere, Orvane", "East Harbour", "Lowfield", "Port Sable")
_EDUCATIONS = ("High School Graduate", "Bachelor", "Master")
_RACES = ("Asian", "White", "Black or African American", "White,Asian")
_GENDERS = ("Female", "Male", "Non-binary")

_Rows = list[list[Any]]


def simulate_release(
    out: Path, workers: int = 24, questions: int = 300, seed: int = 0, known_readers: bool = False
) -> Path:
    """Write a simulated release to `out/dataset` and what is true about it to `out/ground_truth.parquet`.

    The same arguments give the same bytes. The folder appears under its name only when it is complete.

    Args:
        out: the folder to write; replaced as a whole when it is an earlier simulation.
        workers: people who answered, 4 to 200.
        questions: turns, at least 30, and 4 to 40 per worker. Roughly half are pairwise.
        seed: 0 or more.
        known_readers: let people read in one of four known ways, with known effects of length, bullet points and a
            second answer (`ifllm_hub.sources.simulation.readers`). The ground truth then also has `reader_kind`,
            `mouse_lag_ms`, and the effects on the log of pace `log_pace_worker`, `log_pace_conversation` and
            `log_pace_question`.

    Returns:
        `out`.

    Raises:
        IfllmError: `out` is taken or cannot be written, or a number is out of range.

    Examples:
        >>> from pathlib import Path
        >>> from ifllm_hub.sources.simulation.simulate import simulate_release
        >>> folder = simulate_release(Path("another"), workers=4, questions=30)
        >>> sorted(path.name for path in folder.iterdir())
        ['dataset', 'ground_truth.parquet']
    """
    check(str(out), workers, questions, seed)
    with replacing_folder(out, TRUTH_FILE) as folder:
        _write(folder, workers, questions, seed, known_readers)
    return out


def check(what: str, workers: int, questions: int, seed: int) -> None:
    """Raise an `IfllmError` that begins with `what` where a number is out of range."""
    if not _WORKERS[0] <= workers <= _WORKERS[1]:
        raise IfllmError(f"{what}: workers is {workers}; give {_WORKERS[0]} to {_WORKERS[1]}.")
    least, most = (workers * each for each in _QUESTIONS_PER_WORKER)
    least = max(least, _MIN_QUESTIONS)
    if not least <= questions <= most:
        raise IfllmError(f"{what}: questions is {questions}; give {least} to {most} for {workers} workers.")
    if seed < 0:
        raise IfllmError(f"{what}: seed is {seed}; give 0 or more.")


def _write(folder: Path, workers: int, questions: int, seed: int, known_readers: bool) -> None:
    rng = np.random.default_rng([seed, 0])
    people = invite(rng, workers, questions, seed, known_readers)
    dataset = folder / "dataset"
    for own, conversation, page in take_place(rng, people, seed):
        if conversation.behavior:
            of_conversation = dataset / "user_behavior" / conversation.worker.worker_id / str(conversation.task_id)
            late, damaged = conversation.late_batch, conversation.damaged
            conversation.damaged_ticks = write_recording(own, conversation.ticks, page, of_conversation, late, damaged)
    logged = [c for worker in people for c in worker.conversations if c.logged]
    number_questions(rng, logged)
    for name, header, rows in (
        ("query_logs_table.csv", _LOG_HEADER, _log_rows(rng, logged)),
        ("task_table.csv", _TASK_HEADER, _task_rows(rng, people)),
        ("record_info_table.csv", _RECORD_HEADER, _record_rows(rng, people, seed)),
    ):
        with (dataset / name).open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(header.split(","))
            writer.writerows(rows)
    ground_truth(logged).write_parquet(folder / TRUTH_FILE)


def invite(rng: np.random.Generator, workers: int, questions: int, seed: int, known_readers: bool) -> list[Worker]:
    """The workers, with what they will do; the arguments as in `simulate_release`."""
    # Enough topics for the busiest worker not to repeat one, and few enough for workers to share tasks.
    people = recruit(rng, workers, max(130, questions // 10), seed)
    assign_conversations(rng, people, questions)
    place_quirks(rng, people)
    if known_readers:
        know_readers(people, seed)
    return people


def take_place(
    rng: np.random.Generator, people: list[Worker], seed: int, cells: bool = True
) -> Iterator[tuple[np.random.Generator, Conversation, Page]]:
    """Let every conversation take place, and yield it with its page and the random numbers for its files.

    Args:
        cells: as in `record`.
    """
    for number, worker in enumerate(people):
        first, days = _PERIODS[worker.schema_version]
        now = int(first.timestamp() * 1000) + int(rng.uniform(0, days * _DAY_MS))
        for i, conversation in enumerate(worker.conversations):
            own = np.random.default_rng([seed, 1, number, i])
            turns = converse(own, conversation)
            page = Page(worker.schema_version, conversation.pairwise, worker.reader.width, worker.reader.height)
            recording = conversation.recording = record(own, worker.reader, page, turns, now, cells)
            # Known readers do the same whether or not files are written.
            yield own.spawn(1)[0] if worker.reader.habit else own, conversation, page
            now = recording.ended_at + int(own.integers(60_000, 300_000))


def number_questions(rng: np.random.Generator, conversations: list[Conversation]) -> None:
    """Question numbers grow with time over all workers, with gaps."""
    asked = [
        (at, question) for c in conversations for at, question in zip(c.ticks.rendered_at, c.questions, strict=True)
    ]
    asked.sort(key=lambda item: item[0])
    steps = 1 + rng.poisson(0.12, len(asked))
    for (_, question), number in zip(asked, (1 + np.cumsum(steps)).tolist(), strict=True):
        question.question_id = number


def _log_rows(rng: np.random.Generator, conversations: list[Conversation]) -> _Rows:
    rows = []
    for conversation in conversations:
        for question, asked_at in zip(conversation.questions, seconds_asked_at(conversation), strict=True):
            answers, models = [*question.answers, ""][:2], [*question.models, ""][:2]
            if question.cr_lf:
                side = int(rng.integers(len(question.answers)))
                spaces = [i + 1 for i, character in enumerate(answers[side]) if character == " "]
                answers[side] = _broken_line(answers[side], spaces[int(rng.integers(1 + len(spaces) // 2))])
            if question.model_cr_lf:
                models[0] = _broken_line(models[0], models[0].index("/") + 1)
            late = _CLOCK_ERROR_MS if conversation.clock_error else 0
            no_date = conversation.no_date and question.turn == 1
            rows.append(
                [
                    question.question_id,
                    conversation.worker.worker_id,
                    conversation.task_id,
                    question.query,
                    *answers,
                    *models,
                    *[*map(_code, question.ratings), "", ""][:2],
                    _code(_preference(conversation, question)),
                    int(question.bullet_points),
                    "0000-00-00 00:00:00" if no_date else _date(asked_at + late),
                ]
            )
    return sorted(rows, key=lambda row: row[0])


def _preference(conversation: Conversation, question: Question) -> int | None:
    """Pairwise: 1 left, 2 right; pointwise: 1 better than the answer before, 0 worse."""
    return question.label if question.label is None else question.label + conversation.pairwise


def _task_rows(rng: np.random.Generator, people: list[Worker]) -> _Rows:
    """A row for every topic that was ticked, some of them never started; one row appears twice, by different clocks."""
    rows: _Rows = []
    again: list[Any] | None = None
    for worker in people:
        for conversation in worker.conversations:
            row = [worker.worker_id, conversation.task_id, *[""] * 7, _code(worker.accuracy), ""]
            row.append(conversation.topic.name.capitalize())
            if conversation.finished:
                question = conversation.questions[int(rng.integers(len(conversation.questions)))]
                ended_at = conversation.ticks.ended_at
                part = conversation.topic.parts[int(rng.integers(len(conversation.topic.parts)))]
                row[2:9] = [
                    question.answers[0].split("\n")[-1].split(". ")[0],
                    f"I learned what the {part} is for.",
                    "all fine, thanks" if rng.random() < 0.1 else "",
                    _code(rng.integers(1, 5)),
                    _code(rng.integers(3, 6)),
                    question.query,
                    question.answers[0],
                ]
                row[10] = _date(ended_at)
                if again is None and not conversation.clock_error:
                    again = [*row[:10], _date(ended_at - _CLOCK_ERROR_MS), row[11]]
            rows.append(row)
        for _ in range(rng.integers(1, 4)):
            ticked = Conversation(worker, worker.free_slots.pop(), bool(rng.random() < 0.5), 0)
            rows.append([worker.worker_id, ticked.task_id, *[""] * 9, ticked.topic.name.capitalize()])
    return rows if again is None else [*rows, again]


def _record_rows(rng: np.random.Generator, people: list[Worker], seed: int) -> _Rows:
    """Everybody who logged in; those who did not consent appear only here, and one worker appears twice."""
    rows: _Rows = []
    for worker in people:
        person = [_code(rng.integers(19, 70)), *(_one_of(rng, o) for o in (_LOCATIONS, _EDUCATIONS, _RACES, _GENDERS))]
        login = int(worker.conversations[0].ticks.epoch[0]) - int(rng.integers(120_000, 600_000))
        rows.append([worker.worker_id, 1, *(person if rng.random() < 0.95 else [""] * 5), _date(login)])
    rows.append([*rows[0][:-1], _date(int(people[0].conversations[0].ticks.epoch[0]) - _DAY_MS)])
    for number in range(max(2, len(people) // 5)):
        login = int(_PERIODS[2][0].timestamp() * 1000) + int(rng.integers(55 * _DAY_MS))
        rows.append([person_id(seed, len(people) + number), 0, *[""] * 5, _date(login)])
    return [rows[i] for i in rng.permutation(len(rows)).tolist()]


def ground_truth(conversations: list[Conversation]) -> pl.DataFrame:
    """What is true about each question of conversations that took place, by `question_id`."""
    rows = [row for conversation in conversations for row in _truths(conversation)]
    return pl.DataFrame(rows, infer_schema_length=None).sort("question_id")


def _truths(conversation: Conversation) -> list[dict[str, Any]]:
    """The truth about each question; times in Unix ms, counts in ticks that reached the files."""
    ticks = conversation.ticks
    asked_at = seconds_asked_at(conversation)
    slots = question_ticks(conversation)
    timer, shown, damaged = ticks.timer, ticks.shown, conversation.damaged_ticks
    rows = []
    for k, (question, slot) in enumerate(zip(conversation.questions, slots, strict=True)):
        here = shown[slot] == k
        sides = SIDES[: len(question.answers)]
        row: dict[str, Any] = {
            "question_id": question.question_id,
            "worker_id": conversation.worker.worker_id,
            "task_id": conversation.task_id,
            "turn": question.turn,
            "mode": "pairwise" if conversation.pairwise else "pointwise",
            "schema_version": conversation.worker.schema_version,
            "utility_left": None,
            "utility_right": None,
            "latent_preference": None,
            "latent_better_than_previous": None,
            "flip_probability": question.flip_probability if question.latent is not None else None,
            "label_flipped": question.label != question.latent if question.label is not None else None,
            "asked_at": asked_at[k],
            "rendered_at": ticks.rendered_at[k],
            "reading_s_left": None,
            "reading_s_right": None,
            "ticks": slot.stop - slot.start,
        }
        for modality in MODALITIES:
            row |= {f"{modality}_text_ticks_{side}": None for side in SIDES}
        for s, side in enumerate(sides):
            row[f"utility_{side}"] = question.utility[s]
            row[f"reading_s_{side}"] = ticks.reading_s[k][s]
            for modality in MODALITIES:
                row[f"{modality}_text_ticks_{side}"] = int(((ticks.chars[modality, s][slot] >= 0) & here).sum())
        if conversation.pairwise:
            row["latent_preference"] = sides[question.latent or 0]
        elif question.latent is not None:
            row["latent_better_than_previous"] = question.latent == 1
        row |= {
            "has_behavior": conversation.behavior,
            "clock_error": conversation.clock_error,
            "no_date": conversation.no_date and question.turn == 1,
            "unlabeled": not question.ratings,
            "ai_error": question.ai_error,
            "cr_lf": question.cr_lf,
            "model_cr_lf": question.model_cr_lf,
            "emoji": question.emoji,
            "split_nodes": conversation.worker.reader.splits_text,
            "late_batch": conversation.late_batch,
            "broken_lines": int(((damaged >= slot.start) & (damaged < slot.stop)).sum()),
            "repeated_timers": int((np.diff(timer, prepend=-1)[slot] == 0).sum()),
        }
        if habit := conversation.worker.reader.habit:
            row |= {
                "reader_kind": habit.kind,
                "mouse_lag_ms": habit.mouse_lag_ms,
                "log_pace_worker": habit.log_pace,
                "log_pace_conversation": conversation.log_pace,
                "log_pace_question": question.log_pace,
            }
        rows.append(row)
    return rows


def question_ticks(conversation: Conversation) -> list[slice]:
    """The ticks of each question that reached the server."""
    epoch = conversation.ticks.epoch[: conversation.ticks.kept if conversation.behavior else 0]
    bounds = np.searchsorted(epoch, seconds_asked_at(conversation)).tolist()
    return [slice(a, b) for a, b in zip(bounds, [*bounds[1:], len(epoch)], strict=True)]


def seconds_asked_at(conversation: Conversation) -> list[int]:
    """When each answer appeared, Unix ms; the page records whole seconds, rounded down."""
    return [at // 1000 * 1000 for at in conversation.ticks.rendered_at]


def _broken_line(text: str, at: int) -> str:
    return f"{text[:at]}\r\n{text[at:]}"


def _code(value: int | np.integer | None) -> str:
    return "" if value is None else f"{int(value)}.0"


def _date(epoch_ms: int) -> str:
    return datetime.fromtimestamp(epoch_ms // 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _one_of(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]
