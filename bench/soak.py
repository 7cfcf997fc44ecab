"""Hours of mixed use in minutes: clients that sync, upload, remove, search, ask and leave, against one server process.

The model endpoint refuses, fails and hangs now and then. A model of the truth says what the collection must hold; at
quiet points it is compared with every document that the server has. Memory, threads and open files of the server are
read from /proc all the while.
"""

from __future__ import annotations

import random
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

from bench.kills import embedding
from bench.report import ROOT, Result, publish
from bench.serving import processor_seconds, resident_mb
from bench.speed import environment

FILES, UPLOADS, SECTIONS = 24, 12, 6
# Of the time, this much at the beginning is not judged: imports, caches, and what the allocator keeps for each thread.
WARM_UP = 1 / 3
CHECK_SECONDS = 15.0
SAMPLE_SECONDS = 0.5
# Seconds between two actions of a client, on average.
THINK = {"sync": 2.0, "uploads": 1.5, "search": 0.3, "ask": 1.0, "leave": 1.0, "documents": 1.0}
# What the slope of the samples after the warm-up may add up to until the end.
MOST_MB, MOST_THREADS, MOST_FILES = 30, 8, 16
# A server that was told to stop has ended by then, also on a machine that is busy.
END_SECONDS = 60
RATES = {429: 0.03, 500: 0.02}


@dataclass(frozen=True, slots=True)
class Sample:
    """The server process at one moment."""

    seconds: float
    memory: float
    threads: int
    files: int


@dataclass(frozen=True, slots=True)
class Report:
    """What a soak found."""

    results: Sequence[Result]
    differences: Sequence[str]
    failures: Counter[str]
    log: str


@dataclass(slots=True)
class Truth:
    """The text of each document that must be stored, by source; `lock` is held while a client changes it."""

    texts: dict[str, str] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)


def text_of(name: str, drawn: random.Random) -> str:
    """A document of a few sections, some of which are those of its last version."""
    sections = range(drawn.randint(2, SECTIONS))
    return f"# Bird {name}\n\n" + "\n".join(
        f"## Habit {one}\n\nBird {name} has habit {one} of {drawn.randint(1, 5)} places near the lake.\n"
        for one in sections
    )


