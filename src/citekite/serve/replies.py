"""The replies of search and ask as types, for OpenAPI: exactly what `citekite.render` gives, as a test checks.

They describe and do not convert: a route sends what `render` gives as it is.
"""

from __future__ import annotations

from typing import Any, NotRequired

from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict

from citekite.explanation import Purpose
from citekite.types import Outcome, Verdict

_exact = with_config(ConfigDict(extra="forbid"))


@_exact
class LegReply(TypedDict):
    """How a search leg found a chunk: its rank from 1 and its raw score."""

    rank: int
    score: float


@_exact
class PlaceReply(TypedDict):
    """A further place where nearly the same text stands."""

    chunk_id: str
    source: str
    title: str
    headings: list[str]
    start: int
    end: int
    line: int
    page: int | None


@_exact
class HitReply(TypedDict):
    """A chunk that a search found; `start` and `end` are its offsets in the document's text."""

    rank: int
    score: float
    document_id: str
    id: str
    source: str
    title: str
    ordinal: int
    start: int
    end: int
    text: str
    headings: list[str]
    line: int
    page: int | None
    metadata: dict[str, Any]
    context: str
    access: list[str]
    legs: dict[str, LegReply]
    also: list[PlaceReply]


@_exact
class UsageReply(TypedDict):
    """The tokens that the model endpoint counted."""

    prompt_tokens: int
    completion_tokens: int


@_exact
class ModelUseReply(TypedDict):
    """One call of a model; `cost` is null where no price of it is known."""

    purpose: Purpose
    model: str
    usage: UsageReply
    estimated: bool
    seconds: float
    cost: float | None


@_exact
class StageReply(TypedDict):
    """One stage: its time, how many candidates it left, and the scores of the best of them."""

    name: str
    seconds: float
    candidates: int | None
    scores: list[float]
    details: dict[str, Any]
    uses: list[ModelUseReply]


@_exact
class PlacedReply(TypedDict):
    """How a passage got its place: rank and score by what ranked it, and the number of the passage that holds it."""

    id: str
    source: str
    place: str
    rank: int
    score: float
    legs: dict[str, LegReply]
    parts: dict[str, float]
    passage: int | None
    cited: bool


@_exact
class ExplanationReply(TypedDict):
    """The stages in the order in which they ran, and the passages found, best first."""

    seconds: float
    stages: list[StageReply]
    hits: list[PlacedReply]


@_exact
class SearchReply(TypedDict):
    """The hits, best first, the texts searched for, remarks, the seconds of each stage, the tokens of rewriting."""

    hits: list[HitReply]
    queries: list[str]
    notes: list[str]
    seconds: dict[str, float]
    usage: UsageReply
    explanation: NotRequired[ExplanationReply]


@_exact
class CitationReply(TypedDict):
    """The span behind the marker `[number]`; `verified` is false where a quote does not stand in the passage."""

    number: int
    chunk_id: str
    document_id: str
    source: str
    title: str
    headings: list[str]
    start: int
    end: int
    line: int
    page: int | None
    quote: str
    verified: bool
    also: list[PlaceReply]


@_exact
class ClaimReply(TypedDict):
    """A sentence of the answer, checked against the spans that it cites."""

    start: int
    end: int
    numbers: list[int]
    verdict: Verdict
    reason: str
    text: str


@_exact
class StepReply(TypedDict):
    """One step of a deep answer."""

    kind: str
    round: int
    text: str
    queries: list[str]
    new: int


@_exact
class AnswerReply(TypedDict):
    """An answer with its grounds: the citation of number n is of `hits[n - 1]`."""

    question: str
    standalone: str
    outcome: Outcome
    text: str
    model: str
    usage: UsageReply
    citations: list[CitationReply]
    hits: list[HitReply]
    dropped_markers: int
    unverified_quotes: list[str]
    confidence: float | None
    claims: list[ClaimReply]
    notes: list[str]
    steps: list[StepReply]
    explanation: NotRequired[ExplanationReply]


HIT: dict[str, Any] = {
    "rank": 1,
    "score": 0.93,
    "document_id": "1f0c9a6b5d3e",
    "id": "1f0c9a6b5d3e-7be1c2a94f60",
    "source": "/srv/docs/storage.pdf",
    "title": "Storage",
    "ordinal": 0,
    "start": 11,
    "end": 93,
    "text": "## Where data is kept\n\nMilvus keeps inserted data in object storage such as MinIO.",
    "headings": ["Storage", "Where data is kept"],
    "line": 3,
    "page": 1,
    "metadata": {},
    "context": "",
    "access": [],
    "legs": {"dense": {"rank": 1, "score": 0.71}, "lexical": {"rank": 1, "score": 6.2}},
    "also": [],
}
SEARCH: dict[str, Any] = {
    "hits": [HIT],
    "queries": ["How is data stored?"],
    "notes": [],
    "seconds": {"embed": 0.001, "dense": 0.003, "lexical": 0.001, "fetch": 0.002},
    "usage": {"prompt_tokens": 0, "completion_tokens": 0},
}
ANSWER: dict[str, Any] = {
    "question": "How is data stored?",
    "standalone": "How is data stored?",
    "outcome": "answered",
    "text": "Milvus keeps inserted data in object storage [1].",
    "model": "accounts/fireworks/models/gpt-oss-120b",
    "usage": {"prompt_tokens": 412, "completion_tokens": 14},
    "citations": [
        {
            "number": 1,
            "chunk_id": HIT["id"],
            "document_id": HIT["document_id"],
            "source": HIT["source"],
            "title": HIT["title"],
            "headings": HIT["headings"],
            "start": 34,
            "end": 93,
            "line": 5,
            "page": 1,
            "quote": "Milvus keeps inserted data in object storage such as MinIO.",
            "verified": True,
            "also": [],
        }
    ],
    "hits": [HIT],
    "dropped_markers": 0,
    "unverified_quotes": [],
    "confidence": 0.97,
    "claims": [
        {
            "start": 0,
            "end": 49,
            "numbers": [1],
            "verdict": "supported",
            "reason": "",
            "text": "Milvus keeps inserted data in object storage [1].",
        }
    ],
    "notes": [],
    "steps": [],
}
RETRIEVED: dict[str, Any] = {"hits": [HIT], "standalone": "How is data stored?", "queries": [], "notes": []}
