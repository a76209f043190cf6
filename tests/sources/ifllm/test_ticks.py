"""Every tick reaches the question it belongs to, whatever happened to the files."""

import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from ifllm_hub.dataset.schema import TRAJECTORIES
from ifllm_hub.errors import IfllmError
from ifllm_hub.sources.ifllm.accounts import Accounts
from ifllm_hub.sources.ifllm.archive import Release, TaskFolder
from ifllm_hub.sources.ifllm.questions import read_questions
from ifllm_hub.sources.ifllm.ticks import TICK_SCHEMA, align_tasks
from tests.slow_reader import columns_of, read_file
from tests.sources.ifllm.conversation import LEFT, NOON, RIGHT, SIDES, Tick, align, reading, rel_name, slow_char

# --- against the simulation


@pytest.fixture(scope="module")
def questions(release: Release) -> pl.DataFrame:
    return read_questions(release).questions


@pytest.fixture(scope="module")
def aligned(release: Release, questions: pl.DataFrame) -> tuple[pl.DataFrame, Accounts]:
    accounts = Accounts()
    return align_tasks(list(release.tasks), questions, accounts), accounts


@pytest.fixture(scope="module")
def truth(simulated: Path) -> pl.DataFrame:
    return pl.read_parquet(simulated / "ground_truth.parquet")


def slow_ticks(task: TaskFolder, asked: list[dict[str, Any]]) -> dict[int, list[tuple]]:
    """The ticks of each question of a conversation, from files that are aligned row by row."""
    files = {name: read_file(task.path / name, columns_of(task, name)) for name in task.files}
    gaze = list(dict.fromkeys(files["abs_gaze.csv"]))
    dated = [question for question in asked if question["asked_at"] is not None]
    found: dict[int, list[tuple]] = {}
    for i in sorted(range(len(gaze)), key=lambda i: gaze[i].epoch):
        shown = [question for question in dated if question["asked_at"] <= gaze[i].epoch]
        if not shown:
            continue
        question = max(shown, key=lambda question: question["asked_at"])
        mouse = files["abs_mouse.csv"][i]
        moved = (mouse.x, mouse.y) != (-1, -1)
        chars, flags = [], []
        for modality in ("mouse", "gaze"):
            for side in SIDES[: 1 + task.pairwise]:
                row = files[rel_name(modality, side, task.pairwise)][i]
                chars.append(-1 if row is None else slow_char(question[f"response_{side}"], row.index, row.window))
                flags.append(None if row is None else row.face_ok)
            chars += [-1] * (not task.pairwise)
        face = next((flag for flag in flags if flag is not None), None)
        points = (mouse.x if moved else None, mouse.y if moved else None, gaze[i].x, gaze[i].y)
        found.setdefault(question["question_id"], []).append(
            (gaze[i].epoch - question["asked_at"], *points, *chars, None if face is None else bool(face))
        )
    return found


def test_every_tick_of_the_simulation_is_where_the_slow_aligner_puts_it(
    release: Release, aligned: tuple[pl.DataFrame, Accounts], questions: pl.DataFrame
) -> None:
    ticks, _ = aligned
    assert dict(ticks.schema) == TICK_SCHEMA
    columns = [name for name in TICK_SCHEMA if name not in ("question_id", "schema_version")]
    by_question = {key[0]: frame.select(columns).rows() for key, frame in ticks.group_by("question_id")}
    expected: dict[int, list[tuple]] = {}
    for task in release.tasks:
        expected |= slow_ticks(task, questions.filter(conversation_id=f"{task.worker_id}/{task.task_id}").to_dicts())
    assert by_question.keys() == expected.keys()
    for question, rows in expected.items():
        found = by_question[question]
        assert [row[:3] + row[5:] for row in found] == [row[:3] + row[5:] for row in rows]
        gaze, wanted = (np.array([row[3:5] for row in part]) for part in (found, rows))
        assert np.abs(gaze - wanted).max() <= 0.0501 * max(1, np.abs(wanted).max() / 1e5)


