"""How many requests are in flight: the laws of the limiter, and an endpoint whose limit is found and held."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citekite import cancel
from citekite.embed.api import ApiEmbedder
from citekite.embed.batching import Embedded, embed_in_batches
from citekite.endpoint.client import Endpoint
from citekite.endpoint.concurrency import Limiter
from scripted_endpoint import Fault, ScriptedEndpoint

STEPS = st.lists(st.tuples(st.sampled_from(["enter", "accepted", "overloaded", "leave"]), st.integers(0, 30)))


@given(ceiling=st.integers(1, 12), steps=STEPS)
def test_the_limit_keeps_its_bounds_and_halves_once_a_round(ceiling: int, steps: list[tuple[str, int]]) -> None:
    limiter = Limiter(ceiling)
    in_flight: list[int] = []
    newest, decreased_at = 0, 0
    for step, choice in steps:
        before = limiter._limit
        number = in_flight[choice % len(in_flight)] if in_flight else 0
        if step == "enter":
            entered = limiter.enter(seconds=0)
            assert (entered is not None) == (len(in_flight) < limiter.limit)
            if entered is not None:
                newest = entered
                in_flight.append(entered)
        elif in_flight and step == "accepted":
            limiter.accepted(number)
            assert before <= limiter._limit <= before + 1 / int(before)
        elif in_flight and step == "overloaded":
            limiter.overloaded(number)
            if number > decreased_at:
                assert limiter._limit == max(1.0, min(before, len(in_flight)) / 2)
                decreased_at = newest
            else:
                assert limiter._limit == before, "what was in flight together counts once"
        elif in_flight:
            limiter.leave()
            in_flight.remove(number)
        assert 1 <= limiter.limit <= ceiling
        assert limiter.in_flight == len(in_flight)


@given(ceiling=st.integers(2, 40), low=st.integers(1, 20))
def test_a_round_that_goes_well_makes_one_place_more(ceiling: int, low: int) -> None:
    limiter = Limiter(ceiling)
    limiter._limit = float(min(low, ceiling))
    for _ in range(3):
        before = limiter.limit
        numbers = [limiter.enter(seconds=0) for _ in range(before)]
        for number in numbers:
            assert number is not None
            limiter.accepted(number)
        for _ in numbers:
            limiter.leave()
        # the rounding of 1/3 + 1/3 + 1/3 may cost a hair
        assert limiter._limit == pytest.approx(min(ceiling, before + 1), abs=0.35)
        assert before <= limiter.limit <= before + 1


def test_places_that_nobody_uses_make_no_more() -> None:
    limiter = Limiter(8)
    limiter._limit = 4.0
    number = limiter.enter()
    assert number is not None
    limiter.accepted(number)
    assert limiter.limit == 4


def test_who_is_urgent_goes_first_and_a_leaving_one_holds_nobody_up() -> None:
    limiter = Limiter(1)
    limiter.enter()
    order: list[str] = []

    def take(name: str, urgent: bool) -> None:
        limiter.enter(urgent=urgent)
        order.append(name)
        limiter.leave()

    threads = [threading.Thread(target=take, args=arguments) for arguments in (("sync", False), ("question", True))]
    for thread in threads:
        thread.start()
        time.sleep(0.02)
    assert limiter.enter(urgent=True, seconds=0.02) is None
    limiter.leave()
    for thread in threads:
        thread.join(5)
    assert order == ["question", "sync"]


def test_a_wait_for_a_place_ends_when_nobody_waits_for_the_work() -> None:
    limiter = Limiter(1)
    limiter.enter()
    with cancel.cancelled_when(lambda: True), pytest.raises(cancel.Cancelled):
        limiter.enter()
    assert limiter.in_flight == 1


def embed(endpoint: ScriptedEndpoint, texts: int, *, concurrency: int = 16, batch_size: int = 2) -> ApiEmbedder:
    """Embed so many texts, each once, and return the embedder."""
    embedder = ApiEmbedder(Endpoint(endpoint.base_url), "m", concurrency=concurrency, batch_size=batch_size)
    items = [str(number) for number in range(texts)]
    results = list(embed_in_batches(embedder, items, str))
    assert all(isinstance(result, Embedded) for result in results)
    assert sorted(item for result in results for item in result.items) == sorted(items)
    return embedder


def test_the_limit_of_a_stricter_endpoint_is_found_and_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes four at once: no error, few refusals, and in flight are about four from then on."""
    monkeypatch.setattr("citekite.retry.FIRST_DELAY", 0.02)
    with ScriptedEndpoint(latency=0.03, takes_at_once=4, dimension=4) as endpoint:
        embedder = embed(endpoint, 320)
        sent, taken = len(endpoint.requests("/embeddings")), len(endpoint.at_once)
        assert taken == 160
        assert taken / sent > 0.75, "most requests succeed"
        assert embedder.concurrency <= 6
        later = endpoint.at_once[60:]
        assert 2 <= sum(later) / len(later) <= 4


def test_an_endpoint_that_says_it_is_over_its_limit_is_slowed_down_for_without_a_refusal() -> None:
    with ScriptedEndpoint(latency=0.05, over_limit=4, dimension=4) as endpoint:
        embed(endpoint, 240)
        assert len(endpoint.requests("/embeddings")) == len(endpoint.at_once) == 120
        assert endpoint.most_at_once > 6
        later = endpoint.at_once[40:]
        assert 2 <= sum(later) / len(later) <= 5


def test_a_limit_of_requests_a_second_is_kept_with_the_pauses_that_are_asked_for() -> None:
    """Forty requests at thirty a second: without a hold for all, each of sixteen senders would be refused in turn."""
    with ScriptedEndpoint(takes_a_second=30, dimension=4) as endpoint:
        embed(endpoint, 80)
        assert len(endpoint.at_once) == 40
        assert len(endpoint.requests("/embeddings")) <= 40 + 16 + 8


def test_a_pause_holds_all_senders() -> None:
    with ScriptedEndpoint(dimension=4) as endpoint:
        client = Endpoint(endpoint.base_url)
        endpoint.script("/embeddings", Fault(429, headers={"Retry-After": "0.4"}))
        began = time.monotonic()
        told = threading.Thread(target=client.embeddings, args=("m", ["one"]))
        told.start()
        time.sleep(0.1)
        client.embeddings("m", ["two"])
        assert time.monotonic() - began >= 0.4
        told.join()
        assert len(endpoint.received) == 3


def test_a_model_that_is_overloaded_does_not_slow_down_another() -> None:
    with ScriptedEndpoint(dimension=4) as endpoint:
        client = Endpoint(endpoint.base_url, retry_seconds=0)
        endpoint.script("/embeddings", Fault(429, headers={"Retry-After": "30"}))
        with pytest.raises(Exception, match="429"):
            client.embeddings("busy", ["one"])
        with pytest.raises(Exception, match="of the pause that it asked for"):
            client.embeddings("busy", ["one"])
        assert client.embeddings("idle", ["one"]).shape == (1, 4)
        assert len(endpoint.received) == 2
