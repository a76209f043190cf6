"""Simulated studies of known readers, tick by tick, for `patterns_recovery.py`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from eval.studies.patterns_tables import Found, shares_given_length
from ifllm_hub.patterns.attention import attention
from ifllm_hub.patterns.effects import Effect
from ifllm_hub.patterns.experiment.bullets import bullets
from ifllm_hub.patterns.measures import measured
from ifllm_hub.patterns.mouse_gaze.lag import cross_correlations, matrix, pooled_lag, together
from ifllm_hub.patterns.readings import Readings, readings_of
from ifllm_hub.patterns.variation.groups import groups
from ifllm_hub.patterns.variation.layout import layouts
from ifllm_hub.patterns.variation.length import lengths
from ifllm_hub.sources.simulation.frames import simulate_frames
from ifllm_hub.sources.simulation.readers import KINDS, LENGTH_EXPONENT, MOUSE_LAG_MS, PAIR_LOG_PACE
from ifllm_hub.terms import MODALITIES

_MEASURES = ("dwell_per_char", "depth", "left_first")
# Pairs of studies that never were: all questions with bullet points, and none. Their seeds begin here.
COUNTERFACTUALS, FIRST_COUNTERFACTUAL = 6, 1_000_000
# What is done beside a constant that the simulator declares.
_DECLARED = {
    "length slope of dwell per character": 100 * (2 ** (LENGTH_EXPONENT - 1) - 1),
    "two answers less one, dwell per character": 100 * math.expm1(-PAIR_LOG_PACE),
}
LAG = "lag of the mouse"
_OF_BULLETS = "bullet points, "
AS_DECLARED = ", as declared"


@dataclass(frozen=True)
class Study:
    """A study and what is found in it.

    Attributes:
        found: by estimand.
        table: `measured`, of a few measures.
        correlations: `cross_correlations`.
    """

    found: dict[str, Found]
    table: pl.DataFrame
    correlations: pl.DataFrame


def tick_study(workers: int, questions: int, seed: int) -> Study:
    """Simulate one study and analyze it."""
    readings, _ = _readings(workers, questions, seed)
    table = measured(readings).filter(pl.col("measure").is_in(_MEASURES))
    correlations = cross_correlations(together(readings))
    found = in_table(table) | in_correlations(correlations)
    for effect in bullets(readings, table).effects:
        if effect.measure in ("dwell_per_char", "depth") and effect.family.startswith("bullets"):
            carried = "" if effect.family == "bullets" else "a turn before, "
            found[_name(_OF_BULLETS + carried, effect)] = _found(effect)
    for part in attention(readings).parts:
        name = f"attention in place, {part.category}, {part.modality}"
        found[name] = Found(part.in_place, part.in_place_low, part.in_place_high)
    return Study(found, table, correlations)


def in_table(table: pl.DataFrame) -> dict[str, Found]:
    """What is estimated from the measures."""
    table = table.filter(pl.col("measure") != "depth")
    found = {}
    for length in lengths(table.filter(measure="dwell_per_char")).measures:
        for name, slope in (("length slope of ", length.own), ("rival's length slope of ", length.rival)):
            if slope is not None:
                found[_name(name, slope)] = _found(slope)
    layout = layouts(table)
    for name, effects in (
        ("two answers less one, ", layout.modes),
        ("left less right, ", layout.sides),
        ("read first less second, ", layout.order),
    ):
        found |= {_name(name, effect): _found(effect) for effect in effects}
    for modality in MODALITIES:
        rows = table.filter(measure="dwell_per_char", modality=modality)
        for level, share in shares_given_length(rows).items():
            name = f"variance share of dwell per character: {level}, {modality}"
            found[name] = Found(share["mean"], share["low"], share["high"])
    return found


def in_correlations(correlations: pl.DataFrame) -> dict[str, Found]:
    """The pooled lag."""
    lag = pooled_lag(matrix(correlations), correlations["worker_id"].to_numpy()).estimate
    return {LAG: Found(lag["mean"], lag["low"], lag["high"])}


def counterfactual(workers: int, questions: int, number: int) -> dict[str, list[float]]:
    """Of each measure and modality, what asking for bullet points changes in each question of a study."""
    both = []
    for asked in (True, False):
        readings, _ = _readings(workers, questions, FIRST_COUNTERFACTUAL + number, asked)
        table = measured(readings).filter(pl.col("measure").is_in(["dwell_per_char", "depth"]), pl.col("value") > 0)
        y = pl.when(measure="depth").then("value").otherwise(pl.col("value").log())
        keys = ["conversation_id", "turn", "measure", "modality"]
        both.append(table.group_by(keys).agg(y.mean().alias(str(asked))).sort(keys))
    rows = both[0].join(both[1], on=keys, maintain_order="left").with_columns(change=pl.col("True") - pl.col("False"))
    parts = rows.partition_by("measure", "modality", as_dict=True, maintain_order=True)
    return {"/".join(map(str, key)): part["change"].to_list() for key, part in parts.items()}


def tick_truths(
    tables: Sequence[pl.DataFrame], correlations: Sequence[pl.DataFrame], changes: Sequence[dict[str, list[float]]]
) -> dict[str, float]:
    """The truths of `tick_study`, but of what is declared: those of other studies taken together.

    Args:
        tables, correlations: of other studies.
        changes: from `counterfactual`.
    """

    def own(number: int, name: str) -> pl.Expr:
        return pl.concat_str(pl.lit(f"{number}/"), name).alias(name)

    table = pl.concat(
        one.with_columns(
            pl.col("question_id") + 10_000_000 * number, own(number, "worker_id"), own(number, "conversation_id")
        )
        for number, one in enumerate(tables)
    )
    together = pl.concat(one.with_columns(own(number, "worker_id")) for number, one in enumerate(correlations))
    truths = {name: one.mean for name, one in (in_table(table) | in_correlations(together)).items()}
    for key in sorted(changes[0]):
        measure, modality = key.split("/")
        mean = float(np.mean([change for one in changes for change in one[key]]))
        log = measure == "dwell_per_char"
        name = f"{_OF_BULLETS}{'dwell per character' if log else 'reached'}, {modality}"
        truths[name] = 100 * math.expm1(mean) if log else mean
    return truths


def declared(name: str) -> float | None:
    """What the simulator declares of an estimand; None: nothing."""
    if name == LAG:
        return sum(MOUSE_LAG_MS) / 2
    if name.startswith("attention"):
        return 1.0
    if name.startswith(f"{_OF_BULLETS}a turn before"):
        return 0.0
    return next((truth for what, truth in _DECLARED.items() if name.startswith(what)), None)


def kinds_found(workers: int, questions: int, seed: int) -> dict[str, dict[str, float]]:
    """By modality, how many groups of paths are `clear` (0: none), and `agreement` with the kinds of readers.

    The latter is the adjusted Rand index of the kind of each reader and the group that most of the reader's paths are
    in. Nothing of a modality whose paths are too few to be grouped.
    """
    from sklearn.metrics import adjusted_rand_score

    readings, truth = _readings(workers, questions, seed)
    kinds = dict(truth.select("worker_id", "reader_kind").unique().iter_rows())
    every = {}
    for modality in MODALITIES:
        if found := groups(readings, modality):
            own: dict[str, list[float]] = {}
            for part in found.parts:
                for worker, share in part.by_worker:
                    own.setdefault(worker, []).append(share)
            usual = [int(np.argmax(shares)) for shares in own.values()]
            agreement = adjusted_rand_score([KINDS.index(kinds[worker]) for worker in own], usual)
            every[modality] = {"clear": found.clear or 0, "agreement": float(agreement)}
    return every


def _readings(workers: int, questions: int, seed: int, asked_for: bool | None = None) -> tuple[Readings, pl.DataFrame]:
    asked, trajectories, truth = simulate_frames(workers, questions, seed, asked_for)
    return readings_of(asked.filter(~pl.col("ai_error")), trajectories), truth


def _name(what: str, effect: Effect) -> str:
    measure = "reached" if effect.measure == "depth" else "dwell per character"
    return f"{what}{measure}, {effect.modality}"


def _found(effect: Effect) -> Found:
    return Found(effect.mean, effect.low, effect.high, effect.p)
