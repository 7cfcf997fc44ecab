"""One search: the legs that the mode names, fused into hits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from citekite.ingest.sources import normalise_source
from citekite.retrieve.filter import Filter, texts
from citekite.retrieve.fuse import fuse, lexical_weight, ranked
from citekite.settings import Settings
from citekite.store.collection import Collection
from citekite.store.record import CollectionRecord
from citekite.timing import Stopwatch
from citekite.types import Fusion, Hit, Leg, Mode, Retrieval

EmbedQuery = Callable[[str], npt.NDArray[np.float32]]

# How deep each leg is searched before fusing: 50 is as good as 100, 20 loses 0.004 nDCG@10 (docs/retrieval.md).
DEPTH = 50
DEFAULT_K = 5


@dataclass(frozen=True, slots=True)
class SearchPlan:
    """What a search does: how many chunks it returns, by which legs, fused how; `weight` is the lexical leg's share."""

    k: int
    mode: Mode
    fusion: Fusion
    weight: float

    @classmethod
    def make(
        cls, settings: Settings, record: CollectionRecord, *, has_lexical: bool, k: int | None, mode: Mode | None
    ) -> SearchPlan:
        """The plan by arguments, then settings, then what the collection's record was tuned to, then defaults."""
        mode = mode or settings.mode
        tuned = settings.lexical_weight if settings.lexical_weight is not None else record.lexical_weight
        return cls(
            k=k or settings.k or record.k or DEFAULT_K,
            mode="dense" if mode == "hybrid" and not has_lexical else mode,
            fusion=settings.fusion,
            weight=tuned
            if tuned is not None
            else lexical_weight(
                record.embedder, english_only=record.english_only, mostly_english=record.mostly_english
            ),
        )


def retrieve(
    collection: Collection, question: str, plan: SearchPlan, embed_query: EmbedQuery, *, filter: str | Filter = ""
) -> Retrieval:
    """The plan's `k` best chunks for a question, best first.

    A hit's score is the fused one in hybrid mode, else the leg's own (inner product or BM25). A blank question finds
    nothing. Each leg applies the filter itself, so a filtered search still finds `k` chunks.
    """
    if not question.strip():
        return Retrieval((), (question,))
    watch = Stopwatch()
    legs = _legs(collection, question, plan, embed_query, _expression(filter, collection), watch)
    best = dict(_fused(legs, plan)[: plan.k])
    with watch.time("fetch"):
        chunks = collection.chunks(list(best))
    hits = tuple(
        Hit(
            chunk=chunk,
            score=best[chunk.id],
            rank=rank,
            legs={name: leg[chunk.id] for name, leg in legs.items() if chunk.id in leg},
        )
        for rank, chunk in enumerate(chunks, start=1)
    )
    return Retrieval(hits, (question,), seconds=watch.seconds)


def _expression(filter: str | Filter, collection: Collection) -> str:
    """The Milvus expression of a filter, its sources resolved as `sync` resolves them."""
    if isinstance(filter, str):
        return filter
    canonical = replace(filter, sources=tuple(map(normalise_source, texts(filter.sources))))
    return canonical.to_expression(lambda: {row["source"] for row in collection.scan("", ("source",))})


def _legs(
    collection: Collection, question: str, plan: SearchPlan, embed_query: EmbedQuery, filter: str, watch: Stopwatch
) -> dict[str, Mapping[str, Leg]]:
    depth = max(DEPTH, plan.k)
    legs: dict[str, Mapping[str, Leg]] = {}
    if plan.mode != "lexical":
        with watch.time("embed"):
            vector = embed_query(question)
        with watch.time("dense"):
            legs["dense"] = ranked(collection.search_dense(vector, depth, filter))
    if plan.mode != "dense":
        with watch.time("lexical"):
            legs["lexical"] = ranked(collection.search_lexical(question, depth, filter))
    return legs


def _fused(legs: Mapping[str, Mapping[str, Leg]], plan: SearchPlan) -> list[tuple[str, float]]:
    if plan.mode != "hybrid":
        return [(id, leg.score) for id, leg in legs[plan.mode].items()]
    return fuse(legs, {"dense": 1.0 - plan.weight, "lexical": plan.weight}, plan.fusion)
