"""A circuit breaker: after faults alone for a while nothing is sent, except one request now and then that tries again.

closed -> (only faults) open -> (after a pause) one request -> closed, or open again
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

# So many faults, nothing but faults, over so many seconds: a restart takes less, and one in ten that fails by chance
# makes five in a row once in 100,000 requests.
FAULTS = 5
FAILING_SECONDS = 5.0
# How long it is left alone then; an endpoint bears one request in that time even when it is in trouble.
OPEN_SECONDS = 10.0
# How soon to look again while another request tries.
TRYING_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Outage:
    """Why nothing is sent: `faults` in a row over `seconds`, the last of them, and in how many it is tried again."""

    faults: int
    seconds: float
    last: str
    again_in: float


class Circuit:
    """Whether requests may be sent, by what became of the ones before; safe to use from many threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._faults = 0
        self._first_at = self._last_at = 0.0
        self._last = ""
        self._trying = False

    def outage(self) -> Outage | None:
        """Why a request would not be let through now, or None."""
        with self._lock:
            return self._outage()

    def enter(self) -> Outage | None:
        """Let a request through (None), or say why not; one that is let through reports what became of it."""
        with self._lock:
            outage = self._outage()
            self._trying = self._trying or (outage is None and self._is_open)
            return outage

    def succeeded(self) -> None:
        """The other side works."""
        with self._lock:
            self._faults, self._trying = 0, False

    def failed(self, fault: str) -> None:
        """It does not, and `fault` says how."""
        with self._lock:
            self._last_at = self._clock()
            if not self._faults:
                self._first_at = self._last_at
            self._faults += 1
            self._last, self._trying = fault, False

    def abandoned(self) -> None:
        """The request ended without telling anything: another one may try."""
        with self._lock:
            self._trying = False

    @property
    def _is_open(self) -> bool:
        return self._faults >= FAULTS and self._last_at - self._first_at >= FAILING_SECONDS

    def _outage(self) -> Outage | None:
        if not self._is_open:
            return None
        now = self._clock()
        left = self._last_at + OPEN_SECONDS - now
        if left <= 0 and not self._trying:
            return None
        return Outage(self._faults, now - self._first_at, self._last, max(left, TRYING_SECONDS))
