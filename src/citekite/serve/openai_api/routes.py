"""The paths of `/v1`: models, chat completions, embeddings."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from typing import Any, TypeVar

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect

from citekite.embed.batching import Embedded, embed_in_batches
from citekite.errors import CitekiteError
from citekite.events import Delta, Done, Event, Failed, answer_of
from citekite.knowledge_base import KnowledgeBase
from citekite.ports import Embedder, Vectors
from citekite.render import problem_json
from citekite.serve.asking import Caller, TheService
from citekite.serve.openai_api.bodies import ChatBody, EmbeddingsBody, invalid
from citekite.serve.openai_api.completion import Reply
from citekite.serve.openai_api.errors import openai_error
from citekite.serve.openai_api.models import collections, knowledge_base_for, model_json, require_model
from citekite.serve.sse import EventStream
from citekite.serve.workers import Stream, disconnected

T = TypeVar("T")

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
async def chat(body: ChatBody, request: Request, service: TheService, caller: Caller) -> JSONResponse | EventStream:
    body.require_possible()
    question, history = body.conversation()
    kb = await knowledge_base_for(service, caller, body.model)
    reply = Reply(kb.settings.collection, with_usage=bool(body.stream_options and body.stream_options.include_usage))

    def events() -> Iterator[Event]:
        return service.metrics.watched(kb.ask_stream(question, history=history))

    if not body.stream:
        return JSONResponse(reply.completion(await service.workers.call(lambda: answer_of(events()), request)))
    stream = service.workers.stream(events)
    # Until something was found there is no reply: what fails up to then has a status of its own.
    first = await _first(stream, request)
    if isinstance(first, Failed):
        raise first.error
    return EventStream(stream, _Rendered(reply), _failed)


async def _first(stream: Stream[T], request: Request) -> T:
    """The first item of a stream; it is stopped, and `ClientDisconnect` raised, when the client leaves before."""
    coming, leaving = asyncio.ensure_future(anext(stream)), asyncio.ensure_future(disconnected(request))
    try:
        await asyncio.wait((coming, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not coming.done():
            raise ClientDisconnect
        return coming.result()
    finally:
        coming.cancel()
        leaving.cancel()


class _Rendered:
    """The server-sent events of a completion, as the events of its answer come."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self._begun = False

    def __call__(self, event: Event) -> str:
        begin = "" if self._begun else _line(self._reply.begin())
        self._begun = True
        match event:
            case Delta(text):
                return begin + _line(self._reply.text(text))
            case Failed(error):
                return begin + _failed(error)
            case Done(answer):
                return begin + "".join(map(_line, self._reply.end(answer))) + "data: [DONE]\n\n"
        return begin


def _failed(error: CitekiteError) -> str:
    return _line(openai_error(problem_json(error)))


def _line(values: dict[str, Any]) -> str:
    return f"data: {json.dumps(values, ensure_ascii=False)}\n\n"


@router.post("/embeddings", summary="The vectors of texts, as the collection's embedder makes them.")
async def embeddings(body: EmbeddingsBody, request: Request, service: TheService, caller: Caller) -> JSONResponse:
    texts = body.texts()
    kb = await knowledge_base_for(service, caller, body.model)
    if body.dimensions is not None:
        length = await service.workers.call(lambda: _length(kb.embedder()), request)
        if body.dimensions != length:
            raise invalid("dimensions", f"the vectors here have {length} numbers: leave dimensions out")
    name, vectors, tokens = await service.workers.call(lambda: _embed(kb, texts), request)
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


def _length(embedder: Embedder) -> int:
    """The length of an embedder's vectors."""
    return embedder.dimension or len(embedder.embed_query("test"))


def _embed(kb: KnowledgeBase, texts: list[str]) -> tuple[str, Vectors, int]:
    """The embedder's name, the vectors of the texts as passages, and an estimate of their tokens.

    OpenAI's call does not say whether a text is a question. All are embedded as passages, so that the vectors of two
    calls can be compared.
    """
    embedder = kb.embedder()
    vectors = np.empty((len(texts), _length(embedder)), dtype=np.float32)
    tokens = 0
    for batch in embed_in_batches(embedder, enumerate(texts), lambda item: item[1]):
        if not isinstance(batch, Embedded):
            raise batch.error
        vectors[[index for index, _ in batch.items]] = batch.vectors
        tokens += batch.tokens
    return embedder.name, vectors, tokens
