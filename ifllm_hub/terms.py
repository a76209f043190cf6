"""The terms that several packages share, each defined once."""

from collections.abc import Callable
from typing import Literal, get_args

# An answer's place on the screen; a question with one answer has `left` only.
Side = Literal["left", "right"]
SIDES: tuple[Side, ...] = get_args(Side)
# The signals of where somebody reads, in the order of columns and tables. The paper's own features put gaze first.
MODALITIES = ("mouse", "gaze")
# A question with two answers, or with one.
Mode = Literal["pairwise", "pointwise"]
MODES: tuple[Mode, ...] = get_args(Mode)
# Whose answer a judge sees first.
ORDERS = ("model_first", "baseline_first")
# Why a judgment has no scores.
FAILURES = ("malformed", "refused", "truncated", "failed")
# One message of a chat: `role` and `content`.
Message = dict[str, str]
# Called with the share of the work that is done (0-1).
Advance = Callable[[float], None]