def test_ticks_and_text_ticks_are_those_of_the_truth(
    aligned: tuple[pl.DataFrame, Accounts], truth: pl.DataFrame
) -> None:
    on_text = {f"{m}_{s}": (pl.col(f"{m}_char_{s}") >= 0).sum() for m in ("mouse", "gaze") for s in SIDES}
    counted = aligned[0].group_by("question_id").agg(pl.col("schema_version").first(), n=pl.len(), **on_text)
    both = truth.filter("has_behavior", ~pl.col("no_date")).join(counted, on="question_id", suffix="_found")
    assert both.height == truth.filter("has_behavior", ~pl.col("no_date")).height
    assert both["n"].to_list() == both["ticks"].to_list()
    assert both["schema_version_found"].to_list() == [f"v{version}" for version in both["schema_version"]]
    plain = both.filter(~pl.col("split_nodes"), pl.col("broken_lines") == 0)
    for name in on_text:
        modality, side = name.split("_")
        expected = plain[f"{modality}_text_ticks_{side}"].fill_null(0)
        # More only by a glance at the answer before, where both answers have the same words.
        assert (plain[name] >= expected).all()
        assert expected.sum() <= plain[name].sum() <= 1.01 * expected.sum()
        split = both.filter("split_nodes")
        assert split[name].sum() > 0.85 * split[f"{modality}_text_ticks_{side}"].sum()


def test_the_order_of_conversations_changes_nothing(
    release: Release, aligned: tuple[pl.DataFrame, Accounts], questions: pl.DataFrame
) -> None:
    whole, accounts = aligned
    shuffled = random.Random(5).sample(release.tasks, len(release.tasks))
    each = Accounts()
    one_by_one = [align_tasks([task], questions, each) for task in shuffled]
    for frame in (align_tasks(shuffled, questions, Accounts()), pl.concat(one_by_one)):
        assert frame.sort("question_id", maintain_order=True).equals(whole.sort("question_id", maintain_order=True))
    for name in ("files", "quarantine"):
        parts = [pl.concat(getattr(a, name)) for a in (accounts, each)]
        assert parts[0].sort(pl.all()).equals(parts[1].sort(pl.all()))
    assert pl.concat(each.ticks).sum().equals(pl.concat(accounts.ticks).sum())


# --- by hand


def test_a_tick_has_all_that_was_recorded(tmp_path: Path) -> None:
    assert align(tmp_path, reading(1, NOON + 250)).ticks == [
        {
            "question_id": 7,
            "schema_version": "v2",
            "t": 250,
            "mouse_x": 100.0,
            "mouse_y": 200.0,
            "gaze_x": 10.0,
            "gaze_y": 20.0,
            "mouse_char_left": 4,
            "mouse_char_right": -1,
            "gaze_char_left": -1,
            "gaze_char_right": 2,
            "face_ok": True,
        }
    ]


def test_a_tick_belongs_to_the_latest_question_asked(tmp_path: Path) -> None:
    times = [NOON - 1, NOON, NOON + 59_999, NOON + 60_000, NOON + 10**7]
    aligned = align(tmp_path, [Tick(at, {}) for at in times], (NOON, NOON + 60_000))
    assert [(row["question_id"], row["t"]) for row in aligned.ticks] == [
        (7, 0),
        (7, 59_999),
        (8, 0),
        (8, 10**7 - 60_000),
    ]
    assert aligned.counted == {
        "ticks": 5,
        "on_a_question": 4,
        "before_the_first_answer": 1,
        "conversation_without_questions": 0,
        "of_an_unanswered_question": 0,
        "weeks_after_the_last_answer": 0,
    }


def test_a_tick_whose_time_no_column_holds_is_counted_and_dropped(tmp_path: Path) -> None:
    last = np.iinfo(np.int32).max
    aligned = align(tmp_path, [Tick(NOON + after, {}) for after in (80, last, last + 1, 60 * 86_400_000)])
    assert [row["t"] for row in aligned.ticks] == [80, last]
    assert aligned.counted == {
        "ticks": 4,
        "on_a_question": 2,
        "before_the_first_answer": 0,
        "conversation_without_questions": 0,
        "of_an_unanswered_question": 0,
        "weeks_after_the_last_answer": 2,
    }


