"""Search and ask; an answer also as a stream of its events."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from citekite.errors import (
    CitekiteError,
    EmbedderMismatch,
    EndpointError,
    EndpointUnavailable,
    FilterError,
    UnknownCollection,
)
from citekite.events import Delta, Event, Failed, answer_of
from citekite.knowledge_base import KnowledgeBase
from citekite.render import answer_json, event_json, retrieval_json
from citekite.serve.asking import Caller, TheService
from citekite.serve.examples import ANYWHERE, problems, reply
from citekite.serve.problems import with_request
from citekite.serve.replies import ANSWER, RETRIEVED, SEARCH, AnswerReply, SearchReply
from citekite.serve.schemas import AskBody, SearchBody
from citekite.serve.service import Service
from citekite.serve.sse import EventStream, sse
from citekite.types import Retrieval

_PROBLEMS = problems(*ANYWHERE, FilterError, UnknownCollection, EmbedderMismatch, EndpointError, EndpointUnavailable)
STREAM = "".join(
    (
        sse("Retrieved", RETRIEVED),
        sse("Delta", {"text": "Milvus keeps inserted data in object storage "}),
        sse("Cited", {"number": 1, "position": 45}),
        sse("Delta", {"text": "[1]."}),
        sse("Done", {"answer": ANSWER}),
    )
)

router = APIRouter(tags=["ask"], responses=_PROBLEMS)


@router.post(
    "/search",
    summary="The passages that answer a question best.",
    response_model=SearchReply,
    responses=reply(SEARCH, description="The hits, best first."),
)
async def search(body: SearchBody, request: Request, service: TheService, caller: Caller) -> JSONResponse:
    """Searches by meaning and by words, and fuses both; `mode` chooses one of them, `filter` the documents."""
    kb = service.knowledge_base(caller, body.collection)

    def found() -> Retrieval:
        return kb.retrieve(
            body.question, k=body.k, mode=body.mode, filter=body.filter.to_filter(), explain=body.explain
        )

    retrieval = await service.workers.call(found, request)
    service.metrics.searched(retrieval)
    return JSONResponse(retrieval_json(retrieval))


@router.post(
    "/ask",
    summary="An answer with citations.",
    response_model=AnswerReply,
    responses=reply(ANSWER, description="The answer, when it is complete."),
)
async def ask(body: AskBody, request: Request, service: TheService, caller: Caller) -> JSONResponse:
    """The citation of number n is of `hits[n - 1]`; offsets point into the document's text.

    `history` has the turns before a question that follows up on them; `deep` searches in rounds.
    """
    kb = service.knowledge_base(caller, body.collection)
    answer = await service.workers.call(lambda: answer_of(_events(kb, body, service)), request)
    return JSONResponse(answer_json(answer))


@router.post(
    "/ask/stream",
    summary="An answer as server-sent events.",
    status_code=200,
    response_class=EventStream,
    responses=reply(STREAM, description="The events, as they come.", media_type="text/event-stream"),
)
async def ask_stream(body: AskBody, service: TheService, caller: Caller) -> EventStream:
    """`Step` (of a deep answer), `Retrieved`, then `Delta` and `Cited`, then `Done` with the whole answer, or `Failed`.

    `Failed` has the problem and the text that had come. A client that leaves ends the model's request. Lines that begin
    with a colon keep the connection alive.
    """
    kb = service.knowledge_base(caller, body.collection)
    rendered = _Rendered()
    return EventStream(service.workers.stream(lambda: _events(kb, body, service)), rendered, rendered.failed)


def _events(kb: KnowledgeBase, body: AskBody, service: Service) -> Iterator[Event]:
    return service.metrics.watched(
        kb.ask_stream(
            body.question,
            k=body.k,
            mode=body.mode,
            filter=body.filter.to_filter(),
            history=body.turns(),
            deep=body.deep,
            explain=body.explain,
        )
    )


class _Rendered:
    """Renders the events of one answer, and remembers its text for an error that ends it from outside."""

    def __init__(self) -> None:
        self._text = ""

    def __call__(self, event: Event) -> str:
        if isinstance(event, Delta):
            self._text += event.text
        return _sent(event)

    def failed(self, error: CitekiteError) -> str:
        return _sent(Failed(error, self._text))


def _sent(event: Event) -> str:
    name, values = event_json(event)
    if isinstance(event, Failed):
        values["problem"] = with_request(values["problem"])
    return sse(name, values)
