"""Single judgments in full: which ones are shown, and the verdict in each order."""

import random
from dataclasses import dataclass
from typing import Any

import polars as pl

from ifllm_hub.evaluation.comparison.differences import KEYS, without_repeats
from ifllm_hub.evaluation.comparison.names import name_of
from ifllm_hub.terms import ORDERS

# How many of each kind are shown, and how many code points of a text.
LARGEST, DISAGREEING, SAMPLED, FAILED = 3, 4, 4, 3
SHOWN = 6_000
_SEED = 0


@dataclass(frozen=True)
class Text:
    """A text as it was written, `cut` code points of it left out at the end."""

    text: str
    cut: int


@dataclass(frozen=True)
class Verdict:
    """The judge's verdict in one order.

    Attributes:
        order: `model_first` or `baseline_first`.
        status: `ok`, or why there are no scores.
        score_model, score_baseline: None unless `ok`.
        winner: as the judge named it, likewise.
        said: its explanation; if there are no scores, what was wrong and what it answered.
    """

    order: str
    status: str
    score_model: float | None
    score_baseline: float | None
    winner: str | None
    said: Text


@dataclass(frozen=True)
class Judged:
    """A pair of answers with its verdicts, `why` it is shown, and `difference`, None if it was set aside."""

    why: str
    llm: str
    label_source: str
    question_id: int
    messages: list[tuple[str, Text]]
    model: str
    baseline: str
    answer_model: Text
    answer_baseline: Text
    difference: float | None
    verdicts: list[Verdict]


def choose_judgments(pairs: pl.DataFrame, set_aside: pl.DataFrame) -> list[tuple[dict[str, Any], str]]:
    """Keys of the pairs to show, and why: the largest differences, orders that disagree, failures, a seeded sample.

    No pair is shown twice. The sample is drawn from the other scored pairs.
    """
    ordered = pairs.sort("difference", *KEYS)
    first, second = (pl.col(f"word_{order}") for order in ORDERS)
    groups = [
        (ordered.filter(pl.col("difference") > 0).reverse().head(LARGEST), "largest difference for the aligned model"),
        (ordered.filter(pl.col("difference") < 0).head(LARGEST), "largest difference for its SFT model"),
        (_sample(pairs.filter(first != second), DISAGREEING), "the orders disagree (seeded sample)"),
        (_sample(set_aside, FAILED), "set aside (seeded sample)"),
        (_sample(pairs, SAMPLED + 2 * LARGEST + DISAGREEING), "seeded sample"),
    ]
    chosen: dict[tuple[Any, ...], str] = {}
    for group, why in groups:
        fresh = [row for row in group.select(KEYS).iter_rows() if row not in chosen]
        chosen |= dict.fromkeys(fresh[:SAMPLED], why)
    return [(dict(zip(KEYS, key, strict=True)), why) for key, why in chosen.items()]


def read_judged(judgments: pl.DataFrame, pairs: pl.DataFrame, keys: dict[str, Any], why: str) -> Judged:
    """One pair with both orders, for the page."""
    here = [pl.col(name) == value for name, value in keys.items()]
    found = without_repeats(judgments.filter(*here, pl.col("mode") == "pairwise"))
    rows = found.sort(pl.col("order").replace_strict(ORDERS, range(len(ORDERS)))).to_dicts()
    differences = pairs.filter(*here)["difference"]
    one = rows[0]
    return Judged(
        why=why,
        llm=name_of(one["llm"]),
        label_source=name_of(one["label_source"]),
        question_id=one["question_id"],
        messages=[(message["role"], _text(message["content"])) for message in one["messages"]],
        model=one["model"],
        baseline=one["baseline"],
        answer_model=_text(one["answer_model"]),
        answer_baseline=_text(one["answer_baseline"]),
        difference=differences[0] if len(differences) else None,
        verdicts=[_verdict(row) for row in rows],
    )


def _verdict(row: dict[str, Any]) -> Verdict:
    if row["status"] == "ok":
        said = row["explanation"] or "(no reason was given)"
    else:
        said = f"{row['error'] or 'No reason was kept.'}\n{row['raw'] or ''}"
    scores = row["score_model"], row["score_baseline"]
    return Verdict(row["order"], row["status"], *scores, row["winner"], _text(said))


def _text(text: str | None) -> Text:
    whole = text or ""
    return Text(whole[:SHOWN], max(len(whole) - SHOWN, 0))


def _sample(rows: pl.DataFrame, count: int) -> pl.DataFrame:
    ordered = rows.sort(KEYS)
    return ordered[random.Random(_SEED).sample(range(ordered.height), min(count, ordered.height))]
