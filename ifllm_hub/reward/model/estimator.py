"""The reward model: a line and randomized trees, exactly antisymmetric in the two answers, monotone, calibrated."""

from typing import Any, Self

import numpy as np
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.model_selection import GroupKFold, KFold
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_is_fitted, validate_data

from ifllm_hub.reward.model.flat_forest import logit_of_contrast

_CALIBRATION_FOLDS = 3
# One number is fitted; a third of the trees place it well enough and halve the time of a fit.
_CALIBRATION_TREES = 1 / 3


class ImplicitFeedbackRewardModel(ClassifierMixin, BaseEstimator):
    """P(left answer preferred) from left-minus-right features, with f(x) + f(-x) = 1.

    The trees grow on every pair and its mirror image (-x, other label), and may only raise the vote for left when a
    feature grows: what is read more is never held against an answer. With r(x) the vote for left, the contrast
    d(x) = r(x) - r(-x) changes sign exactly when the answers are swapped. Beside them stands a logistic regression
    without an intercept and with non-negative weights w, under the same two laws. The probability is
    expit(slope * (w x + log(1 + d) - log(1 - d))), odd in x as well; `slope` is fitted on logits of pairs (and workers,
    if `groups` are given) that neither part saw, so that the probability can serve as 1 - flip probability in rDPO.

    A missing feature (NaN) counts as no contrast: it speaks for neither answer. So mouse only, gaze only, both or
    neither all give an answer; with nothing but the lengths it is a length model.

    Args:
        n_estimators: trees.
        max_depth: depth of each tree.
        min_samples_leaf: pairs and mirror images in a leaf.
        linear: whether the logistic regression takes part; without it, the weights are 0.
        random_state: seed.
    """

    def __init__(
        self,
        n_estimators: int = 100,
        max_depth: int = 3,
        min_samples_leaf: int = 20,
        linear: bool = True,
        random_state: int = 0,
    ):
        self.n_estimators = n_estimators
        self.max_depth = max_depth
        self.min_samples_leaf = min_samples_leaf
        self.linear = linear
        self.random_state = random_state

    def fit(self, X: np.ndarray, y: np.ndarray, groups: np.ndarray | None = None) -> Self:
        """Grow and calibrate.

        Args:
            X: (n, d) float64, left minus right, NaN where not defined.
            y: (n,), the larger of its two values where left is preferred.
            groups: (n,) worker of each pair; calibration folds then never share a worker, unless there is only one.
        """
        X, y = validate_data(self, X, y, ensure_all_finite="allow-nan", dtype=np.float64)
        check_classification_targets(y)
        if type_of_target(y) != "binary":
            raise ValueError(f"Only binary classification is supported. The type of the target is {type_of_target(y)}.")
        self.classes_, left = np.unique(y, return_inverse=True)
        if len(self.classes_) != 2:
            raise ValueError("y has one class only; both preferences are needed.")
        X = np.nan_to_num(X, nan=0.0)
        self.slope_ = self._fit_slope(X, left, groups)
        self.weights_ = self._weigh(X, left)
        self.forest_ = self._grow(X, left)
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """(n, 2) float64: P(right preferred), P(left preferred)."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, ensure_all_finite="allow-nan", dtype=np.float64)
        logit = self.slope_ * _logit(self.weights_, self.forest_, np.nan_to_num(X, nan=0.0))
        return np.column_stack([expit(-logit), expit(logit)])

    def predict(self, X: np.ndarray) -> np.ndarray:
        """(n,): the likelier of the two values of y."""
        likely_left = self.predict_proba(X)[:, 1] > 0.5
        return self.classes_[likely_left.astype(np.intp)]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.classifier_tags.multi_class = False
        return tags

    def _grow(self, X: np.ndarray, left: np.ndarray, share: float = 1.0) -> ExtraTreesClassifier:
        forest = ExtraTreesClassifier(
            n_estimators=max(1, round(share * self.n_estimators)),
            max_depth=self.max_depth,
            min_samples_leaf=self.min_samples_leaf,
            max_features=None,
            monotonic_cst=np.ones(X.shape[1], dtype=int),
            random_state=self.random_state,
        )
        return forest.fit(np.vstack([X, -X]), np.concatenate([left, 1 - left]))

    def _weigh(self, X: np.ndarray, left: np.ndarray) -> np.ndarray:
        """(d,) float64, non-negative: log loss plus half the squared norm, on features scaled to RMS 1, is least."""
        width = X.shape[1]
        scale = np.sqrt((X**2).mean(axis=0))
        used = np.flatnonzero(scale > 0)
        weights = np.zeros(width)
        if not self.linear or not len(used):
            return weights
        signed = (2 * left - 1)[:, None] * X[:, used] / scale[used]

        def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
            margin = signed @ w
            return np.logaddexp(0, -margin).sum() + w @ w / 2, w - expit(-margin) @ signed

        found = minimize(loss, np.zeros(len(used)), jac=True, bounds=[(0, None)] * len(used), method="L-BFGS-B")
        weights[used] = found.x / scale[used]
        return weights

    def _fit_slope(self, X: np.ndarray, left: np.ndarray, groups: np.ndarray | None) -> float:
        """The slope in [0, 10] that minimizes the log loss of out-of-fold logits; 0 says they know nothing."""
        if len(left) < _CALIBRATION_FOLDS:
            return 0.0
        workers = 0 if groups is None else len(np.unique(groups))
        grouped = workers > 1
        folds: Any = GroupKFold if grouped else KFold
        count = min(_CALIBRATION_FOLDS, workers) if grouped else _CALIBRATION_FOLDS
        splitter = folds(count, shuffle=True, random_state=self.random_state)
        logit = np.zeros(len(left))
        for train, test in splitter.split(X, left, groups if grouped else None):
            seen = X[train], left[train]
            logit[test] = _logit(self._weigh(*seen), self._grow(*seen, _CALIBRATION_TREES), X[test])
        sign = 2 * left - 1
        return float(minimize_scalar(lambda slope: np.logaddexp(0, -sign * slope * logit).sum(), bounds=(0, 10)).x)


def _logit(weights: np.ndarray, forest: ExtraTreesClassifier, X: np.ndarray) -> np.ndarray:
    """(n,) before the slope: the line, and the log odds of the vote for left against that of the mirror image."""
    contrast = forest.predict_proba(X)[:, 1] - forest.predict_proba(-X)[:, 1]
    # Not `@`, whose rounding of a row may depend on how many rows there are.
    return (X * weights).sum(axis=1) + logit_of_contrast(contrast)
