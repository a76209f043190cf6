"""Counters of a server in Prometheus' text format: how much and how fast, nothing about whom."""

from bisect import bisect_left
from collections import Counter

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Metrics:
    """Counters since the start of the process."""

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, int]] = Counter()
        self._counts: Counter[str] = Counter()
        self._buckets = [0] * (len(_SECONDS) + 1)
        self._seconds = 0.0

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count an answered request; durations are kept of accepted batches alone."""
        self._requests[route, status] += 1
        if status == 202 and route.endswith("/v1/batches"):
            self._buckets[bisect_left(_SECONDS, seconds)] += 1
            self._seconds += seconds

    def count(self, what: str, n: int = 1) -> None:
        self._counts[what] += n

    def text(self, stored: dict[str, int]) -> str:
        """The page.

        Args:
            stored: rows of the store's tables.
        """
        lines = ["# TYPE ifllm_requests_total counter"]
        lines += [
            f'ifllm_requests_total{{route="{route}",status="{status}"}} {n}'
            for (route, status), n in sorted(self._requests.items())
        ]
        for what, n in sorted(self._counts.items()):
            lines += [f"# TYPE ifllm_{what}_total counter", f"ifllm_{what}_total {n}"]
        lines.append("# TYPE ifllm_accept_seconds histogram")
        reached = 0
        for bound, n in zip((*map(str, _SECONDS), "+Inf"), self._buckets, strict=True):
            reached += n
            lines.append(f'ifllm_accept_seconds_bucket{{le="{bound}"}} {reached}')
        lines += [f"ifllm_accept_seconds_sum {self._seconds:.6f}", f"ifllm_accept_seconds_count {reached}"]
        lines.append("# TYPE ifllm_stored_rows gauge")
        lines += [f'ifllm_stored_rows{{table="{table}"}} {n}' for table, n in stored.items()]
        return "\n".join(lines) + "\n"
