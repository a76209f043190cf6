"""The permutation given length: what is exchanged, what stays, and what it finds."""

import numpy as np
import polars as pl
import pytest
from scipy import stats

from eval.studies.permutation_check import LEANING, unrelated
from ifllm_hub.features.centering import HABITUAL
from ifllm_hub.reward.protocol.candidates import LONGER_ANSWER, logistic
from ifllm_hub.reward.protocol.folds import out_of_fold
from ifllm_hub.reward.protocol.pairs import FEATURES, LENGTH_FEATURES, MOUSE_FEATURES, Pairs, labeled, with_past_habit
from ifllm_hub.reward.protocol.permutation import exchange_of, permutation_test
from ifllm_hub.reward.protocol.scores import measured

CAUSAL = with_past_habit(FEATURES)


def test_nothing_exchanged_is_what_was_loaded(all_pairs: Pairs) -> None:
    as_they_were = Pairs(exchange_of(all_pairs).pairs().rows.sort("question_id"))
    expected = labeled(all_pairs)
    assert as_they_were.rows["question_id"].equals(expected.rows["question_id"])
    assert as_they_were.X(CAUSAL) == pytest.approx(expected.X(CAUSAL), nan_ok=True)
    assert as_they_were.X() == pytest.approx(expected.X(), nan_ok=True)


def test_whole_conversations_of_a_worker_exchange_what_length_does_not_explain(all_pairs: Pairs) -> None:
    exchange = exchange_of(all_pairs)
    before = exchange.pairs().rows
    after = exchange.pairs(np.random.default_rng(0)).rows
    kept = ("question_id", "worker_id", "conversation_id", "preference", *LENGTH_FEATURES)
    assert before.select(kept).equals(after.select(kept))
    length = before[LENGTH_FEATURES[0]].to_numpy()
    moved = 0
    for name in HABITUAL:
        was, now = before[name].to_numpy(), after[name].to_numpy()
        read = np.isfinite(exchange.explained + exchange.residual)[:, HABITUAL.index(name)]
        every = exchange.rows[LENGTH_FEATURES[0]].to_numpy()[read], exchange.rows[name].drop_nulls().to_numpy()
        slope = (every[0] @ every[1]) / (every[0] @ every[0])
        rest, rest_now = was - slope * length, now - slope * length
        blocks: dict[tuple[str, int], list[list[list[float]]]] = {}
        for (worker, _), rows in before.with_row_index().group_by("worker_id", "conversation_id", maintain_order=True):
            places = rows.sort("turn")["index"].to_numpy()
            one = blocks.setdefault((worker, len(places)), [[], []])
            for found, values in zip(one, (rest, rest_now), strict=True):
                found.append(np.round(np.nan_to_num(values[places], nan=99), 9).tolist())
        for there, here in blocks.values():
            assert sorted(there) == sorted(here), "the same blocks, in another order"
            moved += there != here
    assert moved > 0


def test_gains_are_those_of_the_protocol(all_pairs: Pairs) -> None:
    found = permutation_test(all_pairs, {"both": CAUSAL}, draws=2, seeds=2)
    pairs = Pairs(exchange_of(all_pairs).pairs().rows)
    ours, longer = (out_of_fold(pairs, fit, "worker", 2) for fit in (logistic(CAUSAL), LONGER_ANSWER.fit))
    for measure, gain in found["gains"]["both"].items():
        expected = measured(ours, pairs)[measure].mean - measured(longer, pairs)[measure].mean
        assert gain == pytest.approx(expected)
    assert all(p in (pytest.approx(1 / 3), pytest.approx(2 / 3), 1.0) for p in found["p"]["both"].values())
    assert found["exchanged"] <= found["conversations"]


def test_a_reading_that_tells_is_found_and_one_that_does_not_is_not(all_pairs: Pairs) -> None:
    """Preferences drawn by the mouse, and preferences drawn by length alone."""
    sets = {"mouse": with_past_habit(MOUSE_FEATURES) + LENGTH_FEATURES}
    sign = pl.col(MOUSE_FEATURES[0]).fill_null(0) > 0
    rated = pl.col("preference").is_not_null()
    told = all_pairs.rows.with_columns(
        preference=pl.when(rated).then(pl.when(sign).then(pl.lit("left")).otherwise(pl.lit("right")))
    )
    assert permutation_test(Pairs(told), sets, draws=39, seeds=1)["p"]["mouse"]["brier"] == pytest.approx(1 / 40)
    nothing = [
        permutation_test(unrelated(all_pairs, s), sets, draws=19, seeds=1)["p"]["mouse"]["brier"] for s in range(4)
    ]
    assert max(nothing) > 0.2


def test_the_best_of_many_sets_pays_for_the_choice(all_pairs: Pairs) -> None:
    sets = {"mouse": with_past_habit(MOUSE_FEATURES) + LENGTH_FEATURES, "both": CAUSAL}
    one = permutation_test(all_pairs, {"both": CAUSAL}, draws=19, seeds=1)
    assert one["best_p"] == one["p"]["both"]
    twice = permutation_test(all_pairs, {"both": CAUSAL, "again": CAUSAL}, draws=19, seeds=1)
    assert twice["best_p"] == one["p"]["both"], "the same set again costs nothing"

    pairs = unrelated(all_pairs, 1)
    chosen = permutation_test(pairs, sets, draws=19, seeds=1, seed=5)
    exchange = exchange_of(pairs)
    gains = []
    for generator in (None, *(np.random.default_rng((5, draw)) for draw in range(19))):
        drawn = exchange.pairs(generator)
        told = [
            measured(out_of_fold(drawn, logistic(features), "worker", 1), drawn)["brier"] for features in sets.values()
        ]
        gains.append([-one.mean for one in told])
    standard = stats.zscore(np.array(gains), axis=0).max(axis=1)
    assert chosen["best_p"]["brier"] == pytest.approx((standard >= standard[0]).mean())
    assert chosen["best_p"]["brier"] > min(p["brier"] for p in chosen["p"].values())


@pytest.mark.slow
def test_p_values_are_uniform_where_there_is_nothing_to_find(all_pairs: Pairs) -> None:
    assert LEANING > 0
    p = np.array(
        [
            permutation_test(unrelated(all_pairs, seed), {"both": CAUSAL}, draws=39, seeds=1)["p"]["both"]["brier"]
            for seed in range(200)
        ]
    )
    assert stats.kstest(p - np.random.default_rng(0).random(200) / 40, "uniform").pvalue > 0.01
