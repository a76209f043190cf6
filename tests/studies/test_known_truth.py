"""The true judge of the simulated world, the policy that writes its texts, and the two pages made with them."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from eval.studies.known_truth import answers, by_size
from eval.studies.known_truth import policy as policy_module
from eval.studies.known_truth.answers import Size
from eval.studies.known_truth.policy import MAX_TOKENS, Phrases, dpo, learn_to_write, log_probs, new_policy
from eval.studies.known_truth.policy import answers as write_answers
from eval.studies.known_truth.quality import Sentences, expected_quality, judge, sentences
from eval.studies.known_truth.world import Written, study, topic_of, write
from ifllm_hub.errors import IfllmError
from ifllm_hub.sources.simulation.text import TOPICS
from tests.conftest import few_trees

COFFEE = next(topic for topic in TOPICS if topic.name == "coffee brewing")
DEFINITE = "The grinder slows the pour, as every barista learns."
FILLER = "There are deep sides to coffee brewing, and it soon depends."
SMALLEST = Size(texts=12, passes=1, width=16, steps=2, prompts=3, unseen=8, workers=8, questions=100)


@pytest.fixture(scope="module")
def written() -> list[Written]:
    return write(150, seed=3)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", Sentences(0, 0, 0, 0)),
        (f"{DEFINITE} {FILLER}", Sentences(1, 1, 0, 0)),
        (f"## About coffee brewing\n### 🌊 The cup\n{DEFINITE}\n- **Cup**: {FILLER}", Sentences(1, 1, 0, 0)),
        (f"{DEFINITE} {DEFINITE} {DEFINITE}", Sentences(1, 0, 2, 0)),
        # Of another topic, out of order, and broken off at the end.
        ("The moon slows the pour, as every barista learns.", Sentences(0, 0, 0, 1)),
        ("The slows the pour grinder. Coffee is good.", Sentences(0, 0, 0, 2)),
        (f"{DEFINITE} Two things matter here: the cup", Sentences(1, 0, 0, 0)),
    ],
)
def test_sentences_are_counted(text: str, found: Sentences) -> None:
    assert sentences(text, COFFEE) == found


def test_expected_quality_is_the_mean_of_qualities_that_give_such_a_text() -> None:
    rng = np.random.default_rng(0)
    quality = rng.choice([0.0, 0.15, 0.35, -0.25], 400_000) + rng.normal(0, 0.85, 400_000)
    definite = rng.binomial(9, 1 / (1 + np.exp(-0.2 - 1.2 * quality)))
    found = expected_quality(np.arange(10), np.full(10, 9))
    assert found == pytest.approx([quality[definite == k].mean() for k in range(10)], abs=0.03)
    assert expected_quality(np.array([0]), np.array([0])) == pytest.approx(quality.mean(), abs=0.01)


def test_the_judge_is_calibrated_on_the_simulators_own_answers(written: list[Written]) -> None:
    texts = [answer for one in written for answer in one.answers]
    judged = judge(texts, [one.topic for one in written for _ in one.answers])
    utility = np.array([value for one in written for value in one.utilities])
    assert judged.other.mean() < 0.01
    assert np.corrcoef(judged.utility, utility)[0, 1] > 0.8
    slope, offset = np.polyfit(judged.utility, utility, 1)
    assert slope == pytest.approx(1, abs=0.12)
    assert offset == pytest.approx(0, abs=0.1)


def test_every_query_names_its_topic(written: list[Written]) -> None:
    assert len(written) == 150
    assert [topic_of(one.query) for one in written] == [one.topic for one in written]


def test_phrases_give_every_text_back(written: list[Written]) -> None:
    phrases = Phrases()
    for one in written:
        for text in (one.query, *one.answers):
            ids = phrases.encode(text, one.topic)
            assert phrases.decode(ids, one.topic) == text
            assert len(ids) < len(text) / 3
            assert max(ids) < len(phrases)
    with pytest.raises(IfllmError, match=r"Not a text of the simulator.*A price of 5 "):
        phrases.encode("A price of 5 €", COFFEE)


def test_the_words_of_all_topics_have_the_same_tokens() -> None:
    phrases = Phrases()
    ids = {tuple(phrases.encode(f"{topic.parts[2]}{topic.acts[1]}{topic.name}", topic)) for topic in TOPICS}
    assert len(ids) == 1


def test_a_policy_writes_what_it_learned_whatever_the_length_of_the_query() -> None:
    phrases = Phrases()
    known = {"explain coffee brewing in simple words": DEFINITE, 'What does "deep cup" mean?': FILLER}
    dialogues = [phrases.dialogue(query, answer, COFFEE) for query, answer in known.items()]
    assert len({start for _, start in dialogues}) == 2
    policy = new_policy(len(phrases), 32, 0)
    learn_to_write(policy, dialogues, passes=150, seed=0)
    assert write_answers(policy, phrases, list(known), [COFFEE, COFFEE], seed=0) == list(known.values())


def test_log_probs_are_those_of_the_answers_alone() -> None:
    phrases, policy = Phrases(), new_policy(len(Phrases()), 16, 0)
    dialogues = [phrases.dialogue("Why does the cup matter?", text, COFFEE) for text in (DEFINITE, f"{FILLER} " * 40)]
    assert len(dialogues[1][0]) == MAX_TOKENS
    for (ids, start), found in zip(dialogues, log_probs(policy, dialogues).tolist(), strict=True):
        with torch.no_grad():
            said = policy(torch.tensor([ids])).logits[0].log_softmax(-1)
        assert found == pytest.approx(sum(said[at - 1, ids[at]].item() for at in range(start, len(ids))), rel=1e-4)


def test_dpo_moves_the_margin_of_labeled_pairs_towards_the_label() -> None:
    phrases, policy = Phrases(), new_policy(len(Phrases()), 16, 0)
    before = [value.clone() for value in policy.parameters()]
    good, bad = (phrases.dialogue("Why does the cup matter?", text, COFFEE) for text in (DEFINITE, FILLER))
    for sign in (1, -1):
        trained = dpo(policy, [(good, bad)] * 3, torch.zeros(3), np.array([0, sign, 0]), steps=5, seed=0, rate=1e-2)
        moved = log_probs(trained, [good, bad]) - log_probs(policy, [good, bad])
        assert sign * (moved[0] - moved[1]) > 1
    assert all(torch.equal(old, new) for old, new in zip(before, policy.parameters(), strict=True))


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers of a few tokens, for time."""
    monkeypatch.setattr(policy_module, "MAX_TOKENS", 24)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("known_truth")
    for seed in (1, 2, 3):
        study(folder, seed, SMALLEST.workers, SMALLEST.questions)
    return folder


