"""Answers over HTTP: a client who leaves ends the model's request, and the server has room for so many and no more."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from fastapi import FastAPI

from citekite import cancel
from citekite.endpoint.client import Endpoint
from citekite.errors import EndpointUnavailable, InternalError, ServerBusy, StoreUnreachable
from citekite.events import Delta, Event
from citekite.ports import Message
from citekite.remote.knowledge_base import RemoteKnowledgeBase
from citekite.serve import run as run_module
from citekite.serve import sse as sse_module
from citekite.serve import workers as workers_module
from citekite.serve.app import create_app
from citekite.serve.principal import OWNER
from citekite.serve.workers import AHEAD, Workers
from citekite.settings import Settings
from citekite.store import limits
from commands import command, write_docs
from forked import Forked, environment
from scripted_endpoint import Fault, ScriptedEndpoint
from served import serving
from stored import free_port, knowledge_base, milvus_process

ASK = {"question": "Where does Milvus keep inserted data?"}
TEN_PIECES = [f"piece {number} " for number in range(10)]


class Served:
    """A server over a small collection whose vectors and answers come from a scripted endpoint."""

    def __init__(self, app: FastAPI, url: str, endpoint: ScriptedEndpoint) -> None:
        self.app, self.url, self.endpoint = app, url, endpoint
        self.workers: Workers = app.state.service.workers
        self.client = httpx2.Client(base_url=f"{url}/api/v1", timeout=20)

    def all_free_within(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self.workers.free < self.workers.limit and time.monotonic() < deadline:
            time.sleep(0.01)
        return self.workers.free == self.workers.limit


@pytest.fixture(scope="module")
def module_served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    with ScriptedEndpoint() as endpoint:
        settings = Settings(
            uri=str(folder / "docs.db"),
            embedder="api",
            embedding_model="stand-in",
            base_url=endpoint.base_url,
            model="stand-in",
            max_streams=4,
        )
        app = create_app(settings)
        app.state.service.knowledge_base(OWNER).sync(write_docs(folder))
        with serving(settings, app) as url:
            yield Served(app, url, endpoint)


@pytest.fixture
def served(module_served: Served) -> Iterator[Served]:
    """The server, with an endpoint that answers at once in the documents' words."""
    endpoint = module_served.endpoint
    endpoint.pieces, endpoint.piece_seconds = None, 0.0
    endpoint.closed_early.clear()
    yield module_served
    assert module_served.all_free_within(2.0)


def events(response: httpx2.Response) -> Iterator[tuple[str, dict[str, Any]]]:
    """The events of a stream as they come."""
    name = ""
    for line in response.iter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))


def test_a_stream_has_the_events_of_the_answer(served: Served) -> None:
    with served.client.stream("POST", "/ask/stream", json=ASK) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        found = list(events(response))

    names = [name for name, _ in found]
    assert (names[0], names[-1]) == ("Retrieved", "Done")
    answer = found[-1][1]["answer"]
    assert "".join(values["text"] for name, values in found if name == "Delta") == answer["text"]
    assert answer["outcome"] == "answered"
    assert [citation["number"] for citation in answer["citations"]] == [1, 2]


# What the endpoint does in each phase of an answer; returns the path at which its request then hangs.


def before_the_first_byte(endpoint: ScriptedEndpoint) -> str:
    endpoint.script("/chat/completions", Fault(kind="slow", seconds=10))
    return "/chat/completions"


def between_two_pieces(endpoint: ScriptedEndpoint) -> str:
    endpoint.piece_seconds = 10
    return "/chat/completions"


def while_the_question_is_embedded(endpoint: ScriptedEndpoint) -> str:
    endpoint.script("/embeddings", Fault(kind="slow", seconds=10))
    return "/embeddings"


PHASES = (before_the_first_byte, between_two_pieces, while_the_question_is_embedded)


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("path", ["/ask/stream", "/ask"])
def test_a_client_who_leaves_ends_the_request_to_the_model_within_a_second(
    served: Served, path: str, phase: Callable[[ScriptedEndpoint], str]
) -> None:
    left = _leave_during(served, path, phase(served.endpoint))

    assert served.endpoint.closed_early.wait(1.0 - (time.monotonic() - left))
    assert served.all_free_within(1.0 - (time.monotonic() - left))


def test_a_client_who_leaves_a_search_ends_its_embedding(served: Served) -> None:
    left = _leave_during(served, "/search", while_the_question_is_embedded(served.endpoint))

    assert served.endpoint.closed_early.wait(1.0 - (time.monotonic() - left))


