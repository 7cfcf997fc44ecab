"""How a search or an answer came about: its stages, and how each passage got its place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from citekite.types import Leg, Usage

Purpose = Literal["chat", "embedding", "rerank"]


@dataclass(frozen=True, slots=True)
class ModelUse:
    """One call of a model at an endpoint, with the tokens that it took.

    `usage` is what the endpoint counted; `estimated` says that it did not tell, and that citekite estimated instead.
    `cost` is by the prices of the settings, None where they name none for this model.
    """

    purpose: Purpose
    model: str
    usage: Usage
    estimated: bool = False
    seconds: float = 0.0
    cost: float | None = None


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage: its time, how many candidates it left, and the scores of the best of them.

    `candidates` is None for a stage that finds nothing. `details` are further figures and words by name, such as the
    weights of a fusion; `uses` are the calls of models within it.
    """

    name: str
    seconds: float
    candidates: int | None = None
    scores: tuple[float, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    uses: tuple[ModelUse, ...] = ()


@dataclass(frozen=True, slots=True)
class Placed:
    """How one of the passages found got its place.

    `legs` has rank and score by the name of what ranked it: `dense` and `lexical` with their raw scores, `fused`, and
    `rerank`. `parts` are what each leg contributed to the fused score. `passage` is the number of the passage of the
    answer that holds it: None for one that was left out, and for a search. `place` says where it stands.
    """

    id: str
    source: str
    place: str
    rank: int
    score: float
    legs: Mapping[str, Leg]
    parts: Mapping[str, float] = field(default_factory=dict)
    passage: int | None = None
    cited: bool = False


@dataclass(frozen=True, slots=True)
class Explanation:
    """The stages in the order in which they ran, and the passages found, best first."""

    stages: tuple[Stage, ...]
    hits: tuple[Placed, ...] = ()

    @property
    def seconds(self) -> float:
        """The time of all stages together."""
        return sum(stage.seconds for stage in self.stages)

    @property
    def uses(self) -> tuple[ModelUse, ...]:
        """The calls of models, in their order."""
        return tuple(use for stage in self.stages for use in stage.uses)


def together(stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
    """Stages of the same name as one, where the first of them stood: times, candidates and calls added up.

    >>> [(stage.name, stage.candidates) for stage in together((Stage("dense", 1, 3), Stage("dense", 2, 4)))]
    [('dense', 7)]
    """
    merged: dict[str, Stage] = {}
    for stage in stages:
        known = merged.get(stage.name)
        merged[stage.name] = _added(known, stage) if known else stage
    return tuple(merged.values())


def _added(first: Stage, second: Stage) -> Stage:
    counts = [stage.candidates for stage in (first, second) if stage.candidates is not None]
    return Stage(
        first.name,
        first.seconds + second.seconds,
        sum(counts) if counts else None,
        tuple(sorted((*first.scores, *second.scores), reverse=True)[: max(len(first.scores), len(second.scores))]),
        {**first.details, **second.details},
        first.uses + second.uses,
    )
