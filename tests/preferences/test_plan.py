"""A plan keeps its promise: studies of the planned size have the power, by the test that will be made of them."""

import math
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import stats

from ifllm_hub import cli
from ifllm_hub.dataset.load import load_config
from ifllm_hub.dataset.writers import replace_configs
from ifllm_hub.errors import IfllmError
from ifllm_hub.preferences.labels import write_preferences
from ifllm_hub.preferences.plan import STUDY, Pilot, pilot_of, plan_study, readings_for
from ifllm_hub.preferences.value import worth_by_source
from ifllm_hub.statistics import jackknife_mean

EQUAL = Pilot("equal", sizes=(10,), within=0.2, between=0.0, between_at_most=0.0)


def share_detected(pilot: Pilot, gain: float, between: float, readers: int, studies: int) -> float:
    """Of simulated studies: pairs gain 1, 0 or -1, readers differ and rate as many pairs as readers of the pilot."""
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(studies):
        whose = np.repeat(np.arange(readers), rng.choice(pilot.sizes, readers))
        mean = (gain + math.sqrt(between) * rng.choice([-1, 1], readers))[whose]
        moved = (
            pilot.within + gain**2 + between
        )  # how many pairs gain or lose: their variance for one reader is `within`
        assert np.abs(mean).max() < moved
        u = rng.random(len(whose))
        values = np.where(u < (moved + mean) / 2, 1.0, np.where(u < moved, -1.0, 0.0))
        found += jackknife_mean(values, whose).p < 0.05
    return found / studies


def assert_as_promised(gain: float, sd: float, power: float, studies: int) -> None:
    plan = plan_study(STUDY, gain, power, sd**2)
    found = share_detected(STUDY, gain, sd**2, plan.readers, studies)
    # Three standard errors of the simulation, and .02 for what a noncentral t leaves out.
    assert found == pytest.approx(plan.power, abs=0.02 + 3 * math.sqrt(power * (1 - power) / studies))


def test_a_study_of_the_planned_size_has_the_power() -> None:
    assert_as_promised(gain=0.06, sd=0.1, power=0.8, studies=300)


@pytest.mark.slow
@pytest.mark.parametrize("sd", [0.0, 0.02, 0.05, 0.1])
@pytest.mark.parametrize(("gain", "power"), [(0.03, 0.8), (0.05, 0.9), (0.08, 0.5)])
def test_studies_of_the_planned_size_have_the_power(gain: float, power: float, sd: float) -> None:
    assert_as_promised(gain, sd, power, studies=1_000)


def test_without_a_gain_one_study_in_twenty_finds_one() -> None:
    assert share_detected(STUDY, 0.0, 0.0025, 60, 600) == pytest.approx(0.05, abs=0.025)


def test_equal_readers_who_do_not_differ_are_a_t_test_of_their_means() -> None:
    plan = plan_study(EQUAL, 0.05, 0.8, 0.0)

    def power(readers: int) -> float:
        bound, shift = stats.t.isf(0.025, readers - 1), 0.05 / math.sqrt(0.2 / (10 * readers))
        return float(stats.nct.sf(bound, readers - 1, shift) + stats.nct.cdf(-bound, readers - 1, shift))

    assert power(plan.readers - 1) < 0.8 <= power(plan.readers)
    assert plan.power == pytest.approx(power(plan.readers))
    assert (plan.pairs, plan.df) == (10 * plan.readers, pytest.approx(plan.readers - 1))


def test_more_is_needed_for_less_gain_more_power_unlike_and_unequal_readers() -> None:
    def readers(pilot: Pilot = EQUAL, gain: float = 0.05, power: float = 0.8, between: float = 0.0) -> int:
        return plan_study(pilot, gain, power, between).readers

    unequal = replace(EQUAL, sizes=(1, 1, 1, 37))
    more = [
        readers(gain=0.04),
        readers(power=0.9),
        readers(between=0.01),
        readers(unequal),
        readers(unequal, between=0.01),
    ]
    assert readers() < min(more)
    assert more[4] > 1.5 * more[2]
    with pytest.raises(IfllmError, match=r"more than 20,000 readers like those of equal\. Plan for a larger one"):
        readers(gain=0.0005)


def test_assumptions_replace_the_pilots() -> None:
    assumed = STUDY.assuming(pairs_per_reader=29, between_sd=0.1)
    assert np.mean(assumed.sizes) == pytest.approx(29, rel=0.02)
    assert max(assumed.sizes) / np.mean(assumed.sizes) == pytest.approx(
        max(STUDY.sizes) / np.mean(STUDY.sizes), rel=0.02
    )
    assert assumed.between == assumed.between_at_most == pytest.approx(0.01)
    assert STUDY.assuming() == STUDY


def test_readings_for_labels() -> None:
    assert readings_for(100, {"mean": 0.1, "low": 0.05, "high": 0.2}) == pytest.approx((1_000, 2_000))
    assert readings_for(100, {"mean": 0.1, "low": -0.05, "high": 0.2}) == (pytest.approx(1_000), math.inf)
    assert readings_for(100, None) == (math.inf, math.inf)


