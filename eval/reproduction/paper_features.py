r"""The paper's features: how closely they agree with the output of the paper's own code, and what each correction
changes.

python -m eval.reproduction.paper_features --release ifllm-release.tar.xz --dataset runs/real/dataset \
    --oracle ORACLE

`--oracle` is a folder with the tables that the paper's code writes (`reference-features.parquet` of extract_features,
`reference-metrics.parquet` of all_metrics, both by `query_id`). The corrections are switched on one after another,
each on top of those before it; the last row is what users of the `trajectories` config get. Writes Markdown tables,
those of `docs/results/paper_features.md`, to `--out`.
"""

import argparse
from collections.abc import Iterator
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
from joblib import Parallel, delayed
from sklearn.ensemble import RandomForestClassifier

from eval.reproduction.features import compare_features, paper_features, with_previous
from eval.reproduction.lists import PAPER_COMPARE, PAPER_GAZE, PAPER_MOUSE, PAPER_PAIRWISE
from eval.reproduction.reference import Corrections, reference_features
from ifllm_hub.dataset.load import load_config
from ifllm_hub.files import write_atomically
from ifllm_hub.reward.protocol.folds import auc, correct, out_of_fold
from ifllm_hub.reward.protocol.pairs import Pairs, labeled, load_pairs
from ifllm_hub.sources.ifllm.archive import Release, open_release

TOLERANCE = 1e-6
PROTOCOLS = ("question", "conversation", "worker")
LISTS = {"all 50": PAPER_PAIRWISE, "gaze 27": PAPER_GAZE, "mouse 25": PAPER_MOUSE}
REFERENCE, TRAJECTORIES = "reference", "trajectories"
BOOTSTRAPS = 2_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--release", required=True)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--oracle", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/paper_features.md"))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()

    steps = dict(walk(open_release(options.release), options.dataset))
    pairs = labeled(load_pairs(options.dataset))
    lines = [
        *parity(steps[REFERENCE], options.oracle),
        *changes(steps, "pairwise", PAPER_PAIRWISE),
        *changes(steps, "pointwise", PAPER_COMPARE),
        *accuracies(steps, pairs, options.seeds, options.jobs),
    ]
    write_atomically(options.out, "\n".join(lines) + "\n")


def walk(release: Release, dataset: str) -> Iterator[tuple[str, pl.DataFrame]]:
    """The reference's features, then one more correction at each step, then those from the `trajectories`."""
    corrections = Corrections()
    yield REFERENCE, with_history(reference_features(release, corrections))
    for switch in fields(Corrections):
        corrections = replace(corrections, **{switch.name: True})
        yield switch.name, with_history(reference_features(release, corrections))
    trajectories = load_config(dataset, "trajectories")
    pairs = paper_features(trajectories).with_columns(mode=pl.lit("pairwise"))
    singles = compare_features(trajectories, load_config(dataset, "pointwise")).with_columns(mode=pl.lit("pointwise"))
    yield TRAJECTORIES, pl.concat([pairs, singles], how="diagonal")


def with_history(features: pl.DataFrame) -> pl.DataFrame:
    """The `prev_` columns, among the questions that have a row."""
    return with_previous(features.drop("mode")).join(features.select("question_id", "mode"), on="question_id")


def parity(reference: pl.DataFrame, folder: Path) -> Iterator[str]:
    """Cells that agree with the paper's own output, by group of columns."""
    counts = pl.read_parquet(folder / "reference-metrics.parquet")
    extracted = pl.read_parquet(folder / "reference-features.parquet").with_columns(
        gaze_left_reviewing_active_ratio="gaze_left_reviewing_active_time_ratio",
        **{
            f"{m}_right_reviewing_offscreen_ratio": 1 - pl.col(f"{m}_right_reviewing_onscreen_ratio")
            for m in ("gaze", "mouse")
        },
    )
    kinds = extracted.select("query_id", "comparison_type")
    yield "| list | table of the reference | columns | questions | cells | equal | largest difference |"
    yield "|---|---|---|---|---|---|---|"
    compared = [name.removeprefix("prev_") for name in PAPER_COMPARE]
    for mode, names in (("pairwise", PAPER_PAIRWISE), ("pointwise", tuple(dict.fromkeys(compared)))):
        for title, oracle in (("extract_features", extracted), ("all_metrics", counts)):
            columns = [name for name in names if (name in counts.columns) == (oracle is counts)]
            of_mode = oracle.join(kinds.filter(comparison_type=mode), on="query_id", how="semi")
            ours = reference.filter(mode=mode).join(of_mode, left_on="question_id", right_on="query_id", how="semi")
            theirs = ours.select("question_id").join(of_mode, left_on="question_id", right_on="query_id", how="left")
            a, b = (table.select(pl.col(columns).cast(pl.Float64)).to_numpy() for table in (ours, theirs))
            equal, largest = np.isclose(a, b, rtol=TOLERANCE, atol=0), np.abs(a - b).max()
            yield (
                f"| {mode} | {title} | {len(columns)} | {of_mode.height} | {equal.size} | {equal.mean():.4%} "
                f"| {largest:.1e} |"
            )


