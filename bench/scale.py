"""Search of the embedded database as it grows: 1,000, 10,000 and 100,000 chunks, beside Milvus Lite's own dense search.

Chunks are made of sentences of the documentation, drawn at random, and embedded by the default model; questions are
the headings of the FAQ pages.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.report import Result, data, publish
from bench.speed import environment, faq_questions, job

SIZES = (1_000, 10_000, 100_000)
PROCESSES = 3
MEGABYTE = 1_000_000


def main() -> None:
    results: list[Result] = []
    questions = faq_questions(data("milvus_docs/en/faq"))
    with tempfile.TemporaryDirectory() as temporary:
        asked = Path(temporary) / "questions.json"
        asked.write_text(json.dumps(questions))
        for size in SIZES:
            database = f"{temporary}/{size}.db"
            built = job("grown", database, str(data("milvus_docs/en")), str(size)).outcome
            found = job("citekite_scale", database, str(asked)).outcome
            fresh = statistics.median(_fresh(database, questions[0]) for _ in range(PROCESSES))
            largest = size == SIZES[-1]
            name = f"{size:,} chunks"
            results += [
                Result(f"{name}: written in", built["seconds"], "s"),
                Result(f"{name}: hybrid search, p50", found["hybrid"], "ms", at_most=25 if largest else None),
                Result(
                    f"{name}: with a filter that is warm, p50", found["filtered"], "ms", at_most=60 if largest else None
                ),
                Result(f"{name}: dense leg, p50", found["dense"], "ms"),
                Result(f"{name}: dense search of Milvus Lite, p50", found["milvus"], "ms"),
                Result(f"{name}: recall@10 of the dense leg", found["recall"], at_least=1.0 if largest else None),
                Result(f"{name}: a fresh `citekite search`", fresh, "s", at_most=2.5 if largest else None),
                Result(
                    f"{name}: most memory of a searching process",
                    found["memory"],
                    "MB",
                    at_most=1000 if largest else None,
                ),
            ]
    publish("scale", "Search of the embedded database, 256 dimensions, by the number of chunks", results)


def _fresh(database: str, question: str) -> float:
    """The seconds of one whole process that searches."""
    import time

    command = [sys.executable, "-m", "citekite", "search", question, "--uri", database]
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env=environment())
    return time.perf_counter() - started
