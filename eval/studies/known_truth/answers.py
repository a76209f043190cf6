"""From margins to answers: what a policy writes after DPO on each label source, judged by what is true.

python -m eval.studies.known_truth.answers --out docs/results/answers_by_truth.md

What was found in each study is kept in the folder `--work`, so that more of them can be added (`--seeds`). Remove it
after a change to the simulator or to this study.
"""

import argparse
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
import torch
from scipy import stats

from eval.studies.known_truth.policy import (
    BETA,
    MAX_TOKENS,
    Phrases,
    answers,
    dpo,
    learn_to_write,
    log_probs,
    new_policy,
)
from eval.studies.known_truth.quality import judge
from eval.studies.known_truth.world import (
    Written,
    model_labels,
    signs,
    study,
    topic_of,
    write,
)
from ifllm_hub.files import read_json, write_atomically
from ifllm_hub.pages.markdown import markdown_table
from ifllm_hub.reward.protocol.pairs import Pairs

FEW = 0.02
WHAT = {
    "truth": "the better answer",
    "explicit": "what the readers said",
    "explicit_2": f"what {FEW:.0%} of them said",
    "text": "a reward on the words, learned from another study",
    "forest": "the forest on mouse, gaze and length, learned from another study",
    "forest_mouse": "the forest on the mouse, learned from another study",
    "longer": "the longer answer",
    "shuffled": "what the readers said, of other pairs",
}
SFT = "sft"


@dataclass(frozen=True)
class Size:
    """How much is done in each study.

    Attributes:
        texts: questions, with two answers each, that the policy learns to write from.
        passes: over these.
        width: of the policy.
        steps: of DPO, of 8 pairs.
        rate: its largest learning rate.
        prompts: questions that every policy answers once.
        unseen: pairs of another study, of which it is asked what the policies prefer.
        workers, questions: of a simulated study.
    """

    texts: int = 2000
    passes: int = 2
    width: int = 64
    steps: int = 60
    rate: float = 1e-3
    prompts: int = 200
    unseen: int = 300
    workers: int = 60
    questions: int = 1400


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("runs/known_truth"), help="for studies and what was found")
    parser.add_argument("--out", type=Path, default=Path("runs/answers_by_truth.md"))
    parser.add_argument("--seeds", type=int, default=8, help="simulated studies")
    options = parser.parse_args()
    run(options.work, options.out, options.seeds, Size())


def run(work: Path, out: Path, seeds: int, size: Size) -> None:
    """Do what is missing and write the page."""
    found = []
    for seed in range(1, seeds + 1):
        file = work / f"answers-{seed}.json"
        if not file.is_file():
            write_atomically(file, json.dumps(one_study(work, seed, size), indent=1) + "\n")
        found.append(read_json(file))
    write_atomically(out, "\n".join([*page(found, size), check_of_the_judge(size.texts)]) + "\n")


def one_study(work: Path, seed: int, size: Size) -> dict[str, Any]:
    """Train a policy to write, and from there one on each label source; judge what they write and prefer."""
    torch.set_num_threads(1)
    # The models behind the labels come from the next study, and what the policies prefer is asked of the one after it.
    here, other, unseen = (study(work, seed + more, size.workers, size.questions) for more in (0, 1, 2))
    phrases = Phrases()
    policy = writer(phrases, seed, size)
    prompts = write(size.prompts, 10_000 + seed)
    pairs, tests = dialogues(phrases, here), dialogues(phrases, unseen)[: size.unseen]
    reference, test_reference = (margins(policy, of) for of in (pairs, tests))
    better = signs(unseen, "latent_preference")[: size.unseen]
    labels = all_labels(other, here, seed)
    truth = labels["truth"]
    start = judged(policy, phrases, prompts, seed)
    found: dict[str, Any] = {SFT: summary(start, start)}
    for name, label in labels.items():
        trained = dpo(policy, pairs, reference, label, size.steps, seed, size.rate)
        found[name] = summary(judged(trained, phrases, prompts, seed), start)
        moved = (margins(trained, tests) - test_reference).numpy()
        found[name] |= {
            "labels": int((label != 0).sum()),
            "right": float((label == truth)[label != 0].mean()),
            "accuracy": float((np.sign(moved) == better).mean()),
            "margin": float(BETA * np.abs(moved).mean()),
        }
    return found


