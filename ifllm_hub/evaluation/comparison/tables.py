"""The comparison as Markdown, LaTeX and CSV: label sources down, LLMs across, a cell without numbers as a dash."""

import csv
import io
from collections.abc import Callable, Mapping
from typing import Any

from ifllm_hub.evaluation.comparison.document import Comparison, Contrast, Pooled, Score
from ifllm_hub.evaluation.comparison.names import name_of
from ifllm_hub.pages.markdown import markdown_table, one_line

DASH = "\u2013"
POOLED = "pooled"
# What becomes of the pairs that were asked: the first is the sum of the others.
COUNTS = ("asked", "decided", "tied", "set aside")

# How often a judge that tosses a coin names the same winner in both orders.
_COIN = 0.5

_LATEX_SPECIAL = {
    "\\": r"\textbackslash{}",
    **{mark: f"\\{mark}" for mark in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}
_CSV_NUMBERS = {
    "asked": ("asked",),
    "n": ("n",),
    "tied": ("tied",),
    "set_aside": ("set_aside",),
    "difference": ("difference", "mean"),
    "difference_low": ("difference", "low"),
    "difference_high": ("difference", "high"),
    "paper_se": ("difference", "paper_se"),
    "mean_over_llms": ("mean_over_llms", "mean"),
    "length_controlled_difference": ("length_controlled_difference", "mean"),
    "length_controlled_difference_low": ("length_controlled_difference", "low"),
    "length_controlled_difference_high": ("length_controlled_difference", "high"),
    "win_rate": ("win_rate", "mean"),
    "win_rate_low": ("win_rate", "low"),
    "win_rate_high": ("win_rate", "high"),
    "wins": ("wins",),
    "ties": ("ties",),
    "losses": ("losses",),
    "length_controlled_win_rate": ("length_controlled_win_rate", "mean"),
    "length_controlled_win_rate_low": ("length_controlled_win_rate", "low"),
    "length_controlled_win_rate_high": ("length_controlled_win_rate", "high"),
}


def by_cell(comparison: Comparison) -> dict[tuple[str, str], Pooled]:
    """Numbers by (label source, LLM), and by (label source, `POOLED`); only of cells with a scored pair."""
    cells = {(cell["label_source"], cell["llm"]): cell for cell in comparison["cells"]}
    pooled = {(row["label_source"], POOLED): row for row in comparison["pooled"]}
    return {key: cell for key, cell in (cells | pooled).items() if cell["n"]}


def comparison_page(comparison: Comparison) -> str:
    """`comparison.md`: the table, its counts, win rates, contrasts, thirds and what to know when reading them."""
    return f"""# Judged against their own SFT models

Written by `ifllm compare`; do not edit.

Judge: `{one_line(comparison["judge"])}`, preset `{one_line(comparison["preset"])}`. {accounting(comparison)}

## Difference of scores

The judge's points (1 to 10), aligned model minus its own SFT model: mean over prompts ± half of the 95 % interval. A
cell's interval is over prompts; that of the column "{POOLED}", a mean over all prompts and LLMs as in the paper, over
prompts and LLMs.

{_markdown(comparison, _difference)}

{missing_sentence(comparison)}

The pairs of each cell; every pair that was asked about is counted:

{markdown_table(("labels from", "LLM", *(f">{name}" for name in COUNTS)), accounting_rows(comparison))}

## Win rate

Share of prompts on which the aligned model has the higher score, both orders averaged; a tie counts half. In brackets
the length-controlled win rate.

{_markdown(comparison, _win_rate)}

## All LLMs together

{_pooled(comparison)}

"SE (paper)" treats all pairs as independent. The difference at equal lengths and the length-controlled win rate are
what a regression on the difference of lengths predicts for answers of the same length.

## One label source against another

The same prompts and LLMs on both sides; positive where the first is better.

{_contrasts(comparison)}

## By length

Thirds by the words of the prompt, which alignment does not change. The paper's split, by the words of the aligned
model's answer within each LLM, conditions on what alignment changes; it is shown for comparison with the paper.

{_thirds(comparison)}

## Notes

{chr(10).join(f"- {note}" for note in notes(comparison))}
"""


def accounting(comparison: Comparison) -> str:
    """What became of every pair that the judge was asked about: it has a winner, is tied, or was set aside, and why."""
    tied, aside = comparison["tied"], sum(comparison["set_aside"].values())
    why = f" ({_listed(comparison['set_aside'])})" if aside else ""
    return (
        f"{comparison['asked']:,} pairs asked = {comparison['pairs'] - tied:,} decided + {tied:,} tied + {aside:,} set "
        f"aside{why}."
    )


def accounting_rows(comparison: Comparison) -> list[tuple[str, ...]]:
    """One row per judged cell, then those of all LLMs together: label source, LLM, and the numbers of `COUNTS`."""
    cells: list[tuple[str, Pooled]] = [(cell["llm"], cell) for cell in comparison["cells"]]
    cells += [(POOLED, row) for row in comparison["pooled"] if row["asked"]]
    return [
        (
            name_of(cell["label_source"]),
            name_of(llm),
            *(f"{count:,}" for count in (cell["asked"], cell["n"] - cell["tied"], cell["tied"], cell["set_aside"])),
        )
        for llm, cell in cells
    ]


def missing_sentence(comparison: Comparison) -> str:
    """Names every cell without numbers."""
    if not comparison["missing"]:
        return "No cell is missing."
    named = [f"{name_of(cell['label_source'])} / {name_of(cell['llm'])}" for cell in comparison["missing"]]
    return f"{DASH} means not judged, or no pair scored ({len(named)}): {'; '.join(named)}."


def warning(comparison: Comparison) -> str | None:
    """A warning about a judge that keeps its winner less often than a coin would; None for any other."""
    position = comparison["position"]
    if position is None or position["consistency"] >= _COIN:
        return None
    kept = f"{100 * position['consistency']:.1f} % of {position['n']:.0f} pairs"
    return (
        f"When the two answers change places, this judge keeps its winner in {kept}; tossing a coin would in 50 %. "
        "The numbers here say nothing about the models."
    )


def notes(comparison: Comparison) -> list[str]:
    """What a reader has to know of this comparison."""
    position = comparison["position"]
    said = [
        f"Failed judgments by status: {_listed({k: v for k, v in comparison['statuses'].items() if k != 'ok'})}.",
        f"Judgments whose winner contradicts their own scores: {comparison['contradictions']:,}.",
    ]
    if position is None:
        said.append("The judge saw one order only: its position bias is in every number.")
    else:
        said.append(
            f"In both orders the judge names the same winner in {100 * position['consistency']:.1f} % of the pairs; "
            f"the answer shown first wins both times in {100 * position['first_in_both']:.1f} %, the second in "
            f"{100 * position['second_in_both']:.1f} %."
        )
    if warned := warning(comparison):
        said.append(warned)
    if comparison["resampled_baselines"]:
        said.append(
            f"{comparison['resampled_baselines']:,} prompts of an LLM have more than one baseline answer: label "
            "sources were compared with different samples."
        )
    counts = {row["label_source"]: row["llms"] for row in comparison["pooled"] if row["n"]}
    if len(set(counts.values())) > 1:
        listed = _listed({name_of(key): count for key, count in counts.items()})
        said.append(f"Pooled over different LLMs, so compare rows by the contrasts. LLMs: {listed}.")
    if 1 < max(counts.values(), default=0) < 5:
        said.append("Few LLMs say little about other LLMs: `over_prompts` has the intervals for these LLMs alone.")
    if comparison["repeated"]:
        said.append(f"{comparison['repeated']:,} judgments occurred more than once and are counted once.")
    if comparison["single"]:
        said.append(f"{comparison['single']:,} judgments of single answers are not used.")
    return said


def comparison_latex(comparison: Comparison) -> str:
    """`comparison.tex`: the table of differences with the number of pairs under each, for the package booktabs."""
    cells, llms = by_cell(comparison), [*comparison["llms"], POOLED]
    lines = []
    for source in comparison["label_sources"]:
        row = [cells.get((source, llm)) for llm in llms]
        values = ["--" if cell is None else _latex_cell(cell) for cell in row]
        counts = ["" if cell is None else rf"\scriptsize $n={cell['n']}$" for cell in row]
        lines += [" & ".join([_latex(name_of(source)), *values]) + r" \\", " & ".join(["", *counts]) + r" \\"]
    missing = _latex(missing_sentence(comparison)).replace(DASH, "--")
    head = " & ".join(["", *(_latex(name_of(llm)) for llm in llms)])
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{Difference of the judge's scores (1 to 10), aligned model minus its own SFT model, $\pm$ half "
            rf"of the 95\,\% interval; $n$ pairs. Judge: {_latex(one_line(comparison['judge']))}. {missing}}}",
            rf"\begin{{tabular}}{{l{'r' * len(llms)}}}",
            r"\toprule",
            rf"{head} \\",
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def comparison_csv(comparison: Comparison) -> str:
    """`comparison.csv`: one row per cell, pooled rows last; the fields of a missing cell are empty."""
    cells: dict[tuple[str, str], Pooled] = {(cell["label_source"], cell["llm"]): cell for cell in comparison["cells"]}
    cells |= {(row["label_source"], POOLED): row for row in comparison["pooled"] if row["asked"]}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["label_source", "llm", *_CSV_NUMBERS])
    for llm in [*comparison["llms"], POOLED]:
        for source in comparison["label_sources"]:
            writer.writerow([source, llm, *(_at(cells.get((source, llm), {}), path) for path in _CSV_NUMBERS.values())])
    return text.getvalue()


def signed(value: float | None, digits: int = 2) -> str:
    """+0.35 or −0.12, with a true minus sign; a dash for None."""
    return DASH if value is None else f"{value:+.{digits}f}".replace("-", "\u2212")


def half_width(score: Score) -> float | None:
    """Half of an interval; None where it is not defined."""
    low, high = score["low"], score["high"]
    return None if low is None or high is None else (high - low) / 2


def _at(cell: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    value: Any = cell
    for key in path:
        value = (value or {}).get(key)
    return value


def _difference(cell: Pooled) -> str:
    half = half_width(cell["difference"])
    return signed(cell["difference"]["mean"]) + ("" if half is None else f" ± {half:.2f}")


def _win_rate(cell: Pooled) -> str:
    return f"{cell['win_rate']['mean']:.3f} ({cell['length_controlled_win_rate']['mean']:.3f})"


def _interval(score: Score | Contrast, shown: str = "+.2f") -> str:
    text = f"{score['mean']:{shown}}"
    if score["low"] is not None:
        text += f" [{score['low']:{shown}}, {score['high']:{shown}}]"
    return text.replace("-", "\u2212")


def _markdown(comparison: Comparison, show: Callable[[Pooled], str]) -> str:
    cells, llms = by_cell(comparison), [*comparison["llms"], POOLED]
    rows = [
        [name_of(source), *(show(cells[source, llm]) if (source, llm) in cells else DASH for llm in llms)]
        for source in comparison["label_sources"]
    ]
    return _rows(["labels from", *(name_of(llm) for llm in llms)], rows)


def _rows(head: list[str], rows: list[list[str]]) -> str:
    return markdown_table((head[0], *(f">{name}" for name in head[1:])), [tuple(row) for row in rows])


def _pooled(comparison: Comparison) -> str:
    head = [
        "labels from",
        "LLMs",
        "pairs",
        "difference",
        "SE (paper)",
        "mean over LLMs",
        "at equal lengths",
        "win rate",
        "ties",
        "length-controlled win rate",
    ]
    rows = [
        [
            name_of(row["label_source"]),
            str(row["llms"]),
            f"{row['n']:,}",
            _interval(row["difference"]),
            DASH if row["difference"]["paper_se"] is None else f"{row['difference']['paper_se']:.3f}",
            _interval(row["mean_over_llms"]),
            _interval(row["length_controlled_difference"]),
            _interval(row["win_rate"], ".3f"),
            f"{row['ties']:.3f}",
            _interval(row["length_controlled_win_rate"], ".3f"),
        ]
        for row in comparison["pooled"]
        if row["n"]
    ]
    return _rows(head, rows)


def _contrasts(comparison: Comparison) -> str:
    rows = [
        [
            name_of(row["first"]),
            name_of(row["second"]),
            f"{row['n']:,}",
            _interval(row),
        ]
        for row in comparison["contrasts"]
        if row["n"]
    ]
    if not rows:
        return "No two label sources share a prompt."
    return _rows(["labels from", "against", "pairs", "difference"], rows)


def _thirds(comparison: Comparison) -> str:
    rows = [
        [name_of(row["label_source"]), by, third["third"], f"{third['n']:,}", _interval(third)]
        for row in comparison["pooled"]
        if row["n"]
        for by, thirds in (("prompt", row["thirds_by_prompt"]), ("answer (paper)", row["thirds_by_answer"]))
        for third in thirds
    ]
    return _rows(["labels from", "by the words of the", "third", "pairs", "difference"], rows)


def _listed(counts: dict[str, int]) -> str:
    return "; ".join(f"{name}: {count:,}" for name, count in counts.items() if count) or "none"


def _latex_cell(cell: Pooled) -> str:
    half = half_width(cell["difference"])
    return f"${cell['difference']['mean']:+.2f}" + ("$" if half is None else rf" \pm {half:.2f}$")


def _latex(text: str) -> str:
    return "".join(_LATEX_SPECIAL.get(mark, mark) for mark in text)
