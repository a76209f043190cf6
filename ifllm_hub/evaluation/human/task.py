"""A blinded rating task: the same two answers for several raters, each with sides of their own.

What a rater receives does not reveal which answer is whose. Only the key does, and it is not handed out.
"""

import csv
import hashlib
import io
import json
import random
import re
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from ifllm_hub.errors import IfllmError
from ifllm_hub.evaluation.human.questions import COMPARISON, FIELDS, SCALES
from ifllm_hub.evaluation.tables import RATINGS, read_generations, write_table
from ifllm_hub.files import replacing_folder
from ifllm_hub.pages.web_page import csp_source, page_template
from ifllm_hub.terms import SIDES

KEY_FILE, SHEET_FILE, RATERS_FOLDER = "key.parquet", "sheet.csv", "for_raters"
_PAGE = Path(__file__).with_name("page.html.jinja")

# The columns of RATINGS that say what was rated, not how.
_ITEM = tuple(RATINGS)[: tuple(RATINGS).index("order") + 1]
# One row per item and rater. `order` is `model_first` where the aligned model's answer is on the left.
KEY: dict[str, pl.DataType | type[pl.DataType]] = {
    "task_id": pl.String,
    "seed": pl.Int64,
    "position": pl.Int32,  # in this rater's order, from 1
    **{name: RATINGS[name] for name in _ITEM},
}

_RATER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")
# A spreadsheet treats a cell that begins like this as a formula and may run it.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def export_task(
    model: Path,
    baseline: Path,
    out: Path,
    llm: str,
    label_source: str,
    raters: Sequence[str],
    items: int | None = None,
    seed: int | None = None,
) -> pl.DataFrame:
    """Write `key.parquet`, and in `for_raters` a page for each rater and one `sheet.csv`.

    Each rater sees every item, in an order of their own; a coin for each item and rater says whose answer is on the
    left. A rater who knew the seed could compute it, so keep it with the key.

    Args:
        model: GENERATIONS of the aligned model.
        baseline: GENERATIONS of what it is compared with; only questions that both answered are items.
        out: a folder to create.
        llm: which base LLM was aligned.
        label_source: whose labels it was aligned on.
        raters: pseudonyms of 1 to 40 letters, digits, `-` or `_`.
        items: how many of the questions, drawn at random; all if None.
        seed: for coins, orders and the draw; drawn if None. The key holds it.

    Returns:
        The key, see `KEY`.

    Raises:
        IfllmError: a file cannot be used, the files have no question in common or one was asked after different
            conversations, there are fewer questions than `items`, a rater's name is not a pseudonym or occurs twice, or
            `out` is not empty.
    """
    if (out / KEY_FILE).exists():
        raise IfllmError(
            f"{out / KEY_FILE}: is the key of an earlier task, whose ratings cannot be read without it. Choose another "
            "folder."
        )
    _check_raters(raters)
    seed = secrets.randbits(62) if seed is None else seed
    questions = _compared(model, baseline).with_columns(llm=pl.lit(llm), label_source=pl.lit(label_source))
    if items is not None:
        if not 0 < items <= questions.height:
            raise IfllmError(f"{items} items wanted, but the files have {questions.height} questions in common.")
        questions = questions[sorted(random.Random(f"{seed}/items").sample(range(questions.height), items))]
    key = _key(questions, raters, seed)
    with replacing_folder(out, KEY_FILE) as folder:
        write_table(folder / KEY_FILE, key)
        (folder / RATERS_FOLDER).mkdir()
        (folder / RATERS_FOLDER / SHEET_FILE).write_text(sheet(key), encoding="utf-8", newline="")
        for (rater,), rows in key.group_by("rater_id", maintain_order=True):
            (folder / RATERS_FOLDER / f"{rater}.html").write_text(page(rows), encoding="utf-8", newline="")
    return key


def sheet(key: pl.DataFrame) -> str:
    """CSV for collecting ratings by other means: one row per item and rater, with what to show and what to fill in.

    A text that a spreadsheet would treat as a formula gets an apostrophe in front.
    """
    content = io.StringIO()
    writer = csv.writer(content, lineterminator="\r\n")
    writer.writerow(["task_id", "item_id", "rater_id", "conversation", "answer_left", "answer_right", *FIELDS])
    for row in _blinded(key):
        said = "\n\n".join(f"{message['role']}: {message['content']}" for message in row["messages"])
        shown = (said, row["answer_left"], row["answer_right"])
        ids = (row["task_id"], row["item_id"], row["rater_id"])
        safe = (f"'{text}" if text.startswith(_FORMULA) else text for text in shown)
        writer.writerow([*ids, *safe, *[""] * len(FIELDS)])
    return content.getvalue()


