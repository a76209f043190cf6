"""The forest: antisymmetric, monotone, indifferent to what was not recorded, calibrated, a scikit-learn estimator."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import expit
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GroupKFold
from sklearn.utils.estimator_checks import parametrize_with_checks

from ifllm_hub.reward.model import estimator as model_module
from ifllm_hub.reward.model.estimator import ImplicitFeedbackRewardModel
from ifllm_hub.reward.protocol.pairs import Pairs

WIDTH = 4
NUMBERS = st.floats(-1e9, 1e9)
ROWS = arrays(np.float64, st.tuples(st.integers(1, 12), st.just(WIDTH)), elements=NUMBERS | st.just(np.nan))


def drawn(n: int, seed: int, weights: tuple[float, ...] = (2.0, -2.0, 0.5, 0.0)) -> tuple[np.ndarray, np.ndarray]:
    """Contrasts, a fifth of them missing, and preferences by a logistic rule; one weight is against the feature."""
    generator = np.random.default_rng(seed)
    X = generator.normal(size=(n, WIDTH))
    y = (generator.random(n) < expit(X @ np.array(weights))).astype(int)
    X[generator.random(X.shape) < 0.2] = np.nan
    return X, y


@pytest.fixture(scope="module")
def model() -> ImplicitFeedbackRewardModel:
    return ImplicitFeedbackRewardModel(n_estimators=20).fit(*drawn(200, seed=0))


def p_left(model: ImplicitFeedbackRewardModel, X: np.ndarray) -> np.ndarray:
    return model.predict_proba(X)[:, 1]


@given(X=ROWS)
@settings(deadline=None)
def test_swapping_the_answers_swaps_the_probabilities_exactly(
    model: ImplicitFeedbackRewardModel, X: np.ndarray
) -> None:
    probability, swapped = model.predict_proba(X), model.predict_proba(-X)
    assert np.array_equal(swapped, probability[:, ::-1])
    assert np.allclose(probability.sum(axis=1), 1, atol=1e-15)


@given(X=ROWS, feature=st.integers(0, WIDTH - 1), more=st.floats(0, 1e9))
@settings(deadline=None)
def test_reading_left_more_never_lowers_its_probability(
    model: ImplicitFeedbackRewardModel, X: np.ndarray, feature: int, more: float
) -> None:
    raised = np.nan_to_num(X)
    raised[:, feature] += more
    assert (p_left(model, raised) >= p_left(model, X) - 1e-12).all()


def test_features_move_the_probability_at_all(model: ImplicitFeedbackRewardModel) -> None:
    assert p_left(model, np.array([[3.0, 0, 0, 0]]))[0] > 0.7


@given(X=ROWS)
@settings(deadline=None)
def test_missing_is_no_contrast(model: ImplicitFeedbackRewardModel, X: np.ndarray) -> None:
    assert np.array_equal(p_left(model, X), p_left(model, np.nan_to_num(X)))


def test_nothing_recorded_is_exactly_one_half(model: ImplicitFeedbackRewardModel) -> None:
    assert model.predict_proba(np.full((1, WIDTH), np.nan)).tolist() == [[0.5, 0.5]]


def test_a_row_does_not_depend_on_its_neighbors(model: ImplicitFeedbackRewardModel) -> None:
    X, _ = drawn(50, seed=1)
    order = np.random.default_rng(0).permutation(50)
    assert np.array_equal(p_left(model, X[order]), p_left(model, X)[order])
    assert np.array_equal(p_left(model, X[7:8]), p_left(model, X)[7:8])


def test_order_of_the_training_pairs_does_not_matter() -> None:
    X, y = drawn(120, seed=2)
    workers = np.arange(120) // 10
    order = np.random.default_rng(0).permutation(120)
    first = ImplicitFeedbackRewardModel(n_estimators=20).fit(X, y, workers)
    second = ImplicitFeedbackRewardModel(n_estimators=20).fit(X[order], y[order], workers[order])
    assert np.allclose(p_left(first, X), p_left(second, X), atol=1e-4)


def test_seed_decides_everything() -> None:
    X, y = drawn(120, seed=3)
    same, again, other = (
        p_left(ImplicitFeedbackRewardModel(n_estimators=10, random_state=seed).fit(X, y), X) for seed in (1, 1, 2)
    )
    assert same.tobytes() == again.tobytes()
    assert not np.array_equal(np.argsort(same), np.argsort(other)), "another slope, but the same trees"


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(lambda y: y.astype(np.int8), id="int8"),
        pytest.param(lambda y: y * 2.0 - 1, id="float"),
        pytest.param(lambda y: y.astype(bool), id="bool"),
        pytest.param(lambda y: np.where(y, "won", "lost"), id="text"),
        pytest.param(lambda y: np.where(y, "won", "lost").astype(object), id="object"),
    ],
)
def test_labels_of_any_kind(kind: Any) -> None:
    X, y = drawn(80, seed=4)
    labels = kind(y)
    fitted = ImplicitFeedbackRewardModel(n_estimators=10).fit(X, labels)
    assert np.array_equal(p_left(fitted, X), p_left(ImplicitFeedbackRewardModel(n_estimators=10).fit(X, y), X))
    assert np.array_equal(fitted.predict(X), np.where(p_left(fitted, X) > 0.5, max(labels), min(labels)))


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([1, 1, 1, 1], "one class only"),
        ([0, 1, 2, 1], "Only binary classification is supported"),
        ([0.1, 0.7, 0.3, 0.9], "Unknown label type"),
        ([0, 1, 1], "inconsistent numbers of samples"),
    ],
)
def test_labels_that_are_not_two_sides(y: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImplicitFeedbackRewardModel().fit(np.arange(4.0)[:, None], y)


def test_infinity_is_refused(model: ImplicitFeedbackRewardModel) -> None:
    X, y = drawn(20, seed=5)
    X[3, 1] = np.inf
    with pytest.raises(ValueError, match="infinity"):
        ImplicitFeedbackRewardModel().fit(X, y)
    with pytest.raises(ValueError, match="infinity"):
        model.predict_proba(X)


def test_inputs_are_left_alone() -> None:
    X, y = drawn(40, seed=6)
    X.setflags(write=False)
    y.setflags(write=False)
    before = X.copy()
    fitted = ImplicitFeedbackRewardModel(n_estimators=3).fit(X, y)
    fitted.predict_proba(X)
    assert np.array_equal(X, before, equal_nan=True)


def test_a_clone_of_a_fitted_model_is_unfitted_and_fits_alike(model: ImplicitFeedbackRewardModel) -> None:
    copy = clone(model)
    assert not hasattr(copy, "forest_")
    assert copy.get_params() == {
        "n_estimators": 20,
        "max_depth": 3,
        "min_samples_leaf": 20,
        "linear": True,
        "random_state": 0,
    }
    X, y = drawn(200, seed=0)
    assert np.array_equal(p_left(copy.fit(X, y), X), p_left(model, X))


@parametrize_with_checks(
    [ImplicitFeedbackRewardModel(n_estimators=5)],
    expected_failed_checks=lambda estimator: {
        "check_classifiers_train": "its blobs differ in their mean alone, and it wants their training accuracy above "
        "0.83; a model that must answer 1 - p for -x cannot tell a blob from its mirror image"
    },
)
def test_scikit_learn_conventions(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0, 4.0])
def test_fitted_slope_serves_new_pairs_as_well_as_any_fixed_one(strength: float) -> None:
    weights = (strength, 0.0, 0.0, 0.0)
    fitted = ImplicitFeedbackRewardModel(n_estimators=50, linear=False).fit(*drawn(400, 7, weights))
    X, y = drawn(4_000, 8, weights)
    loss = log_loss(y, p_left(fitted, X))
    fitted.slope_ = 1.0
    fixed = log_loss(y, p_left(fitted, X))
    assert loss < min(fixed, np.log(2)) + 0.001
    if strength >= 1:
        assert loss < fixed - 0.02, "slope 1 would have done"


def test_slope_of_noise_is_zero_and_of_a_rule_is_not() -> None:
    slopes = [
        ImplicitFeedbackRewardModel(n_estimators=50, linear=False).fit(*drawn(400, 7, (strength, 0, 0, 0))).slope_
        for strength in (0, 0.3, 1, 4)
    ]
    assert slopes[0] < 0.05
    assert slopes == sorted(slopes)
    assert slopes[-1] > 3


def test_the_line_is_the_best_of_non_negative_lines() -> None:
    X, y = drawn(600, 12, (2.0, -2.0, 1.0, 1.0))
    X = np.nan_to_num(X)
    weights = ImplicitFeedbackRewardModel(n_estimators=1).fit(X, y).weights_
    assert weights[1] == 0, "its rule is against the feature"
    kept = [0, 2, 3]
    scale = np.sqrt((X[:, kept] ** 2).mean(axis=0))
    # Where all weights want to be positive, the constraint does nothing: scikit-learn's own regression.
    free = LogisticRegression(fit_intercept=False, tol=1e-8).fit(X[:, kept] / scale, y).coef_[0] / scale
    assert (free >= 0).all()
    assert weights[kept] == pytest.approx(free, abs=1e-3)


def test_without_the_line_the_weights_are_zero() -> None:
    assert not ImplicitFeedbackRewardModel(n_estimators=1, linear=False).fit(*drawn(60, seed=13)).weights_.any()


def test_probability_is_about_the_share_that_prefers_left() -> None:
    fitted = ImplicitFeedbackRewardModel().fit(*drawn(600, 9, (1.5, 0.5, 0, 0)))
    X, y = drawn(6_000, 10, (1.5, 0.5, 0, 0))
    probability = p_left(fitted, X)
    for low in (0.0, 0.2, 0.4, 0.6, 0.8):
        inside = (probability >= low) & (probability <= low + 0.2)
        assert inside.sum() > 300
        assert y[inside].mean() == pytest.approx(probability[inside].mean(), abs=0.1)


def test_log_loss_on_unseen_workers_beats_knowing_nothing(pairs: Pairs) -> None:
    X, y, workers = pairs.X(), pairs.y, pairs.groups("worker_id")
    probability = np.empty(len(y))
    for train, test in GroupKFold(5).split(X, y, workers):
        fitted = ImplicitFeedbackRewardModel().fit(X[train], y[train], workers[train])
        probability[test] = p_left(fitted, X[test])
    assert log_loss(y, probability) < np.log(2) - 0.02


@pytest.mark.parametrize(("workers", "folds"), [(2, 2), (3, 3), (12, 3)])
def test_calibration_folds_share_no_worker(monkeypatch: pytest.MonkeyPatch, workers: int, folds: int) -> None:
    calls = calibration_calls(monkeypatch, np.arange(120) % workers)
    assert len(calls) == folds
    for trained, tested in calls:
        assert not set(trained % workers) & set(tested % workers)
    assert sorted(np.concatenate([tested for _, tested in calls])) == list(range(120))


@pytest.mark.parametrize("groups", [None, np.zeros(120)])
def test_calibration_without_workers_holds_out_every_pair_once(
    monkeypatch: pytest.MonkeyPatch, groups: np.ndarray | None
) -> None:
    calls = calibration_calls(monkeypatch, groups)
    assert all(not set(trained) & set(tested) for trained, tested in calls)
    assert sorted(np.concatenate([tested for _, tested in calls])) == list(range(120))


def calibration_calls(monkeypatch: pytest.MonkeyPatch, groups: np.ndarray | None) -> list[tuple[Any, Any]]:
    """(rows a calibration forest was grown on, rows it was tried on), the rows told by their first feature."""
    trained, calls = [], []
    grow, logit = ImplicitFeedbackRewardModel._grow, model_module._logit

    def spy_grow(self: Any, X: np.ndarray, *args: Any) -> Any:
        trained.append(X[:, 0].astype(int))
        return grow(self, X, *args)

    def spy_logit(weights: np.ndarray, forest: Any, X: np.ndarray) -> np.ndarray:
        calls.append((trained[-1], X[:, 0].astype(int)))
        return logit(weights, forest, X)

    monkeypatch.setattr(ImplicitFeedbackRewardModel, "_grow", spy_grow)
    monkeypatch.setattr(model_module, "_logit", spy_logit)
    X, y = drawn(120, seed=11)
    X[:, 0] = np.arange(120)
    ImplicitFeedbackRewardModel(n_estimators=3).fit(X, y, groups)
    return calls
