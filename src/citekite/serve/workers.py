"""Bounded threads for the synchronous core: a call, or a stream of events that ends when its reader leaves."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from citekite.errors import ServerBusy

T = TypeVar("T")

_END = object()


class Workers:
    """At most `limit` calls and streams at once; one more raises `ServerBusy`."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._pool = ThreadPoolExecutor(max_workers=limit, thread_name_prefix="worker")
        self._free = threading.BoundedSemaphore(limit)

    async def call(self, function: Callable[[], T]) -> T:
        """The result of a function, run in a thread."""
        self._enter()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, function)
        finally:
            self._free.release()

    async def stream(self, make: Callable[[], Iterator[T]]) -> AsyncIterator[T]:
        """What an iterator gives, run in a thread; it is closed also when the reader leaves."""
        self._enter()
        loop = asyncio.get_running_loop()
        try:
            iterator = await loop.run_in_executor(self._pool, make)
            try:
                while (item := await loop.run_in_executor(self._pool, next, iterator, _END)) is not _END:
                    yield item  # type: ignore[misc]
            finally:
                close = getattr(iterator, "close", None)
                if close is not None:
                    await loop.run_in_executor(self._pool, close)
        finally:
            self._free.release()

    def _enter(self) -> None:
        if not self._free.acquire(blocking=False):
            raise ServerBusy(f"all {self.limit} places of the server are taken: ask again in a moment")
