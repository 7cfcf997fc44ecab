"""Model endpoints that fail in the middle of a sync, which finishes or can be continued, and below a server."""

from __future__ import annotations

import threading
import time
from collections import Counter
from pathlib import Path

import httpx2
import numpy as np
import pytest

from citekite.embed.vectors import unit_vectors
from citekite.errors import EndpointUnavailable
from citekite.reports import Progress
from citekite.settings import Settings
from scripted_endpoint import Fault, ScriptedEndpoint
from served import serving
from stored import knowledge_base, rows, write

CHUNKS = 120


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """All times a hundredth: the code is the same."""
    monkeypatch.setattr("citekite.retry.FIRST_DELAY", 0.01)
    monkeypatch.setattr("citekite.retry.SPREAD", 0.01)
    monkeypatch.setattr("citekite.endpoint.circuit.FAILING_SECONDS", 0.05)
    monkeypatch.setattr("citekite.endpoint.circuit.OPEN_SECONDS", 0.1)
    monkeypatch.setattr("citekite.endpoint.circuit.TRYING_SECONDS", 0.01)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "docs", {f"{n}.md": f"# Bird {n}\n\nBird number {n} sings.\n" for n in range(CHUNKS)})


def settings_of(endpoint: ScriptedEndpoint, **values: object) -> dict[str, object]:
    return {
        "embedder": "api",
        "base_url": endpoint.base_url,
        "embedding_model": "m",
        "concurrency": 4,
        "batch_size": 4,
        **values,
    }


def check_complete(uri: Path, endpoint: ScriptedEndpoint) -> None:
    """Every chunk is stored once, with its own vector."""
    stored = rows(uri)
    assert len({row["chunk"].text for row in stored.values()}) == len(stored) == CHUNKS
    expected = unit_vectors([endpoint.embed(row["chunk"].indexed_text) for row in stored.values()])
    np.testing.assert_allclose([row["vector"] for row in stored.values()], expected, atol=1e-4)


def test_a_sync_through_all_kinds_of_faults_stores_every_text_once(tmp_path: Path, folder: Path) -> None:
    uri = tmp_path / "faults.db"
    first = write(tmp_path / "first", {"first.md": "# First\n\nThe collection knows the dimension by it.\n"})
    faults = {
        429: 0.1,
        500: 0.05,
        "reset": 0.05,
        "malformed": 0.05,
        "cut": 0.05,
        "wrong_dimension": 0.05,
        "uneven": 0.05,
    }
    with ScriptedEndpoint(seed=5) as endpoint:
        settings = settings_of(endpoint, retry_seconds=30)
        with knowledge_base(uri, **settings) as kb:
            kb.sync(first)
        endpoint.rates = faults  # type: ignore[assignment]
        endpoint.script("/embeddings", Fault(kind="wrong_dimension"))
        with knowledge_base(uri, **settings) as kb:
            report = kb.sync(folder)
            assert (report.failures, report.added) == ((), CHUNKS)
            kb.remove(first)
    check_complete(uri, endpoint)


def outage_after(endpoint: ScriptedEndpoint, fault: Fault, chunks: int, seconds: float | None = None) -> object:
    """A reporter that begins an outage when so many chunks are stored, for so many seconds."""

    def report(progress: Progress) -> None:
        if progress.stage == "embedding" and progress.done >= chunks and not begun.is_set():
            begun.set()
            endpoint.outage = fault
            if seconds is not None:
                threading.Timer(seconds, setattr, (endpoint, "outage", None)).start()

    begun = threading.Event()
    return report


