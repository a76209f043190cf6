"""Tasks that workers of a cluster import: the real one, in trouble."""

import os
import signal
import sys
import time
from pathlib import Path

from ifllm_hub.dataset.layout import Shard
from ifllm_hub.dataset.writers import ConfigWriter
from ifllm_hub.reward import scoring
from ifllm_hub.reward.scoring import Counts, Scoring

really_score = scoring.score_shard
TROUBLED = 3


def node_of(seconds: float) -> str:
    """The node that it ran on."""
    import ray

    time.sleep(seconds)
    return str(ray.get_runtime_context().get_node_id())


def threads(_: int) -> tuple[str | None, int]:
    """How many threads Polars was told to use, and those that it uses."""
    import polars as pl

    return os.environ.get("POLARS_MAX_THREADS"), pl.thread_pool_size()


def reciprocal(number: int) -> float:
    return 1 / number


def flag(run: Scoring) -> Path:
    """A file beside the scores, for as long as which there is trouble."""
    return Path(run.out).with_name("trouble")


def starts(run: Scoring) -> Path:
    """A file of the node and the shard of every task that was begun."""
    return Path(run.out).with_name("starts")


def score_slowly(run: Scoring, shard: Shard) -> Counts:
    with starts(run).open("a") as file:
        file.write(f"{node_of(0)} {shard}\n")
    time.sleep(1)
    return really_score(run, shard)


def die_once(run: Scoring, shard: Shard) -> Counts:
    """The first worker that has the shard is killed when all is written and nothing is in its place."""
    if shard.number == TROUBLED and flag(run).exists():
        flag(run).unlink()
        ConfigWriter.close = lambda self: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[method-assign]
    return really_score(run, shard)


def die_always(run: Scoring, shard: Shard) -> Counts:
    if shard.number == TROUBLED and flag(run).exists():
        with flag(run).open("a") as file:
            file.write("x")
        os.kill(os.getpid(), signal.SIGKILL)
    return really_score(run, shard)


if __name__ == "__main__":  # DATASET OUT ADDRESS: a run that takes so long that it can be killed
    scoring.score_shard = score_slowly
    scoring.score_dataset(sys.argv[1], sys.argv[2], engine="ray", address=sys.argv[3])
