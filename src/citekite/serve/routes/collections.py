"""Collections: which there are, making and deleting them; which one is used is said with each request."""

from __future__ import annotations

import shutil
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response

from citekite.errors import CollectionExists, EndpointError, ServerBusy, UnknownCollection
from citekite.home import uploads_of
from citekite.knowledge_base import KnowledgeBase
from citekite.serve.asking import Caller, TheService
from citekite.serve.examples import ANYWHERE, problems, reply
from citekite.serve.principal import Principal
from citekite.serve.schemas import CollectionBody
from citekite.serve.service import Service
from citekite.settings import COLLECTION_NAME

router = APIRouter(
    tags=["collections"], responses=problems(*ANYWHERE, UnknownCollection, CollectionExists, EndpointError)
)

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
async def create(request: Request, body: CollectionBody, service: TheService, caller: Caller) -> dict[str, Any]:
    caller.require("admin")
    request.state.target = body.name
    kb = service.knowledge_base(caller, body.name)
    await service.workers.call(kb.create)
    return {"name": body.name, "documents": 0, "chunks": 0}


@router.delete(
    "/collections/{name}",
    status_code=204,
    summary="Delete a collection with its documents and uploads.",
    responses={204: {"description": "It is deleted."}},
)
async def delete(name: Annotated[str, Path(pattern=COLLECTION_NAME)], service: TheService, caller: Caller) -> Response:
    caller.require("admin")
    kb = service.knowledge_base(caller, name)
    await service.workers.call(lambda: _delete(service, kb))
    return Response(status_code=204)


def _listing(service: Service, caller: Principal) -> list[dict[str, Any]]:
    found = []
    for name in filter(caller.may_use, service.knowledge_base(caller).collections()):
        try:
            kb = service.knowledge_base(caller, name)
            documents, chunks = len(kb.documents()), kb.count()
        except UnknownCollection:  # it was deleted meanwhile, or a killed process left it half made
            continue
        found.append({"name": name, "documents": documents, "chunks": chunks})
    return found


def _delete(service: Service, kb: KnowledgeBase) -> None:
    if (job := service.jobs.writing_to(kb.settings.collection)) is not None:
        raise ServerBusy(f"the job {job.id} writes to {job.collection!r}: wait for it or cancel it first")
    kb.drop()
    shutil.rmtree(uploads_of(kb.settings), ignore_errors=True)
