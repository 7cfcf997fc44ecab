"""Replies as the OpenAPI document shows them: an example each, and the problems that may come."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from citekite.serve.problems import MEDIA_TYPE

Replies = dict[int | str, dict[str, Any]]

PROBLEM: dict[str, Any] = {
    "type": "object",
    "title": "Problem",
    "description": "Problem details (RFC 9457); `title` is the name of the Python error.",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
    },
    "required": ["type", "title", "status"],
}
_EXAMPLES = {
    400: ("InvalidRequest", "the request cannot be used: query.limit: Input should be less than or equal to 1000"),
    401: ("KeyRequired", "this server needs an API key: send it as `Authorization: Bearer KEY`"),
    403: ("AccessDenied", "the key 'reader' has the scope 'read', and this needs 'write'"),
    404: ("UnknownCollection", "there is no collection 'handbook' at ./docs.db (there is none yet)"),
    409: ("CollectionExists", "there is a collection 'handbook' already"),
    413: ("TooLarge", "the body is larger than 100 MB, the limit of this path"),
    421: ("WrongHost", "this server is not 'example.org': name it in allowed_hosts if it is"),
    422: ("SourceError", "nothing was taken: 'report.pdf' is not what its name says: it is an HTML page"),
    429: ("RateLimited", "more than 600 requests in a minute with this key: wait 1 s"),
    502: ("EndpointError", "the model endpoint failed"),
    503: ("ServerBusy", "all 128 places of the server are taken: ask again in a moment"),
}


def reply(example: Any, status: int = 200, media_type: str = "application/json") -> Replies:
    """The reply of a route when all is well, with an example."""
    return {status: {"description": HTTPStatus(status).phrase, "content": {media_type: {"example": example}}}}


def _problem(status: int) -> dict[str, Any]:
    title, detail = _EXAMPLES[status]
    example = {"type": f"urn:citekite:{title}", "title": title, "status": status, "detail": detail}
    content = {MEDIA_TYPE: {"schema": PROBLEM, "example": example}}
    return {"description": HTTPStatus(status).phrase, "content": content}


PROBLEMS: Replies = {status: _problem(status) for status in _EXAMPLES}
"""The problems that a path of the API may answer with."""

JOB: dict[str, Any] = {
    "id": "5f0c6c2e9d1b4a77",
    "kind": "upload",
    "collection": "citekite",
    "sources": ["upload://shared/handbook.pdf"],
    "state": "running",
    "created": "2026-01-05T09:30:00.000Z",
    "started": "2026-01-05T09:30:00.010Z",
    "ended": None,
    "progress": {"stage": "embedding", "done": 96, "total": 240, "unit": "chunks"},
    "report": None,
    "problem": None,
    "key": "team",
}
DOCUMENT: dict[str, Any] = {
    "id": "1f7c0d9a52e84b36",
    "source": "upload://shared/kites.md",
    "title": "Kites",
    "text": "# Kites\n\nThe red kite has a forked tail.\n",
    "access": [],
    "metadata": {},
    "chunks": [
        {
            "id": "1f7c0d9a52e84b36-6a0b",
            "ordinal": 0,
            "start": 0,
            "end": 41,
            "line": 1,
            "page": None,
            "headings": ["Kites"],
            "context": "",
        }
    ],
}
