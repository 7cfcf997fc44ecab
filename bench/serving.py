"""A server under load: a hundred answers streamed at once from a slow model, and searches by several clients at once.

One server process, one process with a scripted model, and this one, all on the same machine.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.report import ROOT, Result, data, publish
from bench.speed import citekite, environment, faq_questions

# The first rounds warm up: imports, caches, and the memory that the allocator keeps for each thread.
STREAMS, ROUNDS, WARM_UP = 100, 5, 2
PIECES, PIECE_MS = 40, 50
CLIENTS = (1, 8, 32)
SEARCH_SECONDS = 4.0


@dataclass(frozen=True, slots=True)
class Reply:
    """One streamed answer: whether it was complete, and when its first and last event came."""

    done: bool
    first: float
    last: float


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary, slow_model() as base_url:
        database = str(Path(temporary) / "docs.db")
        citekite("sync", str(data("milvus_docs/en")), "--uri", database, "--json", "--quiet")
        questions = faq_questions(data("milvus_docs/en/faq"))
        with server(database, base_url) as (port, pid):
            title = f"{STREAMS} answers at once, {PIECES} pieces {PIECE_MS} ms apart, in {ROUNDS} rounds"
            publish("serving-streams", title, streams(port, pid, questions))
            title = "Searches over 196 documentation files, by clients that each send one after the other"
            publish("serving-searches", title, searches(port, questions))


def streams(port: int, pid: int, questions: Sequence[str]) -> list[Result]:
    """Rounds of streams that all begin at once: none fails, and later rounds leave no more memory behind."""
    began = resident_mb(pid), processor_seconds(pid)
    rounds, memory = [], []
    for _ in range(ROUNDS):
        rounds.append(asyncio.run(_round(port, questions)))
        memory.append(resident_mb(pid))
    spent = processor_seconds(pid) - began[1]
    replies = [reply for one in rounds for reply in one]
    firsts = [1000 * reply.first for reply in replies]
    return [
        Result(f"failed, of {len(replies)}", sum(not reply.done for reply in replies), at_most=0),
        Result("first event, p50", statistics.median(firsts), "ms"),
        Result("first event, p95", _percentile(firsts, 95), "ms"),
        Result("last event, p95", _percentile([reply.last for reply in replies], 95), "s"),
        Result("time of the model alone", PIECES * PIECE_MS / 1000, "s"),
        Result("processor time of the server for one answer", 1000 * spent / len(replies), "ms"),
        Result("memory before", began[0], "MB"),
        *(Result(f"memory after round {number}", mb, "MB") for number, mb in enumerate(memory, start=1)),
        Result("growth over the last three rounds", memory[-1] - memory[WARM_UP - 1], "MB", at_most=10),
    ]


def searches(port: int, questions: Sequence[str]) -> list[Result]:
    """Requests a second and their times, by the number of clients that each send one after the other."""
    results = []
    for clients in CLIENTS:
        times = asyncio.run(_search_all(port, questions, clients))
        who = f"{clients} client{'s' if clients > 1 else ''}"
        results += [
            Result(f"{who}: searches a second", len(times) / SEARCH_SECONDS),
            Result(f"{who}: p50", 1000 * statistics.median(times), "ms"),
            Result(f"{who}: p95", 1000 * _percentile(times, 95), "ms"),
        ]
    return results


async def _round(port: int, questions: Sequence[str]) -> list[Reply]:
    asked = itertools.islice(itertools.cycle(questions), STREAMS)
    return await asyncio.gather(*(_stream(port, question) for question in asked))


async def _stream(port: int, question: str) -> Reply:
    started = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(_request("/ask/stream", question, "close"))
    events: list[tuple[bytes, float]] = []
    while line := await reader.readline():
        if line.startswith(b"event: "):
            events.append((line.split()[1], time.perf_counter() - started))
    writer.close()
    if not events:
        return Reply(False, 0.0, 0.0)
    return Reply(events[-1][0] == b"Done", events[0][1], events[-1][1])


async def _search_all(port: int, questions: Sequence[str], clients: int) -> list[float]:
    """The times of all searches that ended within the time."""
    ends = time.perf_counter() + SEARCH_SECONDS
    times: list[float] = []

    async def client(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**22)
        for question in itertools.islice(itertools.cycle(questions), number, None):
            started = time.perf_counter()
            writer.write(_request("/search", question, "keep-alive"))
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].split()[0])
            await reader.readexactly(length)
            if not head.startswith(b"HTTP/1.1 200 "):
                raise RuntimeError(f"a search was refused: {head.splitlines()[0].decode()}")
            if time.perf_counter() > ends:
                break
            times.append(time.perf_counter() - started)
        writer.close()

    await asyncio.gather(*(client(number) for number in range(clients)))
    return times


def _request(path: str, question: str, connection: str) -> bytes:
    body = json.dumps({"question": question}).encode()
    head = (
        f"POST /api/v1{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Connection: {connection}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _percentile(values: Sequence[float], percent: int) -> float:
    return statistics.quantiles(values, n=100)[percent - 1]


def resident_mb(pid: int) -> float:
    """The memory that a process holds now."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def processor_seconds(pid: int) -> float:
    """The processor time that a process has used."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


@contextmanager
def server(database: str, base_url: str) -> Iterator[tuple[int, int]]:
    """The port and the process of a server that answers with the scripted model."""
    port = _free_port()
    options = ["--uri", database, "--port", str(port), "--base-url", base_url, "--model", "stand-in"]
    process = subprocess.Popen(
        [sys.executable, "-m", "citekite", "serve", *options, "--requests-per-minute", "1000000"],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for(f"http://127.0.0.1:{port}/readyz")
        yield port, process.pid
    finally:
        process.terminate()
        process.wait()


def _free_port() -> int:
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _wait_for(url: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(url, timeout=10).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


@contextmanager
def slow_model() -> Iterator[str]:
    """The base URL of a chat model that streams slowly, in a process of its own."""
    script = str(ROOT / "tests" / "scripted_endpoint.py")
    options = ["--pieces", str(PIECES), "--piece-ms", str(PIECE_MS)]
    process = subprocess.Popen([sys.executable, script, *options], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()