class Soak:
    """One server, its clients, and what must be stored."""

    def __init__(self, url: str, folder: Path, seed: int, pace: float) -> None:
        self._url = url
        self._docs = folder
        self._pace = pace
        self._seed = seed
        self._ends = 0.0
        self._synced = Truth()
        self._uploaded = Truth()
        for number in range(FILES // 2):
            path = folder / f"{number}.md"
            path.write_text(text_of(path.stem, random.Random(number)), encoding="utf-8")
            self._synced.texts[str(path)] = path.read_text(encoding="utf-8")
        self.done: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.differences: list[str] = []
        self.checks = self.most_chunks = 0

    def run(self, seconds: float, sample: Callable[[], None]) -> None:
        """Let all clients work for so long; compare now and then, and at the end."""
        self._check()  # which makes the collection
        self._ends = time.monotonic() + seconds
        actions: dict[str, Callable[[Any, random.Random], None]] = {
            "sync": self._sync,
            "uploads": self._upload_or_remove,
            "search": self._search,
            "ask": self._ask,
            "leave": self._leave,
            "documents": self._documents,
        }
        clients = [threading.Thread(target=self._client, args=one, name=one[0]) for one in actions.items()]
        for client in clients:
            client.start()
        checked = time.monotonic()
        while any(client.is_alive() for client in clients):
            sample()
            time.sleep(SAMPLE_SECONDS)
            if time.monotonic() > checked + CHECK_SECONDS:
                self._check()
                checked = time.monotonic()
        self._check()

    def _client(self, name: str, act: Callable[[Any, random.Random], None]) -> None:
        from citekite.errors import CitekiteError, EndpointError

        drawn = random.Random(f"{self._seed} {name}")
        with self._knowledge_base() as kb:
            while time.monotonic() < self._ends:
                try:
                    act(kb, drawn)
                    self.done[name] += 1
                except EndpointError:  # the endpoint failed for longer than it is asked again
                    self.done["answered by an error of the endpoint"] += 1
                except CitekiteError as error:
                    self.failures[f"{name}: {type(error).__name__}: {error}"] += 1
                time.sleep(drawn.expovariate(1 / (THINK[name] * self._pace)))

    def _knowledge_base(self) -> Any:
        from citekite.remote.knowledge_base import RemoteKnowledgeBase

        return RemoteKnowledgeBase(self._url, same_machine=True)

    def _sync(self, kb: Any, drawn: random.Random) -> None:
        """Change a few files of a folder, make some and delete some, and sync it."""
        with self._synced.lock:
            texts = dict(self._synced.texts)
            for _ in range(drawn.randint(1, 4)):
                path = self._docs / f"{drawn.randrange(FILES)}.md"
                if drawn.random() < 0.2:
                    path.unlink(missing_ok=True)
                    texts.pop(str(path), None)
                else:
                    texts[str(path)] = text_of(path.stem, drawn)
                    path.write_text(texts[str(path)], encoding="utf-8")
            self._synced.texts = texts  # also where the sync fails: the next one brings it about
            kb.sync(self._docs, prune=True)

    def _upload_or_remove(self, kb: Any, drawn: random.Random) -> None:
        with self._uploaded.lock:
            name = f"upload-{drawn.randrange(UPLOADS)}.md"
            source = f"upload://shared/{name}"
            if source in self._uploaded.texts and drawn.random() < 0.4:
                kb.remove(source)
                del self._uploaded.texts[source]
                return
            text = text_of(name.removesuffix(".md"), drawn)
            job = kb._client.upload("documents", dict, [(name, text.encode())])
            from citekite.remote.jobs import Follower

            Follower(kb._client, lambda progress: None, lambda: False).follow(job)
            self._uploaded.texts[source] = text

    def _search(self, kb: Any, drawn: random.Random) -> None:
        kb.search(self._question(drawn), mode=drawn.choice(("hybrid", "dense", "lexical")), k=drawn.randint(1, 10))

    def _ask(self, kb: Any, drawn: random.Random) -> None:
        kb.ask(self._question(drawn))

    def _leave(self, kb: Any, drawn: random.Random) -> None:
        """Go away in the middle of an answer."""
        with closing(kb.ask_stream(self._question(drawn))) as events:
            for _ in range(drawn.randint(1, 6)):
                next(events, None)

    def _documents(self, kb: Any, drawn: random.Random) -> None:
        from citekite.errors import UnknownDocument

        found = kb.documents()
        if found:
            try:
                kb.document(drawn.choice(found).id)
            except UnknownDocument:  # removed meanwhile
                self.done["removed before it was read"] += 1
        kb.status()

    def _question(self, drawn: random.Random) -> str:
        return f"How many places has habit {drawn.randrange(SECTIONS)} of bird {drawn.randrange(FILES)}?"

    def _check(self) -> None:
        """Compare every document with the truth, while no client writes."""
        from citekite.errors import CitekiteError

        with self._synced.lock, self._uploaded.lock, self._knowledge_base() as kb:
            for _ in range(10):  # what a failed sync left undone
                try:
                    kb.sync(self._docs, prune=True)
                    break
                except CitekiteError as error:
                    self.done[f"sync repeated after {type(error).__name__}"] += 1
            truth = {**self._synced.texts, **self._uploaded.texts}
            stored = {one.source: kb.document(one.id) for one in kb.documents()}
            chunks = kb.status().chunks
        self.checks += 1
        self.most_chunks = max(self.most_chunks, chunks)
        expected = sum(map(_chunks, truth.values()))
        self.differences += [f"lost: {source}" for source in truth.keys() - stored.keys()]
        self.differences += [f"not to be there: {source}" for source in stored.keys() - truth.keys()]
        for source in truth.keys() & stored.keys():
            held = stored[source]
            if held.text.strip() != truth[source].strip() or len(held.chunks) != _chunks(truth[source]):
                self.differences.append(f"{source} has other chunks: {held.text!r} and not {truth[source]!r}")
        if chunks != expected:
            self.differences.append(f"{chunks} chunks and not {expected}")


def _chunks(text: str) -> int:
    return len(re.findall(r"(?m)^#", text))


def slope(points: Sequence[tuple[float, float]]) -> float:
    """The median of the slopes between all points (Theil and Sen): a few outliers do not move it.

    >>> slope([(0, 1), (1, 2), (2, 3), (3, 99), (4, 5)])
    1.0
    """
    return statistics.median((b - y) / (a - x) for (x, y), (a, b) in combinations(points, 2))


def growth(samples: Sequence[Sample], of: Callable[[Sample], float]) -> float:
    """How much a figure grew by its slope from the end of the warm-up to the end."""
    start, end = samples[0].seconds, samples[-1].seconds
    judged = [one for one in samples if one.seconds >= start + WARM_UP * (end - start)]
    step = max(1, len(judged) // 400)  # the slopes are as many as the square of the points
    return slope([(one.seconds, of(one)) for one in judged[::step]]) * (1 - WARM_UP) * (end - start)


def soak(minutes: float, *, seed: int = 0, pace: float = 1.0) -> Report:
    """Run it for so long; a higher `pace` lets the clients think longer."""
    samples: list[Sample] = []
    with tempfile.TemporaryDirectory() as temporary, embedding(rates=RATES, latency=0.01) as endpoint:
        folder = Path(temporary)
        docs = folder / "docs"
        docs.mkdir()
        with served(folder, endpoint.base_url) as (url, pid):
            run = Soak(url, docs, seed, pace)
            run.run(60 * minutes, lambda: samples.append(sample(pid)))
            spent = processor_seconds(pid)
        log = (folder / "server.log").read_text(encoding="utf-8")
    results = [
        *(Result(name, count) for name, count in sorted(run.done.items())),
        Result("comparisons with what must be stored", run.checks),
        Result("chunks in the collection, at most", run.most_chunks),
        Result("chunks lost, doubled or wrong", len(run.differences), at_most=0),
        Result("requests that failed otherwise than by the endpoint", sum(run.failures.values()), at_most=0),
        Result("tracebacks in the server's log", log.count("Traceback"), at_most=0),
        Result("memory of the server at the end", samples[-1].memory, "MB"),
        Result("growth of memory after the warm-up", growth(samples, lambda one: one.memory), "MB", at_most=MOST_MB),
        Result("growth of threads", growth(samples, lambda one: one.threads), at_most=MOST_THREADS),
        Result("most threads", max(one.threads for one in samples)),
        Result("growth of open files", growth(samples, lambda one: one.files), at_most=MOST_FILES),
        Result("most open files", max(one.files for one in samples)),
        Result("processor time of the server, of one core", 100 * spent / (60 * minutes), "%"),
    ]
    return Report(results, run.differences, run.failures, log)


def sample(pid: int) -> Sample:
    """The memory, threads and open files of a process now."""
    process = Path(f"/proc/{pid}")
    threads, files = len(list((process / "task").iterdir())), len(list((process / "fd").iterdir()))
    return Sample(time.monotonic(), resident_mb(pid), threads, files)


@contextmanager
def served(folder: Path, base_url: str) -> Iterator[tuple[str, int]]:
    """The address and the process of a server with this endpoint, its log beside its database."""
    options = ["--uri", folder / "soak.db", "--port", "0", "--base-url", base_url, "--model", "stand-in"]
    embedder = ["--embedder", "api", "--embedding-model", "stand-in", "--requests-per-minute", "1000000"]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "citekite", "serve", *options, *embedder],
            cwd=ROOT,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r" at (http://\S+?)/ ", line)
        if found is None:
            raise RuntimeError(f"the server did not start: {(folder / 'server.log').read_text()}")
        yield found[1], process.pid
    finally:
        process.terminate()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            raise RuntimeError(f"the server does not end: {(folder / 'server.log').read_text()}") from None
        finally:
            process.stdout.close()


def main(minutes: float = 2.0) -> None:
    found = soak(minutes)
    for line in (*found.differences[:20], *(f"{count} x {text}" for text, count in found.failures.most_common(20))):
        print(line, file=sys.stderr)
    publish("soak", f"{minutes:g} minutes of mixed use of one server", found.results)
