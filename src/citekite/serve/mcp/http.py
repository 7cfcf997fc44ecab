"""MCP over streamable HTTP, at `/mcp` of the server."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from mcp.server.streamable_http_manager import StreamableHTTPASGIApp, StreamableHTTPSessionManager
from starlette.routing import Route

from citekite.events import Event
from citekite.knowledge_base import KnowledgeBase
from citekite.parse import parse_outcome
from citekite.reports import SyncReport
from citekite.serve.job_store import job_json
from citekite.serve.mcp.library import Call
from citekite.serve.mcp.server import make_server
from citekite.serve.principal import Principal
from citekite.serve.service import Service
from citekite.serve.workers import Workers
from citekite.serve.writing import SyncRequest, start_sync
from citekite.types import Retrieval

T = TypeVar("T")

PATH = "/mcp"
# How often a call that waits for its job looks after it.
LOOK_SECONDS = 0.1


class ServedLibrary:
    """The knowledge bases of a running server."""

    def __init__(self, service: Service) -> None:
        self._service = service

    @property
    def workers(self) -> Workers:
        return self._service.workers

    @property
    def may_sync(self) -> bool:
        return self._service.settings.mcp_sync

    def use(self, caller: Principal, collection: str | None, function: Callable[[KnowledgeBase], T]) -> T:
        return function(self._service.knowledge_base(caller, collection))

    def sync(self, call: Call, sources: tuple[str, ...], *, prune: bool) -> SyncReport:
        """Wait for a job: what writes to a collection stands in one queue, however it was asked for."""
        jobs = self._service.jobs
        asked = SyncRequest(sources, prune)
        job = start_sync(self._service, call.caller, call.kb.settings.collection, asked)
        while not job.ended:
            if call.stopped():
                jobs.cancel(job.id)
            time.sleep(LOOK_SECONDS)
            job = jobs.get(job.id)
        return parse_outcome(job_json(job))

    def searched(self, found: Retrieval) -> None:
        self._service.metrics.searched(found)

    def watched(self, events: Iterator[Event]) -> Iterator[Event]:
        return self._service.metrics.watched(events)

    def record(self, caller: Principal, action: str, target: str, outcome: str) -> None:
        self._service.audit.record(caller, action, target, outcome)


def make_manager(service: Service) -> StreamableHTTPSessionManager:
    """What answers at `/mcp` while its `run()` is entered.

    Without sessions: each request stands for itself, so no key can use what another one began. The SDK's own check of
    the Host header stays off, because that of the server is in front of it.
    """
    return StreamableHTTPSessionManager(make_server(ServedLibrary(service)), stateless=True)


def mcp_route(manager: StreamableHTTPSessionManager) -> Route:
    """The route of `/mcp`."""
    return Route(PATH, StreamableHTTPASGIApp(manager), include_in_schema=False)