def test_a_client_who_leaves_during_the_pause_before_another_attempt_ends_the_attempts(served: Served) -> None:
    served.endpoint.script("/chat/completions", Fault(503, headers={"Retry-After": "1.2"}))
    asked = len(served.endpoint.requests("/chat/completions"))

    left = _leave_during(served, "/ask/stream", "/chat/completions")

    assert served.all_free_within(1.0 - (time.monotonic() - left))
    time.sleep(1.0)
    assert len(served.endpoint.requests("/chat/completions")) == asked + 1


def _leave_during(served: Served, path: str, upstream: str) -> float:
    """Ask, close the connection soon after the endpoint was asked at `upstream`, and say when that was."""
    asked = len(served.endpoint.requests(upstream))
    port = httpx2.URL(served.url).port or 0
    body = json.dumps(ASK).encode()
    head = f"POST /api/v1{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"

    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        while len(served.endpoint.requests(upstream)) == asked:
            time.sleep(0.01)
        time.sleep(0.2)
        assert served.workers.free == served.workers.limit - 1
        assert not served.endpoint.closed_early.is_set()
    return time.monotonic()


def test_a_full_server_says_when_to_come_again_before_a_stream_has_begun(served: Served) -> None:
    between_two_pieces(served.endpoint)
    streams = [served.client.stream("POST", "/ask/stream", json=ASK) for _ in range(served.workers.limit)]
    for stream in streams:
        stream.__enter__()
    try:
        refused = [served.client.post(path, json=ASK) for path in ("/ask/stream", "/ask", "/search")]
    finally:
        for stream in streams:
            stream.__exit__(None, None, None)

    for response in refused:
        assert (response.status_code, response.headers["retry-after"]) == (503, "1")
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["title"] == "ServerBusy"


def test_more_streams_than_a_pool_of_connections_has_run_at_once(served: Served) -> None:
    served.endpoint.pieces, served.endpoint.piece_seconds = TEN_PIECES, 0.02

    def ask(_: int) -> str:
        with served.client.stream("POST", "/ask/stream", json=ASK) as response:
            return list(events(response))[-1][0]

    with ThreadPoolExecutor(served.workers.limit) as pool:
        assert list(pool.map(ask, range(3 * served.workers.limit))) == ["Done"] * 3 * served.workers.limit


def test_an_error_in_the_middle_is_an_event_with_what_had_come(served: Served) -> None:
    served.endpoint.pieces = TEN_PIECES
    served.endpoint.script("/chat/completions", Fault(kind="error_event", after=3, message="out of memory"))

    with served.client.stream("POST", "/ask/stream", json=ASK) as response:
        name, values = list(events(response))[-1]

    assert name == "Failed"
    assert values["problem"]["title"] == "EndpointUnavailable"
    assert values["partial"].startswith("piece 0 piece 1")


def test_an_error_in_the_middle_of_an_answer_in_one_piece_has_what_had_come(served: Served) -> None:
    served.endpoint.pieces = TEN_PIECES
    for _ in range(3):
        served.endpoint.script("/chat/completions", Fault(kind="error_event", after=3, message="out of memory"))
    problem = served.client.post("/ask", json=ASK).json()
    asked = {"model": "citekite", "messages": [{"role": "user", "content": ASK["question"]}]}
    error = served.client.post(f"{served.url}/v1/chat/completions", json=asked).json()["error"]
    with RemoteKnowledgeBase(served.url) as kb, pytest.raises(EndpointUnavailable) as raised:
        kb.ask(ASK["question"])

    assert (problem["title"], error["type"]) == ("EndpointUnavailable", "EndpointUnavailable")
    for partial in (problem["partial"], error["partial"], raised.value.partial):
        assert partial.startswith("piece 0 piece 1")


