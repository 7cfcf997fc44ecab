"""The inverse of `citekite.render`: what flows, from the plain values of JSON that a server sent.

`parse(render(x)) == x`; keys that are not known are passed over, so that a newer server can be read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

from citekite import errors
from citekite.errors import CitekiteError, MissingExtra, RateLimited, ServerBusy, ServerError, SettingsError
from citekite.events import Cited, Delta, Done, Event, Failed, Retrieved
from citekite.explanation import Explanation, ModelUse, Placed, Stage
from citekite.reports import CollectionStatus, DocumentSummary, Failure, Progress, SyncReport, UsageRow
from citekite.types import Answer, Chunk, Citation, Claim, Hit, Leg, Retrieval, Step, StoredDocument, Usage

T = TypeVar("T")
Values = Mapping[str, Any]


def parse_hit(values: Values) -> Hit:
    """A hit, of `render.hit_json`."""
    return Hit(
        chunk=_made(Chunk, values),
        score=values["score"],
        rank=values["rank"],
        legs={name: _made(Leg, leg) for name, leg in values["legs"].items()},
        others=tuple(_made(Chunk, {**other, "id": other["chunk_id"]}) for other in values["also"]),
    )


def parse_retrieval(values: Values) -> Retrieval:
    """What a search found, of `render.retrieval_json`."""
    return _made(
        Retrieval,
        values,
        hits=_hits(values["hits"]),
        usage=_made(Usage, values["usage"]),
        explanation=_explanation(values),
    )


def parse_answer(values: Values) -> Answer:
    """An answer, of `render.answer_json`; each citation has the hit of the answer that it points at."""
    hits = _hits(values["hits"])
    by_id = {hit.chunk.id: hit for hit in hits}
    return _made(
        Answer,
        values,
        hits=hits,
        citations=tuple(_citation(one, by_id[one["chunk_id"]]) for one in values["citations"]),
        usage=_made(Usage, values["usage"]),
        claims=tuple(_made(Claim, one) for one in values["claims"]),
        steps=tuple(_made(Step, one) for one in values["steps"]),
        explanation=_explanation(values),
    )


def parse_usage_row(values: Values) -> UsageRow:
    """A row of the account, of `render.usage_row_json`."""
    return _made(UsageRow, values, usage=_made(Usage, values))


def parse_document(values: Values) -> StoredDocument:
    """A stored document with its chunks, of `render.document_json`."""
    shared = {name: values[name] for name in ("source", "title", "metadata", "access")}
    chunks = (
        _made(Chunk, {**shared, **one, "text": values["text"][one["start"] : one["end"]]}) for one in values["chunks"]
    )
    return _made(StoredDocument, values, chunks=tuple(chunks))


def parse_summary(values: Values) -> DocumentSummary:
    """A row of the list of documents."""
    return _made(DocumentSummary, values)


def parse_status(values: Values) -> CollectionStatus:
    """What a collection holds and how it was made."""
    return _made(CollectionStatus, values)


def parse_progress(values: Values) -> Progress:
    """How far a job is."""
    return _made(Progress, values)


def parse_report(values: Values) -> SyncReport:
    """What a sync did."""
    return _made(
        SyncReport,
        values,
        failures=tuple(_made(Failure, one) for one in values["failures"]),
        warnings=tuple(_made(Failure, one) for one in values["warnings"]),
        context_usage=_made(Usage, values["context_usage"]),
    )


def parse_outcome(job: Values) -> SyncReport:
    """What a job did that has ended, of `job_json`; raises the error that ended it.

    A job of which every file failed has a report all the same. Raises `KeyboardInterrupt` where it was cancelled,
    `ServerError` where the server ended before it was done.
    """
    match job["state"]:
        case "done" | "failed" if job["report"] is not None:
            return parse_report(job["report"])
        case "failed":
            raise parse_problem(job["problem"])
        case "cancelled":
            raise KeyboardInterrupt
    raise ServerError(f"the server ended the job {job['id']} before it was done ({job['state']})")


def parse_event(name: str, values: Values) -> Event:
    """An event of an answer, of `render.event_json`."""
    return _EVENTS[name](values)


def parse_problem(values: Values, retry_after: float = 1.0) -> CitekiteError:
    """The error that a problem (RFC 9457) stands for: of the Python class that its title names, with the same message.

    A title that is not known here gives a `SettingsError` where the server blames the request, else a `ServerError`.
    """
    detail = str(values.get("detail") or values.get("title"))
    family = SettingsError if values.get("status") in (400, 422) else ServerError
    kind = _ERRORS.get(str(values.get("title")), family)
    if issubclass(kind, RateLimited | ServerBusy):
        return kind(detail, retry_after)
    error = kind.__new__(kind)  # past the constructor: the message of a `MissingExtra` is made by its own
    error.args = (detail,)
    error.partial = str(values.get("partial", ""))
    if isinstance(error, MissingExtra):
        error.extra = detail.rpartition("[")[2].partition("]")[0]
    return error


def _explanation(values: Values) -> Explanation | None:
    """The explanation of an answer or a search, of `render.explanation_json`; None where it has none."""
    if (explanation := values.get("explanation")) is None:
        return None
    stages = (
        _made(Stage, one, uses=tuple(_made(ModelUse, use, usage=_made(Usage, use["usage"])) for use in one["uses"]))
        for one in explanation["stages"]
    )
    hits = (
        _made(Placed, one, legs={name: _made(Leg, leg) for name, leg in one["legs"].items()})
        for one in explanation["hits"]
    )
    return Explanation(tuple(stages), tuple(hits))


def _hits(values: Sequence[Values]) -> tuple[Hit, ...]:
    return tuple(map(parse_hit, values))


def _citation(values: Values, hit: Hit) -> Citation:
    places = {other.id: other for other in hit.others}
    return _made(
        Citation,
        values,
        hit=hit,
        also=tuple(
            _also(values, place, replace(hit, chunk=places[place["chunk_id"]], others=())) for place in values["also"]
        ),
    )


def _also(citation: Values, place: Values, hit: Hit) -> Citation:
    start, end = place["start"], place["end"]
    quote = hit.chunk.text[start - hit.chunk.start : end - hit.chunk.start]
    return Citation(citation["number"], hit, quote, start, end, place["line"], citation["verified"])


def _retrieved(values: Values) -> Retrieved:
    return _made(Retrieved, values, hits=_hits(values["hits"]))


def _failed(values: Values) -> Failed:
    return Failed(parse_problem(values["problem"]), _text(values["partial"]))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _made(kind: type[T], values: Values, **built: Any) -> T:
    """An object of a dataclass: what was built, and the rest as it stands in the values, with lists as tuples."""
    names = (field.name for field in fields(kind) if field.name in values)  # type: ignore[arg-type]
    plain = {name: values[name] for name in names if name not in built}
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in plain.items()}, **built)


def _kinds(base: type[CitekiteError]) -> Iterator[type[CitekiteError]]:
    yield base
    for kind in base.__subclasses__():
        yield from _kinds(kind)


_EVENTS: dict[str, Callable[[Values], Event]] = {
    "Step": lambda values: _made(Step, values),
    "Retrieved": _retrieved,
    "Delta": lambda values: Delta(_text(values["text"])),
    "Cited": lambda values: _made(Cited, values),
    "Done": lambda values: Done(parse_answer(values["answer"])),
    "Failed": _failed,
}
_ERRORS = {kind.__name__: kind for kind in _kinds(CitekiteError) if kind.__module__ == errors.__name__}