def writer(phrases: Phrases, seed: int, size: Size) -> Any:
    """A policy that learned to write from answers of its own, which nobody rated."""
    texts = write(size.texts, 20_000 + seed)
    policy = new_policy(len(phrases), size.width, seed)
    learn_to_write(
        policy, [phrases.dialogue(one.query, answer, one.topic) for one in texts for answer in one.answers],
        size.passes, seed,
    )  # fmt: skip
    return policy


def all_labels(other: Pairs, here: Pairs, seed: int) -> dict[str, np.ndarray]:
    """Each label source: (pairs,) signs, 0 without a label; the models behind them learned from `other`."""
    rng = np.random.default_rng([seed, 5])
    said = signs(here)
    some = np.zeros(len(here), bool)
    some[rng.permutation(len(here))[: max(1, round(FEW * len(here)))]] = True
    found = {"truth": signs(here, "latent_preference"), "explicit": said, "explicit_2": np.where(some, said, 0)}
    return found | model_labels(other, here) | {"shuffled": rng.permutation(said)}


def dialogues(phrases: Phrases, pairs: Pairs) -> list[Any]:
    """(left, right) of each pair."""
    rows = pairs.rows.select("query", "response_left", "response_right").iter_rows()
    return [
        tuple(phrases.dialogue(query, answer, topic_of(query)) for answer in (left, right))
        for query, left, right in rows
    ]


def margins(policy: Any, pairs: list[Any]) -> torch.Tensor:
    """(pairs,) log-probability of the left answer less that of the right one, nats."""
    left, right = (log_probs(policy, [pair[side] for pair in pairs]) for side in (0, 1))
    return left - right


def judged(policy: Any, phrases: Phrases, prompts: list[Written], seed: int) -> dict[str, np.ndarray]:
    topics = [prompt.topic for prompt in prompts]
    return vars(judge(answers(policy, phrases, [prompt.query for prompt in prompts], topics, seed), topics))


def summary(of: dict[str, np.ndarray], start: dict[str, np.ndarray]) -> dict[str, float]:
    """Means over prompts, the SD of utility, and how often the answer is better than the first policy's."""
    wins = (1 + np.sign(of["utility"] - start["utility"])) / 2
    means = {name: float(values.mean()) for name, values in of.items()}
    return means | {"sd": float(of["utility"].std()), "wins": float(wins.mean())}


