"""What flows, as plain values for JSON: one form for the command line, HTTP, the web page and MCP."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

from citekite.errors import CitekiteError, status_of
from citekite.events import Cited, Delta, Done, Event, Failed, Retrieved
from citekite.explanation import Explanation
from citekite.reports import UsageRow
from citekite.types import Answer, Chunk, Citation, Hit, Retrieval, Step, StoredDocument


def hit_json(hit: Hit) -> dict[str, Any]:
    """A hit as plain values: text, source, headings, offsets, legs and scores."""
    return {
        "rank": hit.rank,
        "score": hit.score,
        "document_id": hit.chunk.document_id,
        **_chunk_json(hit.chunk),
        "legs": {name: {"rank": leg.rank, "score": leg.score} for name, leg in hit.legs.items()},
        "also": [{"chunk_id": other.id, **_chunk_json(other)} for other in hit.others],
    }


def _chunk_json(chunk: Chunk) -> dict[str, Any]:
    """All fields of a chunk. `asdict` would copy the metadata value by value, for every hit of every reply."""
    return {field.name: getattr(chunk, field.name) for field in fields(chunk)}


def answer_json(answer: Answer) -> dict[str, Any]:
    """An answer as plain values."""
    return {
        "question": answer.question,
        "standalone": answer.standalone,
        "outcome": answer.outcome,
        "text": answer.text,
        "model": answer.model,
        "usage": asdict(answer.usage),
        "citations": [citation_json(citation) for citation in answer.citations],
        "hits": [hit_json(hit) for hit in answer.hits],
        "dropped_markers": answer.dropped_markers,
        "unverified_quotes": list(answer.unverified_quotes),
        "confidence": answer.confidence,
        "claims": [asdict(claim) | {"text": answer.text[claim.start : claim.end]} for claim in answer.claims],
        "notes": list(answer.notes),
        "steps": [asdict(step) for step in answer.steps],
        **_explained(answer),
    }


def citation_json(citation: Citation) -> dict[str, Any]:
    """A citation as plain values; offsets point into the document's text."""
    chunk = citation.hit.chunk
    return {
        "number": citation.number,
        "chunk_id": chunk.id,
        "document_id": chunk.document_id,
        "source": chunk.source,
        "title": chunk.title,
        "headings": list(chunk.headings),
        "start": citation.start,
        "end": citation.end,
        "line": citation.line,
        "page": chunk.page,
        "quote": citation.quote,
        "verified": citation.verified,
        "also": [_place_json(one.hit.chunk, one.start, one.end, one.line) for one in citation.also],
    }


def _place_json(chunk: Chunk, start: int, end: int, line: int) -> dict[str, Any]:
    """A further place of the same text."""
    return {
        "chunk_id": chunk.id,
        "source": chunk.source,
        "title": chunk.title,
        "headings": list(chunk.headings),
        "start": start,
        "end": end,
        "line": line,
        "page": chunk.page,
    }


def retrieval_json(found: Retrieval) -> dict[str, Any]:
    """What a search found."""
    return {
        "hits": [hit_json(hit) for hit in found.hits],
        "queries": list(found.queries),
        "notes": list(found.notes),
        "seconds": dict(found.seconds),
        "usage": asdict(found.usage),
        **_explained(found),
    }


def _explained(value: Answer | Retrieval) -> dict[str, Any]:
    """The explanation, where it was asked for."""
    return {} if value.explanation is None else {"explanation": explanation_json(value.explanation)}


def usage_row_json(row: UsageRow) -> dict[str, Any]:
    """A row of the account as plain values, its tokens beside the rest."""
    values = asdict(row)
    usage = values.pop("usage")
    return {**values, **usage}


def explanation_json(explanation: Explanation) -> dict[str, Any]:
    """How a search or an answer came about, as plain values."""
    return {"seconds": explanation.seconds, **asdict(explanation)}


def document_json(document: StoredDocument) -> dict[str, Any]:
    """A stored document with its text and where its chunks lie in it."""
    return {
        "id": document.id,
        "source": document.source,
        "title": document.title,
        "text": document.text,
        "access": list(document.access),
        "metadata": dict(document.metadata),
        "chunks": [
            {
                "id": chunk.id,
                "ordinal": chunk.ordinal,
                "start": chunk.start,
                "end": chunk.end,
                "line": chunk.line,
                "page": chunk.page,
                "headings": list(chunk.headings),
                "context": chunk.context,
            }
            for chunk in document.chunks
        ],
    }


def problem_json(error: CitekiteError) -> dict[str, Any]:
    """An error as problem details (RFC 9457); `title` is the name of the Python class, `detail` its message.

    `partial` is the text of an answer that it broke off, where some had come.
    """
    name = type(error).__name__
    values = {"type": f"urn:citekite:{name}", "title": name, "status": status_of(error).http, "detail": str(error)}
    return {**values, "partial": error.partial} if error.partial else values


def event_json(event: Event) -> tuple[str, dict[str, Any]]:
    """The name of an event and its values: `Step`, `Retrieved`, `Delta`, `Cited`, `Done` or `Failed`."""
    match event:
        case Retrieved(hits, standalone, notes, queries):
            values: dict[str, Any] = {
                "hits": [hit_json(hit) for hit in hits],
                "standalone": standalone,
                "queries": list(queries),
                "notes": list(notes),
            }
        case Done(answer):
            values = {"answer": answer_json(answer)}
        case Failed(error, partial):
            values = {"problem": problem_json(error), "partial": partial}
        case Step() | Delta() | Cited():
            values = asdict(event)
    return type(event).__name__, values
