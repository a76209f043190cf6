"""A comparison of arms as a table, as Markdown and as JSON."""

import json
from collections.abc import Iterator
from pathlib import Path

from ifllm_hub.collect.experiment.compare import Comparison, Difference, Mean
from ifllm_hub.files import make_folder, without_nan, write_atomically
from ifllm_hub.pages.markdown import markdown_table, one_line

COMPARISON_FILE, PAGE_FILE = "arms.json", "arms.md"
HEAD = ("outcome", "arm", "people", "questions", "mean [95 %]", "less the control [95 %]", "p", "p, adjusted")
# Below this, assignment or recording is broken rather than chance at work (Kohavi, Tang & Xu 2020, chapter 21).
MISMATCH = 0.001


def write_comparison(comparison: Comparison, dataset: str, out: Path) -> None:
    """Write `arms.json` and `arms.md` into a folder, which is made if missing.

    Args:
        dataset: what was compared, for the page.

    Raises:
        IfllmError: the folder cannot be written.
    """
    make_folder(out)
    write_atomically(out / COMPARISON_FILE, json.dumps(without_nan(comparison), indent=2) + "\n")
    write_atomically(out / PAGE_FILE, page(comparison, dataset))


def page(comparison: Comparison, dataset: str) -> str:
    """The comparison as Markdown."""
    meanings = "\n".join(f"- {one['outcome']} ({one['unit']}): {one['meaning']}" for one in comparison["outcomes"])
    head = tuple(f">{name}" if name in ("people", "questions", "p", "p, adjusted") else name for name in HEAD)
    return (
        f"# Arms compared\n\nWritten by `ifllm collect compare {one_line(dataset)}`; do not edit.\n\n"
        + "\n\n".join(notes(comparison))
        + f"\n\n{markdown_table(head, rows(comparison))}\n\n{meanings}\n"
    )


def notes(comparison: Comparison) -> Iterator[str]:
    """What is to be known before the numbers are read, a paragraph each."""
    control, *_ = arms = comparison["arms"]
    yield (
        f"The control is {control['arm']}. Means weigh each question by 1 / propensity (Hajek); intervals of 95 % are "
        "by jackknife over people, with Student's t; p values are adjusted for all differences of the table (Holm)."
    )
    units = "people" if comparison["unit"] == "person" else "questions"
    ratio = comparison["sample_ratio"]
    if ratio is None:
        yield f"The propensity of an arm changed, so whether the numbers of {units} fit it was not checked."
        return
    counts = ", ".join(
        f"{arm['people' if comparison['unit'] == 'person' else 'questions']} in {arm['arm']} ({arm['propensity']:.4g})"
        for arm in arms
    )
    said = (
        f"{units.capitalize()}: {counts}; chi-square {ratio['chi_square']:.2f}, {ratio['df']} df, p = {_p(ratio['p'])}."
    )
    if ratio["p"] < MISMATCH:
        said += (
            " That is a sample ratio mismatch: people are missing in an arm, or were not assigned as logged. The "
            "differences below are not to be trusted before the reason is known."
        )
    yield said
    if abs((comparison["propensities"] or 0) - 1) > 1e-6:
        yield (
            f"The propensities add up to {comparison['propensities']:.4g} and not to 1: an arm of the experiment is "
            "not compared, or nothing was recorded in it."
        )


def rows(comparison: Comparison) -> Iterator[tuple[str, ...]]:
    """The cells under `HEAD`."""
    for one in comparison["outcomes"]:
        differences = {difference["arm"]: difference for difference in one["differences"]}
        for mean in one["means"]:
            is_control = mean["arm"] == comparison["arms"][0]["arm"]
            found = differences.get(mean["arm"])
            yield (
                one["outcome"],
                mean["arm"],
                f"{mean['people']:,}",
                f"{mean['questions']:,}",
                _estimate(mean, ""),
                "control" if is_control else "" if found is None else _estimate(found, "+"),
                "" if found is None else _p(found["p"]),
                "" if found is None else _p(found["adjusted_p"]),
            )


def _estimate(found: Mean | Difference, sign: str) -> str:
    if found["mean"] is None:
        return ""
    digits = 3 if abs(found["mean"]) < 100 else 1
    form = f"{sign}.{digits}f"
    if found["low"] is None:
        return f"{found['mean']:{form}}"
    return f"{found['mean']:{form}} [{found['low']:{form}}, {found['high']:{form}}]"


def _p(p: float | None) -> str:
    return "" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"
