"""Preference rows for DPO, labeled by the workers themselves and by models that never saw the worker."""

import math
from pathlib import Path

import polars as pl

from ifllm_hub.dataset.load import load_config
from ifllm_hub.dataset.schema import BULLETS, SPLITS, label_source_of, present_configs
from ifllm_hub.dataset.writers import replace_preferences
from ifllm_hub.errors import IfllmError
from ifllm_hub.preferences.history import message
from ifllm_hub.preferences.label_files import check_name, read_labels
from ifllm_hub.reward.protocol.candidates import forest, logistic
from ifllm_hub.reward.protocol.folds import FitPredict
from ifllm_hub.reward.protocol.pairs import (
    FEATURES,
    GAZE_FEATURES,
    LENGTH_FEATURES,
    MOUSE_FEATURES,
    Pairs,
    labeled,
    load_pairs,
    with_behavior,
)
from ifllm_hub.statistics import mean_interval

# The largest flip probability written: rDPO weighs a pair by 1 / (1 - 2 eps). The paper caps at the same value.
MAX_FLIP_PROB = 0.45
# The label sources that are models of this package.
MODELS: dict[str, FitPredict] = {
    "forest": forest(FEATURES),
    "forest_mouse": forest(MOUSE_FEATURES),
    "forest_gaze": forest(GAZE_FEATURES),
    "longer": logistic(LENGTH_FEATURES),
}
SHUFFLED = "shuffled"
SOURCES = ("explicit", *MODELS, SHUFFLED)


def rated_rows(pairs: Pairs) -> pl.DataFrame:
    """Rows of `preferences_explicit` for all pairs that workers rated, whether reading was recorded or not."""
    return _as_preferences(_explicit(pairs.rows), "explicit")


def out_of_fold_probabilities(
    pairs: Pairs, all_workers: bool = False, fit: FitPredict = MODELS["forest"], seed: int = 0
) -> pl.DataFrame:
    """P(left preferred) of every pair with behavior, by a model that saw no pair of the same worker.

    Each fold of workers (`fold_worker`) is labeled by a model that learned from the other folds' pairs in the train
    split. So no training label depends on a test pair's label, and test labels come from models of the train split,
    whatever the splits are by (see `splits.held_out_by`).

    Returns:
        `question_id`, `probability` (Float64).
    """
    targets = with_behavior(pairs, all_workers)
    known = labeled(pairs, all_workers).filter(pl.col("split") == "train")
    parts = []
    for fold in sorted(targets.rows["fold_worker"].unique()):
        test = targets.filter(pl.col("fold_worker") == fold)
        train = known.filter(pl.col("fold_worker") != fold)
        if train.rows["preference"].n_unique() < 2:
            raise IfllmError(
                f"the workers of fold {fold} (fold_worker) cannot be labeled by a model that saw none of them: the "
                f"others of the train split have {len(train)} rated pairs, and both preferences are needed. Add the "
                "pairs of more workers."
            )
        parts.append(test.rows.select("question_id", probability=pl.Series(fit(train, test, seed))))
    return pl.concat(parts)


