r"""Flip probabilities of readers' own labels, from how long each decision took: a drift-diffusion model.

Deciding is a Brownian motion of unit variance a second with drift $v$, which starts at 0 and ends at a bound $\pm a$:
the sign of the bound is the choice, and the sign of $v$ is what the reader would say with unlimited time. That a quick
choice is a strong preference is the idea of https://openreview.net/forum?id=KR2zKdlEJ2 and
https://arxiv.org/abs/2605.06987, which learn rewards with such a model. With one drift for all questions, times would
say nothing of whether a choice is right. Here drifts differ from question to question, $v \sim N(0, s^2)$ (Ratcliff
1978, Psychological Review 85). At the bound $a$ after $t$ seconds, the likelihood of $v$ is proportional to
$e^{va - v^2 t / 2}$, so $v$ is normal with precision $1/s^2 + t$ and mean $a / (1/s^2 + t)$, and

$$P(\text{wrong} \mid t) = \Phi\left(\frac{-a s}{\sqrt{1 + s^2 t}}\right),$$

which grows with $t$ (Drugowitsch et al. 2012, Journal of Neuroscience 32, has the same posterior). What time was spent
on anything but deciding, at least $t_0$ seconds, is taken off first.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from scipy import optimize, special

from ifllm_hub.dataset.load import load_config
from ifllm_hub.dataset.schema import present_configs
from ifllm_hub.errors import IfllmError
from ifllm_hub.preferences.labels import MAX_FLIP_PROB

# Labels whose decision the page times; those of a model have no such time.
TIMED = ("explicit", "thumbs")
# A longer time is not that of a decision.
LONGEST_MS = 600_000
# Fewer times say nothing of three parameters.
LEAST_TIMES = 50
# What is known of ln(a s) before any time is seen: mean and SD. At its mean, 16 % of choices are wrong, with which two
# readers agree as often as labelers do: 73 % (Ouyang et al. 2022, https://arxiv.org/abs/2203.02155). Hundreds of times
# alone leave it open whether choices are random.
_CERTAINTY = (np.log(1.6), 0.5)


@dataclass(frozen=True)
class DriftDiffusion:
    """How the readers of a dataset decide.

    Attributes:
        bound: a, in square roots of a second.
        spread: s, the SD of drifts between questions, per square root of a second.
        non_decision: t_0, seconds.
    """

    bound: float
    spread: float
    non_decision: float

    def log_density(self, seconds: np.ndarray) -> np.ndarray:
        """ln of the density of decision times, (n,), 1/s; -inf up to `non_decision`.

        Twice the density at one bound without drift, times the mean of e^(va - v^2 t / 2) over drifts.
        """
        t = seconds - self.non_decision
        late = t > 0
        density = np.full(np.shape(t), -np.inf)
        t = t[late]
        widened = 1 + self.spread**2 * t
        drift = (self.bound * self.spread) ** 2 / (2 * widened) - np.log(widened) / 2
        density[late] = np.log(2) + _log_first_passage(t / (2 * self.bound) ** 2) - 2 * np.log(2 * self.bound) + drift
        return density

    def flip_probability(self, seconds: np.ndarray) -> np.ndarray:
        """P(the choice is not what the reader would say with unlimited time), (n,), below 0.5.

        Examples:
            >>> import numpy as np
            >>> from ifllm_hub.preferences.decision_time import DriftDiffusion
            >>> DriftDiffusion(bound=2.0, spread=1.0, non_decision=0.5).flip_probability(np.array([1.0, 10.0])).round(3)
            array([0.051, 0.269])
        """
        t = np.maximum(seconds - self.non_decision, 0)
        return np.asarray(special.ndtr(-self.bound * self.spread / np.sqrt(1 + self.spread**2 * t)))


def _log_first_passage(t: np.ndarray) -> np.ndarray:
    """ln of the density with which a Brownian motion without drift leaves [0, 1] at 0 at time t > 0, from 1/2.

    Both series of Navarro and Fuss 2009 (Journal of Mathematical Psychology 53), each where it converges fast, as the
    logarithm of the leading term plus that of the rest.
    """
    early, k = np.minimum(t, 0.25), np.arange(-3, 4)[:, None]
    place = 1 + 4 * k  # the images of the start, in halves of the width
    images = (place * np.exp(-(place**2 - 1) / (8 * early))).sum(axis=0)
    small = -np.log(8 * np.pi * early**3) / 2 - 1 / (8 * early) + np.log(images)
    late, odd = np.maximum(t, 0.25), np.arange(1, 10, 2)[:, None]
    waves = (odd * (-1) ** (odd // 2) * np.exp(-(odd**2 - 1) * np.pi**2 * late / 2)).sum(axis=0)
    large = np.log(np.pi) - np.pi**2 * late / 2 + np.log(waves)
    return np.where(t < 0.25, small, large)


def fit_drift_diffusion(seconds: np.ndarray) -> DriftDiffusion:
    """The model under which some decision times are most likely, with a prior for a s; no label is used.

    Args:
        seconds: (n,), above 0.

    Raises:
        IfllmError: there are fewer than `LEAST_TIMES`.
    """
    if len(seconds) < LEAST_TIMES:
        raise IfllmError(
            f"There are decision times of {len(seconds)} choices, and the rule decision_time needs {LEAST_TIMES} of "
            "other readers to fit its model. Use it on more choices, or leave the rule out."
        )
    least, typical = float(seconds.min()), float(np.median(seconds))

    def model(place: np.ndarray) -> DriftDiffusion:
        bound, certainty = np.exp(np.clip(place[:2], -20, 20))
        return DriftDiffusion(float(bound), float(certainty / bound), float(least * special.expit(place[2])))

    def loss(place: np.ndarray) -> float:
        known = ((place[1] - _CERTAINTY[0]) / _CERTAINTY[1]) ** 2 / 2
        return float(known - np.maximum(model(place).log_density(seconds), -1e6).sum())

    starts = [np.array([np.log(factor * typical) / 2, _CERTAINTY[0], 0.0]) for factor in (0.5, 2)]
    found = [optimize.minimize(loss, start, method="Nelder-Mead", options={"maxiter": 2_000}) for start in starts]
    return model(min(found, key=lambda one: float(one.fun)).x)


def flips_by_decision_time(
    labels: pl.DataFrame, label_source: str, dataset: str | Path, revision: str | None = None
) -> pl.DataFrame:
    """The labels with flip probabilities from their decision times, at most `MAX_FLIP_PROB`.

    The labels of a fold of workers (`fold_worker`) get theirs from a model of the other folds' times in the train
    split. A label without a time, or with one above `LONGEST_MS`, keeps its flip probability.

    Args:
        labels: rows of a config `preferences_*`, with `split`.
        label_source: whose they are.
        dataset: where `signals` has the times, and `pairwise` the folds.
        revision: branch, tag or commit of a Hub dataset.

    Raises:
        IfllmError: these are no labels of readers, the dataset has no `signals`, or too few times.
    """
    if label_source not in TIMED:
        raise IfllmError(
            f"The rule decision_time is for labels of the readers themselves ({', '.join(TIMED)}), not for those of "
            f"{label_source!r}. Choose one of them, or leave the rule out."
        )
    if Path(dataset).is_dir() and "signals" not in present_configs(Path(dataset)):
        raise IfllmError(
            f"{dataset}: has no decision times: only a collector's export has the config `signals`. Leave the rule "
            "decision_time out."
        )
    times = load_config(dataset, "signals", revision).select("question_id", seconds=pl.col("decision_ms") / 1_000)
    folds = load_config(dataset, "pairwise", revision).select("question_id", "fold_worker")
    rows = labels.join(times, on="question_id", how="left", maintain_order="left")
    rows = rows.join(folds, on="question_id", how="left", maintain_order="left")
    is_timed = pl.col("seconds").is_between(0, LONGEST_MS / 1_000, closed="right")
    flips = []
    for fold in rows.filter(is_timed)["fold_worker"].drop_nulls().unique().sort():
        theirs = rows.filter(is_timed & (pl.col("fold_worker") == fold))
        others = rows.filter(is_timed & (pl.col("fold_worker") != fold) & (pl.col("split") == "train"))
        fitted = fit_drift_diffusion(others["seconds"].to_numpy())
        flip = np.minimum(fitted.flip_probability(theirs["seconds"].to_numpy()), MAX_FLIP_PROB)
        flips.append(theirs.select("question_id", timed=pl.Series(flip, dtype=pl.Float64)))
    known = pl.concat([pl.DataFrame(schema={"question_id": pl.Int64, "timed": pl.Float64}), *flips])
    return (
        labels.join(known, on="question_id", how="left", maintain_order="left")
        .with_columns(flip_prob=pl.coalesce("timed", "flip_prob"))
        .drop("timed")
    )
