"""How long a single answer held its reader, for its length and this reader: a reward where there is no second answer.

An answer is compared with the same reader's other single answers: did the reader stay longer than with answers of its
length? On the study's data that does not tell, beyond chance, answers rated 4 or 5 from those rated lower (AUC .59
[.48, .70]; within readers .51 [.26, .77]; docs/results/pointwise_reward.md). So it is called what it is, and is no
probability of anything.
"""

import polars as pl

from ifllm_hub.features.catalog import DWELL_FLOOR_MS

# By how much ln(time) rises with ln(length) within readers of the study; see docs/results/pointwise_reward.md.
SLOPE = 0.6
# Fewer other answers do not show what a reader's habit is.
LEAST_OTHERS = 5
# A shorter time says no more than that the answer was passed, ms.
LEAST_MS = 1_000
# The time that is known best comes first.
_TIMES = ("mouse_dwell_left", "viewport_dwell_left")
# The config's columns that it needs.
COLUMNS = ("question_id", "worker_id", "mode", "length_left", *_TIMES)


def engagement(features: pl.DataFrame) -> pl.DataFrame:
    """Where each reading of a single answer ranks among the same reader's others.

    Ranked is ln(time + 500 ms) - 0.6 ln(length). The time is that of the mouse on the text or, without a mouse, that of
    the text on the screen; readings of one kind are not ranked among those of the other. With n others, of which k are
    lower and t are equal, the rank is (k + t / 2 + 1 / 2) / (n + 1).

    Args:
        features: rows of the config `features`, at least `COLUMNS`: all of each reader's. Pairs are left out.

    Returns:
        One row per single answer, in their order: `question_id`; `engagement`, in (0, 1), 0.5 where the reader stayed
        as long as usual, null where it is not known; and then `reason`: `not_read` (neither mouse nor screen shows the
        answer), `too_little` (for less than `LEAST_MS`) or `few_readings` (fewer than `LEAST_OTHERS` others).

    Examples:
        >>> import polars as pl
        >>> from ifllm_hub.reward.engagement import engagement
        >>> dwell = [None, 9_000, 4_000, 2_000, 3_000, 5_000, 30_000]
        >>> ids = {"question_id": range(7), "worker_id": "ada", "mode": "pointwise", "length_left": 600}
        >>> features = pl.DataFrame({**ids, "mouse_dwell_left": dwell, "viewport_dwell_left": None})
        >>> engagement(features).rows()[:2]
        [(0, None, 'not_read'), (1, 0.75, None)]
    """
    mouse, screen = (pl.col(name).fill_null(0) for name in _TIMES)
    by_mouse = mouse >= LEAST_MS
    rows = features.filter(mode="pointwise").with_columns(
        time=pl.when(by_mouse | (screen < LEAST_MS)).then(mouse).otherwise(screen), kind=by_mouse
    )
    enough = pl.col("time") >= LEAST_MS
    stay = pl.when(enough).then((pl.col("time") + DWELL_FLOOR_MS).log() - SLOPE * pl.col("length_left").log())
    group = ("worker_id", "kind")
    reason = (
        pl.when((mouse == 0) & (screen == 0))
        .then(pl.lit("not_read"))
        .when(~enough)
        .then(pl.lit("too_little"))
        .when(enough.sum().over(group) <= LEAST_OTHERS)
        .then(pl.lit("few_readings"))
    )
    # The average rank counts the reading itself as well.
    rank = (stay.rank("average").over(group) - 0.5) / stay.count().over(group)
    return rows.select("question_id", engagement=pl.when(reason.is_null()).then(rank), reason=reason)
