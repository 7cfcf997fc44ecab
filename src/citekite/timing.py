"""How long each stage of a job took, and what it found."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from citekite.contexts import undo
from citekite.explanation import ModelUse, Stage, together
from citekite.metering import metered
from citekite.telemetry import span
from citekite.types import Usage

T = TypeVar("T")

# So many of a stage's scores are kept.
BEST = 3


class Totals:
    """Seconds by the name of the work, added up over threads."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._lock = threading.Lock()

    def add(self, name: str, seconds: float) -> None:
        """Add to one of the sums; from any thread."""
        with self._lock:
            self.seconds[name] = self.seconds.get(name, 0.0) + seconds


_totals: ContextVar[Totals | None] = ContextVar("totals", default=None)


@contextmanager
def adding_up() -> Iterator[Totals]:
    """Add up what `counted_as` counts inside, also in threads that run in a copy of this context."""
    token = _totals.set(totals := Totals())
    try:
        yield totals
    finally:
        undo(_totals, token)


@contextmanager
def counted_as(name: str) -> Iterator[None]:
    """Count what runs inside towards the sum of that name, where one is kept."""
    started = time.perf_counter()
    try:
        yield
    finally:
        if (totals := _totals.get()) is not None:
            totals.add(name, time.perf_counter() - started)


def each_counted_as(name: str, items: Iterator[T]) -> Iterator[T]:
    """The items of an iterator, the time that it takes to make each counted."""
    while True:
        with counted_as(name):
            try:
                item = next(items)
            except StopIteration:
                return
        yield item


class Clock:
    """What is told about a stage while it runs."""

    def __init__(self) -> None:
        self.candidates: int | None = None
        self.scores: tuple[float, ...] = ()
        self.details: dict[str, Any] = {}
        self.uses: list[ModelUse] = []
        self._began = time.perf_counter()

    def first(self) -> None:
        """The first piece of what the stage makes is there; called again for each further one."""
        if "first_seconds" not in self.details:
            self.details["first_seconds"] = time.perf_counter() - self._began

    def told(self) -> Usage:
        """The tokens that the endpoint of the chat model counted within the stage so far."""
        told = (use.usage for use in self.uses if use.purpose == "chat" and not use.estimated)
        return sum(told, Usage())

    def found(self, scores: Sequence[float]) -> None:
        """The scores of the candidates that the stage leaves, best first."""
        self.candidates = len(scores)
        self.scores = tuple(scores[:BEST])


class Stopwatch:
    """Adds up seconds by the name of a stage, in the order in which the stages first came; each is a span, too."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._stages: list[Stage] = []

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages that ended, those of one name as one."""
        return together(tuple(self._stages))

    @contextmanager
    def time(self, name: str) -> Iterator[Clock]:
        """Count what runs inside towards a stage, also when it fails."""
        with span(name) as traced, metered((clock := Clock()).uses.append):
            started = time.perf_counter()
            try:
                yield clock
            finally:
                seconds = time.perf_counter() - started
                self.seconds[name] = self.seconds.get(name, 0.0) + seconds
                stage = Stage(name, seconds, clock.candidates, clock.scores, clock.details, tuple(clock.uses))
                self._stages.append(stage)
                traced.set(
                    {
                        "citekite.candidates": stage.candidates,
                        "citekite.best_score": stage.scores[0] if stage.scores else None,
                        **{f"citekite.{name}": value for name, value in stage.details.items()},
                    }
                )
