"""Who reads in the simulation: the constants of a worker and, where the way of reading is known, the effects on it.

The constants in capitals are the truth that estimators of reading patterns are checked against. They hold for readers
with a `Habit` only. A known reader's pace, in code points per second, is

    PACE * (length / 600) ** (1 - LENGTH_EXPONENT) * exp(log_pace - 0.13 * pull)

where `log_pace` is the sum of the worker's, the conversation's and the question's own effect and, where they apply,
`BULLETS_LOG_PACE` and `PAIR_LOG_PACE`, and `pull` is how much the answer is liked (-1 to 1) times the worker's
`strength`. All effects but the pull are the same on both sides.
"""

from dataclasses import dataclass
from typing import Literal, get_args

# linear: from top to bottom, hardly ever back, one answer after the other.
# scanner: jumps over the text, mostly forward; leaves much out and comes back to some of it.
# alternator: from top to bottom, but in short pieces by turns of the two answers; one answer as `linear`.
# skimmer: the beginning only, then a glance or none at what is below it.
Kind = Literal["linear", "scanner", "alternator", "skimmer"]
KINDS: tuple[Kind, ...] = get_args(Kind)

# Pace at an answer of 600 code points without any effect, code points per second: slow, so that readings of the
# simulation's shorter answers have about as many ticks as the study's.
PACE = 10.0
# Time to read an answer grows with its length to this power: long answers are read faster.
LENGTH_EXPONENT = 0.7
# On the log of pace: the query asked for bullet points. They take exp(-0.2) of the time per code point.
BULLETS_LOG_PACE = 0.2
# On the log of pace: there is a second answer beside this one.
PAIR_LOG_PACE = 0.15
# The query asked for bullet points: the share of the answer that is reached is multiplied by this.
BULLETS_REACH = 0.9
# Standard deviations of the normal effects on the log of pace.
WORKER_SD, CONVERSATION_SD, QUESTION_SD = 0.35, 0.15, 0.25
# Range of the workers' mouse lags, ms, uniform.
MOUSE_LAG_MS = (250.0, 600.0)


@dataclass(frozen=True)
class Habit:
    """A worker's known way of reading.

    Attributes:
        kind: see `Kind`.
        mouse_lag_ms: how long after the eyes a moving mouse is where they were. A resting mouse stays behind further.
        log_pace: the worker's effect on the log of pace.
    """

    kind: Kind
    mouse_lag_ms: float
    log_pace: float


@dataclass(frozen=True)
class Reader:
    """The constants of a worker.

    Attributes:
        width, height: viewport, CSS px.
        interval: typical time between ticks, ms.
        whole_ms: the browser's timer counts whole ms.
        pace: code points per second while reading; of glances only where `habit` is known.
        strength: how much a preference shows in the reading; 1 is average.
        follow: probability that a tick finds the mouse moved.
        gaze_bias: constant error of the webcam, px.
        splits_text: a browser extension splits the answers' text nodes.
        habit: None: the way of reading is not one of the known ones.
    """

    width: int
    height: int
    interval: float
    whole_ms: bool
    pace: float
    strength: float
    follow: float
    gaze_bias: tuple[float, float]
    splits_text: bool
    habit: Habit | None = None

    def ticks(self, seconds: float) -> int:
        """Number of ticks in a time, at least 3."""
        return max(3, round(float(seconds) * 1000 / self.interval))


@dataclass(frozen=True)
class Turn:
    """What a worker has to read.

    Attributes:
        texts: on screen, one per side.
        liking: how much the reader likes each, -1 to 1.
        chosen: the side rated higher (None: not rated).
        bullet_points: the query asked for them.
        log_pace: the conversation's and the question's effect on the log of a known reader's pace.
        seeds: what the random numbers of a known reader's path start from.
    """

    texts: tuple[str, ...]
    liking: tuple[float, ...]
    chosen: int | None
    bullet_points: bool = False
    log_pace: float = 0.0
    seeds: tuple[int, ...] = ()
