"""Judgments -> the comparison: every cell of the table LLMs x label sources, the pooled column, and contrasts."""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import polars as pl

from ifllm_hub import __version__
from ifllm_hub.errors import IfllmError
from ifllm_hub.evaluation.comparison import names
from ifllm_hub.evaluation.comparison.differences import Differences, differences, read_judgments
from ifllm_hub.evaluation.comparison.document import COMPARISON_FILE, Comparison, Position
from ifllm_hub.evaluation.comparison.figures import draw_comparison
from ifllm_hub.evaluation.comparison.measures import position_consistency
from ifllm_hub.evaluation.comparison.statistics import BOOTSTRAPS, SEED, contrast, summary
from ifllm_hub.evaluation.comparison.tables import comparison_csv, comparison_latex, comparison_page
from ifllm_hub.files import replacing_folder, without_nan
from ifllm_hub.terms import ORDERS, Advance

PAGE_FILE, LATEX_FILE, CSV_FILE = "comparison.md", "comparison.tex", "comparison.csv"
FIGURE_STEM = "comparison"

_MODELS = ("model", "model_revision", "baseline", "baseline_revision")


def run_comparison(
    judgments: Sequence[Path],
    out: Path,
    draws: int = BOOTSTRAPS,
    seed: int = SEED,
    advance: Advance = lambda share: None,
) -> Comparison:
    """Compare, and write `comparison.json`, `.md`, `.tex`, `.csv`, `.svg` and `.png` into a folder, all or none.

    Args:
        judgments: Parquet files of judgments, or folders of them, all of one judge.
        out: folder of the comparison; an earlier one is replaced.
        draws, seed: of the bootstrap.
        advance: called with the share that is done.

    Returns:
        What `comparison.json` holds; see `compare`.

    Raises:
        IfllmError: the judgments cannot be compared (see `differences`), or the folder cannot be written.
    """
    table, files = read_judgments(judgments)
    comparison = compare(table, draws, seed, advance)
    comparison["files"] = files
    with replacing_folder(out, COMPARISON_FILE) as partial:
        (partial / COMPARISON_FILE).write_text(json.dumps(comparison, indent=1, ensure_ascii=False) + "\n")
        (partial / PAGE_FILE).write_text(comparison_page(comparison))
        (partial / LATEX_FILE).write_text(comparison_latex(comparison))
        (partial / CSV_FILE).write_text(comparison_csv(comparison))
        draw_comparison(partial / FIGURE_STEM, comparison)
    return comparison


def compare(
    judgments: pl.DataFrame,
    draws: int = BOOTSTRAPS,
    seed: int = SEED,
    advance: Advance = lambda share: None,
) -> Comparison:
    """Every number of a comparison.

    Args:
        judgments: columns of `tables.JUDGMENTS`, of one judge, its settings and preset.
        draws, seed: of the bootstrap.
        advance: called with the share that is done.

    Returns:
        `judge`, `judge_settings`, `preset`, `ifllm_hub`, `draws`, `seed`; counts as in `Differences`, and `set_aside`
        by reason; `llms` and `label_sources`, the columns and rows of the table in order; `cells`, one per judged cell,
        with `llm`, `label_source`, what was compared, the pairs `asked`, `tied` and `set_aside`, and the numbers of
        `statistics.summary` (without a scored pair only `n`, which is 0); `pooled`, one per label source; `contrasts`
        of every two label sources; `missing`, the cells without numbers; `position`, see
        `measures.position_consistency`, None with one order. Everywhere `asked` is the number of pairs scored,
        including ties, plus those set aside.

    Raises:
        IfllmError: see `differences`; or not one pair can be scored.
    """
    found = differences(judgments)
    if found.pairs.is_empty():
        reasons = ", ".join(f"{reason} ({count})" for reason, count in _reasons(found).items())
        raise IfllmError(
            f"Not one of {found.asked.height} pairs can be scored: {reasons}. Judge again, or with another judge."
        )
    seen = judgments.filter(pl.col("mode") == "pairwise").unique(["llm", "label_source"]).sort("llm", "label_source")
    llms = names.llm_order(seen["llm"])
    sources = names.label_source_order(seen["label_source"], llms)
    cells = []
    for done, row in enumerate(seen.iter_rows(named=True)):
        advance(done / (2 * seen.height))
        cell = {"llm": row["llm"], "label_source": row["label_source"]}
        cells.append({**cell, **{name: row[name] for name in _MODELS}, **_numbers(found, cell, draws, seed)})
    pooled = []
    for done, source in enumerate(sources):
        advance((1 + done / len(sources)) / 2)
        pooled.append({"label_source": source, **_numbers(found, {"label_source": source}, draws, seed)})
    numbered = {(cell["llm"], cell["label_source"]) for cell in cells if cell["n"]}
    comparison = {
        "ifllm_hub": __version__,
        **{name: seen[name][0] for name in ("judge", "judge_settings", "preset")},
        "draws": draws,
        "seed": seed,
        "judgments": found.judgments,
        "repeated": found.repeated,
        "single": found.single,
        "statuses": found.statuses,
        "contradictions": found.contradictions,
        "resampled_baselines": found.resampled_baselines,
        "asked": found.asked.height,
        "pairs": found.pairs.height,
        "tied": _tied(found.pairs),
        "set_aside": _reasons(found),
        "position": _position(found.pairs),
        "llms": llms,
        "label_sources": sources,
        "cells": cells,
        "pooled": pooled,
        "contrasts": [contrast(found.pairs, *two, draws, seed) for two in itertools.combinations(sources, 2)],
        "missing": [
            {"llm": llm, "label_source": source}
            for source, llm in itertools.product(sources, llms)
            if (llm, source) not in numbered
        ],
    }
    advance(1.0)
    return cast(Comparison, without_nan(comparison))  # columns of Polars are untyped; `read_comparison` checks them


def _numbers(found: Differences, where: dict[str, str], draws: int, seed: int) -> dict[str, Any]:
    pairs, set_aside, asked = (
        table.filter(*(pl.col(name) == value for name, value in where.items()))
        for table in (found.pairs, found.set_aside, found.asked)
    )
    numbers: Any = summary(pairs, draws, seed) if pairs.height else {"n": 0}
    return {"asked": asked.height, "tied": _tied(pairs), "set_aside": set_aside.height, **numbers}


def _tied(pairs: pl.DataFrame) -> int:
    return int((pairs["winner"] == "tie").sum())


def _reasons(found: Differences) -> dict[str, int]:
    """How many pairs were set aside, by reason."""
    return dict(found.set_aside.group_by("reason").len().sort("reason").iter_rows())


def _position(pairs: pl.DataFrame) -> Position | None:
    both = pairs.filter(pl.col("orders") == 2)
    if not both.height:
        return None
    model_first, baseline_first = (both[f"word_{order}"].to_list() for order in ORDERS)
    return position_consistency(model_first, baseline_first)
