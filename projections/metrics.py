"""What a worker tells of itself, as Prometheus reads it."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from projections.fold import Folded

_STEP_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class Metrics:
    """One worker's metrics."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        """Put the metrics into the registry; by default into one of their own."""
        self.registry = registry or CollectorRegistry()
        self._lag = Gauge(
            "eventstore_lag_events", "Records of the partition not folded yet.", ["partition"], registry=self.registry
        )
        self._lag_seconds = Gauge(
            "eventstore_lag_seconds",
            "How long ago the last record folded was written, while there are more; 0 at the log's end.",
            ["partition"],
            registry=self.registry,
        )
        self._frozen = Gauge(
            "eventstore_frozen_threads",
            "Threads that a record which cannot be understood has frozen.",
            ["partition"],
            registry=self.registry,
        )
        self._folded = Counter(
            "eventstore_events_total",
            "Records folded, by what became of them; unfolded are those of frozen threads.",
            ["partition", "outcome"],
            registry=self.registry,
        )
        self._step = Histogram(
            "eventstore_step_seconds",
            "Time of one step that folded something, from the wait for records to the commit.",
            ["partition"],
            buckets=_STEP_SECONDS,
            registry=self.registry,
        )
        self._troubles = Counter(
            "eventstore_troubles_total",
            "Failed attempts to fold, by the error's name.",
            ["partition", "error"],
            registry=self.registry,
        )

    def stepped(self, partition: int, folded: Folded, *, seconds: float) -> None:
        """Take in one step."""
        for outcome in ("admitted", "void", "foreign", "unreadable", "unfolded"):
            count = getattr(folded, outcome)
            if count:
                self._folded.labels(partition, outcome).inc(count)
        self._step.labels(partition).observe(seconds)

    def lagging(self, partition: int, *, events: int, seconds: float) -> None:
        """Take in how far the views are behind."""
        self._lag.labels(partition).set(events)
        self._lag_seconds.labels(partition).set(seconds if events else 0.0)

    def frozen(self, partition: int, threads: int) -> None:
        self._frozen.labels(partition).set(threads)

    def failed(self, partition: int, error: Exception) -> None:
        self._troubles.labels(partition, type(error).__name__).inc()

    def forget(self, partition: int) -> None:
        """Say nothing more of a partition that is another worker's now; counters stay what they are."""
        for gauge in (self._lag, self._lag_seconds, self._frozen):
            gauge.remove(partition)
