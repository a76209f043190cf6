"""Both orders of a pair become one difference; what cannot be scored is counted, and what cannot be is refused."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ifllm_hub.errors import IfllmError
from ifllm_hub.evaluation.comparison.differences import KEYS, differences, read_judgments
from ifllm_hub.evaluation.tables import write_table
from tests.evaluation.made import both, judgment, table


def test_the_two_orders_are_averaged_and_position_cancels() -> None:
    fair, biased = both(1, (7, 5), (7, 5)), both(1, (9, 5), (7, 7))  # +2 for whoever is shown first
    for rows in (fair, biased):
        (pair,) = differences(table(rows)).pairs.to_dicts()
        assert pair["difference"] == 2
        assert pair["winner"] == "model"
    assert (pair["score_model"], pair["score_baseline"]) == (8, 6)
    assert (pair["difference_model_first"], pair["difference_baseline_first"]) == (4, 0)


@pytest.mark.parametrize(
    ("first", "second", "winner", "in_both"),
    [
        pytest.param((8, 5), (6, 5), "model", "model", id="agree"),
        pytest.param((8, 5), (5, 6), "model", "tie", id="words disagree, scores do not cancel"),
        pytest.param((8, 5), (5, 8), "tie", "tie", id="position alone"),
        pytest.param((5, 5), (5, 6), "baseline", "tie", id="a tie and a loss"),
        pytest.param((5, 5), (6, 6), "tie", "tie", id="ties"),
    ],
)
def test_winner_by_averaged_scores_and_by_the_stricter_rule(
    first: tuple[float, float], second: tuple[float, float], winner: str, in_both: str
) -> None:
    (pair,) = differences(table(both(1, first, second))).pairs.to_dicts()
    assert (pair["winner"], pair["winner_in_both"]) == (winner, in_both)


def test_a_pair_without_both_orders_is_set_aside_with_its_reason() -> None:
    rows = [
        *both(1, (7, 5), (7, 5)),
        judgment(2, "model_first", 9, 1),
        judgment(3, "model_first", 9, 1),
        judgment(3, "baseline_first", None, None, status="refused"),
        judgment(4, "model_first", None, None),
        judgment(4, "baseline_first", None, None, status="truncated"),
    ]
    found = differences(table(rows))
    assert found.pairs["question_id"].to_list() == [1]
    assert dict(found.set_aside.select("question_id", "reason").iter_rows()) == {
        2: "one order scored: the other is not there",
        3: "one order scored: refused",
        4: "no order scored: malformed, truncated",
    }
    assert found.statuses == {"ok": 4, "malformed": 1, "refused": 1, "truncated": 1, "failed": 0}


def test_scores_beside_a_failed_status_are_never_used() -> None:
    rows = [
        judgment(1, "model_first", 6, 5),
        judgment(1, "baseline_first", 10, 1, status="malformed"),
        *both(2, (5, 5), (5, 5)),
    ]
    assert differences(table(rows)).pairs["question_id"].to_list() == [2]


def test_the_paper_asks_for_one_order() -> None:
    rows = [
        judgment(1, "model_first", 7, 5, preset="reference"),
        judgment(2, "baseline_first", 4, 5, preset="reference"),
        judgment(3, "baseline_first", None, None, preset="reference"),
    ]
    found = differences(table(rows))
    assert found.pairs["difference"].to_list() == [2, -1]
    assert found.pairs["winner_in_both"].to_list() == [None, None]
    assert found.set_aside["reason"].to_list() == ["no order scored: malformed"]


def test_lengths_are_words_and_code_points() -> None:
    messages = [{"role": "user", "content": "Two words"}, {"role": "assistant", "content": "é\u0301"}]
    rows = both(
        1, (7, 5), (7, 5), answer_model="one  two\n\U0001f468\u200d\U0001f469", answer_baseline="", messages=messages
    )
    (pair,) = differences(table(rows)).pairs.to_dicts()
    assert (pair["words_model"], pair["words_baseline"], pair["words_prompt"]) == (3, 0, 3)
    assert (pair["chars_model"], pair["chars_baseline"], pair["chars_prompt"]) == (12, 0, 12)


def test_the_order_of_rows_and_repeats_change_nothing() -> None:
    rows = table([row for question in range(9) for row in both(question, (7, question % 5 + 3), (6, 4))])
    found, again = differences(rows), differences(pl.concat([rows.reverse(), rows]))
    assert found.pairs.equals(again.pairs)
    assert (found.repeated, again.repeated) == (0, 18)


def test_rows_that_show_the_judge_the_same_are_rows_of_their_own() -> None:
    """Equal answers, equal answers of two cells, and the same question asked by two workers have one id."""
    same = {"judgment_id": "one", "answer_model": "Yes.", "answer_baseline": "Yes."}
    rows = [
        row
        for source, question in (("forest", 1), ("forest", 2), ("explicit", 1))
        for row in both(question, (9, 3), (3, 9), label_source=source, model=source, **same)
    ]
    found = differences(table([*rows, *rows[:2]]))
    assert found.pairs["winner"].to_list() == ["tie"] * 3
    assert found.asked.equals(found.pairs.select(KEYS).sort(KEYS))
    assert (found.set_aside.height, found.repeated) == (0, 2)


def test_a_verdict_counts_where_the_same_row_also_failed() -> None:
    failed = [{**row, "status": "failed", "winner": None} for row in both(1, (7, 5), (7, 5))]
    found = differences(table([*failed, *both(1, (7, 5), (7, 5))]))
    assert (found.pairs["difference"].to_list(), found.repeated) == ([2], 2)


def test_what_is_counted_beside_the_scores() -> None:
    rows = [
        *both(1, (7, 5), (7, 5)),
        *both(2, (7, 5), (7, 5), winner="baseline"),
        *both(1, (7, 5), (7, 5), label_source="explicit", model="a-explicit", answer_baseline="Sampled again."),
        judgment(1, None, 7, None, mode="single", winner=None, baseline=None, answer_baseline=None),  # type: ignore[arg-type]
    ]
    found = differences(table(rows))
    assert (found.contradictions, found.resampled_baselines, found.single, found.judgments) == (2, 1, 1, 7)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"score_model": 11.0}, "no scores from 1 to 10"),
        ({"score_baseline": 0.0}, "no scores from 1 to 10"),
        ({"score_model": float("nan")}, "no scores from 1 to 10"),
        ({"winner": "A"}, "no winner"),
        ({"winner": None}, "no winner"),
        ({"status": "fine"}, "an unknown status"),
        ({"order": None}, "no order"),
        ({"judge": "lab/other"}, "2 values of judge,"),
        ({"judge_settings": "{}"}, "2 values of judge_settings"),
        ({"preset": "reference"}, "2 values of preset"),
        ({"model_revision": "r2"}, "2 values of model_revision"),
        ({"baseline": "other-sft"}, "2 values of baseline"),
        ({"order": "model_first", "answer_model": "Other."}, "a second judgment in the same order"),
    ],
)
def test_what_cannot_be_compared_is_refused(changes: dict[str, Any], message: str) -> None:
    rows = both(1, (7, 5), (7, 5))
    rows[1] = {**rows[1], **changes, "judgment_id": "another"}
    with pytest.raises(IfllmError, match=message):
        differences(table(rows))


def test_no_pairwise_judgments_are_refused() -> None:
    with pytest.raises(IfllmError, match="no pairwise judgments"):
        differences(table([]))


def test_files_and_folders_are_read_with_their_digests(tmp_path: Path) -> None:
    for name, question in (("b", 1), ("a", 2)):
        write_table(tmp_path / f"{name}.parquet", table(both(question, (7, 5), (7, 5))))
    read, files = read_judgments([tmp_path])
    assert read["question_id"].to_list() == [2, 2, 1, 1]
    assert [file["name"] for file in files] == ["a.parquet", "b.parquet"]
    assert read_judgments([tmp_path / "b.parquet"])[1] == files[1:]
    assert differences(read).pairs.select(KEYS).height == 2
    (tmp_path / "empty").mkdir()
    with pytest.raises(IfllmError, match="no Parquet files"):
        read_judgments([tmp_path / "empty"])
    (tmp_path / "text.parquet").write_text("not Parquet")
    with pytest.raises(IfllmError, match="cannot be read as Parquet"):
        read_judgments([tmp_path])
