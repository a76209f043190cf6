"""Groups of paths: found where they are, not found in a cloud, and described as they are."""

import numpy as np
import polars as pl
import pytest

from ifllm_hub.patterns.variation.groups import STEPS, Groups, grouped, trait
from ifllm_hub.patterns.variation.stability import (
    ALPHA,
    CLEAR,
    COUNTS,
    balanced,
    continua,
    covariances,
    k_means,
    rand_indices,
    stabilities,
)

_TIME = (np.arange(STEPS) + 0.5) / STEPS
# Linear; skimmer; re-reader; scanner.
_KINDS = np.array(
    [
        _TIME,
        np.clip(4 * _TIME, 0, 0.95),
        np.where(_TIME < 0.5, 2 * _TIME, 2 - 2 * _TIME),
        0.5 + 0.45 * np.sin(6 * np.pi * _TIME),
    ]
)


def _workers(n: int) -> np.ndarray:
    return np.repeat(np.arange(20), n // 20)


def _grouped(places: np.ndarray, workers: np.ndarray) -> Groups | None:
    names = [f"w{worker:02}" for worker in workers]
    rows = pl.DataFrame({"question_id": np.arange(len(places)), "side": "left", "worker_id": names})
    return grouped(rows, places, "mouse")


def _unequal(n: int, rng: np.random.Generator) -> np.ndarray:
    """Whose readings they are: 40 workers, two readings each and the rest by habits that differ a lot."""
    busy = np.exp(rng.standard_normal(40))
    return np.sort(np.concatenate([np.repeat(np.arange(40), 2), rng.choice(40, n - 80, p=busy / busy.sum())]))


def _alike(workers: np.ndarray, components: int, rng: np.random.Generator) -> np.ndarray:
    """Standard normal, a quarter of the variance between workers."""
    habits = rng.standard_normal((workers.max() + 1, components))
    return 0.5 * habits[workers] + np.sqrt(0.75) * rng.standard_normal((len(workers), components))


def _continuum(kind: str, workers: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Scores on principal components, without groups."""
    from scipy.special import ndtr

    values = _alike(workers, 4, rng)
    if kind == "uniform":
        values = ndtr(values)
    elif kind == "line":
        values[:, 1:] *= 0.2
        values[:, 0] = 4 * ndtr(values[:, 0])
    elif kind == "heavy":
        values /= np.sqrt(rng.chisquare(3, (len(values), 1)) / 3)
    return (values - values.mean(axis=0)) * [4, 3, 2, 1]


def _of_kinds(kinds: int, seed: int, n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    kind = rng.integers(kinds, size=n)
    noise = np.cumsum(rng.normal(0, 0.03, (n, STEPS)), axis=1) + rng.normal(0, 0.05, (n, STEPS))
    return np.clip(_KINDS[kind] + noise, 0, 1), kind


def _cloud(seed: int, n: int = 300) -> np.ndarray:
    return 0.5 + np.cumsum(np.random.default_rng(seed).normal(0, 0.1, (n, STEPS)), axis=1)


@pytest.mark.parametrize("kinds", [4])
def test_finds_kinds_of_readers(kinds: int) -> None:
    places, kind = _of_kinds(kinds, 0)
    found = _grouped(places, _workers(len(places)))
    assert found is not None
    assert found.clear == kinds
    assert found.p <= ALPHA
    # Noise brings a path of 300 nearer to another kind than to its own.
    assert sorted(part.n for part in found.parts) == pytest.approx(sorted(np.bincount(kind)), abs=3)
    for part in found.parts:
        distances = np.abs(_KINDS[:kinds] - part.median).max(axis=1)
        (question, _), *_ = part.medoids
        assert kind[question] == distances.argmin()
        assert distances.min() < 0.15


def test_a_cloud_has_no_clear_groups_and_is_cut_into_quarters() -> None:
    found = _grouped(_cloud(0), _workers(300))
    assert found is not None
    assert found.clear is None
    assert [one.k for one in found.stability] == list(COUNTS)
    assert [part.n for part in found.parts] == [75] * 4
    assert found.parts[0].median[-1] < found.parts[-1].median[-1]
    assert _grouped(_cloud(0, 60), _workers(60)) == _grouped(_cloud(0, 60), _workers(60))


def test_groups_of_points_are_those_of_sklearn() -> None:
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_rand_score

    rng = np.random.default_rng(0)
    kind = rng.integers(4, size=200)
    scores = 5 * rng.standard_normal((4, 3))[kind] + rng.standard_normal((200, 3))
    times = rng.integers(3, size=(5, 200))
    for codes, weights in zip(k_means(scores, times, 4, rng), times, strict=True):
        theirs = KMeans(4, n_init=10, random_state=0).fit(scores, sample_weight=weights)
        assert adjusted_rand_score(codes, theirs.predict(scores)) > 0.97
    others = rng.integers(5, size=(6, 200))
    expected = [adjusted_rand_score(kind, other) for other in others]
    np.testing.assert_allclose(rand_indices(kind, others), expected, atol=1e-12)
    assert rand_indices(kind, (3 - kind)[None]) == [1]


def test_continua_keep_how_alike_readings_of_a_worker_are() -> None:
    rng = np.random.default_rng(0)
    workers = np.repeat(np.arange(400), 5)
    mixed = np.array([[2.0, 0.0], [1.0, 1.0]])
    scores = _alike(workers, 2, rng) @ mixed
    between, within = covariances(scores, workers)
    np.testing.assert_allclose(between, mixed.T @ mixed / 4, atol=0.3)
    np.testing.assert_allclose(within, mixed.T @ mixed * 3 / 4, atol=0.3)
    normal, uniform = (draw() for draw in continua(scores, workers, rng))
    for one, other in zip(covariances(normal, workers), (between, within), strict=True):
        np.testing.assert_allclose(one, other, atol=0.3)
    assert (uniform >= scores.min(axis=0)).all()
    assert (uniform <= scores.max(axis=0)).all()
    np.testing.assert_allclose(
        np.quantile(uniform[:, 0], [0.25, 0.5]),
        np.quantile([scores.min(axis=0)[0], scores.max(axis=0)[0]], [0.25, 0.5]),
        atol=0.3,
    )
    own, inner = (np.diag(one) for one in covariances(uniform, workers))
    np.testing.assert_allclose(own / (own + inner), 0.25, atol=0.08)


def test_a_sample_has_as_many_readings_of_each_worker_as_it_can() -> None:
    workers = np.repeat([3, 5, 9], [2, 50, 10])
    rows = balanced(workers, 20, np.random.default_rng(0))
    assert list(rows) == sorted(set(rows))
    assert [int((workers[rows] == worker).sum()) for worker in (3, 5, 9)] == [2, 9, 9]
    assert list(balanced(workers, 100, np.random.default_rng(0))) == list(range(62))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["normal", "uniform", "line", "heavy"])
def test_continua_have_no_clear_groups(kind: str) -> None:
    found = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        workers = _unequal(150, rng)
        ones, p = stabilities(_continuum(kind, workers, rng), workers)
        found += any(one.clear for one in ones)
        assert all(not one.clear or (p <= ALPHA and one.index >= CLEAR) for one in ones)
    # At a rate of 5 %, more are found once in 40 times.
    assert found <= 3


@pytest.mark.slow
@pytest.mark.parametrize("kinds", [3, 4])
def test_kinds_of_readers_are_found_and_counted(kinds: int) -> None:
    found = []
    for seed in range(20):
        groups = _grouped(_of_kinds(kinds, seed, 200)[0], _unequal(200, np.random.default_rng(seed)))
        found.append(groups and groups.clear)
    assert found.count(kinds) >= 18


def test_trait_is_0_for_chance_and_1_for_habit() -> None:
    workers = np.repeat(np.arange(200), 10)
    chance = trait(np.random.default_rng(0).integers(4, size=2000), workers)
    assert chance["low"] < 0 < chance["high"]
    assert trait(workers % 4, workers)["mean"] == 1


def test_few_readings_are_not_grouped() -> None:
    places, _ = _of_kinds(3, 0, 40)
    assert _grouped(places, _workers(40)) is None
    assert _grouped(_cloud(0), np.zeros(300)) is None
    assert _grouped(np.empty((0, STEPS)), np.empty(0)) is None
