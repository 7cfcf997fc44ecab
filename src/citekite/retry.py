"""The one retry policy for requests to a model endpoint or a citekite server: which delay, how long, what is said."""

from __future__ import annotations

import email.utils
import logging
import math
import random
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

from citekite import cancel
from citekite.errors import CitekiteError

T = TypeVar("T")

FIRST_DELAY = 0.5
LONGEST_DELAY = 20.0
# Requests that were all told the same Retry-After should not come back in the same instant.
SPREAD = 0.1

logger = logging.getLogger(__name__)


class Transient(Exception):
    """A fault that may be gone when asked again.

    `error` is what is raised when it is not, followed by `advice`; `retry_after` is the delay in seconds that the
    endpoint asks for, and `budget` a tighter time budget than the caller's. `overload` says that the other side works
    and has too much to do; without `asked` nothing was sent, because it would have been in vain.
    """

    def __init__(
        self,
        error: CitekiteError,
        advice: str,
        *,
        retry_after: float | None = None,
        budget: float = math.inf,
        overload: bool = False,
        asked: bool = True,
    ) -> None:
        super().__init__(str(error))
        self.error = error
        self.advice = advice
        self.retry_after = retry_after
        self.budget = budget
        self.overload = overload
        self.asked = asked


def call_with_retries(call: Callable[[], T], budget: float, *, clock: Callable[[], float] = time.monotonic) -> T:
    """The result of `call()`, asked again while it raises `Transient` and `budget` seconds of `clock` are not over.

    The delay is the endpoint's `retry_after`, else it doubles from 0.5 s to 20 s, with jitter. A delay that would
    overrun the budget is not begun: the fault's error is raised, with the number of attempts and the time they took.
    """
    started, asked, guessed = clock(), 0, 0
    while True:
        try:
            return call()
        except Transient as fault:
            asked += fault.asked
            guessed += (
                fault.asked and fault.retry_after is None
            )  # a pause that was asked for is no reason to doubt more
            delay = _delay(guessed, fault.retry_after)
            elapsed = clock() - started
            if elapsed + delay > min(budget, fault.budget):
                raise _given_up(fault, asked, elapsed) from None
            logger.info("%s; asking again in %.1f s", fault.error, delay)
        cancel.sleep(delay)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The delay in seconds that a reply asks for in `retry-after-ms` or `retry-after` (seconds or a date).

    >>> retry_after({"retry-after-ms": "1500", "retry-after": "9"}), retry_after({"retry-after": "soon"})
    (1.5, None)
    """
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) * unit
        except ValueError:
            continue
        if not math.isnan(seconds):
            return max(0.0, seconds)
    try:
        date = email.utils.parsedate_to_datetime(headers.get("retry-after", ""))
    except ValueError:
        return None
    return max(0.0, date.timestamp() - time.time())


def _delay(attempt: int, asked: float | None) -> float:
    if asked is not None:
        return asked + random.uniform(0, SPREAD)
    ceiling = min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(attempt - 1, 16))
    return random.uniform(ceiling / 2, ceiling)


def _given_up(fault: Transient, asked: int, elapsed: float) -> CitekiteError:
    times = {0: "not asked again", 1: "asked once"}.get(asked, f"asked {asked} times in {elapsed:.0f} s")
    pause = f"; it wants {fault.retry_after:.0f} s of pause" if fault.retry_after and fault.asked else ""
    return type(fault.error)(f"{fault.error} ({times}{pause}). {fault.advice}")
