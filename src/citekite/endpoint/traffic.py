"""Who may send a request to a model endpoint, and when: places in flight, pauses that it asked for, and outages."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from citekite.endpoint.circuit import Circuit, Outage
from citekite.endpoint.concurrency import Limiter
from citekite.errors import EndpointError, EndpointUnavailable
from citekite.retry import Transient

# A Retry-After may be the end of a day's quota, or a mistake: after so long the endpoint is asked all the same.
LONGEST_PAUSE = 60.0


@dataclass(frozen=True, slots=True)
class TrafficState:
    """Requests to one endpoint for one model: in flight, how many may be, and the outage where its circuit is open."""

    address: str
    model: str
    in_flight: int
    limit: int
    outage: Outage | None


class Traffic:
    """The requests to one endpoint for one model; safe to use from many threads.

    A pause that the endpoint asks of one request holds all of them.
    """

    def __init__(self, ceiling: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.limiter = Limiter(ceiling)
        self.circuit = Circuit(clock)
        self._clock = clock
        # The latest pause that was asked for: until when, and by which fault.
        self._pause: tuple[float, Transient] | None = None

    def state(self, address: str, model: str) -> TrafficState:
        """How it stands, under that address and name."""
        return TrafficState(address, model, self.limiter.in_flight, self.limiter.limit, self.circuit.outage())

    def turn(self, *, patient: bool, seconds: float = math.inf) -> Turn:
        """One request, to be sent inside the `with` statement.

        Entering it raises `Transient` where nothing may be sent yet. Who is not patient waits at most `seconds` for a
        place, and is told of an outage by `EndpointUnavailable` at once.
        """
        return Turn(self, patient, seconds)

    def pause(self, fault: Transient) -> None:
        """Hold all requests for as long as the endpoint asks in that fault."""
        if fault.retry_after:
            until = self._clock() + min(fault.retry_after, LONGEST_PAUSE)
            if self._pause is None or until > self._pause[0]:
                self._pause = until, fault

    def paused(self) -> Transient | None:
        """The fault to raise instead of sending, while the endpoint has asked for a pause."""
        if self._pause is None:
            return None
        until, fault = self._pause
        left = until - self._clock()
        if left <= 0:
            return None
        error = EndpointUnavailable(f"{fault.error}; {left:.0f} s of the pause that it asked for are left")
        return Transient(error, fault.advice, retry_after=left, asked=False)


class Turn:
    """One request: its place among those in flight, and what came of it."""

    def __init__(self, traffic: Traffic, patient: bool, seconds: float) -> None:
        self._traffic = traffic
        self._patient = patient
        self._seconds = seconds
        self._number = 0
        self._told = False
        self._kept = False
        # Seconds of waiting for other requests, which are no fault of the endpoint.
        self.waited = 0.0

    def __enter__(self) -> Self:
        self._check(self._traffic.circuit.outage())
        limiter, began = self._traffic.limiter, time.monotonic()
        number = limiter.enter(urgent=not self._patient, seconds=math.inf if self._patient else self._seconds)
        if number is None:
            error = EndpointUnavailable(
                f"{limiter.limit} requests are in flight, and the endpoint takes no more at once"
            )
            raise Transient(error, "Try again later.", asked=False)
        self._number = number
        self.waited = time.monotonic() - began if self._patient else 0.0
        try:
            if (paused := self._traffic.paused()) is not None:
                raise paused
            self._check(self._traffic.circuit.enter())
        except BaseException:
            limiter.leave()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._told:
            self._traffic.circuit.abandoned()
        if not self._kept:
            self._traffic.limiter.leave()

    def accepted(self, *, over_limit: bool) -> None:
        """It was answered; `over_limit` where the endpoint added that this was more than it likes."""
        self._told = True
        self._traffic.circuit.succeeded()
        if over_limit:
            self._traffic.limiter.overloaded(self._number)
        else:
            self._traffic.limiter.accepted(self._number)

    def failed(self, fault: EndpointError | Transient) -> EndpointError | Transient:
        """It failed; returns what to raise: the fault, or for who is not patient the outage that it belongs to."""
        self._told = True
        traffic = self._traffic
        if not isinstance(fault, Transient):
            traffic.circuit.succeeded()  # it works, and says no
            return fault
        traffic.pause(fault)
        if fault.overload:
            traffic.circuit.succeeded()
            traffic.limiter.overloaded(self._number)
            return fault
        traffic.circuit.failed(str(fault.error))
        outage = traffic.circuit.outage()
        return fault if self._patient or outage is None else _unavailable(outage, ".")

    def keep(self) -> Callable[[], None]:
        """Hold the place beyond the `with` statement, until what is returned is called."""
        self._kept = True
        return self._traffic.limiter.leave

    def _check(self, outage: Outage | None) -> None:
        if outage is None:
            return
        if not self._patient:
            raise _unavailable(outage, ".")
        raise Transient(_unavailable(outage), "Try again later.", retry_after=outage.again_in, asked=False)


def _unavailable(outage: Outage, end: str = "") -> EndpointUnavailable:
    return EndpointUnavailable(
        f"{outage.last}. So it has been for {outage.seconds:.0f} s ({outage.faults} times in a row), and nothing is "
        f"sent until it is tried again in {math.ceil(outage.again_in)} s{end}",
        retry_after=outage.again_in,
    )