@pytest.mark.parametrize("recorded", [True, False], ids=["matched", "repaired"])
def test_an_answer_read_beyond_what_a_char_index_holds_is_named(tmp_path: Path, recorded: bool) -> None:
    pad = "".join(f"{number:07d} " for number in range(4_096))  # 32,768 characters, none of which repeats
    texts = (LEFT, pad + RIGHT)

    def look(at: int) -> list[dict[str, Any]]:
        caret = (at if recorded else 3, texts[1][at - 10 : at + 10])
        return align(tmp_path, [Tick(NOON, {"gaze_right": caret})], texts=texts).ticks

    assert [row["gaze_char_right"] for row in look(32_767)] == [32_767]
    with pytest.raises(
        IfllmError, match=r"query_ID 7: its right answer was read at character 32,768, .* 32,767\. Remove"
    ):
        look(32_768)


def test_the_columns_of_ticks_are_those_of_the_dataset() -> None:
    ticks = pl.DataFrame(schema=TICK_SCHEMA).drop("question_id", "schema_version")
    declared = {column.name: column.entry for column in TRAJECTORIES}
    assert {name: declared[name] for name in ticks.columns} == {
        field.name: pa.string() if field.type == pa.large_string() else field.type for field in ticks.to_arrow().schema
    }


def test_questions_may_come_in_any_order(tmp_path: Path) -> None:
    rows = align(tmp_path, [Tick(NOON + at, {}) for at in (1, 60_001)], (NOON + 60_000, NOON)).ticks
    assert [(row["question_id"], row["t"]) for row in rows] == [(8, 1), (7, 1)]


def test_ticks_without_a_question_are_counted(tmp_path: Path) -> None:
    aligned = align(tmp_path, reading(3), ())
    assert aligned.ticks == []
    assert aligned.counted["conversation_without_questions"] == 3
    undated = align(tmp_path, reading(3), (None,))
    assert undated.ticks == []


def test_batches_that_come_late_are_put_in_order(tmp_path: Path) -> None:
    ticks = reading(6)
    late = [*ticks[:2], *ticks[4:], *ticks[2:4]]
    assert align(tmp_path, late).ticks == align(tmp_path, ticks).ticks


def test_the_repetitions_of_pairwise_abs_gaze_are_dropped_and_counted(tmp_path: Path) -> None:
    def twice(files: dict[str, list[str]]) -> None:
        once = files["abs_gaze.csv"]
        files["abs_gaze.csv"] = [*once[:3] * 2, *once[3:] * 2]

    once, doubled = align(tmp_path, reading(5)), align(tmp_path, reading(5), edit=twice)
    assert doubled.ticks == once.ticks
    assert doubled.files == once.files | {"abs_gaze.csv": (10, 5, 5, 0)}


def test_equal_rel_lines_are_not_repetitions(tmp_path: Path) -> None:
    ticks = [Tick(NOON + 80, {}, timer=5000.0), Tick(NOON + 160, {}, timer=5000.0)]

    def same_epoch(files: dict[str, list[str]]) -> None:
        files["rel_gaze_one.csv"] = [files["rel_gaze_one.csv"][0]] * 2

    aligned = align(tmp_path, ticks, edit=same_epoch)
    assert aligned.files["rel_gaze_one.csv"] == (2, 2, 0, 0)
    assert [row["t"] for row in aligned.ticks] == [80, 160]


def test_an_unreadable_line_costs_one_caret_of_one_tick(tmp_path: Path) -> None:
    def break_line(files: dict[str, list[str]]) -> None:
        files["rel_mouse_left.csv"][2] = files["rel_mouse_left.csv"][2].replace('"', "")

    whole, broken = align(tmp_path, reading(5)), align(tmp_path, reading(5), edit=break_line)
    expected = [dict(row) for row in whole.ticks]
    expected[2]["mouse_char_left"] = -1
    assert broken.ticks == expected
    assert broken.files["rel_mouse_left.csv"] == (5, 4, 0, 1)
    quarantine = pl.concat(broken.accounts.quarantine)
    assert quarantine.rows() == [("ann/11/rel_mouse_left.csv", 3, "window text without quotes")]


