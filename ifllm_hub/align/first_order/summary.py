"""What a first-order comparison shows, as numbers: each row against the workers, the control and length."""

import math
from typing import TypedDict

import numpy as np

from ifllm_hub.align.first_order.comparison import FirstOrderResult, Trained, at_chosen, hits
from ifllm_hub.align.first_order.descent import LENGTHS
from ifllm_hub.align.first_order.sources import EXPLICIT, LONGER, Compared
from ifllm_hub.statistics import Estimate, Jackknife, holm, jackknife, jackknife_mean, logistic

# Answers whose lengths differ by less than e^0.3, a factor of 1.35, are alike in length.
SIMILAR = 0.3


class Row(TypedDict):
    """One label source, or a positive control.

    Attributes:
        name: of the source.
        accuracy: share of pairs in which the policy prefers the better answer; a margin of 0 counts half.
        p: share of permuted labels that do at least as well, with the row itself among them, one-sided; `holm`:
            corrected for the label sources of both geometries, NaN for a control.
        over_shuffled: accuracy less the mean of permuted labels; the interval has what differs between permutations
            beyond what differs between workers.
        over_longer: accuracy less that of training on `longer`; NaN without such a row.
        similar: accuracy where the answers are alike in length.
        beside_length: coefficient of the margin, in its standard deviations within each fold, in a logistic regression
            of what is better on it and the log of the length ratio.
        agrees_with_longer: share of pairs in which the policy prefers the longer answer.
        own: share of the same source's labels, of workers not trained on, that the policy reproduces.
        learned: the same of the labels that it was trained on.
        margin: mean size, nats.
        by_length: accuracy after each number of steps of `LENGTHS`.
    """

    name: str
    accuracy: Estimate
    p: float
    holm: float
    over_shuffled: Estimate
    over_longer: Estimate
    similar: Estimate
    beside_length: Estimate
    agrees_with_longer: float
    own: float
    learned: float
    margin: float
    by_length: list[float]


class Control(TypedDict):
    """Permuted labels.

    Attributes:
        mean, sd: of the accuracy over permutations; `low`, `high`: 95 % of them lie between.
        similar: mean accuracy where the answers are alike in length.
        agrees_with_longer: mean share of pairs in which the longer answer is preferred; `agrees_low`, `agrees_high`:
            95 % of permutations lie between.
        by_length: mean accuracy after each number of steps of `LENGTHS`.
    """

    mean: float
    sd: float
    low: float
    high: float
    similar: float
    agrees_with_longer: float
    agrees_low: float
    agrees_high: float
    by_length: list[float]


class Table(TypedDict):
    """One geometry.

    Attributes:
        rows: the label sources.
        positive: labels by a property of the text, which a policy can learn.
        shuffled: the control.
        likelihood: `explicit`, with the likelihood of the chosen answers beside the preference loss.
        likelihood_shuffled: the control with it.
    """

    rows: list[Row]
    positive: list[Row]
    shuffled: Control
    likelihood: Row
    likelihood_shuffled: Control


class FirstOrderBoard(TypedDict):
    """The comparison.

    Attributes:
        pairs, workers, folds, similar_pairs, permutations: counts.
        longer_answer: how often the longer answer is the better one, by itself; and where lengths are alike.
        tables: geometry -> its table.
    """

    pairs: int
    workers: int
    folds: int
    similar_pairs: int
    permutations: int
    longer_answer: Estimate
    longer_similar: Estimate
    tables: dict[str, Table]


def board(result: FirstOrderResult) -> FirstOrderBoard:
    """The numbers of a comparison; intervals of 95 % by jackknife over workers."""
    compared = result.compared
    near = np.abs(compared.length_ratio) < SIMILAR
    itself = hits(compared.length_ratio, compared.judge)
    found = {geometry: _table(result, geometry) for geometry in result.trained}
    sources = [row for table in found.values() for row in table["rows"]]
    for row, adjusted in zip(sources, holm([row["p"] for row in sources]), strict=True):
        row["holm"] = adjusted
    return {
        "pairs": len(compared.judge),
        "workers": len(np.unique(compared.workers)),
        "folds": len(np.unique(compared.folds)),
        "similar_pairs": int(near.sum()),
        "permutations": result.trained["adam"].margins.shape[2] - len(result.names),
        "longer_answer": jackknife_mean(itself, compared.workers).estimate,
        "longer_similar": jackknife_mean(itself[near], compared.workers[near]).estimate,
        "tables": found,
    }


