"""Made-up readings for benchmarks, as the collector records them in a chat: by mouse, about 20 s, 19 of a person."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from sqlalchemy import Table, create_engine, insert

from ifllm_hub.collect.pseudonyms import Pseudonyms
from ifllm_hub.collect.store.store import Store
from ifllm_hub.collect.store.tables import BATCHES, CONSENTS, PEOPLE, RATINGS, RESPONSES, SESSIONS
from ifllm_hub.dataset.layout import Shard, bucket_of
from ifllm_hub.dataset.schema import SPLITS, arrow_schema
from ifllm_hub.dataset.writers import ConfigWriter
from ifllm_hub.terms import SIDES

# Ticks of a reading, ms between them, readings of a person.
TICKS, TICK_MS, READINGS = 242, 80, 19
KEY = bytes(32)
_BEGAN = 1_760_000_000_000
_WORDS = ["reading", "answers", "about", "whether", "a", "model", "of", "people", "can", "be", "trusted", "and", "why"]


def make_dataset(folder: Path, readings: int, shards: int) -> None:
    """A dataset's trajectories, in shards."""
    people: dict[int, list[str]] = {number: [] for number in range(shards)}
    for worker in (f"reader_{person}" for person in range(readings // READINGS)):
        people[bucket_of(worker, shards)].append(worker)
    for number, workers in people.items():
        rng = np.random.default_rng([readings, number])
        shard = Shard(number, shards)
        with closing(ConfigWriter(folder / "data" / "trajectories", "trajectories", shard)) as writer:
            for start in range(0, len(workers), 20):
                writer.write(_trajectories(workers[start : start + 20], rng))


def _trajectories(workers: Sequence[str], rng: np.random.Generator) -> pl.DataFrame:
    """Rows of the config, with `split`."""
    rows = len(workers) * READINGS
    lengths = rng.integers(400, 2_000, (rows, 2))
    side, char, x, y = (np.stack(one) for one in zip(*(_path(rng, of) for of in lengths), strict=True))
    worker = np.repeat(workers, READINGS)
    # As the collector's: a hash of the question, so of the person and a number.
    ids = [int(hashlib.sha256(f"{one}/{row}".encode()).hexdigest()[:15], 16) + 1 for row, one in enumerate(worker)]
    ticks = np.broadcast_to(np.arange(TICKS) * TICK_MS, side.shape)
    empty = [[None] * TICKS] * rows
    values = {
        "question_id": ids,
        "worker_id": worker,
        "mode": ["pairwise"] * rows,
        "schema_version": ["c1"] * rows,
        "length_left": lengths[:, 0],
        "length_right": lengths[:, 1],
        "length_query": rng.integers(20, 200, rows),
        "viewport_width": np.full(rows, 1_400),
        "viewport_height": np.full(rows, 900),
        "t": ticks,
        "mouse_x": x,
        "mouse_y": y,
        "mouse_char_left": np.where(side == 0, char, -1),
        "mouse_char_right": np.where(side == 1, char, -1),
        **dict.fromkeys(("gaze_x", "gaze_y", "gaze_char_left", "gaze_char_right", "face_ok"), empty),
    }
    schema = pl.DataFrame(arrow_schema("trajectories").empty_table()).schema
    columns = [
        pl.Series(
            name, list(value) if isinstance(value, np.ndarray) and value.ndim == 2 else value, type_, strict=False
        )
        for name, type_ in schema.items()
        for value in [values[name]]
    ]
    return pl.DataFrame(columns).with_columns(split=pl.Series([SPLITS[one.endswith("0")] for one in worker]))


def _path(rng: np.random.Generator, lengths: Sequence[int]) -> tuple[np.ndarray, ...]:
    """Where the mouse was in a reading, a tick each: the answer's side, the character (-1: off the text), x and y."""
    side = np.cumsum(rng.random(TICKS) < 0.02) % 2
    char = (np.linspace(0, 1, TICKS) * np.asarray(lengths)[side]).astype(int)
    char[rng.random(TICKS) < 0.2] = -1
    x = np.round(300 + 500 * side + 300 * rng.random(TICKS), 1)
    return side, char, x, 100 + 2.0 * np.arange(TICKS)


def fill(url: str, people: range) -> None:
    """Add people, with readings and ratings, to a collector's store, in bulk."""
    Store(url).close()  # makes the tables
    names = Pseudonyms(KEY)
    with create_engine(url).begin() as connection:
        for person in people:
            for table, rows in _stored(names, f"person-{person}", np.random.default_rng(person)):
                if rows:
                    connection.execute(insert(table), rows)


def _stored(names: Pseudonyms, integrators_id: str, rng: np.random.Generator) -> Iterator[tuple[Table, list[Any]]]:
    """The rows of each table about a person."""
    person = names.person(integrators_id)
    session = hashlib.sha256(person.encode()).hexdigest()[:32]
    yield PEOPLE, [{"person": person, "first_seen": _BEGAN}]
    yield CONSENTS, [{"person": person, "version": "v1", "agreed_at": _BEGAN}]
    yield SESSIONS, [{"session": session, "person": person}]
    answers, batches, ratings = [], [], []
    for number in range(READINGS):
        at = _BEGAN + 60_000 * number
        texts = [" ".join(rng.choice(_WORDS, rng.integers(60, 300))) for _ in SIDES]
        ids = [names.response(person, f"q{number}", side) for side in SIDES]
        for side, id_, text in zip(SIDES, ids, texts, strict=True):
            about = {"question_id": f"q{number}", "side": side, "conversation": f"c{number // 4}", "model": "m"}
            said = {"text": text, "query": " ".join(rng.choice(_WORDS, 12)), "bullet_points": False}
            answers.append({"response_id": id_, "person": person, "registered_at": at, **about, **said})
        read, char, x, y = _path(rng, [len(text) for text in texts])
        body = {
            "v": 1,
            "session": session,
            "sequence": number,
            "consent": "v1",
            "origin": at,
            "viewport": [1_400, 900, 1.0],
            "responses": [[id_, _sha256(text), len(text)] for id_, text in zip(ids, texts, strict=True)],
            "ticks": [
                [TICK_MS * tick, *four, 0]
                for tick, four in enumerate(zip(*map(np.ndarray.tolist, (read, x, y, char)), strict=True))
            ],
            "gaze": [],
            "events": [[0, "shown", 0, None], [0, "shown", 1, None], [TICK_MS * TICKS, "leave", int(read[-1]), 0]],
        }
        key = {"session": session, "sequence": number, "person": person}
        batches.append(
            {**key, "sha256": _sha256(json.dumps(body)), "received_at": at, "body": json.dumps(body).encode()}
        )
        if rng.random() < 0.3:
            ratings.append(
                {"response_id": ids[0], "person": person, "preference": str(rng.choice(SIDES)), "rated_at": at + 30_000}
            )
    yield from ((RESPONSES, answers), (BATCHES, batches), (RATINGS, ratings))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
