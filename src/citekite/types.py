"""What flows from a folder of documents to a cited answer.

    source -> Document -> Chunk -> Hit -> Citation -> Answer

Every value is frozen: a stage returns a new one, and only the edges (loading, the model endpoint, the store, the
entry points) do input or output.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from citekite.wellformed import printable

if TYPE_CHECKING:
    from citekite.explanation import Explanation

Mode = Literal["hybrid", "dense", "lexical"]
Fusion = Literal["convex", "rrf"]
QueryExpansion = Literal["none", "multi-query", "hyde"]
Outcome = Literal["answered", "no_evidence", "cut_short"]
Verdict = Literal["supported", "partly", "not_supported"]
Format = Literal["markdown", "text", "html", "pdf", "row", "office"]


@dataclass(frozen=True, slots=True)
class Document:
    """One loaded document; `text` is canonical: every offset in a chunk or a citation points into it.

    `source` is where it came from: an absolute POSIX path or a URL, with `!/member` for what lies in an archive and
    `#key` for a row of a table. `body` is the offset at which the content starts (after front matter), `pages` the
    offset at which each page starts (empty where there are no pages), `digest` a hash of all that the loader was given.
    """

    source: str
    title: str
    text: str
    digest: str
    format: Format = "text"
    metadata: Mapping[str, Any] = field(default_factory=dict)
    body: int = 0
    pages: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Chunk:
    """A passage of a document, with `document.text[start:end] == text`.

    `id` is content-addressed (source, headings, text, occurrence), so that a sync is a set difference. `headings` is
    the path from the document's title down; `line` (from 1) is the line in which the chunk starts; `page` counts
    from 1 and is None where the format has none; `context` is what a model wrote about the chunk's place in its
    document, empty unless the collection is contextual; `access` names the groups that may see it, empty for everyone.
    """

    id: str
    source: str
    title: str
    ordinal: int
    start: int
    end: int
    text: str
    headings: tuple[str, ...] = ()
    line: int = 1
    page: int | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    context: str = ""
    access: tuple[str, ...] = ()

    @property
    def indexed_text(self) -> str:
        """What is embedded and indexed: the heading path and the context in front of the text."""
        return "\n".join(filter(None, (" > ".join(self.headings), self.context, self.text)))

    @property
    def document_id(self) -> str:
        """The part of the id that all chunks of one source share."""
        return self.id.partition("-")[0]


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """A document as the collection holds it: `text[c.start:c.end] == c.text` for each of its `chunks`, in order.

    What lies between chunks is spaces and line ends here; `access` names the groups that may see it, empty for all.
    """

    id: str
    source: str
    title: str
    text: str
    chunks: tuple[Chunk, ...]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    access: tuple[str, ...] = ()


def joined(chunks: Iterable[Chunk]) -> str:
    """The text that chunks of one document, in order, are spans of.

    What lay between them is spaces and line ends here, so that offsets and line numbers are those of the document.
    """
    text, line = "", 1
    for chunk in chunks:
        gap = chunk.start - len(text)
        ends = min(max(0, gap), chunk.line - line)
        addition = " " * (gap - ends) + "\n" * ends + chunk.text[max(0, -gap) :]
        line += addition.count("\n")
        text += addition
    return text


@dataclass(frozen=True, slots=True)
class Leg:
    """How one search leg found a chunk: its rank (from 1) and its raw score."""

    rank: int
    score: float


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk that a search found.

    `score` is that of the last stage (fused or reranked), `legs` says which stage found it at which rank and raw
    score, keyed by `dense`, `lexical` and `rerank`; `others` are chunks with nearly the same text, in this document or
    another: found with it, and not shown again.
    """

    chunk: Chunk
    score: float
    rank: int
    legs: Mapping[str, Leg]
    others: tuple[Chunk, ...] = ()


@dataclass(frozen=True, slots=True)
class Citation:
    """The span behind the marker `[number]` of an answer.

    `start` and `end` are offsets into the document's text, `quote` is what stands there, `line` (from 1) where it
    starts. `verified` is False when a quote of the answer does not stand in the cited passage. `also` are citations of
    the same words where the passage stands in nearly the same form, in this document or another.
    """

    number: int
    hit: Hit
    quote: str
    start: int
    end: int
    line: int
    verified: bool = True
    also: tuple[Citation, ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that the model endpoint counted for one answer."""

    prompt_tokens: int = 0
    completion_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
        )


@dataclass(frozen=True, slots=True)
class Retrieval:
    """What one search found, best first, and how.

    `queries` are the texts that were searched for (the question first), `notes` remarks for the reader (a reranker that
    failed), `seconds` the time of each stage by its name, `usage` the tokens of models that wrote queries.
    `explanation` says more, where it was asked for.
    """

    hits: tuple[Hit, ...]
    queries: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    usage: Usage = Usage()
    explanation: Explanation | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """A sentence of an answer, `answer.text[start:end]`, checked against the spans that it cites.

    `numbers` are the citations it makes or, where it makes none, those of the next sentence of its paragraph that does;
    `reason` says in words what is missing (empty where it is supported).
    """

    start: int
    end: int
    numbers: tuple[int, ...]
    verdict: Verdict
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a deep answer, in a round (from 1).

    `plan` has the queries that the question was split into, `search` those that were searched and the number of `new`
    passages, `assess` what the model says is missing (nothing: it is empty) and to be searched, `stop` why it ended.
    """

    kind: Literal["plan", "search", "assess", "stop"]
    round: int
    text: str = ""
    queries: tuple[str, ...] = ()
    new: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer with its grounds; `str(answer)` is the text followed by the list of its sources.

    `dropped_markers` counts citation markers that pointed at no passage, `notes` are remarks for the reader (no model
    configured, answer cut short), `model` is empty for an extractive answer, `standalone` is the question that was
    searched for (it differs from `question` for a follow-up in a conversation). `claims` are the sentences of the text,
    each checked against what it cites; `confidence` (0 to 1) is the estimate that the passages answer the question;
    `steps` are those of a deep answer; `explanation` says how it came about, where that was asked for.
    """

    question: str
    text: str
    citations: tuple[Citation, ...]
    hits: tuple[Hit, ...]
    outcome: Outcome
    usage: Usage = Usage()
    model: str = ""
    standalone: str = ""
    dropped_markers: int = 0
    unverified_quotes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    claims: tuple[Claim, ...] = ()
    confidence: float | None = None
    steps: tuple[Step, ...] = ()
    explanation: Explanation | None = None

    def __str__(self) -> str:
        lines = [self.text, *self.notes]
        if self.citations:
            lines += ["", "Sources"]
            lines += [line for citation in self.citations for line in _source_lines(citation)]
        return printable("\n".join(lines))


def _source_lines(citation: Citation) -> list[str]:
    places = [describe_location(one.hit.chunk, one.line) for one in (citation, *citation.also)]
    return [f"[{citation.number}] {places[0]}", *(f"    also in {place}" for place in places[1:])]


def describe_location(chunk: Chunk, line: int | None = None) -> str:
    """The place of a chunk for a reader: `title > headings, path:line` or `title > headings, path, page N`."""
    headings = " > ".join(chunk.headings or ((chunk.title,) if chunk.title else ()))
    place = f"{chunk.source}, page {chunk.page}" if chunk.page else f"{chunk.source}:{line or chunk.line}"
    return f"{headings}, {place}" if headings else place


@dataclass(frozen=True, slots=True)
class Turn:
    """One earlier question of a conversation and the answer given to it."""

    question: str
    answer: str
