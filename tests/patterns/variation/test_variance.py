"""Shares of variance: against statsmodels, dense matrices, and simulated studies of known shares."""

import numpy as np
import polars as pl
import pytest

from ifllm_hub.patterns.variation.variance import LEVELS, Nested, decompositions

# Conversations of each worker: a few workers have most of them, as in the study.
_CONVERSATIONS = (30, 18, 12, 9, 7, 6, 5, 5, 4, 4, 3, 3, 3, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1)


def _design(conversations: tuple[int, ...] = _CONVERSATIONS, sides: int = 2) -> list[np.ndarray]:
    """Worker, conversation, question and number of each reading; three questions each, of one and of two answers."""
    whose = np.repeat(np.arange(len(conversations)), conversations)
    of_question = np.repeat(np.arange(len(whose)), 3)
    answers = np.repeat(np.arange(len(of_question)), np.where(of_question % 2, sides, 1))
    conversation = of_question[answers]
    return [whose[conversation], conversation, answers, np.arange(len(answers))]


def _values(groups: list[np.ndarray], shares: tuple[float, ...], seed: int, skewed: bool = False) -> np.ndarray:
    rng = np.random.default_rng(seed)
    draw = (lambda size: rng.exponential(size=size) - 1) if skewed else (lambda size: rng.standard_normal(size))
    parts = (np.sqrt(share) * draw(codes.max() + 1)[codes] for share, codes in zip(shares, groups, strict=True))
    return np.asarray(sum(parts))


# More than there are; every other was recorded on a slower computer.
QUESTIONS = pl.DataFrame({"question_id": range(2_000), "tick_ms": [70.0, 90.0] * 1_000})


def _nested(values: np.ndarray, groups: list[np.ndarray]) -> Nested:
    return Nested(values, *groups[:3], np.empty((len(values), 0)))


def _table(values: np.ndarray, groups: list[np.ndarray], measure: str = "coverage") -> pl.DataFrame:
    worker, conversation, question, _ = groups
    return pl.DataFrame(
        {
            "worker_id": worker,
            "conversation_id": conversation,
            "question_id": question,
            "length": np.arange(100, 100 + len(values)),
            "mode": "pairwise",
            "modality": "mouse",
            "measure": measure,
            "value": values,
        }
    )


def test_likelihood_is_that_of_the_whole_covariance_matrix() -> None:
    groups = _design((4, 2, 1))
    fixed = np.random.default_rng(1).standard_normal((len(groups[0]), 1))
    values = _values(groups, (0.3, 0.2, 0.1, 0.4), 0)
    nested = Nested(values, *groups[:3], fixed)
    design = np.column_stack([np.ones(len(values)), fixed])

    def dense(shares: np.ndarray) -> float:
        covariance = sum(s * np.equal.outer(codes, codes) for s, codes in zip(shares, groups, strict=True))
        inverse = np.linalg.inv(covariance)
        information = design.T @ inverse @ design
        residual = values - design @ np.linalg.solve(information, design.T @ inverse @ values)
        return float(
            -0.5
            * (
                (len(values) - 2) * np.log(residual @ inverse @ residual)
                + np.linalg.slogdet(covariance)[1]
                + np.linalg.slogdet(information)[1]
            )
        )

    shares = np.array([[0.3, 0.2, 0.1, 0.4], [0.0, 0.5, 0.2, 0.3], [0.7, 0.0, 0.0, 0.3]])
    assert nested.log_likelihood(shares) == pytest.approx([dense(one) for one in shares], abs=1e-8)


def test_scores_are_slopes_of_the_likelihood_of_each_worker() -> None:
    groups = _design((4, 2, 1))
    residual = _values(groups, (0.3, 0.2, 0.1, 0.4), 0)
    nested = _nested(residual, groups)
    components = np.array([0.5, 0.3, 0.2, 0.7])

    def dense(worker: int, components: np.ndarray) -> float:
        own = groups[0] == worker
        covariance = sum(v * np.equal.outer(g[own], g[own]) for v, g in zip(components, groups, strict=True))
        return float(
            -0.5 * (np.linalg.slogdet(covariance)[1] + residual[own] @ np.linalg.solve(covariance, residual[own]))
        )

    expected = [
        [(dense(worker, components + step) - dense(worker, components - step)) / 2e-5 for step in 1e-5 * np.eye(4)]
        for worker in range(3)
    ]
    scores = 0.5 * (nested._squares(components, residual) - nested._traces(components))
    assert scores == pytest.approx(np.array(expected), rel=1e-4, abs=1e-5)


