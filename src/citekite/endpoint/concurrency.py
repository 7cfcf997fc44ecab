"""How many requests may be in flight: found by additive increase and multiplicative decrease, as TCP finds its window.

https://www.rfc-editor.org/rfc/rfc5681: half of what was in flight after a sign of overload, one more after each round
that went well.
"""

from __future__ import annotations

import math
import threading
import time

from citekite import cancel


class Limiter:
    """A place for each request in flight, between 1 and `ceiling` of them; safe to use from many threads.

    All places are there from the start: nobody is kept waiting before the other side has complained.
    """

    def __init__(self, ceiling: int) -> None:
        self.ceiling = ceiling
        self._limit = float(ceiling)
        self._in_flight = 0
        self._begun = 0
        # Requests up to this number were under way at the last decrease: what becomes of them says nothing of it.
        self._decreased_at = 0
        self._urgent = 0
        self._changed = threading.Condition()

    @property
    def limit(self) -> int:
        """How many requests may be in flight now."""
        return int(self._limit)

    @property
    def in_flight(self) -> int:
        """How many requests are in flight."""
        return self._in_flight

    def enter(self, *, urgent: bool = False, seconds: float = math.inf) -> int | None:
        """Take a place, waiting for it: the request's number, counted from 1, or None after `seconds`.

        Who is urgent goes before all who are not. Raises `Cancelled` when nobody waits any more.
        """
        ends = time.monotonic() + seconds
        with self._changed:
            self._urgent += urgent
            try:
                while self._in_flight >= self.limit or (self._urgent and not urgent):
                    cancel.check()
                    left = ends - time.monotonic()
                    if left <= 0:
                        return None
                    slice_seconds = min(left, cancel.SLICE_SECONDS if cancel.cancellable() else math.inf)
                    self._changed.wait(None if slice_seconds == math.inf else slice_seconds)
                self._in_flight += 1
                self._begun += 1
                return self._begun
            finally:
                self._urgent -= urgent
                if urgent:
                    self._changed.notify_all()

    def accepted(self, number: int) -> None:
        """The request in flight with that number went well: a round of them makes one place more if all are used."""
        with self._changed:
            if number > self._decreased_at and self._in_flight >= self.limit:
                self._limit = min(float(self.ceiling), self._limit + 1 / self.limit)
                self._changed.notify_all()

    def overloaded(self, number: int) -> None:
        """The request in flight with that number was too much: half of what is in flight remains.

        At most once for all that are in flight together.
        """
        with self._changed:
            if number > self._decreased_at:
                self._limit = max(1.0, min(self._limit, self._in_flight) / 2)
                self._decreased_at = self._begun

    def leave(self) -> None:
        """Give up a place."""
        with self._changed:
            self._in_flight -= 1
            self._changed.notify_all()