def test_a_bug_is_logged_and_tells_the_client_nothing_of_the_inside(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> Iterator[Event]:
        yield Delta("So far ")
        raise ZeroDivisionError("the secret inside")

    monkeypatch.setattr("citekite.knowledge_base.KnowledgeBase.ask_stream", broken)
    with caplog.at_level(logging.ERROR):
        response = served.client.post("/ask", json=ASK)
        with served.client.stream("POST", "/ask/stream", json=ASK) as stream:
            name, values = list(events(stream))[-1]

    assert (response.status_code, response.json()["title"]) == (500, "InternalError")
    problem, other = values["problem"], response.json()
    assert problem.pop("request_id") != other.pop("request_id")
    assert (name, problem, values["partial"]) == ("Failed", other, "So far ")
    assert "secret" not in response.text
    assert caplog.text.count("ZeroDivisionError: the secret inside") == 2


def test_a_silent_stream_is_kept_alive_with_comments(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse_module, "KEEP_ALIVE_SECONDS", 0.1)
    served.endpoint.script("/chat/completions", Fault(kind="slow", seconds=0.5))

    with served.client.stream("POST", "/ask/stream", json=ASK) as response:
        text = response.read().decode()

    assert text.count(": keep-alive\n\n") >= 3
    assert text.rindex(": keep-alive") < text.index("event: Delta")
    assert "event: Done" in text


# The workers by themselves.


def test_a_slow_reader_holds_the_iterator_up() -> None:
    given = 0

    def numbers() -> Iterator[int]:
        nonlocal given
        while given < 1000:
            given += 1
            yield given

    async def read() -> int:
        workers = Workers(1)
        stream = workers.stream(numbers)
        assert await anext(stream) == 1
        await asyncio.sleep(0.1)
        held_at = given
        assert [number async for number in stream] == list(range(2, 1001))
        return held_at

    assert asyncio.run(read()) <= AHEAD + 2


def test_a_reader_who_takes_nothing_for_too_long_loses_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers_module, "READER_SECONDS", 0.05)
    closed = threading.Event()

    def endless() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.set()

    async def ignore() -> int:
        workers = Workers(1)
        workers.stream(endless)
        await asyncio.sleep(0.2)
        return workers.free

    assert asyncio.run(ignore()) == 1
    assert closed.is_set()


def test_all_steps_of_a_stream_run_in_one_thread() -> None:
    seen: list[int] = []

    def steps() -> Iterator[int]:
        try:
            for number in range(5):
                seen.append(threading.get_ident())
                yield number
        finally:
            seen.append(threading.get_ident())

    async def read() -> None:
        workers = Workers(8)
        await asyncio.gather(*(workers.call(lambda: time.sleep(0.01)) for _ in range(8)))
        async for number in workers.stream(steps):
            if number == 2:
                break

    asyncio.run(read())
    assert len(set(seen)) == 1


def test_a_call_that_nobody_awaits_any_more_is_cancelled() -> None:
    ended = threading.Event()

    def work() -> None:
        try:
            cancel.sleep(10)
        except cancel.Cancelled:
            ended.set()
            raise

    async def leave() -> None:
        workers = Workers(1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(workers.call(work), 0.05)
        await workers.close(grace_seconds=0.5)

    asyncio.run(leave())
    assert ended.is_set()


def test_closing_lets_what_runs_end_and_cancels_what_takes_longer() -> None:
    def steps(count: int) -> Iterator[int]:
        for number in range(count):
            cancel.sleep(0.05)
            yield number

    async def read(workers: Workers, count: int) -> list[int]:
        return [number async for number in workers.stream(lambda: steps(count))]

    async def close() -> None:
        workers = Workers(4)
        short, long = (asyncio.create_task(read(workers, count)) for count in (4, 1000))
        call = asyncio.create_task(workers.call(lambda: cancel.sleep(10)))
        await asyncio.sleep(0.05)
        began = time.monotonic()
        closing = asyncio.create_task(workers.close(grace_seconds=0.4))
        await asyncio.sleep(0.01)
        with pytest.raises(ServerBusy, match="shutting down"):
            workers.stream(lambda: steps(1))
        await closing

        assert 0.4 <= time.monotonic() - began < 1.0
        assert await short == [0, 1, 2, 3]
        for cancelled in (long, call):
            with pytest.raises(ServerBusy, match="shutting down"):
                await cancelled
        assert workers.free == workers.limit

    asyncio.run(close())


def test_a_place_is_free_when_the_result_is_there() -> None:
    async def one_after_the_other() -> None:
        workers = Workers(1)
        for number in range(200):
            assert await workers.call(lambda number=number: number) == number

    asyncio.run(one_after_the_other())


def test_an_error_of_ours_passes_and_a_bug_becomes_an_internal_error() -> None:
    def ours() -> None:
        raise StoreUnreachable("no server")

    def bug() -> None:
        raise KeyError("x")

    async def both() -> None:
        workers = Workers(1)
        with pytest.raises(StoreUnreachable, match="no server"):
            await workers.call(ours)
        with pytest.raises(InternalError):
            await workers.call(bug)

    asyncio.run(both())


# The connections to the endpoint.


def test_a_request_over_tls_ends_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate = _certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with ScriptedEndpoint(pieces=TEN_PIECES, piece_seconds=0.05) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server._server.socket = context.wrap_socket(server._server.socket, server_side=True)
        endpoint = Endpoint(server.base_url.replace("http://127.0.0.1", "https://localhost"))
        stopped = threading.Event()
        with cancel.cancelled_when(stopped.is_set):
            whole = list(endpoint.chat("m", [Message("user", "?")], max_tokens=100, temperature=0))
            assert "".join(piece.text for piece in whole) == "".join(TEN_PIECES)
            server.piece_seconds = 10
            pieces = endpoint.chat("m", [Message("user", "?")], max_tokens=100, temperature=0)
            threading.Timer(0.3, stopped.set).start()
            began = time.monotonic()
            with pytest.raises(cancel.Cancelled):
                list(pieces)
    assert 0.2 < time.monotonic() - began < 1.0


def _certificate(folder: Path) -> Path:
    """A certificate for localhost with its key, in one file."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "localhost.pem"
    private = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + key.private_bytes(*private))
    return path


@pytest.mark.parametrize("watched", [False, True])
def test_an_endpoint_that_drips_for_ever_is_given_up(watched: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Comments keep the connection alive, and no silence is ever as long as the timeout."""
    monkeypatch.setattr("citekite.endpoint.client.TOTAL_TIMEOUTS", 2)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_drip, args=(listener,), daemon=True).start()
        endpoint = Endpoint(f"http://127.0.0.1:{listener.getsockname()[1]}/v1", timeout=0.5, retry_seconds=0.5)
        assert endpoint._client  # the first one takes its time to be imported
        began = time.monotonic()
        watching = cancel.cancelled_when(lambda: False) if watched else nullcontext()
        with watching, pytest.raises(EndpointUnavailable, match="the reply was not whole after 1 s"):
            list(endpoint.chat("m", [Message("user", "?")], max_tokens=10, temperature=0))
    assert 0.9 < time.monotonic() - began < 3.0


