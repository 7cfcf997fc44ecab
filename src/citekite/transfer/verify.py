"""Whether a copy is one: counts, some chunks compared wholly, some searches on both sides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import numpy as np

from citekite.errors import StoreError
from citekite.store.collection import Collection
from citekite.store.rows import Scored
from citekite.transfer.origin import Origin, Stored

# So many chunks, spread evenly over all of them, are compared; with the vectors of some both sides are searched.
COMPARED = 200
SEARCHED = 20
_TOP = 10
# A server's index is approximate; a recall below this over twenty searches is another content.
LEAST_RECALL = 0.95
# Two engines sum the products of a vector in another order.
_ROUNDING = 1e-4


def check_copy(origin: Origin, copy: Collection, sample: Sequence[Stored]) -> float:
    """The recall of the searches; raises `StoreError` where the copy is not what the origin is."""
    there = copy.count()
    if there != origin.chunks:
        raise StoreError(
            f"{origin.name} has {origin.chunks:,} chunks and the copy {there:,}: run the same command again, which "
            "sends what is missing"
        )
    _compare(origin, copy, sample)
    recall = _recall(origin, copy, sample[:: max(1, len(sample) // SEARCHED)][:SEARCHED])
    if recall < LEAST_RECALL:
        raise StoreError(
            f"searches with stored vectors find {recall:.0%} of what they find in {origin.name}, and should find "
            f"{LEAST_RECALL:.0%}: is the server still building its index? Run the same command again, which checks anew"
        )
    return recall


def _compare(origin: Origin, copy: Collection, sample: Sequence[Stored]) -> None:
    there = {entry.chunk.id: (entry, vector) for entry, vector in copy.stored([entry.chunk.id for entry, _ in sample])}
    for entry, vector in sample:
        id = entry.chunk.id
        if id not in there:
            raise StoreError(f"the chunk {id!r} of {origin.name} is missing in the copy: run the same command again")
        if different := _difference((entry, vector), there[id]):
            raise StoreError(
                f"the chunk {id!r} has another {different} in the copy than in {origin.name}: run the command again"
            )


def _difference(one: Stored, other: Stored) -> str:
    """The name of the first value in which two stored chunks differ, empty where they are the same."""
    (entry, vector), (other_entry, other_vector) = one, other
    for field in fields(entry.chunk):
        if getattr(entry.chunk, field.name) != getattr(other_entry.chunk, field.name):
            return field.name
    if entry != other_entry:
        return "digest"
    return "" if np.array_equal(vector, other_vector) else "vector"


def is_same(one: Stored, other: Stored) -> bool:
    """Whether two stored chunks are the same in everything."""
    return not _difference(one, other)


def _recall(origin: Origin, copy: Collection, sample: Sequence[Stored]) -> float:
    """The share of the nearest chunks at the origin that the copy finds too; 1 where there is nothing to search."""
    if not sample:
        return 1.0
    vectors = np.stack([vector for _, vector in sample])
    shares = [
        _share(expected, copy.search_dense(vector, _TOP, ""))
        for vector, expected in zip(vectors, origin.nearest(vectors, _TOP), strict=True)
    ]
    return float(np.mean(shares))


def _share(expected: Scored, found: Scored) -> float:
    """How many of the expected hits were found, where one with the score of the last may stand for another such."""
    least = min(score for _, score in expected) - _ROUNDING
    return min(1.0, sum(score >= least for _, score in found) / len(expected))
