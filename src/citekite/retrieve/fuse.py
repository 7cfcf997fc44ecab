"""Fusing the ranked lists of two search legs into one."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

from citekite.types import Fusion, Leg

Name = TypeVar("Name", bound=Hashable)

# Weights of the lexical leg, by what they were measured on (docs/retrieval.md): the static embedder is the weaker leg;
# a model made for English says little about another language, and a weak leg must not pull a good one down.
STATIC_WEIGHT = 0.8
MODEL_WEIGHT = 0.55
FOREIGN_WEIGHT = 0.9


def lexical_weight(embedder: str, *, english_only: bool, mostly_english: bool) -> float:
    """The default weight of the lexical leg for an embedder (by its recorded name) and a collection's language."""
    if english_only and not mostly_english:
        return FOREIGN_WEIGHT
    return STATIC_WEIGHT if embedder.startswith("static:") else MODEL_WEIGHT


def ranked(scored: Sequence[tuple[str, float]]) -> dict[str, Leg]:
    """The rank (from 1) and score of each id of a list that is sorted best first."""
    return {id: Leg(rank, score) for rank, (id, score) in enumerate(scored, start=1)}


# Cormack, Clarke and Buettcher, "Reciprocal Rank Fusion outperforms Condorcet" (2009).
RRF_K = 60


def fuse(
    legs: Mapping[Name, Mapping[str, Leg]], weights: Mapping[Name, float], fusion: Fusion = "convex"
) -> list[tuple[str, float]]:
    """Ids with their fused score, best first, ties by id; an id that a leg misses counts 0 there.

    `convex`: each leg's scores are scaled to 0..1 over its own list (min-max) and added by weight. Bruch et al., "An
    Analysis of Fusion Functions for Hybrid Retrieval" (2023): it keeps what the scores say about distance, which rank
    fusion throws away. `rrf`: each leg adds 1 / (60 + rank), all legs alike.

    >>> dense = {"a": Leg(1, 0.9), "b": Leg(2, 0.5)}
    >>> lexical = {"b": Leg(1, 12.0), "c": Leg(2, 3.0)}
    >>> fuse({"dense": dense, "lexical": lexical}, {"dense": 0.4, "lexical": 0.6})
    [('b', 0.6), ('a', 0.4), ('c', 0.0)]
    >>> [(id, round(score, 4)) for id, score in fuse({"dense": dense, "lexical": lexical}, {}, "rrf")]
    [('b', 0.0325), ('a', 0.0164), ('c', 0.0161)]
    """
    return summed(contributions(legs, weights, fusion).values())


def contributions(
    legs: Mapping[Name, Mapping[str, Leg]], weights: Mapping[Name, float], fusion: Fusion = "convex"
) -> dict[Name, dict[str, float]]:
    """What each leg adds to the fused score of each id that it found."""
    return {name: _reciprocal(leg) if fusion == "rrf" else _scaled(leg, weights[name]) for name, leg in legs.items()}


def summed(parts: Iterable[Mapping[str, float]]) -> list[tuple[str, float]]:
    """Ids with their scores in all parts together, best first, ties by id."""
    total: dict[str, float] = {}
    for part in parts:
        for id, score in part.items():
            total[id] = total.get(id, 0.0) + score
    return sorted(total.items(), key=lambda item: (-item[1], item[0]))


def _reciprocal(leg: Mapping[str, Leg]) -> dict[str, float]:
    return {id: 1 / (RRF_K + found.rank) for id, found in leg.items()}


def _scaled(leg: Mapping[str, Leg], weight: float) -> dict[str, float]:
    """Scores moved to 0..`weight`; a list of equal scores is all `weight`, because each is its best."""
    if not leg:
        return {}
    scores = [found.score for found in leg.values()]
    low, high = min(scores), max(scores)
    if high == low:
        return dict.fromkeys(leg, weight)
    return {id: weight * ((found.score - low) / (high - low)) for id, found in leg.items()}
