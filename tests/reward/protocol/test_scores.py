"""The scores: each against a plain computation, the intervals against one worker left out and against theory."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import brier_score_loss, roc_auc_score

from ifllm_hub.reward.protocol.scores import auc, correct, coverage, measured, reliability, score
from tests.reward.made import half_and_half, made

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
def test_coverage_is_the_mean_over_all_orders_of_equally_sure_pairs(scored: tuple[np.ndarray, np.ndarray]) -> None:
    probability, y = scored
    for tenths, found in enumerate(coverage(probability, y), start=1):
        count = max(len(y) * tenths // 10, 1)
        expected = []
        for row in probability:
            hits = np.array(
                [0.5 if p == 0.5 else float((p > 0.5) == bool(left)) for p, left in zip(row, y, strict=True)]
            )
            sure = np.abs(row - 0.5)
            last = sorted(sure, reverse=True)[count - 1]
            certain, tied = hits[sure > last], hits[sure == last]
            expected.append((certain.sum() + (count - len(certain)) * tied.mean()) / count)
        assert found == pytest.approx(np.mean(expected))


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
    auc_gain = row["auc"]["mean"] - np.mean([roc_auc_score(pairs.y, p) for p in reference])
    assert row["auc_over_longer_answer"]["mean"] == pytest.approx(auc_gain)
    brier_gain = row["brier"] - np.mean([brier_score_loss(pairs.y, p) for p in reference])
    assert row["brier_over_longer_answer"]["mean"] == pytest.approx(brier_gain)
    differences = ("gain_over_longer_answer", "auc_over_longer_answer", "brier_over_longer_answer")
    for name in ("accuracy", "auc", *differences):
        assert row[name]["low"] < row[name]["mean"] < row[name]["high"]
    assert row["accuracy_at_50"] == row["coverage"][4]
    assert row["coverage"][9] == pytest.approx(row["accuracy"]["mean"])
    same = score(reference, reference, pairs)
    assert all(set(same[name].values()) == {0.0} for name in differences)


def test_without_a_worker_numbers_are_those_of_the_other_pairs() -> None:
    pairs = made([True, False, False, True, True, False, True], [1, 1, 2, 3, 3, 3, 4])
    probability = np.random.default_rng(1).integers(0, 9, (3, 7)) / 8
    found = measured(probability, pairs)
    for place, rows in enumerate(([2, 3, 4, 5, 6], [0, 1, 3, 4, 5, 6], [0, 1, 2, 6], [0, 1, 2, 3, 4, 5])):
        y, rest = pairs.y[rows], probability[:, rows]
        assert found["accuracy"].without[place] == pytest.approx(correct(rest, y).mean())
        assert found["brier"].without[place] == pytest.approx(np.mean([brier_score_loss(y, p) for p in rest]))
        assert found["auc"].without[place] == pytest.approx(np.mean([roc_auc_score(y, p) for p in rest]))
    # DeLong, DeLong & Clarke-Pearson 1988: the shares of the other kind that are ranked rightly against each row.
    left, right = pairs.y == 1, pairs.y == 0
    ranked = np.mean([(p[left, None] > p[right]) + 0.5 * (p[left, None] == p[right]) for p in probability], axis=0)
    expected = np.empty(7)
    expected[left] = (ranked.mean(axis=1) - ranked.mean()) * 7 / left.sum()
    expected[right] = (ranked.mean(axis=0) - ranked.mean()) * 7 / right.sum()
    assert found["auc"].linear == pytest.approx(expected)


def test_a_worker_without_whom_there_is_no_auc_moves_nothing() -> None:
    pairs = made([True, False, False, False, False], [1, 1, 2, 2, 3])
    row = measured(np.array([[0.9, 0.4, 0.6, 0.2, 0.95]]), pairs)["auc"]
    assert np.isnan(row.without[0])
    assert np.isfinite(row.without[1:]).all()
    assert row.jackknife(pairs).moves[0] == 0
    assert np.isfinite(list(row.jackknife(pairs).estimate.values())).all()


def test_scores_of_one_kind_of_preference_are_not_defined_instead_of_wrong() -> None:
    row = score(np.full((2, 3), 0.7), np.full((2, 3), 0.6), made([True] * 3, [1, 2, 3]))
    assert row["accuracy"]["mean"] == 1
    assert all(np.isnan(row["auc"][key]) for key in ("mean", "low", "high"))


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
