"""Search and ask; an answer also as a stream of its events."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from citekite.events import Event
from citekite.render import answer_json, event_json, retrieval_json
from citekite.serve.asking import Caller, TheService
from citekite.serve.schemas import AskBody, SearchBody
from citekite.serve.sse import sse

router = APIRouter(tags=["ask"])


@router.post("/search", summary="The passages that answer a question best.")
async def search(body: SearchBody, service: TheService, caller: Caller) -> dict[str, Any]:
    kb = service.knowledge_base(caller, body.collection)
    found = await service.workers.call(
        lambda: kb.retrieve(body.question, k=body.k, mode=body.mode, filter=body.filter.to_filter())
    )
    return retrieval_json(found)


@router.post("/ask", summary="An answer with citations.")
async def ask(body: AskBody, service: TheService, caller: Caller) -> dict[str, Any]:
    kb = service.knowledge_base(caller, body.collection)
    answer = await service.workers.call(
        lambda: kb.ask(
            body.question,
            k=body.k,
            mode=body.mode,
            filter=body.filter.to_filter(),
            history=body.turns(),
            deep=body.deep,
        )
    )
    return answer_json(answer)


@router.post("/ask/stream", summary="An answer as server-sent events.", response_class=StreamingResponse)
async def ask_stream(body: AskBody, service: TheService, caller: Caller) -> StreamingResponse:
    kb = service.knowledge_base(caller, body.collection)

    def events() -> Iterator[Event]:
        return kb.ask_stream(
            body.question,
            k=body.k,
            mode=body.mode,
            filter=body.filter.to_filter(),
            history=body.turns(),
            deep=body.deep,
        )

    async def lines() -> AsyncIterator[str]:
        async for event in service.workers.stream(events):
            yield sse(*event_json(event))

    return StreamingResponse(lines(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})
