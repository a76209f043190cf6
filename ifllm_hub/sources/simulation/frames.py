"""A simulated study of known readers as frames, without its files: for studies that need many simulated studies."""

from typing import Any

import numpy as np
import polars as pl

from ifllm_hub.sources.ifllm.study import as_trajectories
from ifllm_hub.sources.ifllm.ticks import TICK_SCHEMA
from ifllm_hub.sources.simulation.people import Conversation
from ifllm_hub.sources.simulation.simulate import (
    check,
    ground_truth,
    invite,
    number_questions,
    question_ticks,
    seconds_asked_at,
    take_place,
)
from ifllm_hub.terms import MODALITIES, MODES, SIDES

_QUESTIONS = {
    "question_id": pl.Int64,
    "worker_id": pl.String,
    "task_id": pl.Int64,
    "conversation_id": pl.String,
    "turn": pl.Int64,
    "mode": pl.String,
    "query": pl.String,
    "response_left": pl.String,
    "response_right": pl.String,
    "model_left": pl.String,
    "model_right": pl.String,
    "rating_left": pl.Int64,
    "rating_right": pl.Int64,
    "preference": pl.String,
    "better_than_previous": pl.Boolean,
    "bullet_points": pl.Boolean,
    "asked_at": pl.Int64,
    "ai_error": pl.Boolean,
    "excluded_worker": pl.Boolean,
}


def simulate_frames(
    workers: int = 60, questions: int = 1300, seed: int = 0, bullets: bool | None = None
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Simulate a study of known readers and return what a dataset built of its files would hold.

    The same arguments give the same frames, those of `simulate_release(..., known_readers=True)` without what quirks
    make unreadable: damaged lines, split text nodes, and the missing date of one question.

    With `bullets`, the study that would have been had the coin fallen on the same side for all questions. The mean
    difference of a measure between True and False is the true average effect of asking for bullet points on it; join
    the two by `conversation_id` and `turn`, since the numbers of questions follow the clock. Held fixed are the workers
    with their kinds, lags and viewports, the conversations, the queries, the models, the quality and the intended
    length of each answer, all effects on pace, and each question's random numbers for labels and for the path. What
    may follow from bullet points does: the words and with them the length, liking, ratings and labels, and the
    reading. Noise of single ticks (clock, webcam, rests of the hand) is not shared: the number of ticks differs.

    Args:
        workers: 4 to 200, of very unequal activity.
        questions: at least 30, and 4 to 40 per worker. Roughly half are pairwise.
        seed: 0 or more.
        bullets: ask for bullet points always (True), never (False), or by the coin (None).

    Returns:
        `questions`: a row a question, the columns of `read_questions`.
        `trajectories`: the same rows in the same order, the columns of the config `trajectories` and `conversation_id`;
        no ticks where a conversation has no behavior.
        `truth`: `ground_truth.parquet`, by `question_id`.

    Raises:
        IfllmError: a number is out of range.

    Examples:
        >>> from ifllm_hub.sources.simulation.frames import simulate_frames
        >>> questions, trajectories, truth = simulate_frames(workers=4, questions=30)
        >>> sorted(truth["reader_kind"].unique())
        ['alternator', 'linear', 'scanner', 'skimmer']
    """
    check("simulate_frames", workers, questions, seed)
    rng = np.random.default_rng([seed, 0])
    people = invite(rng, workers, questions, seed, known_readers=True)
    for question in (q for worker in people for c in worker.conversations for q in c.questions):
        question.bullet_points = question.bullet_points if bullets is None else bullets
    logged = [c for _, c, _ in take_place(rng, people, seed, cells=False) if c.logged]
    number_questions(rng, logged)
    rows = [row for conversation in logged for row in _questions(conversation)]
    asked = pl.DataFrame(rows, schema=_QUESTIONS, orient="row").sort("worker_id", "task_id", "question_id")
    return asked, as_trajectories(asked, _ticks(logged)), ground_truth(logged)


def _questions(conversation: Conversation) -> list[dict[str, Any]]:
    worker, task = conversation.worker.worker_id, conversation.task_id
    rows = []
    for question, asked_at in zip(conversation.questions, seconds_asked_at(conversation), strict=True):
        row: dict[str, Any] = {
            "question_id": question.question_id,
            "worker_id": worker,
            "task_id": task,
            "conversation_id": f"{worker}/{task}",
            "turn": question.turn,
            "mode": MODES[0] if conversation.pairwise else MODES[1],
            "query": question.query,
            "bullet_points": question.bullet_points,
            "asked_at": asked_at,
            "ai_error": question.ai_error,
            "excluded_worker": False,
        }
        for name, values in (("response", question.answers), ("model", question.models), ("rating", question.ratings)):
            row |= {f"{name}_{side}": value for side, value in zip(SIDES, values, strict=False)}
        if question.label is not None:
            row |= (
                {"preference": SIDES[question.label]}
                if conversation.pairwise
                else {"better_than_previous": question.label == 1}
            )
        rows.append(row)
    return rows


def _ticks(conversations: list[Conversation]) -> pl.DataFrame:
    """One row per tick of a question, as `align_tasks` makes them of the files."""
    parts = [_columns(conversation) for conversation in conversations]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    versions = pl.Series(["v1", "v2", "v3"]).gather(columns.pop("version") - 1)
    ticks = pl.DataFrame(columns).with_columns(
        pl.col("mouse_x", "mouse_y").fill_nan(None),
        schema_version=versions,
        face_ok=pl.when(pl.col("face_ok") >= 0).then(pl.col("face_ok") == 1),
    )
    return ticks.select(*TICK_SCHEMA).cast(pl.Schema(TICK_SCHEMA))


def _columns(conversation: Conversation) -> dict[str, np.ndarray]:
    ticks, slots = conversation.ticks, question_ticks(conversation)
    span = slice(slots[0].start, slots[-1].stop)
    turn = np.repeat(np.arange(len(slots)), [slot.stop - slot.start for slot in slots])
    version = conversation.worker.schema_version
    moved = (ticks.mouse[span] >= 0).any(axis=1, keepdims=True)
    points = {"mouse": np.where(moved, ticks.mouse[span], np.nan), "gaze": np.round(ticks.gaze[span], 1)}
    columns = {
        "question_id": np.array([question.question_id for question in conversation.questions])[turn],
        "version": np.full(len(turn), version),
        "t": (ticks.epoch[span] - np.array(seconds_asked_at(conversation))[turn]).astype(np.int32),
        "face_ok": np.full(len(turn), -1) if version == 1 else ticks.face_ok[span],
    }
    for modality in MODALITIES:
        for axis in (0, 1):
            columns[f"{modality}_{'xy'[axis]}"] = points[modality][:, axis].astype(np.float32)
        for s, side in enumerate(SIDES):
            # Until the new answer is on screen, what lies under the point is the one before.
            chars = ticks.chars[modality, s][span] if (modality, s) in ticks.chars else -1
            columns[f"{modality}_char_{side}"] = np.where(ticks.shown[span] == turn, chars, -1).astype(np.int16)
    return columns
