"""MCP over standard input and output, for a client that starts this process itself."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TypeVar

import anyio
from mcp.server.stdio import stdio_server

from citekite.cancel import sleep
from citekite.errors import DatabaseLocked
from citekite.events import Event
from citekite.reports import SyncReport
from citekite.serve.mcp.library import Call, Knowledge
from citekite.serve.mcp.server import make_server
from citekite.serve.principal import Principal
from citekite.serve.workers import Workers
from citekite.types import Retrieval

T = TypeVar("T")
Opener = Callable[[str | None], AbstractContextManager[Knowledge]]

# One client asks; it may ask several things at once.
WORKERS = 8
# A call of another client is over by then; what has the database open for longer is worth an error.
PATIENCE_SECONDS = 20.0
LOOK_SECONDS = 0.05


class LocalLibrary:
    """The knowledge bases of whoever started the process; each is opened for a call and let go of after it.

    Milvus Lite lets one process open a database: so other commands, further clients and a server work beside this one.
    """

    def __init__(self, open_collection: Opener, *, may_sync: bool) -> None:
        self.may_sync = may_sync
        self.workers = Workers(WORKERS)
        self._open = open_collection

    def use(self, caller: Principal, collection: str | None, function: Callable[[Knowledge], T]) -> T:
        """Wait while another process has the database; one that is a server is gone through, by whoever opens it."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                with self._open(collection) as kb:
                    return function(kb)
            except DatabaseLocked:  # raised before anything was done
                if time.monotonic() > deadline:
                    raise
            sleep(LOOK_SECONDS)

    def sync(self, call: Call, sources: tuple[str, ...], *, prune: bool) -> SyncReport:
        return call.kb.sync(*sources, prune=prune, stopped=call.stopped)

    def searched(self, found: Retrieval) -> None:
        """Nothing: nobody looks at the figures of one client."""

    def watched(self, events: Iterator[Event]) -> Iterator[Event]:
        return events

    def record(self, caller: Principal, action: str, target: str, outcome: str) -> None:
        """Nothing: the database is the user's own, as with the other commands."""


def serve_stdio(open_collection: Opener, *, may_sync: bool) -> None:
    """Answer on standard output until standard input ends; the log goes to standard error.

    `open_collection` opens a collection by its name, or by None that of the settings.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="citekite mcp: %(message)s")
    anyio.run(_serve, LocalLibrary(open_collection, may_sync=may_sync))


async def _serve(library: LocalLibrary) -> None:
    """Serve one client. What still runs when it leaves is told to stop."""
    server = make_server(library)
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())
    await library.workers.close()
