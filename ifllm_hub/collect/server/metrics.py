"""Counters of a server in Prometheus' text format: how much and how fast, nothing about people."""

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Metrics:
    """Counters since the process started, in a registry of their own, apart from that of an app around the router."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "ifllm_requests", "Requests that were answered.", ("route", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "ifllm_accept_seconds",
            "How long accepted batches took, s.",
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._stored = Gauge("ifllm_stored_rows", "Rows of the store.", ("table",), registry=self._registry)
        self.accepted_batches = self._counter("accepted_batches", "Batches that were stored.")
        self.duplicate_batches = self._counter("duplicate_batches", "Batches that were stored already.")
        self.accepted_ticks = self._counter("accepted_ticks", "Ticks that were stored, gaze included.")
        self.withdrawals = self._counter("withdrawals", "Withdrawals through this server.")

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count an answered request; durations are kept only for accepted batches."""
        self._requests.labels(route, str(status)).inc()
        if status == 202 and route.endswith("/v1/batches"):
            self._seconds.observe(seconds)

    def text(self, stored: dict[str, int]) -> bytes:
        """The page, of `CONTENT_TYPE`.

        Args:
            stored: rows of the store's tables.
        """
        for table, rows in stored.items():
            self._stored.labels(table).set(rows)
        return generate_latest(self._registry)

    def _counter(self, name: str, what: str) -> Counter:
        return Counter(f"ifllm_{name}", what, registry=self._registry)
