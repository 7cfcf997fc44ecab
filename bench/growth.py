"""Sync as the collection grows: 1,000, 10,000 and 100,000 chunks, in long files and in as many short ones.

Files are made of sentences of the documentation, drawn at random, and embedded by the default model; every sync is a
process of its own. Against a server, the process that syncs holds nothing of Milvus: its memory is citekite's.
"""

from __future__ import annotations

import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.report import data, save
from bench.speed import job

SIZES = (1_000, 10_000, 100_000)
LONG, SHORT = 20, 1  # chunks a file
SENTENCES = 7  # a chunk
FILES_A_FOLDER = 1_000
SERVER = "server"


def main() -> None:
    """Measure all sizes and file the figures."""
    measure(SIZES)


def measure(sizes: Sequence[int]) -> None:
    """Measure these sizes and file the figures."""
    sentences = _sentences(data("milvus_docs/en"))
    figures: dict[str, list[Mapping[str, Any]]] = {"long": [], "short": [], SERVER: []}
    for size in sizes:
        with tempfile.TemporaryDirectory() as temporary, _milvus_server(Path(temporary)) as server:
            folder = Path(temporary) / "docs"
            for kind, chunks in (("long", LONG), ("short", SHORT)):
                make_files(folder, size // chunks, chunks, sentences)
                uris = {kind: f"{temporary}/{kind}.db"} | ({SERVER: server} if kind == "short" else {})
                for name, uri in uris.items():
                    figures[name].append(_synced(uri, folder, size))
                    print(f"{name}, {size:,} chunks: {figures[name][-1]}", flush=True)
                shutil.rmtree(folder)
    save("growth", figures)


def make_files(folder: Path, count: int, chunks: int, sentences: Sequence[str]) -> None:
    """That many Markdown files of that many chunks each."""
    drawn = random.Random(0)
    for number in range(count):
        inside = folder / f"{number // FILES_A_FOLDER:03}"
        inside.mkdir(parents=True, exist_ok=True)
        sections = (
            f"## Section {section} of {number}\n\n{' '.join(drawn.choices(sentences, k=SENTENCES))}\n"
            for section in range(chunks)
        )
        (inside / f"{number:06}.md").write_text("\n".join(sections), encoding="utf-8")


def _sentences(folder: Path) -> list[str]:
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted(folder.rglob("*.md")))
    # Such as would begin a section of their own are none.
    return [part for part in re.split(r"(?<=[.!?])\s+|\n+", text) if 20 < len(part) < 200 and part[0].isalpha()]


def _synced(uri: str, folder: Path, size: int) -> dict[str, Any]:
    """A first sync, and a second one that finds nothing to do."""
    first, second = (job("citekite_growth", uri, str(folder)).outcome for _ in range(2))
    assert second["texts"] == 0
    path = Path(uri)
    parts = [path, path.with_name(f"{path.name}.index")]
    disk = sum(file.stat().st_size for part in parts if part.exists() for file in part.rglob("*") if file.is_file())
    return {
        "size": size,
        "chunks": first["added"],
        "files": first["files"],
        "seconds": first["seconds"],
        "again": second["seconds"],
        "memory": first["memory_mb"],
        "memory_again": second["memory_mb"],
        "disk": disk / 1_000_000,
    }


@contextmanager
def _milvus_server(folder: Path) -> Iterator[str]:
    """The URI of a Milvus server, in a process of its own."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = int(listener.getsockname()[1])
    program = [Path(sys.executable).with_name("milvus-lite"), "server", "--data-dir", folder / "server.db"]
    process = subprocess.Popen(
        [*program, "--host", "127.0.0.1", "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _wait_for(port, process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError("the Milvus server ended before it listened")
