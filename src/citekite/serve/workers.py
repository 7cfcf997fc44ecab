"""Bounded threads for the synchronous core: a call, or a stream of items, that ends when nobody waits for it."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from starlette.requests import ClientDisconnect, Request

from citekite.cancel import Cancelled, cancelled_when
from citekite.errors import CitekiteError, InternalError, ServerBusy

T = TypeVar("T")

# A thread runs this many items ahead of its reader, then waits: a slow reader holds the model up, not the memory.
AHEAD = 16
# A reader that takes nothing for so long is one that left without saying so.
READER_SECONDS = 60.0
# Cancelled threads notice within a slice of a wait; one that computes, or waits for Milvus, is not waited for longer.
NOTICE_SECONDS = 1.0

logger = logging.getLogger(__name__)


class Workers:
    """At most `limit` calls and streams at once; one more raises `ServerBusy`.

    What a thread raises that is no `CitekiteError` is a bug: the log gets the traceback, the caller `InternalError`.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._pool = ThreadPoolExecutor(max_workers=limit, thread_name_prefix="worker")
        self._lock = threading.Lock()
        self._running: set[Stream[Any]] = set()
        self._closing = False

    @property
    def free(self) -> int:
        """How many calls and streams could begin now."""
        return self.limit - len(self._running)

    async def call(self, function: Callable[[], T], request: Request | None = None) -> T:
        """The result of a function, run in a thread.

        It is cancelled (`citekite.cancel`) when the awaiting task is, or when the client that `request` came from
        leaves: then `ClientDisconnect` is raised. Hand the request in where nothing that was begun has to be finished.
        """
        results = self.stream(lambda: iter((function(),)))
        result = asyncio.ensure_future(_only(results))
        left = asyncio.ensure_future(disconnected(request) if request else asyncio.Event().wait())
        try:
            await asyncio.wait((result, left), return_when=asyncio.FIRST_COMPLETED)
            if result.done():
                return result.result()
            raise ClientDisconnect
        finally:
            results.stop()
            result.cancel()
            left.cancel()

    def stream(self, make: Callable[[], Iterator[T]]) -> Stream[T]:
        """What an iterator gives, made and run to its end in one thread; raises `ServerBusy` at once.

        The place is taken from now on, until the stream has ended or `stop` was called and the thread has noticed.
        """
        with self._lock:
            if self._closing:
                raise _shutting_down()
            if len(self._running) >= self.limit:
                raise ServerBusy(f"all {self.limit} places of the server are taken: ask again in a moment")
            stream = Stream(make, self._pool, self._leave)
            self._running.add(stream)
            return stream

    async def close(self, grace_seconds: float = 0.0) -> None:
        """Accept nothing more, let what runs go on for that long, then cancel it and wait until it has noticed.

        Whoever waits for what is cancelled is told `ServerBusy`.
        """
        self._closing = True
        await self._idle(grace_seconds)
        for stream in list(self._running):
            stream.stop(_shutting_down())
        await self._idle(NOTICE_SECONDS)
        self._pool.shutdown(wait=False)

    async def _idle(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._running:
                    await asyncio.sleep(0.05)

    def _leave(self, stream: Stream[Any]) -> None:
        with self._lock:
            self._running.discard(stream)


@dataclass(frozen=True, slots=True)
class _End:
    """The last thing that a thread hands over."""

    error: CitekiteError | None = None


class Stream(Generic[T]):
    """Items from a thread, as an asynchronous iterator for one reader; `stop` it when that reader leaves."""

    def __init__(
        self, make: Callable[[], Iterator[T]], pool: ThreadPoolExecutor, leave: Callable[[Stream[Any]], None]
    ) -> None:
        self._make = make
        self._leave = leave
        self._loop = asyncio.get_running_loop()
        self._items: deque[T | _End] = deque()  # touched in the event loop alone
        self._arrived = asyncio.Event()
        self._room = threading.Semaphore(AHEAD)
        self._stopped = threading.Event()
        # The id of the request, its span and its account are in context variables.
        pool.submit(copy_context().run, self._run)

    def stop(self, reason: CitekiteError | None = None) -> None:
        """Cancel what runs, without waiting for it; the reader, where there is one, is told the reason.

        To be called in the event loop, any number of times.
        """
        self._stopped.set()
        self._room.release()
        self._put(_End(reason))

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        """The next item; cancelling this stops the stream."""
        try:
            while not self._items:
                self._arrived.clear()
                await self._arrived.wait()
        except BaseException:
            self.stop()
            raise
        end = self._items[0]  # stays, for whoever asks once more
        if not isinstance(end, _End):
            return self._take()
        if end.error is not None:
            raise end.error
        raise StopAsyncIteration

    def ready(self) -> Iterator[T]:
        """The items that are there, without waiting."""
        while self._items and not isinstance(self._items[0], _End):
            yield self._take()

    async def aclose(self) -> None:
        """`stop`, under the name that `contextlib.aclosing` calls."""
        self.stop()

    def _run(self) -> None:
        end = _End()
        try:
            with cancelled_when(self._stopped.is_set):
                self._hand_over()
        except CitekiteError as error:
            end = _End(error)
        except Cancelled:
            pass
        except BaseException:
            logger.exception("a bug ended a request")
            end = _End(InternalError("the server failed at this request; its log says why"))
        self._leave(self)  # before the reader hears of the end: what it asks next finds the place free
        self._tell(end)

    def _hand_over(self) -> None:
        iterator = self._make()
        try:
            for item in iterator:
                if not self._room.acquire(timeout=READER_SECONDS) or self._stopped.is_set():
                    raise Cancelled
                self._tell(item)
        finally:
            if (close := getattr(iterator, "close", None)) is not None:
                close()

    def _tell(self, item: T | _End) -> None:
        with suppress(RuntimeError):  # the loop was closed: nobody is left to tell
            self._loop.call_soon_threadsafe(self._put, item)

    def _put(self, item: T | _End) -> None:
        self._items.append(item)
        self._arrived.set()

    def _take(self) -> T:
        self._room.release()
        return cast(T, self._items.popleft())


async def disconnected(request: Request) -> None:
    """Return when the client of a request has left; its body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _only(results: Stream[T]) -> T:
    """The one item of a stream, with the thread's end waited for: its place is free then."""
    found: list[T] = [item async for item in results]
    return found[0]


def _shutting_down() -> ServerBusy:
    return ServerBusy("the server is shutting down: ask again in a moment", retry_after=5.0)
