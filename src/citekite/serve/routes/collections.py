"""Collections: which there are, making and deleting them; which one is used is said with each request."""

from __future__ import annotations

import shutil
from typing import Annotated, Any

from fastapi import APIRouter, Path, Response

from citekite.errors import ServerBusy, UnknownCollection
from citekite.home import uploads_of
from citekite.knowledge_base import KnowledgeBase
from citekite.serve.asking import Caller, TheService
from citekite.serve.examples import reply
from citekite.serve.principal import Principal
from citekite.serve.schemas import COLLECTION, CollectionBody
from citekite.serve.service import Service

router = APIRouter(tags=["collections"])

_COLLECTION = {"name": "handbook", "documents": 12, "chunks": 340}
_LISTING = {"default": "citekite", "collections": [_COLLECTION]}


@router.get("/collections", summary="The collections that the caller may use.", responses=reply(_LISTING))
async def collections(service: TheService, caller: Caller) -> dict[str, Any]:
    return {
        "default": service.default_for(caller),
        "collections": await service.workers.call(lambda: _listing(service, caller)),
    }


@router.post(
    "/collections",
    status_code=201,
    summary="Make an empty collection.",
    responses=reply({**_COLLECTION, "documents": 0, "chunks": 0}, status=201),
)
async def create(body: CollectionBody, service: TheService, caller: Caller) -> dict[str, Any]:
    caller.require("admin")
    kb = service.knowledge_base(caller, body.name)
    await service.workers.call(kb.create)
    return {"name": body.name, "documents": 0, "chunks": 0}


@router.delete(
    "/collections/{name}",
    status_code=204,
    summary="Delete a collection with its documents and uploads.",
    responses={204: {"description": "It is deleted."}},
)
async def delete(name: Annotated[str, Path(pattern=COLLECTION)], service: TheService, caller: Caller) -> Response:
    caller.require("admin")
    kb = service.knowledge_base(caller, name)
    await service.workers.call(lambda: _delete(service, kb))
    return Response(status_code=204)


def _listing(service: Service, caller: Principal) -> list[dict[str, Any]]:
    names = service.knowledge_base(caller).collections()
    found = []
    for name in names:
        if caller.collections and name not in caller.collections:
            continue
        try:
            documents, chunks = _counts(service.knowledge_base(caller, name), caller)
        except UnknownCollection:  # it was deleted meanwhile, or a killed process left it half made
            continue
        found.append({"name": name, "documents": documents, "chunks": chunks})
    return found


def _counts(kb: KnowledgeBase, caller: Principal) -> tuple[int, int]:
    """How many documents and chunks the caller may see."""
    if caller.groups is None:
        return len(kb.collection().sources()), kb.count()
    documents = kb.documents()
    return len(documents), sum(document.chunks for document in documents)


def _delete(service: Service, kb: KnowledgeBase) -> None:
    if (job := service.jobs.writing_to(kb.settings.collection)) is not None:
        raise ServerBusy(f"the job {job.id} writes to {job.collection!r}: wait for it or cancel it first")
    kb.drop()
    shutil.rmtree(uploads_of(kb.settings), ignore_errors=True)
