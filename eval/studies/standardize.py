"""Features relative to what is usual for the worker: some read with the cursor in hand, some hardly move it."""

import polars as pl

from ifllm_hub.errors import IfllmError
from ifllm_hub.features.catalog import CATALOG, EVEN, ODD

# Everybody's mean and scale weigh as much as this many questions of the worker's own.
PRIOR_QUESTIONS = 5
# A spread below this share of the mean is rounding: the feature does not vary.
_FLAT = 1e-6
_WORKER = "_worker"


def standardize(features: pl.DataFrame, worker: pl.Series) -> pl.DataFrame:
    """Each feature on the scale of its worker; it needs no labels.

    The value is (x - mean) / scale. Mean and scale are those of the worker's n values, shrunk towards those of
    everybody's, with k = `PRIOR_QUESTIONS`:

        mean = (n mean_worker + k mean_all) / (n + k),  scale = (n sd_worker + k sd_all) / (n + k)

    For odd features (`catalog.Feature.swap`) the mean is 0 and the root mean square stands for the standard
    deviation (sd, of n), so that they stay odd. A left and a right feature share their mean and scale, so that swapping
    the answers of a question still exchanges them. In both cases swapping changes no other question's values, to the
    bit.

    Args:
        features: a row a question; columns of the catalog are standardized, others returned as they are.
        worker: who each row is by.

    Returns:
        The same rows and columns, in the same order; the same values for any order of the rows. Null stays null, and a
        feature that does not vary is 0. The pool is what is passed in: in a protocol that holds workers out, their
        unlabeled questions are part of it.

    Raises:
        IfllmError: there is not one worker for each row.
    """
    if len(worker) != features.height or worker.null_count():
        raise IfllmError(
            f"{features.height} rows of features need as many worker ids, but there are "
            f"{len(worker) - worker.null_count()}. Pass the worker_id of each row."
        )
    swaps = {feature.name: feature.swap for feature in CATALOG}
    rows = features.with_columns(worker.alias(_WORKER))
    return rows.with_columns(
        _standardized(name, swaps[name], features.columns) for name in features.columns if name in swaps
    ).drop(_WORKER)


def _standardized(name: str, swap: str, columns: list[str]) -> pl.Expr:
    value = pl.col(name)
    answers = [value] if swap in (ODD, EVEN) or swap not in columns else [value, pl.col(swap)]
    number = pl.sum_horizontal(answer.is_not_null().cast(pl.Int64) for answer in answers).sum()
    # Added up by size, a sum does not depend on the order of the rows.
    total = pl.sum_horizontal(answers).sort().sum()
    squares = pl.sum_horizontal(answer * answer for answer in answers).sort().sum()
    center = pl.lit(0.0) if swap == ODD else total / number
    spread = (squares / number - center * center).clip(0).sqrt()
    mean = pl.lit(0.0) if swap == ODD else _shrunk(center, number)
    scale = _shrunk(spread, number)
    varies = scale > _FLAT * mean.abs()
    return pl.when(value.is_null() | varies).then((value - mean) / scale).otherwise(0.0).alias(name)


def _shrunk(statistic: pl.Expr, number: pl.Expr) -> pl.Expr:
    """A statistic of the worker's values, and `PRIOR_QUESTIONS` times that of all values."""
    own = number.over(_WORKER)
    return (own * statistic.over(_WORKER) + PRIOR_QUESTIONS * statistic) / (own + PRIOR_QUESTIONS)
