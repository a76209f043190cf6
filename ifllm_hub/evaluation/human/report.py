"""The scores of human ratings as Markdown."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from ifllm_hub.evaluation.human.scores import score_ratings
from ifllm_hub.evaluation.results import write_results
from ifllm_hub.evaluation.tables import JUDGMENTS, RATINGS, read_table
from ifllm_hub.pages.markdown import markdown_table, one_line

_NAMES = {
    "claim_supported": "claim holds (share)",
    "errors": "errors (0-2, fewer is better)",
    "informativeness": "informativeness (1-5)",
    "relevance": "relevance (1-4)",
    "overall": "overall (1-5)",
    "comparison": "comparison (-3 to 3)",
}


def write_scores(ratings: Sequence[Path], judgments: Sequence[Path], out: Path) -> str:
    """Score files of ratings, and write `human.json` and `human.md` into a folder.

    Args:
        ratings: files of what `import_ratings` returned.
        judgments: files of judgments of the same answers; may be empty.
        out: the folder; it is created.

    Returns:
        The page.

    Raises:
        IfllmError: a file cannot be read, there is nothing to score (see `score_ratings`), or the folder cannot be
            written.
    """
    rated = pl.concat([read_table(file, RATINGS) for file in ratings])
    judged = pl.concat([read_table(file, JUDGMENTS) for file in judgments]) if judgments else None
    scores = score_ratings(rated, judged)
    page = ratings_page(scores)
    write_results(out, "human", scores, page)
    return page


def ratings_page(scores: dict[str, Any]) -> str:
    """The report, from what `score_ratings` gives."""
    return "# Human ratings\n\n" + _HOW + "\n" + "\n".join(_section(group) for group in scores["groups"])


_HOW = """The model is the aligned one, the baseline what it is compared with; raters saw neither name. Differences are
model minus baseline. Intervals are 95 %, by jackknife over items and, beside them, over raters: a handful of raters
makes the latter wide, and "-" means there is only one. Tests are two-sided, on items (mean over raters): Wilcoxon
signed-rank, zeros ranked as by Pratt, with p-values corrected by Holm's method over the six tests of a group. Agreement
on the claim check is not given, because each rater picks a claim.
"""


def _section(group: dict[str, Any]) -> str:
    of = "All together" if group["llm"] is None else f"{_text(group['llm'])}, labels {_text(group['label_source'])}"
    parts = [
        f"## {of}",
        f"{group['ratings']} ratings of {group['items']} items by {group['raters']} raters.",
        _dimensions(group),
        _votes(group["comparison"]),
        "### Agreement between raters",
        _agreement(group["agreement"]),
    ]
    if group["judges"]:
        parts += ["### Agreement with judges", _judges(group["judges"])]
    return "\n\n".join(parts) + "\n"


def _dimensions(group: dict[str, Any]) -> str:
    rows = [
        (
            _NAMES[row["dimension"]],
            str(row["ratings"]),
            _number(row["model"]),
            _number(row["baseline"]),
            *_tested(row, row["difference"]),
        )
        for row in group["dimensions"]
    ]
    comparison = group["comparison"]
    rows.append((_NAMES["comparison"], str(comparison["ratings"]), "", "", *_tested(comparison, comparison["mean"])))
    head = (">ratings", ">model", ">baseline", "difference [over items]", "[over raters]", ">p", ">p, Holm")
    return markdown_table(("question", *head), rows)


def _tested(row: dict[str, Any], mean: float | None) -> tuple[str, ...]:
    by_item, by_rater = (_interval(row[name]) for name in ("by_item", "by_rater"))
    return f"{_number(mean, '+.3f')} {by_item}", by_rater, _p(row["p"]), _p(row["p_holm"])


def _votes(comparison: dict[str, Any]) -> str:
    votes = sorted(comparison["votes"].items(), key=lambda vote: int(vote[0]))
    shares = (f"{100 * comparison[name]:.1f} %" for name in ("model", "tie", "baseline"))
    t = f"t = {_number(comparison['t'])}, p = {_p(comparison['p_t'])}"
    return (
        "The model's answer is better in {} of the ratings, neither in {}, the baseline's in {}. ".format(*shares)
        + f"One-sample t-test of the items' comparisons against 0: {t}.\n\n"
        + markdown_table(
            ("comparison", *(f">{int(value):+d}" if value != "0" else ">0" for value, _ in votes)),
            [("ratings", *(str(count) for _, count in votes))],
        )
    )


def _agreement(agreement: dict[str, Any]) -> str:
    comparisons = agreement["comparisons"]
    if not comparisons["pairs"]:
        return "No item was rated by two raters."
    rows = [
        (
            _NAMES[row["question"]],
            str(row["units"]),
            *(_number(row[key]) for key in ("kappa", "kappa_linear", "kappa_quadratic", "alpha")),
        )
        for row in agreement["questions"]
    ]
    head = ("question", ">units", ">kappa", ">linear", ">quadratic", ">Krippendorff's alpha")
    return (
        markdown_table(head, rows)
        + "\n\nA unit is an item for the comparison, else an answer. Kappas are means over pairs of raters; alpha is "
        + f"ordinal. Of {comparisons['pairs']} pairs of comparisons, {_share(comparisons['exact'])} are equal and "
        + f"{_share(comparisons['within_one'])} differ by at most 1; of the {comparisons['decisive']} without a 0, "
        + f"{_share(comparisons['same_sign'])} have the same sign."
    )


def _judges(judges: list[dict[str, Any]]) -> str:
    rows = [
        (
            _text(row["judge"]),
            row["preset"],
            f"{row['items']} ({row['both_orders']})",
            f"{_number(row['pearson'])} {_interval(row)}",
            _number(row["spearman"]),
            f"{_share(row['same_sign'])} of {row['decisive']}",
        )
        for row in judges
    ]
    head = ("judge", "preset", ">items (in both orders)", "Pearson [95 % CI]", ">Spearman", ">same sign")
    return (
        markdown_table(head, rows)
        + "\n\nOver items: the raters' mean comparison against the judge's difference of scores, mean over its orders. "
        "Same sign: of the items where neither is 0."
    )


def _interval(value: dict[str, Any] | None) -> str:
    if value is None or value["low"] is None:
        return "-"
    return f"[{_number(value['low'], '+.3f')}, {_number(value['high'], '+.3f')}]"


def _number(value: float | None, form: str = ".3f") -> str:
    return "-" if value is None else f"{value:{form}}"


def _p(value: float | None) -> str:
    return "-" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def _text(name: str) -> str:
    """A name from a file as plain text."""
    return f"`{one_line(name).replace('`', chr(39))}`"
