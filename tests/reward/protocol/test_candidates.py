"""The models that are compared: what each may know, and that none learns from a test label."""

import numpy as np
import polars as pl
import pytest

from ifllm_hub.preferences.labels import MODELS
from ifllm_hub.reward.protocol.candidates import (
    FULL,
    LONGER_ANSWER,
    TEXT_CONTRAST,
    Candidate,
    always_left,
    llm_identity,
    logistic,
    longer,
    majority,
    nested,
    text,
)
from ifllm_hub.reward.protocol.folds import FitPredict, correct, out_of_fold
from ifllm_hub.reward.protocol.pairs import FEATURES, Pairs, with_past_habit
from tests.conftest import few_trees
from tests.reward.made import made


def test_majority_says_the_training_share() -> None:
    train, test = made([True, True, True, False], [1, 1, 2, 2]), made([False, False], [3, 3])
    assert majority(train, test, 0).tolist() == [0.75, 0.75]


def test_always_left_is_certain() -> None:
    train, test = made([False, True], [1, 2]), made([False, True], [3, 3])
    assert always_left(train, test, 0).tolist() == [1, 1]


def test_the_rule_takes_the_longer_answer_and_the_baseline_agrees_with_it(pairs: Pairs) -> None:
    some = made([True] * 3, [1] * 3, length_log_ratio=[0.3, -0.1, 0.0])
    assert longer(some).tolist() == [1, 0, 0.5]
    baseline = out_of_fold(pairs, LONGER_ANSWER.fit, "worker", 2)
    assert (correct(baseline, pairs.y) == correct(longer(pairs), pairs.y)).all()


def test_longer_answer_follows_the_length_and_never_the_side() -> None:
    ratios = [1.0, -1.0, 2.0, -2.0, 0.5, 0.4, 0.3, 0.2]
    left = [True, False, True, False, True, True, True, True]
    train = made(left, [1] * 8, length_log_ratio=ratios)
    test = made([True] * 4, [2] * 4, length_log_ratio=[3.0, -3.0, 0.0, None], mouse_dwell_log_ratio=[-9.0, 9, 9, 9])
    probability = LONGER_ANSWER.fit(train, test, 0)
    assert probability[0] > 0.6
    assert probability[0] == pytest.approx(1 - probability[1])
    assert probability[2:].tolist() == [0.5, 0.5]
    contrary = made([not one for one in left], [1] * 8, length_log_ratio=ratios)
    assert LONGER_ANSWER.fit(contrary, test, 0) == pytest.approx(1 - probability)


def of_llms(left: list[str], right: list[str], preferred_left: list[bool]) -> Pairs:
    pairs = made(preferred_left, [1] * len(left))
    return Pairs(pairs.rows.with_columns(model_left=pl.Series(left), model_right=pl.Series(right)))


def test_llm_identity_ranks_the_llms_and_not_the_sides() -> None:
    train = of_llms(["a", "b", "b", "c", "a", "c"] * 4, ["b", "a", "c", "b", "c", "a"] * 4, [True, False] * 12)
    test = of_llms(["a", "b", "a", "b", "a", "new", "new"], ["b", "a", "c", "c", "a", "newer", "b"], [True] * 7)
    a_b, b_a, a_c, b_c, a_a, unknown, new_b = llm_identity(train, test, 0)
    assert a_c > a_b > 0.5
    assert b_c > 0.5
    assert a_b == pytest.approx(1 - b_a)
    assert a_a == unknown == 0.5
    assert abs(new_b - 0.5) < abs(a_c - 0.5)