def _table(result: FirstOrderResult, geometry: str) -> Table:
    trained, likelihood = result.trained[geometry], result.likelihood[geometry]
    names = result.names
    view = _View(result, trained, len(names))
    sources = len(result.compared.sources)
    rows = [view.row(at, names[at], result.signs[:, at]) for at in range(len(names))]
    for at, row in enumerate(rows):
        row["over_longer"] = view.over(at, names.index(LONGER)) if LONGER in names else _NONE
    with_likelihood = _View(result, likelihood, 1)
    return {
        "rows": rows[:sources],
        "positive": rows[sources:],
        "shuffled": view.control(),
        "likelihood": with_likelihood.row(0, EXPLICIT, result.compared.explicit),
        "likelihood_shuffled": with_likelihood.control(),
    }


_NONE: Estimate = {"mean": math.nan, "low": math.nan, "high": math.nan}


class _View:
    """The hits of all labelings of one training, of which the first `own` are no permutations."""

    def __init__(self, result: FirstOrderResult, trained: Trained, own: int) -> None:
        self.compared, self.trained, self.own = result.compared, trained, own
        self.margins = at_chosen(trained, self.compared.folds)
        self.right = hits(self.margins, self.compared.judge[:, None])
        self.near = np.abs(self.compared.length_ratio) < SIMILAR
        self.chance = self.right[:, own:]
        workers = self.compared.workers
        # What labels without meaning add to the variance that workers make: the number of pairs is finite for both.
        by_workers = np.mean([jackknife_mean(one, workers).standard_error ** 2 for one in self.chance.T])
        self.between = max(0.0, float(self.chance.mean(axis=0).var(ddof=1) - by_workers))

    def row(self, at: int, name: str, signs: np.ndarray) -> Row:
        margin, right, workers = self.margins[:, at], self.right[:, at], self.compared.workers
        permuted = self.chance.mean(axis=0)
        over = jackknife_mean(right - self.chance.mean(axis=1), workers)
        labeled = signs != 0
        return {
            "name": name,
            "accuracy": jackknife_mean(right, workers).estimate,
            "p": (1 + int((permuted >= right.mean()).sum())) / (1 + len(permuted)),
            "holm": math.nan,
            "over_shuffled": _wider(over, self.between),
            "over_longer": _NONE,
            "similar": jackknife_mean(right[self.near], workers[self.near]).estimate,
            "beside_length": beside_length(margin, self.compared).estimate,
            "agrees_with_longer": _agreement(margin, self.compared.longer),
            "own": float(hits(margin, signs)[labeled].mean()),
            "learned": float(self.trained.learned[at]),
            "margin": float(np.abs(margin).mean()),
            "by_length": self._by_length(slice(at, at + 1)),
        }

    def over(self, at: int, base: int) -> Estimate:
        return jackknife_mean(self.right[:, at] - self.right[:, base], self.compared.workers).estimate

    def control(self) -> Control:
        permuted = self.chance.mean(axis=0)
        low, high = np.quantile(permuted, [0.025, 0.975])
        longer = self.compared.longer
        agrees = hits(self.margins[:, self.own :], longer[:, None])[longer != 0].mean(axis=0)
        agrees_low, agrees_high = np.quantile(agrees, [0.025, 0.975])
        return {
            "mean": float(permuted.mean()),
            "sd": float(permuted.std(ddof=1)),
            "low": float(low),
            "high": float(high),
            "similar": float(self.chance[self.near].mean()),
            "agrees_with_longer": float(agrees.mean()),
            "agrees_low": float(agrees_low),
            "agrees_high": float(agrees_high),
            "by_length": self._by_length(slice(self.own, None)),
        }

    def _by_length(self, columns: slice) -> list[float]:
        judge = self.compared.judge[:, None]
        return [float(hits(self.trained.margins[at][:, columns], judge).mean()) for at in range(len(LENGTHS))]


def _agreement(margins: np.ndarray, signs: np.ndarray) -> float:
    """Of pairs with a sign, the share in which the margin has it."""
    return float(hits(margins, signs)[signs != 0].mean())


def _wider(estimate: Jackknife, variance: float) -> Estimate:
    """The interval with a further variance beside that of the workers."""
    from scipy import stats

    half = float(stats.t.isf(0.025, estimate.df)) * math.sqrt(estimate.standard_error**2 + variance)
    return {"mean": estimate.mean, "low": estimate.mean - half, "high": estimate.mean + half}


def beside_length(margin: np.ndarray, compared: Compared) -> Jackknife:
    """What the margin says of the better answer where length is known; see `Row.beside_length`."""
    scaled = np.zeros(len(margin))
    for fold in np.unique(compared.folds):
        here = compared.folds == fold
        # Folds may have been trained for different lengths.
        scaled[here] = margin[here] / max(float(margin[here].std()), np.finfo(float).tiny)
    x, better, workers = np.column_stack([scaled, compared.length_ratio]), compared.judge > 0, compared.workers
    whole, influence = logistic(x, better.astype(float))
    without = [logistic(x[workers != out], better[workers != out].astype(float))[0][0] for out in np.unique(workers)]
    return jackknife(float(whole[0]), np.array(without), influence[:, 0], workers)
