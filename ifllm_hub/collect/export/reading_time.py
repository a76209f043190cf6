"""How long the two answers of a question were read, and how long is enough for the shipped reward model to know more
than their lengths tell."""

import polars as pl

# The least time that the mouse must have been on the text of the two answers, ms: below that, reading added nothing to
# the lengths of the answers in the study (docs/results/live_score.md, where the intervals are).
LEAST_DWELL_MS = 3_000
DWELL = ("mouse_dwell_left", "mouse_dwell_right")


def dwell_on_text() -> pl.Expr:
    """How long the mouse was on the text of either answer, ms; 0 if never. For rows of the config `features`."""
    return pl.sum_horizontal(DWELL)