def test_a_study_has_the_truth_beside_what_readers_said(work: Path) -> None:
    rows = study(work, 1).rows
    better = np.where(rows["utility_left"] > rows["utility_right"], "left", "right")
    assert (rows["latent_preference"].to_numpy() == better).all()
    assert 0.6 < (rows["preference"] == rows["latent_preference"]).to_numpy().mean() < 1
    assert not set(rows["worker_id"]) & set(study(work, 2).rows["worker_id"])


@pytest.mark.usefixtures("short")
def test_the_page_on_answers(work: Path, tmp_path: Path) -> None:
    with few_trees():
        answers.run(work, tmp_path / "answers.md", 1, SMALLEST)
    page = (tmp_path / "answers.md").read_text(encoding="utf-8")
    assert all(f"| `{name}`: " in page for name in answers.WHAT)
    first = (work / "answers-1.json").read_bytes()
    answers.run(work, tmp_path / "again.md", 1, SMALLEST)
    assert (work / "answers-1.json").read_bytes() == first


@pytest.mark.usefixtures("short")
def test_the_page_on_sizes(work: Path, tmp_path: Path) -> None:
    with few_trees():
        by_size.run(work, tmp_path / "sizes.md", 2, 3, (4, 25), SMALLEST)
    page = (tmp_path / "sizes.md").read_text(encoding="utf-8")
    assert all(f"| `{name}`: " in page for name in by_size.WHAT)
    assert "](sizes.svg)" in page
    assert (tmp_path / "sizes.svg").read_text().startswith("<?xml")


def test_labels_of_a_rule_that_the_policy_sees_are_learned() -> None:
    """By the first order: a direction of the gradients decides, and noise in the labels costs accuracy."""
    rng = np.random.default_rng(0)
    phi = rng.normal(size=(600, 20))
    better = np.sign(phi[:, 0]).astype(np.int8)
    train, test = better[:400], better[400:]
    noisy = np.where(rng.random(400) < 0.35, -train, train)
    shuffled = rng.permutation(train)
    found = by_size.accuracy(phi @ phi.T, np.column_stack([train, noisy, shuffled]), test, seed=0)
    assert found[0] > 0.9 > found[1] > 0.65
    assert 0.3 < found[2] < 0.7


def test_intervals_are_those_of_student() -> None:
    mean, low, high = answers.ends(np.array([1.0, 2.0, 3.0, 6.0]))
    assert mean == 3
    # t of 3 degrees of freedom is 3.182, and the standard error 2.160 / 2.
    assert (low, high) == pytest.approx((3 - 3.182 * 1.0801, 3 + 3.182 * 1.0801), abs=1e-3)
    assert re.fullmatch(r"\+1\.00", answers.interval(np.array([1.0])))