def page(key: pl.DataFrame) -> str:
    """The page of one rater: everything in one file, nothing fetched, model texts as data that a script shows as text.

    Its content security policy allows this one script and this one style, by their digests, and nothing else.
    """
    rows = _blinded(key)
    task = {
        "task_id": rows[0]["task_id"],
        "rater_id": rows[0]["rater_id"],
        "fields": FIELDS,
        "items": [{name: row[name] for name in ("item_id", "messages", "answer_left", "answer_right")} for row in rows],
    }
    parts = {name: (Path(__file__).parent / f"page.{name}").read_text(encoding="utf-8") for name in ("css", "js")}
    digests = {name: csp_source(part) for name, part in parts.items()}
    template = page_template(_PAGE)
    return template.render(**parts, digests=digests, task=task, sides=SIDES, scales=SCALES, comparison=COMPARISON)


def _check_raters(raters: Sequence[str]) -> None:
    for rater in raters:
        if not _RATER.fullmatch(rater):
            raise IfllmError(
                f"Rater {rater!r}: identify raters by 1 to 40 letters, digits, '-' or '_', not by their names."
            )
    if not raters or len({rater.lower() for rater in raters}) < len(raters):
        raise IfllmError("Name at least one rater, and each only once (capitals make no difference).")


def _compared(model: Path, baseline: Path) -> pl.DataFrame:
    """One row per question that both files answer, with the columns of RATINGS that describe it."""
    ours, theirs = _answers(model, "model"), _answers(baseline, "baseline")
    both = ours.join(theirs, on="question_id", maintain_order="left").sort("question_id")
    if both.is_empty():
        raise IfllmError(f"{model} and {baseline} have no question in common. Generate both on the same prompts.")
    other = both.filter(pl.col("messages") != pl.col("messages_baseline"))
    if other.height:
        raise IfllmError(
            f"Question {other['question_id'][0]}: {model} and {baseline} were given different conversations. Generate "
            "both with the same history setting."
        )
    return both


def _answers(file: Path, name: str) -> pl.DataFrame:
    rows = read_generations(file)
    revisions = rows.select("model", "model_revision").n_unique()
    if revisions != 1 or rows["question_id"].is_duplicated().any():
        raise IfllmError(
            f"{file}: {revisions} models, {rows['question_id'].n_unique()} questions in {rows.height} rows; a rating "
            "task needs one answer per question, from one model."
        )
    described = {name: "model", f"{name}_revision": "model_revision", f"answer_{name}": "answer"}
    columns = [pl.col(column).alias(new) for new, column in described.items()]
    if name == "model":
        return rows.select("question_id", "worker_id", "messages", *columns)
    return rows.select("question_id", pl.col("messages").alias("messages_baseline"), *columns)


def _key(questions: pl.DataFrame, raters: Sequence[str], seed: int) -> pl.DataFrame:
    rows = questions.to_dicts()
    for row in rows:
        row["item_id"] = _hashed(seed, *(row[name] for name in _ITEM if name in row and name != "messages"))
    task_id = _hashed(seed, *raters, *(row["item_id"] for row in rows))
    key = []
    for rater in raters:
        order = random.Random(f"{seed}/{rater}").sample(rows, len(rows))
        for position, row in enumerate(order, 1):
            heads = random.Random(f"{seed}/{rater}/{row['item_id']}").random() < 0.5
            side = "model_first" if heads else "baseline_first"
            key.append(
                {**row, "task_id": task_id, "seed": seed, "position": position, "rater_id": rater, "order": side}
            )
    return pl.DataFrame(key, schema_overrides=KEY).select(*KEY)


def _hashed(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


def _blinded(key: pl.DataFrame) -> list[dict[str, Any]]:
    """Rows of the key with the answers by side, and nothing that reveals whose they are."""
    first = pl.col("order") == "model_first"
    return key.select(
        "task_id",
        "item_id",
        "rater_id",
        "messages",
        answer_left=pl.when(first).then("answer_model").otherwise("answer_baseline"),
        answer_right=pl.when(first).then("answer_baseline").otherwise("answer_model"),
    ).to_dicts()
