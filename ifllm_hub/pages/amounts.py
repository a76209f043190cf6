"""Numbers as text."""

import math


def percent(value: float, digits: int = 1) -> str:
    """A share as "62.3 %", or "not defined"."""
    return f"{100 * value:.{digits}f}\u00a0%" if math.isfinite(value) else "not defined"
