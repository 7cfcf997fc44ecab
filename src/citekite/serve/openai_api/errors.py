"""Problem details as OpenAI's errors, so that its SDK raises the class of the status and shows the message.

https://platform.openai.com/docs/guides/error-codes
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from citekite.serve.problems import MEDIA_TYPE

PREFIX = "/v1/"

# OpenAI's own codes, for programs that look at them; every other error has its name for a code.
_CODES = {
    "UnknownCollection": "model_not_found",
    "KeyRequired": "invalid_api_key",
    "RateLimited": "rate_limit_exceeded",
}
# The SDK asks again after any 409, 429 and 5xx; that can only help with these.
_PASSING = ("ServerBusy", "RateLimited", "EndpointUnavailable", "StoreUnreachable", "DatabaseLocked")


def openai_error(problem: Mapping[str, Any]) -> dict[str, Any]:
    """A problem in OpenAI's form; its `type` is the name of the Python error, `partial` the text that had come.

    >>> openai_error({"title": "UnknownCollection", "detail": "there is no model 'a'"})["error"]["code"]
    'model_not_found'
    """
    name = problem["title"]
    error = {
        "message": problem.get("detail") or name,
        "type": name,
        "param": problem.get("param"),
        "code": _CODES.get(name, name),
    }
    return {"error": {**error, **({"partial": problem["partial"]} if "partial" in problem else {})}}


class OpenAIErrors:
    """Middleware: what is a problem under `/v1` leaves in OpenAI's form, whichever part of the server made it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(PREFIX):
            await self._app(scope, receive, send)
            return
        started: Message | None = None
        body = b""

        async def translated(message: Message) -> None:
            nonlocal started, body
            if message["type"] == "http.response.start" and _is_problem(message):
                started = message
            elif started is None:
                await send(message)
            else:
                body += message.get("body", b"")
                if not message.get("more_body"):
                    await _send_error(send, started, json.loads(body))

        await self._app(scope, receive, translated)


def _is_problem(start: Message) -> bool:
    return Headers(raw=start["headers"]).get("content-type", "").startswith(MEDIA_TYPE)


async def _send_error(send: Send, start: Message, problem: Mapping[str, Any]) -> None:
    content = json.dumps(openai_error(problem), ensure_ascii=False).encode()
    headers = MutableHeaders(raw=start["headers"])
    headers["Content-Type"] = "application/json"
    headers["Content-Length"] = str(len(content))
    headers["X-Should-Retry"] = "true" if problem["title"] in _PASSING else "false"
    await send({**start, "headers": headers.raw})
    await send({"type": "http.response.body", "body": content})
