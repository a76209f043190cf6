"""Running the protocol: every model in every kind of folds, the null models, and what they score."""

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NotRequired, TypedDict

import numpy as np

from ifllm_hub.dataset.load import commit_on_hub
from ifllm_hub.errors import IfllmError
from ifllm_hub.files import read_json, write_atomically
from ifllm_hub.reward.model.config import DataSource
from ifllm_hub.reward.protocol.candidates import CANDIDATES, FOREST, LONGER_ANSWER, TEXT_CONTRAST, Candidate
from ifllm_hub.reward.protocol.folds import PROTOCOLS, block_permuted, out_of_fold, permuted
from ifllm_hub.reward.protocol.pairs import Pairs
from ifllm_hub.reward.protocol.scores import Measure, Score, adjusted_gains, correct, gains, score
from ifllm_hub.statistics import Adjusted, detectable, effective_workers
from ifllm_hub.terms import Advance

# What the probabilities rest on besides the data: a change to one of these makes finished results void.
_CODE = ("candidates.py", "../model/estimator.py", "pairs.py", "folds.py")

Null = Literal["permuted_labels", "block_permuted_labels"]
NULLS: dict[Null, Callable[[Pairs, int], Pairs]] = {
    "permuted_labels": permuted,
    "block_permuted_labels": block_permuted,
}


class Draws(TypedDict):
    """Accuracies on labels that mean nothing, over draws of them."""

    mean: float
    sd: float


class Row(Score):
    """A model under a protocol.

    `adjusted` are the differences to the longer answer again, adjusted for all models and measures of the protocol.
    """

    model: str
    protocol: str
    adjusted: dict[Measure, Adjusted]


class Counts(TypedDict):
    """What a leaderboard was made on; `left_preferred` is a share of the pairs.

    `effective_workers` are as many workers of equal size as tell as much.
    """

    pairs: int
    workers: int
    effective_workers: float
    conversations: int
    left_preferred: float
    seeds: int


class Scored(TypedDict):
    """Rows, and each null model's accuracies by protocol.

    `detectable_gain` is the gain of accuracy over the longer answer that a study like this finds in four of five cases,
    at the standard error of the forest on workers never seen.
    """

    rows: list[Row]
    detectable_gain: float
    permuted_labels: dict[str, Draws]
    block_permuted_labels: NotRequired[dict[str, Draws]]


class Board(Counts, Scored):
    """`leaderboard.json` of a reward model."""


class Part(Score):
    """A model on a part of the pairs."""

    by: str
    part: str
    pairs: int
    model: str


class FullBoard(Board):
    """`leaderboard.json` of the full leaderboard; see `run_leaderboard`."""

    source: DataSource
    excluded_workers_kept: bool
    leave_one_out_seeds: int
    text_model: str | None
    left_out: list[str]
    longer_rule: float
    parts: list[Part]


@dataclass(frozen=True)
class Job:
    """One thing to compute: a model under a protocol, or the forest on labels of a null.

    Attributes:
        protocol: see `out_of_fold`.
        seeds: fold and model seeds; of a null, label draws.
        candidate: the model.
        null: a key of `NULLS`, or None.
    """

    protocol: str
    seeds: int
    candidate: Candidate
    null: Null | None = None

    def run(self, pairs: Pairs) -> np.ndarray:
        """(seeds, n) P(left preferred); of a null, (seeds,) accuracies, each on labels drawn anew."""
        if self.null is None:
            return out_of_fold(pairs, self.candidate.fit, self.protocol, self.seeds)
        draws = (NULLS[self.null](pairs, seed) for seed in range(self.seeds))
        return np.array(
            [correct(out_of_fold(drawn, self.candidate.fit, self.protocol, 1), drawn.y).mean() for drawn in draws]
        )


def leaderboard(pairs: Pairs, seeds: int = 20, n_jobs: int = 1, advance: Advance | None = None) -> Board:
    """The candidates of every training under every protocol, and the forest on permuted labels.

    Args:
        pairs: from `labeled`.
        seeds: fold and forest seeds.
        n_jobs: processes.
        advance: called with the share done (0-1).
    """
    jobs = [Job(protocol, seeds, candidate) for protocol in PROTOCOLS for candidate in CANDIDATES]
    nulls = [Job(protocol, seeds, FOREST, "permuted_labels") for protocol in PROTOCOLS]
    results = run_jobs([*jobs, *nulls], pairs, n_jobs, advance=advance)
    return {**counts(pairs, seeds), **scored(results, pairs)}


