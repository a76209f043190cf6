"""Tasks on a Ray cluster: the only module that imports Ray."""

import logging
import os
import socket
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from types import ModuleType
from typing import Any, TypeVar

from ifllm_hub.engines.outcomes import Failed
from ifllm_hub.errors import IfllmError, first_line

Shard = TypeVar("Shard")
Result = TypeVar("Result")

# Tasks that wait or run at a time, a CPU: enough that none idles, few enough that a million shards need no memory.
_WINDOW = 4
# A worker has one CPU, so a pool of threads for every core of the machine would only be in the way.
_ONE_THREAD = {"env_vars": {"POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1"}}


def run_on_ray(
    task: Callable[[Shard], Result], shards: Sequence[Shard], address: str | None, retries: int
) -> Generator[tuple[int, Result | Failed], None, None]:
    """See `run_shards`.

    Yields:
        The number of each shard and what became of it, in the order in which they end.

    Raises:
        IfllmError: Ray is not installed, or there is no cluster.
    """
    with _cluster(address, retries) as ray:
        # Sent to each node once, not with every shard.
        shared = ray.put(task)
        remote = ray.remote(_call).options(num_cpus=1, max_retries=retries, runtime_env=_ONE_THREAD)
        to_do = iter(enumerate(shards))
        running: dict[Any, int] = {}
        while True:
            window = _WINDOW * max(1, int(ray.cluster_resources().get("CPU", 1)))
            for number, shard in islice(to_do, max(0, window - len(running))):
                running[remote.remote(shared, shard)] = number
            if not running:
                return
            ended, _ = ray.wait(list(running))
            for reference in ended:
                yield running.pop(reference), _outcome(ray, reference, retries)


def _call(task: Callable[[Shard], Result], shard: Shard) -> Result:
    return task(shard)


def _outcome(ray: ModuleType, reference: Any, retries: int) -> Any:
    """What a task returned, or why it did not."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:  # which is also of the type that the task raised
        return Failed(error.cause)
    except ray.exceptions.RayError as error:
        return Failed(
            IfllmError(
                f"every worker that had it died, {retries + 1} in all ({type(error).__name__}). It may need more "
                "memory than they have: make more, smaller shards (ifllm partition), or give Ray fewer CPUs a machine."
            )
        )


@contextmanager
def _cluster(address: str | None, retries: int) -> Iterator[ModuleType]:
    """Ray, connected to a cluster; what was not connected before is not connected afterwards."""
    # Read as Ray is imported. By default, it tries for ever what its memory monitor kills, and tells Ray of its use.
    os.environ.setdefault("RAY_task_oom_retries", str(retries))
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ModuleNotFoundError as error:
        raise IfllmError("The engine 'ray' is not installed. Install it: pip install 'ifllm_hub[ray]'") from error
    if ray.is_initialized():
        yield ray
        return
    where = address or os.environ.get("RAY_ADDRESS") or "local"
    local: dict[str, Any] = {"include_dashboard": False} if where == "local" else {}
    try:
        _knock(where)
        ray.init(where, logging_level=logging.ERROR, log_to_driver=False, **local)
    # Ray's own errors, and those of the network, of a wrong address, of no or another token, and of other versions.
    except (ray.exceptions.RayError, OSError, RuntimeError, ValueError) as error:
        raise IfllmError(
            f"The Ray cluster at '{where}' cannot be used ({first_line(error)}). Check --address, that it runs "
            "(ray status), that it has this version of Ray and Python, and its token (RAY_AUTH_MODE=token, "
            "RAY_AUTH_TOKEN)."
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _knock(where: str) -> None:
    """Fail at once if nobody listens at an address: Ray would wait for minutes."""
    host, _, port = where.rpartition("://")[2].rpartition(":")
    if port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=20).close()
