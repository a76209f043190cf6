"""A search for personal data in what people typed, by Presidio's patterns and a few of ours."""

from importlib.metadata import version
from typing import Any

import polars as pl

from ifllm_hub.dataset.manifest import Scanner
from ifllm_hub.errors import IfllmError
from ifllm_hub.terms import Advance

# Presidio grades its patterns; those below this match any number or word of some length.
_MIN_SCORE = 0.4
# Recognizers that check more than a pattern (checksums, phone number plans), by the name of Presidio's class.
_CHECKED = (
    "CreditCard",
    "Crypto",
    "Iban",
    "InAadhaar",
    "Ip",
    "MacAddress",
    "Nhs",
    "Phone",
    "UkNino",
    "UsItin",
    "UsMbi",
    "UsSsn",
)
# Patterns only: their checks would fetch a list of domains from the network, or take most of the time.
_UNCHECKED = {"EMAIL_ADDRESS": "Email", "URL": "Url", "IN_PAN": "InPan"}
# Ours: what a worker of this study may have typed by mistake or on purpose.
_OURS = {
    "MTURK_WORKER_ID": r"(?-i:\bA(?=[A-Z]*[0-9])[0-9A-Z]{11,13}\b)",
    "SELF_DISCLOSURE": (
        r"\b(my (full |last |first |maiden )?name|my (home |email |e-mail )?address|my (phone|cell|mobile|number|ssn)"
        r"|my (wife|husband|spouse|partner|boyfriend|girlfriend|son|daughter|child|children|kids|mother|mom|father|dad"
        r"|brother|sister|boss|doctor|therapist|employer|school|company|hometown)"
        r"|i('m| am) (from|called|a resident of|\d{1,2}( years|\b))"
        r"|i (live|grew up|was born|work|study) (in|at|for|near)"
        r"|i('m| am| was|'ve been| have been) diagnosed|call me)\b"
    ),
}
CANNOT_FIND = "names of persons, places and employers in running text: no language model was used"

_FINDINGS = {
    "config": pl.String,
    "question_id": pl.Int64,
    "column": pl.String,
    "entity": pl.String,
    "score": pl.Float64,
    "start": pl.Int64,
    "end": pl.Int64,
    "text": pl.String,
}


def find_personal_data(texts: pl.DataFrame, advance: Advance | None = None) -> pl.DataFrame:
    """What looks like personal data, one row per match.

    Found: what has a recognizable form (numbers with checksums, email and web addresses, phone numbers), Mechanical
    Turk worker ids, and phrases in which people speak about themselves. Not found: `CANNOT_FIND`.

    Args:
        texts: `config`, `question_id`, `column` and `text`.
        advance: called with the share done (0-1).

    Returns:
        The same columns, with only the match in `text`; `entity`, Presidio's `score` (0-1), and `start` and `end` of
        the match (code points).

    Raises:
        IfllmError: the extra `privacy` is not installed.
    """
    recognizers = _recognizers()
    matches = []
    for done, (*where, text) in enumerate(texts.select("config", "question_id", "column", "text").iter_rows(), start=1):
        found = [
            match for recognizer in recognizers for match in recognizer.analyze(text, recognizer.supported_entities)
        ]
        matches += [
            (*where, match.entity_type, match.score, match.start, match.end, text[match.start : match.end])
            for match in sorted(found, key=lambda match: (match.start, match.end, match.entity_type))
            if match.score >= _MIN_SCORE
        ]
        if advance:
            advance(done / texts.height)
    return pl.DataFrame(matches, schema=_FINDINGS, orient="row")


def scanner_info() -> Scanner:
    """The tool, its version, and the entities that `find_personal_data` recognizes.

    Raises:
        IfllmError: the extra `privacy` is not installed.
    """
    entities = sorted({entity for recognizer in _recognizers() for entity in recognizer.supported_entities})
    return {"tool": f"presidio-analyzer {version('presidio-analyzer')}, patterns only", "entities": entities}


def _recognizers() -> list[Any]:
    """No NLP engine: spaCy's models are not on PyPI, and must not be fetched while this runs."""
    try:
        from presidio_analyzer import Pattern, PatternRecognizer, predefined_recognizers
    except ImportError as error:
        raise IfllmError(
            "Searching texts for personal data needs Presidio. Install it with: pip install 'ifllm_hub[privacy]'"
        ) from error

    def of(name: str) -> Any:
        return getattr(predefined_recognizers, f"{name}Recognizer")

    unchecked = {
        entity: [pattern for pattern in of(name).PATTERNS if pattern.score >= _MIN_SCORE]
        for entity, name in _UNCHECKED.items()
    }
    ours = {entity: [Pattern(entity, regex, _MIN_SCORE)] for entity, regex in _OURS.items()}
    patterns = unchecked | ours
    return [
        *(of(name)() for name in _CHECKED),
        *(PatternRecognizer(supported_entity=entity, patterns=patterns[entity]) for entity in patterns),
    ]
