"""People's batches -> rows of the dataset: questions, and trajectories timed from when the answer appeared.

The server's store and the dataset's schema meet here; the export and the live score read the same rows.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
from sqlalchemy import Connection, select, true

from ifllm_hub.collect.export.batches import VIEW, batch_rows
from ifllm_hub.collect.export.signals import LONGEST_MS, with_signals
from ifllm_hub.collect.export.views import view_lists
from ifllm_hub.collect.pseudonyms import Pseudonyms
from ifllm_hub.collect.store.tables import BATCHES, RATINGS, RESPONSES
from ifllm_hub.collect.wire import OTHER_TEXT
from ifllm_hub.sources.frames import LENGTHS
from ifllm_hub.terms import SIDES

SCHEMA_VERSION = "c1"
# The tracker's sampling interval, ms.
TICK_MS = 80
# Of ticks, by modality; gaze with the face in the tracker's box is 3, and 4 without. The first also says what left.
_POINTERS = {"mouse": (0,), "gaze": (3, 4)}
# How an answer can be rated.
SAID = ("rating", "preference", "better_than_previous")

_ANSWERS = {
    "person": pl.String,
    "response_id": pl.String,
    "question": pl.String,
    "side": pl.String,
    "text": pl.String,
    "query": pl.String,
    "conversation": pl.String,
    "model": pl.String,
    "bullet_points": pl.Boolean,
    "registered_at": pl.Int64,
    "arm": pl.String,
    "propensity": pl.Float64,
    "rating": pl.Int8,
    "preference": pl.String,
    "better_than_previous": pl.Boolean,
    "rated_at": pl.Int64,
}


@dataclass(frozen=True)
class Readings:
    """What is known about some people.

    Attributes:
        questions: one row per question with a recording or a rating, person by person: the columns of the configs
            `pairwise` and `pointwise` that come from the collector, and `mode`.
        trajectories: rows of the config `trajectories`, one row per question, in the same order, with empty lists where
            nothing was recorded.
        statuses: how many ticks were received, by their status.
        view_statuses: likewise, how often it was recorded what of an answer was on the screen.
        wrong_clocks: in how many batches the page's clock was off by more than a minute. Their times are consistent
            with one another, but not with those of another page load.
        touched: `question_id` of the questions that were read by touch or pen only.
    """

    questions: pl.DataFrame
    trajectories: pl.DataFrame
    statuses: dict[str, int]
    view_statuses: dict[str, int]
    wrong_clocks: int
    touched: frozenset[int]


def readings_of(connection: Connection, people: Sequence[str], pseudonyms: Pseudonyms) -> Readings:
    """The readings of some people, in this order; no rows of those without a complete question.

    Args:
        people: pseudonyms in the store.
    """
    return assembled(registered_answers(connection, people), _batches(connection, people), pseudonyms)


def _batches(connection: Connection, people: Sequence[str]) -> Iterator[Any]:
    """Session and sequence, and the parsed body."""
    stored = select(BATCHES.c.session, BATCHES.c.sequence, BATCHES.c.body).where(BATCHES.c.person.in_(people))
    for row in connection.execute(stored.order_by(BATCHES.c.session, BATCHES.c.sequence)):
        yield (row.session, row.sequence), json.loads(row.body)


def assembled(
    answers: pl.DataFrame, batches: Iterable[tuple[tuple[str, int], Any]], pseudonyms: Pseudonyms
) -> Readings:
    """The readings in some batches; see `readings_of`.

    A question's trajectory does not depend on other questions; its `turn` counts only those given.

    Args:
        answers: from `registered_answers`. Recordings of other answers are left out.
        batches: session and sequence, in their order, and the parsed body.
    """
    # Two people may have the same ids of questions and conversations.
    answers = answers.with_columns(
        pl.format("{}/{}", "person", name).alias(name) for name in ("question", "conversation")
    )
    rows, events, pages, wrong_clocks = batch_rows(batches)
    placed = _placed(rows, events, answers)
    ticks, views = (placed.filter((pl.col("pointer") == VIEW) == is_view) for is_view in (False, True))
    asked = _questions(_answers_with_anything(answers, pages["response_id"]), pseudonyms)
    questions = with_signals(asked, answers, events, pages["response_id"])
    pages = pages.join(answers.select("response_id", "question"), on="response_id")
    kept = ticks.filter(pl.col("status") == "kept")
    by_hand = ticks.filter(pl.col("status") == "touch_or_pen").select("question").unique()
    touched = questions.join(by_hand, on="question", how="semi").join(kept, on="question", how="anti")
    seen = view_lists(views)
    return Readings(
        questions.drop("question"),
        _trajectories(questions, kept, _ends(ticks, events), seen, pages),
        _statuses(ticks),
        _statuses(views),
        wrong_clocks,
        frozenset(touched["question_id"]),
    )


def _statuses(placed: pl.DataFrame) -> dict[str, int]:
    return dict(placed["status"].value_counts().sort("status").iter_rows())


def registered_answers(
    connection: Connection, people: Sequence[str], questions: Collection[str] | None = None
) -> pl.DataFrame:
    """People's answers, with their ratings, in this order of people.

    Args:
        questions: the integrator's ids; None: all.
    """
    registered = [RESPONSES.c[name] for name in _ANSWERS if name in RESPONSES.c]
    said = [RATINGS.c[name] for name in (*SAID, "rated_at")]
    query = (
        select(*registered, RESPONSES.c.question_id.label("question"), *said)
        .outerjoin(RATINGS, RATINGS.c.response_id == RESPONSES.c.response_id)
        .where(RESPONSES.c.person.in_(people))
        .where(true() if questions is None else RESPONSES.c.question_id.in_(questions))
        .order_by(RESPONSES.c.registered_at, RESPONSES.c.question_id, RESPONSES.c.side)
    )
    rows = [dict(row._mapping) for row in connection.execute(query)]
    place = pl.col("person").replace_strict({person: place for place, person in enumerate(people)})
    return pl.DataFrame(rows, schema=_ANSWERS).sort(place, maintain_order=True)


def _placed(rows: pl.DataFrame, events: pl.DataFrame, answers: pl.DataFrame) -> pl.DataFrame:
    """Ticks and views with `question`, `side`, `t` (ms since the question's answer appeared) and their `status`."""
    named = answers.select("response_id", "question", "side", "text", length=pl.col("text").str.len_chars())
    placed = rows.join(named, on="response_id", how="left", maintain_order="left")
    began = (
        events.join(named, on="response_id")
        .group_by("question")
        .agg(
            streamed=pl.col("at").filter(pl.col("name") == "stream_start").min(),
            shown=pl.col("at").filter(pl.col("name") == "shown").min(),
        )
    )
    first = placed.group_by("question").agg(ticked=pl.col("at").min())
    appeared = first.join(began, on="question", how="left", nulls_equal=True).select(
        "question", appeared=pl.coalesce("streamed", pl.min_horizontal("shown", "ticked"))
    )
    t = pl.col("at") - pl.col("appeared")
    status = (
        pl.when(pl.col("question").is_null())
        .then(pl.lit("answer_gone"))
        .when(pl.col("pointer").is_in((1, 2)))
        .then(pl.lit("touch_or_pen"))
        .when(pl.col("char") == OTHER_TEXT)
        .then(pl.lit("other_text"))
        .when(~pl.col("same_text"))
        .then(pl.lit("replaced_text"))
        .when(t < 0)
        .then(pl.lit("before_the_answer"))
        .when(t > LONGEST_MS)
        .then(pl.lit("days_later"))
        .otherwise(pl.lit("kept"))
    )
    # The position after the last character is still on the text.
    char = pl.when(pl.col("char") <= pl.col("length")).then(pl.col("char")).otherwise(-1)
    return (
        placed.join(appeared, on="question", how="left", maintain_order="left", nulls_equal=True)
        .join(_same_text(placed), on=["response_id", "text_sha256", "text_length"], how="left", maintain_order="left")
        .with_columns(t=t, status=status, char=char)
        .sort("question", "at", "session", "sequence", "place", maintain_order=True)
    )


def _same_text(placed: pl.DataFrame) -> pl.DataFrame:
    """Whether a tick's token was signed for the stored text or a beginning of it, so that its char index is valid."""
    keys = ["response_id", "text_sha256", "text_length"]
    signed = placed.unique(keys, maintain_order=True).select(*keys, "text")
    return signed.select(
        *keys,
        same_text=pl.Series(
            [
                text is not None and hashlib.sha256(text[:length].encode()).hexdigest() == sha256
                for _, sha256, length, text in signed.iter_rows()
            ],
            dtype=pl.Boolean,
        ),
    )


def _answers_with_anything(answers: pl.DataFrame, named: pl.Series) -> pl.DataFrame:
    """The answers to questions that have a text, and a rating or an answer that a batch names."""
    something = pl.col("response_id").is_in(named.unique().implode()) | pl.any_horizontal(pl.col(SAID).is_not_null())
    # A stream that ended before its text was registered leaves an empty one.
    return answers.filter(something.any().over("question") & (pl.col("text") != "").any().over("question"))


def _questions(answers: pl.DataFrame, pseudonyms: Pseudonyms) -> pl.DataFrame:
    """One row per question; questions without a left answer are incomplete and left out."""
    per_side = ("response_id", "text", "model", "rating")

    def of(name: str, side: str) -> pl.Expr:
        return pl.col(name).filter(pl.col("side") == side).first().alias(f"{name}_{side}")

    latest = pl.col("rated_at")
    wide = (
        answers.group_by("question", maintain_order=True)
        .agg(
            *(of(name, side) for name in per_side for side in SIDES),
            pl.col("person", "query", "conversation", "bullet_points").first(),
            pl.col("registered_at").min(),
            pl.col("preference").sort_by(latest, nulls_last=False).drop_nulls().last(),
            pl.col("better_than_previous").drop_nulls().last(),
            pl.col("arm", "propensity").drop_nulls().first(),  # a question has one arm
        )
        .filter(pl.col("response_id_left").is_not_null())
    )

    def numbered(kind: str, column: str) -> pl.Series:
        ids = (id_.split("/", 1) for id_ in wide[column])
        return pl.Series([pseudonyms.number(kind, person, id_) for person, id_ in ids], dtype=pl.Int64)

    workers = {person: pseudonyms.worker(person) for person in wide["person"].unique()}
    pairwise = pl.col("response_id_right").is_not_null()
    return (
        wide.with_columns(
            question_id=numbered("question", "question"), task_id=numbered("conversation", "conversation")
        )
        .with_columns(worker_id=pl.col("person").replace_strict(workers, return_dtype=pl.String))
        .with_columns(
            conversation_id=pl.format("{}/{}", "worker_id", "task_id"),
            turn=pl.int_range(1, pl.len() + 1, dtype=pl.Int32).over("conversation"),
            mode=pl.when(pairwise).then(pl.lit("pairwise")).otherwise(pl.lit("pointwise")),
            preference=pl.when(pairwise).then("preference"),
            better_than_previous=pl.when(~pairwise).then("better_than_previous"),
            # To 1 s, as in the study.
            asked_at=pl.from_epoch(pl.col("registered_at") // 1_000, "s"),
            ai_error=pl.lit(False),
            excluded_worker=pl.lit(False),
        )
        .rename({f"text_{side}": f"response_{side}" for side in SIDES})
        .drop("person", "response_id_left", "response_id_right", "registered_at", "conversation")
    )


def _ends(placed: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """When a pointer was no longer on an answer's text: the tracker says that it left, or that the text differs."""
    of = ["question", "session", "pointer", "t"]
    answers = placed.select("response_id", "question", "appeared").unique()
    left = events.filter(pl.col("name") == "leave").join(answers, on="response_id")
    said = left.with_columns(t=pl.col("at") - pl.col("appeared"), pointer=pl.col("value").cast(pl.Int8, strict=False))
    elsewhere = placed.filter(pl.col("status").is_in(["other_text", "replaced_text"]))
    return pl.concat([said.select(of), elsewhere.select(of)]).filter(pl.col("t").is_between(0, LONGEST_MS))


def _trajectories(
    questions: pl.DataFrame, ticks: pl.DataFrame, ends: pl.DataFrame, seen: pl.DataFrame, pages: pl.DataFrame
) -> pl.DataFrame:
    lists: dict[str, Any] = {"t": pl.Int32}
    for modality in _POINTERS:
        lists |= {f"{modality}_{axis}": pl.Float32 for axis in "xy"}
        lists |= {f"{modality}_char_{side}": pl.Int16 for side in SIDES}
    mouse, gaze = (_of_modality(ticks, ends, modality) for modality in _POINTERS)
    # The tracker samples both at the same moments.
    both = mouse.join(gaze.unique(["question", "t"], keep="last"), on=["question", "t"], how="full", coalesce=True)
    chars = [name for name in lists if "_char_" in name]
    recorded = (
        both.with_columns(pl.col(chars).fill_null(-1))
        .sort("question", "t", maintain_order=True)
        .group_by("question", maintain_order=True)
        .agg(pl.col(name).cast(type_) for name, type_ in (lists | {"face_ok": pl.Boolean}).items())
    )
    sizes = pages.group_by("question", maintain_order=True).agg(
        viewport_width=pl.col("width").max(),
        viewport_height=pl.col("height").max(),
        gaze_accuracy=pl.col("accuracy").drop_nulls().last(),
        gaze_error=pl.col("error").drop_nulls().last(),
    )
    return (
        questions.select(
            "question", "question_id", "worker_id", "mode", schema_version=pl.lit(SCHEMA_VERSION), **LENGTHS
        )
        .join(recorded, on="question", how="left", maintain_order="left")
        .join(sizes, on="question", how="left", maintain_order="left")
        .join(seen, on="question", how="left", maintain_order="left")
        .with_columns(pl.col(*lists, "face_ok", *seen.columns[1:]).fill_null([]))
        .drop("question")
    )


def _of_modality(ticks: pl.DataFrame, ends: pl.DataFrame, modality: str) -> pl.DataFrame:
    """`question`, `t`, and the places of one modality under their names in the dataset; -1 where not on that answer."""
    own = _with_leaving(
        ticks.filter(pl.col("pointer").is_in(_POINTERS[modality])),
        ends.filter(pl.col("pointer") == _POINTERS[modality][0]),
    )
    face = [(pl.col("pointer") == 3).alias("face_ok")] if modality == "gaze" else []
    return own.select(
        "question",
        "t",
        *(pl.col(axis).alias(f"{modality}_{axis}") for axis in "xy"),
        *(
            pl.when(pl.col("side") == side).then("char").otherwise(-1).alias(f"{modality}_char_{side}")
            for side in SIDES
        ),
        *face,
    )


def _with_leaving(ticks: pl.DataFrame, ends: pl.DataFrame) -> pl.DataFrame:
    """Add a tick off the text where the cursor left an answer, so that its last position lasts until then and not until
    it comes back; if a page load ended without saying so, one tick after its last."""
    nowhere = {"side": pl.lit(None, pl.String), "x": pl.lit(None, pl.Float32), "y": pl.lit(None, pl.Float32)}
    nowhere |= {"char": pl.lit(-1, pl.Int64), "pointer": pl.lit(None, pl.Int8), "leaves": pl.lit(True)}
    columns = ["question", "session", "t", *nowhere]
    rows = pl.concat(
        [ticks.with_columns(leaves=pl.lit(False)).select(columns), ends.with_columns(**nowhere).select(columns)]
    ).sort("question", "t", "leaves", maintain_order=True)
    last = rows.group_by("question", "session", maintain_order=True).last().filter(~pl.col("leaves"))
    unsaid = last.with_columns(t=pl.col("t") + TICK_MS, **nowhere).select(columns)
    both = pl.concat([rows, unsaid]).sort("question", "t", "leaves", maintain_order=True)
    # It left if it was there and is not now on the question's other answer.
    was_there = ~pl.col("leaves").shift(1, fill_value=True).over("question")
    is_gone = (pl.col("t") != pl.col("t").shift(1)).over("question")
    return both.filter(~pl.col("leaves") | (was_there & is_gone))
