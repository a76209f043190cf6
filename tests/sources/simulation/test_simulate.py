"""The simulated release has the real one's layout, and its ground truth is true of its files."""

import re
from collections import Counter
from datetime import UTC, datetime
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict

from ifllm_hub.sources.ifllm.archive import open_release
from tests.sources.simulation.simulated import (
    HEADERS,
    Simulation,
    fits,
)

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