def changes(steps: dict[str, pl.DataFrame], mode: str, names: tuple[str, ...]) -> Iterator[str]:
    """What each step changes in the cells of the previous step."""
    tables = {step: table.filter(mode=mode).select("question_id", *names) for step, table in steps.items()}
    common = tables[REFERENCE].select("question_id").join(tables[TRAJECTORIES], on="question_id", how="semi")
    aligned = {
        step: common.join(table, on="question_id", how="left", maintain_order="left").drop("question_id")
        for step, table in tables.items()
    }
    order = list(aligned)
    yield f"\n{mode}: {common.height} questions, {len(names)} columns\n"
    yield "| correction | cells changed | now null | columns touched | median relative change | rank correlation |"
    yield "|---|---|---|---|---|---|"
    for before, step in pairwise(order):
        a, b = (aligned[at].to_numpy() for at in (before, step))
        both = ~np.isnan(a) & ~np.isnan(b)
        changed = both & ~np.isclose(a, b, rtol=TOLERANCE, atol=0)
        null = ~np.isnan(a) & np.isnan(b)
        from_value = changed & (a != 0)
        relative = np.abs(b - a)[from_value] / np.abs(a[from_value])
        median = f"{np.median(relative):.1%}" if len(relative) else "-"
        yield (
            f"| {step} | {changed.mean():.2%} | {null.mean():.2%} | {(changed | null).any(axis=0).sum()} | {median} "
            f"| {rank_correlations(aligned[before], aligned[step], changed.any(axis=0))} |"
        )


def rank_correlations(before: pl.DataFrame, after: pl.DataFrame, touched: np.ndarray) -> str:
    """Spearman correlation of the columns touched, over the rows where both are known: median and lowest."""
    found = []
    for name in np.array(before.columns)[touched]:
        both = pl.DataFrame([before[name].alias("a"), after[name].alias("b")]).drop_nulls()
        found.append(both.select(pl.corr("a", "b", method="spearman")).item())
    known = [value for value in found if not np.isnan(value)]
    return f"{np.median(known):.3f} (lowest {min(known):.3f})" if known else "-"


def accuracies(steps: dict[str, pl.DataFrame], pairs: Pairs, seeds: int, jobs: int) -> Iterator[str]:
    """Out-of-fold accuracy of the paper's forest at each step (of the ablations: at the first and the last two)."""
    ids = pairs.rows.select("question_id", "conversation_id", "worker_id", "preference")
    data = {
        step: Pairs(ids.join(table.select("question_id", *PAPER_PAIRWISE), on="question_id", maintain_order="left"))
        for step, table in steps.items()
    }
    measured = {title: list(data) if title == "all 50" else [REFERENCE, *list(data)[-2:]] for title in LISTS}
    work = [(title, step, protocol) for title in LISTS for step in measured[title] for protocol in PROTOCOLS]
    found = Parallel(n_jobs=jobs)(
        delayed(out_of_fold)(data[step], PaperForest(LISTS[title]), protocol, seeds) for title, step, protocol in work
    )
    probability = dict(zip(work, found, strict=True))
    y, workers = pairs.y, pairs.groups("worker_id")
    for title in LISTS:
        yield f"\n{title}: {len(y)} rated pairs, {len(np.unique(workers))} workers, {seeds} seeds\n"
        yield "| step | " + " | ".join(f"{protocol} folds" for protocol in PROTOCOLS) + " | worker folds - reference |"
        yield "|---|---|---|---|---|"
        for step in measured[title]:
            cells = []
            for protocol in PROTOCOLS:
                p = probability[title, step, protocol]
                hit = correct(p, y).mean(axis=1)
                cells.append(f"{hit.mean():.3f} ± {hit.std():.3f} / {auc(p, y).mean():.3f}")
            now, then = (correct(probability[title, at, "worker"], y).mean(axis=0) for at in (step, REFERENCE))
            low, high = interval(now - then, workers)
            cells.append("" if step == REFERENCE else f"{(now - then).mean():+.3f} [{low:+.3f}, {high:+.3f}]")
            yield f"| {step} | " + " | ".join(cells) + " |"


class PaperForest:
    """The paper's classifier on some columns, in the form that `out_of_fold` calls."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names

    def __call__(self, train: Pairs, test: Pairs, seed: int) -> np.ndarray:
        forest = RandomForestClassifier(
            100, max_depth=5, min_samples_split=5, min_samples_leaf=2, random_state=49 + seed
        )
        forest.fit(train.X(self.names), train.y)
        return forest.predict_proba(test.X(self.names))[:, 1]


def interval(values: np.ndarray, workers: np.ndarray) -> tuple[float, float]:
    """95 % percentile bootstrap of the mean over workers."""
    members = [np.flatnonzero(workers == worker) for worker in np.unique(workers)]
    rng = np.random.default_rng(0)
    draws = [
        values[np.concatenate([members[i] for i in rng.integers(len(members), size=len(members))])].mean()
        for _ in range(BOOTSTRAPS)
    ]
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(low), float(high)


if __name__ == "__main__":
    main()
