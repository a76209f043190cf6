"""Reading against length and layout: known slopes are found, and numbers agree with plain computations."""

import json
import statistics
from collections import defaultdict
from dataclasses import asdict

import numpy as np
import polars as pl
import pytest

from ifllm_hub.patterns.effects import Effect
from ifllm_hub.patterns.variation.layout import Layouts, layouts
from ifllm_hub.patterns.variation.length import Length, lengths, natural_spline
from tests.patterns.tables import SIZES, study


def table_of(seed: int, length: float = 0.0) -> pl.DataFrame:
    return study(np.random.default_rng(seed), length=length)[1]


def one(table: pl.DataFrame, measure: str) -> Length:
    (found,) = (each for each in lengths(table).measures if each.measure == measure)
    return found


def test_a_known_slope_is_found() -> None:
    depth = one(table_of(1, length=0.1), "depth")
    assert depth.own is not None
    assert depth.rival is not None
    assert depth.curve is not None
    assert depth.own.low < 0.1 < depth.own.high
    assert depth.own.p < 0.001
    assert depth.own.high - depth.own.low < 0.06
    assert depth.rival.low < 0 < depth.rival.high
    assert depth.rival.p > 0.01
    # The curve is the line, at the mean of the readings.
    x, mean = np.log2(depth.curve.x), np.array(depth.curve.mean)
    assert mean - mean.mean() == pytest.approx(0.1 * (x - x.mean()), abs=0.04)
    assert (np.array(depth.curve.low) < mean).all()
    assert (mean < np.array(depth.curve.high)).all()


def test_without_an_effect_there_is_none() -> None:
    found = lengths(table_of(2))
    assert all(effect.p > 0.005 for effect in found.effects if effect.measure in ("depth", "dwell"))


def test_workers_with_longer_answers_are_not_the_effect_of_length() -> None:
    """Within, depth falls by 0.1 a doubling; those who get longer answers read deeper all the same."""
    rng = np.random.default_rng(3)
    rows: list[tuple[object, ...]] = []
    for worker in range(20):
        for _ in range(30):
            x = 7 + worker / 10 + rng.normal()
            deep = 0.3 * worker / 10 - 0.1 * (x - 7 - worker / 10) + 0.05 * rng.normal()
            rows.append((len(rows), f"w{worker}", "pointwise", "left", int(2**x), None, "mouse", "depth", deep))
    names = ["question_id", "worker_id", "mode", "side", "length", "rival_length", "modality", "measure", "value"]
    kinds = {"rival_length": pl.Int64}
    depth = one(pl.DataFrame(rows, schema=names, schema_overrides=kinds, orient="row"), "depth")
    assert depth.own is not None
    assert depth.between is not None
    assert depth.rival is None
    assert depth.own.low < -0.1 < depth.own.high < 0
    assert depth.between["low"] < 0.3 < depth.between["high"]
    assert depth.between["low"] > 0.1


def test_slopes_by_hand() -> None:
    """Within worker and mode, and the rival's by the residuals of both on the own length (Frisch & Waugh 1933)."""
    table = table_of(4, length=0.05)
    depth = one(table, "depth")
    assert depth.own is not None
    assert depth.rival is not None
    groups: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for row in table.filter(measure="depth").iter_rows(named=True):
        groups[row["worker_id"], row["mode"]].append((float(np.log2(row["length"])), row["value"]))
    up = down = 0.0
    for pairs in groups.values():
        mean = statistics.fmean(x for x, _ in pairs)
        up += sum((x - mean) * y for x, y in pairs)
        down += sum((x - mean) ** 2 for x, _ in pairs)
    assert depth.own.mean == pytest.approx(up / down)

    rows = table.filter((pl.col("measure") == "depth") & (pl.col("mode") == "pairwise"))
    dummies = (rows["worker_id"].to_numpy()[:, None] == rows["worker_id"].unique().to_numpy()).astype(float)
    given = np.column_stack([dummies, np.log2(rows["length"].to_numpy())])
    rival, y = np.log2(rows["rival_length"].to_numpy()), rows["value"].to_numpy()
    rest = [one - given @ np.linalg.lstsq(given, one, rcond=None)[0] for one in (rival, y)]
    assert depth.rival.mean == pytest.approx(rest[0] @ rest[1] / (rest[0] @ rest[0]))


