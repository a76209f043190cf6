"""Does the permutation test given length hold what it promises? Its p values under the null, and its power.

python -m eval.studies.permutation_check DATASET > docs/results/permutation_check.md
"""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
from joblib import Parallel, delayed
from scipy.special import expit
from scipy.stats import kstest
from sklearn.linear_model import LogisticRegression

from ifllm_hub.dataset.build import build_dataset
from ifllm_hub.pages.markdown import markdown_table
from ifllm_hub.reward.protocol.claim import FEATURE_SETS
from ifllm_hub.reward.protocol.pairs import LENGTH_FEATURES, Pairs, labeled, load_pairs
from ifllm_hub.reward.protocol.permutation import permutation_test
from ifllm_hub.reward.protocol.scores import MEASURES
from ifllm_hub.sources.ifllm.archive import open_release
from ifllm_hub.sources.simulation.simulate import simulate_release
from ifllm_hub.statistics import wilson

NULLS, STUDIES, DRAWS = 200, 20, 99
# How far the preferences of a conversation lean to one side, as a standard deviation of the logit.
LEANING = 0.7
SETS = {"mouse + gaze": FEATURE_SETS["mouse + gaze"]}


def main(dataset: Path) -> None:
    pairs = load_pairs(dataset)
    nulls = np.array(Parallel(n_jobs=-1)(delayed(p_values)(unrelated(pairs, seed), seed) for seed in range(NULLS)))
    found = np.array(Parallel(n_jobs=-1)(delayed(of_simulated)(seed) for seed in range(STUDIES)))
    sys.stdout.write(f"""# What the permutation test holds

Written by `python -m eval.studies.permutation_check DATASET`; do not edit.

The test of the [claim](claim.md), with {DRAWS} draws and one seed of the folds.

## Where there is nothing to find

{NULLS} times, the preferences of the dataset's {len(labeled(pairs))} rated pairs are drawn anew: by the lengths of the
answers, as strongly as the real ones, and by a leaning of each conversation to one side (standard deviation {LEANING}
of the logit). Behavior stays, and so does its relation to length; it says nothing else. The p values should be uniform.

{markdown_table(("measure", ">p <= .05", ">p <= .20", ">p <= .50", ">Kolmogorov-Smirnov p"), uniformity(nulls))}

## Where there is something to find

{STUDIES} simulated studies of 24 workers and 300 questions (`ifllm simulate`), in which people read what they prefer.

{markdown_table(("measure", ">p <= .05 in", ">median p"), power(found))}
""")


def unrelated(pairs: Pairs, seed: int) -> Pairs:
    """The same readings with preferences that behavior says nothing about."""
    generator = np.random.default_rng((1, seed))
    rated = labeled(pairs)
    slope = LogisticRegression(fit_intercept=False).fit(rated.X(LENGTH_FEATURES), rated.y).coef_[0, 0]
    conversations = pairs.groups("conversation_id")
    leaning = LEANING * generator.normal(size=conversations.max() + 1)[conversations]
    left = generator.random(len(pairs)) < expit(slope * pairs.X(LENGTH_FEATURES)[:, 0] + leaning)
    drawn = pl.Series(np.where(left, "left", "right"))
    return Pairs(pairs.rows.with_columns(preference=pl.when(pl.col("preference").is_not_null()).then(drawn)))


def p_values(pairs: Pairs, seed: int) -> list[float]:
    found = permutation_test(pairs, SETS, DRAWS, seeds=1, seed=seed)["p"]["mouse + gaze"]
    return [found[measure] for measure in MEASURES]


def of_simulated(seed: int) -> list[float]:
    with tempfile.TemporaryDirectory() as folder:
        release = simulate_release(Path(folder) / "release", workers=24, questions=300, seed=seed)
        build_dataset(open_release(release), Path(folder) / "dataset")
        return p_values(load_pairs(Path(folder) / "dataset"), seed)


def uniformity(p: np.ndarray) -> Iterator[tuple[str, ...]]:
    # The p values lie on a grid of (1 + DRAWS) steps: uniform once they are spread over the step below.
    spread = p - np.random.default_rng(0).random(p.shape) / (1 + DRAWS)
    for column, measure in enumerate(MEASURES):
        shares = (f"{(p[:, column] <= level).mean():.3f}" for level in (0.05, 0.2, 0.5))
        yield (measure, *shares, f"{kstest(spread[:, column], 'uniform').pvalue:.2f}")


def power(p: np.ndarray) -> Iterator[tuple[str, ...]]:
    for column, measure in enumerate(MEASURES):
        hits = int((p[:, column] <= 0.05).sum())
        low, high = wilson(hits, len(p))
        yield measure, f"{hits} of {len(p)} [{low:.2f}, {high:.2f}]", f"{np.median(p[:, column]):.2f}"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
