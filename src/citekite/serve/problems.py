"""Errors as problem details (RFC 9457), with the names of the Python errors."""

from __future__ import annotations

import math

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from citekite.errors import CitekiteError, InvalidRequest
from citekite.render import problem_json

MEDIA_TYPE = "application/problem+json"
# What nginx logs for a client that closed the connection before the reply; nobody receives it.
CLIENT_LEFT = 499


def problem(error: CitekiteError, headers: dict[str, str] | None = None) -> JSONResponse:
    """The reply to a request that an error ended; `Retry-After` where the error knows when to come again."""
    body = problem_json(error)
    seconds = getattr(error, "retry_after", None)
    extra = {"Retry-After": str(max(1, math.ceil(seconds)))} if seconds else {}
    if body["status"] == 401:
        extra["WWW-Authenticate"] = "Bearer"
    return JSONResponse(body, body["status"], {**extra, **(headers or {})}, media_type=MEDIA_TYPE)


def add_problem_handlers(app: FastAPI) -> None:
    """Let every error of the app leave as problem details."""

    @app.exception_handler(CitekiteError)
    async def _ours(request: Request, error: CitekiteError) -> JSONResponse:
        return problem(error)

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        places = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        body = problem_json(InvalidRequest(f"the request cannot be used: {places}"))
        body["param"] = ".".join(map(str, error.errors()[0]["loc"][1:]))
        return JSONResponse(body, body["status"], media_type=MEDIA_TYPE)

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        body = {"type": "about:blank", "title": str(error.detail), "status": error.status_code, "detail": ""}
        return JSONResponse(body, error.status_code, error.headers, media_type=MEDIA_TYPE)

    @app.exception_handler(ClientDisconnect)
    async def _left(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=CLIENT_LEFT)
