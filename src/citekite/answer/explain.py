"""How an answer came about, put together from what its stages left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from citekite.answer.prompt import passage_tokens
from citekite.explanation import Explanation, Placed, Stage
from citekite.types import Answer, Hit, Retrieval


def explained(answer: Answer, found: Retrieval, stages: Sequence[Stage]) -> Explanation:
    """The stages of the search and those of the answer after it; of each passage found, what became of it."""
    searched = found.explanation or Explanation(())
    hits = tuple(_used(placed, hit, answer) for placed, hit in zip(searched.hits, found.hits, strict=False))
    tokens = sum(map(passage_tokens, answer.hits))
    left_out = sum(hit.passage is None for hit in hits)
    packed = (
        replace(stage, details={**stage.details, "tokens": tokens, "left_out": left_out})
        if stage.name == "pack"
        else stage
        for stage in stages
    )
    return Explanation((*searched.stages, *packed), hits)


def _used(placed: Placed, hit: Hit, answer: Answer) -> Placed:
    """A hit with the number of the passage that holds it, and whether the answer cites that."""
    number = next((number for number, passage in enumerate(answer.hits, 1) if _holds(passage, hit)), None)
    return replace(placed, passage=number, cited=any(citation.number == number for citation in answer.citations))


def _holds(passage: Hit, hit: Hit) -> bool:
    return (
        passage.chunk.source == hit.chunk.source
        and passage.chunk.start <= hit.chunk.start
        and hit.chunk.end <= passage.chunk.end
    )
