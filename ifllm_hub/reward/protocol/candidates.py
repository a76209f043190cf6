"""The models that are compared: baselines, logistic regressions, forests, and a choice among them made in the folds."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy.special import expit
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GroupKFold

from ifllm_hub.features.centering import SUFFIX
from ifllm_hub.reward.model.estimator import ImplicitFeedbackRewardModel
from ifllm_hub.reward.protocol.folds import FitPredict
from ifllm_hub.reward.protocol.pairs import (
    FEATURES,
    GAZE_FEATURES,
    LENGTH_FEATURES,
    MOUSE_FEATURES,
    Pairs,
    with_past_habit,
)

# Left-minus-right embedding of the answers: (d,) Float32; see `text.with_text_contrast`.
TEXT_CONTRAST = "text_contrast"
_TEXT_COMPONENTS = 16
_INNER_FOLDS = 4
# A fold may leave less: a model then knows nothing, and says 0.5.
_LEAST_TO_LEARN_FROM = 2


@dataclass(frozen=True)
class Candidate:
    """One row of the leaderboard.

    Attributes:
        name: of the row.
        fit: the model.
        needs_text: it reads the column `TEXT_CONTRAST`, which is there only with a text encoder.
    """

    name: str
    fit: FitPredict
    needs_text: bool = False


def forest(features: tuple[str, ...], linear: bool = True) -> FitPredict:
    """The reward model on some features; without `linear`, its trees alone."""

    def fit(train: Pairs, test: Pairs, seed: int) -> np.ndarray:
        if len(train) < _LEAST_TO_LEARN_FROM:
            return np.full(len(test), 0.5)
        model = ImplicitFeedbackRewardModel(linear=linear, random_state=seed)
        model.fit(*_of_both_kinds(train.X(features), train.y), train.groups("worker_id"))
        return model.predict_proba(test.X(features))[:, 1]

    return fit


def logistic(features: tuple[str, ...], C: float = 1.0, per_gap: float = 0.0) -> FitPredict:
    """Antisymmetric logistic regression: no intercept, scaled by the training pairs, undefined contrasts are 0.

    Args:
        per_gap: what a point between the two ratings of a training pair adds to its weight of 1.
    """

    def fit(train: Pairs, test: Pairs, seed: int) -> np.ndarray:
        X, X_test = np.nan_to_num(train.X(features)), np.nan_to_num(test.X(features))
        if not per_gap:
            return _logistic(X, train.y, X_test, C)
        gap = (train.rows["rating_left"] - train.rows["rating_right"]).abs().fill_null(0).to_numpy()
        return _logistic(X, train.y, X_test, C, 1 + per_gap * gap)

    return fit


def gradient_boosting(features: tuple[str, ...]) -> FitPredict:
    """Boosted trees with the laws of the reward model: monotone, grown on every pair and its mirror image.

    The logit is half the difference of the scores of a pair and of its mirror image.
    """

    def fit(train: Pairs, test: Pairs, seed: int) -> np.ndarray:
        X, X_test = np.nan_to_num(train.X(features)), np.nan_to_num(test.X(features))
        model = HistGradientBoostingClassifier(
            max_iter=60,
            learning_rate=0.05,
            max_leaf_nodes=6,
            min_samples_leaf=30,
            l2_regularization=5.0,
            monotonic_cst=np.ones(len(features), dtype=int),
            random_state=seed,
        ).fit(np.vstack([X, -X]), np.concatenate([train.y, 1 - train.y]))
        return expit((model.decision_function(X_test) - model.decision_function(-X_test)) / 2)

    return fit


def text(C: float) -> FitPredict:
    """Antisymmetric logistic regression on the length and 16 principal components of the embedding contrast.

    The components are those of the training contrasts and their mirror images, so their mean is 0.
    """

    def fit(train: Pairs, test: Pairs, seed: int) -> np.ndarray:
        contrast, contrast_test = (part.rows[TEXT_CONTRAST].to_numpy().astype(np.float64) for part in (train, test))
        _, directions = np.linalg.eigh(contrast.T @ contrast)
        components = directions[:, -_TEXT_COMPONENTS:]
        X, X_test = (
            np.hstack([part.X(LENGTH_FEATURES), values @ components])
            for part, values in ((train, contrast), (test, contrast_test))
        )
        return _logistic(X, train.y, X_test, C)

    return fit


def _logistic(
    X: np.ndarray, y: np.ndarray, X_test: np.ndarray, C: float, weight: np.ndarray | None = None
) -> np.ndarray:
    if len(y) < _LEAST_TO_LEARN_FROM:
        return np.full(len(X_test), 0.5)
    scale = np.sqrt((X**2).mean(axis=0)) + 1e-12
    model = LogisticRegression(fit_intercept=False, C=C).fit(*_of_both_kinds(X / scale, y), weight)
    return model.predict_proba(X_test / scale)[:, 1]


def _of_both_kinds(X: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same pairs, the answers of the first one swapped if all prefer the same side.

    scikit-learn wants both classes. To an antisymmetric model, a pair and its mirror image are the same.
    """
    if y.min() != y.max():
        return X, y
    first = np.arange(len(y)) == 0
    return np.where(first[:, None], -X, X), np.where(first, 1 - y, y)


