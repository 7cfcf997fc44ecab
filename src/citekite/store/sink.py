"""How rows reach Milvus: one request after another, or several at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import Protocol

from citekite.store.rows import Row

Batch = Sequence[Row]
Send = Callable[[Batch], None]

# Requests on the way to a server at once. Each keeps a core of a server busy, and a writer has little more to give.
AT_ONCE = 4
# What a request may hold: a server takes 64 MB (https://milvus.io/docs/limitations.md), and at most twice as many
# requests as are on the way are held in memory.
BATCH_BYTES = 16_000_000


class Sink(Protocol):
    """Takes rows, and has stored them when `settle` returns."""

    def put(self, rows: Batch) -> None:
        """Take rows; raises `StoreError` also for rows that were taken before."""
        ...

    def settle(self) -> None:
        """Return when every row that was taken is stored; raises `StoreError`."""
        ...

    def close(self) -> None:
        """Send nothing more; return when nothing is on the way."""
        ...


class Serial:
    """Sends each batch when it is taken: for the embedded database, which writes one at a time."""

    def __init__(self, send: Send) -> None:
        self._send = send

    def put(self, rows: Batch) -> None:
        self._send(rows)

    def settle(self) -> None:
        pass

    def close(self) -> None:
        pass


class Parallel:
    """Sends several batches at once, never two that hold the same id: of those the later one has to win."""

    def __init__(self, send: Send, at_once: int = AT_ONCE) -> None:
        self._send = send
        self._at_once = at_once
        self._pool = ThreadPoolExecutor(at_once, thread_name_prefix="upsert")
        self._under_way: deque[tuple[Future[None], frozenset[str]]] = deque()

    def put(self, rows: Batch) -> None:
        ids = frozenset(row["id"] for row in rows)
        if not all(ids.isdisjoint(others) for _, others in self._under_way):
            self.settle()
        while len(self._under_way) >= 2 * self._at_once:
            self._await_oldest()
        self._under_way.append((self._pool.submit(copy_context().run, self._send, rows), ids))

    def settle(self) -> None:
        while self._under_way:
            self._await_oldest()

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _await_oldest(self) -> None:
        future, _ = self._under_way.popleft()
        future.result()


def batches(rows: Sequence[Row], size: Callable[[Row], int], most: int = BATCH_BYTES) -> Iterator[list[Row]]:
    """The rows in order, parted where a batch would be larger than `most`; a row that is larger goes alone.

    >>> list(batches([{"id": "aa"}, {"id": "b"}, {"id": "cccc"}], lambda row: len(row["id"]), most=3))
    [[{'id': 'aa'}, {'id': 'b'}], [{'id': 'cccc'}]]
    """
    batch: list[Row] = []
    total = 0
    for row in rows:
        more = size(row)
        if batch and total + more > most:
            yield batch
            batch, total = [], 0
        batch.append(row)
        total += more
    if batch:
        yield batch
