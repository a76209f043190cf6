"""Where a reader looks while reading: visits to stretches of the answers, and the character aimed at on each tick."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ifllm_hub.sources.simulation.readers import (
    BULLETS_LOG_PACE,
    BULLETS_REACH,
    LENGTH_EXPONENT,
    PACE,
    PAIR_LOG_PACE,
    Habit,
    Reader,
    Turn,
)

# How many ticks there are to a jump back within a visit, on average. Known readers jump back less, so that the order
# of their visits is what tells the kinds apart.
_REGRESSION, _KNOWN_REGRESSION = 70, 600
_RIGHT_FIRST = 0.35
_CHUNK = 40  # code points that a scanner reads at a time


class _Visit(NamedTuple):
    """A stretch of one side, in code points, and the ticks spent on it."""

    side: int
    start: float
    stop: float
    ticks: int


def reading_path(rng: np.random.Generator, reader: Reader, turn: Turn) -> tuple[np.ndarray, np.ndarray]:
    """The side and the character (code point offset) aimed at on each tick while reading.

    A known reader's path depends on the random numbers of `turn.seeds` alone, not on `rng`.
    """
    lengths = [len(text) for text in turn.texts]
    if reader.habit is None:
        return _walk(rng, _visits(rng, reader, lengths, turn.liking), lengths, _REGRESSION)
    own = np.random.default_rng(turn.seeds)
    return _walk(own, _known_visits(own, reader, reader.habit, turn, lengths), lengths, _KNOWN_REGRESSION)


def _visits(rng: np.random.Generator, reader: Reader, lengths: list[int], liking: tuple[float, ...]) -> list[_Visit]:
    queues: list[list[_Visit]] = []
    for side, (length, like) in enumerate(zip(lengths, liking, strict=True)):
        pull = reader.strength * like
        stop = length * float(np.clip(0.74 + 0.15 * pull + rng.normal(0, 0.2), 0.12, 1.0))
        pace = reader.pace * (length / 600) ** 0.4 * np.exp(-0.13 * pull + rng.normal(0, 0.32))
        cuts = np.concatenate([[0], np.sort(rng.uniform(0.2, 0.9, rng.binomial(2, 0.3))), [1]]) * stop
        queues.append([_Visit(side, a, b, reader.ticks((b - a) / pace)) for a, b in pairwise(cuts.tolist())])
    visits = _by_turns(rng, queues)
    for _ in range(rng.poisson(1.0)):
        side = int(len(lengths) == 2 and rng.random() < 0.5 + 0.25 * liking[1])
        start = float(rng.uniform(0, 0.6)) * lengths[side]
        seconds = float(rng.uniform(0.6, 2.0))
        visits.append(_Visit(side, start, start + seconds * reader.pace, reader.ticks(seconds)))
    return visits


def _by_turns(rng: np.random.Generator, queues: list[list[_Visit]]) -> list[_Visit]:
    """One visit of each side after the other until none is left."""
    visits: list[_Visit] = []
    side = int(len(queues) == 2 and rng.random() < _RIGHT_FIRST)
    while any(queues):
        if queues[side]:
            visits.append(queues[side].pop(0))
        side = (side + 1) % len(queues)
    return visits


def _known_visits(
    rng: np.random.Generator, reader: Reader, habit: Habit, turn: Turn, lengths: list[int]
) -> list[_Visit]:
    log_pace = habit.log_pace + turn.log_pace
    log_pace += BULLETS_LOG_PACE * turn.bullet_points + PAIR_LOG_PACE * (len(lengths) == 2)
    reaches = rng.normal(0.8, 0.1, len(lengths)).tolist()
    queues: list[list[_Visit]] = []
    for side, (length, like, reach) in enumerate(zip(lengths, turn.liking, reaches, strict=True)):
        pull = reader.strength * like
        pace = PACE * (length / 600) ** (1 - LENGTH_EXPONENT) * np.exp(log_pace - 0.13 * pull)
        stop = length * float(np.clip((reach + 0.15 * pull) * (BULLETS_REACH if turn.bullet_points else 1), 0.12, 1.0))
        queues.append(
            [_Visit(side, a, b, reader.ticks((b - a) / pace)) for a, b in _stretches(rng, habit, len(lengths), stop)]
        )
    if habit.kind == "alternator":
        return _by_turns(rng, queues)
    first = int(len(queues) == 2 and rng.random() < _RIGHT_FIRST)
    return [visit for queue in queues[first:] + queues[:first] for visit in queue]


def _stretches(rng: np.random.Generator, habit: Habit, n_sides: int, stop: float) -> list[tuple[float, float]]:
    """What a known reader reads of one answer whose first `stop` code points are of interest, in order."""
    if habit.kind == "scanner":
        return _scan(rng, stop)
    if habit.kind == "skimmer":
        glances = [(at, min(at + 10.0, stop)) for at in rng.uniform(0.4, 1.0, rng.binomial(1, 0.5)) * stop]
        return [(0.0, 0.35 * stop), *glances]
    n_cuts = int(rng.integers(4, 8)) if habit.kind == "alternator" and n_sides == 2 else 0
    cuts = np.concatenate([[0], np.sort(rng.uniform(0.05, 0.95, n_cuts)), [1]]) * stop
    return list(pairwise(cuts.tolist()))


def _scan(rng: np.random.Generator, stop: float) -> list[tuple[float, float]]:
    """Stretches of `_CHUNK` code points: forward over some of the text at a time, and now and then back."""
    stretches = []
    at = 0.0
    while at < stop:
        stretches.append((at, min(at + _CHUNK, stop)))
        if rng.random() < 0.4:
            back = float(rng.uniform(0, at))
            stretches.append((back, min(back + _CHUNK / 2, stop)))
        at += _CHUNK * float(rng.uniform(1.4, 3.4))
    return stretches


def _walk(
    rng: np.random.Generator, visits: list[_Visit], lengths: list[int], regression: int
) -> tuple[np.ndarray, np.ndarray]:
    chars = []
    for side, start, stop, n in visits:
        steps = np.cumsum(rng.gamma(2.0, size=n))
        char = start + (stop - start) * steps / steps[-1]
        for _ in range(rng.poisson(n / regression)):
            at = int(rng.integers(n))
            char[at : at + int(rng.integers(5, 16))] -= rng.uniform(20, 120)
        chars.append(np.clip(char, 0, lengths[side] - 1).astype(np.int64))
    return np.repeat([visit.side for visit in visits], [len(char) for char in chars]), np.concatenate(chars)
