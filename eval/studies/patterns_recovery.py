"""Do the analyses of reading patterns find what is true? Simulated studies, drawn as tables and tick by tick.

python -m eval.studies.patterns_recovery --out docs/results/patterns_recovery.md

What was found in each study is kept in a folder, so that more of them can be added (`--tables`, `--ticks`). Remove it
after a change to an analysis or to the simulator.
"""

import argparse
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from textwrap import fill
from typing import Any, NamedTuple

import numpy as np

from eval.studies import patterns_ticks as ticks
from eval.studies.patterns_tables import (
    CONVERSATIONS,
    OWN_PART,
    Found,
    no_effect_again,
    own_part_again,
    table_study,
    table_truths,
)
from ifllm_hub.files import make_folder, read_json, read_parquet, without_nan, write_atomically, write_parquet
from ifllm_hub.pages.markdown import markdown_table
from ifllm_hub.sources.simulation.readers import KINDS
from ifllm_hub.statistics import effective_workers, wilson
from ifllm_hub.terms import MODALITIES

# Of the studies tick by tick, which are smaller than the study, for time.
WORKERS, QUESTIONS = 30, 300
# Of these, the paths are grouped, too, which takes as long as all else.
GROUPED = 6
# As many more studies, for each of the first, of the two estimands that came out badly there and are quick to draw.
AGAIN = 4
# A share of intervals that is enough, and the level of the tests.
ENOUGH, LEVEL = 0.9, 0.05
HEAD = ("estimand", ">truth", ">mean estimate", ">SD", ">mean width", ">holds the truth in", ">[95 % CI]", "verdict")

# What is known of why an estimand is not recovered, by how its name begins.
WHY = {
    OWN_PART: "See the second look.",
    "bullet points, a turn before": "Within a reader and mode, where tosses are few, a toss and the one before it are "
    "negatively correlated; what the present toss does is then taken, with the other sign and in part, for something "
    "that the toss before did.",
    "attention": "The cause was not looked for; it may be that what is recorded is not quite where readers aim: gaze "
    "and mouse scatter about that place, and what falls beside the end of a line is left out. Where reading is even, "
    "the recorded dwell need not be.",
    "length slope of": "The constant is of the pace alone; the slope is also of what else goes with length.",
    ticks.LAG: "The constant is that of a moving mouse; a resting one stays behind further.",
}
ALARMS = ("estimand", ">p <= .05 in", ">[95 % CI]", "verdict")


class Row(NamedTuple):
    """One estimand over all studies.

    Attributes:
        name: in words.
        truth, mean: its truth and the mean of the estimates; means where it differs between studies.
        deviation: standard deviation of the estimates' errors.
        width: mean of the intervals.
        held, n: intervals that hold the truth, of how many.
    """

    name: str
    truth: float
    mean: float
    deviation: float
    width: float
    held: int
    n: int

    @property
    def recovered(self) -> bool:
        return self.held >= ENOUGH * self.n


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tables", type=int, default=100, help="studies drawn as tables (default: 100)")
    parser.add_argument("--ticks", type=int, default=40, help="studies tick by tick, two or more (default: 40)")
    parser.add_argument("--kept", type=Path, default=Path("runs/patterns_recovery"), help="what was found in each")
    parser.add_argument("--out", type=Path, default=Path("runs/patterns_recovery.md"))
    options = parser.parse_args(arguments)
    write_atomically(options.out, "\n".join(page(options.kept, options.tables, options.ticks)) + "\n")


def page(folder: Path, n_tables: int, n_ticks: int) -> Iterator[str]:
    tables = [kept_found(folder / "tables" / f"{seed}.json", partial(table_study, seed)) for seed in range(n_tables)]
    truths = table_truths()
    drawn = rows(tables, [truths] * n_tables)
    by_ticks = list(tick_rows(folder / f"ticks-{WORKERS}-{QUESTIONS}", n_ticks))
    yield "# Do the analyses of reading patterns find what is true?\n"
    yield "Written by `python -m eval.studies.patterns_recovery --out FILE`; do not edit.\n"
    yield paragraph(
        "Studies are simulated with a known truth, and analyzed by the code that analyzes the real one. An estimand "
        f"is recovered where its 95 % interval holds the truth in {ENOUGH:.0%} of the studies or more. "
        f"{verdict(drawn + by_ticks)}"
    )
    yield from level_of_tables(tables, drawn)
    yield from second_look(folder / "again", n_tables, truths)
    yield from level_of_ticks(by_ticks, n_ticks)
    yield from kinds(folder / f"kinds-{WORKERS}-{QUESTIONS}", min(GROUPED, n_ticks))
    yield ""
    yield "## What is not checked\n"
    yield paragraph(
        "The strips of attention, the distance of mouse and gaze and what it has of chance, the accuracies by length, "
        "the tests of the coin, ratings and preferences as outcomes of bullet points, and intervals of single readers. "
        "Studies tick by tick are fewer and smaller than the study, so that their coverage is known less well than "
        "that of tables."
    )


def verdict(found: Sequence[Row]) -> str:
    good = sum(row.recovered for row in found)
    return f"So it is for {good} of the {len(found)} estimands below."


