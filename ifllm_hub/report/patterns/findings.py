"""The page's findings: each a sentence made from the numbers, with its interval, and whether it survives."""

from ifllm_hub.pages.amounts import percent
from ifllm_hub.patterns.effects import Effect
from ifllm_hub.patterns.measures import BY_NAME
from ifllm_hub.patterns.study import Patterns
from ifllm_hub.report.patterns import words
from ifllm_hub.terms import MODALITIES


def findings(patterns: Patterns) -> list[str]:
    """What the page says first, in the order of its sections; what cannot be said is left out."""
    sentences = [
        _extent(patterns),
        _diversity(patterns),
        *_groups(patterns),
        _length(patterns),
        *_bullets(patterns),
        *_principles(patterns),
        _attention(patterns),
    ]
    return [sentence for sentence in sentences if sentence]


def _extent(patterns: Patterns) -> str:
    said = []
    for modality in MODALITIES:
        found = {one.measure: one.median for one in patterns.summaries if one.modality == modality}
        if {"depth", "coverage"} <= found.keys():
            said.append(
                f"by {modality}, half of the readings reach {percent(found['depth'], 0)} of the answer or more, and "
                f"are on {percent(found['coverage'], 0)} of its text or more"
            )
    return f"How far people read, where a single tick counts: {'; '.join(said)}." if said else ""


def _diversity(patterns: Patterns) -> str:
    said = []
    for modality in MODALITIES:
        raw, given = (
            sorted(
                (one.shares["worker"]["mean"], BY_NAME[one.measure].title)
                for one in patterns.variance
                if one.modality == modality and bool(one.given) == is_given
            )
            for is_given in (False, True)
        )
        if raw and given:
            (low, least), (high, most) = raw[0], raw[-1]
            said.append(
                f"by {modality}, {percent(_middle(raw), 0)} in the median measure ({percent(low, 0)} for {least}, "
                f"{percent(high, 0)} for {most}), and {percent(_middle(given), 0)} given length, mode and the pace "
                "of the computer"
            )
    head = "Of the variance between readings, this much lies between workers and their computers"
    return f"{head}: {'; '.join(said)}." if said else ""


def _middle(shares: list[tuple[float, str]]) -> float:
    return (shares[(len(shares) - 1) // 2][0] + shares[len(shares) // 2][0]) / 2


def _groups(patterns: Patterns) -> list[str]:
    found = []
    for clear in sorted({one.clear or 0 for one in patterns.groups}):
        modalities = [one.modality for one in patterns.groups if (one.clear or 0) == clear]
        what = f"fall into {clear} clear groups" if clear else "do not fall into clear groups: they differ by degrees"
        found.append(f"Paths through an answer {what} (by {' and by '.join(modalities)}).")
    return found


def _length(patterns: Patterns) -> str:
    own = [
        one for one in patterns.effects if one.family == "length" and one.name.startswith("a doubling of the length")
    ]
    if not own:
        return ""
    said = [
        f"{words.interval(one)} by {one.modality} ({_paid(one)})"
        for one in own
        if one.measure == "dwell_per_char" and one.modality in MODALITIES
    ]
    spent = f"With twice the length goes a change of the dwell per character of {', '.join(said)}. " if said else ""
    return f"{spent}{_counted(own, 'slopes on the length')}"


def _bullets(patterns: Patterns) -> list[str]:
    if not patterns.bullets.coin:
        return []
    every = [one for one in patterns.effects if one.family == "bullets"]
    by_name = {one.name.partition(": ")[2]: one for one in every}
    text = [
        f"{sentence} {words.interval(by_name[name])} ({_paid(by_name[name])})"
        for name, sentence in (
            ("answers with list lines", "the share of answers with a list by"),
            ("length of the answer", "their length by"),
        )
        if name in by_name
    ]
    reading = [one for one in every if one.measure in BY_NAME]
    found = [f"Asking for bullet points changes {' and '.join(text)}. {_counted(reading, 'effects on reading')}"]
    longer, left = by_name.get("longer answer preferred"), by_name.get("left answer preferred (placebo)")
    gap = by_name.get("difference of the lengths of a pair")
    if longer and left and gap:
        found.append(
            f"With bullet points, the longer answer is preferred in another share of the pairs "
            f"({words.interval(longer)}, p = {words.p_value(longer.p)}, {_paid(longer)}); the two answers are also "
            f"nearer in length ({words.interval(gap)}), and a placebo, how often the left one is preferred, moves by "
            f"{words.interval(left)} (p = {words.p_value(left.p)})."
        )
    return found


def _principles(patterns: Patterns) -> list[str]:
    if not patterns.principles:
        return []
    found = []
    for one in patterns.principles.principles:
        said = words.ratio(one.interaction, one.low, one.high).replace("-", "\u2212")
        here, more = " at this size", f"; it would take {one.workers_needed:,} workers"
        undecided = one.verdict == "undecided"
        found.append(
            f"“{one.name[0].upper()}{one.name[1:]}” is {one.verdict}{here if undecided else ''}: interaction {said}"
            f"{more if undecided else ''}."
        )
    return found


def _attention(patterns: Patterns) -> str:
    every = [one for one in patterns.effects if one.family == "attention" and "in place" in one.name]
    return f"{_counted(every, 'comparisons of a part of the text with the rest in its place')}" if every else ""


def _counted(effects: list[Effect], what: str) -> str:
    surviving = [effect for effect in effects if effect.holm <= words.ALPHA]
    number = f"{len(surviving)} of {len(effects)}" if surviving else f"None of {len(effects)}"
    return f"{number} {what} survive all comparisons."


def _paid(effect: Effect) -> str:
    return "survives" if effect.holm <= words.ALPHA else "does not survive"
