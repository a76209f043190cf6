"""Flip probabilities by decision time: the formulas against simulated decisions, and who learns from whom."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import integrate, stats

from ifllm_hub.align.stages.dpo import describe_dpo, load_pairs, parse_dpo
from ifllm_hub.errors import IfllmError
from ifllm_hub.files import shipped_folder
from ifllm_hub.preferences.decision_time import (
    LEAST_TIMES,
    LONGEST_MS,
    DriftDiffusion,
    fit_drift_diffusion,
    flips_by_decision_time,
)
from ifllm_hub.preferences.load import load_preferences
from tests.align.made import said, write_config

READERS = DriftDiffusion(bound=2.0, spread=0.8, non_decision=0.5)
STEP = 2e-3
TINY = shipped_folder("training") / "recipes" / "tiny" / "dpo.yaml"


def decided(model: DriftDiffusion, number: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Seconds of some decisions, and whether each was wrong, by walking in small steps. (A walk overshoots its bound,
    by 0.5826 square roots of a step on average: Siegmund 1985.)"""
    rng = np.random.default_rng(seed)
    drift, place = rng.normal(0, model.spread, number), np.zeros(number)
    seconds, wrong = np.full(number, np.nan), np.zeros(number, bool)
    walking, now = np.arange(number), 0.0
    while len(walking):
        now += STEP
        place[walking] += drift[walking] * STEP + np.sqrt(STEP) * rng.standard_normal(len(walking))
        is_over = np.abs(place[walking]) >= model.bound - 0.5826 * np.sqrt(STEP)
        done = walking[is_over]
        seconds[done], wrong[done] = now + model.non_decision, np.sign(place[done]) != np.sign(drift[done])
        walking = walking[~is_over]
    return seconds, wrong


@pytest.fixture(scope="module")
def decisions() -> tuple[np.ndarray, np.ndarray]:
    return decided(READERS, 6_000)


def test_who_takes_longer_is_wrong_more_often_as_the_formula_says(decisions: tuple[np.ndarray, np.ndarray]) -> None:
    seconds, wrong = decisions
    flips = READERS.flip_probability(seconds)
    parts = np.array_split(np.argsort(seconds), 5)
    for part in parts:
        error = np.sqrt((flips[part] * (1 - flips[part])).sum()) / len(part)
        assert abs(wrong[part].mean() - flips[part].mean()) < 4 * error
    assert wrong[parts[-1]].mean() > 2 * wrong[parts[0]].mean()


@pytest.mark.parametrize("model", [READERS, DriftDiffusion(5, 0.1, 2), DriftDiffusion(0.5, 0, 0.1)])
def test_the_density_is_one(model: DriftDiffusion) -> None:
    place = model.non_decision + np.geomspace(1e-4, 4_000, 200_000)
    assert integrate.trapezoid(np.exp(model.log_density(place)), place) == pytest.approx(1, abs=1e-3)
    assert (model.log_density(np.array([0.0, model.non_decision])) == -np.inf).all()


def test_the_density_is_that_of_simulated_times(decisions: tuple[np.ndarray, np.ndarray]) -> None:
    place = READERS.non_decision + np.geomspace(1e-4, 4_000, 100_000)
    below = integrate.cumulative_trapezoid(np.exp(READERS.log_density(place)), place, initial=0)
    assert stats.kstest(decisions[0], lambda seconds: np.interp(seconds, place, below)).pvalue > 1e-3


def test_the_model_is_recovered_from_times_alone(decisions: tuple[np.ndarray, np.ndarray]) -> None:
    seconds = decisions[0]
    fitted = fit_drift_diffusion(seconds)
    assert fitted.bound == pytest.approx(READERS.bound, rel=0.1)
    assert fitted.spread == pytest.approx(READERS.spread, rel=0.2)
    assert fitted.non_decision == pytest.approx(READERS.non_decision, abs=0.1)
    assert np.abs(fitted.flip_probability(seconds) - READERS.flip_probability(seconds)).max() < 0.03


def test_few_times_leave_what_was_known_before() -> None:
    """Without a prior, some samples of this size make every choice random."""
    model = DriftDiffusion(5, 0.5, 2)
    seconds, _ = decided(model, 300, seed=1)
    true, found = (one.flip_probability(seconds) for one in (model, fit_drift_diffusion(seconds)))
    assert abs(found.mean() - true.mean()) < 0.12
    assert stats.spearmanr(found, true).statistic == pytest.approx(1)


WORKERS, QUESTIONS = 10, 12


