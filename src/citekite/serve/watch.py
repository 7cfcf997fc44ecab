"""What is seen of every request: its id, its line in the log, its figures, its span."""

from __future__ import annotations

import logging
import re
import secrets
import time
from contextvars import ContextVar
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from citekite.serve.metrics import CLIENT_LEFT, Metrics
from citekite.serve.principal import Principal
from citekite.telemetry import Span, Telemetry

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
# An id that a proxy gave is taken over where it can stand in any log.
_GIVEN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")

logger = logging.getLogger("citekite.access")

_request_id: ContextVar[str] = ContextVar("request_id", default="")


def request_id() -> str:
    """The id of the request that is answered here, also in a thread or job that works for it; empty without one."""
    return _request_id.get()


class WatchRequests:
    """The outermost middleware: gives every request its id, and tells of it when its reply has ended.

    A request is counted and named by the template of its route, so that ids in paths make no series of their own.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, telemetry: Telemetry) -> None:
        self._app = app
        self._metrics = metrics
        self._telemetry = telemetry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        id = headers.get("x-request-id", "")
        if not _GIVEN_ID.fullmatch(id):
            id = secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = id
        token = _request_id.set(id)
        method = scope["method"] if scope["method"] in METHODS else "other"
        described = {
            "http.request.method": method if method in METHODS else "_OTHER",
            "url.scheme": scope.get("scheme", "http"),
            "citekite.request_id": id,
        }
        try:
            with (
                self._telemetry.active(),
                self._telemetry.span(method, described, kind="server", headers=headers) as span,
            ):
                await self._watched(scope, receive, send, method, span)
        finally:
            _request_id.reset(token)

    async def _watched(self, scope: Scope, receive: Receive, send: Send, method: str, span: Span) -> None:
        status, size, began = CLIENT_LEFT, 0, time.perf_counter()

        async def counting(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
            size += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, counting)
        except Exception:
            status = 500
            raise
        finally:
            seconds = time.perf_counter() - began
            route = _template(scope)
            self._metrics.request(route, method, status, seconds)
            span.rename(f"{method} {route}")
            span.set({"http.route": route, "http.response.status_code": status})
            if status >= 500:
                span.fail(str(status))
            _log(scope, method, route, status, seconds, size)


def _log(scope: Scope, method: str, route: str, status: int, seconds: float, size: int) -> None:
    principal: Principal | None = scope["state"].get("principal")
    values: dict[str, Any] = {
        "method": method,
        "route": route,
        "status": status,
        "seconds": round(seconds, 4),
        "bytes": size,
        "key": principal.name if principal else None,
    }
    line = "%(method)s %(route)s %(status)d in %(seconds).3f s, %(bytes)d bytes, key %(key)s"
    logger.info(line, values, extra={"values": values})


def _template(scope: Scope) -> str:
    """The path of the route with its parameters' names; `other` where none was reached."""
    # The route of an included router knows its path without the prefix; what FastAPI matched it in knows all of it.
    matched = scope.get("fastapi", {}).get("effective_route_context")
    return getattr(matched, "path_format", "") or getattr(scope.get("route"), "path", "") or "other"