def preference_rows(
    pairs: Pairs,
    all_workers: bool = False,
    sources: tuple[str, ...] = SOURCES,
    shuffle_seed: int = 0,
    on_screen: bool = False,
) -> pl.DataFrame:
    """Rows of the `preferences_*` configs of some label sources, with `split`.

    Label sources, over the same pairs (see `with_behavior`, also for `on_screen`; answers that differ):

    - `explicit`: the worker's own preference, flip probability 0; rated pairs only.
    - `forest`, `forest_mouse`, `forest_gaze`: the likelier side by `out_of_fold_probabilities` of the reward model on
      all its features, on the mouse's alone, or on the gaze's alone; no label where both sides are equally likely, as
      they are without that behavior. The flip probability is the other side's, at most `MAX_FLIP_PROB`.
    - `longer`: the longer answer, no label for a tie; the flip probability is that of the shorter answer, by a
      logistic regression on the log length ratio, out of fold as above.
    - `shuffled`: the explicit labels (left, right) permuted among the rated pairs of each split, by `shuffle_seed`;
      flip probability 0.
    """
    rows = _candidates(pairs, all_workers, on_screen)
    labels = []
    for source in sources:
        if source == "explicit":
            label = _explicit(rows)
        elif source == SHUFFLED:
            label = _explicit(rows).with_columns(pl.col("left_chosen").shuffle(shuffle_seed).over("split"))
        else:
            probabilities = out_of_fold_probabilities(pairs, all_workers, MODELS[source])
            likely = pl.col(LENGTH_FEATURES[0]) if source == "longer" else pl.col("probability") - 0.5
            label = _likelier(rows.join(probabilities, on="question_id", maintain_order="left"), likely)
        labels.append(_as_preferences(label, source))
    return pl.concat(labels)


def external_rows(
    pairs: Pairs, labels: pl.DataFrame, name: str, all_workers: bool = False, on_screen: bool = False
) -> pl.DataFrame:
    """Rows of the config `preferences_<name>` by somebody else's `question_id`, `probability` (that left is preferred).

    They cover the labeled ones among the pairs of all other sources (see `with_behavior`, also for `on_screen`); no
    label where both sides are equally likely.
    """
    rows = _candidates(pairs, all_workers, on_screen).join(labels, on="question_id", maintain_order="left")
    return _as_preferences(_likelier(rows, pl.col("probability") - 0.5), name)


def _candidates(pairs: Pairs, all_workers: bool, on_screen: bool = False) -> pl.DataFrame:
    rows = with_behavior(pairs, all_workers, on_screen).rows.sort("question_id")
    return rows.filter(pl.col("response_left") != pl.col("response_right"))


def _explicit(rows: pl.DataFrame) -> pl.DataFrame:
    rated = rows.filter(pl.col("preference").is_not_null())
    return rated.with_columns(left_chosen=pl.col("preference") == "left", flip_prob=pl.lit(0.0))


def _likelier(rows: pl.DataFrame, likely_left: pl.Expr) -> pl.DataFrame:
    """Choose the left answer where `likely_left` is positive and the right one where it is negative."""
    p = pl.col("probability")
    wrong = pl.when(likely_left > 0).then(1 - p).otherwise(p)
    chosen = rows.filter(likely_left != 0)
    return chosen.with_columns(left_chosen=likely_left > 0, flip_prob=pl.min_horizontal(wrong, pl.lit(MAX_FLIP_PROB)))


def _as_preferences(labels: pl.DataFrame, source: str) -> pl.DataFrame:
    return labels.select(
        "question_id",
        "worker_id",
        pl.lit(source).alias("label_source"),
        message("user", pl.col("query")).alias("prompt"),
        pl.lit("none").alias("history"),
        pl.when("bullet_points").then(pl.lit(BULLETS)).alias("instruction"),
        message("assistant", _chosen("response", True)).alias("chosen"),
        message("assistant", _chosen("response", False)).alias("rejected"),
        "flip_prob",
        _chosen("rating", True).alias("rating_chosen"),
        _chosen("rating", False).alias("rating_rejected"),
        "split",
    )


def _chosen(column: str, chosen: bool) -> pl.Expr:
    left_first = pl.col("left_chosen") if chosen else ~pl.col("left_chosen")
    return pl.when(left_first).then(f"{column}_left").otherwise(f"{column}_right")


