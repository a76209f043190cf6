"""Judgments -> pairs: one row per question and cell, with both orders joined, or set aside and counted.

A cell is an LLM aligned on the labels of one source. Each of its answers was judged against the LLM's own SFT answer.

Averaging the two orders cancels whatever a judge adds for the answer it is shown first: with s + b for the first and
s for the second, the difference of the scores is d + b in one order and d - b in the other.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from ifllm_hub.errors import IfllmError
from ifllm_hub.evaluation.comparison.document import JudgmentsFile
from ifllm_hub.evaluation.tables import JUDGMENTS, read_table
from ifllm_hub.terms import FAILURES, ORDERS

# The columns that identify a judged question of a cell.
KEYS = ("llm", "label_source", "question_id")
WINNERS = ("model", "baseline", "tie")
STATUSES = ("ok", *FAILURES)
# The preset that asks for one order only, as in the paper.
ONE_ORDER = "reference"
LOWEST, HIGHEST = 1.0, 10.0

# What all judgments of one comparison share, and all of one cell.
_STUDY = ("judge", "judge_settings", "preset")
_CELL = ("model", "model_revision", "baseline", "baseline_revision")


@dataclass(frozen=True)
class Differences:
    """What the judgments say about each question.

    Attributes:
        pairs: one row per question and cell that can be scored, sorted by `KEYS`: `worker_id`; `orders` (2, or 1 by
            design); `score_model`, `score_baseline` and `difference` (model minus baseline), means over the orders;
            `difference_model_first`, `difference_baseline_first` (null for an order not asked for); `winner`, the sign
            of `difference`; `word_model_first`, `word_baseline_first`: the winner as the judge named it;
            `winner_in_both`: that word if both orders agree, else `tie`, null where one order was asked for; `words_*`
            and `chars_*` (code points) of `model`, `baseline`, `prompt`.
        set_aside: one row per question and cell that cannot: `KEYS` and `reason`.
        asked: one row per question and cell that was judged, sorted by `KEYS`: each is in `pairs` or in `set_aside`.
        judgments: number of judgments read.
        repeated: rows that were in more than one file, or more than once; each counts once.
        single: judgments of single answers; they are not used.
        statuses: number of judgments by status.
        contradictions: judgments whose word contradicts their own scores.
        resampled_baselines: pairs of LLM and question with more than one baseline answer.
    """

    pairs: pl.DataFrame
    set_aside: pl.DataFrame
    asked: pl.DataFrame
    judgments: int
    repeated: int
    single: int
    statuses: dict[str, int]
    contradictions: int
    resampled_baselines: int


def read_judgments(paths: Sequence[Path]) -> tuple[pl.DataFrame, list[JudgmentsFile]]:
    """Judgments of files, and of all Parquet files of folders, in the order of their names.

    Returns:
        The judgments, with the columns of `JUDGMENTS`; name and SHA-256 of the content of each file.

    Raises:
        IfllmError: there is no file, or one is not a table of judgments.
    """
    files = [file for path in paths for file in (sorted(path.glob("*.parquet")) if path.is_dir() else [path])]
    if not files:
        raise IfllmError(f"{', '.join(map(str, paths))}: no Parquet files of judgments. Judge first: ifllm judge.")
    tables = [read_table(file, JUDGMENTS) for file in files]
    origins: list[JudgmentsFile] = [{"name": file.name, "sha256": _digest(file)} for file in files]
    return pl.concat(tables), origins


def differences(judgments: pl.DataFrame) -> Differences:
    """Join the orders of every pairwise judgment, and average them.

    The winner of a pair is the sign of the averaged difference, a tie if it is 0. The stricter rule that a pair is a
    tie unless the judge names the same winner in both orders (https://huggingface.co/papers/2306.05685) is kept beside
    it as `winner_in_both`: it never names a winner by position alone, but the stronger a judge's position bias, the
    more it pulls a win rate towards one half, which the averaged difference does not.

    A pair that lacks an order is set aside: it would carry the position bias of the other. Under the preset
    `reference`, which asks for one order only, that one counts.

    Args:
        judgments: columns of `JUDGMENTS`, in any order; the order of the rows does not matter.

    Raises:
        IfllmError: they are of several judges, settings or presets; a cell mixes models or revisions; a question was
            judged twice in the same order; a score is missing or out of range.
    """
    rows = without_repeats(judgments)
    pairwise = rows.filter(pl.col("mode") == "pairwise")
    _check(pairwise)
    pairs, set_aside = join_orders(pairwise)
    return Differences(
        pairs=pairs,
        set_aside=set_aside,
        asked=judgments.filter(pl.col("mode") == "pairwise").select(KEYS).unique().sort(KEYS),
        judgments=judgments.height,
        repeated=judgments.height - rows.height,
        single=rows.height - pairwise.height,
        statuses={status: int((pairwise["status"] == status).sum()) for status in STATUSES},
        contradictions=pairwise.filter(_contradicts()).height,
        resampled_baselines=pairwise.group_by("llm", "question_id")
        .agg(pl.col("answer_baseline").n_unique())
        .filter(pl.col("answer_baseline") > 1)
        .height,
    )


def without_repeats(judgments: pl.DataFrame) -> pl.DataFrame:
    """The rows, with repeated ones (such as from two files) kept once, with a verdict if any has one.

    The id alone does not tell rows apart: it says what the judge saw. Both orders of two equal answers have one id, and
    so have two cells, or two questions, that share their texts; each of them is a row of its own.
    """
    ordered = judgments.sort("judgment_id", *KEYS, "order", pl.col("status") != "ok", "asked_at")
    return ordered.unique(["judgment_id", *KEYS, "order"], keep="first", maintain_order=True)


def join_orders(pairwise: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """`pairs` and `set_aside` of `Differences`, from the judgments of pairs in one preset, none of them repeated."""
    joined = _joined(pairwise)
    scored = pl.col("orders") >= (1 if (pairwise["preset"] == ONE_ORDER).all() else 2)
    return _scored(joined.filter(scored)), joined.filter(~scored).select(*KEYS, reason=_reason())


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _check(rows: pl.DataFrame) -> None:
    if not rows.height:
        raise IfllmError("There are no pairwise judgments. Judge pairs: ifllm judge.")
    for name in _STUDY:
        if len(values := rows[name].unique().sort()) > 1:
            raise IfllmError(
                f"The judgments have {len(values)} values of {name}, such as {values[0]!r} and {values[1]!r}. Compare "
                f"them separately."
            )
    mixed = rows.group_by("llm", "label_source").agg(pl.col(_CELL).n_unique()).sort("llm", "label_source")
    for cell in mixed.iter_rows(named=True):
        for name in _CELL:
            if cell[name] > 1:
                raise IfllmError(
                    f"{cell['llm']}, {cell['label_source']}: the judgments have {cell[name]} values of {name}. Name "
                    f"the files of one, or give the models different label sources."
                )
    _refuse(rows, ~pl.col("status").is_in(STATUSES), "an unknown status")
    _refuse(rows, ~pl.col("order").is_in(ORDERS).fill_null(False), "no order")
    scores = [pl.col(f"score_{side}").is_between(LOWEST, HIGHEST).fill_null(False) for side in ("model", "baseline")]
    sound = scores[0] & scores[1] & pl.col("winner").is_in(WINNERS).fill_null(False)
    _refuse(rows, (pl.col("status") == "ok") & ~sound, "no winner, or no scores from 1 to 10, although it is `ok`")
    _refuse(rows, pl.struct(*KEYS, "order").is_duplicated(), "a second judgment in the same order, of other answers")


def _refuse(rows: pl.DataFrame, bad: pl.Expr, what: str) -> None:
    if (found := rows.filter(bad)).height:
        row = found.row(0, named=True)
        raise IfllmError(
            f"{row['llm']}, {row['label_source']}, question {row['question_id']}: {what} ({found.height} such "
            "judgments). Judge again into a new file."
        )


def _joined(rows: pl.DataFrame) -> pl.DataFrame:
    ok = pl.col("status") == "ok"

    def of(order: str, value: pl.Expr) -> pl.Expr:
        return value.filter(ok & (pl.col("order") == order)).first()

    difference, word = pl.col("score_model") - pl.col("score_baseline"), pl.col("winner")
    prompt = pl.col("messages").list.eval(pl.element().struct.field("content")).list.join("\n")
    texts = {"model": pl.col("answer_model"), "baseline": pl.col("answer_baseline"), "prompt": prompt}
    return (
        rows.sort(*KEYS, "order")
        .group_by(KEYS, maintain_order=True)
        .agg(
            pl.col("worker_id").first(),
            orders=ok.sum().cast(pl.Int8),
            failures=pl.col("status").filter(~ok),
            score_model=pl.col("score_model").filter(ok).mean(),
            score_baseline=pl.col("score_baseline").filter(ok).mean(),
            **{f"difference_{order}": of(order, difference) for order in ORDERS},
            **{f"word_{order}": of(order, word) for order in ORDERS},
            **{f"words_{name}": text.str.count_matches(r"\S+").first() for name, text in texts.items()},
            **{f"chars_{name}": text.str.len_chars().first() for name, text in texts.items()},
        )
    )


def _scored(joined: pl.DataFrame) -> pl.DataFrame:
    difference = pl.mean_horizontal(*(f"difference_{order}" for order in ORDERS))
    first, second = (pl.col(f"word_{order}") for order in ORDERS)
    named = pl.when(difference > 0).then(pl.lit("model")).when(difference < 0).then(pl.lit("baseline"))
    agreed = pl.when(pl.col("orders") == 2).then(pl.when(first == second).then(first).otherwise(pl.lit("tie")))
    return joined.drop("failures").with_columns(
        difference=difference, winner=named.otherwise(pl.lit("tie")), winner_in_both=agreed
    )


def _reason() -> pl.Expr:
    failed = pl.col("failures").list.sort().list.unique(maintain_order=True).list.join(", ")
    which = pl.when(pl.col("orders") == 0).then(pl.lit("no order scored")).otherwise(pl.lit("one order scored"))
    return which + pl.when(failed == "").then(pl.lit(": the other is not there")).otherwise(pl.lit(": ") + failed)


def _contradicts() -> pl.Expr:
    """The word names the answer with the lower score; a tie in words contradicts nothing."""
    difference = pl.col("score_model") - pl.col("score_baseline")
    word = pl.col("winner")
    lower = ((word == "model") & (difference < 0)) | ((word == "baseline") & (difference > 0))
    return (pl.col("status") == "ok") & lower
