"""A first-order comparison in words: labels.json, margins, a page of Markdown and a figure."""

import json
import math
import resource
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from textwrap import fill
from typing import Any, TypedDict, cast

import numpy as np
import polars as pl

from ifllm_hub.align.first_order.comparison import FirstOrder, FirstOrderResult, at_chosen, compare_first_order
from ifllm_hub.align.first_order.descent import LENGTHS
from ifllm_hub.align.first_order.figure import worlds_picture
from ifllm_hub.align.first_order.sources import EXPLICIT, LONGER
from ifllm_hub.align.first_order.summary import FirstOrderBoard, Row, Table, board
from ifllm_hub.align.labels_table import WHAT as SOURCES
from ifllm_hub.documents import checked
from ifllm_hub.files import read_json, without_nan, write_atomically, write_parquet
from ifllm_hub.pages.markdown import markdown_table
from ifllm_hub.reward.protocol.tables import with_interval
from ifllm_hub.terms import Advance

LABELS, PAGE, FIGURE, MARGINS = "labels.json", "labels.md", "labels.svg", "margins.parquet"
WHAT = {
    **SOURCES,
    "truth": "what is better in truth",
    "list_items": "the answer with more list items",
    "longer_words": "the answer with longer words",
}
GEOMETRY = {"adam": "Adam's geometry", "plain": "plain gradient"}


class Labels(TypedDict):
    """`labels.json`.

    Attributes:
        settings: of the comparison.
        board: the numbers, a `FirstOrderBoard`; null where one is not defined.
        seconds: that this call took, gradients of earlier calls not included.
        peak_memory_gb: of the process that compared; each that computes gradients holds the policy beside it.
    """

    settings: dict[str, Any]
    board: Any
    seconds: float
    peak_memory_gb: float


