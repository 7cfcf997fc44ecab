"""Passages larger than a chunk: chunks that touch become one, and a hit grows by its neighbours in the section.

Nothing is read again from the document. The text between two chunks that follow each other is white space that the
splitter trimmed; its length and its number of line ends are known, so where the two are equal the text is known too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from citekite.types import Chunk, Hit

# How many chunks on each side of a hit are looked at, and the characters up to which a passage grows
# (docs/retrieval.md, "What the model is shown").
_REACH = 4
MOST_CHARACTERS = 3200

_HEADING = re.compile(r"#{1,6}\s")


def places_beside(hits: Sequence[Hit]) -> dict[str, set[int]]:
    """The ordinals of the chunks beside the hits by which these may grow, by source."""
    places: dict[str, set[int]] = {}
    for chunk in (hit.chunk for hit in hits):
        ordinals = range(max(0, chunk.ordinal - _REACH), chunk.ordinal + _REACH + 1)
        places.setdefault(chunk.source, set()).update(ordinals)
    return places


def join(one: Chunk, other: Chunk) -> Chunk | None:
    """The chunk that spans two of one document, so that `document.text[start:end] == text` stays true.

    They join where they overlap, or where nothing but line ends stands between two of one section and page. None
    where they do not, and where their texts contradict each other (the document was changed between two reads).
    """
    first, second = sorted((one, other), key=lambda chunk: (chunk.start, -chunk.end))
    gap = second.start - first.end
    if first.source != second.source:
        return None
    if gap < 0:
        shared = second.text[:-gap]
        if first.text[second.start - first.start :][: len(shared)] != shared:
            return None
        text = first.text + second.text[-gap:]
    elif _goes_on(first, second) and gap == second.line - first.line - first.text.count("\n"):
        text = first.text + "\n" * gap + second.text
    else:
        return None
    return replace(first, end=first.start + len(text), text=text)


def merge(hits: Sequence[Hit]) -> list[Hit]:
    """The hits, best first, where those whose chunks join are one: the best of them with the joined chunk."""
    merged: list[Hit] = []
    for hit in hits:
        while (found := _first_join(hit, merged)) is not None:
            place, hit = found
            del merged[place]
        merged.append(hit)
    return sorted(merged, key=lambda hit: hit.rank)


def grow(passages: Sequence[Hit], neighbours: Sequence[Chunk], fits: Callable[[Sequence[Hit]], bool]) -> list[Hit]:
    """The passages (merged, best first), each grown by neighbouring chunks of its section on both sides in turn.

    A passage grows while it has at most `MOST_CHARACTERS` and all passages together fit. Those that come to touch
    become one.
    """
    grown = list(passages)
    for hit in passages:
        sides = [_after, _before]
        while sides and hit in grown:
            side = sides.pop(0)
            chunk = side(hit.chunk, [chunk for chunk in neighbours if _same_section(chunk, hit.chunk)])
            larger = join(hit.chunk, chunk) if chunk else None
            if larger is None or len(larger.text) > MOST_CHARACTERS:
                continue
            attempt = merge([replace(hit, chunk=larger) if other == hit else other for other in grown])
            if fits(attempt):
                grown = attempt
                hit = next(other for other in grown if _covers(other.chunk, larger))
                sides.append(side)
    return grown


def _first_join(hit: Hit, others: Sequence[Hit]) -> tuple[int, Hit] | None:
    for place, other in enumerate(others):
        if chunk := join(hit.chunk, other.chunk):
            best = min(hit, other, key=lambda one: one.rank)
            copies = {copy.id: copy for one in (hit, other) for copy in one.others if not _covers(chunk, copy)}
            return place, replace(best, chunk=chunk, others=tuple(copies.values()))
    return None


def _after(chunk: Chunk, neighbours: Sequence[Chunk]) -> Chunk | None:
    return min((other for other in neighbours if other.end > chunk.end), key=lambda other: other.start, default=None)


def _before(chunk: Chunk, neighbours: Sequence[Chunk]) -> Chunk | None:
    return max((other for other in neighbours if other.start < chunk.start), key=lambda other: other.end, default=None)


def _goes_on(first: Chunk, second: Chunk) -> bool:
    """Whether a chunk belongs to the section of the one before: two sections of one path are told by the heading."""
    return _same_section(first, second) and not _HEADING.match(second.text)


def _same_section(one: Chunk, other: Chunk) -> bool:
    return (one.source, one.headings, one.page) == (other.source, other.headings, other.page)


def _covers(chunk: Chunk, part: Chunk) -> bool:
    return chunk.source == part.source and chunk.start <= part.start and part.end <= chunk.end
