"""A dataset -> its readings: the questions, their answers, and the ticks on the answers' text by mouse and gaze."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from ifllm_hub.dataset.load import load_config
from ifllm_hub.errors import IfllmError
from ifllm_hub.features.ticks import all_ticks, in_context, on_text
from ifllm_hub.sources.simulation.page import Layout, Page
from ifllm_hub.terms import MODALITIES, SIDES

# An answer is cut into this many equal parts for the entropies of a path.
PARTS = 10
_WORD = r"\S+"
_QUESTION = (
    "question_id",
    "worker_id",
    "conversation_id",
    "task_id",
    "turn",
    "mode",
    "schema_version",
    "bullet_points",
    "preference",
    "rating_left",
    "rating_right",
)


@dataclass(frozen=True)
class Readings:
    """What a dataset tells of how its answers were read.

    Attributes:
        questions: a row a question with behavior, by `question_id`: `worker_id`, `conversation_id`, `task_id`, `turn`,
            `mode`, `schema_version`, `bullet_points`, `preference` ("left", "right" or null; null in pointwise),
            `rating_left` and `rating_right` (1-5 or null; a single answer is on the left), `tick_ms` (Float64, median
            time between ticks: a property of the computer).
        answers: a row an answer, by `question_id` and `side`: `text`, `length` and `rival_length` (Int64, code points;
            the latter null where there is one answer), `words` (Int64, runs of non-space) and `first_screen` (Int64,
            code points that the study's page showed without scrolling, by its estimated size; null where the layout is
            not known).
        ticks: by modality, the ticks on text (`features.ticks.in_context`), with `words`, `first_screen`, `elapsed`
            (Int64, ms of dwell on that answer before the tick), `read` (Int64, ms of dwell on it in all), `part_dwell`
            (Int64, ms of dwell on the same of `PARTS` equal parts of the answer) and `surprise` (Float64, bit; where
            the path came from another part: -log2 of how often it went from that one to this one); a question's ticks
            stand together, in their order.
        joint: ticks with both modalities on text, in order: `question_id`, `t`, `dt` (ms), `mouse_side`, `mouse_char`,
            `mouse_x` (CSS px in the viewport), `gaze_side`, `gaze_char`, `gaze_x`.
    """

    questions: pl.DataFrame
    answers: pl.DataFrame
    ticks: dict[str, pl.DataFrame]
    joint: pl.DataFrame


def load_readings(dataset: str | Path, revision: str | None = None) -> Readings:
    """The readings of a dataset folder or Hub repo, without excluded workers and answers that are error messages.

    Raises:
        IfllmError: see `load_config`; or nobody was seen reading.

    Examples:
        >>> from ifllm_hub.patterns.readings import load_readings
        >>> readings = load_readings("ifllm")
        >>> readings.questions["mode"].value_counts(sort=True).rows()
        [('pointwise', 27), ('pairwise', 25)]
    """
    asked = pl.concat([_asked(load_config(dataset, mode, revision), mode) for mode in ("pairwise", "pointwise")])
    readings = readings_of(asked, load_config(dataset, "trajectories", revision))
    if readings.questions.is_empty():
        raise IfllmError(f"{dataset}: nobody was seen reading. Take a dataset that was built with trajectories.")
    return readings


def readings_of(asked: pl.DataFrame, trajectories: pl.DataFrame) -> Readings:
    """The readings of questions.

    Args:
        asked: the columns of `Readings.questions` but `schema_version`, and `response_left`, `response_right` (null
            where there is one answer).
        trajectories: rows of the config `trajectories`, of these questions or more.
    """
    page = trajectories.select(
        "question_id", "schema_version", "viewport_width", "viewport_height", "length_left", "length_right"
    )
    questions = asked.join(page, on="question_id", how="inner").sort("question_id")
    answers = _answers(questions)
    own = trajectories.join(questions, on="question_id", how="semi").sort("question_id")
    all_of_them = all_ticks(own)
    lengths = questions.select("question_id", "length_left", "length_right")
    ticks = {modality: _in_order(on_text(all_of_them, lengths, modality), answers) for modality in MODALITIES}
    seen = pl.concat([ticks[modality].select("question_id") for modality in MODALITIES]).unique()
    together = all_of_them.filter(
        pl.all_horizontal(pl.col(f"{modality}_side").is_not_null() for modality in MODALITIES)
    ).join(_across(own), on=["question_id", "tick"], how="left", maintain_order="left")
    places = [f"{modality}_{what}" for modality in MODALITIES for what in ("side", "char", "x")]
    steps = pl.col("dt").filter(pl.col("dt") > 0).median()
    typical = all_of_them.group_by("question_id").agg(tick_ms=steps)
    about = questions.select(_QUESTION).join(typical, on="question_id", how="left", maintain_order="left")
    return Readings(
        about.join(seen, on="question_id", how="semi", maintain_order="left"),
        answers.join(seen, on="question_id", how="semi", maintain_order="left"),
        ticks,
        together.select("question_id", "t", "dt", *places),
    )


def _asked(rows: pl.DataFrame, mode: str) -> pl.DataFrame:
    """Questions of both modes with the same columns."""
    counted = rows.filter(~pl.col("excluded_worker") & ~pl.col("ai_error")).with_columns(mode=pl.lit(mode))
    if mode == "pointwise":
        counted = counted.with_columns(
            preference=pl.lit(None, pl.String),
            rating_left="rating",
            rating_right=pl.lit(None, rows.schema["rating"]),
            response_left="response",
            response_right=pl.lit(None, pl.String),
        )
    named = [name for name in _QUESTION if name != "schema_version"]
    return counted.select(*named, *(f"response_{side}" for side in SIDES))


def _answers(questions: pl.DataFrame) -> pl.DataFrame:
    rows = []
    for question in questions.iter_rows(named=True):
        for side, rival in zip(SIDES, reversed(SIDES), strict=True):
            text = question[f"response_{side}"]
            if text is not None:
                rows.append(
                    (
                        question["question_id"],
                        side,
                        text,
                        question[f"length_{side}"],
                        question[f"length_{rival}"],
                        _first_screen(question, text),
                    )
                )
    names = {
        "question_id": pl.Int64,
        "side": pl.String,
        "text": pl.String,
        "length": pl.Int64,
        "rival_length": pl.Int64,
        "first_screen": pl.Int64,
    }
    words = pl.col("text").str.count_matches(_WORD).cast(pl.Int64)
    return pl.DataFrame(rows, schema=names, orient="row").with_columns(words=words)


def _first_screen(question: dict[str, object], text: str) -> int | None:
    """Code points in view before the answer's box was scrolled; None for another page than the study's."""
    version, width, height = (question[name] for name in ("schema_version", "viewport_width", "viewport_height"))
    if width is None or height is None or version not in ("v1", "v2", "v3"):
        return None
    page = Page(int(str(version)[1:]), question["mode"] == "pairwise", int(str(width)), int(str(height)))
    if page.columns < 1:
        return None
    layout = Layout(text, page.columns)
    lines = page.lines_in_view
    return int(layout.starts[lines]) if lines < len(layout.starts) else len(text)


def _across(trajectories: pl.DataFrame) -> pl.DataFrame:
    """Where mouse and gaze are across the screen: `question_id`, `tick` as in `all_ticks`, `mouse_x`, `gaze_x`."""
    x = [f"{modality}_x" for modality in MODALITIES]
    rows = trajectories.select("question_id", *x).filter(pl.col(x[0]).list.len() > 0)
    return rows.explode(*x, empty_as_null=False).with_columns(tick=pl.int_range(pl.len()).over("question_id"))


def _in_order(reading: pl.DataFrame, answers: pl.DataFrame) -> pl.DataFrame:
    answer = ["question_id", "side"]
    of_text = answers.select(*answer, "words", "first_screen")
    dt, part = pl.col("dt"), pl.col("part")
    came_from = part.shift(1).over(answer)
    left, went = (pl.len().over(*answer, "came_from", *also) for also in ((), ("part",)))
    return (
        in_context(reading)
        .join(of_text, on=answer, how="left", maintain_order="left")
        .with_columns(
            elapsed=dt.cum_sum().over(answer) - dt,
            read=dt.sum().over(answer),
            part=(PARTS * pl.col("char") // pl.col("length").clip(1)).clip(0, PARTS - 1),
        )
        .with_columns(part_dwell=dt.sum().over(*answer, "part"), came_from=pl.when(came_from != part).then(came_from))
        .with_columns(surprise=pl.when(pl.col("came_from").is_not_null()).then((left / went).log(2)))
        .drop("part", "came_from")
    )
