"""What every request goes through before a route sees it: host, origin, key, limits; and what every reply carries.

Pure ASGI, so a stream passes through it piece by piece.
"""

from __future__ import annotations

import hmac
from functools import partial

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from citekite.errors import CitekiteError, InternalError, KeyRequired
from citekite.metering import metered
from citekite.serve.addresses import Hosts, is_foreign
from citekite.serve.keys import CREATE
from citekite.serve.limits import Body, Buckets, Failures
from citekite.serve.principal import OWNER, Principal
from citekite.serve.problems import problem
from citekite.serve.service import Service

API = "/api/v1/"
BODY_BYTES = 2_000_000
# The page itself asks for the key; health is asked by what keeps the server running.
OPEN = frozenset({"/", "/healthz", "/readyz"})
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
OTHER_POLICY = "default-src 'none'; frame-ancestors 'none'"
# POST carries questions too. Whatever else changes something, so a new path is a write until it is named here.
QUESTIONS = frozenset(f"{API}{path}" for path in ("search", "ask", "ask/stream", "map/locate"))
ACTIONS = {
    ("POST", "documents"): "upload",
    ("POST", "documents/url"): "add url",
    ("POST", "documents/sample"): "add sample",
    ("DELETE", "documents"): "delete document",
    ("POST", "jobs"): "sync",
    ("POST", "collections"): "create collection",
    ("DELETE", "collections"): "delete collection",
    ("POST", "backup"): "backup",
}


class Guard:
    """The middleware in front of everything else."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        settings = service.settings
        self._app = app
        self._service = service
        self._hosts = Hosts(settings)
        self._buckets = Buckets(settings.requests_per_minute)
        self._failures = Failures()
        self._upload_bytes = int(settings.max_upload_mb * 1e6)
        # Outside of the key check: a browser sends no key with its preflight request, and its page has to be able to
        # read that a key is missing.
        self._inner: ASGIApp = self._admit
        if settings.cors_origins:
            self._inner = CORSMiddleware(
                self._admit,
                allow_origins=settings.cors_origins,
                allow_methods=("GET", "POST", "DELETE"),
                allow_headers=("*",),
                expose_headers=("X-Request-Id", "Retry-After", "Mcp-Session-Id"),
            )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        id = scope["state"]["request_id"]
        reply = _Reply(send, scope["path"], id)
        headers = Headers(scope=scope)
        try:
            self._hosts.check(headers.get("host", ""))
            if "origin" in headers:
                self._hosts.check_origin(headers["origin"], headers["host"])
            await self._inner(scope, receive, reply)
        except CitekiteError as error:
            await problem(error)(scope, receive, reply)
        except Exception:
            if not reply.status:
                await _bug(id)(scope, receive, reply)
            raise

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in that has the key for it, and count it."""
        try:
            if not _is_open(scope["path"]):
                principal = scope["state"]["principal"] = await self._principal(scope)
                self._buckets.take(principal.key_id)
            inner = self._write if _is_write(scope) else self._limit
            with metered(partial(self._service.used, scope["state"].get("principal"))):
                await inner(scope, receive, send)
        except CitekiteError as error:
            await problem(error)(scope, receive, send)

    async def _principal(self, scope: Scope) -> Principal:
        service = self._service
        kind, _, key = Headers(scope=scope).get("authorization", "").partition(" ")
        key = key.strip() if kind.lower() == "bearer" else ""
        client = scope["client"][0] if scope.get("client") else ""
        if hmac.compare_digest(key.encode(), service.local_token.encode()):
            return OWNER
        if not service.keys_required:
            if is_foreign(client):
                raise KeyRequired(f"this server has no API key, so it serves its own machine alone: {CREATE}")
            return OWNER
        if not key:
            raise KeyRequired("this server needs an API key: send it as `Authorization: Bearer KEY`")
        try:
            return service.keys.find(key)
        except KeyRequired:
            await self._failures.hold_back(client)
            raise

    async def _write(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request change something, and record it, however it ends; before its sender hears how."""
        principal: Principal = scope["state"]["principal"]
        recorded = False

        def record(status: int) -> None:
            nonlocal recorded
            recorded = True
            action, target = _action(scope)
            self._service.audit.record(principal, action, target, status, scope["state"]["request_id"])

        async def recording(message: Message) -> None:
            if message["type"] == "http.response.start":
                record(message["status"])
            await send(message)

        try:
            principal.require("write")
            await self._limit(scope, receive, recording)
        except CitekiteError as error:
            await problem(error)(scope, receive, recording)
        finally:
            if not recorded:
                record(500)

    async def _limit(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a body in that is no larger than its path takes."""
        uploads = scope["method"] == "POST" and scope["path"] == f"{API}documents"
        body = Body(receive, send, self._upload_bytes if uploads else BODY_BYTES)
        body.check(Headers(scope=scope).get("content-length", ""))
        try:
            await self._app(scope, body.receive, body.send)
        except Exception:
            if not body.exceeded:
                raise
        if body.exceeded:
            raise body.error()


class _Reply:
    """Sends a reply with the headers that all have, and remembers its status."""

    def __init__(self, send: Send, path: str, id: str) -> None:
        self.status = 0
        self._send = send
        self._page = path == "/" or path.startswith("/ui/")
        self._id = id

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(raw=list(message.get("headers", ())))
            headers["X-Request-Id"] = self._id
            headers["X-Content-Type-Options"] = "nosniff"
            headers["X-Frame-Options"] = "DENY"
            headers["Referrer-Policy"] = "no-referrer"
            headers["Cross-Origin-Resource-Policy"] = "same-origin"
            if self._page:
                headers["Content-Security-Policy"] = PAGE_POLICY
            else:  # a route may have a narrower one
                headers.setdefault("Content-Security-Policy", OTHER_POLICY)
                headers["Cache-Control"] = "no-store"  # also where a library would let it be stored
            message = {**message, "headers": headers.raw}
        await self._send(message)


def _is_open(path: str) -> bool:
    return path in OPEN or path.startswith("/ui/")


def _is_write(scope: Scope) -> bool:
    reads = scope["method"] in ("GET", "HEAD", "OPTIONS") or scope["path"] in QUESTIONS
    return scope["path"].startswith(API) and not reads


def _action(scope: Scope) -> tuple[str, str]:
    """What a write does, and to what: the route knows best and leaves it in `request.state.target`, else the path."""
    path, method = scope["path"].removeprefix(API), scope["method"]
    subject = path.partition("/")[0] if method == "DELETE" else path
    collection = QueryParams(scope["query_string"]).get("collection")
    target = scope["state"].get("target") or (f"{path}?collection={collection}" if collection else path)
    return ACTIONS.get((method, subject), f"{method} {path}"), target


def _bug(id: str) -> JSONResponse:
    """The reply where an error is nobody's fault but ours: what happened is in the log."""
    # The error goes on to uvicorn's log, and uvicorn then closes the connection.
    return problem(InternalError(f"the server failed; its log says how (request {id})"), {"Connection": "close"})
