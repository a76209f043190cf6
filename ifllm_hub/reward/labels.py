"""Preference rows for DPO: labels by the worker, and by models that never saw the worker."""

from pathlib import Path

import polars as pl

from ifllm_hub.dataset.builder import replace_config
from ifllm_hub.dataset.schema import SPLITS
from ifllm_hub.errors import IfllmError
from ifllm_hub.reward.model import ImplicitFeedbackRewardModel
from ifllm_hub.reward.pairs import Pairs, labelled, load_pairs, with_behaviour

# The largest flip probability written: rDPO weighs a pair by 1 / (1 - 2 eps). The paper caps at the same value.
MAX_FLIP_PROB = 0.45


def out_of_fold_probabilities(pairs: Pairs, all_workers: bool = False) -> pl.DataFrame:
    """P(left preferred) of every pair with behaviour, by a forest that saw no pair of the same worker.

    Train-split pairs are labelled by forests grown on the other train folds (`fold_worker`), so that no information
    from a test worker reaches a training label; test-split pairs by a forest grown on the whole train split.

    Returns:
        `question_id`, `probability` (Float64).
    """
    targets = with_behaviour(pairs, all_workers)
    known = labelled(pairs, all_workers).filter(pl.col("split") == "train")
    parts = []
    for fold in sorted(targets.rows["fold_worker"].unique()):
        test = targets.filter(pl.col("fold_worker") == fold)
        train = known.filter(pl.col("fold_worker") != fold)
        model = ImplicitFeedbackRewardModel().fit(train.X(), train.y, train.groups("worker_id"))
        parts.append(test.rows.select("question_id", probability=pl.Series(model.predict_proba(test.X())[:, 1])))
    return pl.concat(parts)


def preference_rows(pairs: Pairs, all_workers: bool = False) -> pl.DataFrame:
    """Rows of the `preferences` config, with `split`.

    Label sources, over the same pairs (see `with_behaviour`; answers that differ):

    - `explicit`: the worker's own preference, flip probability 0; rated pairs only.
    - `forest`: the likelier side by `out_of_fold_probabilities`, none where both are equally likely; flip probability
      is that of the other side, at most `MAX_FLIP_PROB`.
    """
    probabilities = out_of_fold_probabilities(pairs, all_workers)
    rows = with_behaviour(pairs, all_workers).rows.join(probabilities, on="question_id", maintain_order="left")
    rows = rows.filter(pl.col("response_left") != pl.col("response_right"))
    explicit = rows.filter(pl.col("preference").is_not_null()).with_columns(
        label_source=pl.lit("explicit"), left_chosen=pl.col("preference") == "left", flip_prob=pl.lit(0.0)
    )
    p = pl.col("probability")
    forest = rows.filter(p != 0.5).with_columns(
        label_source=pl.lit("forest"),
        left_chosen=p > 0.5,
        flip_prob=pl.min_horizontal(p, 1 - p, pl.lit(MAX_FLIP_PROB)),
    )
    return pl.concat([explicit, forest]).select(
        "question_id",
        "worker_id",
        "label_source",
        _message("user", pl.col("query")).alias("prompt"),
        _message("assistant", _chosen("response", True)).alias("chosen"),
        _message("assistant", _chosen("response", False)).alias("rejected"),
        "flip_prob",
        _chosen("rating", True).alias("rating_chosen"),
        _chosen("rating", False).alias("rating_rejected"),
        "split",
    )


def _chosen(column: str, chosen: bool) -> pl.Expr:
    left_first = pl.col("left_chosen") if chosen else ~pl.col("left_chosen")
    return pl.when(left_first).then(f"{column}_left").otherwise(f"{column}_right")


def _message(role: str, content: pl.Expr) -> pl.Expr:
    return pl.concat_list(pl.struct(role=pl.lit(role), content=content))


def agreement(preferences: pl.DataFrame) -> dict[str, float]:
    """How often the forest's label is the worker's own, on rated pairs, per split."""
    chosen = preferences.with_columns(text=pl.col("chosen").list.first().struct.field("content"))
    explicit = chosen.filter(pl.col("label_source") == "explicit").select("question_id", "split", explicit="text")
    forest = chosen.filter(pl.col("label_source") == "forest").select("question_id", forest="text")
    joined = explicit.join(forest, on="question_id")
    return {
        str(split): float((rows["explicit"] == rows["forest"]).to_numpy().mean())
        for (split,), rows in joined.group_by("split", maintain_order=True)
    }


def write_preferences(dataset: Path, all_workers: bool = False) -> pl.DataFrame:
    """Add the config `preferences` to a dataset folder, or replace it, and write the card anew.

    Returns:
        The rows of both splits.

    Raises:
        IfllmError: the folder is not a dataset, has too few labelled pairs, or cannot be written.
    """
    rows = preference_rows(load_pairs(dataset), all_workers)
    for split in SPLITS:
        if not (rows["split"] == split).any():
            raise IfllmError(
                f"{dataset}: no pair with behaviour in the {split} split, which is held out by worker. Build the "
                "dataset from more workers."
            )
    replace_config(dataset, "preferences", rows)
    return rows
