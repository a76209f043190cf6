"""What happens between two changes of the model: people ask, read, and say what they think."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from eval.studies.loop.readers import Person, people, prefers_left, ratings, read
from eval.studies.loop.site import Site
from eval.studies.loop.writer import Question, Written, answered, questions
from ifllm_hub.collect.experiment.assign import Assignment, assign

EXPERIMENT = "which labels"
_KEY = "a secret of the simulated site"
# How often somebody presses a thumb.
_THUMBS = 0.3


def collect_pairs(site: Site, model: Path, raters: int, each: int, seed: int) -> None:
    """People ask, read two answers of one model side by side, and say which they prefer.

    Args:
        each: how many questions each person asks.
    """
    rng = np.random.default_rng([seed, 10])
    asked = questions(raters * each, seed + 2)
    left, right = (answered(model, asked, seed + side) for side in (0, 1))
    everyone = [person for person in people("rater", raters, seed) for _ in range(each)]
    for number, (person, question, *pair) in enumerate(zip(everyone, asked, left, right, strict=True)):
        if pair[0].text == pair[1].text:
            continue  # nothing to prefer
        is_left = prefers_left(rng, *(answer.utility for answer in pair))
        tokens = _shown(rng, site, f"pair-{number}", person, question, model.name, pair, 0 if is_left else 1)
        site.rate(tokens[0], preference="left" if is_left else "right")


def run_experiment(
    site: Site, models: Mapping[str, Path], weights: Mapping[str, float], readers: int, each: int, seed: int
) -> None:
    """New people ask, get one answer each time, from the model of their arm, and rate it; some press a thumb.

    Args:
        models, weights: by arm.
        each: how many questions each person asks.
    """
    rng = np.random.default_rng([seed, 11])
    asked = questions(readers * each, seed + 3)
    everyone = [person for person in people("reader", readers, seed + 1) for _ in range(each)]
    arms = [assign(person.id, EXPERIMENT, weights, _KEY) for person in everyone]
    for arm, model in models.items():
        theirs = [at for at, assigned in enumerate(arms) if assigned.arm == arm]
        answers = answered(model, [asked[at] for at in theirs], seed)
        for at, answer in zip(theirs, answers, strict=True):
            person = everyone[at]
            said = int(ratings(rng, np.array([answer.utility]), person.generosity)[0])
            thumb = (1 if said >= 4 else -1) if rng.random() < _THUMBS else None
            tokens = _shown(rng, site, f"single-{at}", person, asked[at], model.name, [answer], 0, arms[at], thumb)
            site.rate(tokens[0], rating=said)


def _shown(
    rng: np.random.Generator,
    site: Site,
    name: str,
    person: Person,
    question: Question,
    model: str,
    answers: Sequence[Written],
    chosen: int,
    arm: Assignment | None = None,
    thumb: int | None = None,
) -> list[str]:
    """Answers are registered and read; the tokens of their page."""
    tokens = site.register(person, name, question.query, [(model, answer.text) for answer in answers], arm)
    texts, utilities = [answer.text for answer in answers], [answer.utility for answer in answers]
    site.report(person, tokens, read(rng, person, texts, utilities, chosen, thumb))
    return tokens
