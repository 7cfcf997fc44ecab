"""Calls to a Milvus server: each ends within a limit, and one that meets a restarting server is made again.

pymilvus waits for ever, or through 75 retries, where no time is given, and gives up when the first reconnection fails.
Here a call is repeated while the server is away, as long as the work that it belongs to may wait. What writes rows or
sets a value may arrive twice: rows are stored and deleted by their id, and a value replaces the one before. What makes
something new is not repeated by itself: `patiently` repeats a step that first clears or looks at what is there.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, TypeVar

from citekite import cancel
from citekite.errors import StoreUnreachable
from citekite.store.faults import is_away, is_released

T = TypeVar("T")

# A search of millions of rows takes well under a second; a server that is asked for longer is gone or overloaded.
READ_SECONDS = 30.0
# A flush and the loading of a large collection take minutes.
WRITE_SECONDS = 300.0
# The longest that someone who asks a question waits for a server to come back.
QUESTION_SECONDS = 10.0
# The server of Milvus Lite is back within a second, a standalone one that was killed within forty.
FIRST_DELAY, LONGEST_DELAY = 0.1, 2.0

_READS = ("describe", "get", "has", "list")
_READS_OF_ROWS = ("query", "search")
_REPEATABLE = ("alter", "delete", "drop", "flush", "load", "refresh", "upsert")
_ONCE = ("create_alias", "create_collection", "create_database", "create_index")

_most_seconds: ContextVar[float | None] = ContextVar("most_seconds", default=None)

logger = logging.getLogger(__name__)


@contextmanager
def hurried(seconds: float = QUESTION_SECONDS) -> Iterator[None]:
    """Let no call inside, in this thread, wait longer than that for a server that is away: someone waits for it."""
    token = _most_seconds.set(seconds)
    try:
        yield
    finally:
        _most_seconds.reset(token)


def patiently(call: Callable[[], T], uri: str, seconds: float) -> T:
    """The result of `call()`, which is made again while the server is away, for at most so many seconds.

    Raises `StoreUnreachable` when they are over, and any other error at once.
    """
    from grpc import RpcError
    from pymilvus import MilvusException

    most = _most_seconds.get()
    seconds = seconds if most is None else min(seconds, most)
    started, delay = time.monotonic(), FIRST_DELAY
    while True:
        try:
            return call()
        except (MilvusException, RpcError) as error:
            if not is_away(error):
                raise
            elapsed = time.monotonic() - started
            if elapsed + delay > seconds:
                raise StoreUnreachable(
                    f"no Milvus server answers at {uri}, asked for {elapsed:.0f} s: check that it runs, then run the "
                    "same command again; what was stored is kept"
                ) from error
        if delay == FIRST_DELAY:
            logger.warning("no Milvus server answers at %s; asking again for up to %.0f s", uri, seconds)
        cancel.sleep(delay)
        delay = min(2 * delay, LONGEST_DELAY)


class BoundedClient:
    """A `MilvusClient` whose calls each end within a limit, and wait `patience` seconds for a server to return."""

    def __init__(self, client: Any, uri: str, patience: float) -> None:
        self._client = client
        self._uri = uri
        self._patience = patience

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if name.startswith(_READS_OF_ROWS):
            return partial(self._read, partial(method, timeout=READ_SECONDS))
        if name.startswith(_READS):
            return partial(self._repeat, partial(method, timeout=READ_SECONDS))
        if name.startswith(_REPEATABLE):
            return partial(self._repeat, partial(method, timeout=WRITE_SECONDS))
        return partial(method, timeout=WRITE_SECONDS) if name.startswith(_ONCE) else method

    def query_iterator(self, collection: str, **values: Any) -> Pages:
        """What `MilvusClient.query_iterator` gives, each page read like a query."""
        begin = partial(self._client.query_iterator, timeout=READ_SECONDS, **values)
        return Pages(self._read(begin, collection), partial(self._read, collection=collection))

    def _repeat(self, call: Callable[..., T], *arguments: Any, **values: Any) -> T:
        return patiently(partial(call, *arguments, **values), self._uri, self._patience)

    def _read(self, call: Callable[..., T], collection: str, **values: Any) -> T:
        """Read rows; where a restart has released the collection, it is loaded again."""
        from pymilvus import MilvusException

        def read() -> T:
            try:
                return call(collection, **values)
            except MilvusException as error:
                if is_released(error):
                    self._client.load_collection(collection, timeout=READ_SECONDS, _async=True)
                raise

        return self._repeat(read)


class Pages:
    """An iterator of pymilvus over the pages of a query; it goes on behind the last row that it gave."""

    def __init__(self, iterator: Any, read: Callable[..., Any]) -> None:
        self._iterator = iterator
        self._read = read

    def next(self) -> Any:
        """The next page, empty at the end."""
        return self._read(lambda _: self._iterator.next())

    def close(self) -> None:
        """Free what the iterator holds."""
        self._iterator.close()
