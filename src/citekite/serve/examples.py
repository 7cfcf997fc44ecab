"""Replies as the OpenAPI document shows them: an example each, and the problems that may come."""

from __future__ import annotations

from dataclasses import asdict
from http import HTTPStatus
from typing import Any

from citekite.errors import (
    AccessDenied,
    CitekiteError,
    CollectionExists,
    DiskFull,
    EmbedderMismatch,
    EndpointError,
    EndpointUnavailable,
    FilterError,
    InvalidRequest,
    KeyRequired,
    RateLimited,
    ServerBusy,
    ServerError,
    SourceError,
    StoreError,
    StoreUnreachable,
    TooLarge,
    UnknownCollection,
    UnknownDocument,
    UnknownJob,
    UnknownReport,
    WrongHost,
)
from citekite.render import problem_json
from citekite.reports import SyncReport
from citekite.serve.problems import MEDIA_TYPE

Replies = dict[int | str, dict[str, Any]]

PROBLEM: dict[str, Any] = {
    "type": "object",
    "title": "Problem",
    "description": "Problem details (RFC 9457).",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "description": "A URN of the error's name."},
        "title": {"type": "string", "description": "The error's name, that of the Python class."},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What happened, with which value, and what to do next."},
        "partial": {"type": "string", "description": "The text of the answer that it broke off, if some had come."},
        "request_id": {"type": "string", "description": "The `X-Request-Id` of the reply, as the server's log has it."},
    },
}
_DETAILS: dict[type[CitekiteError], str] = {
    InvalidRequest: "the request cannot be used: query.limit: Input should be less than or equal to 1000",
    FilterError: "the filter cannot be read: 'year >' ends too early",
    KeyRequired: "this server needs an API key: send it as `Authorization: Bearer KEY`",
    AccessDenied: "the key 'reader' has the scope 'read', and this needs 'write'",
    UnknownCollection: "there is no collection 'handbook' at ./docs.db (there are: citekite)",
    UnknownDocument: "there is no document '1f7c0d9a52e84b36': `citekite documents` lists what is",
    UnknownJob: "there is no job '5f0c6c2e9d1b4a77'",
    UnknownReport: "there is no report '2026-01-05'",
    CollectionExists: "there is a collection 'handbook' already",
    EmbedderMismatch: "collection 'handbook' was built with another embedder than the settings name",
    TooLarge: "the body is larger than 100 MB, the limit of this path",
    WrongHost: "this server is not 'example.org': name it in allowed_hosts if it is",
    SourceError: "nothing was taken: 'report.pdf' is not what its name says: it is an HTML page",
    RateLimited: "more than 600 requests in a minute with this key: wait 1 s",
    EndpointError: "the model endpoint refused the request",
    ServerError: "the jobs in /srv/citekite/jobs.sqlite cannot be read or written: disk I/O error",
    ServerBusy: "all 128 places of the server are taken: ask again in a moment",
    EndpointUnavailable: "no connection to the model endpoint: check `base_url`, and that it is running",
    StoreError: "the database cannot be read or written",
    DiskFull: "no space is left for uploads in /srv/docs.db.serve/uploads/citekite: free some, then upload again",
    StoreUnreachable: "the database did not answer within 5 s",
}
ANYWHERE = (InvalidRequest, KeyRequired, AccessDenied, WrongHost, TooLarge, RateLimited, ServerBusy, StoreError)
"""What every path of the API may answer with."""


def reply(example: Any, status: int = 200, *, description: str = "", media_type: str = "application/json") -> Replies:
    """The reply of a route when all is well, with an example."""
    described = description or HTTPStatus(status).phrase
    return {status: {"description": described, "content": {media_type: {"example": example}}}}


def problems(*kinds: type[CitekiteError]) -> Replies:
    """What these errors look like as replies, one example for each; `default` stands for every other problem."""
    found: Replies = {"default": _problem("Any other problem.")}
    for kind in kinds:
        values = problem_json(kind(_DETAILS[kind]))
        same = found.setdefault(values["status"], _problem(""))
        same["description"] = f"{same['description']} {kind.__doc__}".strip()
        same["content"][MEDIA_TYPE].setdefault("examples", {})[kind.__name__] = {"value": values}
    return found


def _problem(description: str) -> dict[str, Any]:
    return {"description": description, "content": {MEDIA_TYPE: {"schema": PROBLEM}}}


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
DONE: dict[str, Any] = {
    **JOB,
    "state": "done",
    "ended": "2026-01-05T09:30:04.000Z",
    "report": asdict(
        SyncReport(
            new=1, changed=0, unchanged=0, pruned=0, added=240, updated=0, kept=0, deleted=0, texts=240, seconds=3.9
        )
    ),
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
