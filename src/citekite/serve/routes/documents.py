"""Documents: what there is, with its text and as it was uploaded; uploads, URLs, deletion."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse
from starlette.datastructures import FormData, UploadFile

from citekite.errors import DiskFull, SettingsError, SourceError, UnknownCollection, UnknownDocument
from citekite.home import uploads_of
from citekite.ingest.sniff import media_type
from citekite.ingest.uploads import parse_upload, upload_path, upload_source
from citekite.knowledge_base import KnowledgeBase
from citekite.render import document_json
from citekite.reports import DocumentSummary
from citekite.serve.asking import Caller, CollectionName, TheService
from citekite.serve.examples import ANYWHERE, DOCUMENT, JOB, problems, reply
from citekite.serve.job_store import job_json
from citekite.serve.schemas import SampleBody, UrlBody
from citekite.serve.uploads import receive
from citekite.serve.writing import SyncRequest, start_sample, start_sync, start_upload
from citekite.settings import COLLECTION_NAME

router = APIRouter(
    tags=["documents"], responses=problems(*ANYWHERE, UnknownCollection, UnknownDocument, SourceError, DiskFull)
)

Offset = Annotated[int, Query(ge=0, le=10**9)]
Limit = Annotated[int, Query(ge=1, le=1000)]
Line = Annotated[int | None, Query(ge=1, le=10**9)]

_SUMMARIES = {
    "total": 1,
    "documents": [{name: DOCUMENT[name] for name in ("id", "source", "title", "access")} | {"chunks": 1}],
}
_ACCEPTED = reply(JOB, status=202)
_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["files"],
                    "properties": {
                        "files": {
                            "type": "array",
                            "minItems": 1,
                            "items": {"type": "string", "format": "binary"},
                            "description": "The files; each is known by its name from then on.",
                        },
                        "access": {
                            "type": "array",
                            "items": {"type": "string"},
                            "description": "The groups that may see them; without any, everyone.",
                        },
                        "collection": {"type": "string", "pattern": COLLECTION_NAME},
                    },
                },
                "example": {"files": ["(the content of handbook.pdf)"], "access": ["staff"]},
            }
        },
    }
}


@router.get("/documents", summary="The documents of a collection, sorted by source.", responses=reply(_SUMMARIES))
async def documents(
    service: TheService,
    caller: Caller,
    collection: CollectionName = None,
    offset: Offset = 0,
    limit: Limit = 100,
    query: Annotated[str, Query(max_length=1000, description="Part of the source or title.")] = "",
) -> dict[str, Any]:
    kb = service.knowledge_base(caller, collection)
    found = [one for one in await service.workers.call(kb.documents) if _matches(one, query.casefold())]
    return {"total": len(found), "documents": [asdict(one) for one in found[offset : offset + limit]]}


@router.get("/documents/{id}", summary="A document with its text, or some lines of it.", responses=reply(DOCUMENT))
async def document(
    service: TheService,
    caller: Caller,
    id: str,
    collection: CollectionName = None,
    first_line: Line = None,
    last_line: Line = None,
) -> dict[str, Any]:
    kb = service.knowledge_base(caller, collection)
    found = document_json(await service.workers.call(lambda: kb.document(id)))
    return found if first_line is last_line is None else _lines(found, first_line or 1, last_line)


@router.get(
    "/documents/{id}/original",
    summary="A document as it was uploaded, as an attachment.",
    response_class=FileResponse,
    responses=reply("", media_type="*/*"),
)
async def original(service: TheService, caller: Caller, id: str, collection: CollectionName = None) -> FileResponse:
    kb = service.knowledge_base(caller, collection)
    path, kind = await service.workers.call(lambda: _original(kb, id))
    # What somebody uploaded must not run in the page's name: it is saved, and shown nowhere.
    headers = {
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "sandbox; default-src 'none'; frame-ancestors 'none'",
    }
    return FileResponse(path, media_type=kind, filename=path.name, headers=headers)


@router.post("/documents", status_code=202, summary="Upload files.", responses=_ACCEPTED, openapi_extra=_FORM)
async def upload(request: Request, service: TheService, caller: Caller) -> dict[str, Any]:
    caller.require("write")
    form = await receive(request)
    try:
        files, access, collection = _fields(form)
        job = await service.workers.call(lambda: start_upload(service, caller, collection, files, access))
    finally:
        await form.close()
    service.metrics.uploads.inc(len(job.sources))
    request.state.target = ", ".join(job.sources)
    return job_json(job)


@router.post("/documents/url", status_code=202, summary="Take in a page or file of the web.", responses=_ACCEPTED)
async def url(request: Request, body: UrlBody, service: TheService, caller: Caller) -> dict[str, Any]:
    caller.require("write")
    asked = SyncRequest((body.url,), access=tuple(body.access))
    job = await service.workers.call(lambda: start_sync(service, caller, body.collection, asked, "url"))
    request.state.target = ", ".join(job.sources)
    return job_json(job)


@router.post("/documents/sample", status_code=202, summary="Take in a small library to try.", responses=_ACCEPTED)
async def sample(
    request: Request, service: TheService, caller: Caller, body: SampleBody | None = None
) -> dict[str, Any]:
    caller.require("write")
    collection = body.collection if body else None
    job = await service.workers.call(lambda: start_sample(service, caller, collection))
    request.state.target = ", ".join(job.sources)
    return job_json(job)


@router.delete(
    "/documents/{id}",
    summary="Delete a document, and its file if it was uploaded.",
    responses=reply({"chunks": 3}),
)
async def delete(
    request: Request, service: TheService, caller: Caller, id: str, collection: CollectionName = None
) -> dict[str, Any]:
    caller.require("write")
    kb = service.knowledge_base(caller, collection)

    def removed() -> int:
        source = request.state.target = kb.document(id).source
        return kb.remove(source)

    return {"chunks": await service.workers.call(removed)}


def _matches(document: DocumentSummary, query: str) -> bool:
    return query in document.source.casefold() or query in document.title.casefold()


def _lines(document: dict[str, Any], first: int, last: int | None) -> dict[str, Any]:
    """The document with these lines alone of its text (from 1, the last one too), and the chunks that lie in them."""
    lines = document["text"].splitlines(keepends=True)
    last = len(lines) if last is None else min(last, len(lines))
    start = sum(map(len, lines[: first - 1]))
    text = "".join(lines[first - 1 : last])
    chunks = [one for one in document["chunks"] if one["start"] < start + len(text) and one["end"] > start]
    return {**document, "text": text, "chunks": chunks, "first_line": first, "last_line": last}


def _original(kb: KnowledgeBase, id: str) -> tuple[Path, str]:
    """The file that a document was uploaded as, and its media type."""
    source = kb.document(id).source
    if not source.startswith("upload://"):
        raise UnknownDocument(f"the document {id!r} was not uploaded: it was read from {source!r}")
    space, name, _ = parse_upload(source)
    try:
        path = upload_path(upload_source(space, name), uploads_of(kb.settings))
        with path.open("rb") as file:
            return path, media_type(name, file)
    except (SourceError, OSError):
        raise UnknownDocument(f"the file of the document {id!r} is not there any more") from None


def _fields(form: FormData) -> tuple[list[UploadFile], list[str], str | None]:
    """The files, groups and collection of the form of an upload."""
    files = [part for part in form.getlist("files") if isinstance(part, UploadFile) and part.filename]
    access = [part for part in form.getlist("access") if isinstance(part, str)]
    collection = form.get("collection") or None
    if unknown := sorted({*form} - {"files", "access", "collection"}):
        raise SettingsError(f"the form has no field {unknown[0]!r}: it takes files, access and collection")
    if not files:
        raise SettingsError("the form has no file: send each one as a part named 'files', with its name")
    if collection is not None and not (isinstance(collection, str) and re.fullmatch(COLLECTION_NAME, collection)):
        raise SettingsError(f"{str(collection)[:200]!r} is no name of a collection")
    return files, access, collection
