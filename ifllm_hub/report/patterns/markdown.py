"""The page without single readings, as Markdown: for `docs/results` and other repositories."""

from collections.abc import Sequence

from ifllm_hub.pages.amounts import percent
from ifllm_hub.pages.markdown import markdown_table
from ifllm_hub.patterns.effects import Effect
from ifllm_hub.patterns.measures import BY_NAME
from ifllm_hub.patterns.study import Patterns
from ifllm_hub.patterns.variation.variance import LEVELS
from ifllm_hub.report.patterns import words

# Figures that the Markdown shows, by file name; their keys are those of `pictures.all_pictures`.
FIGURES = {
    "patterns-variance.svg": "variance_figures",
    "patterns-bullets.svg": "bullets_figures",
    "patterns-attention.svg": "attention_figures",
}
_ORIGINS = {
    "study": "",
    "simulated": "\n**Simulated or modified data: nothing here says anything about people.**\n",
    "collected": "",
    "imported": "",
    "unknown": "",
}


def patterns_markdown(patterns: Patterns, findings: Sequence[str]) -> str:
    """The page as Markdown; it quotes no text and names no worker."""
    surviving = sorted(
        (effect for effect in patterns.effects if effect.holm <= words.ALPHA), key=lambda one: (one.p, one.name)
    )
    found = "\n".join(f"- {finding}" for finding in findings)
    return f"""# How people read LLM answers

Written by `ifllm patterns DATASET --out DIR`; do not edit. The page that it writes beside this one, `patterns.html`,
has all figures and tables, and readings over their texts.
{_ORIGINS[patterns.origin]}
{patterns.questions:,} questions ({patterns.pairs:,} with two answers) in {patterns.conversations:,} conversations,
read by {patterns.workers} workers, without those on the authors' exclusion list. Workers differ in how much they read:
where they differ in how they read, they tell as much as {patterns.effective_workers:.1f} with equally many questions.
Intervals are 95 %, over workers.

## Findings

{found}

## What survives

{len(patterns.effects)} comparisons were made; {0.05 * len(patterns.effects):.0f} of as many would have p below 0.05 if
nothing were there. These survive when all are paid for (Holm 1979):

{_effects(surviving)}

## What is measured

Mean and quartiles over readings, and the median of the workers' medians. Formulas: `ifllm_hub.patterns.measures`. Only
ticks on an answer's text count; gaze after the last tick of the mouse on a text is left out, as it drifts after the
cursor to the rating form. The time on an answer includes rating, typing and waiting, as far as they were on the text.

{_summaries(patterns)}

## How much readers differ

Share of the variance, % [95 % interval], by restricted maximum likelihood with nested random effects. Of measures of a
pair, "question" is all the rest. Workers also differ by their computers; `patterns.json` has the shares given length,
mode and the time between ticks.

{_variance(patterns)}

![Shares of the variance by level](patterns-variance.svg)

{_groups(patterns)}

## With the length and the layout

The change for a doubling of the length of the answer, within worker and kind of page:

{_named(patterns, "a doubling of the length: ")}

Lengths were not assigned by chance, and time that is no reading does not grow with them.

Two answers side by side less one, within worker ({patterns.layouts.workers_of_both} workers read both):

{_named(patterns, "two answers side by side less one: ")}
{_bullets(patterns)}
## Mouse and gaze

{_effects([one for one in patterns.effects if one.family == "mouse and gaze"])}
{_principles(patterns)}
## Where the time goes

Dwell per character in a part of the text over that in the rest of the same answer, and the same where both are in the
same place of the answer; 1 is even.

{_parts(patterns)}

![Dwell by part of the text](patterns-attention.svg)

Ratios in place are off 1 even in simulated readings that prefer nothing, as carets fall between lines and gaze misses
its line: see [what the estimators recover](patterns_recovery.md).

## All comparisons, in the order of p

{_effects(sorted(patterns.effects, key=lambda one: (one.p, one.family, one.name)))}
"""


def _named(patterns: Patterns, start: str) -> str:
    """The effects whose names start so, without that start."""
    return _effects([effect for effect in patterns.effects if effect.name.startswith(start)], start)


def _effects(effects: Sequence[Effect], prefix: str = "") -> str:
    if not effects:
        return "None."
    rows = (
        (
            effect.name.removeprefix(prefix) + (f" ({effect.caveat})" if effect.caveat else ""),
            f"{effect.n:,}",
            str(effect.workers),
            words.interval(effect),
            words.p_value(effect.p),
            words.p_value(effect.holm),
        )
        for effect in effects
    )
    return markdown_table(("comparison", ">n", ">workers", ">estimate [95 % CI]", ">p", ">p, Holm"), rows)


def _summaries(patterns: Patterns) -> str:
    head = ("measure", "by", "unit", ">n", ">mean", ">lower", ">median", ">upper", ">of workers")
    return markdown_table(
        head,
        (
            (
                BY_NAME[one.measure].title,
                one.modality,
                BY_NAME[one.measure].unit,
                f"{one.n:,}",
                *(words.number(value) for value in (one.mean, one.lower, one.median, one.upper, one.middle_workers)),
            )
            for one in patterns.summaries
        ),
    )


def _variance(patterns: Patterns) -> str:
    return markdown_table(
        ("measure", "by", *(f">{level}" for level in LEVELS)),
        (
            (
                BY_NAME[one.measure].title,
                one.modality,
                *(words.share_interval(one.shares[level]) if level in one.shares else "" for level in LEVELS),
            )
            for one in patterns.variance
            if not one.given
        ),
    )


def _groups(patterns: Patterns) -> str:
    return "\n\n".join(f"By {one.modality}: {words.groups_sentence(one)}" for one in patterns.groups)


def _bullets(patterns: Patterns) -> str:
    coin = patterns.bullets.coin
    if not coin:
        return ""
    effects = [one for one in patterns.effects if one.family == "bullets"]
    return f"""
## What bullet points cause

“respond using bullet points” was appended to the prompt by a coin tossed for each question. Differences are within
worker and kind of page, by what was asked for. p values deal the coin anew and speak of these readers; intervals leave
out one worker at a time and speak of others, too. {words.coin_sentence(coin)}

{_effects(effects, "bullet points asked for: ")}

![What asking for bullet points changes in reading](patterns-bullets.svg)

The coin, and the turn before:

{_effects([one for one in patterns.effects if one.family in ("coin", "bullets, carry-over")])}
"""


def _principles(patterns: Patterns) -> str:
    if not patterns.principles:
        return ""
    rows = (
        (
            one.name,
            one.verdict,
            words.ratio(one.interaction, one.low, one.high).replace("-", "\u2212"),
            words.p_value(one.p),
            f"{one.detectable:.2f}",
            f"{one.workers_needed:,}",
        )
        for one in patterns.principles.principles
    )
    head = ("principle", "verdict", ">interaction [95 % CI]", ">p", ">detectable here", ">workers needed")
    return f"""
The paper's principles, as interactions of dwell and length in one model of {patterns.principles.pairs} rated pairs;
above 0 is in favor.
{words.PRINCIPLE_RULE}

{markdown_table(head, rows)}
"""


def _parts(patterns: Patterns) -> str:
    return markdown_table(
        ("part", "by", ">answers", ">of the text", ">of the time", ">ratio", ">in the same place"),
        (
            (
                one.category,
                one.modality,
                f"{one.n:,}",
                percent(one.share_of_text, 0),
                percent(one.share_of_time, 0),
                words.ratio(one.ratio, one.low, one.high),
                words.ratio(one.in_place, one.in_place_low, one.in_place_high),
            )
            for one in patterns.attention.parts
        ),
    )
