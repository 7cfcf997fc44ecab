"""Errors as problem details (RFC 9457), with the names of the Python errors."""

from __future__ import annotations

import math
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from citekite.errors import CitekiteError, InvalidRequest
from citekite.render import problem_json
from citekite.serve.metrics import CLIENT_LEFT
from citekite.serve.watch import request_id

MEDIA_TYPE = "application/problem+json"


def problem(error: CitekiteError, headers: dict[str, str] | None = None) -> JSONResponse:
    """The reply to a request that an error ended; `Retry-After` where the error knows when to come again."""
    body = with_request(problem_json(error))
    seconds = getattr(error, "retry_after", None)
    extra = {"Retry-After": str(max(1, math.ceil(seconds)))} if seconds else {}
    if body["status"] == 401:
        extra["WWW-Authenticate"] = "Bearer"
    return JSONResponse(body, body["status"], {**extra, **(headers or {})}, media_type=MEDIA_TYPE)


def with_request(problem: dict[str, Any]) -> dict[str, Any]:
    """A problem with the id of the request that it ended, for whoever looks it up in the log."""
    return {**problem, "request_id": id} if (id := request_id()) else problem


def add_problem_handlers(app: FastAPI) -> None:
    """Let every error of the app leave as problem details."""

    @app.exception_handler(CitekiteError)
    async def _ours(request: Request, error: CitekiteError) -> JSONResponse:
        return problem(error)

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        places = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        body = with_request(problem_json(InvalidRequest(f"the request cannot be used: {places}")))
        body["param"] = ".".join(map(str, error.errors()[0]["loc"][1:]))
        return JSONResponse(body, body["status"], media_type=MEDIA_TYPE)

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        body = {"type": "about:blank", "title": str(error.detail), "status": error.status_code, "detail": ""}
        return JSONResponse(with_request(body), error.status_code, error.headers, media_type=MEDIA_TYPE)

    @app.exception_handler(ClientDisconnect)
    async def _left(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=CLIENT_LEFT)
