"""Every feature: name, unit, modality, family, formula, and what swapping the two answers does to it."""

from dataclasses import dataclass

from ifllm_hub.features.measures import MEASURES
from ifllm_hub.features.ticks import MODALITIES, SIDES

# Added to both dwells before their ratio: below half a second a ratio says nothing, ms.
DWELL_FLOOR_MS = 500

ODD, EVEN = "odd", "even"


@dataclass(frozen=True)
class Feature:
    """One column of the `features` config.

    Attributes:
        name: column name.
        unit: ms, char (code points), share (0-1), count, sign (-1 or 1) or log.
        modality: mouse, gaze, both or text.
        family: what it is about.
        formula: how it is computed, in words; the code is `measures.py` and `extract.py`.
        swap: what happens to it when left and right are swapped: "odd" (changes sign), "even" (stays), or the name of
            the feature it changes places with.
    """

    name: str
    unit: str
    modality: str
    family: str
    formula: str
    swap: str


def _per_side(modality: str) -> list[Feature]:
    features = []
    for measure in MEASURES:
        left, right = (f"{modality}_{measure.name}_{side}" for side in SIDES)
        features += [
            Feature(left, measure.unit, modality, measure.family, measure.formula, right),
            Feature(right, measure.unit, modality, measure.family, measure.formula, left),
            Feature(f"{modality}_{measure.name}_diff", measure.unit, modality, measure.family, "left minus right", ODD),
        ]
    return features


def _per_question(modality: str) -> list[Feature]:
    return [
        Feature(
            f"{modality}_dwell_log_ratio",
            "log",
            modality,
            "dwell",
            f"ln((dwell left + {DWELL_FLOOR_MS} ms) / (dwell right + {DWELL_FLOOR_MS} ms))",
            ODD,
        ),
        Feature(f"{modality}_first_side", "sign", modality, "order", "1 if left was read first, -1 if right", ODD),
        Feature(f"{modality}_last_side", "sign", modality, "order", "1 if left was read last, -1 if right", ODD),
        Feature(f"{modality}_switches", "count", modality, "visits", "changes of side between on-text ticks", EVEN),
        Feature(
            f"{modality}_on_text", "share", modality, "dwell", "dwell on both answers / duration of all ticks", EVEN
        ),
    ]


_CROSS = [
    Feature(
        "gaze_mouse_same_side",
        "share",
        "both",
        "agreement",
        "share of the time with both on text in which both are on the same answer",
        EVEN,
    ),
    Feature(
        "gaze_mouse_gap",
        "share",
        "both",
        "agreement",
        "mean distance of the two char indices / answer length while both are on the same answer",
        EVEN,
    ),
]

_TEXT = [
    Feature("length_left", "char", "text", "length", "length of the left answer", "length_right"),
    Feature("length_right", "char", "text", "length", "length of the right answer", "length_left"),
    Feature("length_query", "char", "text", "length", "length of the query", EVEN),
    Feature("length_log_ratio", "log", "text", "length", "ln(length left / length right)", ODD),
    Feature("length_log_sum", "log", "text", "length", "ln(length left + length right)", EVEN),
]

CATALOGUE: tuple[Feature, ...] = (
    *(feature for modality in MODALITIES for feature in (*_per_side(modality), *_per_question(modality))),
    *_CROSS,
    *_TEXT,
)

# Antisymmetric and symmetric features only: a model of these cannot tell the sides apart except by their contrast.
CONTRAST: tuple[Feature, ...] = tuple(feature for feature in CATALOGUE if feature.swap in (ODD, EVEN))


def names(features: tuple[Feature, ...] = CATALOGUE, modalities: tuple[str, ...] | None = None) -> list[str]:
    """Column names, optionally of some modalities only."""
    return [feature.name for feature in features if modalities is None or feature.modality in modalities]
