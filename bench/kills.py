"""SIGKILL at any time of what writes, then the same command again: what is stored must be what a clean run stores.

Each trial is a process of its own, forked from one that has imported everything, and killed by a real SIGKILL: at a
random time of the job, or before a random one of its file operations, so that steps that take no time are hit too.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from hashlib import blake2b
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from bench.report import ROOT, Result, save, table

BY_TIME, BY_OPERATION = 50, 25
DOCUMENTS, SECTIONS = 24, 8
BATCH, CONCURRENCY, LATENCY = 8, 2, 0.02
# The texts of the requests in flight, of one result that was handed over, and of one that is being stored.
IN_FLIGHT = (CONCURRENCY + 2) * BATCH
QUESTIONS = ("habits of bird 7", "where does bird 11 nest", "the song of bird 3")
MODES = ("hybrid", "dense", "lexical")
# What a job does, in this order; the mark that a trial left last is the stage in which it was killed.
STAGES = ("opening", "writing", "flushing", "the index", "swapping", "closing", "reported")
_PRELOAD = ("bench.kills", "pymilvus", "milvus_lite.server_manager", "scipy.sparse", "tantivy", "openai", "citekite")
# What Python tells an audit hook of files: making, changing, renaming and deleting them.
_OPERATIONS = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a trial works: its folder, and the endpoint that embeds for it."""

    folder: Path
    base_url: str
    database: str = "birds.db"

    @property
    def uri(self) -> Path:
        return self.folder / self.database

    def settings(self, model: str = "first") -> Any:
        """These settings, and nothing of the environment."""
        from citekite.settings import Settings

        values = {"uri": str(self.uri), "embedder": "api", "base_url": self.base_url, "api_key": "k"}
        limits = {"batch_size": BATCH, "concurrency": CONCURRENCY}
        return Settings.model_validate({**values, **limits, "embedding_model": model})

    def knowledge_base(self, model: str = "first") -> Any:
        """A knowledge base with these settings."""
        from citekite import KnowledgeBase

        return KnowledgeBase(settings=self.settings(model))


@dataclass(frozen=True, slots=True)
class Job:
    """What is killed: `prepare` makes the state that `run` starts from, `model` embeds what it leaves.

    A job that is not `repeatable` would do everything again where it had nothing left to do but to close and say so.
    """

    prepare: Callable[[Place], None]
    run: Callable[[Place], None]
    model: str = "first"
    repeatable: bool = True


