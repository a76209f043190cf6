"""The config `coarse`: what is left of a reading when it should tell about the answers and not about the reader."""

import polars as pl

# What the reward model sees of a pair by the mouse, and the steps it is rounded to: half a standard deviation and one,
# among the study's rated pairs. docs/results/coarse_tier.md has what the rounding costs and hides. Powers of two, so
# that multiples are exact.
STEPS = {
    "mouse_dwell_log_ratio_centered": 0.5,
    "mouse_coverage_diff_centered": 0.125,
}
# Nothing is further from 0: what is rare gives away.
LARGEST = 2.0
# With the length, which the texts tell anyway.
COARSE = ("length_log_ratio", *STEPS)


def coarse(features: pl.DataFrame) -> pl.DataFrame:
    """The columns of `STEPS` in multiples of their steps, at most `LARGEST` either way; the others as they are.

    Swapping the answers still changes the sign, exactly.

    Args:
        features: rows of the `features` config.
    """
    rounded = [
        ((pl.col(name) / step).round(mode="half_away_from_zero") * step).clip(-LARGEST, LARGEST) + 0.0  # no -0.0
        for name, step in STEPS.items()
    ]
    return features.with_columns(rounded)
