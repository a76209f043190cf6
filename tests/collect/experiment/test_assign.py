"""Who is in which arm: shares, stickiness, independence of experiments, and what no experiment accepts."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ifllm_hub.collect import wire
from ifllm_hub.collect.experiment.assign import assign
from ifllm_hub.errors import IfllmError

KEY = "a secret that stays"
PEOPLE = [f"person-{number}" for number in range(20_000)]
UNPRINTABLE = "".join(map(chr, (*range(32), 127)))
WEIGHTS = st.dictionaries(
    st.text(st.characters(codec="utf-8", exclude_characters=UNPRINTABLE), min_size=1, max_size=64),
    st.floats(0, 1e300),
    min_size=1,
    max_size=6,
).filter(lambda weights: 0 < sum(weights.values()) < float("inf"))


@pytest.mark.parametrize("weights", [{"A": 1, "B": 1}, {"A": 9, "B": 1}, {"A": 0.2, "B": 0.3, "C": 0.5, "D": 0}])
def test_shares_match_the_weights(weights: dict[str, float]) -> None:
    found = Counter(assign(person, "shares", weights, KEY).arm for person in PEOPLE)
    total = sum(weights.values())
    some = {arm: weight for arm, weight in weights.items() if weight}
    assert set(found) == set(some)
    expected = [len(PEOPLE) * weight / total for weight in some.values()]
    assert stats.chisquare([found[arm] for arm in some], expected).pvalue > 1e-4


@given(st.text(), st.text(), WEIGHTS, st.text(min_size=1).filter(str.isascii))
def test_any_assignment(person: str, experiment: str, weights: dict[str, float], key: str) -> None:
    """The same at each call, in an arm that has a weight, with that arm's share, as a registration takes it."""
    arm, propensity = assign(person, experiment, weights, key)
    assert assign(person, experiment, weights, key) == (arm, propensity)
    assert weights[arm] > 0
    assert 0 < propensity <= 1
    ids = {
        "person": "p",
        "question_id": "q",
        "conversation": "c",
        "side": "left",
        "text": "",
        "query": "",
        "model": "m",
    }
    assert wire.Registration(**ids, arm=arm, propensity=propensity).arm == arm  # type: ignore[arg-type]


def test_who_joins_moves_nobody_and_who_grows_keeps_its_people() -> None:
    """An assignment depends on nobody else; and of a growing arm nobody leaves."""
    narrow, wide = ({"A": 1 - share, "B": share} for share in (0.1, 0.4))
    before, after = ({p for p in PEOPLE if assign(p, "ramp", weights, KEY).arm == "B"} for weights in (narrow, wide))
    assert before < after
    assert assign(PEOPLE[0], "ramp", narrow, KEY) == assign(PEOPLE[0], "ramp", dict(narrow), KEY)


@pytest.mark.parametrize("other", [("another", KEY), ("one", "another secret")])
def test_experiments_and_keys_are_independent(other: tuple[str, str]) -> None:
    halves = {"A": 1, "B": 1}
    table = Counter((assign(p, "one", halves, KEY).arm, assign(p, other[0], halves, other[1]).arm) for p in PEOPLE)
    counts = [[table[one, two] for two in "AB"] for one in "AB"]
    assert stats.chi2_contingency(counts).pvalue > 1e-4


@pytest.mark.parametrize(
    ("weights", "key", "said"),
    [
        ({}, KEY, "No arm of the experiment 'x' has a weight"),
        ({"A": 0}, KEY, "No arm of the experiment 'x' has a weight"),
        ({"A": 1, "B": -1}, KEY, "The weight of the arm 'B' is -1"),
        ({"A": float("nan")}, KEY, "is nan"),
        ({"A": float("inf")}, KEY, "is inf"),
        ({"A": 1e308, "B": 1e308}, KEY, "add up"),
        ({"": 1}, KEY, "not a name of an arm"),
        ({"A\n": 1}, KEY, "not a name of an arm"),
        ({"a" * 65: 1}, KEY, "not a name of an arm"),
        ({"A": 1}, "", "key of an experiment is empty"),
    ],
)
def test_what_no_experiment_accepts(weights: dict[str, float], key: str, said: str) -> None:
    with pytest.raises(IfllmError, match=said):
        assign("ada", "x", weights, key)