def llm_identity(train: Pairs, test: Pairs, seed: int) -> np.ndarray:
    """Which LLM wrote which side, nothing else (Bradley-Terry 1952); an LLM not in the training pairs counts as 0."""
    llms = pl.concat([train.rows["model_left"], train.rows["model_right"]]).unique().sort()
    X, X_test = (
        np.column_stack(
            [
                (rows["model_left"] == llm).cast(pl.Float64) - (rows["model_right"] == llm).cast(pl.Float64)
                for llm in llms
            ]
        )
        for rows in (train.rows, test.rows)
    )
    if len(train) < _LEAST_TO_LEARN_FROM:
        return np.full(len(test), 0.5)
    # Not scaled by frequency: every LLM has the same prior.
    return LogisticRegression(fit_intercept=False).fit(*_of_both_kinds(X, train.y)).predict_proba(X_test)[:, 1]


def majority(train: Pairs, test: Pairs, seed: int) -> np.ndarray:
    """The share of left among the training pairs."""
    return np.full(len(test), train.y.mean())


def always_left(train: Pairs, test: Pairs, seed: int) -> np.ndarray:
    """The left answer, for certain."""
    return np.ones(len(test))


def nested(options: tuple[FitPredict, ...]) -> FitPredict:
    """Of some models, the one with the smallest log loss in folds over the workers of the training pairs.

    The choice is made anew in every fold, from training pairs only, so its figure is free of selection. Where these are
    of one worker, it is the first model.
    """

    def fit(train: Pairs, test: Pairs, seed: int) -> np.ndarray:
        workers = train.groups("worker_id")
        count = len(np.unique(workers))
        if count < 2:
            return options[0](train, test, seed)
        folds = GroupKFold(min(_INNER_FOLDS, count), shuffle=True, random_state=seed)
        splits = [(Pairs(train.rows[i]), Pairs(train.rows[j])) for i, j in folds.split(workers, groups=workers)]
        losses = [
            sum(
                log_loss(held_out.y, option(kept, held_out, seed), normalize=False, labels=[0, 1])
                for kept, held_out in splits
            )
            for option in options
        ]
        return options[int(np.argmin(losses))](train, test, seed)

    return fit


def longer(pairs: Pairs) -> np.ndarray:
    """(n,) 1 where the left answer is longer, 0 where the right one is, 0.5 for a tie: a choice, not a probability."""
    return 0.5 + 0.5 * np.sign(pairs.X(LENGTH_FEATURES)[:, 0])


