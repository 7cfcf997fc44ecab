"""Context variables of a stream: what runs between two items must not see what the stream has set."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from contextvars import ContextVar, Token, copy_context
from typing import TypeVar

T = TypeVar("T")


def undo(variable: ContextVar[T], token: Token[T]) -> None:
    """Undo a setting of a context variable.

    Elsewhere than where it was made there is nothing to undo: a stream that nobody closed is ended by the garbage
    collector, wherever that runs.
    """
    with suppress(ValueError):
        variable.reset(token)


def in_own_context(items: Iterator[T]) -> Iterator[T]:
    """The items of an iterator that works in a copy of the context in which the first is asked for.

    A generator runs in the context of whoever asks for the next item. What it sets (the span that is open, who counts
    its tokens) would show there between two items, and get mixed up where two streams are read in turns. Closing this
    closes the iterator, where it can be closed.
    """
    context = copy_context()
    try:
        while True:
            try:
                item = context.run(next, items)
            except StopIteration:
                return
            yield item
    finally:
        if (close := getattr(items, "close", None)) is not None:
            context.run(close)
