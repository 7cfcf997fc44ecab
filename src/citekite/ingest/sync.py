"""Bringing a collection to the state of its sources: read, split, compare, embed, store, delete what is stale.

There is no manifest. Ids say what a chunk holds, rows say which version of their document they belong to and how many
there are of it; so a run that was killed at any point is continued by the next one, and what was stored is not
embedded again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import numpy as np

from citekite.embed.batching import Embedded, Refused, embed_in_batches
from citekite.ingest.scan import Scan
from citekite.ingest.split import content_of
from citekite.ports import Embedder, Reporter, Vectors
from citekite.store.collection import WRITE_ROWS, Collection, Entry, Writer
from citekite.tokens import estimate_tokens
from citekite.types import Progress, SyncPlan, SyncReport

Create = Callable[[int], Collection]


def plan(scan: Scan, *, prune: bool, price: float | None) -> SyncPlan:
    """What `sync` would do; nothing is embedded or written. `price` is for a million tokens."""
    texts = tokens = 0
    for change in scan.changes():
        for entry in change.embed:
            content = content_of(entry.chunk.id)
            if content not in scan.has_vector:
                scan.has_vector[content] = entry.chunk.id
                texts += 1
                tokens += estimate_tokens(entry.chunk.indexed_text)
    tally, pruned, stale = scan.tally, scan.pruned(), scan.stale()
    return SyncPlan(
        new=tally.new,
        changed=tally.changed,
        unchanged=tally.unchanged,
        pruned=len(pruned) if prune else 0,
        add=tally.add,
        update=tally.update,
        keep=tally.keep,
        delete=len(stale) + (sum(map(len, pruned.values())) if prune else 0),
        texts=texts,
        tokens=tokens,
        cost=None if price is None else tokens * price / 1_000_000,
        failures=tuple(tally.failures),
        warnings=tuple(tally.warnings),
    )


def sync(
    scan: Scan,
    embedder: Embedder,
    collection: Collection | None,
    create: Create,
    *,
    prune: bool,
    splitter: str,
    report: Reporter,
    stopped: Callable[[], bool],
) -> SyncReport:
    """Make the collection equal to the sources; `create(dimension)` makes it when the first vectors are there.

    What is embedded is stored as its batch returns. When `stopped()` turns true no more documents are read, what is in
    flight is stored, and `KeyboardInterrupt` is raised.
    """
    started = time.monotonic()
    with ExitStack() as stack:
        run = _Run(scan, collection, create, stack, report)
        for result in embed_in_batches(
            embedder, run.to_embed(stopped), lambda entry: entry.chunk.indexed_text, stopped=stopped
        ):
            if isinstance(result, Refused):
                for entry in result.items:
                    scan.fail(entry.chunk.source, str(result.error))
            else:
                run.store(result)
        run.write_reused()
        pruned = scan.pruned() if prune else {}
        stale = scan.stale() + [id for ids in pruned.values() for id in ids]
        if run.collection is not None:
            writer = run.writer()
            writer.delete(stale)
            writer.set_splitter(splitter)
    tally = scan.tally
    return SyncReport(
        new=tally.new,
        changed=tally.changed,
        unchanged=tally.unchanged,
        pruned=len(pruned),
        added=tally.add,
        updated=tally.update,
        kept=tally.keep,
        deleted=len(stale),
        texts=run.texts,
        seconds=time.monotonic() - started,
        failures=tuple(tally.failures),
        warnings=tuple(tally.warnings),
    )


class _Run:
    """The writing side of one sync: the collection, made when it is needed, and the one writer to it."""

    def __init__(
        self, scan: Scan, collection: Collection | None, create: Create, stack: ExitStack, report: Reporter
    ) -> None:
        self.collection = collection
        self.texts = 0
        self._scan = scan
        self._create = create
        self._stack = stack
        self._report = report
        self._writer: Writer | None = None
        self._reused: list[Entry] = []
        self._queued = 0
        self._stored = 0
        self._all_read = False

    def to_embed(self, stopped: Callable[[], bool]) -> Iterator[Entry]:
        """The entries that need a vector; those that have one already are stored on the way."""
        for change in self._scan.changes():
            if stopped():
                raise KeyboardInterrupt
            self._reused += change.reuse
            if len(self._reused) >= WRITE_ROWS:
                self.write_reused()
            self._queued += len(change.embed)
            yield from change.embed
        self._all_read = True

    def store(self, embedded: Embedded[Entry]) -> None:
        """Store a batch that returned; later chunks with the same content use its vectors."""
        if self.collection is None:
            self.collection = self._create(embedded.vectors.shape[1])
        self.writer().upsert(embedded.items, embedded.vectors)
        self._scan.has_vector.update((content_of(entry.chunk.id), entry.chunk.id) for entry in embedded.items)
        self.texts += embedded.texts
        self._stored += len(embedded.items)
        self._report(Progress("embedding", self._stored, self._queued if self._all_read else None, "chunks"))

    def write_reused(self) -> None:
        """Store the chunks whose vectors are known, with those."""
        reused, self._reused = self._reused, []
        for start in range(0, len(reused), WRITE_ROWS):
            part = reused[start : start + WRITE_ROWS]
            self.writer().upsert(part, self._known_vectors(part))

    def writer(self) -> Writer:
        """The writer, opened with the first change."""
        if self._writer is None:
            assert self.collection is not None
            self._writer = self._stack.enter_context(self.collection.writing())
        return self._writer

    def _known_vectors(self, entries: list[Entry]) -> Vectors:
        assert self.collection is not None
        ids = [self._scan.has_vector[content_of(entry.chunk.id)] for entry in entries]
        vectors = self.collection.vectors(sorted(set(ids)))
        return np.stack([vectors[id] for id in ids])
