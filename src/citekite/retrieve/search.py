"""One search: the question, expanded where wanted, the legs that the mode names, fused, reranked, cut to `k` hits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from citekite.embed.vectors import unit_vectors
from citekite.explanation import Explanation, Placed
from citekite.ingest.sources import normalise_source
from citekite.ports import Embedder
from citekite.retrieve.duplicates import collapse
from citekite.retrieve.filter import Filter, texts
from citekite.retrieve.fuse import contributions, lexical_weight, ranked, summed
from citekite.retrieve.queries import Queries, expand
from citekite.retrieve.rerank import reranked
from citekite.settings import Settings
from citekite.store.collection import Collection
from citekite.store.record import CollectionRecord
from citekite.telemetry import span
from citekite.timing import Clock, Stopwatch
from citekite.types import Fusion, Hit, Leg, Mode, QueryExpansion, Retrieval, describe_location

if TYPE_CHECKING:
    from citekite.models import Models

# What each leg found, by its name: one ranked list for each question that it searched for.
Legs = Mapping[str, Sequence[Mapping[str, Leg]]]

# How deep each leg is searched before fusing: 50 is as good as 100, 20 loses 0.004 nDCG@10 (docs/retrieval.md).
DEPTH = 50
DEFAULT_K = 5
# So many texts more than wanted are fetched at once, in case some repeat each other.
SPARE = 5


@dataclass(frozen=True, slots=True)
class SearchPlan:
    """What a search does: how many chunks it returns, by which legs, fused how; `weight` is the lexical leg's share.

    `expansion` is what the chat model adds to the question, `rerank_depth` how many chunks the reranker reads,
    `collection` the name of what is searched.
    """

    k: int
    mode: Mode
    fusion: Fusion
    weight: float
    expansion: QueryExpansion = "none"
    rerank_depth: int = 0
    collection: str = ""

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
            expansion="none" if settings.query_expansion == "hyde" and mode == "lexical" else settings.query_expansion,
            rerank_depth=0 if settings.reranker == "none" else settings.rerank_depth,
            collection=settings.collection,
        )


def retrieve(
    collection: Collection, question: str, plan: SearchPlan, models: Models, *, filter: str | Filter = ""
) -> Retrieval:
    """The plan's `k` best chunks for a question, best first; one that nearly repeats a better one is in its `others`.

    A hit's score is the reranker's, else the fused one in hybrid mode or with several questions, else the leg's own
    (inner product or BM25). A blank question finds nothing. Each leg applies the filter itself, so a filtered search
    still finds `k` chunks.
    """
    if not question.strip():
        return Retrieval((), (question,))
    described = {
        "gen_ai.operation.name": "retrieval",
        "gen_ai.data_source.id": plan.collection,
        "gen_ai.request.top_k": float(plan.k),
        "citekite.mode": plan.mode,
    }
    with span(f"retrieval {plan.collection}", described, kind="client") as traced:
        found = _retrieve(collection, question, plan, models, filter)
        traced.set({"citekite.hits": len(found.hits)})
        traced.set_content(
            lambda: {
                "gen_ai.retrieval.query.text": question,
                "gen_ai.retrieval.documents": [{"id": hit.chunk.id, "score": hit.score} for hit in found.hits],
            }
        )
        return found


def _retrieve(
    collection: Collection, question: str, plan: SearchPlan, models: Models, filter: str | Filter
) -> Retrieval:
    watch = Stopwatch()
    reranker = models.reranker
    expression = _expression(filter, collection)
    queries = _expanded(question, plan, models, watch)
    legs = _legs(collection, queries, plan, models, expression, watch)
    ranking, parts = _fused(legs, plan, watch)
    wanted = max(plan.k, plan.rerank_depth) if reranker else plan.k
    hits = _distinct(collection, ranking, legs, wanted, watch)
    failed: tuple[str, ...] = ()
    if reranker and hits:
        with watch.time("rerank") as clock:
            hits, failed = reranked(question, hits, reranker)
            clock.found([hit.score for hit in hits])
            clock.details = {"reranker": reranker.name} | ({"failed": True} if failed else {})
    hits = hits[: plan.k]
    return Retrieval(
        hits=tuple(hits),
        queries=(*queries.questions, queries.passage) if queries.passage else queries.questions,
        notes=queries.notes + failed,
        seconds=watch.seconds,
        usage=queries.usage,
        explanation=Explanation(watch.stages, _placed(hits, ranking, parts)),
    )


def _placed(
    hits: Sequence[Hit], ranking: Sequence[tuple[str, float]], parts: Mapping[str, Mapping[str, float]]
) -> tuple[Placed, ...]:
    """How each hit got its place; a rank of its fusion counts near-duplicates too."""
    fused = ranked(ranking) if parts else {}
    return tuple(
        Placed(
            hit.chunk.id,
            hit.chunk.source,
            describe_location(hit.chunk),
            hit.rank,
            hit.score,
            {**hit.legs, **({"fused": fused[hit.chunk.id]} if fused else {})},
            {name: part[hit.chunk.id] for name, part in parts.items() if hit.chunk.id in part},
        )
        for hit in hits
    )


def _expression(filter: str | Filter, collection: Collection) -> str:
    """The Milvus expression of a filter, its sources resolved as `sync` resolves them."""
    if isinstance(filter, str):
        return filter
    canonical = replace(filter, sources=tuple(map(normalise_source, texts(filter.sources))))
    return canonical.to_expression(collection.sources)


def _expanded(question: str, plan: SearchPlan, models: Models, watch: Stopwatch) -> Queries:
    if plan.expansion == "none":
        return Queries((question,))
    with watch.time("expand") as clock:
        queries = expand(question, plan.expansion, models.generator)
        clock.details = {"expansion": plan.expansion, "queries": len(queries.questions)}
        return queries


def _legs(
    collection: Collection, queries: Queries, plan: SearchPlan, models: Models, filter: str, watch: Stopwatch
) -> Legs:
    depth = max(DEPTH, 2 * plan.k, plan.rerank_depth)  # near-duplicates among them count once
    legs: dict[str, Sequence[Mapping[str, Leg]]] = {}
    if plan.mode != "lexical":
        with watch.time("embed") as clock:
            embedder = models.embedder(collection.record)
            vectors = _vectors(queries, embedder)
            clock.details = {"embedder": embedder.name}
        with watch.time("dense") as clock:
            legs["dense"] = _leg((collection.search_dense(vector, depth, filter) for vector in vectors), clock)
    if plan.mode != "dense":
        with watch.time("lexical") as clock:
            legs["lexical"] = _leg(
                (collection.search_lexical(text, depth, filter) for text in queries.questions), clock
            )
    return legs


def _leg(searches: Iterable[Sequence[tuple[str, float]]], clock: Clock) -> list[dict[str, Leg]]:
    """The ranked lists of one leg, of which the stage is told."""
    lists = [ranked(scored) for scored in searches]
    clock.found(sorted((leg.score for found in lists for leg in found.values()), reverse=True))
    return lists


def _vectors(queries: Queries, embedder: Embedder) -> list[npt.NDArray[np.float32]]:
    """A vector for each question; with a passage, the mean of the question's and the passage's, as HyDE has it."""
    vectors = [embedder.embed_query(text) for text in queries.questions]
    if not queries.passage:
        return vectors
    passage = embedder.embed_documents([queries.passage])[0]
    return [unit_vectors((vector + passage)[np.newaxis])[0] for vector in vectors]


def _fused(
    legs: Legs, plan: SearchPlan, watch: Stopwatch
) -> tuple[list[tuple[str, float]], Mapping[str, Mapping[str, float]]]:
    """All lists in one, and what each leg contributed to it; a single list is as it is, and has no contributions.

    A leg's weight is shared by its lists, so the score of 1 still means first in each.
    """
    lists = {(name, number): found for name, parts in legs.items() for number, found in enumerate(parts)}
    if len(lists) == 1:
        return [(id, leg.score) for id, leg in next(iter(lists.values())).items()], {}
    with watch.time("fuse") as clock:
        shares = {"dense": 1.0 - plan.weight, "lexical": plan.weight} if len(legs) > 1 else dict.fromkeys(legs, 1.0)
        weights = {(name, number): shares[name] / len(legs[name]) for name, number in lists}
        parts = contributions(lists, weights, plan.fusion)
        ranking = summed(parts.values())
        clock.found([score for _, score in ranking])
        clock.details = {"fusion": plan.fusion}
        if plan.fusion == "convex":
            clock.details |= {f"{name}_weight": share for name, share in shares.items()}
    return ranking, {name: dict(summed(part for (leg, _), part in parts.items() if leg == name)) for name in legs}


def _distinct(
    collection: Collection, ranking: Sequence[tuple[str, float]], legs: Legs, wanted: int, watch: Stopwatch
) -> list[Hit]:
    """The best hits without near-duplicates: as many as wanted, where there are so many."""
    fetched: list[Hit] = []
    distinct: list[Hit] = []
    for start in range(0, len(ranking), page := wanted + SPARE):  # texts are fetched until there are enough that differ
        with watch.time("fetch"):
            fetched += _hits(collection, ranking[start : start + page], legs)
        with watch.time("dedupe") as clock:
            distinct = collapse(fetched)
            clock.details = {"repeated": len(fetched) - len(distinct)}
        if len(distinct) >= wanted:
            break
    return distinct[:wanted]


def _hits(collection: Collection, scored: Sequence[tuple[str, float]], legs: Legs) -> list[Hit]:
    scores = dict(scored)
    chunks = collection.chunks(list(scores))
    return [Hit(chunk, scores[chunk.id], rank, _found_by(chunk.id, legs)) for rank, chunk in enumerate(chunks, start=1)]


def _found_by(id: str, legs: Legs) -> dict[str, Leg]:
    """The best place that each leg gave a chunk, of those that found it."""
    places = {name: [found[id] for found in lists if id in found] for name, lists in legs.items()}
    return {name: min(each, key=lambda leg: leg.rank) for name, each in places.items() if each}