def level_of_tables(tables: Sequence[Mapping[str, Found]], drawn: Sequence[Row]) -> Iterator[str]:
    five = sum(CONVERSATIONS[:5]) / sum(CONVERSATIONS)
    sizes = effective_workers(np.repeat(np.arange(len(CONVERSATIONS)), CONVERSATIONS))
    yield "## Studies of the real design, drawn as tables\n"
    yield paragraph(
        f"{len(tables)} studies. Each has {len(CONVERSATIONS)} readers in {sum(CONVERSATIONS)} conversations, of which "
        f"five readers have {five:.0%}: as many as {sizes:.1f} readers of equal size. The values of the measures are "
        "drawn from a known model: effects that differ between readers, and random intercepts of readers, "
        "conversations and questions. Normal: all of them are. Skewed: effects have a gamma distribution of shape 2, "
        "errors Student's t with 5 degrees of freedom. Those who get longer answers also dwell longer, which slopes "
        "within readers must not take for an effect of length. Changes of dwell are in %."
    )
    yield markdown_table(HEAD, map(cells, drawn))
    yield ""
    yield from failures(drawn)
    yield "### False alarms\n"
    yield paragraph(f"Where there is no effect, p should be at most {LEVEL} in {LEVEL:.0%} of the studies.")
    yield markdown_table(ALARMS, alarms(tables))
    yield ""


def second_look(folder: Path, n: int, truths: Mapping[str, float]) -> Iterator[str]:
    """What was looked at again, because it came out badly in the first 100 studies."""
    yield "### A second look\n"
    yield paragraph(
        "Of so many rows, some come out badly by chance. The two that came out worst when the studies above were first "
        f"made are quick to draw, and were looked at again, once, in {AGAIN * n} other studies."
    )
    lines = []
    for study in (own_part_again, no_effect_again):
        found = kept(folder / f"{study.__name__}-{AGAIN * n}.json", partial(many, study, AGAIN * n))
        again = [as_found(one) for one in found]
        lines += [cells(row) for row in rows(again, [truths] * len(again))]
        alarmed = list(alarms(again))
    yield markdown_table(HEAD, lines)
    yield ""
    yield markdown_table(ALARMS, alarmed)
    yield ""


def many(study: Callable[[int], Mapping[str, Found]], n: int) -> list[dict[str, list[float]]]:
    return [{name: list(one) for name, one in study(seed).items()} for seed in range(n)]


def level_of_ticks(by_ticks: Sequence[Row], n: int) -> Iterator[str]:
    yield "## Known readers, tick by tick\n"
    yield paragraph(
        f"{n} studies of {WORKERS} readers and {QUESTIONS} questions (`ifllm_hub.sources.simulation.frames`), smaller "
        "than the study because each is simulated, measured and analyzed from its ticks on. What bullet points change "
        f"is known from {ticks.COUNTERFACTUALS} other studies that are simulated twice, with bullet points in all "
        "questions and in none. What has no exact truth is compared with what the same estimator finds in many more "
        "readers, those of the other half of the studies taken together: this asks whether the interval is as wide as "
        f"estimates scatter, not whether the estimator is right. Rows with “{ticks.AS_DECLARED.lstrip(', ')}” compare "
        "with the constant that the simulator's readers follow."
    )
    yield markdown_table(HEAD, map(cells, by_ticks))
    yield ""
    yield from failures(by_ticks)


def kinds(folder: Path, n: int) -> Iterator[str]:
    yield "## Groups of reading paths\n"
    yield paragraph(
        f"The readers are of four kinds: {', '.join(KINDS)}. In the first {n} of these studies, how many groups "
        "are called clear, and how well the group that most of a reader's paths are in tells the reader's kind "
        "(adjusted Rand index: 0 is chance, 1 is perfect; quarters along the first component where no groups are "
        "clear)."
    )
    found = [kept(folder / f"{k}.json", partial(ticks.kinds_found, WORKERS, QUESTIONS, k)) for k in range(n)]
    lines = []
    for modality in MODALITIES:
        own = [one[modality] for one in found if modality in one]
        clear = [one["clear"] for one in own]
        mean = f"{np.mean([one['agreement'] for one in own]):.2f}" if own else "-"
        lines.append((modality, *(str(clear.count(k)) for k in (0, 2, 3, 4)), str(sum(k > 4 for k in clear)), mean))
    yield markdown_table(("modality", ">none clear", ">2", ">3", ">4", ">more", ">agreement with the kinds"), lines)


