"""Errors as problem details (RFC 9457), with the names of the Python errors."""

from __future__ import annotations

import math

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from citekite.errors import CitekiteError, SettingsError
from citekite.render import problem_json

MEDIA_TYPE = "application/problem+json"


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
    def _ours(request: Request, error: CitekiteError) -> JSONResponse:
        return problem(error)

    @app.exception_handler(RequestValidationError)
    def _invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        places = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        body = problem_json(SettingsError(f"the request cannot be used: {places}"))
        return JSONResponse({**body, "title": "InvalidRequest", "type": "urn:citekite:InvalidRequest"}, 400)

    @app.exception_handler(HTTPException)
    def _http(request: Request, error: HTTPException) -> JSONResponse:
        body = {"type": "about:blank", "title": str(error.detail), "status": error.status_code, "detail": ""}
        return JSONResponse(body, error.status_code, error.headers, media_type=MEDIA_TYPE)
