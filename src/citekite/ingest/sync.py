"""Bringing a collection to the state of its sources: read, split, compare, embed, store, delete what is stale.

Three stages run side by side, joined by bounded buffers: one thread reads, splits and compares, one embeds (its
requests have threads of their own), and the one that called writes. What passes between them is all they share.

There is no manifest. Ids say what a chunk holds, rows say which version of their document they belong to and how many
there are of it; so a run that was killed at any point is continued by the next one, and what was stored is not
embedded again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from citekite.embed.batching import Embedded, Refused
from citekite.ingest.context_writer import ContextWriter
from citekite.ingest.contextual import EXPECTED_TOKENS, contextual_model, prompts
from citekite.ingest.embedding import Borrowed, Embedding, Result, Written
from citekite.ingest.pipeline import Stage
from citekite.ingest.scan import Scan
from citekite.ports import Reporter, Splitter
from citekite.prices import Prices
from citekite.reports import Progress, SyncPlan, SyncReport
from citekite.store.collection import Collection
from citekite.store.writer import WRITE_ROWS, Entry, Writer
from citekite.tokens import estimate_tokens
from citekite.types import Usage

Create = Callable[[int], Collection]

# Results ahead of the writing, besides the one that is handed over: what was paid for is soon stored.
EMBEDDED_AHEAD = 0


def plan(scan: Scan, *, prune: bool, prices: Prices, contextual: bool) -> SyncPlan:
    """What `sync` would do; nothing is asked, embedded or written."""
    texts = tokens = contexts = 0
    usage = Usage()
    known = scan.known_vectors()
    for change in scan.changes():
        chunks = [entry.chunk for entry in change.entries if known.get(entry.chunk.id) is None]
        for messages in prompts(change.document, chunks) if contextual else ():
            contexts += 1
            tokens += EXPECTED_TOKENS
            usage += Usage(sum(estimate_tokens(message.content) for message in messages), EXPECTED_TOKENS)
        for chunk in chunks:
            if known.get(chunk.id) is None:  # a document may say the same twice
                known.add(chunk.id)
                texts += 1
                tokens += estimate_tokens(chunk.indexed_text)
    tally, pruned, stale = scan.tally, scan.pruned(), scan.stale()
    return SyncPlan(
        new=tally.new,
        changed=tally.changed,
        unchanged=tally.unchanged,
        pruned=len(pruned) if prune else 0,
        add=tally.add,
        update=tally.update,
        keep=tally.keep,
        delete=len(stale) + (sum(map(len, pruned)) if prune else 0),
        texts=texts,
        tokens=tokens,
        cost=prices.of_embedding(tokens),
        failures=tuple(tally.failures),
        warnings=tuple(tally.warnings),
        contexts=contexts,
        context_usage=usage,
        context_cost=prices.of_chat(usage) if contextual else None,
    )


def sync(
    scan: Scan,
    embedding: Embedding,
    collection: Collection | None,
    create: Create,
    *,
    prune: bool,
    splitter: Splitter,
    contexts: ContextWriter | None,
    report: Reporter,
) -> SyncReport:
    """Make the collection equal to the sources; `create(dimension)` makes it when the first vectors are there.

    What is embedded is stored as its batch returns, each chunk with its context where there is a writer of `contexts`.
    """
    started = time.monotonic()
    with ExitStack() as stack:
        run = _Run(scan, embedding, collection, create, splitter, stack, report)
        run.store_all()
        if contexts is not None:
            contexts.finish(scan)
        pruned = scan.pruned() if prune else []
        stale = scan.stale() + [id for ids in pruned for id in ids]
        if run.collection is not None:
            run.writer().delete(stale)
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
        contexts=contexts.written if contexts is not None else 0,
        context_usage=contexts.usage if contexts is not None else Usage(),
    )


class _Run:
    """The writing side of one sync: the collection, made when it is needed, and the one writer to it."""

    def __init__(
        self,
        scan: Scan,
        embedding: Embedding,
        collection: Collection | None,
        create: Create,
        splitter: Splitter,
        stack: ExitStack,
        report: Reporter,
    ) -> None:
        self.collection = collection
        self.texts = 0
        self._scan = scan
        self._embedding = embedding
        self._create = create
        self._splitter = splitter
        self._stack = stack
        self._report = report
        self._writer: Writer | None = None
        self._borrowed: list[tuple[Entry, str]] = []
        self._look_again = WRITE_ROWS
        self._refused: dict[str, str] = {}
        self._stored = 0

    def store_all(self) -> None:
        """Store what was embedded as it returns, and what borrows a vector when that is stored."""
        if self._embedding.asks_for_contexts:
            # In this thread: nothing more is asked while what was paid for waits to be stored, and writing is nothing
            # beside asking.
            self._embedding.run(self._take)
        else:
            with closing(Stage(self._embedding.run, EMBEDDED_AHEAD)) as results:
                for result in results:
                    self._take(result)
        if self._borrowed and self._writer is not None:
            self._writer.settle()  # the chunks that lend their vectors may still be on their way
        self._write_borrowed()
        for entry, lender in self._borrowed:
            self._scan.fail(entry.chunk.source, self._refused.get(lender, _LENDER_GONE))

    def _take(self, result: Result) -> None:
        match result:
            case Embedded():
                self._store(result)
                self._embedding.opened()
                self._count(result)
            case Written():
                self.writer().count(result.counted, result.english)
                self._count(result)
            case Refused():
                self._refuse(result)
            case Borrowed():
                self._borrowed += result.entries
                if len(self._borrowed) >= self._look_again:
                    self._write_borrowed()

    def _store(self, embedded: Embedded[Entry]) -> None:
        if self.collection is None:
            self.collection = self._create(embedded.vectors.shape[1])
        self.writer().upsert(embedded.items, embedded.vectors)

    def _count(self, result: Embedded[Entry] | Written) -> None:
        self.texts += result.texts
        self._stored += result.chunks
        self._report(Progress("embedding", self._stored, self._embedding.total, "chunks"))

    def _refuse(self, refused: Refused[Entry]) -> None:
        for entry in refused.items:
            self._refused[entry.chunk.id] = str(refused.error)
            self._scan.fail(entry.chunk.source, str(refused.error))

    def _write_borrowed(self) -> None:
        """Store the chunks that borrow a vector which is stored by now; the others wait."""
        borrowed, self._borrowed = self._borrowed, []
        for start in range(0, len(borrowed), WRITE_ROWS):
            part = borrowed[start : start + WRITE_ROWS]
            vectors = self._vectors({id for _, id in part})
            self._borrowed += (pair for pair in part if pair[1] not in vectors)
            if ready := [pair for pair in part if pair[1] in vectors]:
                entries = self._with_known_contexts(ready)
                self.writer().upsert(entries, np.stack([vectors[id] for _, id in ready]))
        # Those that wait are not asked for again with every few more.
        self._look_again = max(WRITE_ROWS, 2 * len(self._borrowed))

    def _vectors(self, ids: set[str]) -> dict[str, npt.NDArray[np.float32]]:
        if self.collection is None:
            return {}
        # Another process may just have stored them.
        return self.collection.vectors(sorted(ids), consistency="Strong")

    def writer(self) -> Writer:
        """The writer, opened with the first change."""
        if self._writer is None:
            assert self.collection is not None
            self._writer = self._stack.enter_context(self.collection.writing(self._scan.as_of))
            self._writer.describe(splitter=self._splitter.fingerprint, contextual=contextual_model(self._splitter))
        return self._writer

    def _with_known_contexts(self, borrowed: list[tuple[Entry, str]]) -> list[Entry]:
        if not contextual_model(self._splitter):
            return [entry for entry, _ in borrowed]
        assert self.collection is not None
        contexts = self.collection.contexts(sorted({id for _, id in borrowed}))
        return [replace(entry, chunk=replace(entry.chunk, context=contexts[id])) for entry, id in borrowed]


_LENDER_GONE = "a chunk with the same text was deleted while this ran: run the same command again"
