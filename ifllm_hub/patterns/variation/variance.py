"""How much of the variance of each measure lies between workers, conversations, questions, and answers of a question.

Random intercepts, each nested in the one before, by restricted maximum likelihood. An interval of a share holds what
its profile likelihood allows, which ends at 0 by itself where a share may be 0. That likelihood takes random effects
for normal; a few workers far from the others would make it too sure of itself. It is therefore stretched by what the
workers' scores say of the variance of the estimate (Chandler & Bate 2007), never shrunk, and cut at a quantile of
Student's t whose degrees of freedom are few where few workers carry the estimate. A conversation has one task, so
what is due to the task is in the share of the conversations.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import polars as pl

from ifllm_hub.patterns.measures import MEASURES
from ifllm_hub.statistics import Estimate
from ifllm_hub.terms import MODALITIES

LEVELS = ("worker", "conversation", "question", "rest")
# With fewer workers than this, nothing is said about the variance between them.
LEAST_WORKERS = 5
# Shares are found to this.
_STEP = 2e-3
# A rise of the log likelihood below this is none.
_RISE = 1e-4
# The smallest share of the finest level, so that the likelihood is finite.
_FLOOR = 1e-9
# The smallest share at which scores are taken: at 0, information about the others says little.
_LEAST_SCORED = 0.01
# Standard deviations of what is constant, but for rounding, are below this.
_CONSTANT = 1e-9
# Shares at which a profile is computed, on either side of the estimate.
_POINTS = 8


@dataclass(frozen=True)
class Decomposition:
    """Where the variance of a measure lies.

    Attributes:
        measure: of `patterns.measures`.
        modality: "mouse", "gaze" or "both".
        scale: "linear" or "log": what was decomposed.
        given: "": the measure as it is; "length": what the log length of the answer or of both, the mode and the log
            time between ticks (a property of the reader's computer) leave of it.
        shares: by level, the share of the variance with its 95 % interval (NaN where the length is given: that
            decomposition stands beside the other for comparison); they add up to 1. Between workers; between
            conversations of a worker; between questions of a conversation; the rest, between the answers of a question.
            A level that cannot be told from the one it is nested in, or from the one nested in it, is absent: "rest"
            for measures of a pair.
        deviation: square root of the whole variance, in the measure's unit or as a natural logarithm.
        n: readings.
        workers, conversations, questions: how many.
    """

    measure: str
    modality: str
    scale: str
    given: str
    shares: dict[str, Estimate]
    deviation: float
    n: int
    workers: int
    conversations: int
    questions: int


def decompositions(table: pl.DataFrame, questions: pl.DataFrame) -> list[Decomposition]:
    """Of each measure and modality, as it is and given the length; without those of too few workers or no variance.

    Args:
        table: from `measures.measured`.
        questions: `Readings.questions`.
    """
    table = table.join(questions.select("question_id", "tick_ms"), on="question_id", how="left", maintain_order="left")
    found = []
    for measure in MEASURES:
        for modality in (*MODALITIES, "both"):
            rows = table.filter(measure=measure.name, modality=modality)
            if measure.scale == "log":
                rows = rows.filter(pl.col("value") > 0).with_columns(pl.col("value").log())
            for given in ("", "length"):
                kept = rows.filter(pl.col("length") > 0) if given else rows
                one = _decomposition(kept, measure.name, modality, measure.scale, given)
                found += [one] if one else []
    return found


def _decomposition(rows: pl.DataFrame, measure: str, modality: str, scale: str, given: str) -> Decomposition | None:
    worker, conversation, question = (rows[f"{level}_id"] for level in LEVELS[:3])
    workers = worker.n_unique()
    if workers < LEAST_WORKERS or rows["value"].n_unique() < 2:
        return None
    values = rows["value"].to_numpy()
    fixed = _covariates(rows) if given else np.empty((len(values), 0))
    nested = Nested(values, worker.to_numpy(), conversation.to_numpy(), question.to_numpy(), fixed)
    shares = nested.estimate()
    return Decomposition(
        measure,
        modality,
        scale,
        given,
        nested.points(shares) if given else nested.intervals(shares),
        float(np.sqrt(nested.variance(shares))),
        rows.height,
        workers,
        conversation.n_unique(),
        question.n_unique(),
    )


def _covariates(rows: pl.DataFrame) -> np.ndarray:
    """(n, up to 3) those of length, mode and time between ticks that vary."""
    typical = pl.col("tick_ms").fill_null(pl.col("tick_ms").median()).fill_null(1).clip(1)
    columns = rows.select(pl.col("length").log(), pl.col("mode") == "pairwise", typical.log()).to_numpy().astype(float)
    columns = columns - columns.mean(axis=0)
    return np.asarray(columns[:, columns.std(axis=0) > _CONSTANT])


class Nested:
    """Random intercepts of workers, their conversations, and the questions of these, with one or two readings each.

    With covariance s2 J added to a group, J all ones, and a = 1'V^-1 1, b = V^-1'1 of the group before, b becomes
    b / (1 + s2 a) and the determinant grows by 1 + s2 a (Sherman & Morrison): likelihood and scores need sums only.

    Args:
        values: (n,) the measure.
        workers, conversations, questions: (n,) of each reading.
        fixed: (n, k) covariates beside the intercept.
    """

    def __init__(
        self,
        values: np.ndarray,
        workers: np.ndarray,
        conversations: np.ndarray,
        questions: np.ndarray,
        fixed: np.ndarray,
    ) -> None:
        self.columns = np.column_stack([np.ones(len(values)), fixed, values])
        first, self.question = np.unique(questions, return_index=True, return_inverse=True)[1:]
        self.sizes = np.bincount(self.question).astype(float)
        self.conversation, first = _parents(conversations[first], first)
        self.worker = _parents(workers[first], first)[0]
        in_all, asked, read = len(self.worker), len(self.sizes), len(values)
        # A level whose groups have one member each is not told apart from that of the members.
        told = {
            "worker": True,
            "conversation": self.worker.max() + 1 < in_all < asked,
            "question": asked < read,
            "rest": True,
        }
        self._index = [place for place, level in enumerate(LEVELS) if told[level]]
        # What the finest level is called where each question has one reading.
        finest = "rest" if told["question"] else "question"
        self.levels = (*(LEVELS[place] for place in self._index[:-1]), finest)
        self._sum_up()

    def _sum_up(self) -> None:
        """The sums that the likelihood needs; conversations with as many questions of either size are a kind."""
        means = _totals(self.question, self.columns) / self.sizes[:, None]
        deviations = self.columns - means[self.question]
        self._within = deviations.T @ deviations
        of_size = [self.sizes == size for size in (1, 2)]
        self._products = np.stack([means[those].T @ means[those] for those in of_size])
        sums = np.stack([_totals(self.conversation[those], means[those], len(self.worker)) for those in of_size])
        # The intercept counts questions.
        self._kinds, kind, self._of_kind = np.unique(sums[:, :, 0].T, axis=0, return_inverse=True, return_counts=True)
        kinds = np.eye(len(self._kinds))[kind]
        workers = np.eye(self.worker.max() + 1)[self.worker]
        p = self.columns.shape[1]
        # Rows are kinds x sizes (x sizes), as in `moments`.
        self._squares_of_kind = np.einsum("ck,icp,jcq->kijpq", kinds, sums, sums).reshape(-1, p * p)
        self._sums_of_kind = np.einsum("ck,icp,cw->kiwp", kinds, sums, workers, optimize=True).reshape(
            2 * len(self._kinds), -1
        )

    def moments(self, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(m, p, p) columns'V^-1 columns and (m,) log determinant of V, for (m, 4) shares of a variance of 1."""
        worker, conversation, question, rest = np.maximum(shares, [0, 0, 0, _FLOOR]).T
        m, p = len(shares), self.columns.shape[1]
        weight = np.stack([1 / (question + rest), 1 / (question + rest / 2)], axis=1)
        inner = 1 + conversation[:, None] * (weight @ self._kinds.T)
        sums = (weight[:, None] / inner[:, :, None]).reshape(m, -1) @ self._sums_of_kind
        sums = sums.reshape(m, -1, p)
        outer = 1 + worker[:, None] * sums[:, :, 0]
        squares = weight[:, None, :, None] * weight[:, None, None] * (conversation[:, None] / inner)[:, :, None, None]
        products = (
            np.tensordot(weight, self._products, 1)
            + self._within / rest[:, None, None]
            - (squares.reshape(m, -1) @ self._squares_of_kind).reshape(m, p, p)
            - (sums * (worker[:, None] / outer)[:, :, None]).transpose(0, 2, 1) @ sums
        )
        singles, doubles = (int((self.sizes == size).sum()) for size in (1, 2))
        determinant = (
            np.log(outer).sum(axis=1)
            + np.log(inner) @ self._of_kind
            - singles * np.log(weight[:, 0])
            + doubles * np.log(2 * rest / weight[:, 1])
        )
        return products, determinant

    def log_likelihood(self, shares: np.ndarray) -> np.ndarray:
        """(m,) restricted log likelihood, but for a constant, of (m, 4) shares at the likeliest whole variance."""
        products, determinant = self.moments(shares)
        design, cross = products[:, :-1, :-1], products[:, :-1, -1:]
        explained = (cross * np.linalg.solve(design, cross)).sum(axis=(1, 2))
        free = len(self.columns) - design.shape[1]
        return -0.5 * (free * np.log(products[:, -1, -1] - explained) + determinant + np.linalg.slogdet(design)[1])

    def coefficients(self, shares: np.ndarray) -> np.ndarray:
        """(k + 1,) of the intercept and the covariates, by generalized least squares at these (4,) shares."""
        products = self.moments(shares[None])[0][0]
        return np.linalg.solve(products[:-1, :-1], products[:-1, -1])

    def variance(self, shares: np.ndarray) -> float:
        """The likeliest whole variance at these (4,) shares."""
        products = self.moments(shares[None])[0][0]
        left = products[-1, -1] - products[:-1, -1] @ self.coefficients(shares)
        return float(left / (len(self.columns) - len(products) + 1))

    def estimate(self) -> np.ndarray:
        """(4,) the likeliest share of each of `LEVELS`; 0 for one that is not told apart."""
        # From several sides, as a climb from one may end on a ridge.
        starts = np.zeros((len(self._index), 4))
        starts[:, self._index] = np.eye(len(self._index)) + 0.5
        ends, height = self._climb(starts / starts.sum(axis=1, keepdims=True), self._index)
        return ends[height.argmax()]

    def points(self, shares: np.ndarray) -> dict[str, Estimate]:
        """The shares by level, without intervals."""
        return {
            level: {"mean": float(shares[place]), "low": np.nan, "high": np.nan}
            for level, place in zip(self.levels, self._index, strict=True)
        }

    def intervals(self, shares: np.ndarray) -> dict[str, Estimate]:
        """The 95 % interval of the share of each level that is told apart."""
        from scipy import stats

        stretch, freedom = self.stretch(shares)
        cuts = stretch * stats.t.isf(0.025, freedom) ** 2
        height = self.log_likelihood(shares[None])[0]
        # Closer together near the estimate, where the likelihood falls first.
        path = np.linspace(0, 1, _POINTS + 1)
        found: dict[str, Estimate] = {}
        for level, place, cut in zip(self.levels, self._index, cuts, strict=True):
            share = float(shares[place])
            at = share + np.array([[0 - share], [1 - share]]) * path[1:] ** 2
            falls = 2 * (height - self.profile(place, at.ravel(), shares)).reshape(at.shape)
            low, high = (_crossing(path, np.append(0, fall), cut) ** 2 for fall in falls)
            found[level] = {"mean": share, "low": share - share * low, "high": share + (1 - share) * high}
        return found

    def profile(self, place: int, at: np.ndarray, shares: np.ndarray) -> np.ndarray:
        """(m,) the largest restricted log likelihood where the share in this place is each of (m,) `at`.

        Climbed to from these (4,) `shares`.
        """
        others = [one for one in self._index if one != place]
        starts = np.zeros((len(at), 4))
        starts[:, others] = np.maximum(shares[others], _LEAST_SCORED)
        starts *= ((1 - at) / starts.sum(axis=1))[:, None]
        starts[:, place] = at
        return self._climb(starts, others)[1]

    def _climb(self, shares: np.ndarray, places: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """(m, 4) shares and their (m,) likelihood, climbed to from (m, 4) shares by changing those in some places.

        A step hands some of one share to another, as much as there is at most, so that none falls below 0. Where no
        step goes up, the next is half as long.
        """
        shares, steps = shares.copy(), np.full(len(shares), 0.1)
        height = self.log_likelihood(shares)
        if len(places) < 2:  # nothing to hand on
            return shares, height
        source, target = np.array(list(permutations(places, 2))).T
        moves = np.arange(len(source))
        while (going := np.flatnonzero(steps >= _STEP)).size:
            handed = np.minimum(steps[going, None], shares[going][:, source])
            tried = np.repeat(shares[going, None], len(moves), axis=1)
            tried[:, moves, source] -= handed
            tried[:, moves, target] += handed
            heights = self.log_likelihood(tried.reshape(-1, 4)).reshape(handed.shape)
            best = heights.argmax(axis=1)
            reached = heights[np.arange(len(going)), best]
            up = reached > height[going] + _RISE
            shares[going[up]], height[going[up]] = tried[up, best[up]], reached[up]
            steps[going[~up]] /= 2
        return shares, height

    def stretch(self, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How many times larger the variance of each share is, by the workers' scores, than its likelihood says.

        Args:
            shares: (4,).

        Returns:
            (levels told apart,) that ratio, 1 at least; and the degrees of freedom of the former variance, from the
            squares of what each worker moves the share: (sum m^2)^2 / sum m^4.
        """
        index = self._index
        shares = np.where(np.isin(np.arange(4), index), np.maximum(shares, _LEAST_SCORED), 0.0)
        shares /= shares.sum()
        residual = self.columns[:, -1] - self.columns[:, :-1] @ self.coefficients(shares)
        whole = self.variance(shares)
        components = shares * whole
        scores = 0.5 * (self._squares(components, residual) - self._traces(components))[:, index]
        steps = 1e-4 * whole * np.eye(4)[index]
        slopes = [(self._traces(components - step) - self._traces(components + step)).sum(axis=0) for step in steps]
        information = np.array(slopes)[:, index] / (4e-4 * whole)
        # What a component of variance does to a share.
        gradient = (np.eye(len(index)) - shares[index, None]) / whole
        weights = np.linalg.solve(information, gradient.T)
        moves = (scores - scores.mean(axis=0)) @ weights
        squares = (moves**2).sum(axis=0)
        robust = squares * len(scores) / (len(scores) - 1)
        assumed = (gradient.T * weights).sum(axis=0)
        return np.maximum(robust / assumed, 1.0), squares**2 / (moves**4).sum(axis=0)

    def _inverse_sums(self, components: np.ndarray) -> tuple[np.ndarray, ...]:
        """1'V^-1 1 of each question, conversation and worker, before the components of the groups they are in."""
        _, conversation, question, rest = components
        of_question = self.sizes / (rest + question * self.sizes)
        inner = np.bincount(self.conversation, of_question)
        of_conversation = inner / (1 + conversation * inner)
        return of_question, 1 + conversation * inner, of_conversation, np.bincount(self.worker, of_conversation)

    def _traces(self, components: np.ndarray) -> np.ndarray:
        """(workers, 4) tr(V^-1 ZZ') of each worker's readings, Z being the groups of a level."""
        worker, conversation, question, rest = components
        of_question, inner, of_conversation, of_worker = self._inverse_sums(components)
        outer = 1 + worker * of_worker
        whose = self.worker[self.conversation]

        def less(own: np.ndarray, sums: np.ndarray) -> np.ndarray:
            """What a question has, less what the components of its conversation and worker take of it."""
            taken = conversation / inner[self.conversation] * sums**2
            return own - taken - worker / outer[whose] * (sums / inner[self.conversation]) ** 2

        single = 1 / (rest + question * self.sizes)
        by_reading = less((rest + question * (self.sizes - 1)) * single / rest, single)
        return np.column_stack(
            [
                of_worker / outer,
                np.bincount(self.worker, of_conversation - worker * of_conversation**2 / outer[self.worker]),
                np.bincount(whose, less(of_question, of_question)),
                np.bincount(whose, self.sizes * by_reading),
            ]
        )

    def _squares(self, components: np.ndarray, residual: np.ndarray) -> np.ndarray:
        """(workers, 4) r'V^-1 ZZ' V^-1 r of each worker's readings, for (n,) residuals r."""
        worker, conversation, question, rest = components
        of_question, inner, of_conversation, of_worker = self._inverse_sums(components)
        totals = np.bincount(self.question, residual) / (rest + question * self.sizes)
        sums = np.bincount(self.conversation, totals) / inner
        by_worker = np.bincount(self.worker, sums) / (1 + worker * of_worker)
        by_conversation = sums - of_conversation * worker * by_worker[self.worker]
        above = conversation * by_conversation + worker * by_worker[self.worker]
        by_question = totals - of_question * above[self.conversation]
        by_reading = (residual - (question * by_question + above[self.conversation])[self.question]) / rest
        whose = self.worker[self.conversation]
        return np.column_stack(
            [
                by_worker**2,
                np.bincount(self.worker, by_conversation**2),
                np.bincount(whose, by_question**2),
                np.bincount(whose[self.question], by_reading**2),
            ]
        )


def _parents(groups: np.ndarray, first: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes of the groups that things are in, and the first reading of each group, for the things' first readings."""
    _, index, codes = np.unique(groups, return_index=True, return_inverse=True)
    return codes, first[index]


def _totals(codes: np.ndarray, columns: np.ndarray, groups: int = 0) -> np.ndarray:
    """(groups, p) sums of (n, p) columns."""
    return np.stack([np.bincount(codes, column, minlength=groups) for column in columns.T], axis=1)


def _crossing(path: np.ndarray, falls: np.ndarray, cut: float) -> float:
    """Where on the path, at whose points the likelihood has fallen by these, it has by `cut`; its end if nowhere.

    Between points, the square root of the fall is taken for linear, as that of a parabola is.
    """
    beyond = np.flatnonzero(falls > cut)
    if not beyond.size:
        return float(path[-1])
    after = beyond[0]
    near, far = np.sqrt(np.maximum(falls[[after - 1, after]], 0))
    return float(path[after - 1] + (path[after] - path[after - 1]) * (np.sqrt(cut) - near) / (far - near))
