"""A run folder -> report.html: one page that loads nothing, has no script, and takes every number from the run.

Whatever needs a script is on a page beside it: replays of the readings shown, and the evaluation.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from ifllm_hub.align.first_order.figure import worlds_picture
from ifllm_hub.align.first_order.page import LABELS, read_labels_file, table_rows
from ifllm_hub.dataset.label_worth import label_worth, worth_table
from ifllm_hub.evaluation.comparison.document import read_comparison
from ifllm_hub.evaluation.comparison.tables import signed
from ifllm_hub.features.measures import CELL
from ifllm_hub.files import write_atomically
from ifllm_hub.pages.web_page import page_template
from ifllm_hub.preferences.labels import agreement
from ifllm_hub.report import words
from ifllm_hub.report.evaluation import COMPARISON, build_evaluation_page
from ifllm_hub.report.figures.data import (
    caret_picture,
    flip_picture,
    length_contrast,
    length_picture,
    longer_picture,
    rating_picture,
)
from ifllm_hub.report.figures.models import calibration_picture, curve_pictures, leaderboard_picture
from ifllm_hub.report.inputs import Run, load_run
from ifllm_hub.report.reading import legend, readings
from ifllm_hub.report.replay import write_reading
from ifllm_hub.reward.protocol.candidates import FOREST, LONGER_ANSWER
from ifllm_hub.sources.ifllm.accounts import CaretCounts
from ifllm_hub.terms import SIDES, Mode

REPORT_FILE, REPLAYS, COMPARED, EVALUATION = "report.html", "replays", "labels", "evaluation"
_TEMPLATE = Path(__file__).parent / "pages" / "report.html.jinja"
_STATUSES = ("matched", "repaired", "ambiguous", "elsewhere")
_SIMULATION = ("workers", "questions")
_METRICS = {
    "loss": "loss",
    "rewards/margins": "reward margin, chosen minus rejected (nats)",
    "rewards/chosen": "reward of the chosen answer (nats)",
    "rewards/rejected": "reward of the rejected answer (nats)",
    "rewards/accuracies": "share of pairs with a positive margin",
}
_TABLES = {
    "rows": "rows in the release's question tables",
    "unanswered_dropped": "dropped: no answer",
    "without_consent_dropped": "dropped: no consent",
    "identical_rows_dropped": "dropped: identical to another row",
    "questions": "questions kept",
    "ai_errors": "of these, an answer is an error message of the study's server",
    "clock_4h_corrected": "of these, clock four hours late, corrected",
    "without_date": "of these, without a date (their ticks belong to no question)",
}


def build_report(run: Path) -> Path:
    """Write `report.html` into a run folder that `ifllm run` made, and the pages that it links to.

    These are `replays/QUESTION_ID.html` of each reading that is shown, and `evaluation/evaluation.html` if models of
    the run were judged and compared in `evaluation/` (see `report.evaluation`). If `ifllm compare-labels --method
    first_order --out RUN/labels` compared the run's label sources, the page shows it. The same run gives the same
    bytes. If anything fails, an earlier report stays as it is.

    Returns:
        The path of the report.

    Raises:
        IfllmError: a part of the run is missing, damaged or of another version, or the report cannot be written.
    """
    loaded = load_run(run)
    shown = readings(loaded)
    _write_replays(loaded, [reading.question_id for reading in shown])
    html = page_template(_TEMPLATE).render(
        words=words,
        points=signed,
        cell=CELL,
        **_summary(loaded),
        **_dataset(loaded),
        **_models(loaded),
        patterns=loaded.patterns,
        readings=shown,
        replays=REPLAYS,
        compared=_labels_compared(run),
        evaluation=_evaluation(run),
        legend=legend(),
    )
    path = run / REPORT_FILE
    write_atomically(path, html)
    return path


def _write_replays(run: Run, question_ids: list[int]) -> None:
    """Write the replays of these pairs, and delete those of an earlier report."""
    folder = run.folder / REPLAYS
    folder.mkdir(exist_ok=True)
    questions = run.pairwise.rows_by_key("question_id", named=True, include_key=True, unique=True)
    pages = [
        write_reading(questions[row["question_id"]], row, folder / f"{row['question_id']}.html")
        for row in run.trajectories(question_ids).iter_rows(named=True)
    ]
    for stale in set(folder.glob("*.html")).difference(pages):
        stale.unlink()


def _labels_compared(run: Path) -> dict[str, Any] | None:
    """What policies learn from each label source, if `ifllm compare-labels` wrote it into `labels/` of the run."""
    if not (run / COMPARED / LABELS).is_file():
        return None
    document = read_labels_file(run / COMPARED / LABELS)
    board = document["board"]
    return {
        "settings": document["settings"],
        "board": board,
        "table": table_rows(board, "adam"),
        "picture": worlds_picture({"": board}),
    }


def _evaluation(run: Path) -> dict[str, Any] | None:
    """The comparison of judged models and its page, which is rewritten; None if there is no comparison."""
    folder = run / EVALUATION
    if not (folder / COMPARISON).is_dir():
        return None
    page = build_evaluation_page(folder)
    return {"page": page.relative_to(run).as_posix(), "comparison": read_comparison(folder / COMPARISON)}


def _summary(run: Run) -> dict[str, Any]:
    return {
        "manifest": run.manifest,
        "board": run.board,
        "results": run.results,
        "settings": _settings_used(run.settings),
        "command": words.command(run.settings),
        # This page is itself a stage: whether and when it finished must not change the page.
        "stages": {name: stage for name, stage in run.stages.items() if name != "report"},
        "reward": run.reward,
    }


def _settings_used(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings, without the simulation's if there was none."""
    return settings if settings["release"] is None else {k: v for k, v in settings.items() if k not in _SIMULATION}


