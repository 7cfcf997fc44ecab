"""Errors as problem details (RFC 9457), with the names of the Python errors."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from citekite.errors import CitekiteError, SettingsError, status_of
from citekite.render import problem_json

MEDIA_TYPE = "application/problem+json"
# What nginx logs for a client that closed the connection before the reply; nobody receives it.
CLIENT_LEFT = 499

SCHEMA: dict[str, Any] = {
    "type": "object",
    "title": "Problem",
    "description": "Problem details (RFC 9457).",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "description": "A URN of the error's name."},
        "title": {"type": "string", "description": "The error's name, that of the Python class."},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What happened, with which value, and what to do next."},
    },
}


def problem(error: CitekiteError, headers: dict[str, str] | None = None) -> JSONResponse:
    """The reply to a request that an error ended; `Retry-After` where the error knows when to come again."""
    body = problem_json(error)
    seconds = getattr(error, "retry_after", None)
    extra = {"Retry-After": str(max(1, math.ceil(seconds)))} if seconds else {}
    if body["status"] == 401:
        extra["WWW-Authenticate"] = "Bearer"
    return JSONResponse(body, body["status"], {**extra, **(headers or {})}, media_type=MEDIA_TYPE)


def documented(*kinds: type[CitekiteError]) -> dict[int | str, dict[str, Any]]:
    """What these errors look like as replies, for OpenAPI; `default` stands for every other one."""
    by_status: dict[int | str, list[type[CitekiteError]]] = defaultdict(list)
    for kind in kinds:
        by_status[status_of(kind("")).http].append(kind)
    replies: dict[int | str, dict[str, Any]] = {"default": _reply("Any other problem.")}
    for status, same in by_status.items():
        replies[status] = _reply(" ".join(kind.__doc__ or "" for kind in same))
        replies[status]["content"][MEDIA_TYPE]["example"] = problem_json(same[0]("what happened, and what to do next"))
    return replies


def add_problem_handlers(app: FastAPI) -> None:
    """Let every error of the app leave as problem details."""

    @app.exception_handler(CitekiteError)
    async def _ours(request: Request, error: CitekiteError) -> JSONResponse:
        return problem(error)

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        places = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        body = problem_json(SettingsError(f"the request cannot be used: {places}"))
        named = {**body, "title": "InvalidRequest", "type": "urn:citekite:InvalidRequest"}
        named["param"] = ".".join(map(str, error.errors()[0]["loc"][1:]))
        return JSONResponse(named, 400, media_type=MEDIA_TYPE)

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        body = {"type": "about:blank", "title": str(error.detail), "status": error.status_code, "detail": ""}
        return JSONResponse(body, error.status_code, error.headers, media_type=MEDIA_TYPE)

    @app.exception_handler(ClientDisconnect)
    async def _left(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=CLIENT_LEFT)


def _reply(description: str) -> dict[str, Any]:
    return {"description": description, "content": {MEDIA_TYPE: {"schema": SCHEMA}}}
