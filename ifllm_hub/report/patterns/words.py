"""Numbers of the page as text: amounts with their units, intervals and p values."""

import math

from ifllm_hub.pages.amounts import percent
from ifllm_hub.patterns.effects import Effect
from ifllm_hub.patterns.experiment.bullets import Coin
from ifllm_hub.patterns.mouse_gaze.principles import LEAST_EFFECT
from ifllm_hub.patterns.variation.groups import Groups
from ifllm_hub.statistics import Estimate

ALPHA = 0.05
# How a verdict on a principle is reached, see `patterns.mouse_gaze.principles`.
PRINCIPLE_RULE = (
    f"Supported: the interval lies above 0. Not supported: it reaches 0 and excludes {LEAST_EFFECT}, which near even "
    "odds is 2.5 points of accuracy for a doubling of the length. Undecided otherwise."
)
# Differences of shares are shown in percentage points.
_SHOWN: dict[str, tuple[str, float]] = {
    "share": ("points", 100.0),
    "%": ("%", 1.0),
    "ms": ("s", 0.001),
    "char": ("characters", 1.0),
    "ratio": ("", 1.0),
    "level": ("", 1.0),
}


def shown_unit(unit: str) -> str:
    """The unit in which differences are shown."""
    return _SHOWN.get(unit, (unit, 1.0))[0]


def shown(value: float, unit: str) -> float:
    """A difference in the unit in which it is shown."""
    return value * _SHOWN.get(unit, (unit, 1.0))[1]


def amount(value: float, unit: str) -> str:
    """A difference with its sign, a true minus, as "+3.9"; ratios and levels as "0.88"; "not defined" for NaN."""
    if not math.isfinite(value):
        return "not defined"
    number = shown(value, unit)
    if unit in ("ratio", "level"):  # these are no differences
        return f"{number:.2f}" if unit == "ratio" else f"{number:.3f}".replace("-", "\u2212")
    if unit == "ms":
        return f"{number:+,.2f}".replace("-", "\u2212")
    digits = 1 if abs(number) >= 9.95 or unit in ("share", "%") else 2 if abs(number) >= 0.995 else 3
    return f"{number:+,.{digits}f}".replace("-", "\u2212")


def interval(effect: Effect) -> str:
    """An effect as "+3.9 % [−5.6, +14.4]"."""
    ends = f" [{amount(effect.low, effect.unit)}, {amount(effect.high, effect.unit)}]"
    unit = shown_unit(effect.unit)
    return f"{amount(effect.mean, effect.unit)}{f' {unit}' if unit else ''}{ends if math.isfinite(effect.low) else ''}"


def p_value(p: float) -> str:
    """As "0.023" or "< 0.001"."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def number(value: float) -> str:
    """A value of a measure, to three digits: "0.284", "15.5", "20,380"."""
    if not math.isfinite(value):
        return "not defined"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:,.{digits}f}".replace("-", "\u2212")


def sortable(effect: Effect) -> float:
    """What a table of effects is sorted by."""
    return shown(effect.mean, effect.unit)


def share_interval(share: Estimate) -> str:
    """A share of the variance as "28 [12, 47]", in %."""
    mean, low, high = (100 * share[end] for end in ("mean", "low", "high"))
    return f"{mean:.0f} [{low:.0f}, {high:.0f}]" if math.isfinite(low) else f"{mean:.0f}"


def ratio(mean: float, low: float, high: float) -> str:
    """As "1.23 [1.10, 1.37]", or "not defined"."""
    return f"{mean:.2f} [{low:.2f}, {high:.2f}]" if math.isfinite(mean) else "not defined"


def groups_sentence(groups: Groups) -> str:
    """Whether the paths of one modality fall into groups."""
    best = next((one for one in groups.stability if one.clear), max(groups.stability, key=lambda one: one.index))
    held = (
        f"{best.k} groups are the most stable, with an index of {best.index:.2f}; in data without groups it is "
        f"{best.normal:.2f} (normal) and {best.uniform:.2f} (uniform). Tested against such data over all numbers "
        f"of groups, p = {groups.p:.2f}."
    )
    about = f"Paths of {groups.n:,} readings of {groups.workers} workers. {held}"
    trait = groups.trait
    whose = (
        f" Two readings of a worker are in the same part more often than those of two workers, by "
        f"{100 * trait['mean']:.0f} % [{100 * trait['low']:.0f}, {100 * trait['high']:.0f}] of what is possible."
        if math.isfinite(trait["mean"])
        else ""
    )
    if groups.clear:
        return f"{about} There are {groups.clear} clear groups.{whose}"
    return (
        f"{about} There are no clear groups: paths differ by degrees. For display, they are cut into quarters along "
        f"their first principal component, which has {100 * groups.explained[0]:.0f} % of their variance.{whose}"
    )


def coin_sentence(coin: Coin) -> str:
    """How the coin fell."""
    total = coin.total
    return (
        f"The coin was tossed for {total.n:,} questions and fell on bullet points in {percent(total.heads / total.n)} "
        f"[{100 * total.low:.1f}, {100 * total.high:.1f}]. The first {coin.before} questions, up to the first with "
        "bullet points, are left out: until then nothing was tossed."
    )
