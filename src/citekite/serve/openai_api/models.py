"""Which collection a model's name means."""

from __future__ import annotations

import re
from typing import Any

from citekite.errors import UnknownCollection
from citekite.knowledge_base import KnowledgeBase
from citekite.serve.principal import Principal
from citekite.serve.service import Service
from citekite.settings import COLLECTION_NAME


async def collections(service: Service, caller: Principal) -> list[str]:
    """The names of the collections that the caller may use, sorted."""
    names = await service.workers.call(service.knowledge_base(caller).collections)
    return list(filter(caller.may_use, names))


async def require_model(service: Service, caller: Principal, name: str) -> None:
    """Raise `UnknownCollection`, with the names that there are, where there is no such collection."""
    caller.require_collection(name)
    if name not in (names := await collections(service, caller)):
        there = f"there are {', '.join(names)}" if names else "there is none yet: `citekite sync FOLDER` makes one"
        raise UnknownCollection(f"there is no model {name!r}: a model is a collection, and {there}")


async def knowledge_base_for(service: Service, caller: Principal, model: str) -> KnowledgeBase:
    """The knowledge base of the collection that a model names; by default the server's own.

    A name that no collection can have, such as that of another provider's model, stands for the server's own, so that a
    program written for that provider needs another base URL and nothing else.
    """
    if not re.fullmatch(COLLECTION_NAME, model):
        return service.knowledge_base(caller)
    await require_model(service, caller, model)
    return service.knowledge_base(caller, model)


def model_json(name: str) -> dict[str, Any]:
    """A collection as one of OpenAI's models."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "citekite"}
