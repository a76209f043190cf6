"""What scoring costs: the flat forest of the shipped model against scikit-learn's own trees.

make bench
"""

import time
from collections.abc import Callable

import numpy as np
from rich.console import Console
from rich.table import Table

from ifllm_hub.reward.functions import default_model
from ifllm_hub.reward.model.persistence import load_forest, load_model

PAIRS = (1, 1_024, 20_000)
REPEATS = 7
BUDGET = "to stay within: 0.050 ms for one pair, ratio 1 at 20,000 pairs, differences of 1e-12"


def main() -> None:
    model, _ = load_model(default_model())
    forest, _ = load_forest(default_model())
    thresholds = [forest.threshold[(forest.feature == column) & (forest.left != -1)] for column in range(forest.width)]
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.normal(scale=np.std(values), size=max(PAIRS)) for values in thresholds])
    table = Table("pairs", "flat forest", "scikit-learn", "ratio", "largest difference", caption=BUDGET)
    for count in PAIRS:
        rows = X[:count]
        flat, sklearn = best(lambda rows=rows: forest.predict(rows)), best(lambda rows=rows: model.predict_proba(rows))
        difference = np.abs(forest.predict(rows) - model.predict_proba(rows)[:, 1]).max()
        table.add_row(f"{count:,}", *map(milliseconds, (flat, sklearn)), f"{flat / sklearn:.3f}", f"{difference:.0e}")
    Console(width=100).print(table)


def best(work: Callable[[], object]) -> float:
    """Seconds of the fastest of some repeats; the first call, which makes the tables, does not count."""
    work()
    took = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        work()
        took.append(time.perf_counter() - started)
    return min(took)


def milliseconds(seconds: float) -> str:
    return f"{1_000 * seconds:.3f} ms"


if __name__ == "__main__":
    main()