@dataclass(frozen=True, slots=True)
class Kill:
    """When a trial is killed: after `seconds`, or before its file operation of that number."""

    seconds: float = 60.0
    operation: int = 0


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of one kill: where it hit, how many texts the rerun sent again, and what differs from a clean run."""

    stage: str
    again: int
    difference: str


def birds(folder: Path, numbers: range, version: int) -> None:
    """Documents of several sections; in a second version every other one has a section that changed, and a new one."""
    for number in numbers:
        habits = (
            f"## Habit {habit}\n\nBird {number} has habit {habit} of {number * habit}"
            f"{' by now' if version > 1 and number % 2 and habit == 3 else ''}.\n"
            for habit in range(SECTIONS + (version > 1 and number % 2))
        )
        path = folder / ("forest" if number % 3 else "shore") / f"{number}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# Bird {number}\n\n" + "\n".join(habits), encoding="utf-8")


def _nothing(place: Place) -> None:
    birds(place.folder / "docs", range(DOCUMENTS), 1)


def _synced(place: Place) -> None:
    _nothing(place)
    _sync(place)


def _outdated(place: Place) -> None:
    _synced(place)
    for number in range(4):
        (place.folder / "docs" / ("forest" if number % 3 else "shore") / f"{number}.md").unlink()
    birds(place.folder / "docs", range(4, DOCUMENTS + 6), 2)


def _sync(place: Place) -> None:
    with place.knowledge_base() as kb:
        kb.sync(place.folder / "docs", prune=True)
        mark("closing")


def _remove(place: Place) -> None:
    from citekite.errors import StoreError

    with place.knowledge_base() as kb:
        with suppress(StoreError):  # nothing of it is stored any more
            kb.remove(place.folder / "docs" / "forest")
        mark("closing")


def _reindex(place: Place) -> None:
    with place.knowledge_base("second") as kb:
        kb.reindex()
        mark("closing")


def _elsewhere(place: Place) -> None:
    _synced(replace(place, database="source.db"))


def _copy(place: Place) -> None:
    from citekite.errors import CollectionExists
    from citekite.transfer.copying import copy_collection

    settings = place.settings()
    source = str(place.folder / "source.db")
    with suppress(CollectionExists):  # the copy has its name, so it is complete
        copy_collection(settings, source, settings.collection, replacing=False, report=lambda progress: None)


JOBS: Mapping[str, Job] = {
    "first sync": Job(_nothing, _sync),
    "sync of changes": Job(_outdated, _sync),
    "remove": Job(_synced, _remove),
    "copy": Job(_elsewhere, _copy),
    "reindex": Job(_synced, _reindex, model="second", repeatable=False),
}

_stage: Any = None


def mark(stage: str) -> None:
    """Leave word of the stage that begins, where the process that kills reads it."""
    if _stage is not None:
        _stage.value = STAGES.index(stage)


def _instrument() -> None:
    """Let the steps of a write mark their beginning."""
    from citekite.store.milvus import MilvusStore
    from citekite.store.search_index import SearchIndex
    from citekite.store.writer import Writer

    def marking(owner: type, name: str, stage: str) -> None:
        step = getattr(owner, name)

        def marked(*arguments: Any, **named: Any) -> Any:
            mark(stage)
            return step(*arguments, **named)

        setattr(owner, name, marked)

    marking(Writer, "_start", "writing")
    marking(Writer, "_flush", "flushing")
    marking(SearchIndex, "commit", "the index")
    marking(MilvusStore, "swap", "swapping")


def _die_before(operation: int, counted: Any) -> None:
    """Count this process's file operations from now on, and kill it before one of them."""

    guard = threading.Lock()

    def heard(event: str, arguments: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if event in _OPERATIONS or writes:
            with guard:
                counted.value += 1
                if counted.value == operation:
                    os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(heard)


def perform(name: str, place: Place, stage: Any, operation: int, counted: Any, ready: Any) -> None:
    """The process of a trial: do the job, and say how far it is."""
    global _stage
    _stage = stage
    _instrument()
    _die_before(operation, counted)
    ready.set()
    JOBS[name].run(place)
    mark("reported")


def examine(name: str, place: Place, again: bool, answer: Any) -> None:
    """The process that runs the job again, where it is to be, and looks at what is stored then.

    That is every chunk with its vector, what is found, and what lies about.
    """
    job = JOBS[name]
    if again:
        job.run(place)
    with place.knowledge_base(job.model) as kb:
        collection = kb.collection()
        entries = {entry.chunk.id: entry for entry in collection.entries()}
        vectors = collection.vectors(list(entries))
        rows = {
            id: _digest(entry.chunk, entry.digest, entry.chunks, vectors[id].round(5).tolist())
            for id, entry in entries.items()
        }
        # By BM25, how often a word occurs counts also what was deleted since the index was made; the best by the dense
        # leg are the same whatever was there before.
        found = {question: _hits(kb, question, "dense") for question in QUESTIONS}
        indexed = _indexed(collection)
        left = {
            "count": kb.count(),
            "embedder": collection.record.embedder,
            "collections": sorted(path.name for path in (place.uri / "collections").iterdir()),
            "indexes": sorted(path.name for path in (_index_of(place) / "default").iterdir()),
        }
    del collection  # and with it the index
    shutil.rmtree(_index_of(place))
    with place.knowledge_base(job.model) as kb:
        anew = {f"{mode}: {question}": _hits(kb, question, mode) for question in QUESTIONS for mode in MODES}
    answer.send({"rows": rows, "indexed": indexed, "found": found, "found anew": anew, **left})


def _hits(kb: Any, question: str, mode: str) -> list[tuple[str, float]]:
    return [(hit.chunk.id, round(hit.score, 4)) for hit in kb.search(question, mode=mode)]


def _indexed(collection: Any) -> list[list[str]]:
    """The ids in the lexical and in the vector index beside the database."""
    import tantivy

    searcher = collection._index._lexical._index.searcher()
    hits = searcher.search(tantivy.Query.all_query(), 10_000, count=False).hits
    served = collection._index._vectors._served
    vectors = sorted(id.decode() for id in served.ids[served.alive])
    return [sorted(str(searcher.doc(address)["id"][0]) for _, address in hits), vectors]


def _index_of(place: Place) -> Path:
    return place.uri.with_name(f"{place.uri.name}.index")


def _digest(*values: Any) -> str:
    return blake2b(repr(values).encode(), digest_size=8).hexdigest()


class Trials:
    """The trials of one job, with what each starts from and what each must end with."""

    def __init__(self, name: str, folder: Path, endpoint: Any, runs: int = 3) -> None:
        self._name = name
        self._job = JOBS[name]
        self._folder = folder
        self._endpoint = endpoint
        self._context: Any = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(list(_PRELOAD))
        # Sources are paths, so every trial works in a folder of the same name.
        self._place = Place(folder / "trial", endpoint.base_url)
        self._start = folder / "start"
        self._reset()
        self._wait(self._process(self._job.prepare, self._place))
        shutil.copytree(self._place.folder, self._start)
        clean = [self._undisturbed() for _ in range(runs)]
        self.seconds = statistics.median(seconds for seconds, _ in clean)
        self.operations = min(operations for _, operations in clean)
        self._clean = self._examined(again=False)

    def kill(self, kill: Kill) -> Trial:
        """Start the job, kill it, run it again, and compare."""
        self._reset()
        sent = len(self._endpoint.texts())
        stage = self._begin(kill)
        found = self._examined(again=self._job.repeatable or stage not in ("closing", "reported"))
        texts = Counter(text for text in self._endpoint.texts()[sent:] if text not in QUESTIONS)
        again = sum(texts.values()) - len(texts)
        return Trial(stage, again, difference(self._clean, found))

    def _begin(self, kill: Kill) -> str:
        """Let the job run until it is killed; returns the stage that it was in."""
        stage, counted, ready = self._shared()
        process = self._process(perform, self._name, self._place, stage, kill.operation, counted, ready)
        ready.wait(30)
        process.join(kill.seconds)
        if process.is_alive():
            process.kill()
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL), f"{self._name} failed before it was killed"
        return STAGES[stage.value]

    def _shared(self) -> tuple[Any, Any, Any]:
        """The stage and the number of operations of a process, without the lock that one killed in it would leave
        locked, and the event that it has begun."""
        stage, counted = (self._context.Value("i", 0, lock=False) for _ in range(2))
        return stage, counted, self._context.Event()

    def _undisturbed(self) -> tuple[float, int]:
        """The time and the number of file operations of the whole job."""
        self._reset()
        stage, counted, ready = self._shared()
        process = self._process(perform, self._name, self._place, stage, 0, counted, ready)
        ready.wait(30)
        started = time.perf_counter()
        self._wait(process)
        return time.perf_counter() - started, counted.value

    def _examined(self, *, again: bool) -> dict[str, Any]:
        reader, writer = self._context.Pipe(duplex=False)
        process = self._process(examine, self._name, self._place, again, writer)
        writer.close()
        try:
            found: dict[str, Any] = reader.recv()
        except EOFError:
            found = {}
        self._wait(process)
        return found

    def _process(self, target: Callable[..., None], *arguments: Any) -> BaseProcess:
        process: BaseProcess = self._context.Process(target=target, args=arguments)
        process.start()
        return process

    def _wait(self, process: BaseProcess) -> None:
        process.join(60)
        if process.exitcode != 0:
            raise RuntimeError(f"{self._name}: a run that nothing disturbed ended with {process.exitcode}")

    def _reset(self) -> None:
        shutil.rmtree(self._place.folder, ignore_errors=True)
        if self._start.exists():
            shutil.copytree(self._start, self._place.folder)
        else:
            self._place.folder.mkdir(parents=True)


