"""The protocol: its numbers against plain computations, its folds, its baselines, its intervals."""

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import brier_score_loss, roc_auc_score

from ifllm_hub.reward import protocol
from ifllm_hub.reward.pairs import FEATURES, Pairs
from ifllm_hub.reward.protocol import (
    LONGER_ANSWER,
    PROTOCOLS,
    accuracy_at_half,
    auc,
    correct,
    leaderboard,
    majority,
    out_of_fold,
    permuted,
    reliability,
    score,
)


def made(left: list[bool], workers: list[Any], conversations: list[Any] | None = None, **features: Any) -> Pairs:
    """Pairs with these preferences; a feature that is not given is not recorded."""
    n = len(left)
    columns = {name: features.get(name, [None] * n) for name in FEATURES}
    return Pairs(
        pl.DataFrame(
            {
                "question_id": range(n),
                "worker_id": [f"w{worker}" for worker in workers],
                "conversation_id": [f"c{number}" for number in (conversations or range(n))],
                "preference": ["left" if one else "right" for one in left],
                **columns,
            },
            schema_overrides=dict.fromkeys(FEATURES, pl.Float64),
        )
    )


def half_and_half(n: int) -> Pairs:
    generator = np.random.default_rng(n)
    left = generator.permutation(np.arange(n) % 2 == 0).tolist()
    return made(left, (np.arange(n) // 5).tolist(), (np.arange(n) // 2).tolist())


# Probabilities on a grid of sixteenths, so that ties and 0.5 occur and no bin's edge is met by rounding.
SCORED = st.integers(2, 30).flatmap(
    lambda n: st.tuples(
        arrays(np.float64, (3, n), elements=st.integers(0, 16).map(lambda k: k / 16)),
        arrays(np.int64, n, elements=st.integers(0, 1)),
    )
)


@given(SCORED)
@settings(deadline=None)
def test_accuracy_counts_a_tie_half(scored: tuple[np.ndarray, np.ndarray]) -> None:
    probability, y = scored
    for row in probability:
        by_hand = [0.5 if p == 0.5 else float((p > 0.5) == bool(left)) for p, left in zip(row, y, strict=True)]
        assert correct(row, y).tolist() == by_hand


@given(SCORED)
@settings(deadline=None)
def test_auc_is_that_of_scikit_learn(scored: tuple[np.ndarray, np.ndarray]) -> None:
    probability, y = scored
    if y.min() == y.max():
        assert np.isnan(auc(probability, y)).all()
    else:
        assert auc(probability, y) == pytest.approx([roc_auc_score(y, row) for row in probability])


@given(SCORED)
@settings(deadline=None)
def test_calibration_error_against_a_loop(scored: tuple[np.ndarray, np.ndarray]) -> None:
    probability, y = scored
    bins: dict[int, list[tuple[float, float]]] = {}
    for row in probability:
        for p, left in zip(row, y, strict=True):
            hit = 0.5 if p == 0.5 else float((p > 0.5) == bool(left))
            bins.setdefault(min(int(max(p, 1 - p) * 20) - 10, 9), []).append((max(p, 1 - p), hit))
    expected = [np.mean(bins[number], axis=0) for number in sorted(bins)]
    found = reliability(probability, y)
    assert np.allclose([(bin_["confidence"], bin_["accuracy"]) for bin_ in found], expected)
    assert np.allclose([bin_["share"] for bin_ in found], [len(bins[n]) / probability.size for n in sorted(bins)])


@given(SCORED)
@settings(deadline=None)
def test_accuracy_on_the_surer_half(scored: tuple[np.ndarray, np.ndarray]) -> None:
    probability, y = scored
    half = len(y) // 2
    accuracies = []
    for row in probability:
        surest = sorted(range(len(y)), key=lambda i: -abs(row[i] - 0.5))[:half]
        accuracies.append(np.mean([0.5 if row[i] == 0.5 else (row[i] > 0.5) == bool(y[i]) for i in surest]))
    assert accuracy_at_half(probability, y) == pytest.approx(np.mean(accuracies))


def test_score_collects_the_numbers() -> None:
    pairs = half_and_half(60)
    generator = np.random.default_rng(0)
    probability, reference = generator.random((4, 60)), generator.random((4, 60))
    row = score(probability, reference, pairs)
    accuracies = [((p > 0.5) == pairs.y).mean() for p in probability]
    assert row["accuracy"]["mean"] == pytest.approx(np.mean(accuracies))
    assert row["accuracy"]["sd"] == pytest.approx(np.std(accuracies))
    assert row["auc"]["mean"] == pytest.approx(np.mean([roc_auc_score(pairs.y, p) for p in probability]))
    assert row["brier"] == pytest.approx(np.mean([brier_score_loss(pairs.y, p) for p in probability]))
    gaps = [bin_["share"] * abs(bin_["confidence"] - bin_["accuracy"]) for bin_ in row["reliability"]]
    assert row["ece"] == pytest.approx(sum(gaps))
    gain = row["accuracy"]["mean"] - np.mean([((p > 0.5) == pairs.y).mean() for p in reference])
    assert row["gain_over_longer_answer"]["mean"] == pytest.approx(gain)
    for name in ("accuracy", "auc", "gain_over_longer_answer"):
        assert row[name]["low"] < row[name]["mean"] < row[name]["high"]
    assert set(score(reference, reference, pairs)["gain_over_longer_answer"].values()) == {0.0}


def test_interval_widens_when_one_workers_pairs_are_alike() -> None:
    """Twenty workers who are all right or all wrong say as much as twenty pairs, not as four hundred."""
    right = np.repeat(np.arange(20) % 2, 20).astype(float)
    left = [True, False] * 200
    probability = np.where(np.array(left), right, 1 - right)[None]
    widths = []
    for workers in (range(400), np.repeat(range(20), 20)):
        pairs = made(left, list(workers))
        interval = score(probability, probability, pairs)["accuracy"]
        assert interval["mean"] == 0.5
        widths.append(interval["high"] - interval["low"])
    assert widths[0] == pytest.approx(2 * 1.96 * 0.5 / 20, rel=0.15)
    assert widths[1] == pytest.approx(2 * 1.96 * 0.5 / np.sqrt(20), rel=0.15)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_folds_share_no_group_and_cover_every_pair(name: str) -> None:
    pairs = half_and_half(50)
    seen: dict[int, list[int]] = {0: [], 1: []}
    tested: list[frozenset[int]] = []

    def spy(train: Pairs, test: Pairs, seed: int) -> np.ndarray:
        assert not set(train.rows[PROTOCOLS[name]]) & set(test.rows[PROTOCOLS[name]])
        assert len(train) + len(test) == 50
        seen[seed] += test.rows["question_id"].to_list()
        tested.append(frozenset(test.rows["question_id"]))
        return test.rows["question_id"].to_numpy() / 100 + seed

    probability = out_of_fold(pairs, spy, name, seeds=2)
    assert sorted(seen[0]) == sorted(seen[1]) == list(range(50))
    assert np.allclose(probability, [np.arange(50) / 100, np.arange(50) / 100 + 1]), "predictions left their rows"
    assert len(tested) == 10
    assert set(tested[:5]) != set(tested[5:]), "each seed draws its own folds"


def test_remembering_workers_pays_only_where_folds_share_them() -> None:
    sides = np.arange(20) % 2 == 0
    workers = np.repeat(np.arange(20), 6)
    pairs = made(sides[workers].tolist(), workers.tolist(), np.repeat(np.arange(40), 3).tolist())

    def memory(train: Pairs, test: Pairs, seed: int) -> np.ndarray:
        known = dict(zip(train.rows["worker_id"], train.y, strict=True))
        return np.array([known.get(worker, 0.5) for worker in test.rows["worker_id"]], dtype=float)

    accuracy = {name: correct(out_of_fold(pairs, memory, name, 2), pairs.y).mean() for name in PROTOCOLS}
    assert accuracy["question"] == 1
    assert accuracy["conversation"] > 0.8
    assert accuracy["worker"] == 0.5


def test_majority_says_the_training_share() -> None:
    train, test = made([True, True, True, False], [1, 1, 2, 2]), made([False, False], [3, 3])
    assert majority(train, test, 0).tolist() == [0.75, 0.75]


def test_longer_answer_follows_the_length_and_never_the_side() -> None:
    ratios = [1.0, -1.0, 2.0, -2.0, 0.5, 0.4, 0.3, 0.2]
    left = [True, False, True, False, True, True, True, True]
    train = made(left, [1] * 8, length_log_ratio=ratios)
    test = made([True] * 4, [2] * 4, length_log_ratio=[3.0, -3.0, 0.0, None], mouse_dwell_log_ratio=[-9.0, 9, 9, 9])
    probability = LONGER_ANSWER.fit(train, test, 0)
    assert probability[0] > 0.6
    assert probability[0] == pytest.approx(1 - probability[1])
    assert probability[2:].tolist() == [0.5, 0.5]
    contrary = made([not one for one in left], [1] * 8, length_log_ratio=ratios)
    assert LONGER_ANSWER.fit(contrary, test, 0) == pytest.approx(1 - probability)


def test_permuting_moves_preferences_and_nothing_else(pairs: Pairs) -> None:
    shuffled = permuted(pairs, 1)
    assert shuffled.y.sum() == pairs.y.sum()
    assert (shuffled.y != pairs.y).mean() > 0.3
    assert shuffled.rows.drop("preference").equals(pairs.rows.drop("preference"))
    assert permuted(pairs, 1).rows.equals(shuffled.rows)
    assert not permuted(pairs, 2).rows.equals(shuffled.rows)


def test_the_forest_learns_preferences_and_falls_to_chance_without_them(pairs: Pairs) -> None:
    accuracy = correct(out_of_fold(pairs, protocol.FOREST.fit, "worker", 1), pairs.y).mean()
    null = protocol._null(pairs, "worker", 4)
    sd = 0.5 / np.sqrt(len(pairs))
    assert accuracy > 0.5 + 3 * sd
    assert abs(null.mean() - 0.5) < 3 * sd / np.sqrt(len(null))


@pytest.fixture(scope="module")
def boards(pairs: Pairs) -> list[dict[str, Any]]:
    """Leaderboards of two quick candidates by one process and by two, and the progress told on the way."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protocol, "CANDIDATES", (protocol.CANDIDATES[0], LONGER_ANSWER))
        shares: list[float] = []
        one = leaderboard(pairs, seeds=1, n_jobs=1, advance=shares.append)
        return [one, leaderboard(pairs, seeds=1, n_jobs=2), {"shares": shares}]


def test_leaderboard_does_not_depend_on_the_number_of_processes(boards: list[dict[str, Any]]) -> None:
    assert boards[0] == boards[1]


def test_leaderboard_has_every_candidate_under_every_protocol(boards: list[dict[str, Any]], pairs: Pairs) -> None:
    board = boards[0]
    assert [(row["model"], row["protocol"]) for row in board["rows"]] == [
        (name, fold) for fold in PROTOCOLS for name in ("majority side", "longer answer")
    ]
    counts = {"pairs": len(pairs), "workers": 16, "seeds": 1, "left_preferred": pytest.approx(pairs.y.mean())}
    assert {key: board[key] for key in counts} == counts
    longer = board["rows"][-1]
    again = out_of_fold(pairs, LONGER_ANSWER.fit, "worker", 1)
    assert longer["accuracy"]["mean"] == correct(again, pairs.y).mean()
    assert set(board["permuted_labels"]) == set(PROTOCOLS)
    shares = boards[2]["shares"]
    assert shares == sorted(shares)
    assert shares[-1] == 1
