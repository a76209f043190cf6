"""What the labels of a source are worth, counted in explicit labels, those that the workers gave themselves.

A label that differs from the worker's own with probability e is worth (1 - 2e)^2 explicit ones. With z the margin of a
pair (docs/alignment.md), the worker prefers its first answer with probability S(z), the logistic function, and the
label says so with probability p(z) = e + (1 - 2e) S(z). The Fisher information of one label about z is p'^2 over
p (1 - p). At z = 0, where training starts, p = 1/2 and S' = 1/4, so that it is (1 - 2e)^2 / 4, and 1/4 where e = 0.
Away from 0 a doubtful label is worth less than that. Robust DPO (Chowdhury et al. 2024,
https://huggingface.co/papers/2403.00409) wastes nothing of one pair: at z = 0 the derivative of its loss has the
variance 1 / (4 (1 - 2e)^2) and grows with z by 1/4 on average, and (1/4)^2 over that variance is (1 - 2e)^2 / 4 again.

Of many pairs, it depends on the weights a_i that the trainer gives them. Their labels then carry as much as
(sum a_i)^2 / sum a_i^2 (1 - 2e_i)^-2 explicit ones:

- sum (1 - 2e_i)^2, the most there is, by weights in proportion to (1 - 2e_i)^2: `flip_weighting: inverse_variance` of
  `FlipProbDPOTrainer`. This is what is called worth here.
- n^2 / sum (1 - 2e_i)^-2 by equal weights: `flip_weighting: none`. It is much less where some labels are close to a
  coin flip, for these push hardest.

So much the flip probabilities say. Where workers rated the same pairs it is measured, too. Let w = 1 - 2e, and s = 1
where the label is the worker's own, else -1. The gradient with the best weights is sum w s, of variance sum w^2; that
of explicit labels is n, of variance n. So the labels carry (sum w s)^2 / sum w^2. If the flip probabilities are right,
s is w on average, and this is sum w^2 again, plus the square of chance: labels without any meaning measure a label or a
few, not none. Pairs that nobody rated are taken to be right as often as those that were, compared with what their flip
probabilities say.

All of this supposes that a label is wrong by chance. Labels that follow a rule which the policy can see, such as the
length of an answer, teach the rule.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

import numpy as np
import polars as pl

from ifllm_hub.statistics import Estimate, Jackknife, jackknife_sums

_OWN = "explicit"
# The columns of `LabelWorth.parts`.
_PAIRS, _LABELS, _SAID, _DOUBT, _RIGHT, _RATED = range(6)


@dataclass(frozen=True)
class LabelWorth:
    """What one label source is worth, in explicit labels; intervals are by worker, for the models behind the labels.

    Attributes:
        label_source: its name.
        parts: (pairs, 6) of each pair that any source labels: 1; 1 if this source does, and then w^2 and w^-2; if the
            worker labeled it too, w s and w^2.
        workers: (pairs,) whose pair it is.
    """

    label_source: str
    parts: np.ndarray
    workers: np.ndarray

    @property
    def labels(self) -> int:
        """How many pairs it labels."""
        return int(self.parts[:, _LABELS].sum())

    @property
    def said(self) -> Estimate:
        """What all its labels are worth by their flip probabilities; the interval is for as many of other workers."""
        each = jackknife_sums(lambda sums: sums[..., _SAID] / sums[..., _LABELS], self.parts, self.workers)
        worth = _times(self.labels, each.estimate)
        return {**worth, "low": max(worth["low"], 0.0)}

    @property
    def unweighted(self) -> float:
        """The same if the trainer weighs all pairs alike."""
        return float(self.labels**2 / self.parts[:, _DOUBT].sum())

    @property
    def measured(self) -> Estimate | None:
        """What they are worth by how often they are the workers' own; None if no worker labeled the same pairs.

        Below 0 they point the wrong way.
        """
        each = self._measured(_LABELS, 0.95)
        return each and _times(self.labels, each)

    def per_reading(self, level: float = 0.95) -> Estimate | None:
        """The same for each pair that any source labels."""
        return self._measured(_PAIRS, level)

    def beyond(self, other: "LabelWorth") -> Jackknife:
        """How much more is measured of it than of another source, for each pair that any source labels."""
        width = self.parts.shape[1]
        return jackknife_sums(
            lambda sums: _signed_square(_root(sums[..., :width])) - _signed_square(_root(sums[..., width:])),
            np.hstack([self.parts, other.parts]),
            self.workers,
        )

    def _measured(self, unit: int, level: float) -> Estimate | None:
        if not self.parts[:, _RATED].any():
            return None
        # The root is nearly linear in what workers do, also close to 0, where its square is not.
        # Workers who rated nothing move nothing, and do not count as workers who agree.
        raters = np.isin(self.workers, self.workers[self.parts[:, _RATED] > 0])
        among = jackknife_sums(lambda sums: _root(sums, unit), self.parts[raters], self.workers[raters])
        root = replace(among, mean=float(_root(self.parts.sum(axis=0), unit)))
        ends = root.interval(level)
        return {
            "mean": _signed_square(root.mean),
            "low": _signed_square(ends["low"]),
            "high": _signed_square(ends["high"]),
        }


def label_worth(preferences: pl.DataFrame) -> list[LabelWorth]:
    """Of each label source, in the order in which they come.

    Args:
        preferences: rows of the configs `preferences_*`, of both splits; the workers' own are those of `explicit`.

    Examples:
        >>> from ifllm_hub.dataset.label_worth import label_worth
        >>> from ifllm_hub.dataset.load import load_config
        >>> (longer,) = label_worth(load_config("ifllm", "preferences_longer"))
        >>> longer.label_source, longer.labels, round(longer.said["mean"], 1)
        ('longer', 25, 0.6)
    """
    return worth_of(decisions(preferences))


def decisions(preferences: pl.DataFrame) -> pl.DataFrame:
    """What `worth_of` needs of rows of the configs `preferences_*`: without their texts, of which there may be many."""
    return preferences.select(
        "label_source",
        "question_id",
        "worker_id",
        text=pl.col("chosen").list.first().struct.field("content").hash(),
        w=1 - 2 * pl.col("flip_prob"),
    )


def worth_of(rows: pl.DataFrame) -> list[LabelWorth]:
    """See `label_worth`, from the `decisions` of all rows."""
    own = rows.filter(label_source=_OWN).select("question_id", own="text")
    pairs = rows.select("question_id", "worker_id").unique("question_id", maintain_order=True)
    pairs = pairs.join(own, on="question_id", how="left", maintain_order="left")
    workers = pairs["worker_id"].to_numpy()
    return [
        LabelWorth(source, _parts(pairs, rows.filter(label_source=source)), workers)
        for source in rows["label_source"].unique(maintain_order=True)
    ]


def worth_table(worths: Iterable[LabelWorth]) -> list[tuple[str, ...]]:
    """Texts for a table: label source, labels, `said`, `measured`, `unweighted`; an explicit label is worth itself."""
    return [(one.label_source, _number(one.labels), *_cells(one)) for one in worths]


def _cells(worth: LabelWorth) -> tuple[str, ...]:
    if worth.label_source == _OWN:
        return _number(worth.labels), "", ""
    return _with_interval(worth.said), _with_interval(worth.measured), _number(worth.unweighted)


def _with_interval(worth: Estimate | None) -> str:
    if worth is None:
        return ""
    low, high = worth["low"], worth["high"]
    return _number(worth["mean"]) + (f" [{_number(low)}, {_number(high)}]" if isfinite(high) else "")


def _number(worth: float) -> str:
    return f"{worth:z,.0f}" if isinstance(worth, int) or abs(worth) >= 10 else f"{worth:z.1f}"


def _parts(pairs: pl.DataFrame, labels: pl.DataFrame) -> np.ndarray:
    joined = pairs.join(labels.select("question_id", "text", "w"), on="question_id", how="left", maintain_order="left")
    w, rated = pl.col("w"), pl.col("own").is_not_null()
    s = pl.when(pl.col("text") == pl.col("own")).then(1).otherwise(-1)
    columns = [pl.lit(1.0), w.is_not_null().cast(pl.Float64), w**2, w**-2, pl.when(rated).then(w * s)]
    columns.append(pl.when(rated).then(w**2))
    return joined.select(column.fill_null(0.0).alias(str(i)) for i, column in enumerate(columns)).to_numpy()


def _root(sums: np.ndarray, unit: int = _PAIRS) -> Any:
    return sums[..., _RIGHT] / sums[..., _RATED] * np.sqrt(sums[..., _SAID] / sums[..., unit])


def _signed_square(root: Any) -> Any:
    return root * abs(root)


def _times(number: int, one: Estimate) -> Estimate:
    return {"mean": number * one["mean"], "low": number * one["low"], "high": number * one["high"]}
