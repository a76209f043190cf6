"""Every analysis of how a dataset was read, and what is left of its comparisons when all of them are paid for."""

from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from ifllm_hub import __version__
from ifllm_hub.dataset.manifest import Origin, data_origin
from ifllm_hub.patterns.attention import Attention, attention
from ifllm_hub.patterns.effects import Effect
from ifllm_hub.patterns.experiment.bullets import Bullets, bullets
from ifllm_hub.patterns.measures import measured
from ifllm_hub.patterns.mouse_gaze.coupling import Coupling, coupling
from ifllm_hub.patterns.mouse_gaze.principles import Principles, principles
from ifllm_hub.patterns.readings import Readings, load_readings
from ifllm_hub.patterns.summary import Summary, summaries
from ifllm_hub.patterns.variation.groups import Groups, grouped, paths
from ifllm_hub.patterns.variation.layout import Layouts, layouts
from ifllm_hub.patterns.variation.length import Lengths, lengths
from ifllm_hub.patterns.variation.variance import Decomposition, decompositions
from ifllm_hub.statistics import effective_workers, holm
from ifllm_hub.terms import MODALITIES, Advance

# Rows of the table of measures from which starting processes pays.
_MUCH = 20_000


@dataclass(frozen=True)
class Patterns:
    """How a dataset was read.

    Attributes:
        ifllm_hub: version of this package.
        origin: where the readings are from.
        questions, pairs, conversations, workers: with behavior; `pairs` are the questions with two answers.
        effective_workers: as many workers of equal size tell as much where workers differ.
        summaries, variance, groups, lengths, layouts, bullets, coupling, principles, attention: the analyses.
        effects: every comparison that any of them makes, with `holm`.
    """

    ifllm_hub: str
    origin: Origin
    questions: int
    pairs: int
    conversations: int
    workers: int
    effective_workers: float
    summaries: list[Summary]
    variance: list[Decomposition]
    groups: list[Groups]
    lengths: Lengths
    layouts: Layouts
    bullets: Bullets
    coupling: Coupling
    principles: Principles | None
    attention: Attention
    effects: list[Effect]


def find_patterns(
    dataset: str | Path, revision: str | None = None, advance: Advance = lambda share: None
) -> tuple[Patterns, Readings, pl.DataFrame]:
    """Analyze how a dataset folder or Hub repo was read.

    Args:
        advance: called with the share done (0-1).

    Returns:
        The patterns, the readings they were found in, and the table of all measures.

    Raises:
        IfllmError: see `load_readings`.
    """
    readings = load_readings(dataset, revision)
    advance(0.2)
    patterns, table = patterns_of(readings, data_origin(dataset, revision), lambda share: advance(0.2 + 0.8 * share))
    return patterns, readings, table


def patterns_of(
    readings: Readings, origin: Origin, advance: Advance = lambda share: None
) -> tuple[Patterns, pl.DataFrame]:
    """`find_patterns` of readings that are already loaded: the patterns, and the table of all measures."""
    from joblib import Parallel, delayed

    table = measured(readings)
    advance(0.2)
    questions = readings.questions
    walked = [(*paths(readings, modality), modality) for modality in MODALITIES]
    # Half of the work needs the table or the paths alone: other processes do it meanwhile, unless it is little.
    aside = Parallel(n_jobs=2 if table.height > _MUCH else 1, return_as="generator")(
        [
            delayed(decompositions)(table, questions),
            delayed(lengths)(table),
            delayed(layouts)(table),
            *(delayed(grouped)(*one) for one in walked),
        ]
    )
    advance(0.3)
    experiment = bullets(readings, table)
    advance(0.45)
    together, told = coupling(readings, table), principles(readings)
    advance(0.6)
    places = attention(readings)
    advance(0.8)
    variance, by_length, by_layout, *found = aside
    made = [
        effect
        for analysis in (by_length, by_layout, experiment, together, told, places)
        for effect in (analysis.effects if analysis else [])
    ]
    paid = holm([effect.p for effect in made])
    patterns = Patterns(
        ifllm_hub=__version__,
        origin=origin,
        questions=questions.height,
        pairs=questions.filter(mode="pairwise").height,
        conversations=questions["conversation_id"].n_unique(),
        workers=questions["worker_id"].n_unique(),
        effective_workers=effective_workers(questions["worker_id"].to_numpy()),
        summaries=summaries(table),
        variance=variance,
        groups=[one for one in found if one],
        lengths=by_length,
        layouts=by_layout,
        bullets=experiment,
        coupling=together,
        principles=told,
        attention=places,
        effects=[replace(effect, holm=one) for effect, one in zip(made, paid, strict=True)],
    )
    advance(1.0)
    return patterns, table
