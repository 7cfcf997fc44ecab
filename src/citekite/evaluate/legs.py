"""Both legs of a search, searched once for each question: every way to fuse them is then a matter of arithmetic."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from citekite.evaluate.question import Question
from citekite.evaluate.relevance import matches
from citekite.knowledge_base import KnowledgeBase
from citekite.ports import Reporter
from citekite.reports import Progress
from citekite.retrieve.duplicates import collapse
from citekite.retrieve.fuse import fuse, ranked
from citekite.retrieve.search import DEPTH
from citekite.types import Chunk, Fusion, Hit, Leg


@dataclass(frozen=True, slots=True)
class Searched:
    """A question with what each leg found for it.

    By the id of each chunk found, `copy_of` names the chunk that it nearly repeats (or itself), `matched` the gold ids
    that it and its near-duplicates match.
    """

    question: Question
    legs: Mapping[str, Mapping[str, Leg]]
    chunks: Mapping[str, Chunk]
    copy_of: Mapping[str, str]
    matched: Mapping[str, tuple[str, ...]]

    def order(self, weight: float, fusion: Fusion = "convex") -> list[tuple[str, float]]:
        """Chunk ids and scores, best first, with the lexical leg at that weight; near-duplicates once, as the best."""
        distinct: dict[str, tuple[str, float]] = {}
        for id, score in fuse(self.legs, {"dense": 1.0 - weight, "lexical": weight}, fusion):
            distinct.setdefault(self.copy_of[id], (id, score))
        return list(distinct.values())

    def hits(self, weight: float, k: int) -> list[Hit]:
        """The `k` best hits by that weight."""
        return [
            Hit(self.chunks[id], score, rank, {name: leg[id] for name, leg in self.legs.items() if id in leg})
            for rank, (id, score) in enumerate(self.order(weight)[:k], start=1)
        ]

    def items(self, order: Iterable[str]) -> list[str]:
        """The ids of what chunks in that order found, each once (as `relevance.ranked_items` has it)."""
        items: dict[str, None] = {}
        for id in order:
            own = id if self.question.passages else self.chunks[id].source
            items.update(dict.fromkeys(self.matched[id] or (own,)))
        return list(items)


def search_legs(kb: KnowledgeBase, questions: Sequence[Question], report: Reporter) -> list[Searched]:
    """Search both legs for each question; the knowledge base has to have both."""
    collection = kb.collection()
    found = []
    for done, question in enumerate(questions, start=1):
        vector = np.asarray(kb.embed(question.text), dtype=np.float32)
        legs = {
            "dense": ranked(collection.search_dense(vector, DEPTH, "")),
            "lexical": ranked(collection.search_lexical(question.text, DEPTH, "")),
        }
        chunks = {chunk.id: chunk for chunk in collection.chunks(list({id for leg in legs.values() for id in leg}))}
        copy_of: dict[str, str] = {}
        matched: dict[str, tuple[str, ...]] = {}
        for copies in _near_duplicates(list(chunks.values())):
            gold = tuple(id for copy in copies for id in matches(question, copy))
            copy_of |= {copy.id: copies[0].id for copy in copies}
            matched |= {copy.id: gold for copy in copies}
        found.append(Searched(question, legs, chunks, copy_of, matched))
        report(Progress("searching", done, len(questions), "questions"))
    return found


def _near_duplicates(chunks: Sequence[Chunk]) -> list[tuple[Chunk, ...]]:
    """The chunks in groups of those that nearly repeat each other; one that repeats no other is alone."""
    hits = collapse([Hit(chunk, 0.0, rank, {}) for rank, chunk in enumerate(chunks, start=1)])
    return [(hit.chunk, *hit.others) for hit in hits]