def test_shares_are_those_of_statsmodels() -> None:
    formula = pytest.importorskip("statsmodels.formula.api")
    groups = _design((6, 5, 4, 4, 3, 3, 2, 2))
    values = _values(groups, (0.4, 0.2, 0.1, 0.3), 3)
    frame = _table(values, groups).to_pandas()
    inner = {"conversation": "0 + C(conversation_id)", "question": "0 + C(question_id)"}
    fit = formula.mixedlm("value ~ 1", frame, groups="worker_id", re_formula="1", vc_formula=inner).fit(reml=True)
    variances = np.array([fit.cov_re.iloc[0, 0], *fit.vcomp, fit.scale])
    nested = _nested(values, groups)
    shares = nested.estimate()
    assert shares == pytest.approx(variances / variances.sum(), abs=0.01)
    assert nested.variance(shares) == pytest.approx(variances.sum(), rel=0.02)


@pytest.mark.parametrize("shares", [(0.5, 0.2, 0.1, 0.2), (0.0, 0.3, 0.0, 0.7)])
def test_intervals_hold_the_truth_and_the_estimate(shares: tuple[float, ...]) -> None:
    groups = _design()
    nested = _nested(_values(groups, shares, 5), groups)
    found = nested.intervals(nested.estimate())
    assert list(found) == list(LEVELS)
    assert sum(one["mean"] for one in found.values()) == pytest.approx(1)
    for truth, one in zip(shares, found.values(), strict=True):
        assert 0 <= one["low"] <= one["mean"] <= one["high"] <= 1
        assert one["low"] <= truth <= one["high"]


@pytest.mark.slow
@pytest.mark.parametrize("skewed", [False, True])
@pytest.mark.parametrize("shares", [(0.3, 0.1, 0.2, 0.4), (0.0, 0.1, 0.0, 0.9)])
def test_coverage(shares: tuple[float, ...], skewed: bool) -> None:
    groups = _design()
    hits = np.zeros(4)
    for seed in range(60):
        nested = _nested(_values(groups, shares, seed, skewed), groups)
        found = nested.intervals(nested.estimate()).values()
        hits += [one["low"] <= truth <= one["high"] for truth, one in zip(shares, found, strict=True)]
    # 54 of 60 are 90 %; two standard errors of such a count are 5.
    assert hits.min() >= 49


def test_a_covariate_takes_its_variance_away() -> None:
    groups = _design()
    noise = _values(groups, (0.1, 0.0, 0.0, 0.9), 0)
    lengths = np.exp(_values(groups, (0.0, 1.0, 0.0, 0.0), 1) + 5)
    table = _table(noise + 2 * np.log(lengths), groups).with_columns(length=pl.Series(lengths))
    raw, given = decompositions(table, QUESTIONS)
    assert (raw.given, given.given) == ("", "length")
    assert raw.shares["conversation"]["low"] <= 0.8 <= raw.shares["conversation"]["high"]
    assert given.shares["conversation"]["mean"] < raw.shares["conversation"]["low"]
    assert given.deviation == pytest.approx(1, abs=0.2)


def test_measures_of_a_pair_have_no_rest() -> None:
    groups = _design(sides=1)
    values = _values(groups, (0.5, 0.2, 0.3, 0.0), 0)
    (one, _) = decompositions(_table(values, groups, "switch_rate"), QUESTIONS)
    assert list(one.shares) == ["worker", "conversation", "question"]
    assert (one.workers, one.conversations, one.n) == (24, 125, 375)


def test_order_of_rows_and_unit_do_not_matter() -> None:
    groups = _design()
    values = _values(groups, (0.3, 0.2, 0.1, 0.4), 0)
    (one, _) = decompositions(_table(values, groups), QUESTIONS)
    (other, _) = decompositions(_table(1000 * values, groups), QUESTIONS)
    for level, share in one.shares.items():
        assert dict(other.shares[level]) == pytest.approx(dict(share), abs=1e-6)
    assert other.deviation == pytest.approx(1000 * one.deviation)


def test_what_cannot_be_decomposed_is_absent() -> None:
    groups = _design((3, 2, 2, 2))
    assert decompositions(_table(_values(groups, (1, 0, 0, 1), 0), groups), QUESTIONS) == []
    groups = _design()
    assert decompositions(_table(np.ones(len(groups[0])), groups), QUESTIONS) == []
    assert decompositions(_table(np.full(len(groups[0]), -1.0), groups, "dwell"), QUESTIONS) == []
