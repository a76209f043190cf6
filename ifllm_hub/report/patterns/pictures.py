"""Which figures the page has, from what was found."""

from collections.abc import Sequence
from typing import Any

from ifllm_hub.features.measures import CELL, READ_MS
from ifllm_hub.pages.plot_style import Picture
from ifllm_hub.patterns.attention import Part, Strip
from ifllm_hub.patterns.effects import Effect
from ifllm_hub.patterns.measures import BY_NAME
from ifllm_hub.patterns.study import Patterns
from ifllm_hub.patterns.variation.groups import Groups
from ifllm_hub.report.patterns import words
from ifllm_hub.report.patterns.figures import (
    Curve,
    Line,
    curve_picture,
    forest_picture,
    heat_picture,
    stability_picture,
    variance_picture,
)
from ifllm_hub.terms import MODALITIES

# Measures whose curves are drawn.
AGAINST_LENGTH = (
    "dwell_per_char",
    "words_per_minute",
    "depth",
    "coverage",
    "lookback_share",
    "path_slope",
    "forward_share",
    "alternation",
)
_LENGTH = "length of the answer (code points)"


def all_pictures(patterns: Patterns) -> dict[str, Any]:
    """The figures by the name that the page has for them."""
    return {
        "variance_figures": variance_figures(patterns),
        "group_figures": {one.modality: group_figures(one) for one in patterns.groups},
        "length_figures": length_figures(patterns),
        "layout_figures": layout_figures(patterns),
        "bullets_figures": bullets_figures(patterns),
        "coupling_figures": coupling_figures(patterns),
        "attention_figures": attention_figures(patterns),
        "unread_figures": unread_figures(patterns.attention.strips),
    }


def variance_figures(patterns: Patterns) -> list[Picture]:
    """Shares of the variance, a figure a modality."""
    titles = {name: measure.title for name, measure in BY_NAME.items()}
    found = []
    for modality in MODALITIES:
        rows = [one for one in patterns.variance if one.modality == modality and not one.given]
        if rows:
            found.append(variance_picture(rows, titles, f"Where the variance lies, {modality}"))
    return found


def group_figures(groups: Groups) -> list[Picture]:
    """How stable groups are, and the paths of the parts."""
    steps = len(groups.parts[0].median)
    moments = [100 * (step + 0.5) / steps for step in range(steps)]
    kind = "group" if groups.clear else "quarter"
    curves = [
        Curve(
            f"{kind} {number + 1}",
            "",
            moments,
            *([100 * place for place in line] for line in (part.median, part.low, part.high)),
        )
        for number, part in enumerate(groups.parts)
    ]
    title = f"{kind.capitalize()}s of the paths, {groups.modality}"
    return [
        stability_picture(groups),
        curve_picture(
            curves, title, "time on the answer (%)", "position (% of the answer)", caption="Median and quartiles."
        ),
    ]


def length_figures(patterns: Patterns) -> list[Picture]:
    """Some measures against the length, and the share of time against the share of length."""
    found = []
    for name in AGAINST_LENGTH:
        measure = BY_NAME[name]
        curves = [
            Curve(one.modality, one.modality, one.curve.x, one.curve.mean, one.curve.low, one.curve.high)
            for one in patterns.lengths.measures
            if one.measure == name and one.curve
        ]
        if curves:
            x = "length of both answers (code points)" if measure.scope == "pair" else _LENGTH
            title, log = measure.title.capitalize(), measure.scale == "log"
            limits = (measure.low, measure.high) if not log else (None, None)
            found.append(curve_picture(curves, title, x, f"{measure.title} ({measure.unit})", log, limits))
    shares = [one for one in patterns.lengths.time_shares if one.curve]
    if shares:
        curves = [
            Curve(one.modality, one.modality, one.curve.x, one.curve.mean, one.curve.low, one.curve.high)
            for one in shares
            if one.curve
        ]
        found.append(
            curve_picture(
                curves,
                "Time share against length share",
                "left answer's share of both lengths",
                "left answer's share of the dwell",
                diagonal=True,
                caption="Dotted: time in proportion to length.",
            )
        )
    return found


