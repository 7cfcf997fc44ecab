"""OpenTelemetry of the test process: what it exports is kept in memory."""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


class Recorded:
    """The spans and figures of this process; made once, as the providers are set for good."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        trace.set_tracer_provider(provider)
        metrics.set_meter_provider(MeterProvider([self._reader]))

    def clear(self) -> None:
        """Forget the spans so far."""
        self._exporter.clear()

    def spans(self) -> list[ReadableSpan]:
        """The spans that ended, in the order in which they began."""
        return sorted(self._exporter.get_finished_spans(), key=lambda span: span.start_time or 0)

    def named(self, name: str) -> ReadableSpan:
        """The one span of that name."""
        (span,) = [span for span in self.spans() if span.name == name]
        return span

    def texts(self) -> str:
        """All that the spans say: names, attributes and events, with the descriptions of their status."""
        return "\n".join(
            str((span.name, dict(span.attributes or {}), span.status.description, span.events)) for span in self.spans()
        )

    def figures(self) -> dict[str, list[tuple[dict[str, object], float]]]:
        """The value (of a histogram the sum) of each figure, with its attributes."""
        data = self._reader.get_metrics_data()
        found: dict[str, list[tuple[dict[str, object], float]]] = {}
        for resource in data.resource_metrics if data else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    for point in metric.data.data_points:
                        value = getattr(point, "value", None)
                        number = point.sum if value is None else value  # type: ignore[union-attr]
                        found.setdefault(metric.name, []).append((dict(point.attributes or {}), number))
        return found


def tree(spans: Sequence[ReadableSpan]) -> dict[str, list[str]]:
    """The names of the spans below each, in their order; those without a parent below the empty name."""
    names = {span.context.span_id: span.name for span in spans if span.context}
    found: dict[str, list[str]] = {}
    for span in spans:
        parent = names.get(span.parent.span_id, "elsewhere") if span.parent else ""
        found.setdefault(parent, []).append(span.name)
    return found
