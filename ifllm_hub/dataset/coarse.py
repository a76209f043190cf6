"""The config `coarse`: as much of a reading as tells about the answers while hiding the reader."""

import polars as pl

# The reward model's mouse features, and the steps they are rounded to: half a standard deviation and a whole one among
# the study's rated pairs. docs/results/coarse_tier.md says what the rounding costs and hides. The steps are powers of
# two, so that multiples are exact.
STEPS = {
    "mouse_dwell_log_ratio_centered": 0.5,
    "mouse_coverage_diff_centered": 0.125,
}
# Values are clipped to this size, because rare values identify people.
LARGEST = 2.0
# Together with the length, which the texts reveal anyway.
COARSE = ("length_log_ratio", *STEPS)


def coarse(features: pl.DataFrame) -> pl.DataFrame:
    """Round the columns of `STEPS` to multiples of their steps, at most `LARGEST` in size; the others stay as they are.

    Swapping the answers still changes the sign, exactly.

    Args:
        features: rows of the `features` config.
    """
    rounded = [
        ((pl.col(name) / step).round(mode="half_away_from_zero") * step).clip(-LARGEST, LARGEST) + 0.0  # no -0.0
        for name, step in STEPS.items()
    ]
    return features.with_columns(rounded)
