"""The bullet points' experiment: known effects are found, chance is not, and p values are those of the design."""

import itertools
import json
from collections import defaultdict
from dataclasses import asdict

import numpy as np
import polars as pl
import pytest
from scipy import stats

from ifllm_hub.patterns.effects import Effect
from ifllm_hub.patterns.experiment.bullets import Bullets, bullets
from ifllm_hub.patterns.experiment.randomization import dealt, randomization_test
from ifllm_hub.patterns.outcomes import slope_within
from tests.patterns.tables import SIZES, study


def one(found: Bullets, measure: str, family: str = "bullets") -> Effect:
    (effect,) = (effect for effect in found.effects if (effect.measure, effect.family) == (measure, family))
    return effect


def test_a_known_effect_is_found_where_it_is() -> None:
    found = bullets(*study(np.random.default_rng(1), dwell=np.log(1.5)))
    dwell = one(found, "dwell")
    assert (dwell.unit, dwell.test, dwell.modality) == ("%", "randomization", "mouse")
    assert dwell.low < 50 < dwell.high
    assert dwell.low > 20
    assert dwell.p == pytest.approx(1 / 20_000)  # no deal of the coin comes near
    listed = one(found, "list")
    assert listed.low < 0.5 < listed.high
    assert listed.p < 0.001
    assert all(one(found, name).p > 0.01 for name in ("depth", "rating", "length"))
    # The toss does not reach the next turn.
    assert one(found, "dwell", "bullets, carry-over").low < 0 < one(found, "dwell", "bullets, carry-over").high
    names = [(effect.family, effect.name) for effect in found.effects]
    assert len(set(names)) == len(names)


def test_an_effect_by_hand() -> None:
    """The rating's, without an array: differences of strata, weighted by n1 n0 / n."""
    readings, table = study(np.random.default_rng(2), sizes=(9, 12, 15))
    rows = readings.questions.rows(named=True)
    first = next(k for k, row in enumerate(rows) if row["bullet_points"])
    strata: dict[tuple[str, str], dict[bool, list[float]]] = defaultdict(lambda: {True: [], False: []})
    for row in rows[first + 1 :]:
        given = [row[f"rating_{side}"] for side in ("left", "right") if row[f"rating_{side}"] is not None]
        strata[row["worker_id"], row["mode"]][row["bullet_points"]].append(sum(given) / len(given))
    total = weights = 0.0
    for sides in strata.values():
        heads, tails = sides[True], sides[False]
        if heads and tails:
            weight = len(heads) * len(tails) / (len(heads) + len(tails))
            total += weight * (sum(heads) / len(heads) - sum(tails) / len(tails))
            weights += weight
    assert one(bullets(readings, table), "rating").mean == pytest.approx(total / weights)


def test_p_is_the_share_of_all_deals() -> None:
    """Against the full list of deals of a small coin."""
    coin = np.array([1, 0, 0, 1, 1, 0, 0])
    strata = np.array([1, 0, 1, 0, 1, 1, 0])
    y = np.array([2.0, 0.5, -1.0, 1.5, 3.0, 0.1, 1.4])

    def statistic(deal: np.ndarray) -> float:
        up = down = 0.0
        for k in range(7):
            same = strata == strata[k]
            product = (deal[k] - coin[same].mean()) * (y[k] - y[same].mean())
            up, down = up + product, down + product**2
        return float(abs(up) / np.sqrt(down))

    deals = [np.array(bits) for bits in itertools.product((0, 1), repeat=7)]
    deals = [deal for deal in deals if all(deal[strata == s].sum() == coin[strata == s].sum() for s in (0, 1))]
    assert len(deals) == 3 * 6
    exact = np.mean([statistic(deal) >= statistic(coin) - 1e-12 for deal in deals])
    assert randomization_test(coin, y[:, None], strata)[0] == pytest.approx(exact, abs=0.015)


def test_a_deal_keeps_the_heads_of_each_stratum() -> None:
    coin, strata = np.array([1, 0, 0, 1, 1, 1]), np.array([0, 0, 0, 1, 1, 1])
    drawn = np.concatenate(list(dealt(coin, strata, 3_000)))
    assert drawn.shape == (3_000, 6)
    assert (drawn[:, :3].sum(axis=1) == 1).all()
    assert (drawn[:, 3:] == 1).all()
    assert drawn[:, :3].mean(axis=0) == pytest.approx([1 / 3] * 3, abs=0.03)