def layout_figures(patterns: Patterns) -> list[Picture]:
    """Two answers side by side against one."""
    return _forests(patterns.layouts.modes, patterns, "Two answers side by side less one")


def bullets_figures(patterns: Patterns) -> list[Picture]:
    """What bullet points cause in reading."""
    effects = [one for one in patterns.bullets.effects if one.family == "bullets" and one.measure in BY_NAME]
    return _forests(effects, patterns, "Asking for bullet points")


def _forests(effects: Sequence[Effect], patterns: Patterns, title: str) -> list[Picture]:
    """Changes in %, and differences of shares in points."""
    strong = {(one.family, one.name) for one in patterns.effects if one.holm <= words.ALPHA}
    found = []
    for unit, about in (("%", "change (%)"), ("share", "difference (percentage points)")):
        lines = []
        for effect in effects:
            if effect.unit == unit:
                mean, low, high = (words.shown(value, unit) for value in (effect.mean, effect.low, effect.high))
                survives = (effect.family, effect.name) in strong
                lines.append(Line(BY_NAME[effect.measure].title, effect.modality, mean, low, high, survives))
        caption = "Filled: survives all comparisons of this page. Lines: 95 % intervals over workers."
        found += [forest_picture(lines, title, about, caption)] if lines else []
    return found


def coupling_figures(patterns: Patterns) -> list[Picture]:
    """The cross-correlation of mouse and gaze."""
    curve = patterns.coupling.curve
    if not curve:
        return []
    seconds = [lag / 1_000 for lag in curve.lags]
    chance = Curve("half a reading later", "", seconds, curve.chance, curve.chance, curve.chance)
    return [
        curve_picture(
            [Curve("mouse and gaze", "both", seconds, curve.correlation, curve.low, curve.high), chance],
            "Mouse behind gaze, across the screen",
            "lag of the mouse behind the gaze (s)",
            "correlation",
            caption=f"Mean over {curve.n:,} answers of {curve.workers} workers.",
        )
    ]


def attention_figures(patterns: Patterns) -> list[Picture]:
    """Dwell by part of the text in its place, and by position."""
    found = []
    parts = [part for part in patterns.attention.parts if part.in_place == part.in_place]
    if parts:
        found.append(
            forest_picture(
                [_part(part, patterns) for part in parts],
                "Dwell per character against the rest, in its place",
                "ratio (1 = even)",
                "Filled: survives all comparisons of this page. Lines: 95 % intervals over workers.",
                at=1.0,
            )
        )
    for modality in MODALITIES:
        strips = [strip for strip in patterns.attention.strips if strip.modality == modality]
        rows = [(f"{strip.shortest:,}–{strip.longest:,}", strip.density) for strip in strips]
        if rows:
            title = f"Dwell by position, {modality}, answers by length (code points)"
            found.append(heat_picture(rows, title, modality))
    return found


def _part(part: Part, patterns: Patterns) -> Line:
    strong = any(
        effect.holm <= words.ALPHA
        for effect in patterns.effects
        if effect.family == "attention" and effect.modality == part.modality and _in_place(effect, part.category)
    )
    return Line(part.category, part.modality, part.in_place, part.in_place_low, part.in_place_high, strong)


def _in_place(effect: Effect, category: str) -> bool:
    return effect.name.startswith(category) and "in place" in effect.name


def unread_figures(strips: Sequence[Strip]) -> list[Picture]:
    """The share of answers of which a place was not read, by position; the longest and the shortest answers."""
    found = []
    for modality in MODALITIES:
        own = [strip for strip in strips if strip.modality == modality]
        if not own:
            continue
        ends = own[:1] + own[1:][-1:]
        curves = [
            Curve(
                f"{strip.shortest:,}–{strip.longest:,}",
                modality,
                [100 * place for place in strip.position],
                *([100 * one for one in line] for line in (strip.unread, strip.unread_low, strip.unread_high)),
            )
            for strip in ends
        ]
        found.append(
            curve_picture(
                curves,
                f"What is not read, {modality}",
                "position in the answer (% of its length)",
                "not read (% of readings)",
                limits=(0, 100),
                caption=f"Less than {READ_MS} ms on {CELL} characters; shortest and longest quarter of the answers.",
            )
        )
    return found
