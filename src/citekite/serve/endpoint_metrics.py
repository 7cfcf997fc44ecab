"""How it stands with the model endpoints, in the form that Prometheus reads; looked up when it asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from citekite.endpoint.traffic import TrafficState

LABELS = ("endpoint", "model")


class EndpointFigures(Collector):
    """Gauges by endpoint and model, which the settings name and no caller."""

    def __init__(self, states: Callable[[], Sequence[TrafficState]]) -> None:
        self._states = states

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The gauges of now."""
        in_flight = GaugeMetricFamily("citekite_endpoint_in_flight", "Requests in flight.", labels=LABELS)
        limit = GaugeMetricFamily("citekite_endpoint_limit", "Requests that may be in flight.", labels=LABELS)
        is_open = GaugeMetricFamily(
            "citekite_endpoint_circuit_open", "1 while nothing is sent, after faults alone.", labels=LABELS
        )
        for state in self._states():
            labels = (state.address, state.model)
            in_flight.add_metric(labels, state.in_flight)
            limit.add_metric(labels, state.limit)
            is_open.add_metric(labels, state.outage is not None)
        yield from (in_flight, limit, is_open)
