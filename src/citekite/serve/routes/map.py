"""The map of a collection, and where a question and what is found for it lie on it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from citekite.errors import EmbedderMismatch, EndpointError, EndpointUnavailable, FilterError, UnknownCollection
from citekite.render import hit_json
from citekite.serve.asking import Caller, CollectionName, TheService
from citekite.serve.examples import ANYWHERE, problems, reply
from citekite.serve.replies import HIT
from citekite.serve.schemas import LONGEST_QUESTION, FilterBody
from citekite.settings import COLLECTION_NAME

router = APIRouter(
    tags=["map"],
    responses=problems(*ANYWHERE, FilterError, UnknownCollection, EmbedderMismatch, EndpointError, EndpointUnavailable),
)


_MAP: dict[str, Any] = {
    "points": [
        {
            "id": HIT["id"],
            "document_id": HIT["document_id"],
            "x": 0.41,
            "y": -0.2,
            "title": "Storage",
            "heading": "Flush",
        }
    ],
    "sources": [
        {"document_id": HIT["document_id"], "source": HIT["source"], "title": "Storage", "chunks": 3, "part": 0}
    ],
    "parts": [{"name": "docs", "path": "/srv/docs", "documents": 1, "chunks": 3}],
    "chunks": 3,
    "explained": 0.31,
}
_PLACE = {"x": 0.38, "y": -0.17, "hits": [HIT], "points": [{"x": 0.41, "y": -0.2}]}


class LocateBody(BaseModel):
    """A question to be placed on the map."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"question": "How is data stored?"}]})

    question: str = Field(min_length=1, max_length=LONGEST_QUESTION, pattern=r"\S")
    collection: str | None = Field(None, pattern=COLLECTION_NAME)
    k: int | None = Field(None, ge=1, le=100)
    filter: FilterBody = FilterBody()


@router.get("/map", summary="Where the chunks of a collection lie in two dimensions.", responses=reply(_MAP))
async def draw(service: TheService, caller: Caller, collection: CollectionName = None) -> dict[str, Any]:
    """At most 5,000 points between -1 and 1, the documents, and the parts (folders, sites, documents) to colour by.

    `explained` is the share of the vectors' variance that the two dimensions have.
    """
    kb = service.knowledge_base(caller, collection)
    drawn = await service.workers.call(lambda: service.maps.of(kb, caller))
    return {
        "points": [asdict(point) for point in drawn.points],
        "sources": [asdict(source) for source in drawn.sources],
        "parts": [asdict(part) for part in drawn.parts],
        "chunks": drawn.chunks,
        "explained": drawn.projection.explained if drawn.projection else 1.0,
    }


@router.post(
    "/map/locate",
    summary="Where a question and the passages found for it lie on the map.",
    responses=reply(_PLACE),
)
async def locate(body: LocateBody, service: TheService, caller: Caller) -> dict[str, Any]:
    """`points` has the place of each hit, in the order of the hits; they may be chunks that the map does not draw."""
    kb = service.knowledge_base(caller, body.collection)

    def located() -> dict[str, Any]:
        hits = kb.search(body.question, k=body.k, filter=body.filter.to_filter())
        drawn = service.maps.of(kb, caller)
        vectors = kb.collection().vectors([hit.chunk.id for hit in hits])
        (x, y), *places = drawn.place(np.stack([np.asarray(kb.embed(body.question)), *vectors.values()]))
        place = dict(zip(vectors, places, strict=True))
        found = [hit for hit in hits if hit.chunk.id in place]
        return {
            "x": x,
            "y": y,
            "hits": [hit_json(hit) for hit in found],
            "points": [dict(zip("xy", place[hit.chunk.id], strict=True)) for hit in found],
        }

    return await service.workers.call(located)