def with_habit(features: tuple[str, ...]) -> tuple[str, ...]:
    """The same contrasts as they were read, the reader's habit left in."""
    return tuple(name.removesuffix(SUFFIX) for name in features)


_MOUSE_DWELL, _GAZE_DWELL = ("mouse_dwell_log_ratio",), ("gaze_dwell_log_ratio",)
# Claims are made of what can be known while somebody reads: habits from earlier readings and the reading itself.
_MOUSE, _GAZE, _BOTH = (with_past_habit(features) for features in (MOUSE_FEATURES, GAZE_FEATURES, FEATURES))
# In the names of models whose habits are those of the finished dataset, as the config `features` has them.
LATER_TOO = ", later readings too"
# What `nested` chooses among: how much was read, of which modality, with and without the reader's habit.
_FEATURE_SETS = (
    LENGTH_FEATURES,
    _MOUSE_DWELL + LENGTH_FEATURES,
    _GAZE_DWELL + LENGTH_FEATURES,
    with_habit(MOUSE_FEATURES) + LENGTH_FEATURES,
    with_habit(FEATURES),
    _MOUSE[:1] + LENGTH_FEATURES,
    _MOUSE + LENGTH_FEATURES,
    _GAZE + LENGTH_FEATURES,
    _BOTH,
)
_PENALTIES = (0.03, 0.3, 3.0)
_TEXT_PENALTIES = (0.001, 0.01, 0.1)

# The longer answer as a probability: its accuracy is that of the rule `longer` once longer answers are preferred.
LONGER_ANSWER = Candidate("longer answer", logistic(LENGTH_FEATURES))
FOREST = Candidate("forest: mouse + gaze + length", forest(_BOTH))
# What every training is judged beside.
CANDIDATES = (
    Candidate("majority side", majority),
    LONGER_ANSWER,
    Candidate("logistic: mouse dwell with habit + length", logistic(_MOUSE_DWELL + LENGTH_FEATURES)),
    FOREST,
    Candidate("forest: mouse + length", forest(_MOUSE + LENGTH_FEATURES)),
    Candidate("forest: gaze + length", forest(_GAZE + LENGTH_FEATURES)),
    Candidate("forest: mouse only", forest(_MOUSE)),
    Candidate("forest: gaze only", forest(_GAZE)),
    Candidate(FOREST.name + LATER_TOO, forest(FEATURES)),
    Candidate("forest: mouse + length" + LATER_TOO, forest(MOUSE_FEATURES + LENGTH_FEATURES)),
)
# The full leaderboard: baselines without behavior, then what reads behavior, the simpler first.
FULL = (
    Candidate("always left", always_left),
    CANDIDATES[0],
    Candidate("LLM identity", llm_identity),
    LONGER_ANSWER,
    Candidate("text embedding + length", nested(tuple(text(C) for C in _TEXT_PENALTIES)), needs_text=True),
    CANDIDATES[2],
    Candidate("logistic: mouse + length", logistic(_MOUSE + LENGTH_FEATURES)),
    Candidate("logistic: mouse + gaze + length", logistic(_BOTH)),
    Candidate("logistic: mouse + length" + LATER_TOO, logistic(MOUSE_FEATURES + LENGTH_FEATURES)),
    Candidate("logistic: mouse + gaze + length" + LATER_TOO, logistic(FEATURES)),
    Candidate("logistic, pairs weighted by rating gap", logistic(_BOTH, per_gap=0.5)),
    *CANDIDATES[3:],
    Candidate("forest: mouse + gaze", forest(_MOUSE + _GAZE)),
    Candidate("forest, habits left in", forest(with_habit(FEATURES))),
    Candidate("forest, trees alone", forest(_BOTH, linear=False)),
    Candidate("gradient boosting: mouse + gaze + length", gradient_boosting(_BOTH)),
    Candidate(
        "nested choice",
        nested((*(logistic(features, C) for features in _FEATURE_SETS for C in _PENALTIES), FOREST.fit)),
    ),
)
