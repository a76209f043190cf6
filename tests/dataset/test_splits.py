"""Folds depend on ids and modes alone, keep groups whole and are about as large; nobody moves where others join."""

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


@given(CONVERSATIONS, st.randoms(use_true_random=False), st.booleans())
def test_groups_stay_whole_and_the_row_order_does_not_matter(conversations: list, random, grows: bool) -> None:
    frame = questions(conversations)
    folded = assign_folds(frame, grows=grows)
    assert folded.drop(*GROUPS, "split").equals(frame)
    for fold, group in GROUPS.items():
        assert folded.schema[fold] == pl.Int8
        assert folded[fold].is_between(0, FOLDS - 1).all()
        assert folded.group_by(group).agg(pl.col(fold).n_unique())[fold].to_list() == [1] * frame[group].n_unique()
    assert ((folded["split"] == "test") == (folded["fold_worker"] == TEST_FOLD)).all()
    assert set(folded["split"]) <= {"train", "test"}
    order = random.sample(range(frame.height), frame.height)
    assert assign_folds(frame[order], grows=grows).sort("question_id").equals(folded.sort("question_id"))


@given(CONVERSATIONS)
def test_question_folds_differ_by_one_question_in_each_mode(conversations: list) -> None:
    folded = assign_folds(questions(conversations), grows=False)
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
    folded = assign_folds(questions(conversations), grows=False)
    for mode in ("pairwise", "pointwise"):
        shares = folded.filter(mode=mode)[fold].value_counts(normalize=True)["proportion"]
        assert len(shares) == FOLDS
        assert 0.15 < shares.min() <= shares.max() < 0.25


def test_folds_are_the_same_in_every_version() -> None:
    """Papers compare by these numbers: a change of them is a new major version of the dataset."""
    folded = assign_folds(questions([(worker, worker % 2 == 0, 1 + worker % 4) for worker in range(12)]), grows=False)
    by_worker = folded.unique("worker_id").sort(pl.col("worker_id").str.len_chars(), "worker_id")
    assert by_worker["fold_worker"].to_list() == [3, 3, 1, 1, 4, 4, 0, 0, 3, 3, 2, 2]


def test_nobody_moves_where_people_join_and_leave() -> None:
    """One by one, and with more questions of those who are there; every tenth time somebody withdraws."""
    everybody = questions([(worker, turn % 2 == 0, 1 + worker % 3) for turn in range(2) for worker in range(300)])
    seen: dict[str, dict] = {fold: {} for fold in (*GROUPS, "split")}
    gone = set()
    for joined in range(1, 301):
        if joined % 10 == 0:
            gone.add(f"worker_{joined - 7}")
        there = {f"worker_{number}" for number in range(joined)} - gone
        rows = everybody.filter(pl.col("worker_id").is_in(there))
        folded = assign_folds(rows[: max(1, rows.height - joined % 4)], grows=True)
        for fold, known in seen.items():
            now = dict(folded.select(GROUPS.get(fold, "worker_id"), fold).iter_rows())
            assert all(known.get(id_, place) == place for id_, place in now.items())
            known |= now
    assert set(seen["split"].values()) == {"train", "test"}


def test_hashed_folds_are_the_same_in_every_version_and_as_large_as_chance_has_it() -> None:
    """What was held out once, stays so in the next version of this package."""
    folded = assign_folds(questions([(worker, True, 1) for worker in range(10_000)]), grows=True)
    for fold in GROUPS:
        sizes = folded[fold].value_counts()["count"]
        # 2,000 of 10,000; five standard deviations of a binomial are 200.
        assert sizes.sum() == 10_000
        assert sizes.is_between(1_800, 2_200).all()
    # The three kinds of folds know nothing of each other: 400 in each of the 25 cells, sd 19.6.
    cells = folded.group_by("fold_question", "fold_worker").len()["len"]
    assert len(cells) == FOLDS**2
    assert cells.is_between(300, 500).all()
    assert folded["fold_worker"][:12].to_list() == [0, 0, 2, 3, 1, 1, 4, 1, 0, 1, 4, 2]


def test_of_100_000_people_nobody_moves_where_1_and_10_000_join() -> None:
    people, more = 100_000, 10_000
    everybody = pl.DataFrame({"question_id": pl.int_range(people + more, dtype=pl.Int64, eager=True)}).select(
        "question_id",
        worker_id=pl.format("reader_{}", "question_id"),
        conversation_id=pl.format("reader_{}/1", "question_id"),
        mode=pl.lit("pairwise"),
    )
    before = assign_folds(everybody[:people], grows=True)
    for joined in (1, more):
        assert assign_folds(everybody[: people + joined], grows=True)[:people].equals(before)
    for fold in GROUPS:
        sizes = before[fold].value_counts()["count"]
        # 20,000 of 100,000; five standard deviations of a binomial are 632.
        assert sizes.is_between(20_000 - 632, 20_000 + 632).all()
        assert len(sizes) == FOLDS
    assert before.filter(split="test").height == before.filter(fold_worker=TEST_FOLD).height
