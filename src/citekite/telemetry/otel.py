"""OpenTelemetry: the names are those of its conventions for generative AI, HTTP and errors.

https://github.com/open-telemetry/semantic-conventions-genai (in development; as of version 1.42). The providers are
those of the program. Where it has set none, they are made here, and export by OTLP over HTTP as the `OTEL_*` variables
say: https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import Token
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from citekite import __version__
from citekite.contexts import undo
from citekite.errors import SettingsError, importing
from citekite.telemetry import Attributes, Figure, Kind, Span, Telemetry, _current

if TYPE_CHECKING:
    from opentelemetry import trace
    from opentelemetry.context import Context
    from opentelemetry.metrics import CallbackOptions, Histogram, Observation
    from opentelemetry.sdk.metrics.export import MetricExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace.export import SpanExporter

T = TypeVar("T")

NAME = "citekite"
# The bounds that the conventions name for durations in seconds, and for tokens.
SECONDS = tuple(0.01 * 2**power for power in range(14))
TOKENS = tuple(4**power for power in range(14))


class OpenTelemetry(Telemetry):
    """Spans and figures for OpenTelemetry; with `content` also the texts of questions, passages and answers.

    Raises `MissingExtra` where OpenTelemetry's SDK or exporter is not installed.
    """

    __slots__ = ("_content", "_durations", "_meter", "_tokens", "_tracer")

    def __init__(self, *, content: bool = False) -> None:
        _set_up()
        from opentelemetry import metrics, trace

        self._content = content
        self._tracer = trace.get_tracer(NAME, __version__)
        self._meter = metrics.get_meter(NAME, __version__)
        self._durations: Histogram = self._meter.create_histogram(
            "gen_ai.client.operation.duration",
            "s",
            "GenAI operation duration.",
            explicit_bucket_boundaries_advisory=SECONDS,
        )
        self._tokens: Histogram = self._meter.create_histogram(
            "gen_ai.client.token.usage",
            "{token}",
            "Number of input and output tokens used.",
            explicit_bucket_boundaries_advisory=TOKENS,
        )

    @contextmanager
    def active(self) -> Iterator[None]:
        token = _current.set(self)
        try:
            yield
        finally:
            undo(_current, token)

    def span(
        self,
        name: str,
        attributes: Attributes | None = None,
        *,
        kind: Kind = "internal",
        current: bool = True,
        headers: Mapping[str, str] | None = None,
    ) -> Span:
        from opentelemetry import propagate, trace

        parent = propagate.extract(headers) if headers else None

        def start() -> trace.Span:
            return self._tracer.start_span(
                name,
                context=parent,
                kind=trace.SpanKind[kind.upper()],
                attributes=_plain(attributes or {}),
                record_exception=False,  # its message may quote a document
                set_status_on_exception=False,
            )

        return _Recording(start, content=self._content, current=current)

    def used(self, seconds: float, tokens: Mapping[str, int], attributes: Attributes) -> None:
        self._durations.record(seconds, attributes)
        without_error = {name: value for name, value in attributes.items() if name != "error.type"}
        for kind, count in tokens.items():
            self._tokens.record(count, {**without_error, "gen_ai.token.type": kind})

    def observe(self, names: Iterable[Figure], read: Callable[[], Iterable[Figure]]) -> None:
        for figure in names:
            make = (
                self._meter.create_observable_counter if figure.grows else self._meter.create_observable_up_down_counter
            )
            make(figure.name, [_reading(figure.name, read)], description=figure.description)

    @property
    def trace_id(self) -> str:
        from opentelemetry import trace

        context = trace.get_current_span().get_span_context()
        return trace.format_trace_id(context.trace_id) if context.is_valid else ""


class _Recording(Span):
    """A span of OpenTelemetry, begun when it is entered."""

    __slots__ = ("_content", "_current", "_span", "_start", "_token")

    def __init__(self, start: Callable[[], trace.Span], *, content: bool, current: bool) -> None:
        self._start = start
        self._content = content
        self._current = current
        self._token: Token[Context] | None = None

    def __enter__(self) -> Self:
        from opentelemetry import context, trace

        self._span = self._start()
        if self._current:
            self._token = context.attach(trace.set_span_in_context(self._span))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        from opentelemetry import context
        from opentelemetry.trace import get_current_span

        # A stream that is closed, and work that was given up, are no failures.
        if isinstance(error, Exception):
            self.fail(type(error).__name__)
            self.set_content(lambda: {"exception.message": str(error)})
        if self._token is not None and get_current_span() is self._span:  # else see `contexts.undo`
            context.detach(self._token)
        self._span.end()

    def set(self, attributes: Attributes) -> None:
        self._span.set_attributes(_plain(attributes))

    def set_content(self, attributes: Callable[[], Attributes]) -> None:
        if self._content and self._span.is_recording():
            self.set(attributes())

    def rename(self, name: str) -> None:
        self._span.update_name(name)

    def fail(self, kind: str) -> None:
        from opentelemetry import trace

        self._span.set_attribute("error.type", kind)
        self._span.set_status(trace.Status(trace.StatusCode.ERROR))


def _set_up() -> None:
    """Set the providers of the process, unless the program has its own."""
    with importing("opentelemetry", "otel", "telemetry"), importing("opentelemetry.sdk", "otel", "telemetry"):
        from opentelemetry import metrics, trace
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        tracer_provider = TracerProvider(resource=_resource())
        if (spans := _exporter("OTEL_TRACES_EXPORTER", _span_exporters())) is not None:
            tracer_provider.add_span_processor(BatchSpanProcessor(spans))
        trace.set_tracer_provider(tracer_provider)
        # The two come together: a program that has its own tracer provider has the meter provider it wants.
        figures = _exporter("OTEL_METRICS_EXPORTER", _metric_exporters())
        readers = [PeriodicExportingMetricReader(figures)] if figures is not None else []
        metrics.set_meter_provider(MeterProvider(readers, resource=_resource()))


def _resource() -> Resource:
    """What the figures are of: citekite, unless `OTEL_SERVICE_NAME` or `OTEL_RESOURCE_ATTRIBUTES` say otherwise."""
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource

    asked = OTELResourceDetector().detect().attributes
    return Resource.create({"service.name": NAME, "service.version": __version__, **asked})


def _span_exporters() -> dict[str, Callable[[], SpanExporter]]:
    with importing("opentelemetry.exporter", "otel", "telemetry"):
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import ConsoleSpanExporter

    return {"otlp": OTLPSpanExporter, "console": lambda: ConsoleSpanExporter(out=sys.stderr)}


def _metric_exporters() -> dict[str, Callable[[], MetricExporter]]:
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.sdk.metrics.export import ConsoleMetricExporter

    return {"otlp": OTLPMetricExporter, "console": lambda: ConsoleMetricExporter(out=sys.stderr)}


def _exporter(variable: str, exporters: Mapping[str, Callable[[], T]]) -> T | None:
    """The exporter that a variable names, by default that of OTLP; None for `none`."""
    name = os.environ.get(variable, "otlp")
    if name == "none":
        return None
    if name not in exporters:
        raise SettingsError(f"{variable} cannot be {name!r} here: it is otlp (by default), console or none")
    return exporters[name]()


def _reading(name: str, read: Callable[[], Iterable[Figure]]) -> Callable[[CallbackOptions], Iterator[Observation]]:
    """What OpenTelemetry calls for the values of one figure."""

    def observe(options: CallbackOptions) -> Iterator[Observation]:
        from opentelemetry.metrics import Observation

        for figure in read():
            if figure.name == name:
                yield from (Observation(value, attributes) for attributes, value in figure.values)

    return observe


def _plain(attributes: Attributes) -> dict[str, Any]:
    """Attributes as OpenTelemetry takes them: none that is None, and JSON for what is neither simple nor a list."""
    return {name: _value(value) for name, value in attributes.items() if value is not None}


def _value(value: Any) -> Any:
    if isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, tuple | list) and all(isinstance(one, str) for one in value):
        return tuple(value)
    return json.dumps(value, ensure_ascii=False)
