"""How good a judge is: is it consistent, does it favor a position or its own family, does it agree with people?

Shares are over judgments with a verdict, with 95 % intervals by jackknife over workers, because one worker's
questions are not independent. A tie counts half where a verdict is compared with a side.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from ifllm_hub.errors import IfllmError
from ifllm_hub.evaluation.comparison.differences import KEYS, join_orders, without_repeats
from ifllm_hub.evaluation.judge.inputs import PEOPLE
from ifllm_hub.files import read_json, without_nan, write_atomically
from ifllm_hub.pages.markdown import markdown_table
from ifllm_hub.reward.protocol.tables import with_interval
from ifllm_hub.statistics import Estimate, mean_interval
from ifllm_hub.terms import FAILURES, ORDERS

QUALITY = ".quality.json"
SHARES = {
    "position_consistency": "same winner in both orders",
    "first_position": "first answer wins, of verdicts without ties",
    "tie": "ties",
    "agreement": "agreement with people",
    "self_preference": "own family preferred, more than by people",
}
_MAKERS = {"meta"}  # names that come before that of the family


def judge_quality(judgments: pl.DataFrame, preferences: pl.DataFrame | None = None) -> list[dict[str, Any]]:
    """One entry per judge and set of settings, in the order of the table.

    Args:
        judgments: `JUDGMENTS`; repeated ones count once, and of those of mode `single` only the status counts.
        preferences: `question_id` and `preference` (`left`, `right`) of the pairs that people rated; judgments of them
            are those of `human_rated_pairs`.

    Returns:
        `judge`, `judge_settings`, `judgments` (how many), `pairs` (see below), the share of each of `FAILURES`, and of
        each of `SHARES` `mean`, `low`, `high` and `n`; NaN where there is nothing to measure. `pairs`: how many were
        `asked`, which is the sum of those `decided`, `tied` and `set_aside`, as in `differences.Differences`.
        `position_consistency` is over pairs that have a verdict in both orders; `agreement` over all judgments of
        rated pairs; `self_preference` over those of them where one of the two answers is by a model of the judge's
        family: how often the judge prefers it, minus how often people do.
    """
    rows = judgments.with_row_index("row").pipe(without_repeats).sort("row").drop("row")
    return [
        _measured(str(judge), str(settings), part, preferences)
        for (judge, settings), part in rows.group_by("judge", "judge_settings", maintain_order=True)
    ]


def family(name: str) -> str:
    """The kind of model a name means: `gpt` for `openai/gpt-4o-mini`, `llama` for `meta-llama/Meta-Llama-3.1-8B`."""
    words = re.findall(r"[a-z]+", name.rpartition("/")[2].lower())
    return next((word for word in words if word not in _MAKERS), name.lower())


def quality_rows(qualities: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    """All judges side by side, one row per measure: its name, then each judge's value with interval and n."""
    rows = [("judgments", *(str(one["judgments"]) for one in qualities))]
    rows += [("pairs asked = decided + tied + set aside", *(_pairs(one["pairs"]) for one in qualities))]
    rows += [(status, *(f"{one[status]:.3f}" for one in qualities)) for status in FAILURES]
    rows += [
        (what, *(f"{with_interval(one[name])}, n {one[name]['n']}" if one[name]["n"] else "-" for one in qualities))
        for name, what in SHARES.items()
    ]
    return rows


def quality_markdown(qualities: Sequence[dict[str, Any]]) -> str:
    """`quality_rows` as a Markdown table."""
    names = (f"{one['judge']}, {json.loads(one['judge_settings'])['prompt']}" for one in qualities)
    return markdown_table(("share [95 % CI over workers]", *names), quality_rows(qualities))


def write_quality(judgments: Path, qualities: Sequence[dict[str, Any]]) -> Path:
    """Write `<judgments>.quality.json` beside a file of judgments: `judge_quality`, null for NaN.

    Raises:
        IfllmError: the folder cannot be written.
    """
    path = judgments.with_suffix(QUALITY)
    write_atomically(path, json.dumps(without_nan(list(qualities)), indent=2, allow_nan=False) + "\n")
    return path


