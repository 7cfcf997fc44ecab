"""Speed and memory as ratios to a bare script that does the same; every time is the median of whole processes."""

from __future__ import annotations

import itertools
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.report import ROOT, Result, data, table

REPEATS = 3
LATENCY_MS = 150


@dataclass(frozen=True, slots=True)
class Run:
    """One process: its wall time in seconds, and the JSON object that it printed last."""

    whole: float
    outcome: Mapping[str, Any]


def main() -> None:
    print(table("Tutorial's job: 4 FAQ files, 72 chunks, 150 ms a request and 2 ms a text", tutorial()), flush=True)
    documents, search = docs()
    print(table("196 documentation files, no key", documents), flush=True)
    print(table("Search over that index, milliseconds (p50)", search), flush=True)


def tutorial() -> list[Result]:
    """`citekite sync` against one batch, one insert, one flush, and against one request a chunk."""
    folder = str(data("milvus_docs/en/faq"))
    options = ["--splitter", "separator", "--embedder", "api", "--embedding-model", "stand-in", "--json", "--quiet"]
    with tempfile.TemporaryDirectory() as temporary, endpoint() as base_url:
        names = (f"{temporary}/{number}.db" for number in itertools.count())
        ours, bare = [], []
        for _ in range(REPEATS):
            address = ["--base-url", base_url, "--api-key", "bench"]
            ours.append(citekite("sync", folder, "--uri", next(names), *address, *options))
            bare.append(job("bare_tutorial", next(names), folder, base_url, "0"))
        single = job("bare_tutorial", next(names), folder, base_url, "1").whole
    our_time, bare_time = median_time(ours), median_time(bare)
    return [
        Result("citekite sync", our_time, "s"),
        Result("bare minimum: one request, one insert, one flush", bare_time, "s"),
        Result("one request a chunk (one run)", single, "s"),
        Result("chunks stored by citekite", ours[0].outcome["added"]),
        Result("chunks stored by the bare minimum", bare[0].outcome["rows"]),
        Result("citekite / bare minimum", our_time / bare_time, "x", at_most=1.5),
        Result("one request a chunk / bare minimum", single / bare_time, "x"),
    ]


def docs() -> tuple[list[Result], list[Result]]:
    """First and second sync against the insertion of the same finished rows, and searches over the result.

    The jobs take turns, so that a slow moment of the machine hits all alike.
    """
    folder = str(data("milvus_docs/en"))
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(temporary)
        rows = str(base / "rows")
        job("citekite_docs", str(base / "rows.db"), folder)
        job("finished_rows", str(base / "rows.db"), rows)
        runs: dict[str, list[Run]] = {"first sync": [], "second sync": [], "bare insertion": [], "imports alone": []}
        for number in range(REPEATS):
            database = str(base / f"{number}.db")
            runs["first sync"].append(job("citekite_docs", database, folder))
            runs["second sync"].append(job("citekite_docs", database, folder))
            runs["bare insertion"].append(job("bare_docs", str(base / f"bare{number}.db"), rows))
            runs["imports alone"].append(job("imports"))
        return _docs_results(runs), _search_results(base, rows)


def _docs_results(runs: dict[str, list[Run]]) -> list[Result]:
    whole = {name: median_time(done) for name, done in runs.items()}
    jobs = {name: done for name, done in runs.items() if name != "imports alone"}
    inside = {name: statistics.median(run.outcome["seconds"] for run in done) for name, done in jobs.items()}
    return [
        *_times("whole processes", whole),
        *_times("libraries imported", inside),
        Result("texts embedded, first sync", runs["first sync"][0].outcome["texts"]),
        Result("texts embedded, second sync", max(run.outcome["texts"] for run in runs["second sync"]), at_most=0),
        *(
            Result(f"peak memory, {name}", max(run.outcome["memory_mb"] for run in done), "MB")
            for name, done in jobs.items()
        ),
    ]


def _times(clock: str, seconds: Mapping[str, float]) -> list[Result]:
    first, second, bare = (seconds[name] for name in ("first sync", "second sync", "bare insertion"))
    return [
        *(Result(f"{clock}: {name}", time_taken, "s") for name, time_taken in seconds.items()),
        Result(f"{clock}: first sync / bare insertion", first / bare, "x", at_most=1.6),
        Result(f"{clock}: second sync / first sync", second / first, "x", at_most=0.25),
    ]


def _search_results(base: Path, rows: str) -> list[Result]:
    questions = base / "questions.json"
    questions.write_text(json.dumps(faq_questions(data("milvus_docs/en/faq"))))
    ours = job("citekite_search", str(base / "0.db"), str(questions)).outcome["p50"]
    bare = job("bare_search", str(base / "search.db"), rows, str(questions)).outcome
    return [
        Result("hybrid search", ours, "ms"),
        Result("bare: dense and BM25", bare["p50"], "ms"),
        Result("bare: dense twice", bare["p50_dense_twice"], "ms"),
        Result("hybrid / dense and BM25", ours / bare["p50"], "x", at_most=1.5),
        Result("hybrid / dense twice", ours / bare["p50_dense_twice"], "x", at_most=1.5),
    ]


def faq_questions(folder: Path) -> list[str]:
    """The headings of the FAQ that are questions."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.md")))
    return re.findall(r"^#+ +(.+\?)\s*$", text, re.MULTILINE)


def median_time(runs: Sequence[Run]) -> float:
    """The median wall time of processes that did the same."""
    return statistics.median(run.whole for run in runs)


def job(name: str, *arguments: str) -> Run:
    """Run a job of `bench.jobs` in a process of its own."""
    return _run("bench.jobs", name, *arguments)


def citekite(*arguments: str) -> Run:
    """Run the command line, which has to print JSON."""
    return _run("citekite", *arguments)


def _run(module: str, *arguments: str) -> Run:
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments], cwd=ROOT, env=environment(), stdout=subprocess.PIPE, check=True
    )
    return Run(time.perf_counter() - started, json.loads(done.stdout))


def environment() -> dict[str, str]:
    """The environment without settings of the user's own, and with compiled modules, as pip installs them."""
    theirs = ("CITEKITE_", "FIREWORKS_", "OPENAI_", "MILVUS_", "PYTHONDONTWRITEBYTECODE")
    return {name: value for name, value in os.environ.items() if not name.startswith(theirs)}


@contextmanager
def endpoint(*, per_text_ms: float = 2) -> Iterator[str]:
    """The base URL of a stand-in for an embedding endpoint, in a process of its own."""
    script = str(ROOT / "tests" / "scripted_endpoint.py")
    program = [sys.executable, script, "--latency-ms", str(LATENCY_MS), "--per-text-ms", str(per_text_ms)]
    process = subprocess.Popen(program, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()
