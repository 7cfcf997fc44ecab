"""Speed and memory as ratios to a bare script that does the same; every time is the median of whole processes."""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.report import ROOT, Result, data, table

REPEATS = 3


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
    with tempfile.TemporaryDirectory() as temporary, endpoint() as base_url:
        names = iter(f"{temporary}/{number}.db" for number in range(1000))
        options = ["--splitter", "separator", "--embedder", "api", "--embedding-model", "stand-in", "--json", "--quiet"]
        key = ["--base-url", base_url, "--api-key", "bench"]
        times = medians(
            {
                "citekite": lambda: citekite("sync", folder, "--uri", next(names), *key, *options).whole,
                "bare": lambda: job("bare_tutorial", next(names), folder, base_url, "0").whole,
            }
        )
        single = job("bare_tutorial", next(names), folder, base_url, "1").whole
    return [
        Result("citekite sync", times["citekite"], "s"),
        Result("bare minimum: one request, one insert, one flush", times["bare"], "s"),
        Result("one request a chunk (one run)", single, "s"),
        Result("citekite / bare minimum", times["citekite"] / times["bare"], "x", at_most=1.5),
        Result("one request a chunk / bare minimum", single / times["bare"], "x"),
    ]


def docs() -> tuple[list[Result], list[Result]]:
    """First and second sync against the insertion of the same finished rows, and searches over the result."""
    folder = str(data("milvus_docs/en"))
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(temporary)
        rows = str(base / "rows")
        job("citekite_docs", str(base / "rows.db"), folder)
        job("finished_rows", str(base / "rows.db"), rows)
        first, second, bare = [], [], []
        for number in range(REPEATS):
            first.append(job("citekite_docs", str(base / f"{number}.db"), folder))
            second.append(job("citekite_docs", str(base / f"{number}.db"), folder))
            bare.append(job("bare_docs", str(base / f"bare{number}.db"), rows))
        return _docs_results(first, second, bare), _search_results(base, rows)


def _docs_results(first: list[Run], second: list[Run], bare: list[Run]) -> list[Result]:
    whole = [statistics.median(run.whole for run in runs) for runs in (first, second, bare)]
    inside = [statistics.median(run.outcome["seconds"] for run in runs) for runs in (first, second, bare)]
    return [
        *_times("whole processes", *whole),
        *_times("libraries imported", *inside),
        Result("texts embedded, first sync", first[0].outcome["texts"]),
        Result("texts embedded, second sync", max(run.outcome["texts"] for run in second), at_most=0),
        *(
            Result(f"peak memory, {name}", max(run.outcome["memory_mb"] for run in runs), "MB")
            for name, runs in (("first sync", first), ("second sync", second), ("bare insertion", bare))
        ),
    ]


def _times(name: str, first: float, second: float, bare: float) -> list[Result]:
    return [
        Result(f"{name}: first sync", first, "s"),
        Result(f"{name}: second sync", second, "s"),
        Result(f"{name}: bare insertion of the rows", bare, "s"),
        Result(f"{name}: first sync / bare insertion", first / bare, "x", at_most=1.6),
        Result(f"{name}: second sync / first", second / first, "x", at_most=0.25),
    ]


def _search_results(base: Path, rows: str) -> list[Result]:
    questions = base / "questions.json"
    questions.write_text(json.dumps(_questions(data("milvus_docs/en/faq"))))
    ours = job("citekite_search", str(base / "0.db"), str(questions)).outcome["p50"]
    bare = job("bare_search", str(base / "search.db"), rows, str(questions)).outcome
    return [
        Result("hybrid search", ours, "ms"),
        Result("bare: dense and BM25", bare["p50"], "ms"),
        Result("bare: dense twice", bare["p50_dense_twice"], "ms"),
        Result("hybrid / dense and BM25", ours / bare["p50"], "x", at_most=1.5),
        Result("hybrid / dense twice", ours / bare["p50_dense_twice"], "x", at_most=1.5),
    ]


def _questions(folder: Path) -> list[str]:
    """The headings of the FAQ that are questions."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.md")))
    return re.findall(r"^#+ +(.+\?)\s*$", text, re.MULTILINE)


def medians(measures: Mapping[str, Callable[[], float]]) -> dict[str, float]:
    """The median of each measure; they take turns, so that a slow moment of the machine hits all alike."""
    rounds = [{name: measure() for name, measure in measures.items()} for _ in range(REPEATS)]
    return {name: statistics.median(figures[name] for figures in rounds) for name in measures}


def job(name: str, *arguments: str) -> Run:
    """Run a job of `bench.jobs` in a process of its own."""
    return _run("bench.jobs", name, *arguments)


def citekite(*arguments: str) -> Run:
    """Run the command line, which has to print JSON."""
    return _run("citekite", *arguments)


def _run(module: str, *arguments: str) -> Run:
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments], cwd=ROOT, env=_environment(), stdout=subprocess.PIPE, check=True
    )
    return Run(time.perf_counter() - started, json.loads(done.stdout))


def _environment() -> dict[str, str]:
    """The environment without settings of the user's own: neither keys nor addresses."""
    theirs = ("CITEKITE_", "FIREWORKS_", "OPENAI_", "MILVUS_")
    return {name: value for name, value in os.environ.items() if not name.startswith(theirs)}


@contextmanager
def endpoint() -> Iterator[str]:
    """The base URL of a stand-in for an embedding endpoint, in a process of its own."""
    program = [
        sys.executable,
        str(ROOT / "tests" / "scripted_endpoint.py"),
        "--latency-ms",
        "150",
        "--per-text-ms",
        "2",
    ]
    process = subprocess.Popen(program, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()
