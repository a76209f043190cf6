"""comparison.json: what `compare.compare` finds, as tables, figures, cards and pages read it.

Numbers that are not defined are None: JSON has no NaN.
"""

from pathlib import Path
from typing import NotRequired, TypedDict

from ifllm_hub.documents import checked
from ifllm_hub.files import read_json

COMPARISON_FILE = "comparison.json"


class Score(TypedDict):
    """A mean with its 95 % interval; of a single cluster there is none."""

    mean: float
    low: float | None
    high: float | None


class Difference(Score):
    """The paper's measure, with the standard error that the paper gives it."""

    paper_se: float | None


class OneOrder(TypedDict):
    """The difference of scores that each order alone would give."""

    model_first: float | None
    baseline_first: float | None


class Scores(TypedDict):
    """The judge's mean scores."""

    model: float
    baseline: float


class Words(TypedDict):
    """Mean numbers of words."""

    model: float
    baseline: float
    prompt: float


class Third(Score):
    """The difference on the short, the medium or the long third."""

    third: str
    n: int
    words_prompt: float
    words_model: float


class Numbers(TypedDict, total=False):
    """What there is of scored pairs only; see `statistics.summary`."""

    llms: int
    prompts: int
    difference: Difference
    over_prompts: Score
    mean_over_llms: Score
    length_controlled_difference: Score
    win_rate: Score
    wins: float
    ties: float
    losses: float
    wins_in_both: float | None
    losses_in_both: float | None
    length_controlled_win_rate: Score
    one_order: OneOrder
    scores: Scores
    words: Words
    thirds_by_prompt: list[Third]
    thirds_by_answer: list[Third]


class Summary(Numbers):
    """How many pairs were scored, and their numbers; none of these where `n` is 0."""

    n: int


class Pooled(Summary):
    """What became of a label source's pairs, of all LLMs: they were scored, ties among them, or set aside."""

    label_source: str
    asked: int
    tied: int
    set_aside: int


class Cell(Pooled):
    """The same of one LLM, and what was compared."""

    llm: str
    model: str
    model_revision: str | None
    baseline: str
    baseline_revision: str | None


class Contrast(TypedDict):
    """One label source against another; without shared pairs (`n` is 0) no mean."""

    first: str
    second: str
    n: int
    llms: int
    mean: NotRequired[float]
    low: NotRequired[float | None]
    high: NotRequired[float | None]


class Position(TypedDict):
    """See `measures.position_consistency`."""

    consistency: float
    first_in_both: float
    second_in_both: float
    n: int


class Missing(TypedDict):
    """A cell without numbers."""

    llm: str
    label_source: str


class JudgmentsFile(TypedDict):
    """What was compared."""

    name: str
    sha256: str


class Comparison(TypedDict):
    """Everything that `compare.compare` finds, which describes it, and of which `files` once they are files."""

    ifllm_hub: str
    judge: str
    judge_settings: str
    preset: str
    draws: int
    seed: int
    judgments: int
    repeated: int
    single: int
    statuses: dict[str, int]
    contradictions: int
    resampled_baselines: int
    asked: int
    pairs: int
    tied: int
    set_aside: dict[str, int]
    position: Position | None
    llms: list[str]
    label_sources: list[str]
    cells: list[Cell]
    pooled: list[Pooled]
    contrasts: list[Contrast]
    missing: list[Missing]
    files: NotRequired[list[JudgmentsFile]]


def read_comparison(folder: Path) -> Comparison:
    """What `compare.run_comparison` wrote.

    Raises:
        IfllmError: it is missing or damaged, or another version wrote it.
    """
    path = folder / COMPARISON_FILE
    advice = "Another version may have written it. Compare again: ifllm compare."
    return checked(read_json(path), Comparison, path, advice)