def page(found: list[dict[str, Any]], size: Size) -> Iterator[str]:
    """What was found in each study, as the page."""
    yield "# Answers after alignment, judged by what is true\n"
    yield "Written by `python -m eval.studies.known_truth.answers --out FILE`; do not edit.\n"
    sd = np.mean([one[SFT]["sd"] for one in found])
    labels = np.mean([one["truth"]["labels"] for one in found])
    yield paragraph(
        f"{len(found)} simulated studies (`--seeds {len(found)}`), {labels:.0f} rated pairs each on average. In each "
        f"of them a policy of two layers, which has learned to write from {2 * size.texts:,} of the simulator's "
        "answers, is tuned by DPO "
        f"(AdamW, {size.steps} steps of 8 pairs, beta {BETA:g}, no other loss, every label at its word, those of a "
        f"source again and again) on one label source at a time, and answers {size.prompts} new questions, with the "
        f"same random numbers for all, in at most {MAX_TOKENS} tokens of question and answer. The judge is the world "
        "itself: the utility that is expected of "
        "an answer with these words (`eval/studies/known_truth/quality.py`). Gains are over the policy before DPO; one "
        f"unit of utility is {1 / sd:.2f} SD of its answers. The learning rate is the best of three for `truth` in "
        "one of these studies, the fifth. The unit of the intervals is the study: 95 %, Student's t."
    )
    names = list(WHAT)
    head = ("trained on", ">labels", ">right", "gain in utility", "of it quality", "better than before DPO")
    yield markdown_table(
        head,
        (
            (
                f"`{name}`: {WHAT[name]}",
                f"{column(found, name, 'labels').mean():.0f}",
                f"{column(found, name, 'right').mean():.3f}",
                gain(found, name, "utility"),
                gain(found, name, "quality"),
                interval(column(found, name, "wins"), ".3f"),
            )
            for name in names
        ),
    )
    yield "\n" + paragraph(
        "Right: the share of labels that name the answer of higher utility. The rest of the gain in utility is length. "
        "In the next table, what the answers are like, and beside it what the same policies prefer among the pairs of "
        "another study: the margin is the mean absolute value, nats."
    )
    head = ("trained on", "code points", "definite sentences", "broken or repeated", "right on unseen pairs", ">margin")
    yield markdown_table(
        head,
        (
            (
                f"`{name}`",
                interval(column(found, name, "length"), ".0f"),
                interval(column(found, name, "definite"), ".3f"),
                interval(column(found, name, "other"), ".3f"),
                "" if name == SFT else interval(column(found, name, "accuracy"), ".3f"),
                "" if name == SFT else f"{column(found, name, 'margin').mean():.2f}",
            )
            for name in (SFT, *names)
        ),
    )
    yield "\n" + paragraph("Differences in gain between label sources, study by study:")
    against = [
        ("explicit", "truth"), ("forest", "explicit"), ("forest", "explicit_2"), ("forest", "text"),
        ("forest", "longer"), ("forest_mouse", "explicit_2"), ("forest_mouse", "longer"), ("explicit_2", "shuffled"),
    ]  # fmt: skip
    yield markdown_table(
        ("difference", "utility", "quality"),
        (
            (
                f"`{one}` - `{two}`",
                *(interval(column(found, one, what) - column(found, two, what)) for what in ("utility", "quality")),
            )
            for one, two in against
        ),
    )


def check_of_the_judge(questions: int) -> str:
    """Does the judge give the simulator's answers the utilities that the simulator knows?"""
    texts = write(questions, 30_000)
    found = judge(
        [answer for one in texts for answer in one.answers], [one.topic for one in texts for _ in one.answers]
    )
    utility = np.array([value for one in texts for value in one.utilities])
    quality = utility - (found.utility - found.quality)
    (r, slope), (r_quality, slope_quality) = (
        (np.corrcoef(judged, true)[0, 1], np.polyfit(judged, true, 1)[0])
        for judged, true in ((found.utility, utility), (found.quality, quality))
    )
    order = np.diff(found.utility.reshape(-1, 2)) * np.diff(utility.reshape(-1, 2)) > 0
    return paragraph(
        f"On {len(utility):,} answers that the simulator wrote, what the judge expects and what is true have a "
        f"correlation of {r:.3f} in utility and {r_quality:.3f} in quality, and the truth rises by {slope:.2f} and "
        f"{slope_quality:.2f} for each unit that the judge expects (1 is calibrated). The better of two answers is the "
        f"one that the judge prefers in {order.mean():.3f} of pairs: more cannot be read off the words."
    )


def column(found: list[dict[str, Any]], name: str, what: str) -> np.ndarray:
    """(studies,) one number of one policy."""
    return np.array([one[name][what] for one in found])


def gain(found: list[dict[str, Any]], name: str, what: str) -> str:
    return interval(column(found, name, what) - column(found, SFT, what))


def interval(values: np.ndarray, form: str = "+.2f") -> str:
    """The mean over studies with its interval; without one for a single study."""
    mean, low, high = (f"{end:{form}}" for end in ends(values))
    return mean if len(values) < 2 else f"{mean} [{low}, {high}]"


def ends(values: np.ndarray) -> tuple[float, float, float]:
    """The mean of independent values, and the ends of its 95 % interval by Student's t; NaN for a single value."""
    mean = float(values.mean())
    if len(values) < 2:
        return mean, math.nan, math.nan
    half = float(stats.t.isf(0.025, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values)))
    return mean, mean - half, mean + half


def paragraph(text: str) -> str:
    return fill(text, 120) + "\n"


if __name__ == "__main__":
    main()
