"""A fresh process that asks one question, against a bare script of the same three calls, and what its imports cost."""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping

from bench.report import ROOT, Result, data, publish
from bench.speed import Run, citekite, endpoint, environment, job, median_time

ROUNDS = 9
QUESTION = "How is data stored in milvus?"
# Whose modules are imported on the way to an answer.
LIBRARIES = (
    "citekite",
    "pymilvus",
    "pandas",
    "milvus_lite",
    "pyarrow",
    "faiss",
    "openai",
    "typer",
    "pydantic",
    "numpy",
)
_IMPORT = re.compile(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\w+)")


def main() -> None:
    folder = str(data("milvus_docs/en"))
    runs: dict[str, list[Run]] = {"citekite ask": [], "bare script": [], "citekite --version": []}
    with tempfile.TemporaryDirectory() as temporary, endpoint() as base_url:
        database = f"{temporary}/docs.db"
        address = ["--uri", database, "--base-url", base_url, "--api-key", "bench"]
        ask = ["ask", QUESTION, *address, "--model", "stand-in", "--json"]
        citekite("sync", folder, *address, "--embedder", "api", "--embedding-model", "stand-in", "--json", "--quiet")
        for _ in range(ROUNDS):  # in turns, so that a slow moment of the machine hits all alike
            runs["citekite ask"].append(citekite(*ask))
            runs["bare script"].append(job("bare_ask", database, base_url, QUESTION))
            runs["citekite --version"].append(job("version"))
        imported = _imports(ask)
    ours, bare = median_time(runs["citekite ask"]), median_time(runs["bare script"])
    ratios = [a.whole / b.whole for a, b in zip(runs["citekite ask"], runs["bare script"], strict=True)]
    results = [
        Result("a fresh `citekite ask`", ours, "s"),
        Result("a bare script: embed, search, answer", bare, "s"),
        Result("ratio, median of the pairs", statistics.median(ratios), "x", at_most=1.2),
        Result("the command line with nothing to do", median_time(runs["citekite --version"]), "s"),
        *(
            Result(f"imports of `citekite ask`: {name}", seconds, "s")
            for name, seconds in sorted(imported.items(), key=lambda pair: -pair[1])
        ),
    ]
    publish("start", "One question in a fresh process, 150 ms a model request", results)


def _imports(arguments: list[str]) -> Mapping[str, float]:
    """The seconds that `-X importtime` counts for the modules of each library alone, without what they import."""
    command = [sys.executable, "-X", "importtime", "-m", "citekite", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=True)
    seconds = dict.fromkeys((*LIBRARIES, "others"), 0.0)
    for microseconds, package in _IMPORT.findall(done.stderr):
        seconds[package if package in seconds else "others"] += int(microseconds) / 1e6
    return seconds
