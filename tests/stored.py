"""What the tests of sync, search and store share: a knowledge base in a temporary folder, and what it holds."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from citekite import KnowledgeBase
from citekite.settings import Settings
from citekite.store.milvus import MilvusStore
from forked import Forked, environment

BIRDS = {
    "kites.md": (
        "# Kites\n\n## Red kite\n\nThe red kite has a forked tail.\n\n## Black kite\n\nThe black kite migrates.\n"
    ),
    "owls.md": "# Owls\n\n## Barn owl\n\nThe barn owl hunts voles at night.\n",
    "deep/eagles.md": "# Eagles\n\n## Golden eagle\n\nThe golden eagle nests on cliffs.\n",
}


def write(folder: Path, files: dict[str, str]) -> Path:
    """Files by relative path, in a folder that is made."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def knowledge_base(uri: Path | str, **values: Any) -> KnowledgeBase:
    """A knowledge base with these settings alone: nothing of the environment."""
    return KnowledgeBase(settings=Settings(**{"uri": str(uri), "embedder": "static", **values}))


def rows(uri: Path | str, collection: str = "citekite") -> dict[str, dict[str, Any]]:
    """Every stored row by id, with its vector as a tuple of rounded components."""
    with MilvusStore(str(uri)) as store:
        opened = store.open(collection)
        entries = {entry.chunk.id: entry for entry in opened.entries()}
        vectors = opened.vectors(list(entries))
    return {
        id: {
            "chunk": entry.chunk,
            "digest": entry.digest,
            "chunks": entry.chunks,
            "vector": tuple(vectors[id].round(5).tolist()),
        }
        for id, entry in entries.items()
    }


def version(uri: Path | str, collection: str = "citekite") -> str:
    """The content version of a collection: it changes with every write."""
    with MilvusStore(str(uri)) as store:
        return store.open(collection).record.version


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def milvus_server(data: Path) -> Iterator[str]:
    """A Milvus server in a process of its own, with full text search; yields its URI."""
    with milvus_process(data) as (uri, _):
        yield uri


@contextmanager
def milvus_process(data: Path) -> Iterator[tuple[str, Forked]]:
    """The URI and the process of a Milvus server."""
    with MilvusProcess(data) as server:
        yield server.uri, server.process


class MilvusProcess:
    """A Milvus server in a process of its own, which can be killed and started again on the same port and data."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._port = free_port()
        self.uri = f"http://127.0.0.1:{self._port}"
        self.start()

    def start(self) -> None:
        """Start the server; return when it listens."""
        command = ["--data-dir", self._data, "--host", "127.0.0.1", "--port", str(self._port)]
        self.process = Forked(
            [sys.executable, "-m", "milvus_lite", "server", *command],
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _wait_for(self._port, self.process)

    def kill(self) -> None:
        """End it as a power failure would."""
        self.process.kill()
        self.process.wait(10)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(10)


class StandaloneServer:
    """Milvus 2.3.5 from `pip install milvus`, a server as it runs in production but for its local storage.

    It has no full text search. Superusers need no password to be set up: the token is `root:Milvus`. Raises
    `TimeoutError` where it does not start within a minute, three times what it takes on two cores.
    """

    TOKEN = "root:Milvus"
    MOST_BYTES = 5_000_000
    START_SECONDS = 60

    def __init__(self, data: Path) -> None:
        from milvus import MilvusServer, MilvusServerConfig

        port = free_port()
        self.uri = f"http://127.0.0.1:{port}"
        config = MilvusServerConfig(data_dir=str(data), proxy_port=port)
        config.set("authorization_enabled", True)
        # The most bytes of one answer, which is 100 MB otherwise.
        limits = f"  limits:\n    maxOutputSize: {self.MOST_BYTES}\n"
        config.template_text = config.template_text.replace("  limits:\n", limits, 1)
        self._server = MilvusServer(config, wait_for_started=False)
        self._server.start()
        try:
            self._server.wait_started(1000 * self.START_SECONDS)
        except BaseException:
            self._server.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()


def _wait_for(port: int, process: Forked) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        assert process.poll() is None, "the server ended"
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("the server does not listen")
