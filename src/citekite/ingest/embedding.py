"""The stage of a sync between reading and writing: what it hands on, and how this process does it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Protocol

from citekite.embed.batching import Embedded, Refused, embed_in_batches
from citekite.ingest.context_writer import ContextWriter
from citekite.ingest.pipeline import Put, read_ahead
from citekite.ingest.plan import Change
from citekite.ingest.scan import Scan
from citekite.ports import Embedder
from citekite.store.writer import WRITE_ROWS, Entry
from citekite.timing import each_counted_as

# Chunks with a context that are embedded together: they were paid for, and are stored soon.
CONTEXT_WINDOW = 64
# Characters of documents that are read ahead of the embedding: some thousand chunks.
READ_AHEAD = 4_000_000


@dataclass(frozen=True, slots=True)
class Borrowed:
    """Entries that need no vector of their own, each with the id of a chunk of the same content.

    That chunk is stored, or was sent to be embedded before and will be, unless it is refused.
    """

    entries: list[tuple[Entry, str]]


@dataclass(frozen=True, slots=True)
class Written:
    """So many chunks that another process embedded and stored, from so many texts.

    `counted` and `english` are what the collection's record counts of them (`Writer.count`).
    """

    chunks: int
    texts: int
    counted: int
    english: int


Result = Embedded[Entry] | Refused[Entry] | Borrowed | Written


class Embedding(Protocol):
    """The stage between reading and writing; `total` is the number of entries to embed, once it is known.

    With `asks_for_contexts` it runs in the thread that writes.
    """

    total: int | None
    asks_for_contexts: bool

    def run(self, put: Put[Result]) -> None:
        """Read and embed, and put the results as they return."""
        ...

    def opened(self) -> None:
        """Learn, from the thread that writes, that the collection is open and the first results are stored."""
        ...


class LocalEmbedding:
    """Embeds in this process."""

    def __init__(
        self, scan: Scan, embedder: Embedder, contexts: ContextWriter | None, stopped: Callable[[], bool]
    ) -> None:
        self.total: int | None = None
        self.asks_for_contexts = contexts is not None
        self._scan = scan
        self._embedder = embedder
        self._contexts = contexts
        self._stopped = stopped
        self._known = scan.known_vectors()

    def opened(self) -> None:
        """Nobody else waits for it."""

    def run(self, put: Put[Result]) -> None:
        """Put the results, in the order in which they return."""
        stopped = self._stopped
        read = each_counted_as("read", self._scan.changes())
        with closing(read_ahead(read, READ_AHEAD, weigh=_characters, stopped=stopped)) as changes:
            fresh = self._fresh(changes, put)
            if self._contexts is None:
                plain = (entry for change in fresh for entry in change.entries)
                results = embed_in_batches(self._embedder, plain, indexed_text, stopped=stopped)
            else:
                # The writer sees to a stop: what it has paid for is still embedded then.
                placed = self._contexts.write(fresh, stopped)
                results = embed_in_batches(self._embedder, placed, indexed_text, window=CONTEXT_WINDOW)
            for result in results:
                put(result)

    def _fresh(self, changes: Iterator[Change], put: Put[Result]) -> Iterator[Change]:
        """The changes with those entries alone whose content nobody has sent yet; the others are borrowed."""
        borrowed: list[tuple[Entry, str]] = []
        total = 0
        for change in changes:
            fresh: list[Entry] = []
            for entry in change.entries:
                if (lender := self._known.get(entry.chunk.id)) is not None:
                    borrowed.append((entry, lender))
                else:
                    self._known.add(entry.chunk.id)
                    fresh.append(entry)
            if len(borrowed) >= WRITE_ROWS:
                put(Borrowed(borrowed))
                borrowed = []
            total += len(fresh)
            yield replace(change, entries=tuple(fresh))
        self.total = total
        put(Borrowed(borrowed))


def indexed_text(entry: Entry) -> str:
    """What is embedded of an entry."""
    return entry.chunk.indexed_text


def _characters(change: Change) -> int:
    return len(change.document.text)