def test_time_on_the_left_against_its_length() -> None:
    (share,) = lengths(table_of(5)).time_shares
    assert share.slope.low < 0.5 < share.slope.high
    assert share.slope.p < 0.001
    assert share.beyond.mean == pytest.approx(share.slope.mean - 1)
    assert share.beyond.p < 0.001
    assert share.curve is not None
    assert np.array(share.curve.mean) == pytest.approx(0.25 + 0.5 * np.array(share.curve.x), abs=0.06)


def test_the_spline_is_a_natural_one() -> None:
    knots = np.array([1.0, 2.0, 4.0, 7.0])
    x = np.linspace(-3, 12, 1501)
    basis = natural_spline(x, knots)
    assert basis.shape == (1501, 3)
    bend = np.diff(basis, 2, axis=0) / 0.01**2
    outside = (x[1:-1] < 0.98) | (x[1:-1] > 7.02)
    assert bend[outside] == pytest.approx(0, abs=1e-6)
    assert np.abs(np.diff(bend, axis=0)).max() < 0.02  # no jumps of the second derivative
    assert np.linalg.matrix_rank(np.column_stack([np.ones(1501), basis])) == 4


def find(effects: list[Effect], measure: str, what: str = "") -> Effect:
    (effect,) = (effect for effect in effects if effect.measure == measure and effect.name.startswith(what))
    return effect


def test_layouts_find_what_was_put_in() -> None:
    table = table_of(6)
    left_first = table.filter(measure="left_first").select("question_id", first="value")
    left, pair = pl.col("side") == "left", pl.col("mode") == "pairwise"
    added = (
        pl.when(pl.col("measure") == "depth")
        .then(0.2 * pair + 0.1 * (pair & left) + 0.3 * (pair & (left == (pl.col("first") == 1))))
        .otherwise(0.0)
    )
    rows = table.join(left_first, on="question_id", how="left", maintain_order="left")
    found: Layouts = layouts(rows.with_columns(pl.col("value") + added))
    modes, sides, order = (find(one, "depth") for one in (found.modes, found.sides, found.order))
    # Of two answers, half are on the left, and half are read first.
    assert modes.low < 0.2 + 0.05 + 0.15 < modes.high
    assert modes.high - modes.low < 0.2
    assert sides.low < 0.1 < sides.high
    assert order.low < 0.3 < order.high
    assert found.workers_of_both == modes.workers == len(SIZES)
    names = [effect.name for effect in found.effects]
    assert len(set(names)) == len(names)


def test_pages_are_compared_by_workers_who_count_once() -> None:
    table = table_of(7)
    v3 = find(layouts(table).formats, "depth", "page v3")
    cells: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in table.filter(measure="depth").iter_rows(named=True):
        cells[row["mode"], row["schema_version"]][row["worker_id"]].append(row["value"])
    means = {key: [statistics.fmean(values) for values in of.values()] for key, of in cells.items()}
    total = weights = 0.0
    for mode in ("pairwise", "pointwise"):
        here, there = means[mode, "v3"], means[mode, "v2"]
        weight = len(here) * len(there) / (len(here) + len(there))
        total += weight * (statistics.fmean(here) - statistics.fmean(there))
        weights += weight
    assert v3.mean == pytest.approx(total / weights)


def test_json_and_the_same_twice() -> None:
    first, second = (
        json.dumps([asdict(lengths(table)), asdict(layouts(table))]) for table in (table_of(8), table_of(8))
    )
    assert first == second


@pytest.mark.parametrize("sizes", [(12,), (3, 3), (1, 1, 1), (6, 1, 2, 9)])
def test_of_few_readings_nothing_or_little_is_said(sizes: tuple[int, ...]) -> None:
    table = study(np.random.default_rng(9), sizes=sizes)[1]
    for rows in (table, table.clear(), table.with_columns(schema_version=pl.lit("c1"), bullet_points=False)):
        found, layout = lengths(rows), layouts(rows)
        assert all(np.isfinite(effect.mean) for effect in found.effects + layout.effects)
    same = table.with_columns(length=pl.lit(500, pl.Int64))
    assert all(one.own is None and one.curve is None for one in lengths(same).measures)
