"""Spans and metrics kept in memory, by OpenTelemetry's own SDK."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING

import pytest

from providers.telemetry import configure

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    from opentelemetry.sdk.trace.sampling import Sampler

__all__ = ["Recorded", "recording"]


class Recorded:
    """What was recorded so far."""

    def __init__(self, exporter: InMemorySpanExporter, reader: InMemoryMetricReader) -> None:
        self._exporter = exporter
        self._reader = reader

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        return tuple(self._exporter.get_finished_spans())

    def named(self, start: str) -> list[ReadableSpan]:
        return [span for span in self.spans if span.name.startswith(start)]

    def total(self, attribute: str, *, among: str = "") -> int:
        """Add an attribute up over all spans that have it."""
        values = [dict(span.attributes or {}).get(attribute, 0) for span in self.named(among)]
        return sum(value for value in values if isinstance(value, int))

    def children(self, parent: ReadableSpan) -> list[ReadableSpan]:
        own = parent.context
        return [span for span in self.spans if own and span.parent and span.parent.span_id == own.span_id]

    def metric(self, name: str, wanted: Mapping[str, str] = MappingProxyType({})) -> float:
        """Return the sum of a metric over the points that have these attributes."""
        total = 0.0
        data = self._reader.get_metrics_data()
        for resource in data.resource_metrics if data else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    for point in metric.data.data_points if metric.name == name else ():
                        if wanted.items() <= dict(point.attributes or {}).items():
                            total += float(getattr(point, "sum" if hasattr(point, "sum") else "value"))
        return total

    def metrics(self) -> set[str]:
        data = self._reader.get_metrics_data()
        resources = data.resource_metrics if data else ()
        return {metric.name for resource in resources for scope in resource.scope_metrics for metric in scope.metrics}

    def text(self) -> str:
        """Everything that would leave the process, as text."""
        data = self._reader.get_metrics_data()
        return "\n".join(span.to_json() for span in self.spans) + (data.to_json() if data else "")


@contextmanager
def recording(*, sampler: Sampler | None = None) -> Iterator[Recorded]:
    """Record what happens in the block; skips where the SDK is not installed."""
    pytest.importorskip("opentelemetry.sdk", reason="needs opentelemetry-sdk, of the dev extra")
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracing = TracerProvider(sampler=sampler, shutdown_on_exit=False)
    tracing.add_span_processor(SimpleSpanProcessor(exporter))
    metering = MeterProvider([reader], shutdown_on_exit=False)
    configure(tracer_provider=tracing, meter_provider=metering)
    try:
        yield Recorded(exporter, reader)
    finally:
        configure()
        tracing.shutdown()
        metering.shutdown()
