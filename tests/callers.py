"""Who calls a test's server, chosen by the bearer token that a client sends."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.types import ASGIApp, Receive, Scope, Send

from citekite.serve.principal import OWNER, Principal


class Callers:
    """Middleware that makes the callers of these tokens principals, and any other one the owner."""

    def __init__(self, app: ASGIApp, callers: Mapping[str, Principal]) -> None:
        self._app = app
        self._callers = callers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            token = dict(scope["headers"]).get(b"authorization", b"").decode().removeprefix("Bearer ")
            scope.setdefault("state", {})["principal"] = self._callers.get(token, OWNER)
        await self._app(scope, receive, send)
