"""Spans and figures of what runs here, for whoever watches it; off, they cost a look at a context variable.

`span` is all that the stages know. What records is of `telemetry.otel`, the one module that knows OpenTelemetry, and
in force within its `active`: so one knowledge base of a process may be watched and another not.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

if TYPE_CHECKING:
    from citekite.settings import Settings

Attributes = Mapping[str, Any]
Kind = Literal["internal", "client", "server"]


class Span:
    """A piece of work; this one is for telemetry that is off, and does nothing.

    An exception that leaves it marks it as failed, by the name of its class.
    """

    __slots__ = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def set(self, attributes: Attributes) -> None:
        """Add attributes, none of them a text of documents, questions or answers."""

    def set_content(self, attributes: Callable[[], Attributes]) -> None:
        """Add attributes that are such texts, where the settings want them."""

    def rename(self, name: str) -> None:
        """Give it the name that is known only now."""

    def fail(self, kind: str) -> None:
        """Mark it as failed without an exception."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure that is read when it is exported: a total that only grows, or one that goes up and down."""

    name: str
    description: str
    grows: bool
    values: tuple[tuple[Attributes, float], ...]


class Telemetry:
    """Opens spans and records figures; this one is off."""

    __slots__ = ()

    def active(self) -> AbstractContextManager[None]:
        """Let it record what runs inside."""
        return nullcontext()

    def span(
        self,
        name: str,
        attributes: Attributes | None = None,
        *,
        kind: Kind = "internal",
        current: bool = True,
        headers: Mapping[str, str] | None = None,
    ) -> Span:
        """A span to be entered; what runs inside belongs to it, unless it is not to be `current`.

        `headers` are those of a request from elsewhere, whose trace it goes on with.
        """
        return _NO_SPAN

    def used(self, seconds: float, tokens: Mapping[str, int], attributes: Attributes) -> None:
        """Record a call of a model: its duration, and the tokens of each type (`input`, `output`) that were told."""

    def observe(self, names: Iterable[Figure], read: Callable[[], Iterable[Figure]]) -> None:
        """Export figures that are counted elsewhere: those of these names, read whenever it is time."""

    @property
    def trace_id(self) -> str:
        """The id of the trace that runs here, for logs; empty without one."""
        return ""


_NO_SPAN = Span()
OFF = Telemetry()
_current: ContextVar[Telemetry] = ContextVar("telemetry", default=OFF)


def current() -> Telemetry:
    """What records here."""
    return _current.get()


def span(name: str, attributes: Attributes | None = None, *, kind: Kind = "internal", current: bool = True) -> Span:
    """A span of whatever records here; see `Telemetry.span`."""
    return _current.get().span(name, attributes, kind=kind, current=current)


def propagated() -> dict[str, str]:
    """The headers that let a citekite server go on with the trace of the caller; none where nothing traces.

    That is also a trace of the program that citekite is a library of: then it has imported OpenTelemetry already.
    """
    headers: dict[str, str] = {}
    if (propagate := sys.modules.get("opentelemetry.propagate")) is not None:
        propagate.inject(headers)
    return headers


def make_telemetry(settings: Settings) -> Telemetry:
    """What the settings want: off, or OpenTelemetry; raises `MissingExtra` where that is not installed."""
    if not settings.telemetry:
        return OFF
    from citekite.telemetry.otel import OpenTelemetry

    return OpenTelemetry(content=settings.telemetry_content)