def run_jobs(
    jobs: list[Job],
    pairs: Pairs,
    n_jobs: int = 1,
    finished: Path | None = None,
    advance: Advance | None = None,
) -> dict[Job, np.ndarray]:
    """The results of all jobs, in their order.

    Args:
        finished: a folder of results, kept as soon as they are there and used again as long as the data, the code of
            the models and the job are the same.

    Raises:
        IfllmError: `finished` cannot be written or holds a damaged file.
    """
    from joblib import Parallel, delayed

    places = [None] * len(jobs) if finished is None else _places(jobs, pairs, finished)
    results = []
    for result in Parallel(n_jobs=n_jobs, return_as="generator")(
        delayed(_kept)(job, pairs, place) for job, place in zip(jobs, places, strict=True)
    ):
        results.append(result)
        if advance:
            advance(len(results) / len(jobs))
    return dict(zip(jobs, results, strict=True))


def _kept(job: Job, pairs: Pairs, place: Path | None) -> np.ndarray:
    if place is None:
        return job.run(pairs)
    if not place.exists():
        buffer = io.BytesIO()
        np.save(buffer, job.run(pairs), allow_pickle=False)
        write_atomically(place, buffer.getvalue())
    try:
        return np.load(place, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise IfllmError(f"{place}: damaged ({error}). Delete it and run again.") from error


def _places(jobs: list[Job], pairs: Pairs, finished: Path) -> list[Path | None]:
    """A file for each job, whose name follows from all that the result follows from."""
    code = b"".join((Path(__file__).parent / file).read_bytes() for file in _CODE)
    rows = {True: pairs.rows, False: pairs.rows.drop(TEXT_CONTRAST, strict=False)}
    data = {text: hashlib.sha256(code + columns.serialize()).hexdigest() for text, columns in rows.items()}
    described = [
        f"{data[job.candidate.needs_text]}/{job.protocol}/{job.seeds}/{job.candidate.name}/{job.null}" for job in jobs
    ]
    return [finished / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.npy" for text in described]


def data_source(dataset: str | Path, revision: str | None) -> DataSource:
    """What names the data: of a folder the release's digest, or the manifest's if it was not built from a release; on
    the Hub the repo and, as `revision`, the commit.

    Raises:
        IfllmError: there is no such dataset, or the Hub cannot be reached.
    """
    if Path(dataset).is_dir():
        path = Path(dataset) / "manifest.json"
        manifest = read_json(path)
        if "collected" in manifest:
            return {"collected_sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        if "imported" in manifest:
            return {
                "imported": manifest["imported"]["name"],
                "imported_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            }
        return {
            "release_sha256": manifest["release_sha256"],
            "is_the_released_data": manifest["is_the_released_data"],
        }
    return {"dataset": str(dataset), "revision": commit_on_hub(str(dataset), revision)}


def counts(pairs: Pairs, seeds: int) -> Counts:
    """What a leaderboard was made on."""
    return {
        "pairs": len(pairs),
        "workers": int(pairs.rows["worker_id"].n_unique()),
        "effective_workers": effective_workers(pairs.groups("worker_id")),
        "conversations": int(pairs.rows["conversation_id"].n_unique()),
        "left_preferred": float(pairs.y.mean()),
        "seeds": seeds,
    }


def scored(results: dict[Job, np.ndarray], pairs: Pairs) -> Scored:
    """`rows`, one a model and protocol, and for each null the mean and sd of its accuracies by protocol."""
    judged = {job: result for job, result in results.items() if job.null is None}
    reference = {job.protocol: result for job, result in judged.items() if job.candidate == LONGER_ANSWER}
    over = {job: gains(result, reference[job.protocol], pairs) for job, result in judged.items()}
    adjusted: dict[Job, dict[Measure, Adjusted]] = {}
    for protocol in reference:
        family = [job for job in over if job.protocol == protocol]
        adjusted |= dict(zip(family, adjusted_gains([over[job] for job in family]), strict=True))
    rows: list[Row] = [
        {
            "model": job.candidate.name,
            "protocol": job.protocol,
            **score(result, reference[job.protocol], pairs),
            "adjusted": adjusted[job],
        }
        for job, result in judged.items()
    ]
    headline = next(
        gain for job, gain in over.items() if job.candidate.name == FOREST.name and job.protocol == "worker"
    )
    found: Scored = {"rows": rows, "detectable_gain": detectable(headline["accuracy"]), "permuted_labels": {}}
    for job, result in results.items():
        if job.null is not None:
            draws: Draws = {"mean": float(result.mean()), "sd": float(result.std())}
            found.setdefault(job.null, {})[job.protocol] = draws
    return found
