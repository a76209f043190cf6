"""An evaluation folder -> evaluation.html: the comparison, the judge's quality, and single judgments to read."""

from pathlib import Path

import polars as pl

from ifllm_hub.errors import IfllmError
from ifllm_hub.evaluation.comparison.differences import differences, read_judgments
from ifllm_hub.evaluation.comparison.document import Comparison, Pooled, read_comparison
from ifllm_hub.evaluation.comparison.figures import comparison_picture, orders_picture, position_picture, thirds_picture
from ifllm_hub.evaluation.comparison.names import name_of
from ifllm_hub.evaluation.comparison.tables import (
    COUNTS,
    DASH,
    POOLED,
    accounting,
    accounting_rows,
    by_cell,
    half_width,
    missing_sentence,
    notes,
    signed,
    warning,
)
from ifllm_hub.evaluation.judge.quality import QUALITY, judge_quality, quality_rows, read_quality
from ifllm_hub.files import write_atomically
from ifllm_hub.pages.web_page import csp_source, page_template
from ifllm_hub.report import words
from ifllm_hub.report.judgments import choose_judgments, read_judged

PAGE_FILE = "evaluation.html"
JUDGMENTS, COMPARISON, JUDGE = "judgments", "comparison", "judge"

_TEMPLATE, _SCRIPT = (Path(__file__).parent / "pages" / name for name in ("evaluation.html.jinja", "sort.js"))


def build_evaluation_page(folder: Path) -> Path:
    """Write `evaluation.html` into an evaluation folder; the same folder gives the same bytes.

    Args:
        folder: `judgments/*.parquet`; `comparison/`, which `compare.run_comparison` made from them; and optionally
            `judge/*.quality.json`: what `ifllm judge` measured of the same judge elsewhere, such as on pairs that
            people rated.

    Returns:
        The path of the page.

    Raises:
        IfllmError: a part is missing, damaged or made from other judgments, or the page cannot be written.
    """
    comparison = read_comparison(folder / COMPARISON)
    judgments, files = read_judgments([folder / JUDGMENTS])
    if files != comparison.get("files"):
        raise IfllmError(
            f"{folder / COMPARISON}: was made from other judgments than {folder / JUDGMENTS} holds. Compare again: "
            f"ifllm compare {folder / JUDGMENTS} --out {folder / COMPARISON}"
        )
    found, position = differences(judgments), comparison["position"]
    judge_names, judge_rows = _qualities(folder / JUDGE, judgments)
    script = _SCRIPT.read_text(encoding="utf-8")
    html = page_template(_TEMPLATE).render(
        comparison=comparison,
        table=_table(comparison),
        pooled=[row for row in comparison["pooled"] if row["n"]],
        contrasts=[row for row in comparison["contrasts"] if row["n"]],
        accounting=accounting(comparison),
        counts=COUNTS,
        counted=accounting_rows(comparison),
        missing=missing_sentence(comparison),
        notes=notes(comparison),
        warning=warning(comparison),
        figures=[comparison_picture(comparison)],
        panels=[thirds_picture(comparison), *([orders_picture(comparison)] if position else [])],
        judge_names=judge_names,
        judge_rows=judge_rows,
        judge_figures=[position_picture(position)] if position else [],
        judged=[
            read_judged(judgments, found.pairs, *chosen) for chosen in choose_judgments(found.pairs, found.set_aside)
        ],
        name_of=name_of,
        words=words,
        points=signed,
        half_width=half_width,
        dash=DASH,
        script=script,
        script_hash=csp_source(script),
    )
    path = folder / PAGE_FILE
    write_atomically(path, html)
    return path


def _table(comparison: Comparison) -> list[tuple[str, list[Pooled | None]]]:
    """The rows of the table: a label source, and its cell for each LLM and pooled, None if there are no numbers."""
    cells = by_cell(comparison)
    return [
        (name_of(source), [cells.get((source, llm)) for llm in [*comparison["llms"], POOLED]])
        for source in comparison["label_sources"]
    ]


def _qualities(folder: Path, judgments: pl.DataFrame) -> tuple[list[str], list[tuple[str, ...]]]:
    """Headings and rows of the judge's quality: on these judgments, and on those whose quality is in a folder."""
    columns = [("these judgments", one) for one in judge_quality(judgments)]
    for file in sorted(folder.glob(f"*{QUALITY}")):
        columns += [(file.name.removesuffix(QUALITY), one) for one in read_quality(file)]
    return [heading for heading, _ in columns], quality_rows([one for _, one in columns])