def test_the_pilot_that_a_dataset_is(labeled_study: Path) -> None:
    pilot = pilot_of(labeled_study)
    own, ours, longer = (
        {row["question_id"]: row["chosen"] for row in load_config(labeled_study, f"preferences_{name}").to_dicts()}
        for name in ("explicit", "forest", "longer")
    )
    readers = dict(load_config(labeled_study, "preferences_explicit").select("question_id", "worker_id").iter_rows())
    gains: dict[str, list[float]] = {}
    for question, answer in own.items():
        hits = [float(labels[question] == answer) if question in labels else 0.5 for labels in (ours, longer)]
        gains.setdefault(readers[question], []).append(hits[0] - hits[1])
    assert sorted(pilot.sizes) == sorted(map(len, gains.values()))
    within = sum(np.var(values) * len(values) for values in gains.values()) / (len(own) - len(gains))
    assert pilot.within == pytest.approx(within)
    assert 0 <= pilot.between <= pilot.between_at_most
    assert pilot.reading is not None
    measured = worth_by_source(labeled_study)["forest"].measured
    assert measured is not None
    pairs = len(own | ours | longer)
    assert pilot.reading["mean"] == pytest.approx(measured["mean"] / pairs)
    assert pilot.reading["low"] > measured["low"] / pairs


def test_the_upper_limit_of_how_much_readers_differ_is_one_of_80_percent() -> None:
    from ifllm_hub.preferences.plan import _at_most

    rng = np.random.default_rng(0)
    whose = np.repeat(np.arange(len(STUDY.sizes)), STUDY.sizes)
    covered = []
    for _ in range(300):
        readers = 0.05 * rng.standard_normal(len(STUDY.sizes))
        values = readers[whose] + math.sqrt(STUDY.within) * rng.standard_normal(len(whose))
        covered.append(_at_most(values, whose) >= 0.0025)
    assert np.mean(covered) == pytest.approx(0.8, abs=0.07)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda folder: replace_configs(folder, {}, ["preferences_longer"]), "has no labels of longer. Write them"),
        (lambda folder: one_reader(folder), "has rated pairs of 1 reader"),
        (lambda folder: named_anew(folder), "labels of other are as often right as longer on every pair"),
    ],
)
def test_a_dataset_that_is_no_pilot(
    spoil: Callable[[Path], object], says: str, labeled_dataset: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(labeled_dataset, tmp_path / "dataset"))
    spoil(folder)
    with pytest.raises(IfllmError, match=says):
        pilot_of(folder, "other" if "other" in says else "forest")


def one_reader(folder: Path) -> None:
    rows = load_config(folder, "preferences_explicit")
    replace_configs(folder, {"preferences_explicit": rows.filter(pl.col("worker_id") == rows["worker_id"][0])})


def named_anew(folder: Path) -> None:
    rows = load_config(folder, "preferences_longer").with_columns(label_source=pl.lit("other"))
    replace_configs(folder, {"preferences_other": rows})


def test_the_command_prints_a_table_and_a_sentence(
    labeled_study: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def printed(*words: object) -> str:
        monkeypatch.setattr(sys, "argv", ["ifllm", "plan", *map(str, words)])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        output = capsys.readouterr()
        assert exit_.value.code == (2 if output.err else 0)
        return output.out + output.err

    few, many = (plan_study(STUDY, 0.04, 0.7, between) for between in (STUDY.between, STUDY.between_at_most))
    out = printed("--gain", 0.04, "--power", 0.7, "--explicit-labels", 117)
    assert out.splitlines()[-1] == (
        f"To detect a gain of +0.04 with a power of 70%: {few.readers} readers who rate {few.pairs:,.0f} pairs; "
        f"with care, {many.readers} who rate {many.pairs:,.0f}."
    )
    assert ["readings worth 117 explicit labels", "1,000", "1,272"] in [
        [cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines()
    ]
    assert "with care," not in printed("--between-sd", 0.03).splitlines()[-1]
    assert str(labeled_study) in printed(labeled_study, "--label-source", "forest_mouse", "--gain", 0.2).replace(
        "\n", ""
    )
    assert printed("--label-source", "longer") == (
        "error: The numbers of the study are those of forest. Name a dataset with labels of longer.\n"
    )


@pytest.mark.real
@pytest.mark.slow
def test_the_numbers_of_the_study(real_dataset: tuple[Path, float], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(real_dataset[0], tmp_path / "dataset"))
    write_preferences(folder)
    pilot = pilot_of(folder)
    assert pilot.sizes == STUDY.sizes
    for name in ("within", "between", "between_at_most"):
        assert getattr(pilot, name) == pytest.approx(getattr(STUDY, name), abs=1e-3), name
    for name in ("reading", "beyond"):
        assert getattr(pilot, name) == pytest.approx(getattr(STUDY, name), abs=2e-3), name
