"""A comparison with an interval and a p value."""

from dataclasses import dataclass
from math import nan


@dataclass(frozen=True)
class Effect:
    """One comparison that the page makes.

    Attributes:
        family: the analysis it belongs to: "length", "layout", "bullets", "mouse and gaze", ...
        name: what is compared, in words, unique within its family.
        measure: of `patterns.measures`, or "rating", "preference".
        modality: "mouse", "gaze", "both", or "" for what is no reading.
        unit: of `mean`.
        mean, low, high: the estimate and its 95 % interval; NaN where there is none.
        p: two-sided p value of no effect.
        test: what gives `p`: "jackknife" or "randomization".
        n: readings, pairs or questions it rests on.
        workers: whose they are.
        caveat: what makes the effect without being one of reading, such as scrolling, in words.
        holm: `p`, adjusted for all comparisons made; NaN until that is done (`patterns.study`).
    """

    family: str
    name: str
    measure: str
    modality: str
    unit: str
    mean: float
    low: float
    high: float
    p: float
    test: str
    n: int
    workers: int
    caveat: str = ""
    holm: float = nan
