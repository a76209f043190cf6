"""The paper's features of the authors' release against the output of the paper's own code.

Its tables `reference-features.parquet` and `reference-metrics.parquet` are looked for in the folder `IFLLM_ORACLE`, or
beside `IFLLM_RELEASE`; without them this skips visibly.
"""

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from eval.reproduction.features import compare_features, paper_features
from eval.reproduction.lists import PAPER_COMPARE, PAPER_PAIRWISE
from eval.reproduction.reference import reference_features
from ifllm_hub.dataset.load import load_config
from ifllm_hub.sources.ifllm.archive import Release

pytestmark = pytest.mark.real

RENAMED = {"gaze_left_reviewing_active_ratio": "gaze_left_reviewing_active_time_ratio"}


def oracle() -> pl.DataFrame:
    """Both tables, a row a question; null where all_metrics has none."""
    folder = Path(os.environ.get("IFLLM_ORACLE") or Path(os.environ["IFLLM_RELEASE"]).parent)
    paths = [folder / f"reference-{name}.parquet" for name in ("features", "metrics")]
    if not all(path.is_file() for path in paths):
        pytest.skip(f"needs the paper's own output in {folder}: set IFLLM_ORACLE to its folder")
    features, counts = map(pl.read_parquet, paths)
    return features.join(counts.drop("user_id", "task_id"), on="query_id", how="left")


@pytest.mark.slow
def test_every_cell_is_the_papers(real_release: Release) -> None:
    """Bug for bug: all cells of the lists, but for the two columns that the paper's code does not write."""
    theirs = oracle()
    ours = reference_features(real_release)
    assert dict(ours.group_by("mode").len().rows()) == {"pairwise": 811, "pointwise": 702}
    single = tuple(dict.fromkeys(name.removeprefix("prev_") for name in PAPER_COMPARE))
    cells = {}
    for mode, names in (("pairwise", PAPER_PAIRWISE), ("pointwise", single)):
        both = theirs.filter(comparison_type=mode).join(
            ours.filter(mode=mode), left_on="query_id", right_on="question_id", suffix="_ours", how="left"
        )
        written = [name for name in names if RENAMED.get(name, name) in theirs.columns]
        assert len(names) - len(written) == (2 if mode == "pairwise" else 0)
        mine = [f"{name}_ours" if f"{name}_ours" in both.columns else name for name in written]
        a = both.select(pl.col(mine).cast(pl.Float64)).to_numpy()
        b = both.select(pl.col([RENAMED.get(name, name) for name in written]).cast(pl.Float64)).to_numpy()
        known = ~np.isnan(b)
        assert np.isclose(a[known], b[known], rtol=1e-9, atol=1e-12).all()
        cells[mode] = (both.height, int(known.sum()))
    assert cells == {"pairwise": (496, 496 * 32 + 486 * 16), "pointwise": (410, 410 * 43 + 405 * 3)}


def test_corrected_features_of_the_release(real_dataset: tuple[Path, float]) -> None:
    trajectories = load_config(real_dataset[0], "trajectories")
    pairs = paper_features(trajectories)
    singles = compare_features(trajectories, load_config(real_dataset[0], "pointwise"))
    assert tuple(pairs.columns) == ("question_id", *PAPER_PAIRWISE)
    assert tuple(singles.columns) == ("question_id", *PAPER_COMPARE)
    assert 800 < pairs.height < 815
    nulls = {name: count for name, count in zip(pairs.columns, pairs.null_count().row(0), strict=True) if count}
    assert max(nulls[name] for name in nulls if "window" not in name) < pairs.height / 8
    assert pairs.select(PAPER_PAIRWISE).to_numpy().shape == (pairs.height, 50)
    shares = [
        name for name in PAPER_PAIRWISE if name.endswith(("_onscreen_ratio", "attention_ratio", "_idx_ratio_right"))
    ]
    assert len(shares) == 9
    assert pairs.select(pl.col(shares).is_between(0, 1).all()).row(0) == (True,) * 9
