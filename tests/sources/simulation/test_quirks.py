"""The simulated release has every quirk of the real one's tables and behavior files."""

from collections import Counter
from datetime import datetime
from itertools import pairwise

import numpy as np
from sklearn.metrics import roc_auc_score

from ifllm_hub.sources.simulation.page import PLACEHOLDER
from tests.sources.simulation.simulated import HOUR, Simulation, asked_at, fits

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
