"""The color levels of dwell on a text, shared by the report's readings and their replays."""

# The lower bounds of the levels above 0, ms on `CELL` code points.
LEVELS_MS = (1, 250, 500, 1_000, 2_000, 4_000)


def heat_level(ms: int) -> int:
    """0 for no dwell, else the number of bounds of `LEVELS_MS` reached."""
    return sum(ms >= bound for bound in LEVELS_MS)
