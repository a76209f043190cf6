"""Readings of simulated walks: mouse and gaze from top to bottom of answers, made as the package makes them."""

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from ifllm_hub.patterns.readings import Readings, readings_of

TEXT = "A first sentence. Some more words and 7 of them\n\n# A heading\n- one **bold** item\n- another item\nThe end\n"
STEP_MS = 200


def walks(workers: int = 6, questions: int = 6, ticks: int = 150) -> Readings:
    """Every second question has two answers, of which the left one is read first."""
    rng = np.random.default_rng(0)
    asked: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for number in range(workers * questions):
        pair = number // workers % 2 == 0
        left, right = (TEXT * int(times) for times in rng.integers(2, 9, 2))
        asked.append(
            {
                "question_id": number,
                "worker_id": f"w{number % workers}",
                "conversation_id": f"c{number // 2}",
                "task_id": number // 2,
                "turn": 1,
                "mode": "pairwise" if pair else "pointwise",
                "bullet_points": False,
                "preference": ("left" if rng.random() < 0.5 else "right") if pair else None,
                "rating_left": 4,
                "rating_right": 3 if pair else None,
                "response_left": left,
                "response_right": right if pair else None,
            }
        )
        moment = (np.arange(ticks) + 0.5) / ticks
        on_left = moment < 0.5 if pair else moment <= 1
        path = moment * 2 % 1 if pair else moment
        row: dict[str, Any] = {
            "question_id": number,
            "schema_version": "v2",
            "viewport_width": 1536,
            "viewport_height": 730,
            "length_left": len(left),
            "length_right": len(right) if pair else None,
            "length_query": 9,
            "t": [STEP_MS * tick for tick in range(ticks)],
        }
        for modality in ("mouse", "gaze"):
            place = np.clip(path + 0.05 * rng.normal(size=ticks), 0, 0.999)
            for side, here, text in (("left", on_left, left), ("right", ~on_left, right)):
                row[f"{modality}_char_{side}"] = np.where(here, place * len(text), -1).astype(int).tolist()
            row[f"{modality}_x"] = (400 + 300 * ~on_left + 40 * rng.normal(size=ticks)).tolist()
        rows.append(row)
    return readings_of(pl.DataFrame(asked, infer_schema_length=None), pl.DataFrame(rows, infer_schema_length=None))


def odd_ones() -> dict[str, Readings]:
    """Readings that lack something, by what they lack or what there is only."""
    whole = walks()
    mouse, gaze = whole.ticks["mouse"], whole.ticks["gaze"]
    apart = replace(whole, joint=whole.joint.clear())
    asked = whole.questions
    return {
        "no gaze": replace(apart, ticks={"mouse": mouse, "gaze": gaze.clear()}),
        "no mouse": replace(apart, ticks={"mouse": mouse.clear(), "gaze": gaze}),
        "never both": apart,
        "no ratings": replace(whole, questions=asked.with_columns(preference=pl.lit(None, pl.String))),
        "single answers": only(whole, pl.col("mode") == "pointwise"),
        "one worker": only(whole, pl.col("worker_id") == "w0"),
        "three workers": only(whole, pl.col("worker_id") < "w3"),
        "one question": only(whole, pl.col("question_id") == 0),
        "nothing": only(whole, pl.col("question_id") < 0),
    }


def only(readings: Readings, which: pl.Expr) -> Readings:
    """The readings of some questions."""
    questions = readings.questions.filter(which)
    answers, mouse, gaze, joint = (
        rows.join(questions, on="question_id", how="semi", maintain_order="left")
        for rows in (readings.answers, readings.ticks["mouse"], readings.ticks["gaze"], readings.joint)
    )
    return Readings(questions, answers, {"mouse": mouse, "gaze": gaze}, joint)
