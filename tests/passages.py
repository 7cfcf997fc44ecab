"""Hits made from plain texts, for the tests of answering."""

from __future__ import annotations

from collections.abc import Sequence

from citekite.types import Chunk, Hit, Leg


def make_hit(
    text: str,
    *,
    rank: int = 1,
    score: float | None = None,
    source: str = "/docs/a.md",
    title: str = "",
    headings: Sequence[str] = (),
    start: int = 0,
    line: int = 1,
) -> Hit:
    """A hit whose chunk stands at offset `start`, in line `line`, of a document at `source`."""
    chunk = Chunk(
        id=f"{abs(hash(source))}-{start}",
        source=source,
        title=title,
        ordinal=0,
        start=start,
        end=start + len(text),
        text=text,
        headings=tuple(headings),
        line=line,
    )
    score = 1 / rank if score is None else score
    return Hit(chunk, score, rank, {"lexical": Leg(rank, score)})


def make_hits(*texts: str) -> tuple[Hit, ...]:
    """Hits of one document each, the best first."""
    return tuple(make_hit(text, rank=rank, source=f"/docs/{rank}.md") for rank, text in enumerate(texts, 1))