def write_first_order(settings: FirstOrder, advance: Advance = lambda _: None) -> Path:
    """Compare label sources and write `labels.json`, `margins.parquet`, `labels.md` and `labels.svg`.

    Returns:
        The path of the page.

    Raises:
        IfllmError: see `compare_first_order`, or the folder cannot be written.
    """
    started = time.monotonic()
    result = compare_first_order(settings, advance)
    found = board(result)
    described = {"dataset": Path(settings.dataset).name, **asdict(settings.adapter), "judged_by": settings.judged_by}
    document: Labels = {
        "settings": described,
        "board": without_nan(found),
        "seconds": round(time.monotonic() - started, 1),
        "peak_memory_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    }
    write_atomically(settings.out / LABELS, json.dumps(document, indent=2) + "\n")
    write_parquet(settings.out / MARGINS, margins(result))
    write_atomically(settings.out / FIGURE, worlds_picture({"": found}).svg)
    write_atomically(settings.out / PAGE, first_order_page(found, described))
    return settings.out / PAGE


def read_labels_file(file: Path) -> Labels:
    """Read `labels.json`.

    Raises:
        IfllmError: it is missing, damaged or of another version.
    """
    document = checked(read_json(file), Labels, file, "Run `ifllm compare-labels` again.")
    return {**document, "board": cast(FirstOrderBoard, _with_nan(document["board"]))}


def _with_nan(value: Any) -> Any:
    """What `without_nan` made null."""
    if isinstance(value, dict):
        return {key: _with_nan(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_with_nan(inner) for inner in value]
    return math.nan if value is None else value


def margins(result: FirstOrderResult) -> pl.DataFrame:
    """Of each pair `geometry`, `source`, `question_id`, `worker_id`, `better`, `said` by the worker, `margin`, nats."""
    rows = result.compared.rows
    better, said = (np.where(of > 0, "left", "right") for of in (result.compared.judge, result.compared.explicit))
    parts = [
        rows.select(
            pl.lit(geometry).alias("geometry"),
            pl.lit(name).alias("source"),
            "question_id",
            "worker_id",
            pl.Series("better", better),
            pl.Series("said", said),
            pl.Series("margin", values[:, at].astype(np.float32)),
        )
        for geometry, trained in result.trained.items()
        for values in [at_chosen(trained, result.compared.folds)]
        for at, name in enumerate(result.names)
    ]
    return pl.concat(parts)


def first_order_page(found: FirstOrderBoard, settings: dict[str, Any]) -> str:
    """The page of one comparison."""
    return f"""# What labels teach a policy

Written by `ifllm compare-labels DATASET --method first_order --out FOLDER`; do not edit.

{method(found, settings)}

![Accuracy by label source]({FIGURE})

{tables(found)}
"""


def method(found: FirstOrderBoard, settings: dict[str, Any]) -> str:
    """How the numbers come about."""
    judged = "the worker who read it preferred" if settings["judged_by"] == EXPLICIT else "is the better one in truth"
    adapter = f"a LoRA of rank {settings['rank']} on the last {settings['layers']} layers"
    text = f"""\
`{settings["policy"]}`, linearized, is tuned by DPO on one label source at a time, that is, to the first order in the
step, however large its margins get: one gradient an answer (whole, up to {settings["max_length"]} tokens) of {adapter},
and from their inner products descent on any labels (`ifllm_hub/align/first_order`). Labels are taken at their word,
without a likelihood term. Each of {found["folds"]} folds of workers is left out once, so that each of
{found["pairs"]} pairs of {found["workers"]} workers is tested once, by policies that saw no pair of its worker; the
forests behind labels did not either. How long to train is chosen inside the training folds, by the labels trained on. A
policy is right where the answer with the larger implicit reward is the one that {judged}. Intervals are 95 %, by
jackknife over workers, and take the policies as given: other workers to train on, and another start of the adapter, are
not in them. p compares with {found["permutations"]} permutations of the workers' labels, one-sided; "p, all rows" is
after Holm over both geometries. Of sources that are not the workers' labels it says where they lie among labels without
meaning."""
    return fill(" ".join(text.split()), 120)


def tables(found: FirstOrderBoard) -> str:
    """The tables of both geometries, and what they say."""
    parts = [f"## In {GEOMETRY[geometry]}\n\n{table_markdown(found, geometry)}" for geometry in found["tables"]]
    return "\n\n".join([*parts, f"## Controls\n\n{controls(found)}"])


def table_markdown(found: FirstOrderBoard, geometry: str) -> str:
    """`table_rows` in Markdown."""
    return markdown_table(*table_rows(found, geometry))


def table_rows(found: FirstOrderBoard, geometry: str) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """The head, and one row a label source, the control, and the longer answer itself."""
    table = found["tables"][geometry]
    head = (
        "trained on",
        "accuracy [95 % CI]",
        "p, all rows",
        "over shuffled [95 % CI]",
        f"similar length ({found['similar_pairs']} pairs)",
        "beside length [95 % CI]",
        "prefers longer",
        "own labels",
        "margin, nats",
    )
    rows: list[tuple[str, ...]] = [
        (
            f"`{row['name']}`: {WHAT.get(row['name'], 'as the dataset has them')}",
            with_interval(row["accuracy"]),
            f"{row['holm']:.3f}",
            with_interval(row["over_shuffled"], "+.3f"),
            with_interval(row["similar"]),
            with_interval(row["beside_length"], "+.2f"),
            f"{row['agrees_with_longer']:.2f}",
            f"{row['own']:.2f}",
            f"{row['margin']:.2f}",
        )
        for row in table["rows"]
    ]
    chance = table["shuffled"]
    rows.append(
        (
            f"`shuffled`: the workers' labels, {found['permutations']} permutations",
            f"{chance['mean']:.3f}, 95 % of them in {chance['low']:.3f} to {chance['high']:.3f}",
            "",
            "",
            f"{chance['similar']:.3f}",
            "",
            f"{chance['agrees_with_longer']:.2f}, 95 % in {chance['agrees_low']:.2f} to {chance['agrees_high']:.2f}",
            "",
            "",
        )
    )
    itself = with_interval(found["longer_answer"])
    rows.append(
        ("the longer answer itself, no policy", itself, "", "", with_interval(found["longer_similar"]), "", "1", "", "")
    )
    return head, rows


def controls(found: FirstOrderBoard) -> str:
    """Positive controls, and what the likelihood term does to the negative one."""
    lines = []
    for geometry, table in found["tables"].items():
        learned = ", ".join(f"{_by(row)} {row['own']:.2f}" for row in [*table["positive"], *_named(table, LONGER)])
        with_it, chance = table["likelihood"], table["likelihood_shuffled"]
        lines.append(
            f"- {GEOMETRY[geometry].capitalize()}: of labels by a property of the text, a policy reproduces on workers "
            f"it was not trained on: {learned}. With the likelihood of the chosen answer beside the preference loss "
            f"(`nll: token_mean`, weight 1), shuffled labels reach {chance['mean']:.3f} [{chance['low']:.3f}, "
            f"{chance['high']:.3f}] and prefer the longer answer in {chance['agrees_with_longer']:.2f}; `{EXPLICIT}` "
            f"{with_interval(with_it['accuracy'])}. So the comparison is made without it."
        )
    steps = ", ".join(map(str, LENGTHS))
    lines.append(
        f"- Training lengths to choose from: {steps} steps at the largest learning rate that cannot overshoot."
    )
    return "\n".join(lines)


def _by(row: Row) -> str:
    return f"`{row['name']}` ({WHAT.get(row['name'], row['name'])})"


def _named(table: Table, name: str) -> Sequence[Row]:
    return [row for row in table["rows"] if row["name"] == name]
