"""The events of one answer, in the order in which they come.

Of a deep answer `Step`, then `Retrieved`, then `Delta` and `Cited` mixed, then `Done` or `Failed`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from citekite.errors import CitekiteError
from citekite.types import Answer, Hit, Step


@dataclass(frozen=True, slots=True)
class Retrieved:
    """The passages were found; the model has not been asked yet.

    `standalone` is the question searched for, `queries` what else was searched for with it.
    """

    hits: tuple[Hit, ...]
    standalone: str
    notes: tuple[str, ...] = ()
    queries: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Delta:
    """A further piece of the answer's text."""

    text: str


@dataclass(frozen=True, slots=True)
class Cited:
    """A marker that resolved to a passage: its number and its offset in the answer's text so far."""

    number: int
    position: int


@dataclass(frozen=True, slots=True)
class Done:
    """The answer is complete."""

    answer: Answer


@dataclass(frozen=True, slots=True)
class Failed:
    """The answer could not be completed; `partial` is the text that had come until then."""

    error: CitekiteError
    partial: str = ""


Event = Step | Retrieved | Delta | Cited | Done | Failed


def answer_of(events: Iterable[Event]) -> Answer:
    """The answer that the events end with; raises the error of `Failed`, with the text that had come as its `partial`.

    The iterator is closed, where it can be.
    """
    try:
        for event in events:
            if isinstance(event, Done):
                return event.answer
            if isinstance(event, Failed):
                event.error.partial = event.partial
                raise event.error
    finally:
        if (close := getattr(events, "close", None)) is not None:
            close()
    raise AssertionError("an answer ends with Done or Failed")