def made(folder: Path, seconds: np.ndarray) -> Path:
    """A dataset with (`WORKERS`, `QUESTIONS`) decision times, NaN for none; the last two workers are the test split."""
    rows: dict[str, list[list[dict[str, Any]]]] = {name: [[], []] for name in ("pairwise", "signals", "labels")}
    for worker, number in np.ndindex(WORKERS, QUESTIONS):
        ids = {"question_id": 100 * worker + number + 1, "worker_id": f"w{worker}"}
        time = seconds[worker, number]
        labels = {"label_source": "explicit", "prompt": said("user", "?"), "history": "none", "flip_prob": 0.0}
        labels |= {"chosen": said("assistant", f"a{number}"), "rejected": said("assistant", f"b{number}")}
        is_test = worker >= WORKERS - 2
        rows["pairwise"][is_test].append(ids | {"fold_worker": worker // 2})
        decision = None if np.isnan(time) else round(1_000 * time)
        rows["signals"][is_test].append(ids | {"mode": "pairwise", "decision_ms": decision})
        rows["labels"][is_test].append(ids | labels)
    for name, config in (("pairwise", "pairwise"), ("signals", "signals"), ("labels", "preferences_explicit")):
        write_config(folder, config, *rows[name])
    return folder


def flips(folder: Path) -> np.ndarray:
    """Of train and test, by worker and question."""
    pairs = load_preferences(folder, "explicit", by_decision_time=True)
    assert [len(pairs[split]) for split in ("train", "test")] == [(WORKERS - 2) * QUESTIONS, 2 * QUESTIONS]
    return np.reshape([*pairs["train"]["flip_prob"], *pairs["test"]["flip_prob"]], (WORKERS, QUESTIONS))


@pytest.fixture
def seconds() -> np.ndarray:
    return decided(READERS, WORKERS * QUESTIONS, seed=2)[0].reshape(WORKERS, QUESTIONS)


def test_a_model_knows_no_time_of_the_fold_and_none_of_the_test_split(tmp_path: Path, seconds: np.ndarray) -> None:
    before = flips(made(tmp_path / "before", seconds))
    assert before.min() > 0
    assert before.max() <= 0.45
    changed = seconds.copy()
    changed[0, 1:] *= 3  # of fold 0
    changed[1] *= 3
    changed[-2:] *= 3  # of the test split, which is fold 4
    after = flips(made(tmp_path / "after", changed))
    assert after[0, 0] == before[0, 0]
    assert (after[0, 1:] >= before[0, 1:]).all()
    elsewhere = slice(2, WORKERS - 2)
    assert (after[elsewhere] != before[elsewhere]).all()  # which learned from fold 0
    unseen = seconds.copy()
    unseen[-2:] *= 3
    assert (flips(made(tmp_path / "unseen", unseen))[:-2] == before[:-2]).all()


def test_labels_without_a_time_count_as_sure(tmp_path: Path, seconds: np.ndarray) -> None:
    seconds[0, :3] = np.nan, 0, LONGEST_MS / 1_000 + 1
    got = flips(made(tmp_path, seconds))
    assert (got[0, :3] == 0).all()
    assert (got[0, 3:] > 0).all()
    assert got[1:].min() > 0


def test_a_training_run_says_how_many_labels_have_none(tmp_path: Path, seconds: np.ndarray) -> None:
    seconds[0, :3] = np.nan
    flags = {"dataset": made(tmp_path / "data", seconds), "label_source": "explicit", "flip_prob_rule": "decision_time"}
    words = [str(word) for name, value in flags.items() for word in (f"--{name}", value)]
    args, config, _ = parse_dpo(["--config", str(TINY), "--output_dir", str(tmp_path), *words])
    described = describe_dpo(args, config, load_pairs(args, config, None), None)
    assert described["flip_prob_origin"] == "by decision time; 3 of 96 labels have none and count as sure"
    assert described["flip_prob_mean"] > 0.05
    assert described["quirks"] == {}


def test_what_has_no_times_is_refused(tmp_path: Path, seconds: np.ndarray) -> None:
    folder = made(tmp_path, np.where(np.arange(QUESTIONS) < 7, seconds, np.nan))
    assert LEAST_TIMES > 6 * 7  # of the other folds
    with pytest.raises(IfllmError, match=f"decision times of 42 choices, .* decision_time needs {LEAST_TIMES}"):
        flips(folder)
    labels = pl.DataFrame({"question_id": [1]})
    with pytest.raises(IfllmError, match=r"labels of the readers themselves \(explicit, thumbs\), not .* 'forest'"):
        flips_by_decision_time(labels, "forest", folder)
    for file in (folder / "data/signals").iterdir():
        file.unlink()
    with pytest.raises(IfllmError, match="has no decision times: only a collector's export has the config `signals`"):
        flips(folder)
