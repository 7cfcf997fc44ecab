"""What the server counts, in the form that Prometheus reads; no label takes values that a caller chooses."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from citekite.endpoint.traffic import TrafficState
from citekite.events import Done, Event, Failed, Retrieved
from citekite.explanation import ModelUse
from citekite.serve.endpoint_metrics import EndpointFigures
from citekite.telemetry import Figure
from citekite.types import Answer, Retrieval, Usage

# A search takes milliseconds, a streamed answer of a slow model minutes.
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
# What nginx logs for a client that closed the connection before the reply; nobody receives it.
CLIENT_LEFT = 499


class Metrics:
    """The figures of one server, in a registry of their own."""

    def __init__(self, free_places: Callable[[], int], endpoints: Callable[[], Sequence[TrafficState]]) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "citekite_http_requests", "Requests that were answered.", ("route", "method", "status"), registry=registry
        )
        self.request_seconds = Histogram(
            "citekite_http_request_seconds",
            "Time of a request until the end of its reply.",
            ("route", "method"),
            buckets=SECONDS,
            registry=registry,
        )
        self.answers = Counter(
            "citekite_answers",
            "Answers by outcome: answered, no_evidence, cut_short, failed, or left by the client.",
            ("outcome",),
            registry=registry,
        )
        self.stage_seconds = Histogram(
            "citekite_stage_seconds", "Time of each stage.", ("stage",), buckets=SECONDS, registry=registry
        )
        self.tokens = Counter(
            "citekite_tokens", "Tokens that models counted for answers.", ("kind",), registry=registry
        )
        self.model_calls = Counter(
            "citekite_model_calls", "Calls of models that were answered.", ("purpose", "model"), registry=registry
        )
        self.model_tokens = Counter(
            "citekite_model_tokens", "Tokens that models took.", ("purpose", "model", "kind"), registry=registry
        )
        self.under_way = Gauge("citekite_answers_under_way", "Answers that are being made.", registry=registry)
        self.uploads = Counter("citekite_uploads", "Files that were uploaded.", registry=registry)
        self.chunks = Counter("citekite_sync_chunks", "Chunks that syncs changed.", ("change",), registry=registry)
        free = Gauge("citekite_workers_free", "Calls and streams that could begin now.", registry=registry)
        free.set_function(free_places)
        registry.register(EndpointFigures(endpoints))
        ProcessCollector(registry=registry)

    def text(self) -> bytes:
        """All figures, as Prometheus reads them."""
        return generate_latest(self._registry)

    def figures(self) -> Iterator[Figure]:
        """All figures, for telemetry; a histogram as its sum and its count."""
        for family in self._registry.collect():
            suffixes = {"counter": ("_total",), "histogram": ("_sum", "_count")}.get(family.type, ("",))
            for suffix in suffixes:
                name = f"{family.name}{suffix}"
                values = tuple((dict(one.labels), one.value) for one in family.samples if one.name == name)
                yield Figure(name, family.documentation, family.type != "gauge", values)

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count a request by the template of its route."""
        self.requests.labels(route, method, str(status)).inc()
        self.request_seconds.labels(route, method).observe(seconds)

    def called(self, use: ModelUse) -> None:
        """Count a call of a model."""
        self.model_calls.labels(use.purpose, use.model).inc()
        self.model_tokens.labels(use.purpose, use.model, "prompt").inc(use.usage.prompt_tokens)
        self.model_tokens.labels(use.purpose, use.model, "completion").inc(use.usage.completion_tokens)

    def searched(self, found: Retrieval) -> None:
        """Count a search: the time of its stages and the tokens of models that wrote queries."""
        self._took(found.seconds)
        self._used(found.usage)

    def answered(self, answer: Answer) -> None:
        """Count an answer that was made."""
        self.answers.labels(answer.outcome).inc()
        self._used(answer.usage)

    def watched(self, events: Iterator[Event]) -> Iterator[Event]:
        """The events of an answer, counted: its outcome, its tokens, and how long it took to find and to write."""
        outcome, began = "left", time.perf_counter()
        self.under_way.inc()
        try:
            for event in events:
                match event:
                    case Retrieved():
                        found = time.perf_counter()
                        self._took({"retrieve": found - began})
                        began = found
                    case Done(answer):
                        outcome = answer.outcome
                        self._took({"generate": time.perf_counter() - began})
                        self._used(answer.usage)
                    case Failed():
                        outcome = "failed"
                yield event
        except Exception:
            outcome = "failed"
            raise
        finally:
            self.under_way.dec()
            self.answers.labels(outcome).inc()
            if (close := getattr(events, "close", None)) is not None:
                close()

    def _took(self, seconds: Mapping[str, float]) -> None:
        for stage, took in seconds.items():
            self.stage_seconds.labels(stage).observe(took)

    def _used(self, usage: Usage) -> None:
        self.tokens.labels("prompt").inc(usage.prompt_tokens)
        self.tokens.labels("completion").inc(usage.completion_tokens)
