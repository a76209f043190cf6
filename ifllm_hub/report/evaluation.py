"""An evaluation folder -> evaluation.html: the comparison, what the judge is worth, and single judgements to read."""

import base64
from pathlib import Path
from typing import Any

from ifllm_hub.errors import IfllmError
from ifllm_hub.evaluation.compare import read_comparison
from ifllm_hub.evaluation.comparison_figures import comparison_picture, orders_picture, thirds_picture
from ifllm_hub.evaluation.comparison_tables import DASH, POOLED, by_cell, half_width, missing_sentence, notes, signed
from ifllm_hub.evaluation.differences import differences, read_judgements
from ifllm_hub.evaluation.names import name_of
from ifllm_hub.files import read_json, write_atomically
from ifllm_hub.report import words
from ifllm_hub.report.judgements import choose_judgements, read_judged
from ifllm_hub.style import Picture
from ifllm_hub.web_page import csp_source, page_template

PAGE_FILE = "evaluation.html"
JUDGEMENTS, COMPARISON, JUDGE = "judgements", "comparison", "judge"

_TEMPLATE, _SCRIPT = (Path(__file__).with_name(name) for name in ("evaluation.html.jinja", "sort.js"))
_IMAGES = {".svg": "image/svg+xml", ".png": "image/png"}


def build_evaluation_page(folder: Path) -> Path:
    """Write `evaluation.html` into an evaluation folder; the same folder gives the same bytes.

    Args:
        folder: `judgements/*.parquet`; `comparison/`, which `compare.run_comparison` made of them; and, if there is
            one, `judge/`: JSON files of numbers on the judge itself, and figures (SVG, PNG), shown as they are.

    Returns:
        The path of the page.

    Raises:
        IfllmError: a part is missing, damaged or made of other judgements, or the page cannot be written.
    """
    comparison = read_comparison(folder / COMPARISON)
    judgements, files = read_judgements([folder / JUDGEMENTS])
    if files != comparison["files"]:
        raise IfllmError(
            f"{folder / COMPARISON}: was made of other judgements than {folder / JUDGEMENTS} holds. Compare again: "
            f"eval/compare.py {folder / JUDGEMENTS} --out {folder / COMPARISON}"
        )
    found = differences(judgements)
    script = _SCRIPT.read_text(encoding="utf-8")
    html = page_template(_TEMPLATE).render(
        comparison=comparison,
        table=_table(comparison),
        pooled=[row for row in comparison["pooled"] if row["n"]],
        contrasts=[row for row in comparison["contrasts"] if row["n"]],
        missing=missing_sentence(comparison),
        notes=notes(comparison),
        figures=[comparison_picture(comparison)],
        panels=[thirds_picture(comparison), *([orders_picture(comparison)] if comparison["position"] else [])],
        judge_numbers=_judge_numbers(folder / JUDGE),
        judge_figures=_judge_figures(folder / JUDGE),
        judged=[
            read_judged(judgements, found.pairs, *chosen) for chosen in choose_judgements(found.pairs, found.set_aside)
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


def _table(comparison: dict[str, Any]) -> list[tuple[str, list[dict[str, Any] | None]]]:
    """The rows of the table: a label source, and its cell for each LLM and pooled, None where there are no numbers."""
    cells = by_cell(comparison)
    return [
        (name_of(source), [cells.get((source, llm)) for llm in [*comparison["llms"], POOLED]])
        for source in comparison["label_sources"]
    ]


def _judge_numbers(folder: Path) -> list[tuple[str, str]]:
    """Every number and word of the JSON files of a folder, by its path in them."""
    return [
        (f"{file.stem}: {name}" if name else file.stem, value)
        for file in sorted(folder.glob("*.json"))
        for name, value in _flat(read_json(file))
    ]


def _flat(value: Any, name: str = "") -> list[tuple[str, str]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value, 1) if isinstance(value, list) else None
    if inner is None:
        return [(name, f"{value:.4g}" if isinstance(value, float) else str(value))]
    return [entry for key, deeper in inner for entry in _flat(deeper, f"{name} {key}".strip().replace("_", " "))]


def _judge_figures(folder: Path) -> list[Picture]:
    return [
        Picture(
            source=f"data:{_IMAGES[file.suffix]};base64,{base64.b64encode(file.read_bytes()).decode()}",
            alt=file.stem.replace("_", " "),
            caption=file.stem.replace("_", " ").capitalize() + ".",
            wide=True,
        )
        for file in sorted(folder.glob("*"))
        if file.suffix in _IMAGES
    ]