def _dataset(run: Run) -> dict[str, Any]:
    modes: dict[Mode, pl.DataFrame] = {"pairwise": run.pairwise, "pointwise": run.pointwise}
    rated = {"pairwise": "preference", "pointwise": "rating"}
    ratios, longer = length_contrast(run.pairwise)
    sides = run.pairwise["preference"].drop_nulls()
    tables: Mapping[str, Any] = run.manifest["tables"]
    return {
        "modes": {
            mode: {
                **run.manifest["questions"][mode],
                "mouse": rows["has_mouse"].sum(),
                "gaze": rows["has_gaze"].sum(),
                "rated": rows[rated[mode]].count(),
                "excluded": rows["excluded_worker"].sum(),
            }
            for mode, rows in modes.items()
        },
        "tables": [(text, tables[key]) for key, text in _TABLES.items() if key in tables],
        "carets": _caret_rows(run.manifest["carets"]),
        "statuses": _STATUSES,
        "caret_figure": caret_picture(run.manifest["carets"]),
        "label_figures": [
            rating_picture(run.pairwise, run.pointwise),
            length_picture(run.pairwise, run.pointwise),
            longer_picture(run.pairwise),
        ],
        "preferred": {side: int((sides == side).sum()) for side in SIDES},
        "unrated": run.pairwise.height - len(sides),
        "longer": {"pairs": len(ratios), "share": float(longer.mean()) if len(longer) else float("nan")},
        "typical_mouse": _median_on_text(run.features),
    }


def _models(run: Run) -> dict[str, Any]:
    rows = words.worker_rows(run.board)
    flips = {
        split: float(group["flip_prob"].to_numpy().mean())
        for (split,), group in run.preferences.filter(pl.col("label_source") == "forest").group_by("split")
    }
    return {
        "rows": rows,
        "forest": FOREST.name,
        "longer_answer": LONGER_ANSWER.name,
        "leaderboard_figure": leaderboard_picture(run.board),
        "calibration_figure": calibration_picture(rows),
        "sources": _label_sources(run.preferences),
        "worth": worth_table(label_worth(run.preferences)),
        "agreement": words.agreement_sentences(agreement(run.preferences), flips),
        "flip_figure": flip_picture(run.preferences),
        "metrics": _METRICS,
        "curves": curve_pictures(run.log, run.results),
    }


def _median_on_text(features: pl.DataFrame) -> float:
    """Median mouse dwell on both answers of a pairwise question, s; NaN without any."""
    pairs = features.filter(pl.col("mode") == "pairwise").select(
        pl.col("mouse_dwell_left") + pl.col("mouse_dwell_right")
    )
    dwell = pairs.to_series().drop_nulls().to_numpy()
    return float(pl.Series(dwell).median()) / 1_000 if len(dwell) else float("nan")  # type: ignore[arg-type]


def _caret_rows(carets: list[CaretCounts]) -> list[dict[str, Any]]:
    """One row per schema version and modality: carets recorded, in total and by status."""
    table = pl.DataFrame(carets)
    keys = ["schema_version", "modality"]
    counts = [pl.col("ticks").filter(pl.col("status") == status).sum().alias(status) for status in _STATUSES]
    return table.group_by(keys).agg(pl.col("ticks").sum().alias("carets"), *counts).sort(keys).to_dicts()


def _label_sources(preferences: pl.DataFrame) -> list[dict[str, Any]]:
    """One row per label source and split."""
    keys = ["label_source", "split"]
    counted = preferences.group_by(keys).agg(
        pairs=pl.len(),
        workers=pl.col("worker_id").n_unique(),
        mean=pl.col("flip_prob").sort().mean(),
        median=pl.col("flip_prob").median(),
    )
    return counted.sort("label_source", "split", descending=[False, True]).to_dicts()
