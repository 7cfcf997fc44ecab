"""A backup of the whole database, sent while it is made."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from citekite.errors import AccessDenied, ServerBusy, UnknownCollection
from citekite.serve.asking import Caller, TheService
from citekite.serve.examples import ANYWHERE, problems, reply
from citekite.serve.service import Service
from citekite.serve.workers import Stream
from citekite.transfer.backup import blocks

router = APIRouter(tags=["backup"], responses=problems(*ANYWHERE, UnknownCollection))

MEDIA_TYPE = "application/gzip"
# So long a backup waits for a sync at work, and other writes for the backup; then its client is told to come again.
PATIENCE_SECONDS = 5.0


@router.post(
    "/backup",
    summary="A backup of the database, keys, uploads and reports, as a gzipped tar archive.",
    response_class=StreamingResponse,
    responses=reply("", description="The archive, while it is made.", media_type=MEDIA_TYPE),
)
async def backup(service: TheService, caller: Caller) -> StreamingResponse:
    """For a key of scope admin that is for all collections. `ServerBusy` tells that a sync is at work: ask again."""
    caller.require("admin")
    if caller.collections:
        raise AccessDenied(f"the key {caller.name!r} is for some collections, and a backup is of all")
    stream = service.workers.stream(lambda: _blocks(service))
    first = await anext(stream)  # what keeps it from being made is a problem, and not a broken download
    return StreamingResponse(_all(first, stream), media_type=MEDIA_TYPE)


def _blocks(service: Service) -> Iterator[bytes]:
    try:
        yield from blocks(service.settings, seconds=PATIENCE_SECONDS)
    except TimeoutError:
        raise ServerBusy("a sync writes to the database, and a backup waits for its end: ask again") from None


async def _all(first: bytes, stream: Stream[bytes]) -> AsyncIterator[bytes]:
    async with aclosing(stream):
        yield first
        async for piece in stream:
            yield piece
