"""MCP over standard input and output, for a client that starts this process itself."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import anyio
from mcp.server.stdio import stdio_server

from citekite.errors import DatabaseLocked
from citekite.knowledge_base import KnowledgeBase
from citekite.serve.mcp.server import make_server
from citekite.serve.principal import Principal
from citekite.serve.workers import Workers
from citekite.settings import load_settings

# One client asks; it may ask several things at once.
WORKERS = 8
# A call of another client is over by then; what has the database open for longer is worth an error.
PATIENCE_SECONDS = 15.0


class LocalLibrary:
    """The knowledge bases of the settings; a database is opened for a call and let go after it.

    Milvus Lite lets one process open a database: so other commands, further clients and a server work beside this one.
    """

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        self.may_sync = load_settings(arguments).settings.mcp_sync
        self.workers = Workers(WORKERS)
        self._arguments = dict(arguments)

    @contextmanager
    def opened(self, caller: Principal, collection: str | None) -> Iterator[KnowledgeBase]:
        chosen = {"collection": collection} if collection else {}
        with KnowledgeBase(**{**self._arguments, **chosen}) as kb:
            _wait_for_database(kb)
            yield kb


def _wait_for_database(kb: KnowledgeBase) -> None:
    """Return when the database is open; raises `DatabaseLocked` where another process does not let go of it."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            kb.collections()
        except DatabaseLocked:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def serve_stdio(arguments: Mapping[str, Any]) -> None:
    """Answer on standard output until standard input ends; the log goes to standard error."""
    library = LocalLibrary(arguments)
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="citekite mcp: %(message)s")
    anyio.run(_serve, library)


async def _serve(library: LocalLibrary) -> None:
    server = make_server(library)
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())
