"""The simulated release has the real one's layout and every quirk, and its ground truth is true of its files."""

import csv
import hashlib
import os
import re
import subprocess
import sys
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict

from ifllm_hub.errors import IfllmError
from ifllm_hub.sources.ifllm.archive import PAIRWISE_FILES, POINTWISE_FILES, open_release
from ifllm_hub.sources.simulation import simulate
from ifllm_hub.sources.simulation.page import PLACEHOLDER
from ifllm_hub.sources.simulation.simulate import simulate_release

REL_LINE = re.compile(r'^(-?[\d.]+),(-?[\d.]+),(?:"(.*)")?,(\d*),([\d.]+),(?:([01]),)?(\d+)$')
HEADERS = {
    "query_logs_table.csv": "query_ID,user_id,task_id,user_query,llm_response_1,llm_response_2,llm_name_1,llm_name_2,"
    "likert_1,likert_2,preference,adjustment,query_timestamp",
    "task_table.csv": "user_id,task_id,copy_sentence,summary,feedback,understand_before,understand_after,query_copy,"
    "llm_response_copy,accuracy,finished,domain",
    "record_info_table.csv": "user_id,consent,age,location,education,race,gender,inserted_at",
}
HOUR = 3_600_000


@dataclass(frozen=True)
class Rel:
    x: float
    y: float
    window: str | None
    index: int | None
    timer: str
    face_ok: str | None
    epoch: int