def agreements(preferences: pl.DataFrame) -> pl.DataFrame:
    """How often each source's label agrees with the worker's own.

    Returns:
        One row per source and split: `label_source`, `split`, `pairs`, `flip_prob` (mean), `rated` (pairs that the
        worker labeled too), `agreeing`, and the interval of their share by worker (`low`, `high`; NaN for fewer than
        two workers).
    """
    answers = preferences.with_columns(text=pl.col("chosen").list.first().struct.field("content"))
    explicit = answers.filter(pl.col("label_source") == "explicit").select("question_id", explicit="text")
    compared = answers.join(explicit, on="question_id", how="left", maintain_order="left")
    compared = compared.with_columns(same=pl.col("text") == pl.col("explicit"))
    rows = []
    for (source, split), part in compared.group_by("label_source", "split", maintain_order=True):
        rated = part.filter(pl.col("same").is_not_null())
        row = {"label_source": source, "split": split, "pairs": part.height, "flip_prob": part["flip_prob"].mean()}
        row |= {"rated": rated.height, "agreeing": rated["same"].sum(), "low": math.nan, "high": math.nan}
        if rated.height:
            row |= mean_interval(rated["same"].cast(pl.Float64).to_numpy(), rated["worker_id"].to_numpy())
        rows.append(row)
    return pl.DataFrame(rows)


def agreement(preferences: pl.DataFrame, label_source: str = "forest") -> dict[str, float]:
    """Per split, how often a source's label agrees with the worker's own, on rated pairs."""
    counts = agreements(preferences).filter((pl.col("label_source") == label_source) & (pl.col("rated") > 0))
    return {row["split"]: row["agreeing"] / row["rated"] for row in counts.iter_rows(named=True)}


def write_preferences(
    dataset: Path, all_workers: bool = False, labels: Path | None = None, name: str | None = None
) -> pl.DataFrame:
    """Write the configs `preferences_*` of a dataset folder, one per label source, and rewrite the card.

    Earlier configs of the package's own label sources are replaced.

    Args:
        labels: a file of somebody else's labels to add, see `read_labels`. Labels added earlier stay.
        name: their `label_source`; earlier labels of that name are replaced.

    Returns:
        The rows of all label sources and both splits.

    Raises:
        IfllmError: the folder is not a dataset, has too few labeled pairs, or cannot be written; or the labels are
            refused. Then nothing is written.
    """
    if (labels is None) != (name is None):
        raise IfllmError(
            "A file of labels and a name for them belong together (--labels-file FILE --label-source text). Give both."
        )
    pairs = load_pairs(dataset)
    added = []
    if labels is not None and name is not None:
        check_name(name, SOURCES)
        added.append(external_rows(pairs, read_labels(labels, dataset, pairs), name, all_workers))
        if added[0].is_empty():
            raise IfllmError(
                f"{labels}: decides none of the pairs that the other label sources cover (pairs with behavior, "
                "different answers, workers not excluded). Label more pairs."
            )
    kept = _earlier_external(dataset, pairs, all_workers).filter(~pl.col("label_source").eq_missing(pl.lit(name)))
    covered = _candidates(pairs, all_workers)
    if covered.is_empty():
        raise IfllmError(f"{dataset}: nobody was seen reading a pair of different answers, so no model can label any.")
    for split in SPLITS:
        if not (covered["split"] == split).any():
            raise IfllmError(
                f"{dataset}: no pair with behavior in the {split} split, which is held out by worker. Build the "
                "dataset from more workers."
            )
    rows = pl.concat([preference_rows(pairs, all_workers), kept, *added])
    replace_preferences(dataset, rows)
    return rows


def _earlier_external(dataset: Path, pairs: Pairs, all_workers: bool) -> pl.DataFrame:
    """Labels from elsewhere that the folder already has, for the pairs that are labeled now."""
    none = preference_rows(pairs, all_workers, ("explicit",)).clear()
    foreign = [config for config in present_configs(dataset) if label_source_of(config) not in (None, *SOURCES)]
    rows = pl.concat([none, *(load_config(dataset, config).select(none.columns) for config in foreign)])
    return rows.join(_candidates(pairs, all_workers), on="question_id", how="semi", maintain_order="left")
