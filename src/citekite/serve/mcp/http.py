"""MCP over streamable HTTP, at `/mcp` of the server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mcp.server.streamable_http_manager import StreamableHTTPASGIApp, StreamableHTTPSessionManager
from starlette.routing import Route

from citekite.knowledge_base import KnowledgeBase
from citekite.serve.mcp.server import make_server
from citekite.serve.principal import Principal
from citekite.serve.service import Service
from citekite.serve.workers import Workers

PATH = "/mcp"


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

    @contextmanager
    def opened(self, caller: Principal, collection: str | None) -> Iterator[KnowledgeBase]:
        yield self._service.knowledge_base(caller, collection)

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
