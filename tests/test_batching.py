"""Batches: every item gets the vector of its text, whatever the endpoint and the reader do."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
import weakref
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from citekite.embed.api import ApiEmbedder
from citekite.embed.batching import Embedded, Refused, embed_in_batches
from citekite.embed.static import StaticEmbedder
from citekite.embed.vectors import unit_vectors
from citekite.endpoint.client import Endpoint
from citekite.errors import EndpointDenied, EndpointUnavailable, RequestRefused
from citekite.ports import Vectors
from scripted_endpoint import Fault, ScriptedEndpoint


def embedder_of(
    endpoint: ScriptedEndpoint, *, concurrency: int = 4, batch_size: int = 256, retry_seconds: float = 10
) -> ApiEmbedder:
    client = Endpoint(endpoint.base_url, retry_seconds=retry_seconds, connections=concurrency)
    return ApiEmbedder(client, "m", concurrency=concurrency, batch_size=batch_size)


def sizes(endpoint: ScriptedEndpoint) -> list[int]:
    return [len(request.texts) for request in endpoint.requests("/embeddings")]


def check_vectors(endpoint: ScriptedEndpoint, result: Embedded[str]) -> None:
    expected = unit_vectors([endpoint.embed(text) for text in result.items])
    np.testing.assert_allclose(result.vectors, expected, atol=1e-6)


def store(run: Iterator[Embedded[str] | Refused[str]], stored: list[str]) -> None:
    for result in run:
        stored += result.items


class Picky:
    """An embedder in this process that refuses large batches and certain texts."""

    name, dimension, english_only, max_tokens = "picky", 2, False, 100

    def __init__(self, concurrency: int, batch_size: int, limit: int, refused: frozenset[str]) -> None:
        self.concurrency, self.batch_size, self.limit, self.refused = concurrency, batch_size, limit, refused
        self.calls: list[list[str]] = []

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        self.calls.append(list(texts))
        if len(texts) > self.limit or self.refused & set(texts):
            raise RequestRefused("no")
        return np.array([[float(text), 1.0] for text in texts], dtype=np.float32)

    def embed_query(self, text: str) -> Vectors:
        return self.embed_documents([text])[0]


@settings(max_examples=150)
@given(
    texts=st.lists(st.integers(0, 60).map(str), max_size=120),
    refused=st.frozensets(st.integers(0, 60).map(str), max_size=4),
    concurrency=st.sampled_from([1, 2, 5]),
    batch_size=st.integers(1, 40),
    limit=st.integers(1, 40),
    window=st.integers(1, 70),
)
def test_every_item_comes_back_once_with_its_own_vector(
    texts: list[str], refused: frozenset[str], concurrency: int, batch_size: int, limit: int, window: int
) -> None:
    """Whatever is refused by size or by text, and in whichever order requests return."""
    embedder = Picky(concurrency, batch_size, limit, refused)
    items = list(enumerate(texts))
    back: list[tuple[int, str]] = []
    try:
        for result in embed_in_batches(embedder, iter(items), lambda item: item[1], window=window):
            back += result.items
            if isinstance(result, Embedded):
                assert [row[0] for row in result.vectors] == [float(text) for _, text in result.items]
                assert not refused & {text for _, text in result.items}
                assert result.texts == len({text for _, text in result.items})
            else:
                assert len({text for _, text in result.items}) == 1
                assert result.items[0][1] in refused
    except RequestRefused:
        # only where nothing was ever accepted, and it took three texts to say so
        singles = [call[0] for call in embedder.calls if len(call) == 1]
        assert len(refused & set(singles)) >= 3
        assert back == []
    else:
        assert sorted(back) == items
    assert all(len(call) <= batch_size for call in embedder.calls)


class SlowToAccept(Picky):
    """Refusals overtake what is accepted."""

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        vectors = super().embed_documents(texts)
        time.sleep(0.05)
        return vectors


def test_refusals_that_overtake_an_accepted_text_do_not_end_the_run() -> None:
    embedder = SlowToAccept(concurrency=4, batch_size=1, limit=1, refused=frozenset("012"))
    results = list(embed_in_batches(embedder, "0123456789", str))
    assert sorted(item for result in results for item in result.items) == list("0123456789")
    assert sum(isinstance(result, Refused) for result in results) == 3


def test_one_refused_text_that_comes_again_is_not_taken_for_many() -> None:
    embedder = Picky(concurrency=1, batch_size=1, limit=1, refused=frozenset("0"))
    results = list(embed_in_batches(embedder, "000001", str, window=1))
    assert [result.items for result in results] == [["1"], ["0"] * 5]


def test_equal_texts_are_sent_once() -> None:
    with ScriptedEndpoint() as endpoint:
        items = ["one", "two", "one", "three", "two", "one"]
        results = list(embed_in_batches(embedder_of(endpoint), items, str))
        assert Counter(endpoint.texts()) == {"one": 1, "two": 1, "three": 1}
        assert Counter(item for result in results for item in result.items) == Counter(items)
        assert sum(result.texts for result in results if isinstance(result, Embedded)) == 3


def test_one_wave_of_requests_uses_the_whole_pool() -> None:
    with ScriptedEndpoint(latency=0.3) as endpoint:
        results = list(embed_in_batches(embedder_of(endpoint, concurrency=8), map(str, range(80)), str))
        assert sizes(endpoint) == [10] * 8
        assert endpoint.most_at_once == 8
        for result in results:
            assert isinstance(result, Embedded)
            check_vectors(endpoint, result)


def test_a_large_job_sends_each_batch_as_it_fills() -> None:
    """Only the first window is waited for; after it a slow reader holds up one batch, not a window of them."""
    embedder = Picky(concurrency=4, batch_size=2, limit=2, refused=frozenset())

    def items() -> Iterator[str]:
        for number in range(20):
            if number == 8 + 2:
                deadline = time.monotonic() + 10
                while len(embedder.calls) < 5:
                    assert time.monotonic() < deadline, "ten items are read, and the last two wait for more"
                    time.sleep(0.005)
            yield str(number)

    results = list(embed_in_batches(embedder, items(), str, window=8))
    assert sorted(int(item) for result in results for item in result.items) == list(range(20))
    assert sorted(map(len, embedder.calls)) == [2] * 10


def test_a_text_that_is_on_its_way_is_not_sent_again() -> None:
    with ScriptedEndpoint(latency=0.3) as endpoint:
        results = list(embed_in_batches(embedder_of(endpoint, concurrency=2), ["a", "b", "a", "b", "a"], str, window=2))
        assert sorted(endpoint.texts()) == ["a", "b"]
        assert Counter(item for result in results for item in result.items) == {"a": 3, "b": 2}


def test_no_more_requests_at_once_than_the_pool_has() -> None:
    with ScriptedEndpoint(latency=0.01) as endpoint:
        list(embed_in_batches(embedder_of(endpoint, concurrency=3, batch_size=2), map(str, range(60)), str))
        assert endpoint.most_at_once == 3


def test_long_texts_share_a_request_up_to_the_token_cap() -> None:
    with ScriptedEndpoint() as endpoint:
        texts = [f"{number} " + "long text " * 16_000 for number in range(5)]  # 40,000 tokens each
        list(embed_in_batches(embedder_of(endpoint, concurrency=2), texts, str))
        assert sorted(sizes(endpoint)) == [1, 2, 2]


@pytest.mark.parametrize("status", [400, 413])
def test_the_batch_limit_of_the_endpoint_is_learned_by_halving(status: int) -> None:
    with ScriptedEndpoint(max_batch=10, batch_status=status) as endpoint:
        items = [str(number) for number in range(400)]
        results = list(embed_in_batches(embedder_of(endpoint, batch_size=64), items, str))
        assert sorted(item for result in results for item in result.items) == sorted(items)
        refused = [size for size in sizes(endpoint) if size > 10]
        assert len(refused) < 20, "the limit is learned once, not from every batch"
        assert sizes(endpoint)[-20:] == [8] * 20


def test_one_bad_text_is_reported_and_does_not_shrink_the_other_batches() -> None:
    with ScriptedEndpoint(refused_text="poison") as endpoint:
        items = [*map(str, range(300)), "poison", "poison", *map(str, range(300, 600))]
        results = list(embed_in_batches(embedder_of(endpoint, batch_size=50), items, str))
        refused = [result for result in results if isinstance(result, Refused)]
        assert [result.items for result in refused] == [["poison", "poison"]]
        assert "not acceptable" in str(refused[0].error)
        assert sum(len(result.items) for result in results) == 602
        assert sizes(endpoint).count(50) == 12
        assert len(endpoint.received) < 12 + 2 * 8


def test_an_endpoint_that_refuses_everything_is_given_up_soon() -> None:
    with ScriptedEndpoint(refused_fields=["model"]) as endpoint:
        with pytest.raises(RequestRefused, match="Extra inputs"):
            list(embed_in_batches(embedder_of(endpoint), map(str, range(2000)), str))
        assert len(endpoint.received) < 100


def test_a_failure_keeps_what_is_paid_for() -> None:
    """The batches that were in flight are yielded before the error, and nothing further is sent."""
    with ScriptedEndpoint(latency=0.2) as endpoint:
        endpoint.script("/embeddings", Fault(401, "who are you"))
        stored: list[str] = []
        with pytest.raises(EndpointDenied, match="who are you"):
            store(embed_in_batches(embedder_of(endpoint, batch_size=5), map(str, range(500)), str), stored)
        assert len(stored) == 15
        assert len(endpoint.received) == 4


def test_a_failure_of_the_reader_keeps_what_is_in_flight() -> None:
    def items() -> Iterator[str]:
        yield from map(str, range(20))
        raise OSError("the disk is gone")

    with ScriptedEndpoint(latency=0.1) as endpoint:
        stored: list[str] = []
        with pytest.raises(OSError, match="the disk is gone"):
            store(embed_in_batches(embedder_of(endpoint), items(), str, window=20), stored)
        assert len(stored) == 20


def test_a_fault_beyond_the_budget_ends_the_run_after_the_rest() -> None:
    with ScriptedEndpoint() as endpoint:
        endpoint.script("/embeddings", Fault(503, "overloaded"))
        run = embed_in_batches(embedder_of(endpoint, retry_seconds=0), map(str, range(40)), str)
        stored: list[str] = []
        with pytest.raises(EndpointUnavailable, match="overloaded"):
            store(run, stored)
        assert len(stored) == 30


def test_a_stop_is_noticed_while_an_endpoint_that_is_down_lets_nothing_return(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("citekite.embed.batching.PATIENCE_SECONDS", 0.1)
    with ScriptedEndpoint(rates={503: 1.0}) as endpoint:
        stopped = threading.Event()
        threading.Timer(0.3, stopped.set).start()
        run = embed_in_batches(
            embedder_of(endpoint, retry_seconds=60), map(str, range(40)), str, stopped=stopped.is_set
        )
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            list(run)
        assert time.monotonic() - began < 20, "well within the retry budget"


def test_scattered_faults_lose_nothing() -> None:
    with ScriptedEndpoint(rates={429: 0.1, 500: 0.05}, seed=3) as endpoint:
        items = [str(number) for number in range(300)]
        results = list(embed_in_batches(embedder_of(endpoint, concurrency=8, batch_size=10), items, str))
        assert sorted(item for result in results for item in result.items) == sorted(items)
        assert len(endpoint.received) > 30
        assert all(isinstance(result, Embedded) for result in results)


def test_items_are_read_and_kept_two_windows_at_most() -> None:
    """A corpus of any size streams through: what was yielded and dropped is not held."""

    class Item:
        def __init__(self, number: int) -> None:
            self.text = f"text {number}"

    alive: weakref.WeakSet[Item] = weakref.WeakSet()
    most = 0

    def items() -> Iterator[Item]:
        nonlocal most
        for number in range(2000):
            item = Item(number)
            alive.add(item)
            most = max(most, len(alive))
            yield item

    with ScriptedEndpoint(dimension=8) as endpoint:
        for _ in embed_in_batches(embedder_of(endpoint), items(), lambda item: item.text, window=100):
            pass
        assert len(endpoint.texts()) == 2000
    assert most <= 2 * 100 + 2 * 25 + 1, "two windows, the two batches just yielded, and the item being made"


def test_batches_that_have_returned_are_one_result_up_to_half_of_the_requests_at_once() -> None:
    with ScriptedEndpoint(dimension=8) as endpoint:
        sizes_by_pause = []
        for pause in (0.0, 0.3):
            run = embed_in_batches(embedder_of(endpoint, concurrency=4, batch_size=5), map(str, range(60)), str)
            yielded = []
            for result in run:
                yielded.append(len(result.items))
                assert isinstance(result, Embedded)
                check_vectors(endpoint, result)
                time.sleep(pause)  # in which all that is in flight returns
            assert sum(yielded) == 60
            sizes_by_pause.append(yielded)
    assert set(sizes_by_pause[0]) <= {5, 10}
    assert sizes_by_pause[1][1:-1] == [10] * len(sizes_by_pause[1][1:-1])


def test_a_caller_that_stops_early_stops_the_requests() -> None:
    with ScriptedEndpoint(latency=0.02) as endpoint:
        run = embed_in_batches(embedder_of(endpoint, batch_size=2), map(str, range(1000)), str)
        next(run)
        run.close()  # type: ignore[attr-defined]
        time.sleep(0.1)
        assert len(endpoint.received) <= 9


def test_static_vectors_need_no_threads() -> None:
    embedder = StaticEmbedder()
    results = list(embed_in_batches(embedder, ["a word", "another", "a word"], str))
    (result,) = results
    assert isinstance(result, Embedded)
    assert result.items == ["a word", "a word", "another"]
    np.testing.assert_allclose(result.vectors[2], embedder.embed_documents(["another"])[0])


def test_nothing_to_embed_asks_nothing() -> None:
    with ScriptedEndpoint() as endpoint:
        assert list(embed_in_batches(embedder_of(endpoint), [], str)) == []
        assert endpoint.received == []


INTERRUPTED = """
import sys
from citekite.embed.api import ApiEmbedder
from citekite.embed.batching import embed_in_batches
from citekite.endpoint.client import Endpoint
embedder = ApiEmbedder(Endpoint(sys.argv[1]), "m", concurrency=4, batch_size=5)
try:
    for result in embed_in_batches(embedder, map(str, range(1000)), str):
        print(len(result.items), flush=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def test_ctrl_c_keeps_what_is_in_flight_and_ends_soon(tmp_path: Path) -> None:
    with ScriptedEndpoint(latency=0.4) as endpoint:
        command = [sys.executable, "-c", INTERRUPTED, endpoint.base_url]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path) as process:
            assert process.stdout is not None
            first = 0
            while first < 20:
                first += int(process.stdout.readline())
            time.sleep(0.2)  # the next four are in flight now
            process.send_signal(signal.SIGINT)
            started = time.monotonic()
            rest = process.stdout.read().split()
            process.wait(10)
            assert time.monotonic() - started < 3
        assert first == 20
        assert sum(map(int, rest[:-1])) == 20
        assert rest[-1] == "interrupted"
        assert len(endpoint.received) == 8
