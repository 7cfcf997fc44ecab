"""The paths of `/v1`: models, chat completions, embeddings."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

import numpy as np
from fastapi import APIRouter
from fastapi.responses import JSONResponse, StreamingResponse

from citekite.embed.batching import Embedded, embed_in_batches
from citekite.events import Delta, Done, Event, Failed
from citekite.knowledge_base import KnowledgeBase
from citekite.ports import Vectors
from citekite.render import problem_json
from citekite.serve.asking import Caller, TheService
from citekite.serve.openai_api.bodies import ChatBody, EmbeddingsBody, invalid
from citekite.serve.openai_api.completion import Reply
from citekite.serve.openai_api.errors import openai_error
from citekite.serve.openai_api.models import collections, knowledge_base_for, model_json, require_model

router = APIRouter(tags=["OpenAI-compatible"])


@router.get("/models", summary="The collections, as models.")
async def models(service: TheService, caller: Caller) -> dict[str, Any]:
    names = await collections(service, caller)
    return {"object": "list", "data": [model_json(name) for name in names]}


@router.get("/models/{name:path}", summary="One collection, as a model.")
async def model(service: TheService, caller: Caller, name: str) -> dict[str, Any]:
    await require_model(service, caller, name)
    return model_json(name)


@router.post("/chat/completions", summary="The answer to the last user turn, with its sources.", response_model=None)
async def chat(body: ChatBody, service: TheService, caller: Caller) -> JSONResponse | StreamingResponse:
    body.require_possible()
    question, history = body.conversation()
    kb = await knowledge_base_for(service, caller, body.model)
    reply = Reply(kb.settings.collection, with_usage=bool(body.stream_options and body.stream_options.include_usage))
    if not body.stream:
        answer = await service.workers.call(lambda: kb.ask(question, history=history))
        return JSONResponse(reply.completion(answer))
    events = service.workers.stream(lambda: kb.ask_stream(question, history=history))
    first = await anext(events)
    if isinstance(first, Failed):
        await events.aclose()
        raise first.error
    lines = _lines(reply, events)
    return StreamingResponse(lines, media_type="text/event-stream", headers={"Cache-Control": "no-store"})


async def _lines(reply: Reply, events: AsyncGenerator[Event, None]) -> AsyncIterator[str]:
    """The server-sent events of a completion; the error of one that fails on its way is the last of them."""
    yield _line(reply.begin())
    async with aclosing(events) as stream:
        async for event in stream:
            if isinstance(event, Delta):
                yield _line(reply.text(event.text))
            elif isinstance(event, Failed):
                yield _line(openai_error(problem_json(event.error)))
                return
            elif isinstance(event, Done):
                for chunk in reply.end(event.answer):
                    yield _line(chunk)
    yield "data: [DONE]\n\n"


def _line(values: dict[str, Any]) -> str:
    return f"data: {json.dumps(values, ensure_ascii=False)}\n\n"


@router.post("/embeddings", summary="The vectors of texts, as the collection's embedder makes them.")
async def embeddings(body: EmbeddingsBody, service: TheService, caller: Caller) -> JSONResponse:
    texts = body.texts()
    kb = await knowledge_base_for(service, caller, body.model)
    name, vectors, tokens = await service.workers.call(lambda: _embed(kb, texts, body.dimensions))
    packed = body.encoding_format == "base64"
    rows = [
        {
            "object": "embedding",
            "index": index,
            "embedding": base64.b64encode(vector.astype("<f4").tobytes()).decode() if packed else vector.tolist(),
        }
        for index, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return JSONResponse({"object": "list", "data": rows, "model": name, "usage": usage})


def _embed(kb: KnowledgeBase, texts: list[str], dimensions: int | None) -> tuple[str, Vectors, int]:
    """The embedder's name, the vectors of the texts as passages, and an estimate of their tokens.

    OpenAI's call does not say whether a text is a question. All are embedded as passages, so that the vectors of two
    calls can be compared.
    """
    embedder = kb.embedder()
    length = embedder.dimension or len(embedder.embed_query("test"))
    if dimensions not in (None, length):
        raise invalid("dimensions", f"{embedder.name!r} makes vectors of {length} numbers: leave dimensions out")
    vectors = np.empty((len(texts), length), dtype=np.float32)
    tokens = 0
    for batch in embed_in_batches(embedder, enumerate(texts), lambda item: item[1]):
        if not isinstance(batch, Embedded):
            raise batch.error
        vectors[[index for index, _ in batch.items]] = batch.vectors
        tokens += batch.tokens
    return embedder.name, vectors, tokens
