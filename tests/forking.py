"""A program that imports what citekite needs, and then forks for each Python program that it is asked for.

It opens nothing and starts no thread (that of Arrow's allocator sees to forks itself); `forked.Forked` talks to it. A
fork returns from `requested` to the end of this file, and becomes there what `python -m MODULE` would have been, with
the arguments, folder, environment and streams of the request.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import pkgutil
import runpy
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import Any

# What the functions of citekite, and of the packages that it uses, import when they are called.
HEAVY = (
    *("pymilvus", "grpc.experimental", "milvus_lite.cmdline", "milvus_lite.server_manager", "pyarrow.dataset"),
    *("milvus_lite.search.indexed_filter", "scipy.sparse", "tantivy", "tokenizers", "safetensors.numpy", "Stemmer"),
    *("openai.resources.chat", "openai.resources.embeddings", "semantic_text_splitter", "lxml.html", "bs4"),
    *("pypdfium2", "pathspec", "yaml", "rich.progress", "typer._adapters", "typer.rich_utils"),
    *("anyio._backends._asyncio", "uvicorn.lifespan.on", "uvicorn.loops.auto"),
    *("uvicorn.protocols.http.auto", "uvicorn.protocols.websockets.auto"),
)
MOST_BYTES = 1 << 20


def import_all() -> None:
    """Import every module of citekite, and what those leave for later."""
    import citekite

    ours = [found.name for found in pkgutil.walk_packages(citekite.__path__, "citekite.")]
    for name in (*ours, *HEAVY):
        if not name.endswith("__main__"):
            importlib.import_module(name)
    gc.freeze()  # a collection in a fork would write to, and so copy, all that it shares with this process


def requested(requests: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Returns in a fork, with what it shall be and its three streams; here it goes on until nobody can ask any more."""
    while True:
        request, streams, *_ = socket.recv_fds(requests, MOST_BYTES, 3)
        if not request:
            sys.exit()
        reader, writer = os.pipe()
        if not (between := os.fork()):
            if not (program := os.fork()):
                os.close(reader)
                os.close(writer)
                return json.loads(request), streams
            os.write(writer, str(program).encode())
            os._exit(0)
        os.waitpid(between, 0)  # from now on the program is a child of the one who asked
        requests.send(os.read(reader, MOST_BYTES))
        for descriptor in (reader, writer, *streams):
            os.close(descriptor)


def become(request: dict[str, Any], streams: list[int]) -> None:
    """Take on the streams, environment, folder and arguments of a program."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdout.reconfigure(line_buffering=os.isatty(1))  # type: ignore[union-attr]
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    sys.path[0] = str(Path.cwd())
    sys.argv = request["words"]


def run() -> None:
    """Run the module to its end, which is the interpreter's but for the last thing.

    After the exit handlers an interpreter takes all modules apart. For that a fork would copy most of its memory, which
    takes longer than most commands: where the status is known, the process ends there.
    """
    try:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as end:
        if not isinstance(end.code, int | None):
            raise
        status = end.code or 0
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    # Ctrl-C of a terminal is for the tests, which then ask no more.
    on_interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
    import_all()
    with socket.socket(fileno=int(sys.argv[1])) as requests:
        request, streams = requested(requests)
    signal.signal(signal.SIGINT, on_interrupt)
    become(request, streams)
    run()