def read_quality(path: Path) -> list[dict[str, Any]]:
    """What `write_quality` wrote.

    Raises:
        IfllmError: it is missing or damaged.
    """
    qualities: list[dict[str, Any]] = read_json(path)
    try:
        for one in qualities:
            for name in (*SHARES, "pairs"):
                one[name] = {key: float("nan") if value is None else value for key, value in one[name].items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise IfllmError(
            f"{path}: was not written by this version. Run ifllm judge again; it asks nothing twice."
        ) from error
    return qualities


class CountedEstimate(Estimate):
    """With the number of values."""

    n: int


def clustered_mean(values: pl.Series, workers: pl.Series) -> CountedEstimate:
    """`mean`, its interval over workers (`low`, `high`) and `n`; NaN without values."""
    if values.is_empty():
        return {"mean": float("nan"), "low": float("nan"), "high": float("nan"), "n": 0}
    numbers = values.cast(pl.Float64).to_numpy()
    return {"mean": float(numbers.mean()), **mean_interval(numbers, workers.to_numpy()), "n": len(numbers)}


def _measured(judge: str, settings: str, rows: pl.DataFrame, preferences: pl.DataFrame | None) -> dict[str, Any]:
    pairwise = rows.filter(pl.col("mode") == "pairwise")
    verdicts = pairwise.filter(pl.col("status") == "ok")
    pairs, set_aside = join_orders(pairwise)
    first, second = (pl.col(f"word_{order}") for order in ORDERS)
    decided = verdicts.filter(pl.col("winner") != "tie")
    rated = _rated(verdicts, preferences)
    own = rated.filter(_is_own("model", judge) != _is_own("baseline", judge))
    side = pl.when(_is_own("model", judge)).then(pl.lit("model")).otherwise(pl.lit("baseline"))
    shares = {
        "position_consistency": pairs.filter(pl.col("orders") == 2).with_columns(value=first == second),
        "first_position": decided.with_columns(
            value=(pl.col("winner") == "model") == (pl.col("order") == "model_first")
        ),
        "tie": verdicts.with_columns(value=pl.col("winner") == "tie"),
        "agreement": rated.with_columns(value=_for_side(pl.col("liked"))),
        "self_preference": own.with_columns(value=_for_side(side) - (pl.col("liked") == side).cast(pl.Float64)),
    }
    return {
        "judge": judge,
        "judge_settings": settings,
        "judgments": rows.height,
        "pairs": {
            "asked": pairwise.select(KEYS).n_unique(),
            "decided": int((pairs["winner"] != "tie").sum()),
            "tied": int((pairs["winner"] == "tie").sum()),
            "set_aside": set_aside.height,
        },
        **{status: float((rows["status"] == status).sum()) / rows.height for status in FAILURES},
        **{name: clustered_mean(frame["value"], frame["worker_id"]) for name, frame in shares.items()},
    }


def _pairs(counts: dict[str, int]) -> str:
    return f"{counts['asked']} = {counts['decided']} + {counts['tied']} + {counts['set_aside']}"


def _rated(verdicts: pl.DataFrame, preferences: pl.DataFrame | None) -> pl.DataFrame:
    """Verdicts on pairs that people rated, with the side they `liked`."""
    if preferences is None:
        return verdicts.clear().with_columns(liked=pl.lit(None, pl.String))
    liked = preferences.select(
        "question_id", liked=pl.col("preference").replace_strict({"left": "model", "right": "baseline"}, default=None)
    ).drop_nulls()
    people = verdicts.filter(*(pl.col(name) == value for name, value in PEOPLE.items()))
    return people.join(liked, on="question_id", how="inner", maintain_order="left")


def _is_own(side: str, judge: str) -> pl.Expr:
    return pl.col(side).map_elements(lambda name: family(name) == family(judge), return_dtype=pl.Boolean)


def _for_side(side: pl.Expr) -> pl.Expr:
    """1 where the winner is that side, 0.5 for a tie, else 0."""
    return pl.when(pl.col("winner") == "tie").then(0.5).otherwise((pl.col("winner") == side).cast(pl.Float64))
