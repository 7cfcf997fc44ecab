"""The circuit: when it opens, whom it lets through, and what callers are told."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citekite.endpoint.circuit import FAILING_SECONDS, FAULTS, OPEN_SECONDS, Circuit
from citekite.endpoint.client import Endpoint
from citekite.endpoint.traffic import LONGEST_PAUSE, Traffic
from citekite.errors import EndpointUnavailable, RequestRefused
from citekite.retry import Transient
from scripted_endpoint import Fault, ScriptedEndpoint


@dataclass
class Clock:
    """A time that a test sets."""

    now: float = 100.0

    def __call__(self) -> float:
        return self.now


def opened(clock: Clock, circuit: Circuit) -> Circuit:
    """The circuit after just as many faults, over just as long, as open it."""
    for _ in range(FAULTS - 1):
        circuit.failed("no connection")
    clock.now += FAILING_SECONDS
    circuit.failed("answered 503")
    return circuit


def test_faults_alone_for_a_while_open_it_and_it_says_why() -> None:
    clock = Clock()
    outage = opened(clock, Circuit(clock)).enter()
    assert outage is not None
    assert (outage.faults, outage.seconds, outage.last) == (FAULTS, FAILING_SECONDS, "answered 503")
    assert outage.again_in == OPEN_SECONDS


def test_neither_many_faults_at_once_nor_few_over_a_long_time_open_it() -> None:
    clock = Clock()
    many, few = Circuit(clock), Circuit(clock)
    for _ in range(10 * FAULTS):
        many.failed("a burst")
    for _ in range(FAULTS - 1):
        few.failed("rare")
        clock.now += 10 * FAILING_SECONDS
    assert many.outage() is None
    assert few.outage() is None


def test_one_request_tries_again_and_closes_it_for_all() -> None:
    clock = Clock()
    circuit = opened(clock, Circuit(clock))
    clock.now += OPEN_SECONDS
    assert circuit.enter() is None
    assert circuit.enter() is not None, "the others wait for the one that tries"
    circuit.succeeded()
    assert circuit.enter() is None
    circuit.failed("one more")
    assert circuit.enter() is None, "the count begins anew"


def test_one_that_tries_in_vain_opens_it_again_and_one_that_is_given_up_lets_another_try() -> None:
    clock = Clock()
    circuit = opened(clock, Circuit(clock))
    clock.now += OPEN_SECONDS
    assert circuit.enter() is None
    circuit.abandoned()
    assert circuit.enter() is None
    circuit.failed("still")
    outage = circuit.enter()
    assert outage is not None
    assert (outage.last, outage.again_in) == ("still", OPEN_SECONDS)


STEPS = st.lists(
    st.tuples(st.sampled_from(["enter", "succeeded", "failed", "abandoned"]), st.floats(0, 4)), max_size=60
)


@given(STEPS)
def test_it_is_open_only_after_faults_alone(steps: list[tuple[str, float]]) -> None:
    clock = Clock()
    circuit = Circuit(clock)
    faults: list[float] = []
    for step, seconds in steps:
        clock.now += seconds
        if step == "enter":
            outage = circuit.enter()
            if outage is not None:
                assert outage.faults == len(faults) >= FAULTS
                assert faults[-1] - faults[0] >= FAILING_SECONDS
                assert 0 < outage.again_in <= OPEN_SECONDS
        elif step == "failed":
            circuit.failed("x")
            faults.append(clock.now)
        elif step == "succeeded":
            circuit.succeeded()
            faults = []
            assert circuit.outage() is None
        else:
            circuit.abandoned()


# What a request meets.


def fault(**options: object) -> Transient:
    return Transient(EndpointUnavailable("it answered 503"), "Try again later.", **options)  # type: ignore[arg-type]


def send(traffic: Traffic, outcome: Exception | None, *, patient: bool = True) -> None:
    """One request that ends like that; raises what its caller is to raise."""
    with traffic.turn(patient=patient, seconds=0) as turn:
        if outcome is None:
            turn.accepted(over_limit=False)
        else:
            raise turn.failed(outcome)  # type: ignore[arg-type]


def failing(clock: Clock) -> Traffic:
    traffic = Traffic(4, clock)
    opened(clock, traffic.circuit)
    return traffic


def test_in_an_outage_who_is_patient_waits_and_who_is_not_is_told_at_once() -> None:
    traffic = failing(Clock())
    with pytest.raises(Transient) as waiting:
        send(traffic, None)
    assert (waiting.value.retry_after, waiting.value.asked) == (OPEN_SECONDS, False)
    with pytest.raises(EndpointUnavailable, match=r"answered 503\. So it has been for 5 s \(5 times.*again in 10 s\.$"):
        send(traffic, None, patient=False)
    assert traffic.limiter.in_flight == 0


def test_who_meets_the_fault_that_opens_it_is_told_at_once_too() -> None:
    clock = Clock()
    traffic = Traffic(4, clock)
    for _ in range(FAULTS):
        with pytest.raises(Transient):
            send(traffic, fault())
    clock.now += FAILING_SECONDS
    with pytest.raises(EndpointUnavailable, match=r"503\. So it has been for 5 s \(6 times in a row\)"):
        send(traffic, fault(), patient=False)


def test_a_refusal_or_an_overload_is_a_sign_of_life() -> None:
    for outcome in (RequestRefused("no"), fault(overload=True)):
        clock = Clock()
        traffic = failing(clock)
        clock.now += OPEN_SECONDS
        with pytest.raises(type(outcome)):
            send(traffic, outcome)
        assert traffic.circuit.outage() is None


def test_a_request_that_tries_and_is_interrupted_lets_another_try() -> None:
    clock = Clock()
    traffic = failing(clock)
    clock.now += OPEN_SECONDS
    with pytest.raises(KeyboardInterrupt), traffic.turn(patient=True):
        raise KeyboardInterrupt
    send(traffic, None)
    assert traffic.circuit.outage() is None


def test_an_absurd_pause_is_kept_for_a_minute_alone() -> None:
    clock = Clock()
    traffic = Traffic(4, clock)
    with pytest.raises(Transient):
        send(traffic, fault(retry_after=86_400.0, overload=True))
    with pytest.raises(Transient, match="60 s of the pause that it asked for are left") as held:
        send(traffic, None)
    assert not held.value.asked
    clock.now += LONGEST_PAUSE
    send(traffic, None)


def test_who_is_not_patient_waits_for_a_place_as_long_as_the_budget_alone() -> None:
    traffic = Traffic(1)
    with traffic.turn(patient=True), pytest.raises(Transient, match="takes no more at once"):
        send(traffic, None, patient=False)


def test_to_wait_for_other_requests_is_no_reason_to_give_up() -> None:
    """One place, and three that take longer together than the budget of each: also where a pause follows the wait."""
    with ScriptedEndpoint(latency=0.3) as endpoint:
        client = Endpoint(endpoint.base_url, retry_seconds=0.5, most_at_once=1)
        endpoint.script(
            "/embeddings", Fault(kind="slow"), Fault(kind="slow"), Fault(503, headers={"Retry-After": "0.1"})
        )
        done: list[object] = []

        def embed() -> None:
            done.append(client.embeddings("m", ["one"], patient=True).shape)

        threads = [threading.Thread(target=embed) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert done == [(1, 64)] * 4


def test_a_question_in_an_outage_fails_soon_the_next_at_once_and_one_after_it_is_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody waits for the whole budget; the same object then lets requests through again."""
    monkeypatch.setattr("citekite.endpoint.circuit.FAILING_SECONDS", 0.1)
    monkeypatch.setattr("citekite.endpoint.circuit.OPEN_SECONDS", 0.2)
    monkeypatch.setattr("citekite.retry.FIRST_DELAY", 0.02)
    with ScriptedEndpoint() as endpoint:
        client = Endpoint(endpoint.base_url, retry_seconds=120)
        client.embeddings("m", ["one"])  # and the SDK is imported
        endpoint.outage = Fault(500, "on fire")
        began = time.monotonic()
        with pytest.raises(EndpointUnavailable, match=r"500: on fire\. So it has been"):
            client.embeddings("m", ["one"])
        asked = len(endpoint.received)
        with pytest.raises(EndpointUnavailable, match="nothing is sent") as told:
            client.embeddings("m", ["one"])
        assert time.monotonic() - began < 3
        assert len(endpoint.received) == asked > FAULTS
        assert told.value.retry_after is not None
        assert [state.outage is not None for state in client.states()] == [True]
        endpoint.outage = None
        time.sleep(told.value.retry_after)
        assert client.embeddings("m", ["one"]).shape == (1, 64)
        assert [state.outage for state in client.states()] == [None]