@pytest.mark.parametrize("fault", [Fault(503, "down"), Fault(kind="reset")], ids=["503", "reset"])
def test_an_outage_beyond_the_budget_stops_a_sync_that_the_next_one_continues(
    tmp_path: Path, folder: Path, fault: Fault
) -> None:
    uri = tmp_path / "outage.db"
    with (
        ScriptedEndpoint(latency=0.005) as endpoint,
        knowledge_base(uri, **settings_of(endpoint, retry_seconds=0.6)) as kb,
    ):
        with pytest.raises(EndpointUnavailable, match=r"\(asked \d+ times in \d s\).*the same command goes on from"):
            kb.sync(folder, report=outage_after(endpoint, fault, 40))  # type: ignore[arg-type]
        stored = kb.count()
        assert 40 <= stored < CHUNKS
        assert stored == len(endpoint.embedded), "what was embedded is stored"
        endpoint.outage = None
        assert kb.sync(folder).texts == CHUNKS - stored
        assert set(Counter(endpoint.embedded).values()) == {1}, "nothing is embedded twice"
    check_complete(uri, endpoint)


def test_an_outage_within_the_budget_is_waited_out(tmp_path: Path, folder: Path) -> None:
    """Longer than it takes to open the circuit: a sync is patient."""
    uri = tmp_path / "short.db"
    with (
        ScriptedEndpoint(latency=0.005) as endpoint,
        knowledge_base(uri, **settings_of(endpoint, retry_seconds=20)) as kb,
    ):
        report = kb.sync(folder, report=outage_after(endpoint, Fault(503), 40, seconds=0.5))  # type: ignore[arg-type]
        assert report.texts == CHUNKS
        assert set(Counter(endpoint.embedded).values()) == {1}
        in_vain = len(endpoint.requests("/embeddings")) - CHUNKS // 4
        assert 5 <= in_vain < 40, "an endpoint that is down is left alone but for a request now and then"
    check_complete(uri, endpoint)


def test_a_server_in_an_outage_answers_at_once_shows_it_and_recovers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("citekite.endpoint.circuit.OPEN_SECONDS", 30)
    folder = write(tmp_path / "docs", {"kites.md": "# Kites\n\nThe red kite has a forked tail.\n"})
    uri, question = tmp_path / "served.db", {"question": "What tail has the red kite?"}
    with knowledge_base(uri) as kb:
        kb.sync(folder)
    with ScriptedEndpoint(pieces=["A forked one [1]."]) as endpoint:
        settings = Settings(uri=str(uri), embedder="static", base_url=endpoint.base_url, model="m", retry_seconds=60)
        with serving(settings) as url, httpx2.Client(base_url=url, timeout=30) as client:
            gauge = f'citekite_endpoint_circuit_open{{endpoint="{endpoint.base_url}",model="m"}}'
            assert client.post("/api/v1/ask", json=question).json()["text"] == "A forked one [1]."
            assert f"{gauge} 0.0" in client.get("/metrics").text
            endpoint.outage = Fault(500)
            client.post("/api/v1/ask", json=question)
            asked, began = len(endpoint.received), time.monotonic()
            problem = client.post("/api/v1/ask", json=question)
            assert (problem.status_code, problem.json()["title"]) == (503, "EndpointUnavailable")
            assert int(problem.headers["retry-after"]) >= 1
            assert "it is tried again in" in problem.json()["detail"]
            assert len(endpoint.received) == asked
            assert time.monotonic() - began < 5
            assert f"{gauge} 1.0" in client.get("/metrics").text
            endpoint.outage = None
            monkeypatch.setattr("citekite.endpoint.circuit.OPEN_SECONDS", 0)  # they are over
            assert client.post("/api/v1/ask", json=question).json()["text"] == "A forked one [1]."
            assert f"{gauge} 0.0" in client.get("/metrics").text


def test_all_collections_of_a_process_share_what_is_known_of_an_endpoint(tmp_path: Path) -> None:
    with ScriptedEndpoint() as endpoint, knowledge_base(tmp_path / "a.db", **settings_of(endpoint)) as kb:
        kb.embed("a question")
        (state,) = kb.in_collection("other").endpoints()
    assert (state.address, state.model, state.in_flight, state.outage) == (endpoint.base_url, "m", 0, None)