def difference(clean: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """What is stored otherwise than after a clean run, in words; empty where nothing is.

    >>> difference({"count": 2, "rows": {"a": 1, "b": 1}}, {"count": 1, "rows": {"b": 2, "c": 1}})
    '1 lost, 1 too many, 1 changed, count: 1 and not 2'
    """
    expected, stored = clean["rows"], found["rows"]
    counts = {
        "lost": len(expected.keys() - stored.keys()),
        "too many": len(stored.keys() - expected.keys()),
        "changed": sum(expected[id] != stored[id] for id in expected.keys() & stored.keys()),
    }
    words = [f"{number} {word}" for word, number in counts.items() if number]
    others = (name for name in clean if name != "rows" and clean[name] != found[name])
    return ", ".join(words + [f"{name}: {found[name]!r:.200} and not {clean[name]!r:.200}" for name in others])


def kills(trials: Trials, seed: int, by_time: int, by_operation: int) -> Iterator[Kill]:
    """Random times, one in each equal part of the job's time, and as many of its file operations."""
    drawn = random.Random(seed)
    for number in range(by_time):
        yield Kill(seconds=trials.seconds * (number + drawn.random()) / by_time)
    for operation in sorted(drawn.sample(range(1, trials.operations + 1), min(by_operation, trials.operations))):
        yield Kill(operation=operation)


@contextmanager
def embedding(**values: Any) -> Iterator[Any]:
    """An endpoint of this process that remembers what it was sent; `values` are those of `ScriptedEndpoint`."""
    sys.path.append(str(ROOT / "tests"))
    from scripted_endpoint import ScriptedEndpoint

    with ScriptedEndpoint(**{"latency": LATENCY, **values}) as endpoint:
        yield endpoint


def main() -> None:
    rows: list[dict[str, Any]] = []
    for name in JOBS:
        with tempfile.TemporaryDirectory() as temporary, embedding() as endpoint:
            trials = Trials(name, Path(temporary), endpoint)
            done = [trials.kill(kill) for kill in kills(trials, 0, BY_TIME, BY_OPERATION)]
        for trial in done:
            if trial.difference:
                print(f"{name}, killed while {trial.stage}: {trial.difference}", flush=True)
        results = [
            Result("runs that were killed", len(done)),
            Result("rerun unlike a clean one", sum(bool(trial.difference) for trial in done), at_most=0),
            Result("most texts embedded again", max(trial.again for trial in done), at_most=IN_FLIGHT),
        ]
        print(table(f"{name}, {trials.seconds:.1f} s, {trials.operations} file operations", results), flush=True)
        stages = Counter(trial.stage for trial in done)
        print("  killed while", json.dumps({stage: stages[stage] for stage in STAGES if stages[stage]}), flush=True)
        rows.append(
            {
                "job": name,
                "kills": len(done),
                "stages": {stage: stages[stage] for stage in STAGES if stages[stage]},
                "different": sum(bool(trial.difference) for trial in done),
                "again": max(trial.again for trial in done),
                "in_flight": IN_FLIGHT,
            }
        )
    save("kills", {"jobs": rows})
