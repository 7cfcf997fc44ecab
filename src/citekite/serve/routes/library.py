"""Who asks, and what a collection holds."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter

from citekite import __version__
from citekite.errors import UnknownCollection
from citekite.serve.asking import Caller, CollectionName, TheService
from citekite.serve.examples import ANYWHERE, problems, reply

router = APIRouter(tags=["library"], responses=problems(*ANYWHERE, UnknownCollection))

_ME: dict[str, Any] = {
    "name": "team",
    "scope": "write",
    "collections": [],
    "groups": None,
    "version": __version__,
    "collection": "citekite",
    "keys_required": True,
    "model": "accounts/fireworks/models/gpt-oss-120b",
    "embedder": "static:wordllama-l2-supercat-256",
}
_STATUS: dict[str, Any] = {
    "uri": "./citekite.db",
    "server": "milvus_lite-3.2.2",
    "collection": "citekite",
    "collections": ["citekite", "handbook"],
    "documents": 12,
    "chunks": 340,
    "embedder": "static:wordllama-256",
    "dimension": 256,
    "splitter": "sections 1600",
    "contextual": "",
    "tuned": {},
}


@router.get("/me", summary="Who the caller is, and what the server offers.", responses=reply(_ME))
async def me(service: TheService, caller: Caller) -> dict[str, Any]:
    """`collection` is the one used where a request names none; `model` writes the answers, and is empty without one;
    `embedder` is that of a collection to be made.
    """
    return {
        "name": caller.name,
        "scope": caller.scope,
        "collections": list(caller.collections),
        "groups": None if caller.groups is None else sorted(caller.groups),
        "version": __version__,
        "collection": service.default_for(caller),
        "keys_required": service.keys_required,
        **await service.workers.call(lambda: {"model": service.model, "embedder": service.embedder}),
    }


@router.get("/status", summary="What a collection holds and how it was made.", responses=reply(_STATUS))
async def status(service: TheService, caller: Caller, collection: CollectionName = None) -> dict[str, Any]:
    kb = service.knowledge_base(caller, collection)
    found = await service.workers.call(kb.status)
    return {**asdict(found), "collections": list(filter(caller.may_use, found.collections))}
