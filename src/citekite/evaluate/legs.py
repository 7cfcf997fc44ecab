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
from citekite.retrieve.fuse import fuse, ranked
from citekite.retrieve.search import DEPTH
from citekite.types import Chunk, Fusion, Hit, Leg


@dataclass(frozen=True, slots=True)
class Searched:
    """A question with what each leg found for it, and the gold ids (or the own id) of each chunk found."""

    question: Question
    legs: Mapping[str, Mapping[str, Leg]]
    chunks: Mapping[str, Chunk]
    matched: Mapping[str, tuple[str, ...]]

    def order(self, weight: float, fusion: Fusion = "convex") -> list[tuple[str, float]]:
        """Chunk ids and scores, best first, with the lexical leg at that weight."""
        return fuse(self.legs, {"dense": 1.0 - weight, "lexical": weight}, fusion)

    def hits(self, weight: float, k: int) -> list[Hit]:
        """The `k` best hits by that weight, near-duplicates included."""
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
        matched = {id: tuple(matches(question, chunk)) for id, chunk in chunks.items()}
        found.append(Searched(question, legs, chunks, matched))
        report(Progress("searching", done, len(questions), "questions"))
    return found
