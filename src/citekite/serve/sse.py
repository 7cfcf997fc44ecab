"""Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any, TypeVar

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from citekite.errors import CitekiteError
from citekite.serve.workers import Stream

T = TypeVar("T")

# A comment after so long a silence keeps proxies from closing the connection: nginx does after 60 s.
KEEP_ALIVE_SECONDS = 15.0
KEEP_ALIVE = ": keep-alive\n\n"
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def sse(name: str, values: dict[str, Any]) -> str:
    """One event with JSON as its data.

    >>> sse("Delta", {"text": "é"})
    'event: Delta\\ndata: {"text": "é"}\\n\\n'
    """
    return f"event: {name}\ndata: {json.dumps(values, ensure_ascii=False)}\n\n"


class EventStream(StreamingResponse):
    """The reply that a stream of the workers makes; it ends with the stream, and stops it when the client leaves.

    `render` gives the text of an item; `failed` that of the error which ended the stream, where one did.
    """

    media_type = "text/event-stream"

    def __init__(self, stream: Stream[T], render: Callable[[T], str], failed: Callable[[CitekiteError], str]) -> None:
        super().__init__(_texts(stream, render, failed), headers=HEADERS)
        self._stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the stream ends or the client leaves, whichever protocol version the server speaks.

        Starlette hears of a client who left by the next `send` alone from version 2.4 of the protocol on. A model that
        thinks sends nothing.
        """
        sending = asyncio.ensure_future(self.stream_response(send))
        leaving = asyncio.ensure_future(self.listen_for_disconnect(receive))
        try:
            await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                with suppress(OSError):  # the connection broke while sending
                    sending.result()
        finally:
            self._stream.stop()
            sending.cancel()
            leaving.cancel()


async def _texts(
    stream: Stream[T], render: Callable[[T], str], failed: Callable[[CitekiteError], str]
) -> AsyncIterator[str]:
    while True:
        coming = asyncio.ensure_future(anext(stream, None))
        try:
            while not (await asyncio.wait((coming,), timeout=KEEP_ALIVE_SECONDS))[0]:
                yield KEEP_ALIVE
            if (item := coming.result()) is None:
                return
        except CitekiteError as error:
            yield failed(error)
            return
        finally:
            coming.cancel()
        # A loop that lags behind many streams sends what has come meanwhile in one piece.
        yield "".join(map(render, itertools.chain((item,), stream.ready())))
