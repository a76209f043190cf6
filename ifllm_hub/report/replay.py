"""A recorded reading -> one page that plays it over the answer's text."""

import json
from pathlib import Path
from typing import Any

from ifllm_hub.dataset.load import load_config
from ifllm_hub.errors import IfllmError
from ifllm_hub.features.measures import CELL
from ifllm_hub.features.ticks import MAX_STEP_MS
from ifllm_hub.features.viewport import MAX_VIEW_MS
from ifllm_hub.files import write_atomically
from ifllm_hub.pages.web_page import csp_source, page_template
from ifllm_hub.report.heat import LEVELS_MS
from ifllm_hub.terms import MODALITIES, SIDES

# A tick's time counts in full on its character, and with falling weight on this many to either side: in total, on as
# many characters as a cell of the report has.
SPREAD = CELL - 1
# How much of each pause off the text is played, ms.
PAUSE_MS = 1_000

_HERE = Path(__file__).parent / "pages"


def write_replay(dataset: str | Path, question_id: int, out: str | Path) -> Path:
    """Write a page that plays one question's reading: where the cursor was or what was on the screen, for how long, and
    the position in the text against time.

    The page loads nothing and runs only its own script. The same dataset gives the same bytes.

    Args:
        dataset: a folder or Hub repo with the configs `trajectories` and `pairwise` or `pointwise`.
        out: the HTML file.

    Returns:
        `out`.

    Raises:
        IfllmError: the dataset has no such question or no reading of it, cannot be read, or the page cannot be written.
    """
    trajectory = _row(dataset, "trajectories", question_id)
    if not trajectory["t"] and not trajectory["viewport_t"]:
        raise IfllmError(f"{dataset}: nothing was recorded for question {question_id}. Choose another question.")
    return write_reading(_row(dataset, trajectory["mode"], question_id), trajectory, Path(out))


def write_reading(question: dict[str, Any], trajectory: dict[str, Any], out: Path) -> Path:
    """`write_replay` for rows that are already loaded.

    Args:
        question: a row of `pairwise` or `pointwise`.
        trajectory: the row of `trajectories` with its id, which has ticks or says what was on the screen.

    Raises:
        IfllmError: the page cannot be written.
    """
    reading = {
        "t": trajectory["t"],
        "views": {
            "t": trajectory["viewport_t"],
            **{part: [trajectory[f"viewport_{part}_{side}"] for side in SIDES] for part in ("first", "last")},
        },
        "answers": _answers(question, trajectory["mode"]),
        "chars": {modality: [trajectory[f"{modality}_char_{side}"] or [] for side in SIDES] for modality in MODALITIES},
        "levels": LEVELS_MS,
        "spread": SPREAD,
        "max_step_ms": MAX_STEP_MS,
        "max_view_ms": MAX_VIEW_MS,
        "pause_ms": PAUSE_MS,
    }
    write_atomically(out, _page(question, trajectory, reading), private=True)
    return out


def _row(dataset: str | Path, config: str, question_id: int) -> dict[str, Any]:
    rows = load_config(dataset, config, question_ids=[question_id])
    if rows.height != 1:
        raise IfllmError(
            f"{dataset}: config '{config}' has {rows.height} rows for question {question_id}, not one. Choose a "
            "question_id of that config."
        )
    return rows.row(0, named=True)


def _answers(question: dict[str, Any], mode: str) -> list[dict[str, Any]]:
    if mode == "pointwise":
        return [{"name": "Answer", "text": question["response"], **_label(question["rating"], False)}]
    return [
        {
            "name": f"{side.capitalize()} answer",
            "text": question[f"response_{side}"],
            **_label(question[f"rating_{side}"], question["preference"] == side),
        }
        for side in SIDES
    ]


def _label(rating: int | None, preferred: bool) -> dict[str, Any]:
    return {"rating": rating, "preferred": preferred}


def _page(question: dict[str, Any], trajectory: dict[str, Any], reading: dict[str, Any]) -> str:
    from markupsafe import Markup

    script, style = ((_HERE / f"replay.{kind}").read_text(encoding="utf-8") for kind in ("js", "css"))
    # JSON without "<" cannot close the element it is in.
    data = json.dumps(reading, separators=(",", ":")).replace("<", "\\u003c")
    return page_template(_HERE / "replay.html.jinja").render(
        question=question,
        mode=trajectory["mode"],
        answers=reading["answers"],
        levels=LEVELS_MS,
        spread=SPREAD,
        max_step_ms=MAX_STEP_MS,
        max_view_ms=MAX_VIEW_MS,
        data=Markup(data),
        script=Markup(script),
        style=Markup(style),
        script_hash=csp_source(script),
        style_hash=csp_source(style),
    )
