"""What is there: status, collections, documents."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query

from citekite import __version__
from citekite.render import document_json
from citekite.serve.asking import Caller, CollectionName, TheService

router = APIRouter(tags=["library"])


@router.get("/me", summary="Who the caller is, and what the server offers.")
async def me(service: TheService, caller: Caller) -> dict[str, Any]:
    return {
        "name": caller.name,
        "scope": caller.scope,
        "collections": list(caller.collections),
        "groups": None if caller.groups is None else sorted(caller.groups),
        "version": __version__,
        "collection": service.settings.collection,
    }


@router.get("/status", summary="What a collection holds and how it was made.")
async def status(service: TheService, caller: Caller, collection: CollectionName = None) -> dict[str, Any]:
    kb = service.knowledge_base(caller, collection)
    return asdict(await service.workers.call(kb.status))


@router.get("/documents", summary="The documents of a collection, sorted by source.")
async def documents(
    service: TheService,
    caller: Caller,
    collection: CollectionName = None,
    offset: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> dict[str, Any]:
    kb = service.knowledge_base(caller, collection)
    found = await service.workers.call(kb.documents)
    return {"total": len(found), "documents": [asdict(one) for one in found[offset : offset + limit]]}


@router.get("/documents/{id}", summary="A document with its text.")
async def document(service: TheService, caller: Caller, id: str, collection: CollectionName = None) -> dict[str, Any]:
    kb = service.knowledge_base(caller, collection)
    return document_json(await service.workers.call(lambda: kb.document(id)))