@pytest.mark.parametrize("gone", [0, 2, 4])
def test_a_missing_row_shifts_nothing(tmp_path: Path, gone: int) -> None:
    def lose_row(files: dict[str, list[str]]) -> None:
        del files["rel_mouse_left.csv"][gone]

    expected = [dict(row) for row in align(tmp_path, reading(5)).ticks]
    expected[gone]["mouse_char_left"] = -1
    assert align(tmp_path, reading(5), edit=lose_row).ticks == expected


def test_rows_that_changed_places_are_joined_by_their_timer(tmp_path: Path) -> None:
    def swap_rows(files: dict[str, list[str]]) -> None:
        rows = files["rel_mouse_left.csv"]
        rows[1], rows[3] = rows[3], rows[1]

    assert align(tmp_path, reading(5), edit=swap_rows).ticks == align(tmp_path, reading(5)).ticks


def test_a_timer_that_stands_still_keeps_its_rows_apart(tmp_path: Path) -> None:
    ticks = [Tick(tick.at, tick.carets, timer=(1000.0, 1080.0, 1080.0, 1160.0)[i]) for i, tick in enumerate(reading(4))]

    def lose_row(files: dict[str, list[str]]) -> None:
        del files["rel_gaze_one.csv"][3]

    assert align(tmp_path, ticks, edit=lose_row).ticks == align(tmp_path, ticks).ticks


@pytest.mark.parametrize(
    ("name", "lost"),
    [
        ("rel_mouse_left.csv", {"mouse_char_left": -1}),
        ("rel_gaze_one.csv", {}),
        ("abs_mouse.csv", {"mouse_x": None, "mouse_y": None}),
    ],
)
def test_an_empty_file_loses_only_its_own_columns(tmp_path: Path, name: str, lost: dict[str, Any]) -> None:
    whole, emptied = align(tmp_path, reading(4)), align(tmp_path, reading(4), edit=lambda files: files[name].clear())
    assert emptied.ticks == [row | lost for row in whole.ticks]
    assert emptied.files == whole.files | {name: (0, 0, 0, 0)}


def test_the_mouse_has_no_place_before_its_first_move(tmp_path: Path) -> None:
    ticks = [Tick(NOON, {}, mouse=(-1, -1)), Tick(NOON + 80, {}, mouse=(-1, 5)), Tick(NOON + 160, {}, mouse=(0, 0))]
    places = [(row["mouse_x"], row["mouse_y"]) for row in align(tmp_path, ticks).ticks]
    assert places == [(None, None), (-1, 5), (0, 0)]


@pytest.mark.parametrize(
    ("asked_at", "columns", "version", "face_ok"),
    [
        pytest.param(datetime(2025, 9, 10, tzinfo=UTC), 6, "v1", None, id="september"),
        pytest.param(datetime(2025, 12, 31, 23, 59, 59, tzinfo=UTC), 7, "v2", True, id="december"),
        pytest.param(datetime(2026, 1, 1, tzinfo=UTC), 7, "v3", True, id="january"),
    ],
)
def test_the_version_follows_layout_and_date(
    tmp_path: Path, asked_at: datetime, columns: int, version: str, face_ok: bool | None
) -> None:
    at = int(asked_at.timestamp() * 1000)
    rows = align(tmp_path, reading(2, at), (at,), columns=columns).ticks
    assert {(row["schema_version"], row["face_ok"]) for row in rows} == {(version, face_ok)}
    assert rows[0]["mouse_char_left"] == 4


def test_pointwise_has_no_right_side(tmp_path: Path) -> None:
    rows = align(tmp_path, reading(2), pairwise=False).ticks
    assert [row["mouse_char_left"] for row in rows] == [4, 5]
    assert {row[f"{modality}_char_right"] for row in rows for modality in ("mouse", "gaze")} == {-1}
