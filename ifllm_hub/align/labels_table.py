"""What a comparison of label sources shows: numbers with intervals, and a page of Markdown."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ifllm_hub.align.compare_labels import ROWS, SFT, Comparison, recipe_settings
from ifllm_hub.files import write_atomically, write_parquet
from ifllm_hub.pages.markdown import markdown_table
from ifllm_hub.reward.protocol.tables import with_interval
from ifllm_hub.statistics import Estimate, mean_interval

CONTROL = "shuffled"
WHAT = {
    SFT: "fine-tuned on both answers; its reference is the policy before it",
    "nll_only": "likelihood of the preferred answer alone, no preference loss",
    "explicit": "the workers' own labels",
    "forest": "the forest on mouse, gaze and length",
    "forest_mouse": "the forest on the mouse alone",
    "forest_gaze": "the forest on gaze alone",
    "longer": "the longer answer",
    "shuffled": "the workers' labels, shuffled",
}


def summary(margins: pl.DataFrame) -> dict[str, Any]:
    """Accuracy and margin of each row, over all seeds.

    Args:
        margins: as `compare_labels` returns them.

    Returns:
        `pairs`, `workers`, `seeds`, and `rows`: for each the `accuracy` (share of test pairs in which the policy
        prefers what the worker preferred; a margin of 0 counts half), the `margin` (nats) and `over_control`, the
        accuracy minus that of the shuffled labels, each `mean` over pairs and seeds with a 95 % interval `low`, `high`
        by jackknife over workers; and the accuracy of each seed.
    """
    first = margins.filter((pl.col("row") == SFT) & (pl.col("seed") == 0)).sort("question_id")
    workers = first["worker_id"].to_numpy()
    values = {row: _by_seed(margins, row) for row in (SFT, *ROWS)}
    hits = {row: _right(margin) for row, margin in values.items()}
    rows = [
        {
            "row": row,
            "accuracy": _mean(hits[row], workers),
            "margin": _mean(values[row], workers),
            "over_control": _mean(hits[row] - hits[CONTROL], workers),
            "seeds": hits[row].mean(axis=1).tolist(),
        }
        for row in values
    ]
    return {"pairs": len(workers), "workers": len(set(workers)), "seeds": len(rows[0]["seeds"]), "rows": rows}


def _right(margin: np.ndarray) -> np.ndarray:
    """Same shape: 1 where the preferred answer has the larger reward, 0.5 where they are equal, else 0."""
    return np.where(margin == 0, 0.5, margin > 0).astype(float)


def write_labels_page(comparison: Comparison, margins: pl.DataFrame) -> Path:
    """Write `margins.parquet`, `labels.json` and `labels.md` into the folder of the runs.

    Returns:
        The path of the page.

    Raises:
        IfllmError: the folder cannot be written.
    """
    board = summary(margins)
    settings = recipe_settings(comparison.recipe)
    write_parquet(comparison.out / "margins.parquet", margins)
    write_atomically(comparison.out / "labels.json", json.dumps(board, indent=2) + "\n")
    page = comparison.out / "labels.md"
    write_atomically(page, labels_page(board, comparison, settings))
    return page


def labels_page(board: dict[str, Any], comparison: Comparison, settings: dict[str, Any]) -> str:
    """The page: how it was made, the table, and what it can and cannot show."""
    flips = settings.get("label_smoothing")
    return f"""# Which labels make a policy prefer what workers prefer?

Written by `ifllm compare-labels DATASET --recipe {comparison.recipe} --seeds {board["seeds"]} --out FOLDER`; do not
edit.

`{settings["policy"]}` is fine-tuned on both answers of training pairs (`{SFT}`), and from there tuned by DPO on one
label source at a time: the same {settings.get("train_size", "")} pairs of a seed in the same order, the same loss,
reference model (`{SFT}` of that seed) and {"flip probability" if flips is None else f"flip probability ({flips:g})"},
prompt and answer cut at {settings["max_length"]} tokens together. Then each policy is asked about {board["pairs"]}
pairs that {board["workers"]} other workers rated: it prefers the answer whose implicit reward,
{settings["beta"]:g} log(policy / reference), is larger, and is right if the worker preferred that answer too. Means
are over {board["seeds"]} seeds; intervals are 95 %, by jackknife over workers.

{labels_markdown(board)}

Rows whose interval excludes a coin toss: {_names(board, "accuracy", 0.5)}. Rows that differ from shuffled labels: \
{_names(board, "over_control", 0.0)}. {len(board["rows"])} rows are compared at once, on {board["workers"]} workers, and
the runs of a row share their test pairs: one interval that excludes chance is not a finding.
"""


def _names(board: dict[str, Any], number: str, chance: float) -> str:
    """The rows whose interval excludes chance."""
    told = [row["row"] for row in board["rows"] if not row[number]["low"] <= chance <= row[number]["high"]]
    return ", ".join(f"`{name}`" for name in told) or "none"


def labels_markdown(board: dict[str, Any]) -> str:
    """The table."""
    head = ("trained on", "accuracy [95 % CI]", "of single seeds", "margin, nats [95 % CI]", "accuracy over shuffled")
    rows = [
        (
            f"`{row['row']}`: {WHAT[row['row']]}",
            with_interval(row["accuracy"]),
            ", ".join(f"{value:.3f}" for value in row["seeds"]),
            with_interval(row["margin"], "+.4f"),
            "" if row["row"] == CONTROL else with_interval(row["over_control"], "+.3f"),
        )
        for row in board["rows"]
    ]
    return markdown_table(head, rows)


def _by_seed(margins: pl.DataFrame, row: str) -> np.ndarray:
    """(seeds, pairs) in the order of the question ids."""
    table = margins.filter(pl.col("row") == row).sort("seed", "question_id")
    return table["margin"].to_numpy().reshape(table["seed"].n_unique(), -1)


def _mean(values: np.ndarray, workers: np.ndarray) -> Estimate:
    return {"mean": float(values.mean()), **mean_interval(values.mean(axis=0), workers)}