def tick_rows(folder: Path, n: int) -> list[Row]:
    """The estimands of the studies tick by tick; each study's truth is from the other half of them."""
    make_folder(folder)
    found, tables, correlations = [], [], []
    for seed in range(n):
        files = [folder / f"{seed}-{what}.parquet" for what in ("table", "correlations")]
        done = folder / f"{seed}.json"
        if not done.exists():
            study = ticks.tick_study(WORKERS, QUESTIONS, seed)
            write_parquet(files[0], study.table)
            write_parquet(files[1], study.correlations)
            write_atomically(done, json.dumps(without_nan({key: list(one) for key, one in study.found.items()})))
        found.append(as_found(read_json(done)))
        tables.append(read_parquet(files[0]))
        correlations.append(read_parquet(files[1]))
    changes = [
        kept(folder / f"counterfactual-{one}.json", partial(ticks.counterfactual, WORKERS, QUESTIONS, one))
        for one in range(ticks.COUNTERFACTUALS)
    ]
    halves = [ticks.tick_truths(tables[half::2], correlations[half::2], changes) for half in (1, 0)]
    every, truths = [], []
    for seed, one in enumerate(found):
        exact = {name: truth for name in one if (truth := ticks.declared(name)) is not None}
        both = halves[seed % 2] | {name: truth for name, truth in exact.items() if name not in halves[0]}
        both |= {name + ticks.AS_DECLARED: truth for name, truth in exact.items() if name in halves[0]}
        every.append(one | {name + ticks.AS_DECLARED: one[name] for name in exact if name in halves[0]})
        truths.append(both)
    return rows(every, truths)


def rows(found: Sequence[Mapping[str, Found]], truths: Sequence[Mapping[str, float]]) -> list[Row]:
    """Of each estimand that has a truth, in the order of the first studies; without intervals that are not defined."""
    names = dict.fromkeys(name for one in found for name in one)
    every = []
    for name in names:
        pairs = [
            (one[name], truth[name])
            for one, truth in zip(found, truths, strict=True)
            if name in one and name in truth and math.isfinite(one[name].high - one[name].low)
        ]
        if pairs:
            mean, low, high = np.array([one[:3] for one, _ in pairs]).T
            truth = np.array([truth for _, truth in pairs])
            held = int(((low <= truth) & (truth <= high)).sum())
            truth_, mean_, deviation, width = (
                float(one) for one in (truth.mean(), mean.mean(), (mean - truth).std(), (high - low).mean())
            )
            every.append(Row(name, truth_, mean_, deviation, width, held, len(pairs)))
    return every


def cells(row: Row) -> tuple[str, ...]:
    low, high = wilson(row.held, row.n)
    digits = 3 if max(abs(row.truth), row.width) < 3 else 1 if max(abs(row.truth), row.width) < 100 else 0
    numbers = (f"{one:.{digits}f}" for one in (row.truth, row.mean, row.deviation, row.width))
    share = (f"{row.held} of {row.n}", f"[{low:.2f}, {high:.2f}]")
    return (row.name, *numbers, *share, "recovered" if row.recovered else f"not recovered: {cause(row)}")


def cause(row: Row) -> str:
    """Whether the estimates are off, or the intervals too narrow for how they scatter."""
    off, wide = (row.mean - row.truth) / row.deviation, row.width / (2 * 1.96 * row.deviation)
    return f"off by {off:+.1f} SD" if abs(off) > 0.5 else f"width is {wide:.2f} of what the SD asks for"


def failures(found: Sequence[Row]) -> Iterator[str]:
    """A sentence on each estimand that is not recovered."""
    bad = [row for row in found if not row.recovered]
    for row in bad:
        off = row.mean - row.truth
        where = "above" if off > 0 else "below"
        yield paragraph(
            f"Not recovered: {row.name}. Its interval holds the truth in {row.held} of {row.n} studies; the mean "
            f"estimate is {abs(off):.3g} {where} the truth, {abs(off) / row.deviation:.1f} standard deviations of the "
            f"estimates, and the intervals are {row.width / (2 * 1.96 * row.deviation):.2f} times as wide as that "
            f"deviation alone asks for. {next((why for what, why in WHY.items() if row.name.startswith(what)), '')}"
        )
    if not bad:
        yield "All of these are recovered.\n"


def alarms(found: Sequence[Mapping[str, Found]]) -> Iterator[tuple[str, ...]]:
    """Of each estimand without an effect whose p value is kept."""
    for name in (name for name in found[0] if "none" in name or "no effect" in name):
        p = [one[name].p for one in found if math.isfinite(one[name].p)]
        if p:
            hits = sum(one <= LEVEL for one in p)
            low, high = wilson(hits, len(p))
            fine = "as promised" if low <= LEVEL <= high else "too many" if low > LEVEL else "too few"
            yield name, f"{hits} of {len(p)}", f"[{low:.2f}, {high:.2f}]", fine


def kept(path: Path, make: Callable[[], Any]) -> Any:
    """What is in a JSON file, which is made first if there is none."""
    if not path.exists():
        make_folder(path.parent)
        write_atomically(path, json.dumps(without_nan(make())))
    return read_json(path)


def kept_found(path: Path, make: Callable[[], Mapping[str, Found]]) -> dict[str, Found]:
    return as_found(kept(path, lambda: {name: list(one) for name, one in make().items()}))


def as_found(numbers: Mapping[str, list[float | None]]) -> dict[str, Found]:
    return {name: Found(*(math.nan if one is None else one for one in four)) for name, four in numbers.items()}


def paragraph(text: str) -> str:
    return fill(text, 118, break_long_words=False, break_on_hyphens=False) + "\n"


if __name__ == "__main__":
    main()
