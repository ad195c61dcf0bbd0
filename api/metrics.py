"""What /metrics tells Prometheus: requests, tokens and waiting times by model, and the engine's own figures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from backends.contract import Backend, Usage
from errors import CounterpointError

GROWING = frozenset({"steps", "row_steps"})
"""The engine's figures that count since it was started; the others come and go."""

_SECONDS = (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120)


class Metrics:
    """One server's figures, in a registry of their own."""

    def __init__(self, backend: Backend) -> None:
        self._registry = CollectorRegistry()
        told: dict[str, Any] = {"registry": self._registry, "namespace": "counterpoint"}
        self.requests = Counter(
            "requests", "Chat completions, by how they ended.", ["model", "outcome"], **told
        )
        self.tokens = Counter(
            "tokens",
            "Tokens read (prompt; of whole answers) and written (completion; all, also for clients that left).",
            ["model", "kind"],
            **told,
        )
        self.first_token = Histogram(
            "time_to_first_token_seconds", "From the request's arrival.", ["model"], buckets=_SECONDS, **told
        )
        self.seconds = Histogram(
            "request_seconds", "From the request's arrival to its end.", ["model"], buckets=_SECONDS, **told
        )
        self._registry.register(_EngineFigures(backend))

    def answered(self, model: str, usage: Usage, seconds: float) -> None:
        """One choice of a completion is complete; `ended` counts what it wrote."""
        self.tokens.labels(model, "prompt").inc(usage.prompt_tokens or 0)
        if usage.ttft_s is not None:
            self.first_token.labels(model).observe(usage.ttft_s)
        self.seconds.labels(model).observe(seconds)

    def ended(self, model: str, outcome: str, written: int) -> None:
        """A completion has ended, in whatever way, after so many tokens of all its choices."""
        self.requests.labels(model, outcome).inc()
        self.tokens.labels(model, "completion").inc(written)

    def text(self) -> bytes:
        """The exposition format, version 0.0.4."""
        return generate_latest(self._registry)


class _EngineFigures(Collector):
    """Rows, queue and memory inside the local engine, asked for when Prometheus asks."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def collect(self) -> Iterator[Metric]:
        up = self._backend.status().state == "ready"
        told = "1 while the main backend can answer; 0 while it loads, has failed, or counts as down."
        yield GaugeMetricFamily("counterpoint_up", told, value=float(up))
        statistics = getattr(self._backend, "statistics", None)
        if not up or statistics is None:
            return
        try:
            figures = statistics()
        except CounterpointError:
            return
        for name, value in sorted(figures.items()):
            family = CounterMetricFamily if name in GROWING else GaugeMetricFamily
            yield family(f"counterpoint_engine_{name}", f"The engine's {name}.", value=float(value))

    def describe(self) -> Iterator[Metric]:
        return iter(())
