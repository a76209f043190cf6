"""Readings and their table as the study's, with values drawn from a known model instead of measured."""

import numpy as np
import polars as pl

from ifllm_hub.patterns.readings import Readings

# Questions of each worker, in conversations of three turns; as unequal as the study's.
SIZES = (90, 45, 36, 30, 24, 18, *[12] * 6, *[6] * 10)


def study(
    rng: np.random.Generator,
    sizes: tuple[int, ...] = SIZES,
    dwell: float = 0.0,
    length: float = 0.0,
    coin: np.ndarray | None = None,
) -> tuple[Readings, pl.DataFrame]:
    """Every second conversation has two answers.

    Args:
        sizes: questions of each worker.
        dwell: effect of bullet points on the log dwell.
        length: effect of twice the length on the depth, beside that of the worker.
        coin: of each question; None: tossed.
    """
    n = sum(sizes)
    worker = np.repeat(np.arange(len(sizes)), sizes)
    number = np.concatenate([np.arange(size) for size in sizes])
    pairs = number // 3 % 2 == 1
    bullets = rng.random(n) < 0.5 if coin is None else coin
    questions = pl.DataFrame(
        {
            "question_id": np.arange(n),
            "worker_id": [f"worker_{one:02}" for one in worker],
            "conversation_id": [f"{one}/{k // 3}" for one, k in zip(worker, number, strict=True)],
            "task_id": number // 3,
            "turn": (number % 3 + 1).astype(np.int32),
            "mode": np.where(pairs, "pairwise", "pointwise"),
            "schema_version": np.where(worker % 3 == 0, "v1", np.where(worker % 3 == 1, "v2", "v3")),
            "bullet_points": bullets,
            "preference": np.where(pairs, np.where(rng.random(n) < 0.5, "left", "right"), None).tolist(),
            "rating_left": rng.integers(1, 6, n).astype(np.int8),
            "rating_right": np.where(pairs, rng.integers(1, 6, n), None).tolist(),
        },
        schema_overrides={"preference": pl.String, "rating_right": pl.Int8},
    )
    texts = [[_text(rng, bool(one)) for one in bullets] for _ in range(2)]
    answers: list[tuple[object, ...]] = []
    rows: list[tuple[object, ...]] = []
    for k in range(n):
        own = worker[k] / len(sizes)
        for side, of, rival in (("left", texts[0], texts[1]), ("right", texts[1], texts[0])):
            if side == "right" and not pairs[k]:
                continue
            other = len(rival[k]) if pairs[k] else None
            answers.append((k, side, of[k], len(of[k]), other, 300, len(of[k].split())))
            deep = 0.2 + 0.5 * own + length * np.log2(len(of[k]) / 500) + 0.1 * rng.standard_t(4)
            long = np.exp(9 + own + dwell * bullets[k] + 0.5 * rng.normal())
            for measure, value in (("depth", deep), ("dwell", long)):
                rows.append((k, side, len(of[k]), other, "mouse", measure, float(value)))
        if pairs[k]:
            both = len(texts[0][k]) + len(texts[1][k])
            part = len(texts[0][k]) / both
            rows.append((k, None, both, None, "mouse", "left_first", float(rng.integers(0, 2))))
            rows.append((k, None, both, None, "mouse", "left_time_share", 0.25 + 0.5 * part + 0.1 * rng.normal()))
    names = ("question_id", "side", "text", "length", "rival_length", "first_screen", "words")
    frame = pl.DataFrame(answers, schema=names, orient="row", infer_schema_length=None)
    seen = pl.DataFrame({"question_id": np.arange(n)})
    readings = Readings(questions, frame, {"mouse": seen, "gaze": seen.clear()}, pl.DataFrame())
    values = pl.DataFrame(
        rows,
        schema=["question_id", "side", "length", "rival_length", "modality", "measure", "value"],
        orient="row",
        infer_schema_length=None,
    )
    return readings, questions.select(
        "question_id", "worker_id", "conversation_id", "task_id", "turn", "mode", "schema_version", "bullet_points"
    ).join(values, on="question_id", maintain_order="left_right")


def _text(rng: np.random.Generator, bullets: bool) -> str:
    words = "word " * int(rng.integers(40, 320))
    return ("- " if bullets or rng.random() < 0.5 else "") + words