def of_texts(contrast: np.ndarray, left: np.ndarray) -> Pairs:
    pairs = made(left.tolist(), (np.arange(len(left)) // 5).tolist(), length_log_ratio=np.zeros(len(left)))
    return Pairs(pairs.rows.with_columns(pl.Series(TEXT_CONTRAST, contrast, dtype=pl.Array(pl.Float32, 24))))


def test_text_model_finds_a_direction_and_is_antisymmetric() -> None:
    generator = np.random.default_rng(0)
    contrast = generator.normal(size=(300, 24)) * np.linspace(3, 0.1, 24)
    left = contrast[:, 0] + generator.normal(size=300) > 0
    train, test = of_texts(contrast[:200], left[:200]), of_texts(contrast[200:], left[200:])
    probability = text(0.1)(train, test, 0)
    assert correct(probability, test.y).mean() > 0.75
    assert text(0.1)(train, of_texts(-contrast[200:], left[200:]), 0) == pytest.approx(1 - probability, abs=1e-6)


@pytest.mark.parametrize(
    "candidate",
    [
        *(
            pytest.param(one, id=one.name, marks=pytest.mark.slow if one.name == "nested choice" else ())
            for one in FULL
        ),
        pytest.param(Candidate("a quick choice", nested((LONGER_ANSWER.fit, majority, logistic(FEATURES, 0.1))))),
    ],
)
def test_no_model_looks_at_a_test_label(candidate: Candidate, pairs: Pairs) -> None:
    """Turned round, they leave every prediction the same to the bit; also where the model chooses among models."""
    generator = np.random.default_rng(0)
    contrast = pl.Series(TEXT_CONTRAST, generator.normal(size=(len(pairs), 24)), dtype=pl.Array(pl.Float32, 24))
    rows = pairs.rows.with_columns(contrast)
    train, test = Pairs(rows[:100]), rows[100:]
    turned = test.with_columns(pl.col("preference").replace({"left": "right", "right": "left"}))
    with few_trees():
        probability, again = (candidate.fit(train, Pairs(of), 0) for of in (test, turned))
    assert probability.shape == (test.height,)
    assert ((probability >= 0) & (probability <= 1)).all()
    assert np.array_equal(probability, again)


def test_nested_takes_the_better_option_and_looks_at_whole_workers() -> None:
    generator = np.random.default_rng(0)
    ratios = generator.normal(size=(2, 120))
    left = (ratios[0] + 0.3 * generator.normal(size=120) > 0).tolist()
    workers = (np.arange(120) // 8).tolist()
    pairs = made(left, workers, length_log_ratio=ratios[0], mouse_dwell_log_ratio=ratios[1])
    train, test = Pairs(pairs.rows[:80]), Pairs(pairs.rows[80:])
    good, bad = LONGER_ANSWER.fit, logistic(("mouse_dwell_log_ratio",))
    seen: list[tuple[set[str], set[str]]] = []

    def spy(kept: Pairs, held_out: Pairs, seed: int) -> np.ndarray:
        seen.append((set(kept.rows["worker_id"]), set(held_out.rows["worker_id"])))
        return bad(kept, held_out, seed)

    for options in ((spy, good), (good, spy)):
        assert np.array_equal(nested(options)(train, test, 0), good(train, test, 0))
    assert len(seen) == 8, "four inner folds each, and none of them the test pairs"
    for kept, held_out in seen:
        assert not kept & held_out
        assert kept | held_out == set(train.rows["worker_id"])


def with_all(pairs: Pairs) -> Pairs:
    """With the columns that some models read: the LLMs and a contrast of embeddings."""
    generator = np.random.default_rng(0)
    contrast = pl.Series(TEXT_CONTRAST, generator.normal(size=(len(pairs), 24)), dtype=pl.Array(pl.Float32, 24))
    llms = {f"model_{side}": pl.Series(generator.choice(["x", "y", "z"], len(pairs))) for side in ("left", "right")}
    return Pairs(pairs.rows.with_columns(contrast, **llms))


@pytest.mark.parametrize("count", [1, 2, 30])
@pytest.mark.parametrize("candidate", [one for one in FULL if one.name != "nested choice"], ids=lambda one: one.name)
def test_training_pairs_that_all_prefer_one_side(candidate: Candidate, count: int, pairs: Pairs) -> None:
    """A fold may have such pairs, or hardly any, where the dataset as a whole has enough of both kinds."""
    some = with_all(pairs)
    sided = Pairs(some.rows[:count].with_columns(preference=pl.lit("right")))
    with few_trees():
        probability = candidate.fit(sided, Pairs(some.rows[count:]), 0)
    assert probability.shape == (len(some) - count,)
    assert ((probability >= 0) & (probability <= 1)).all()


@pytest.mark.parametrize("fit", MODELS.values(), ids=MODELS)
def test_a_label_source_that_learned_from_nothing_knows_nothing(fit: FitPredict, pairs: Pairs) -> None:
    assert (fit(Pairs(pairs.rows[:0]), pairs, 0) == 0.5).all()


@pytest.mark.parametrize("name", ["longer answer", "logistic: mouse + gaze + length", "forest: mouse + gaze + length"])
def test_which_side_an_answer_stood_on_does_not_matter(name: str, pairs: Pairs) -> None:
    """So pairs that all prefer the left answer teach what they teach with the answers of one pair exchanged."""
    (candidate,) = (one for one in FULL if one.name == name)
    sided = pairs.rows[:100].with_columns(preference=pl.lit("left"))
    third = pl.int_range(pl.len()) == 3
    other = sided.with_columns(
        *(pl.when(third).then(-pl.col(name)).otherwise(name).alias(name) for name in with_past_habit(FEATURES)),
        preference=pl.when(third).then(pl.lit("right")).otherwise("preference"),
    )
    test = Pairs(pairs.rows[100:])
    expected = candidate.fit(Pairs(other), test, 0)
    assert candidate.fit(Pairs(sided), test, 0) == pytest.approx(expected, abs=1e-6)


def test_among_pairs_of_one_worker_nothing_is_chosen() -> None:
    train = made([True, False, True, True], [1] * 4, length_log_ratio=[1.0, -1.0, 0.5, -0.5])
    test = made([True], [2], length_log_ratio=[2.0])
    assert nested((LONGER_ANSWER.fit, majority))(train, test, 0) == LONGER_ANSWER.fit(train, test, 0)