def _drip(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    with connection, suppress(OSError):
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
        for _ in range(1000):
            connection.sendall(b": still here\n\n")
            time.sleep(0.04)


def test_a_milvus_server_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "READ_SECONDS", 0.5)
    with milvus_process(tmp_path / "milvus") as (uri, process), knowledge_base(uri) as kb:
        kb.sync(write_docs(tmp_path))
        process.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        try:
            with pytest.raises(StoreUnreachable, match="no Milvus server answers"):
                kb.search(ASK["question"])
        finally:
            process.send_signal(signal.SIGCONT)
    assert time.monotonic() - began < 3


# The process: `citekite serve` is told to stop while it answers.


def test_a_server_that_is_told_to_stop_finishes_the_stream_under_way(tmp_path: Path) -> None:
    with knowledge_base(tmp_path / "citekite.db") as kb:
        kb.sync(write_docs(tmp_path))
    port = free_port()
    with ScriptedEndpoint(pieces=TEN_PIECES, piece_seconds=0.1) as endpoint:
        process = Forked(
            command("serve", "--port", str(port), "--base-url", endpoint.base_url, "--model", "stand-in"),
            cwd=tmp_path,
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            _wait_until_alive(port, process)
            url = f"http://127.0.0.1:{port}/api/v1/ask/stream"
            names = []
            with httpx2.stream("POST", url, json=ASK, timeout=20) as response:
                for name, _ in events(response):
                    if name == "Delta" and "Delta" not in names:
                        process.send_signal(signal.SIGTERM)
                    names.append(name)
            assert names[-1] == "Done"
            assert process.wait(10) in (0, -signal.SIGTERM)
        finally:
            process.kill()
            _, said = process.communicate()
    assert "Traceback" not in said
    with knowledge_base(tmp_path / "citekite.db") as kb:  # it was closed
        assert kb.count() == 4


def test_a_stream_that_outlasts_the_grace_of_a_shutdown_ends_with_a_failed_event(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "GRACE_SECONDS", 0.3)
    between_two_pieces(served.endpoint)
    app = create_app(served.app.state.service.settings)
    app.state.service._knowledge_base = served.app.state.service._knowledge_base  # the database is open already
    listener = socket.create_server(("127.0.0.1", 0))
    server = run_module.graceful_server(uvicorn.Config(app, log_config=None, lifespan="off"), app.state.service)
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/api/v1/ask/stream"
        with httpx2.stream("POST", url, json=ASK, timeout=20) as response:
            coming = events(response)
            assert next(coming)[0] == "Retrieved"
            server.should_exit = True
            began = time.monotonic()
            name, values = list(coming)[-1]
        assert (name, values["problem"]["title"]) == ("Failed", "ServerBusy")
        assert "shutting down" in values["problem"]["detail"]
        assert time.monotonic() - began < 1.5
        assert served.endpoint.closed_early.wait(1)
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()


def _wait_until_alive(port: int, process: Forked) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        assert process.poll() is None, process.stderr and process.stderr.read()
        try:
            httpx2.get(f"http://127.0.0.1:{port}/healthz")
        except httpx2.ConnectError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("the server does not answer")
