"""Sync with an embedding endpoint whose time dominates, against what its requests and a bare insertion take at least.

Texts are sentences of the documentation, drawn at random.
The ideal is ceil(texts / batch limit / concurrency) waves of requests of `LATENCY_MS` each, and then the insertion of
the finished rows by a bare script in the same run. The endpoint is a scripted one in a process of its own.
"""

from __future__ import annotations

import math
import random
import re
import statistics
import tempfile
from pathlib import Path

from bench.report import Result, data, publish
from bench.speed import LATENCY_MS, endpoint, job

TEXTS, SECTIONS = 10_000, 100  # chunks, and how many of them are one file
CONCURRENCY = 16
BATCH = 16  # texts of one request: a limit of some endpoints
REPEATS = 3


def main() -> None:
    documentation = data("milvus_docs/en")
    waves = math.ceil(TEXTS / BATCH / CONCURRENCY)
    with tempfile.TemporaryDirectory() as temporary, endpoint(per_text_ms=0) as base_url:
        base = Path(temporary)
        folder = write_texts(base / "docs", documentation)
        ours = [_sync(base / f"{number}.db", folder, base_url) for number in range(REPEATS)]
        rows = str(base / "rows")
        job("finished_rows", str(base / "0.db"), rows)
        # Without an approximate index, which citekite does not make in an embedded database either.
        bare = [job("bare_docs", f"{temporary}/bare{number}.db", rows, "FLAT") for number in range(REPEATS)]
    taken, insertion = statistics.median(ours), statistics.median(run.outcome["seconds"] for run in bare)
    requests = waves * LATENCY_MS / 1000
    publish(
        "api",
        f"Sync of {TEXTS:,} texts through an endpoint: {LATENCY_MS} ms a request, {BATCH} texts in each, "
        f"{CONCURRENCY} at once",
        [
            Result("citekite sync", taken, "s"),
            Result(f"{waves} waves of requests", requests, "s"),
            Result("bare insertion of the finished rows", insertion, "s"),
            Result("citekite / (requests + bare insertion)", taken / (requests + insertion), "x", at_most=1.2),
        ],
    )


def _sync(database: Path, folder: Path, base_url: str) -> float:
    outcome = job("citekite_api", str(database), str(folder), base_url, str(BATCH), str(CONCURRENCY)).outcome
    assert outcome["texts"] == TEXTS, outcome
    return float(outcome["seconds"])


def write_texts(folder: Path, documentation: Path) -> Path:
    """A folder of Markdown files whose sections are a few sentences each, no two alike."""
    folder.mkdir()
    drawn = random.Random(0)
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted(documentation.rglob("*.md")))
    sentences = [part for part in re.split(r"(?<=[.!?])\s+|\n+", text) if len(part) > 20 and part[0].isalpha()]
    for number in range(TEXTS // SECTIONS):
        sections = (
            f"## Section {number}.{part}\n\n{' '.join(drawn.choices(sentences, k=3))[:1200]}\n"
            for part in range(SECTIONS)
        )
        (folder / f"{number:03}.md").write_text("\n".join(sections), encoding="utf-8")
    return folder
