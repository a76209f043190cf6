"""Questions and answers for the simulated release, from a small grammar: no text is recorded or written by an LLM.

An answer is a run of sentences about a topic. The better it is, the more of them say something definite about the part
that was asked about; the worse, the more are filler. A text model can therefore learn the quality, but not perfectly.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

MIN_LENGTH, MAX_LENGTH = 80, 2500
STYLES = ("bullets", "prose", "headings", "quotes", "short")
EMOJI = ("🌊", "🎯", "💡", "🔧", "🚀", "🧭")


@dataclass(frozen=True)
class Topic:
    """The subject of a conversation: what the grammar knows about it."""

    name: str
    parts: tuple[str, ...]
    acts: tuple[str, ...]
    reasons: tuple[str, ...]


def _topic(name: str, parts: str, acts: str, reasons: str) -> Topic:
    return Topic(name, *(tuple(item.strip() for item in text.split("|")) for text in (parts, acts, reasons)))


TOPICS = (
    _topic(
        "suspension bridges",
        "main cable | deck | anchor block | tower | hanger rope | expansion joint",
        "carries most of the load | sways in a cross wind | needs paint every few summers | passes the weight to rock",
        "because steel is strongest in tension | since traffic is never evenly spread | as engineers found by trial",
    ),
    _topic(
        "coffee brewing",
        "grinder | filter paper | water kettle | roast | cup | bloom",
        "decides how bitter the drink becomes | holds back fine oils | wants a steady temperature | slows the pour",
        "because hot water dissolves acids first | since small grains expose more surface | as every barista learns",
    ),
    _topic(
        "ocean tides",
        "moon | sea bed | estuary | spring tide | tide table | shoreline",
        "lifts the water twice a day | delays the peak by an hour | bends the current | makes the range larger",
        "because gravity weakens with distance | since the basin has its own rhythm | as sailors wrote down long ago",
    ),
    _topic(
        "chess openings",
        "center pawn | knight | bishop pair | castled king | open file | tempo",
        "fights for the middle squares | waits for a weak square | forces an early trade | gains a move",
        "because space limits the other side | since development comes before attack | as old games show",
    ),
    _topic(
        "beekeeping",
        "queen | brood frame | smoker | honey super | winter cluster | hive entrance",
        "keeps the colony calm | stores food for cold weeks | needs a dry floor | shows how strong the hive is",
        "because scent guides the workers | since moisture harms the comb | as keepers notice in spring",
    ),
    _topic(
        "mountain railways",
        "rack rail | switchback | tunnel portal | brake van | catenary | snow shed",
        "lets a train climb steep slopes | turns the line around | keeps ice off the track | saves a long detour",
        "because wheels slip on wet steel | since curves cost speed | as surveyors proposed",
    ),
    _topic(
        "sourdough bread",
        "starter | crust | proving basket | flour blend | oven stone | crumb",
        "traps gas in the dough | gives a mild sour note | dries out when left open | rises twice as fast in summer",
        "because wild yeast works slowly | since protein forms a net | as bakers repeat",
    ),
    _topic(
        "lighthouses",
        "lens | lantern room | fog horn | keeper's log | clockwork | gallery",
        "throws the beam to the horizon | marks a dangerous reef | turns on a bath of mercury | warns ships in mist",
        "because glass rings bend light | since sound travels around corners | as pilots asked for",
    ),
    _topic(
        "the invented city of Orvane",
        "harbour gate | salt market | council tower | canal ring | copper mint | night ferry",
        "brings trade into the old quarter | floods every ninth year | closes at dusk | pays for the schools",
        "because the river was moved | since taxes follow the water | as its chronicle claims",
    ),
    _topic(
        "pottery glazes",
        "kiln | copper oxide | clay body | ash glaze | cone | test tile",
        "turns green in a smoky fire | shrinks while it cools | shows the final color | runs down a steep wall",
        "because metals change with oxygen | since silica melts late | as potters test",
    ),
    _topic(
        "long-distance running",
        "easy run | tempo run | rest day | stride | heart rate | race plan",
        "builds endurance week by week | repairs tired muscles | rises on a hot day | saves energy on hills",
        "because the heart adapts slowly | since small steps reduce the impact | as coaches advise",
    ),
    _topic(
        "night sky photography",
        "tripod | wide lens | sensor | star tracker | dark frame | exposure",
        "collects faint light | removes warm pixels | blurs after some seconds | follows the turning sky",
        "because the planet rotates | since noise grows with heat | as every clear night proves",
    ),
    _topic(
        "the board game Tidewake",
        "harbour card | wind die | cargo cube | pilot token | storm deck | dock",
        "doubles the points of a route | blocks a rival for one round | is worth little at the end | starts each turn",
        "because cards are scarce | since the map folds at the middle | as the rule book explains",
    ),
    _topic(
        "urban gardens",
        "raised bed | compost heap | rain barrel | trellis | seed tray | mulch layer",
        "keeps roots warm in April | feeds the soil for a year | saves water in a dry month | shades young leaves",
        "because worms mix the ground | since walls store heat | as neighbors report",
    ),
    _topic(
        "mechanical clocks",
        "pendulum | escapement | mainspring | gear train | balance wheel | dial",
        "lets one tooth pass at a time | loses power during the week | swings slower when warm | sets the rate",
        "because metal grows with heat | since friction eats energy | as clockmakers measured",
    ),
    _topic(
        "river deltas",
        "sand bar | side channel | mud flat | flood plain | reed belt | levee",
        "slows the water | moves a little every year | stores carbon in its soil | breaks in a large flood",
        "because sediment settles in calm water | since the sea pushes back | as maps from two centuries show",
    ),
)

_QUOTE = 'Some call this the "{adj} {part}" effect, and "{adj2}" is the right word: the {other} {act}, {reason}.'
DEFINITE = (
    "The {part} {act}, {reason}.",
    "In a {adj} season the {part} {act} within about {n} days.",
    "Once the {part} is {adj}, the {other} {act}, {reason}.",
    "A count of {n} cases found that the {part} {act} in {percent} percent of them.",
    "Compared with the {other}, a {adj} {part} {act} {adverb}.",
    "For example, after {n} hours the {adj} {part} {act}.",
    "Two things matter here: the {part} {act}, and the {other} stays {adj}.",
    "If you change the {part} by {percent} percent, the {other} {act} {adverb}, {reason}.",
    "Note that the {adj} {part} {adverb} {act}, while the {other} remains {adj2}.",
    _QUOTE,
)
FILLER = (
    "There are {adj} sides to {topic}, and it {adverb} depends.",
    "Many people find {topic} {adj}, others {adverb} do not.",
    "It is {adverb} hard to say more without further details.",
    "Overall, {topic} can be {adj} or {adj2} in various ways.",
    "As with most things, opinions on the {part} {adverb} differ.",
    "This is a {adj} question with {n} possible answers.",
    "Of course there is {adverb} more to say about {adj} matters.",
    "In general, things like the {part} may vary, which is {adj}.",
    "You could {adverb} look at it from a {adj} or a {adj2} point of view.",
)
FIRST_QUERIES = (
    "What should I know about {topic}?",
    "explain {topic} in simple words",
    "How did {topic} become popular, and why?",
    "Give me an overview of {topic}",
)
FOLLOW_UPS = (
    "Why does the {part} matter?",
    "What happens when the {part} is damaged?",
    "can you give an example with the {part}",
    "Is the {part} more important than the {other}?",
    "Tell me more about the {part}, please.",
    'What does "{adj} {part}" mean?',
)
ADJECTIVES = (
    *("steady", "rare", "narrow", "heavy", "modern", "careful", "sharp", "simple", "costly", "quiet", "light", "worn"),
    *("curious", "plain", "famous", "deep", "gentle", "reliable", "strange", "practical", "broad", "robust", "fresh"),
)
ADVERBS = (
    *("slowly", "usually", "rarely", "clearly", "nearly", "often", "quickly", "surprisingly", "mostly", "soon"),
    *("gradually", "sometimes", "reliably"),
)


def write_query(rng: np.random.Generator, topic: Topic, turn: int) -> tuple[str, str]:
    """A query and the part of the topic it asks about; turns count from 1."""
    slots = _slots(rng, topic, None)
    text = _pick(rng, FIRST_QUERIES if turn == 1 else FOLLOW_UPS).format(**slots)
    return (text + " " if rng.random() < 0.04 else text), slots["part"]


def write_answer(
    rng: np.random.Generator, topic: Topic, part: str, quality: float, style: str, length: int, emoji: bool
) -> str:
    """An answer of roughly `length` code points, trimmed, without blank lines.

    Args:
        part: the part of the topic that was asked about.
        quality: standard normal units; moves the share of definite sentences (0: about one half).
        style: one of `STYLES`.
        length: 80-2500 code points; longer answers may stop mid-sentence, as under a token limit.
        emoji: put characters outside the Basic Multilingual Plane (two UTF-16 units each) at some line starts.
    """
    if style == "short":
        length = min(length, 260)
    definite = definite_share(quality)
    lines: list[str] = [f"## About {topic.name}"] if style == "headings" else []
    decks: dict[bool, list[str]] = {False: [], True: []}
    size = 0
    while size < length:
        slots = _slots(rng, topic, part if rng.random() < 0.25 + 0.4 * definite else None)
        sentence = _sentence(rng, decks, definite, style).format(**slots)
        sentence = sentence[0].upper() + sentence[1:]
        mark = f"{_pick(rng, EMOJI)} " if emoji and (size == 0 or rng.random() < 0.3) else ""
        if style == "bullets":
            lines.append(f"- {mark}**{slots['part'].capitalize()}**: {sentence}")
        elif style == "headings" and rng.random() < 0.2:
            lines.append(f"### {mark}The {slots['part']}\n{sentence}")
        elif len(lines) > (style == "headings") and rng.random() < 0.7:
            lines[-1] += f" {mark}{sentence}"
        else:
            lines.append(mark + sentence)
        size = sum(map(len, lines)) + len(lines)
    text = "\n".join(lines)
    if len(text) > MAX_LENGTH or (length > 1000 and rng.random() < 0.5):
        text = text[:length].rstrip()
    return text


def definite_share(quality: Any) -> Any:
    """The probability that a sentence of an answer of this quality is a definite one; same shape."""
    return 1 / (1 + np.exp(-0.2 - 1.2 * quality))


def _sentence(rng: np.random.Generator, decks: dict[bool, list[str]], definite: float, style: str) -> str:
    """Draw a template from one of two decks, so that none is repeated before the others were used."""
    good = bool(rng.random() < definite)
    if good and style == "quotes" and rng.random() < 0.3:
        return _QUOTE
    if not decks[good]:
        decks[good] = [str(template) for template in rng.permutation(DEFINITE if good else FILLER)]
    return decks[good].pop()


def _slots(rng: np.random.Generator, topic: Topic, part: str | None) -> dict[str, str]:
    first, second = rng.choice(len(topic.parts), 2, replace=False)
    chosen = part or topic.parts[first]
    other = topic.parts[second] if topic.parts[second] != chosen else topic.parts[first]
    return {
        "topic": topic.name,
        "part": chosen,
        "other": other,
        "act": _pick(rng, topic.acts),
        "reason": _pick(rng, topic.reasons),
        "adj": _pick(rng, ADJECTIVES),
        "adj2": _pick(rng, ADJECTIVES),
        "adverb": _pick(rng, ADVERBS),
        "n": str(rng.integers(2, 90)),
        "percent": str(rng.integers(3, 98)),
    }


def _pick(rng: np.random.Generator, options: tuple[str, ...] | list[str]) -> str:
    return options[int(rng.integers(len(options)))]