class Conversation:
    """The behavior files of one folder, read without the package's own parser."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = (folder.parent.name, int(folder.name))
        self.pairwise = (folder / "rel_mouse_left.csv").exists()
        self.rel_files = (PAIRWISE_FILES if self.pairwise else POINTWISE_FILES)[2:]

    def lines(self, name: str) -> list[str]:
        text = (self.folder / name).read_text(encoding="utf-8")
        assert text.endswith("\n")
        assert "\r" not in text
        return text.split("\n")[:-1]

    @cached_property
    def mouse(self) -> list[tuple[int, int, str, int]]:
        rows = (line.split(",") for line in self.lines("abs_mouse.csv"))
        return [(int(x), int(y), timer, int(epoch)) for x, y, timer, epoch in rows]

    @cached_property
    def gaze(self) -> list[tuple[float, float, str, int]]:
        """Without the repetitions of pairwise files."""
        lines = list(dict.fromkeys(self.lines("abs_gaze.csv")))
        rows = (line.split(",") for line in lines)
        return [(float(x), float(y), timer, int(epoch)) for x, y, timer, epoch in rows]

    @cached_property
    def rel(self) -> dict[str, list[Rel | None]]:
        """None stands for a line that cannot be parsed."""
        return {name: self.read(name) for name in self.rel_files}

    def read(self, name: str) -> list[Rel | None]:
        return [self._parse(line) for line in self.lines(name)]

    @staticmethod
    def _parse(line: str) -> Rel | None:
        match = REL_LINE.match(line)
        if match is None:
            return None
        x, y, window, index, timer, face_ok, epoch = match.groups()
        return Rel(float(x), float(y), window, int(index) if index else None, timer, face_ok, int(epoch))

    def absolute(self, name: str) -> list[tuple[float, float]]:
        rows = self.gaze if "gaze" in name else self.mouse
        return [(row[0], row[1]) for row in rows]

    @staticmethod
    def side(name: str) -> int:
        return int(name in ("rel_gaze_two.csv", "rel_mouse_right.csv"))


class Simulation:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.truth = pl.read_parquet(root / "ground_truth.parquet")
        self.log, self.tasks, self.records = (self.table(name) for name in HEADERS)
        self.conversations = [Conversation(path) for path in sorted((root / "dataset/user_behavior").glob("*/*"))]

    def table(self, name: str) -> list[dict[str, str]]:
        with (self.root / "dataset" / name).open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    @cached_property
    def by_key(self) -> dict[tuple[str, int], list[dict]]:
        """Ground truth rows of each conversation in turn order, with the texts as they were on screen."""
        log = {int(row["query_ID"]): row for row in self.log}
        found: dict[tuple[str, int], list[dict]] = {}
        for row in self.truth.sort("turn").iter_rows(named=True):
            texts = [log[row["question_id"]][name].replace("\r\n", "") for name in ("llm_response_1", "llm_response_2")]
            found.setdefault((row["worker_id"], row["task_id"]), []).append({**row, "texts": texts})
        return found

    def on_text(self, conversation: Conversation, name: str):
        """The rows of a file that carry a window, with the truth of the question on screen and of the one before."""
        questions = self.by_key.get(conversation.key, [])
        rendered = [question["rendered_at"] for question in questions]
        for row in conversation.rel[name]:
            if row is not None and row.window is not None:
                shown = bisect_right(rendered, row.epoch) - 1
                yield row, questions[shown] if shown >= 0 else None


def fits(text: str, row: Rel) -> bool:
    """Does the window stand at the index (UTF-16 units), at most 10 units to each side?"""
    units = text.encode("utf-16-le")
    window = row.window.encode("utf-16-le")
    around = units[2 * max(0, row.index - 10) : 2 * (row.index + 10)]
    return around == window if len(window) == 40 else window in around


def asked_at(row: dict[str, str]) -> int:
    return int(datetime.fromisoformat(row["query_timestamp"]).replace(tzinfo=UTC).timestamp() * 1000)


def digests(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Simulation:
    return Simulation(simulate_release(tmp_path_factory.mktemp("small") / "release", 8, 80, seed=3))


@pytest.fixture(scope="module")
def default(tmp_path_factory: pytest.TempPathFactory) -> Simulation:
    return Simulation(simulate_release(tmp_path_factory.mktemp("default") / "release"))


# --- layout


def test_it_opens_as_a_release(small: Simulation) -> None:
    release = open_release(small.root)
    assert len(release.tasks) == len(small.conversations)
    assert all(task.pairwise == (task.task_id % 2 == 1) for task in release.tasks)


@pytest.mark.parametrize("name", HEADERS)
def test_headers_are_the_real_ones(small: Simulation, name: str) -> None:
    assert (small.root / "dataset" / name).read_text(encoding="utf-8").split("\n")[0] == HEADERS[name]


def test_tables_have_the_requested_size_and_codes(small: Simulation) -> None:
    assert len(small.log) == small.truth.height == 80
    assert len({row["user_id"] for row in small.log}) == 8
    assert all(re.fullmatch(r"worker_[0-9a-f]{8}", row["user_id"]) for row in small.records)
    ids = [int(row["query_ID"]) for row in small.log]
    assert ids == sorted(set(ids))
    assert ids == small.truth["question_id"].to_list()
    for row in small.log:
        pairwise = int(row["task_id"]) % 2 == 1
        assert (row["llm_response_2"] != "") == pairwise
        assert (row["llm_name_2"] != "") == pairwise
        assert row["preference"] in ({"1.0", "2.0", ""} if pairwise else {"0.0", "1.0", ""})
        assert row["likert_1"] in {"1.0", "2.0", "3.0", "4.0", "5.0", ""}
        assert row["adjustment"] in {"0", "1"}
    share = sum(int(row["task_id"]) % 2 for row in small.log) / 80
    assert 0.35 < share < 0.65


def test_the_label_is_the_latent_preference_or_its_flip(small: Simulation) -> None:
    truth = {row["question_id"]: row for row in small.truth.iter_rows(named=True)}
    for row in small.log:
        true = truth[int(row["query_ID"])]
        if row["preference"] == "":
            assert true["label_flipped"] is None
        elif true["mode"] == "pairwise":
            latent = "1.0" if true["utility_left"] > true["utility_right"] else "2.0"
            assert true["latent_preference"] == ("left" if latent == "1.0" else "right")
            assert (row["preference"] != latent) == true["label_flipped"]
        else:
            assert (row["preference"] == "1.0") == (true["latent_better_than_previous"] != true["label_flipped"])
            assert true["turn"] > 1


def test_conversations_of_a_worker_do_not_overlap(small: Simulation) -> None:
    spans: dict[str, list[tuple[int, int]]] = {}
    for conversation in small.conversations:
        epochs = [row[3] for row in conversation.mouse]
        spans.setdefault(conversation.key[0], []).append((min(epochs), max(epochs)))
    for worker in spans.values():
        worker.sort()
        assert all(a[1] < b[0] for a, b in pairwise(worker))


# --- ticks


def test_rows_are_aligned_across_the_files(small: Simulation) -> None:
    for conversation in small.conversations:
        timers = [row[2] for row in conversation.mouse]
        assert [row[2] for row in conversation.gaze] == timers
        for rows in conversation.rel.values():
            assert len(rows) == len(timers)
            for row, (_, _, timer, epoch) in zip(rows, conversation.mouse, strict=True):
                assert row is None or (row.timer == timer and 0 <= row.epoch - epoch <= 2)


def test_ground_truth_counts_the_lines(small: Simulation) -> None:
    for conversation in small.conversations:
        questions = small.by_key.get(conversation.key)
        if questions:
            epochs = [row[3] for row in conversation.mouse]
            early = sum(epoch < questions[0]["asked_at"] for epoch in epochs)
            assert early > 0, "every conversation has ticks before the first answer"
            assert early + sum(question["ticks"] for question in questions) == len(epochs)
    silent = small.truth.filter(~pl.col("has_behavior"))
    assert silent["ticks"].sum() == 0


def test_ground_truth_counts_the_ticks_on_text(small: Simulation) -> None:
    for conversation in small.conversations:
        questions = small.by_key.get(conversation.key, [])
        if any(question["broken_lines"] for question in questions):
            continue
        for name in conversation.rel_files:
            found: Counter[int] = Counter()
            for row, question in small.on_text(conversation, name):
                following = questions[question["turn"]] if question and question["turn"] < len(questions) else None
                if question and (following is None or row.epoch < following["asked_at"]):
                    # Labels of the form have windows too, which no answer contains.
                    text = question["texts"][conversation.side(name)]
                    found[question["turn"]] += row.window in text if question["split_nodes"] else fits(text, row)
            modality = "gaze" if "gaze" in name else "mouse"
            side = ("left", "right")[conversation.side(name)]
            expected = {question["turn"]: question[f"{modality}_text_ticks_{side}"] for question in questions}
            assert {turn: found[turn] for turn in expected} == expected


def test_sampling_is_near_12_hz_and_the_mouse_is_held(default: Simulation) -> None:
    steps, unchanged = [], []
    for conversation in default.conversations:
        rows = conversation.mouse
        epochs = np.array([row[3] for row in rows])
        steps.append(np.diff(epochs))
        points = np.array([row[:2] for row in rows])
        unchanged.append((np.diff(points, axis=0) == 0).all(axis=1))
    assert 60 < np.median(np.concatenate(steps)) < 100
    assert 0.65 < np.concatenate(unchanged).mean() < 0.9


def test_columns_follow_the_date(small: Simulation) -> None:
    seen = set()
    for conversation in small.conversations:
        september = conversation.mouse[0][3] < datetime(2025, 10, 1, tzinfo=UTC).timestamp() * 1000
        seen.add(september)
        flags = {row.face_ok for rows in conversation.rel.values() for row in rows if row}
        assert flags == {None} if september else flags <= {"0", "1"} and "1" in flags
    assert seen == {True, False}


def test_pairwise_abs_gaze_is_written_twice_batch_by_batch(small: Simulation) -> None:
    for conversation in small.conversations:
        lines = conversation.lines("abs_gaze.csv")
        if not conversation.pairwise:
            assert len(lines) == len(set(lines)) == len(conversation.mouse)
            continue
        assert len(lines) == 2 * len(conversation.mouse)
        at = 0
        sizes = []
        while at < len(lines):
            size = lines.index(lines[at], at + 1) - at
            assert lines[at : at + size] == lines[at + size : at + 2 * size]
            sizes.append(size)
            at += 2 * size
        assert sizes.count(100) >= len(sizes) - 1
        assert max(sizes) == sum(sizes) - 100 * (len(sizes) - 1)


def test_windows_stand_at_their_utf16_index(small: Simulation) -> None:
    fitting: list[bool] = []
    for conversation in small.conversations:
        for name in conversation.rel_files:
            side = conversation.side(name)
            for row, question in small.on_text(conversation, name):
                if question and not question["split_nodes"] and question["schema_version"] < 3:
                    fitting.append(fits(question["texts"][side], row))
    assert len(fitting) > 10_000
    assert all(fitting)


def test_windows_end_at_line_ends_and_are_trimmed(small: Simulation) -> None:
    windows = [
        row.window for conversation in small.conversations for rows in conversation.rel.values() for row in rows if row
    ]
    given = [window for window in windows if window]
    lengths = Counter(len(window) for window in given)
    assert lengths.most_common(1)[0][0] == 20
    assert any(length < 12 for length in lengths)
    assert all(window == window.strip() and "\n" not in window for window in given)


def test_rel_points_agree_with_abs_points(small: Simulation) -> None:
    left = {1: 20.0, 2: 20.0, 3: 29.0}
    for conversation in small.conversations:
        questions = small.by_key.get(conversation.key, [])
        if not questions:
            continue
        version = questions[0]["schema_version"]
        for name in conversation.rel_files:
            pairs = list(zip(conversation.rel[name], conversation.absolute(name), strict=True))
            assert all(
                (row.x >= 0 and row.y >= 0) or (row.x == row.y == -1 and row.index is None) for row, _ in pairs if row
            )
            inside = [(row, x, y) for row, (x, y) in pairs if row and row.x >= 0]
            offsets = {round(x - row.x, 1) for row, x, _ in inside}
            assert max(offsets) - min(offsets) <= 0.11
            if conversation.side(name) == 0:
                assert min(offsets) == pytest.approx(left[version], abs=0.11)
            tops = {round(y - row.y, 1) for row, _, y in inside}
            scrolls = version == 3 or not conversation.pairwise
            # With the scroll offset in rel y, the element's top edge wanders above the viewport.
            assert min(tops) > 0 or scrolls


# --- quirks of the tables


def test_cr_lf_is_inserted_into_texts_that_were_shown_without(small: Simulation) -> None:
    broken = [row for row in small.log if "\r\n" in row["llm_response_1"] + row["llm_response_2"]]
    flagged = small.truth.filter("cr_lf")["question_id"].to_list()
    assert sorted(int(row["query_ID"]) for row in broken) == flagged
    assert len(flagged) >= 3
    name = [row for row in small.log if "\r\n" in row["llm_name_1"]]
    assert [int(row["query_ID"]) for row in name] == small.truth.filter("model_cr_lf")["question_id"].to_list()
    assert name[0]["llm_name_1"].replace("\r\n", "").startswith("sim/")

    keys = {(row["user_id"], int(row["task_id"])) for row in broken}
    checked = 0
    for conversation in small.conversations:
        if conversation.key in keys:
            for name_ in conversation.rel_files:
                for row, question in small.on_text(conversation, name_):
                    if question and question["cr_lf"] and not question["split_nodes"]:
                        raw = next(r for r in broken if int(r["query_ID"]) == question["question_id"])
                        raw_text = raw[f"llm_response_{1 + conversation.side(name_)}"]
                        at_break = raw_text.find("\r\n")
                        checked += at_break >= 0 and row.index > at_break and not fits(raw_text, row)
    assert checked > 20, "behind the break, windows fit the text without it only"


def test_some_september_clocks_are_four_hours_late(small: Simulation) -> None:
    wrong = small.truth.filter("clock_error")
    assert wrong["schema_version"].unique().to_list() == [1]
    # One task stands twice, the second time with an earlier end.
    finished = {
        (row["user_id"], int(row["task_id"])): row["finished"] for row in reversed(small.tasks) if row["finished"]
    }
    truth = {row["question_id"]: row for row in small.truth.iter_rows(named=True)}
    for row in small.log:
        true = truth[int(row["query_ID"])]
        if true["no_date"]:
            continue
        assert asked_at(row) - true["asked_at"] == (4 * HOUR if true["clock_error"] else 0)
        end = finished.get((row["user_id"], int(row["task_id"])))
        assert not true["clock_error"] or end < row["query_timestamp"]
        assert true["clock_error"] or end is None or end > row["query_timestamp"]


def test_one_date_is_zeros(small: Simulation) -> None:
    zeros = [int(row["query_ID"]) for row in small.log if row["query_timestamp"] == "0000-00-00 00:00:00"]
    assert zeros == small.truth.filter("no_date")["question_id"].to_list()
    assert len(zeros) == 1


def test_one_task_and_one_person_stand_twice(small: Simulation) -> None:
    tasks = Counter((row["user_id"], row["task_id"]) for row in small.tasks)
    assert sorted(tasks.values())[-2:] == [1, 2]
    twice = [row for row in small.tasks if tasks[row["user_id"], row["task_id"]] == 2]
    first, second = (datetime.fromisoformat(row["finished"]) for row in twice)
    assert (first - second).total_seconds() == 4 * 3600
    people = Counter(row["user_id"] for row in small.records)
    assert sorted(people.values())[-2:] == [1, 2]


def test_most_ticked_tasks_were_never_done(small: Simulation) -> None:
    done = {(row["user_id"], row["task_id"]) for row in small.log}
    ticked = [row for row in small.tasks if (row["user_id"], row["task_id"]) not in done and not row["accuracy"]]
    assert len(ticked) >= 8
    assert all(row["domain"] and not row["finished"] and not row["summary"] for row in ticked)
    complete = [row for row in small.tasks if row["finished"]]
    assert all(row["copy_sentence"] in row["llm_response_copy"] for row in complete)


def test_some_answers_are_server_errors(small: Simulation) -> None:
    wrong = [row for row in small.log if any(row[f"llm_response_{i}"].startswith("AI Error. ") for i in (1, 2))]
    assert [int(row["query_ID"]) for row in wrong] == small.truth.filter("ai_error")["question_id"].to_list()
    assert 3 <= len(wrong) < 8
    rated = [row for row in wrong if row["likert_1"]]
    assert all("1.0" in (row["likert_1"], row["likert_2"]) for row in rated)


def test_abandoned_conversations_lack_the_last_labels(small: Simulation) -> None:
    finished = {(row["user_id"], int(row["task_id"])) for row in small.tasks if row["finished"]}
    unlabeled = small.truth.filter("unlabeled")
    assert unlabeled.height >= 2
    assert set(unlabeled["question_id"]) == {int(row["query_ID"]) for row in small.log if row["likert_1"] == ""}
    for key, questions in small.by_key.items():
        assert [question["unlabeled"] for question in questions] == [False] * (len(questions) - 1) + [
            key not in finished
        ]


def test_persons_without_consent_are_in_one_table_only(small: Simulation) -> None:
    refused = {row["user_id"] for row in small.records if row["consent"] == "0"}
    assert len(refused) >= 2
    assert not refused & {row["user_id"] for row in [*small.log, *small.tasks]}
    assert not refused & {conversation.key[0] for conversation in small.conversations}
    assert all(not row["age"] for row in small.records if row["user_id"] in refused)


def test_a_conversation_without_behavior_and_a_folder_without_questions(small: Simulation) -> None:
    folders = {conversation.key for conversation in small.conversations}
    assert len(set(small.by_key) - folders) == 1
    assert len(folders - set(small.by_key)) == 1


# --- quirks of the behavior files


def test_windows_hold_unescaped_quotes_and_commas(small: Simulation) -> None:
    rows = [row for c in small.conversations for rows in c.rel.values() for row in rows if row and row.window]
    assert sum('"' in row.window for row in rows) > 100
    assert sum("," in row.window for row in rows) > 100


def test_a_csv_round_trip_broke_lines_of_two_files(small: Simulation) -> None:
    broken = {
        (c.key, name): [line for line, row in zip(c.lines(name), rows, strict=True) if row is None]
        for c in small.conversations
        for name, rows in c.rel.items()
    }
    broken = {place: lines for place, lines in broken.items() if lines}
    assert len(broken) == 2
    for ((worker, task), _), lines in broken.items():
        questions = small.by_key[worker, task]
        assert 0 <= len(lines) - sum(question["broken_lines"] for question in questions) <= 5
    lines = [line for found in broken.values() for line in found]
    assert any('"' not in line for line in lines)
    assert any(line.endswith('"') for line in lines)


def test_the_mouse_is_nowhere_before_its_first_move(small: Simulation) -> None:
    starts = 0
    for conversation in small.conversations:
        nowhere = [row[:2] == (-1, -1) for row in sorted(conversation.mouse, key=lambda row: row[3])]
        starts += nowhere[0]
        first_move = nowhere.index(False)
        assert not any(nowhere[first_move:])
    assert starts > len(small.conversations) / 2


def test_points_in_a_box_may_miss_the_text(small: Simulation) -> None:
    rows = [row for c in small.conversations for rows in c.rel.values() for row in rows if row]
    assert sum(row.x == -1 for row in rows) > 1000
    assert sum(row.x >= 0 and row.window is None and row.index is None for row in rows) > 100


def test_indices_count_utf16_units(small: Simulation) -> None:
    emoji = small.truth.filter("emoji")["question_id"].to_list()
    assert len(emoji) >= 3
    moved = 0
    for conversation in small.conversations:
        for name in conversation.rel_files:
            for row, question in small.on_text(conversation, name):
                if question and question["question_id"] in emoji and not question["split_nodes"]:
                    text = question["texts"][conversation.side(name)]
                    moved += len(row.window) == 20 and text[row.index - 10 : row.index + 10] != row.window
    assert moved > 50


def test_one_worker_has_split_text_nodes(small: Simulation) -> None:
    assert small.truth.filter("split_nodes")["worker_id"].n_unique() == 1
    restarted = total = 0
    for conversation in small.conversations:
        for name in conversation.rel_files:
            for row, question in small.on_text(conversation, name):
                if question and question["split_nodes"]:
                    text = question["texts"][conversation.side(name)]
                    total += 1
                    restarted += not fits(text, row)
                    assert row.window in text
    assert 0.2 < restarted / total < 0.95


def test_before_the_first_answer_a_placeholder_is_shown(small: Simulation) -> None:
    for conversation in small.conversations:
        name = conversation.rel_files[0]
        early = [row for row, question in small.on_text(conversation, name) if question is None]
        if conversation.key in small.by_key:
            assert early
            assert all(fits(PLACEHOLDER, row) for row in early)


def test_the_old_answer_stays_until_the_next_is_rendered(small: Simulation) -> None:
    """Times are rounded down to seconds, so the first ticks of a turn may still show the answer before."""
    old = 0
    for conversation in small.conversations:
        questions = small.by_key.get(conversation.key, [])
        for name in conversation.rel_files:
            for row, question in small.on_text(conversation, name):
                if question and not question["split_nodes"] and question["turn"] < len(questions):
                    following = questions[question["turn"]]
                    if row.epoch >= following["asked_at"]:
                        old += fits(question["texts"][conversation.side(name)], row)
    assert old > 10


def test_some_batches_arrive_late(small: Simulation) -> None:
    late = {(row["worker_id"], row["task_id"]) for row in small.truth.filter("late_batch").iter_rows(named=True)}
    assert len(late) == 2
    for conversation in small.conversations:
        epochs = np.array([row[3] for row in conversation.mouse])
        assert (np.diff(epochs) < 0).sum() == (conversation.key in late)


def test_a_hidden_tab_repeats_page_timers(default: Simulation) -> None:
    repeated = 0
    for conversation in default.conversations:
        rows = sorted(conversation.mouse, key=lambda row: row[3])
        pairs = [(a, b) for a, b in pairwise(rows) if a[2] == b[2]]
        assert all(b[3] - a[3] >= 1500 for a, b in pairs)
        repeated += len(pairs)
    counted = default.truth["repeated_timers"].sum()
    assert 5 < counted <= repeated < 150


def test_form_labels_are_recorded_in_january_only(small: Simulation) -> None:
    versions = Counter(
        question["schema_version"]
        for conversation in small.conversations
        for name in conversation.rel_files
        for row, question in small.on_text(conversation, name)
        if question and row.window in ("Rate this ans", "Rate this answ", "Rate this answe", "Preferred ans", "Send")
    )
    assert set(versions) == {3}


def test_off_the_text_the_mouse_gives_the_label_away(default: Simulation) -> None:
    """The leak that features must be guarded against: the cursor rests near the side that was chosen."""
    label = {int(row["query_ID"]): row["preference"] for row in default.log}
    resting, last_side, chosen = [], [], []
    for conversation in default.conversations:
        if not conversation.pairwise:
            continue
        ends = [*(q["rendered_at"] for q in default.by_key.get(conversation.key, [])), 2**62]
        order = np.argsort([row[3] for row in conversation.mouse], kind="stable")
        epochs = np.array([row[3] for row in conversation.mouse])[order]
        points = np.array([row[:2] for row in conversation.mouse])[order]
        on = [
            np.array([row is not None and row.index is not None for row in conversation.read(name)])[order]
            for name in ("rel_mouse_left.csv", "rel_mouse_right.csv")
        ]
        for question, start, end in zip(default.by_key.get(conversation.key, []), ends, ends[1:], strict=False):
            slot = (epochs >= start) & (epochs < end)
            form = slot & ~on[0] & ~on[1] & (points[:, 1] > 400)
            text = np.flatnonzero(slot & (on[0] | on[1]))
            if label[question["question_id"]] and form.any() and len(text):
                resting.append(np.median(points[form, 0]) / points[:, 0].max())
                last_side.append(bool(on[0][text[-1]]))
                chosen.append(label[question["question_id"]] == "1.0")
    assert len(chosen) > 100
    assert roc_auc_score(chosen, -np.array(resting)) > 0.75
    assert 0.38 < roc_auc_score(chosen, last_side) < 0.64


# --- what a reward model can learn


def test_labels_ratings_and_reading_have_the_intended_strength(default: Simulation) -> None:
    log = pl.DataFrame(default.log).with_columns(question_id=pl.col("query_ID").cast(pl.Int64))
    pairs = default.truth.join(log.drop("task_id"), on="question_id").filter(
        (pl.col("mode") == "pairwise") & (pl.col("preference") != "") & ~pl.col("ai_error") & pl.col("has_behavior")
    )
    assert pairs.height > 120
    left = (pairs["preference"] == "1.0").to_numpy()
    assert 0.4 < left.mean() < 0.6
    assert 0.1 < pairs["label_flipped"].mean() < 0.25
    assert 0.13 < pairs["flip_probability"].mean() < 0.21

    ratings = pairs.select(pl.col("likert_1", "likert_2").cast(pl.Float64))
    gap = (ratings["likert_1"] - ratings["likert_2"]).to_numpy()
    assert 0.18 < (gap == 0).mean() < 0.38
    assert ((gap > 0) == left)[gap != 0].mean() > 0.88

    length = np.log(
        (pairs["llm_response_1"].str.len_chars() / pairs["llm_response_2"].str.len_chars()).to_numpy(),
    )
    assert 0.52 < ((length > 0) == left).mean() < 0.7
    dwell = np.log(((pairs["mouse_text_ticks_left"] + 1) / (pairs["mouse_text_ticks_right"] + 1)).to_numpy())
    assert 0.62 < roc_auc_score(left, dwell) < 0.8
    features = np.stack([length, dwell], axis=1)
    probability = cross_val_predict(
        LogisticRegression(fit_intercept=False), features, left, cv=10, method="predict_proba"
    )
    assert 0.6 < roc_auc_score(left, probability[:, 1]) < 0.82


def test_the_default_size_is_handy(default: Simulation) -> None:
    size = sum(path.stat().st_size for path in default.root.rglob("*") if path.is_file())
    assert size < 60e6
    assert default.truth.height == 300
    assert default.truth["worker_id"].n_unique() == 24
    lengths = [len(text) for row in default.log for text in (row["llm_response_1"], row["llm_response_2"]) if text]
    assert min(lengths) >= 80
    assert max(lengths) <= 2502


# --- the function itself


def test_the_same_seed_gives_the_same_bytes_in_another_process(small: Simulation, tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from ifllm_hub.sources.simulation.simulate import simulate_release; "
    code += "simulate_release(Path(sys.argv[1]), 8, 80, seed=3)"
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "again")], check=True, env={**os.environ, "PYTHONHASHSEED": "17"}
    )
    assert digests(tmp_path / "again") == digests(small.root)


def test_another_seed_gives_other_data(small: Simulation, tmp_path: Path) -> None:
    other = Simulation(simulate_release(tmp_path / "other", 4, 30, seed=4))
    assert {row["user_id"] for row in other.log}.isdisjoint(row["user_id"] for row in small.log)
    texts = [{r["llm_response_1"] for r in s.log if not r["llm_response_1"].startswith("AI")} for s in (other, small)]
    assert texts[0].isdisjoint(texts[1])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_smallest_simulation_has_every_quirk(tmp_path: Path, seed: int) -> None:
    sim = Simulation(simulate_release(tmp_path / "tiny", 4, 30, seed))
    flags = ("clock_error", "no_date", "unlabeled", "ai_error", "cr_lf", "model_cr_lf", "emoji", "split_nodes")
    assert all(sim.truth[flag].any() for flag in (*flags, "late_batch"))
    assert not sim.truth["has_behavior"].all()
    assert sim.truth["broken_lines"].sum() > 0
    assert sim.truth["schema_version"].unique().sort().to_list() == [1, 2, 3]
    assert set(sim.truth["mode"]) == {"pairwise", "pointwise"}


def test_an_empty_folder_may_exist(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    out = tmp_path / "empty"
    assert simulate_release(out, 4, 30) == out
    assert sorted(path.name for path in out.iterdir()) == ["dataset", "ground_truth.parquet"]


def test_an_interrupted_simulation_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def interrupt(*args: object) -> None:
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(simulate, "write_recording", interrupt)
    with pytest.raises(KeyboardInterrupt):
        simulate_release(tmp_path / "out", 4, 30)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("workers", "questions", "seed", "message"),
    [
        pytest.param(3, 60, 0, r"workers is 3; give 4 to 200", id="few-workers"),
        pytest.param(201, 4000, 0, r"workers is 201; give 4 to 200", id="many-workers"),
        pytest.param(4, 29, 0, r"questions is 29; give 30 to 160 for 4 workers", id="few-questions"),
        pytest.param(10, 39, 0, r"questions is 39; give 40 to 400 for 10 workers", id="few-questions-a-worker"),
        pytest.param(4, 161, 0, r"questions is 161; give 30 to 160", id="many-questions"),
        pytest.param(4, 30, -1, r"seed is -1; give 0 or more", id="seed"),
    ],
)
def test_numbers_out_of_range_are_refused(
    tmp_path: Path, workers: int, questions: int, seed: int, message: str
) -> None:
    with pytest.raises(IfllmError, match=message):
        simulate_release(tmp_path / "out", workers, questions, seed)
    assert list(tmp_path.iterdir()) == []


def test_a_taken_place_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("keep")
    (tmp_path / "file").write_text("keep")
    for taken in ("full", "file"):
        with pytest.raises(IfllmError, match=rf"{taken}: exists and was not made by this command"):
            simulate_release(tmp_path / taken)
    with pytest.raises(IfllmError, match="cannot be written"):
        simulate_release(tmp_path / "file" / "below")
    assert (tmp_path / "full" / "mine").read_text() == (tmp_path / "file").read_text() == "keep"
