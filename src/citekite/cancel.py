"""Work that nobody waits for any more: who runs it says when, and every wait of it ends soon after.

The thread that works for a client who leaves is most likely waiting: for the first byte of a model, for the next piece
of its answer, or until a request may be repeated. Python cannot interrupt a thread, so each of these waits is cut
into slices, and `check` is asked between them. To shut the socket down from another thread would save the slices, but
that thread would have to know each socket and be sure that the pool has not lent it to someone else meanwhile; and it
would not reach the pause between two attempts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

# The longest wait that nothing ends: a client's leaving is noticed within it.
SLICE_SECONDS = 0.2

_stopped: ContextVar[Callable[[], bool] | None] = ContextVar("stopped", default=None)


class Cancelled(BaseException):
    """The work was given up because nobody waits for it.

    No `Exception`: like `KeyboardInterrupt` it is neither retried nor taken for a fault of the endpoint on its way up.
    """


@contextmanager
def cancelled_when(stopped: Callable[[], bool]) -> Iterator[None]:
    """Let what runs inside, in this thread, end with `Cancelled` soon after `stopped()` has become true.

    A thread that is started inside inherits this where it runs in a `contextvars.copy_context()`.
    """
    token = _stopped.set(stopped)
    try:
        yield
    finally:
        _stopped.reset(token)


@contextmanager
def uncancelled() -> Iterator[None]:
    """Let what runs inside go on, whoever may cancel what began it: a job outlives the request that started it."""
    token = _stopped.set(None)
    try:
        yield
    finally:
        _stopped.reset(token)


def cancellable() -> bool:
    """Whether someone may cancel what runs here, so that waits have to be cut into slices."""
    return _stopped.get() is not None


def check() -> None:
    """Raise `Cancelled` where nobody waits any more."""
    stopped = _stopped.get()
    if stopped is not None and stopped():
        raise Cancelled


def sleep(seconds: float) -> None:
    """Sleep, or raise `Cancelled` within a slice."""
    ends = time.monotonic() + seconds
    while cancellable() and (left := ends - time.monotonic()) > SLICE_SECONDS:
        check()
        time.sleep(min(SLICE_SECONDS, left))
    check()
    time.sleep(max(0.0, ends - time.monotonic()))