def test_without_an_effect_p_is_uniform_and_the_interval_covers() -> None:
    """Strata and values stay; the coin is tossed again. Half of the values are undefined, and tails are heavy."""
    rng = np.random.default_rng(3)
    workers = np.repeat(np.arange(len(SIZES)), SIZES)
    strata = 2 * workers + rng.integers(0, 2, len(workers))
    y = np.exp(rng.normal(size=(len(workers), 2))) + workers[:, None]
    y[rng.random(len(y)) < 0.5, 1] = np.nan
    p, covered = [], []
    for _ in range(150):
        coin = rng.integers(0, 2, len(workers)).astype(float)
        p.append(randomization_test(coin, y, strata, draws=99))
        found = slope_within(coin, y[:, 0], strata, workers)
        assert found is not None
        ends = found.slope.interval()
        covered.append(ends["low"] <= 0 <= ends["high"])
    for column in np.array(p).T:
        assert stats.kstest(column, "uniform").pvalue > 0.01
    assert np.mean(covered) >= 0.9


def test_the_coin_counts_from_the_first_heads() -> None:
    """Until the site tossed its coin, all were tails: these questions are no part of the experiment."""
    rng = np.random.default_rng(4)
    coin = rng.random(sum(FEW)) < 0.5
    coin[:40], coin[40] = False, True
    found = bullets(*study(rng, sizes=FEW, coin=coin)).coin
    assert found is not None
    assert found.before == 41
    assert found.total.n == len(coin) - 41
    assert found.total.heads == coin.sum() - 1
    for parts in (found.over_time, found.turns, found.workers):
        assert sum(part.n for part in parts) == found.total.n
        assert sum(part.heads for part in parts) == found.total.heads


FEW = (45, 30, 24, 18, 12, 12, 9)


def checks(coin: np.ndarray, seed: int) -> dict[str, float]:
    found = bullets(*study(np.random.default_rng(seed), sizes=FEW, coin=coin))
    return {effect.name.split(" ")[0]: effect.p for effect in found.effects if effect.family == "coin"}


def test_an_unfair_coin_is_noticed() -> None:
    n = sum(FEW)
    fair = checks(np.random.default_rng(5).random(n) < 0.5, 5)
    assert set(fair) == {"share", "agreement", "what", "workers"}
    assert min(fair.values()) > 0.01
    assert checks(np.random.default_rng(6).random(n) < 0.8, 6)["share"] < 0.001
    assert checks(np.arange(n) % 2 == 0, 7)["agreement"] < 0.001
    late = np.random.default_rng(8).random(n) < np.linspace(0.1, 0.9, n)
    assert checks(late, 8)["what"] < 0.001


def test_the_same_twice_and_json() -> None:
    first, second = (asdict(bullets(*study(np.random.default_rng(9), sizes=(12, 9, 6)))) for _ in range(2))
    assert json.dumps(first) == json.dumps(second)


@pytest.mark.parametrize("sizes", [(9,), (3, 3), (1, 1, 1)])
def test_of_few_readings_nothing_or_little_is_said(sizes: tuple[int, ...]) -> None:
    found = bullets(*study(np.random.default_rng(10), sizes=sizes))
    assert all(np.isfinite(effect.mean) for effect in found.effects)


def test_without_bullet_points_there_is_no_experiment() -> None:
    nothing = np.zeros(27, dtype=bool)
    assert bullets(*study(np.random.default_rng(11), sizes=(9, 9, 9), coin=nothing)) == Bullets(None, [])
    readings, table = study(np.random.default_rng(11), sizes=(9, 9, 9))
    assert bullets(readings, table.clear()).coin is not None
    pointwise = readings.questions.with_columns(schema_version=pl.lit("c1"), rating_left=pl.lit(None, pl.Int8))
    assert bullets(type(readings)(pointwise, readings.answers, readings.ticks, readings.joint), table).coin is not None
