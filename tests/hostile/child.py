"""Work in a forked child under limits, and what became of it: the parent lives on whatever happens."""

import json
import os
import resource
import signal
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ifllm_hub.errors import IfllmError

SECONDS = 20  # of CPU
PATIENCE = 200  # s by the clock, for what waits and computes nothing
MEMORY = 1_500_000_000


def outcome(
    work: Callable[[], Any],
    prepare: Callable[[], Any] = lambda: None,
    after: Callable[[], dict[str, Any]] = dict,
) -> dict[str, Any]:
    """Run functions in a child, one after the other; `work` under limits of time and address space.

    The caller must not have started threads, which a child would lack: what starts some belongs into `prepare`.

    Returns:
        `error` (name of the exception, None without one), `message`, `seconds` of CPU and `bytes` by which the largest
        resident size grew; `signal`, 0 unless one ended the child; and what `after` gives.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        quiet = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2):  # native code says something when it aborts
            os.dup2(quiet, stream)
        try:
            prepare()
            told = _limited(work) | after()
        except BaseException:
            told = {"error": "harness", "message": traceback.format_exc()}
        os.write(writing, json.dumps(told).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        told = pipe.read()
    status = os.waitpid(child, 0)[1]
    return {"error": None, "message": "", **(json.loads(told) if told else {}), "signal": os.WTERMSIG(status)}


def _limited(work: Callable[[], Any]) -> dict[str, Any]:
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.alarm(PATIENCE)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    told: dict[str, Any] = {"error": None, "message": ""}
    try:
        work()
    except IfllmError as error:
        told = {"error": "IfllmError", "message": str(error)}
    except BaseException as error:
        told = {"error": type(error).__name__, "message": traceback.format_exc()[-2_000:]}
    seconds, grown = time.process_time() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {**told, "seconds": seconds, "bytes": 1_024 * grown}
