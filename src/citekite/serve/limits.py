"""Limits: requests of a key, attempts with wrong keys, and the size of a body."""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable

from starlette.types import Message, Receive, Send

from citekite.errors import RateLimited, TooLarge

MOST_ADDRESSES = 1024
FREE_FAILURES = 5
LONGEST_PAUSE = 2.0
FORGET_SECONDS = 60.0
# Who sends a body and falls silent for so long has left.
SILENCE_SECONDS = 30.0


class Buckets:
    """A bucket of tokens for each key: it holds those of a minute, and fills up steadily.

    So a key that was idle may send a minute's requests at once, and up to twice as many in that minute; no more than
    `per_minute` on average. A window that counts each minute exactly would hold a program up for all the rest of it.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._left: dict[str, tuple[float, float]] = {}  # key id -> tokens, and when there were so many

    def take(self, key_id: str) -> None:
        """Take one token; raises `RateLimited` with the time until there is one again."""
        now = self._clock()
        tokens, since = self._left.get(key_id, (float(self._per_minute), now))
        tokens = min(self._per_minute, tokens + (now - since) * self._per_minute / 60)
        self._left[key_id] = (tokens - 1 if tokens >= 1 else tokens, now)
        if tokens < 1:
            wait = (1 - tokens) * 60 / self._per_minute
            raise RateLimited(
                f"more than {self._per_minute} requests in a minute with this key: "
                f"wait {math.ceil(wait)} s, or raise requests_per_minute",
                retry_after=wait,
            )


class Failures:
    """Attempts with wrong keys by client address: the sixth and further ones within a minute wait before they fail.

    The wait grows to two seconds and holds up that reply alone. A right key never waits: who shares an address with an
    attacker is not locked out. The addresses that were seen last are remembered, not all of them.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def count(self, address: str) -> float:
        """Count an attempt; returns for how many seconds its reply is to be held back."""
        now = self._clock()
        count, last = self._seen.pop(address, (0, now))
        count = 1 if now - last > FORGET_SECONDS else count + 1
        self._seen[address] = (count, now)
        if len(self._seen) > MOST_ADDRESSES:
            self._seen.popitem(last=False)
        return min(LONGEST_PAUSE, 0.1 * 2 ** min(count - FREE_FAILURES, 10)) if count > FREE_FAILURES else 0.0

    async def hold_back(self, address: str) -> None:
        """Count an attempt, and wait."""
        await asyncio.sleep(self.count(address))


class Body:
    """A request's body, counted while it comes in, and the reply to it.

    Whoever reads past the limit gets `TooLarge`. A library that reads may make a reply of its own out of that (a body
    that cannot be parsed): it is not let out, and who made this object sees that the body `exceeded` and replies.
    """

    def __init__(self, receive: Receive, send: Send, limit: int) -> None:
        self._receive, self._send, self._limit = receive, send, limit
        self._count = 0
        self._replied = False
        self._complete = self._silent = False

    @property
    def exceeded(self) -> bool:
        """Whether the body was over the limit before a reply began."""
        return self._count > self._limit and not self._replied

    def check(self, length: str) -> None:
        """Raise `TooLarge` for a `Content-Length` over the limit."""
        if length.isascii() and length.isdigit() and int(length) > self._limit:
            raise self.error()

    def error(self) -> TooLarge:
        return TooLarge(f"the body is larger than {self._limit / 1e6:g} MB, the limit of this path")

    async def receive(self) -> Message:
        """The next piece; nothing for `SILENCE_SECONDS` while one is due counts as a client that left."""
        try:
            async with asyncio.timeout(None if self._complete else SILENCE_SECONDS):
                message = await self._receive()
        except TimeoutError:
            self._silent = True
            return {"type": "http.disconnect"}
        if message["type"] == "http.request":
            self._complete = not message.get("more_body")
            self._count += len(message.get("body", b""))
            if self._count > self._limit:
                raise self.error()
        return message

    async def send(self, message: Message) -> None:
        if not self.exceeded:
            self._replied = True
            if self._silent and message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
            await self._send(message)
