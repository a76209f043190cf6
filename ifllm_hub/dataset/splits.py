"""Folds and splits that every paper can share: they depend on ids alone, never on row order."""

import hashlib

import polars as pl

from ifllm_hub.terms import MODES

FOLDS = 5
# The last fold: because the workers with the most questions are dealt out first, it has the most workers.
TEST_FOLD = FOLDS - 1

_GROUPS = {"fold_question": "question_id", "fold_conversation": "conversation_id", "fold_worker": "worker_id"}


def assign_folds(questions: pl.DataFrame, *, grows: bool) -> pl.DataFrame:
    """Add `fold_question`, `fold_conversation`, `fold_worker` (Int8, 0-4) and `split` ("train" or "test").

    In a complete collection, groups are dealt out largest first, each to the fold where it adds least to the load, in
    pairwise and in pointwise questions; ties are broken by the sha256 of the id. So folds are nearly equal in size in
    both modes, whatever the order of the rows. But a newcomer may move others.

    In one that grows, the fold of a group is a hash of its id alone. So nobody ever moves, whoever joins or leaves:
    those who were held out stay held out. Folds are equal in size on average; with few people, some are empty.

    Args:
        questions: with `question_id`, `conversation_id`, `worker_id` and `mode`.
        grows: people may still join.
    """
    for fold, group in _GROUPS.items():
        sizes = questions.group_by(pl.col(group).alias("group")).agg(
            (pl.col("mode") == mode).sum().alias(mode) for mode in MODES
        )
        folds = _hash(sizes, fold) if grows else _deal(sizes)
        questions = questions.join(folds.rename({"group": group, "fold": fold}), on=group, maintain_order="left")
    test = pl.col("fold_worker") == TEST_FOLD
    return questions.with_columns(split=pl.when(test).then(pl.lit("test")).otherwise(pl.lit("train")))


def split_of(worker_id: str) -> str:
    """The split of a worker in a collection that grows; see `assign_folds`."""
    return "test" if _hashed("fold_worker", worker_id) == TEST_FOLD else "train"


def _hash(groups: pl.DataFrame, kind: str) -> pl.DataFrame:
    """`group` and its `fold`."""
    folds = [_hashed(kind, id_) for id_ in groups["group"]]
    return groups.select("group", fold=pl.Series(folds, dtype=pl.Int8))


def _hashed(kind: str, id_: object) -> int:
    """A fold by the sha256 of its kind and an id."""
    return int(hashlib.sha256(f"{kind} {id_}".encode()).hexdigest(), 16) % FOLDS


def _deal(groups: pl.DataFrame) -> pl.DataFrame:
    """`group` and its `fold`, from `group` and its number of questions in each mode."""
    keyed = sorted(
        groups.select("group", *MODES).iter_rows(),
        key=lambda row: (-sum(row[1:]), hashlib.sha256(str(row[0]).encode()).hexdigest()),
    )
    # Shares of the mode, so that the rarer mode is spread as evenly as the other.
    totals = [max(1, groups[mode].sum()) for mode in MODES]
    loads = [[0.0] * len(MODES) for _ in range(FOLDS)]
    folds = []
    for _, *sizes in keyed:
        shares = [size / total for size, total in zip(sizes, totals, strict=True)]
        # Half of what each fold would add to the sum of squared loads, apart from a term that is the same for all.
        growth = [sum(load * share for load, share in zip(fold, shares, strict=True)) for fold in loads]
        lightest = growth.index(min(growth))
        loads[lightest] = [load + share for load, share in zip(loads[lightest], shares, strict=True)]
        folds.append(lightest)
    return pl.DataFrame(
        {"group": [row[0] for row in keyed], "fold": folds}, schema={"group": groups.schema["group"], "fold": pl.Int8}
    )
