"""Folds and splits that every paper can share: they depend on ids alone, never on row order."""

import hashlib

import polars as pl

FOLDS = 5
# The last fold: the workers with most questions are dealt out first, so this one has the most workers.
TEST_FOLD = FOLDS - 1

_GROUPS = {"fold_question": "question_id", "fold_conversation": "conversation_id", "fold_worker": "worker_id"}


def assign_folds(questions: pl.DataFrame) -> pl.DataFrame:
    """Add `fold_question`, `fold_conversation`, `fold_worker` (Int8, 0-4) and `split` ("train" or "test").

    Groups are dealt out largest first, each to the fold that is smallest so far, ties broken by the sha256 of the id:
    folds are of nearly equal size, and the same whatever the order of the rows.
    """
    for fold, group in _GROUPS.items():
        questions = questions.join(
            _deal(questions[group]).rename({"group": group, "fold": fold}), on=group, maintain_order="left"
        )
    test = pl.col("fold_worker") == TEST_FOLD
    return questions.with_columns(split=pl.when(test).then(pl.lit("test")).otherwise(pl.lit("train")))


def _deal(groups: pl.Series) -> pl.DataFrame:
    counts = groups.value_counts(name="size").rename({groups.name: "group"})
    keyed = sorted(counts.iter_rows(), key=lambda row: (-row[1], hashlib.sha256(str(row[0]).encode()).hexdigest()))
    sizes = [0] * FOLDS
    folds = []
    for _, size in keyed:
        smallest = sizes.index(min(sizes))
        sizes[smallest] += size
        folds.append(smallest)
    return pl.DataFrame(
        {"group": [row[0] for row in keyed], "fold": folds}, schema={"group": groups.dtype, "fold": pl.Int8}
    )
