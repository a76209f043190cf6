"""Folds depend on ids and modes alone, keep groups whole, and are about equally large."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ifllm_hub.dataset.splits import FOLDS, TEST_FOLD, assign_folds

GROUPS = {"fold_question": "question_id", "fold_conversation": "conversation_id", "fold_worker": "worker_id"}


def questions(conversations: list[tuple[int, bool, int]]) -> pl.DataFrame:
    """From (worker, pairwise, turns) of each conversation."""
    rows = [
        (f"worker_{worker}", f"worker_{worker}/{number}", "pairwise" if pairwise else "pointwise")
        for number, (worker, pairwise, turns) in enumerate(conversations)
        for _ in range(turns)
    ]
    columns = ["worker_id", "conversation_id", "mode"]
    frame = pl.DataFrame(rows, schema=dict.fromkeys(columns, pl.String), orient="row")
    return frame.with_columns(question_id=pl.int_range(pl.len(), dtype=pl.Int64) * 3 + 2)


CONVERSATIONS = st.lists(st.tuples(st.integers(0, 15), st.booleans(), st.integers(1, 7)), min_size=1, max_size=60)


@given(CONVERSATIONS, st.randoms(use_true_random=False))
def test_groups_stay_whole_and_the_row_order_does_not_matter(conversations: list, random) -> None:
    frame = questions(conversations)
    folded = assign_folds(frame)
    assert folded.drop(*GROUPS, "split").equals(frame)
    for fold, group in GROUPS.items():
        assert folded.schema[fold] == pl.Int8
        assert folded[fold].is_between(0, FOLDS - 1).all()
        assert folded.group_by(group).agg(pl.col(fold).n_unique())[fold].to_list() == [1] * frame[group].n_unique()
    assert ((folded["split"] == "test") == (folded["fold_worker"] == TEST_FOLD)).all()
    assert set(folded["split"]) <= {"train", "test"}
    order = random.sample(range(frame.height), frame.height)
    assert assign_folds(frame[order]).sort("question_id").equals(folded.sort("question_id"))


@given(CONVERSATIONS)
def test_question_folds_differ_by_one_question_in_each_mode(conversations: list) -> None:
    folded = assign_folds(questions(conversations))
    for mode in ("pairwise", "pointwise"):
        sizes = [folded.filter(mode=mode, fold_question=fold).height for fold in range(FOLDS)]
        assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("fold", GROUPS)
def test_folds_are_of_nearly_equal_size_in_both_modes(fold: str) -> None:
    # As in the study: a few workers with most questions, pairwise ones in January only.
    conversations = [
        (worker, (worker + task) % 3 == 0 or worker % 7 == 0, 3)
        for worker in range(60)
        for task in range(1 + 60 // (worker + 3))
    ]
    folded = assign_folds(questions(conversations))
    for mode in ("pairwise", "pointwise"):
        shares = folded.filter(mode=mode)[fold].value_counts(normalize=True)["proportion"]
        assert len(shares) == FOLDS
        assert 0.15 < shares.min() <= shares.max() < 0.25


def test_folds_are_the_same_in_every_version() -> None:
    """Papers compare by these numbers: a change of them is a new major version of the dataset."""
    folded = assign_folds(questions([(worker, worker % 2 == 0, 1 + worker % 4) for worker in range(12)]))
    by_worker = folded.unique("worker_id").sort(pl.col("worker_id").str.len_chars(), "worker_id")
    assert by_worker["fold_worker"].to_list() == [3, 3, 1, 1, 4, 4, 0, 0, 3, 3, 2, 2]
