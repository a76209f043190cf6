"""One task for each shard of a dataset: in this process, or on Ray. The task is the same, and so is what it writes."""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from typing import Literal, TypeVar

from ifllm_hub.engines.outcomes import Failed
from ifllm_hub.errors import IfllmError, first_line
from ifllm_hub.terms import Advance

Engine = Literal["local", "ray"]
Shard = TypeVar("Shard")
Result = TypeVar("Result")

# Failed shards that an error names.
_NAMED = 5


def run_shards(
    task: Callable[[Shard], Result],
    shards: Sequence[Shard],
    engine: Engine = "local",
    address: str | None = None,
    retries: int = 2,
    advance: Advance | None = None,
) -> list[Result]:
    """Do a task for every shard; one that fails does not stop the others.

    Args:
        task: may run more than once for a shard, on any machine, so it writes the same file under the same name. For
            Ray, a function of an installed module, or a `functools.partial` of one.
        shards: what `task` is called with; `str` of each is its name in errors.
        engine: "local": one after the other in this process; "ray": a task a CPU of a cluster.
        address: of a Ray cluster; None: that of `RAY_ADDRESS`, else one of this machine alone, for this call.
        retries: how often Ray tries a shard again after a worker that had it died. What `task` raises is not retried.
        advance: called with the share of shards that are done or have failed (0-1).

    Returns:
        What `task` returned, in the order of `shards`.

    Raises:
        IfllmError: shards failed (raised once all others are done), there is no Ray or no cluster, or a cluster is
            named that is not used. Of a single shard, what the task raised.

    Examples:
        >>> from ifllm_hub.engines.run import run_shards
        >>> run_shards(len, ["a", "bcd"])
        [1, 3]
    """
    if address is not None and engine == "local":
        raise IfllmError("--address names a Ray cluster, which only --engine ray uses. Add that, or leave it out.")
    done: dict[int, Result] = {}
    failed: dict[int, Exception] = {}
    with closing(_outcomes(task, shards, engine, address, retries)) as outcomes:
        for number, outcome in outcomes:
            if isinstance(outcome, Failed):
                failed[number] = outcome.cause
            else:
                done[number] = outcome
            if advance:
                advance((len(done) + len(failed)) / len(shards))
    if failed:
        first = failed[min(failed)]
        if len(shards) == 1:
            raise first
        raise _failure([str(shards[number]) for number in sorted(failed)], first, len(done)) from first
    return [done[number] for number in range(len(shards))]


def _outcomes(
    task: Callable[[Shard], Result], shards: Sequence[Shard], engine: Engine, address: str | None, retries: int
) -> Generator[tuple[int, Result | Failed], None, None]:
    """The number of each shard and what became of it, in the order in which they end."""
    if engine == "ray":
        from ifllm_hub.engines.ray_engine import run_on_ray

        yield from run_on_ray(task, shards, address, retries)
        return
    for number, shard in enumerate(shards):
        outcome: Result | Failed
        try:
            outcome = task(shard)
        except Exception as error:  # any at all: the other shards come first
            outcome = Failed(error)
        yield number, outcome


def _failure(names: list[str], first: Exception, done: int) -> IfllmError:
    cause = first_line(first) if isinstance(first, IfllmError) else f"{type(first).__name__}: {first_line(first)}"
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return IfllmError(
        f"{len(names)} of {len(names) + done} shards failed ({', '.join(names[:_NAMED])}{more}). The first: "
        f"{cause.rstrip('.')}. The other {done} are done: run it again for what is missing."
    )
