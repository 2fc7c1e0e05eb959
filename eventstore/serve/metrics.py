"""What a server tells of itself, as Prometheus reads it."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from eventstore.memory import Memory

_CALL_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


class ServerMetrics:
    """One server's metrics."""

    def __init__(self, registry: CollectorRegistry, *, live: Callable[[], int], memory: Memory) -> None:
        """Put the metrics into the registry; `live` says how many threads are live."""
        self._calls = Counter("eventstore_calls_total", "Calls ended.", ["method", "status"], registry=registry)
        self._seconds = Histogram(
            "eventstore_call_seconds",
            "Time of one call, from its request's arrival to its answer.",
            ["method", "status"],
            buckets=_CALL_SECONDS,
            registry=registry,
        )
        self._under_way = Gauge("eventstore_calls_under_way", "Calls that have not ended.", registry=registry)
        writers = Gauge("eventstore_live_writers", "Threads that are live in this server.", registry=registry)
        writers.set_function(live)
        unstored = Gauge("eventstore_unstored_bytes", "What live threads that are not stored hold.", registry=registry)
        unstored.set_function(lambda: memory.unstored)
        unverified = Gauge(
            "eventstore_unverified_bytes", "What was appended and is not known to count.", registry=registry
        )
        unverified.set_function(lambda: memory.unverified)
        self._refused = Counter(
            "eventstore_calls_refused_total", "Calls refused before they were looked at.", ["status"], registry=registry
        )

    def refused(self, status: str) -> None:
        self._refused.labels(status).inc()

    def begun(self) -> None:
        self._under_way.inc()

    def ended(self, method: str, status: str, *, seconds: float) -> None:
        self._under_way.dec()
        self._calls.labels(method, status).inc()
        self._seconds.labels(method, status).observe(seconds)
