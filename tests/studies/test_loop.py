"""The loop on simulated readers: the parts against what they say they are, and all of it once, small."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import stats

from eval.studies.known_truth.policy import END, PAD
from eval.studies.known_truth.quality import judge
from eval.studies.loop.coverage import Design, coverage
from eval.studies.loop.end_to_end import CONTROL, WEIGHTS, Size, loop
from eval.studies.loop.page import share_right
from eval.studies.loop.readers import GENEROSITY_SD, expected_rating, people, prefers_left, ratings, read
from eval.studies.loop.writer import questions
from ifllm_hub.align.policies import small_tokenizer
from ifllm_hub.collect import wire
from ifllm_hub.dataset.load import load_config
from tests.collect.client import batch
from tests.collect.store.processes import free_port


def test_the_true_mean_rating_is_that_of_many_readers() -> None:
    rng = np.random.default_rng(0)
    utilities = np.array([-4.0, -2.0, -1.0, 0.0, 2.0])
    n = 40_000
    said = np.array([ratings(rng, np.full(n, one), rng.normal(0, GENEROSITY_SD, n)) for one in utilities])
    assert set(np.unique(said)) == {1, 2, 3, 4, 5}
    errors = said.std(axis=1) / np.sqrt(n)
    assert (np.abs(said.mean(axis=1) - expected_rating(utilities)) < 4 * errors + 1e-3).all()


def test_the_better_answer_is_preferred_more_often_the_better_it_is() -> None:
    rng = np.random.default_rng(1)
    shares = [np.mean([prefers_left(rng, gap, 0.0) for _ in range(4_000)]) for gap in (-0.4, 0.0, 0.4, 4.0)]
    assert shares == pytest.approx([0.269, 0.5, 0.731, 1.0], abs=0.03)


@pytest.mark.parametrize("texts", [["The pendulum swings. " * 9], ["A short one."] * 2, ["Long. " * 300, "Short."]])
def test_a_reading_is_what_a_page_sends(texts: list[str]) -> None:
    rng = np.random.default_rng(2)
    (person,) = people("reader", 4, 0)[:1]
    reading = read(rng, person, texts, [0.5, -0.5][: len(texts)], 0, thumb=-1)
    tokens = [f"answer{number}.{'s' * 43}" for number in range(len(texts))]
    for sequence, part in enumerate(reading.batches):
        wire.parse(wire.Batch, json.dumps(batch(tokens, 0, sequence, **part)).encode())
    ticks = np.array(reading.ticks)
    assert len(ticks) > 10
    assert (np.diff(ticks[:, 0]) >= 0).all()
    for answer, text in enumerate(texts):
        places = ticks[ticks[:, 1] == answer, 4]
        assert len(places)
        assert 0 <= places.min() <= places.max() <= len(text)
    assert [event[3] for event in reading.events if event[1] == "thumb"] == [-1]
    leaves = sum(event[1] == "leave" for event in reading.events)
    assert leaves >= 1 + (np.diff(ticks[:, 1]) != 0).sum()


@pytest.mark.parametrize("gap", [0.0, 0.7])
def test_repeated_experiments_hold_the_truth(gap: float) -> None:
    rng = np.random.default_rng(3)
    control = rng.normal(-1.5, 0.7, 300)
    found = coverage(control, control + gap, Design(60, 0.5), 150, 0)
    assert (found.truth == 0) == (gap == 0)
    assert stats.binomtest(round(150 * found.held), 150, 0.95).pvalue > 0.001
    if gap == 0:
        assert found.held + found.rejected == pytest.approx(1)
    else:
        assert found.rejected > 0.5


def test_labels_that_name_the_better_answer() -> None:
    (question,) = questions(1, 0)
    part = question.part
    good = f"The {part} {question.topic.acts[0]}, {question.topic.reasons[0]}."
    bad = f"As with most things, opinions on the {part} slowly differ."
    assert np.diff(judge([bad, good], [question.topic] * 2).utility) > 0
    rows = [(good, bad), (good, bad), (bad, good)]
    message = [[{"role": "user", "content": question.query}]]
    labels = pl.DataFrame(
        {
            "prompt": message * 3,
            "chosen": [[{"role": "assistant", "content": chosen}] for chosen, _ in rows],
            "rejected": [[{"role": "assistant", "content": rejected}] for _, rejected in rows],
        }
    )
    assert share_right(labels) == pytest.approx(2 / 3)


def test_the_tokenizer_has_the_special_tokens_of_the_policy() -> None:
    tokenizer = small_tokenizer(["a few words", "a few more"], 300)
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id) == (PAD, END)


@pytest.mark.slow
def test_once_around_on_readers_that_are_known(tmp_path: Path) -> None:
    """With a model that has learned next to nothing: the path, and that the page's numbers are those of its parts."""
    size = Size(texts=64, passes=1, width=32, raters=12, pairs=2, readers=20, asked=2, pool=16, experiments=20)
    page = loop(tmp_path, size, 0, free_port())
    pairs, rated = (load_config(tmp_path / name, "signals") for name in ("pairs", "rated"))
    assert pairs["arm"].null_count() == pairs.height
    rated = rated.drop_nulls("arm")
    assert (rated.height, rated["worker_id"].n_unique()) == (40, 20)
    assert {arm: WEIGHTS[arm] for arm in rated["arm"].unique()} == pytest.approx(
        dict(rated.select("arm", "propensity").unique().iter_rows())
    )
    written = json.loads((tmp_path / "report" / "arms.json").read_text())
    assert [arm["arm"] for arm in written["arms"]] == list(WEIGHTS)
    assert written["sample_ratio"]["p"] > 1e-6
    for said in ("## The models", "## The report beside the truth", f"{CONTROL} (A/A)", "| judged |"):
        assert said in page
    assert loop(tmp_path, size, 0, free_port()) == page  # what is there is taken
