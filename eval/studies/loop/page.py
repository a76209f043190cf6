"""What the loop found, beside what is true, as a page."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill

import numpy as np
import polars as pl

from eval.studies.known_truth.quality import judge
from eval.studies.known_truth.world import topic_of
from eval.studies.loop.coverage import Coverage, Design
from eval.studies.loop.readers import expected_rating
from eval.studies.loop.writer import Written
from ifllm_hub.collect.experiment.compare import Comparison
from ifllm_hub.collect.experiment.page import HEAD, notes, rows
from ifllm_hub.dataset.load import load_config
from ifllm_hub.dataset.schema import preferences_config
from ifllm_hub.pages.markdown import markdown_table
from ifllm_hub.sources.simulation.people import length_utility


@dataclass(frozen=True)
class Truth:
    """What is true of an arm's model.

    Attributes:
        utilities: (answers,) of answers to fresh questions.
        lengths: (answers,) code points.
        quality: (answers,) the part of the utility that is not length.
        labels, right: of the label source that it was tuned on: how many, and the share that names the better answer.
    """

    utilities: np.ndarray
    lengths: np.ndarray
    quality: np.ndarray
    labels: int
    right: float | None

    @classmethod
    def of(cls, pool: list[Written], pairs: Path, source: str | None) -> "Truth":
        labels = None if source is None else load_config(pairs, preferences_config(source))
        utilities = np.array([one.utility for one in pool])
        return cls(
            utilities,
            np.array([len(one.text) for one in pool]),
            utilities - [length_utility(one.text or " ") for one in pool],
            0 if labels is None else labels.height,
            None if labels is None else share_right(labels),
        )

    @property
    def rating(self) -> float:
        """The true mean rating."""
        return float(expected_rating(self.utilities).mean())

    @property
    def standard_error(self) -> float:
        """Of `rating`, by the number of answers."""
        return float(expected_rating(self.utilities).std(ddof=1) / np.sqrt(len(self.utilities)))


def share_right(labels: pl.DataFrame) -> float:
    """How many of these preference pairs have the answer of higher utility as the chosen one."""
    topics = [topic_of(prompt[-1]["content"]) for prompt in labels["prompt"]]
    chosen, rejected = (
        judge([answer[0]["content"] for answer in labels[name]], topics).utility for name in ("chosen", "rejected")
    )
    return float((chosen > rejected).mean())


def page(
    comparison: Comparison,
    truths: Mapping[str, Truth],
    covered: Mapping[tuple[str, Design], Coverage],
    sources: Mapping[str, str],
) -> str:
    return "\n".join(_parts(comparison, truths, covered, sources))


def _parts(
    comparison: Comparison,
    truths: Mapping[str, Truth],
    covered: Mapping[tuple[str, Design], Coverage],
    sources: Mapping[str, str],
) -> Iterator[str]:
    yield "# The loop on simulated readers\n"
    yield "Written by `python -m eval.studies.loop.end_to_end --out FILE`; do not edit.\n"
    yield _paragraph(
        "Readers whose preferences are known go once through [the loop](../loop.md), over HTTP and by its commands. A "
        "small model writes two answers to each question; readers read them on a simulated page and prefer the one "
        "that is worth more to them, most of the time. Two models are tuned on that by `ifllm align`: one on what the "
        "readers preferred, one on what the shipped reward model makes of how they read, which nobody had to say. Then "
        "new readers are assigned to the three models, read one answer a question, and rate it."
    )
    yield _paragraph(
        "What an answer is worth is a function of its words (`eval/studies/known_truth/quality.py`), and so is the "
        "rating that all readers together would give it: the truth below is the mean of that over answers to fresh "
        "questions, which no reader saw. It knows nothing of the experiment."
    )
    yield "## The models\n"
    control = next(iter(truths))
    yield markdown_table(
        ("arm", "tuned on", ">labels", ">right", ">utility", ">of it quality", ">length", ">true mean rating", ">SE"),
        (
            (
                arm,
                f"`{sources[arm]}`" if arm in sources else "",
                f"{truth.labels:,}" if arm in sources else "",
                "" if truth.right is None else f"{truth.right:.3f}",
                f"{truth.utilities.mean():+.2f}",
                f"{truth.quality.mean():+.2f}",
                f"{truth.lengths.mean():.0f}",
                f"{truth.rating:.3f}",
                f"{truth.standard_error:.3f}",
            )
            for arm, truth in truths.items()
        ),
    )
    yield "\n" + _paragraph(
        "Right: the share of labels that name the answer of higher utility; readers themselves err now and then. "
        "Length: mean number of code points; the part of the utility that is not quality is length."
    )
    yield "## The report\n"
    yield "\n".join(_paragraph(note) for note in notes(comparison))
    yield markdown_table(HEAD, rows(comparison)) + "\n"
    yield "## The report beside the truth\n"
    yield markdown_table(
        ("arm", "difference of the mean rating, reported [95 %]", ">true", "inside the interval"),
        (
            (
                found["arm"],
                f"{found['mean']:+.3f} [{found['low']:+.3f}, {found['high']:+.3f}]",
                f"{(true := truths[found['arm']].rating - truths[control].rating):+.3f}",
                "yes" if found["low"] <= true <= found["high"] else "no",  # type: ignore[operator]
            )
            for one in comparison["outcomes"]
            if one["outcome"] == "rating"
            for found in one["differences"]
        ),
    )
    number = next(iter(covered.values())).number
    yield "\n## Many experiments\n"
    yield _paragraph(
        "One experiment can be lucky. In each row the experiment is repeated with new people, who are assigned, and "
        "get answers from those by which the truth is known; there the true difference is exact. An interval of 95 % "
        f"should hold it in 95 % of experiments; {number:,} of them show that to within "
        f"{196 * np.sqrt(0.95 * 0.05 / number):.1f} points. With the control in both arms, rejections are false alarms."
    )
    yield markdown_table(
        ("arm", ">people", ">share in the arm", ">true difference", ">interval holds it", ">rejects 0", ">mean width"),
        (
            (
                f"{arm} (A/A)" if arm == control else arm,
                str(design.people),
                f"{design.share:.0%}",
                f"{found.truth:+.3f}",
                f"{100 * found.held:.1f} %",
                f"{100 * found.rejected:.1f} %",
                f"{found.width:.3f}",
            )
            for (arm, design), found in covered.items()
        ),
    )
    yield "\n" + _paragraph(
        "This shows that the path works and that the report can be believed where assignment and recording are as "
        "assumed. It does not show how people would take to models tuned on their readings: these readers linger on "
        "what they like because the simulation makes them, and to all of them a longer answer is worth more."
    )


def _paragraph(text: str) -> str:
    return fill(text, 120) + "\n"
