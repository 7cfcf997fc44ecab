"""Bringing a collection to the state of its sources: read, split, compare, embed, store, delete what is stale.

There is no manifest. Ids say what a chunk holds, rows say which version of their document they belong to and how many
there are of it; so a run that was killed at any point is continued by the next one, and what was stored is not
embedded again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace

import numpy as np

from citekite.embed.batching import Embedded, Refused, embed_in_batches
from citekite.ingest.context_writer import ContextWriter
from citekite.ingest.contextual import EXPECTED_TOKENS, contextual_model, prompts
from citekite.ingest.plan import Change
from citekite.ingest.scan import Scan
from citekite.ports import Embedder, Reporter, Splitter, Vectors
from citekite.reports import Progress, SyncPlan, SyncReport
from citekite.settings import Settings
from citekite.store.collection import Collection
from citekite.store.writer import WRITE_ROWS, Entry, Writer
from citekite.tokens import estimate_tokens
from citekite.types import Usage

Create = Callable[[int], Collection]

# Chunks with a context that are embedded together: they were paid for, and are stored soon.
CONTEXT_WINDOW = 64


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices of a million tokens: embedded, read and written by the chat model; None where not known."""

    embedding: float | None = None
    prompt: float | None = None
    completion: float | None = None

    @classmethod
    def from_settings(cls, settings: Settings) -> Prices:
        """The prices as the settings have them."""
        return cls(settings.embedding_price, settings.prompt_price, settings.completion_price)

    def of_embedding(self, tokens: int) -> float | None:
        return None if self.embedding is None else tokens * self.embedding / 1_000_000

    def of_chat(self, usage: Usage) -> float | None:
        if self.prompt is None or self.completion is None:
            return None
        return (usage.prompt_tokens * self.prompt + usage.completion_tokens * self.completion) / 1_000_000


def plan(scan: Scan, *, prune: bool, prices: Prices, contextual: bool) -> SyncPlan:
    """What `sync` would do; nothing is asked, embedded or written."""
    texts = tokens = contexts = 0
    usage = Usage()
    known = scan.known_vectors()
    for change in scan.changes():
        chunks = [entry.chunk for entry in change.entries if entry.chunk.id not in known]
        for messages in prompts(change.document, chunks) if contextual else ():
            contexts += 1
            tokens += EXPECTED_TOKENS
            usage += Usage(sum(estimate_tokens(message.content) for message in messages), EXPECTED_TOKENS)
        for chunk in chunks:
            if chunk.id not in known:  # a document may say the same twice
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
        delete=len(stale) + (sum(map(len, pruned.values())) if prune else 0),
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
    embedder: Embedder,
    collection: Collection | None,
    create: Create,
    *,
    prune: bool,
    splitter: Splitter,
    contexts: ContextWriter | None,
    report: Reporter,
    stopped: Callable[[], bool],
) -> SyncReport:
    """Make the collection equal to the sources; `create(dimension)` makes it when the first vectors are there.

    What is embedded is stored as its batch returns, each chunk with its context where there is a writer of `contexts`.
    When `stopped()` turns true no more documents are read, what is in flight is stored, and `KeyboardInterrupt` is
    raised.
    """
    started = time.monotonic()
    with ExitStack() as stack:
        run = _Run(scan, collection, create, splitter, stack, report)
        run.embed_and_store(embedder, contexts, stopped)
        if contexts is not None:
            contexts.finish(scan)
        pruned = scan.pruned() if prune else {}
        stale = scan.stale() + [id for ids in pruned.values() for id in ids]
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
        collection: Collection | None,
        create: Create,
        splitter: Splitter,
        stack: ExitStack,
        report: Reporter,
    ) -> None:
        self.collection = collection
        self.texts = 0
        self._scan = scan
        self._known = scan.known_vectors()
        self._create = create
        self._splitter = splitter
        self._stack = stack
        self._report = report
        self._writer: Writer | None = None
        self._reused: list[Entry] = []
        self._queued = 0
        self._stored = 0
        self._all_read = False

    def embed_and_store(self, embedder: Embedder, contexts: ContextWriter | None, stopped: Callable[[], bool]) -> None:
        """Embed the entries that need a vector and store them as they return, and those that have one on the way."""
        for result in self._embedded(embedder, contexts, stopped):
            if isinstance(result, Refused):
                for entry in result.items:
                    self._scan.fail(entry.chunk.source, str(result.error))
            else:
                self._store(result)
        self._write_reused()

    def _embedded(
        self, embedder: Embedder, contexts: ContextWriter | None, stopped: Callable[[], bool]
    ) -> Iterator[Embedded[Entry] | Refused[Entry]]:
        changes = self._changes(stopped)
        if contexts is None:
            entries = (entry for change in changes for entry in change.entries)
            return embed_in_batches(embedder, entries, _indexed_text, stopped=stopped)
        # The writer sees to a stop: what it has paid for is still embedded then.
        return embed_in_batches(embedder, contexts.write(changes, stopped), _indexed_text, window=CONTEXT_WINDOW)

    def _changes(self, stopped: Callable[[], bool]) -> Iterator[Change]:
        """The changes with the entries that need a vector; those whose vector is known are on the way to the store."""
        for change in self._scan.changes():
            if stopped():
                raise KeyboardInterrupt
            embed = tuple(entry for entry in change.entries if entry.chunk.id not in self._known)
            self._reused += (entry for entry in change.entries if entry.chunk.id in self._known)
            if len(self._reused) >= WRITE_ROWS:
                self._write_reused()
            self._queued += len(embed)
            yield replace(change, entries=embed)
        self._all_read = True

    def _store(self, embedded: Embedded[Entry]) -> None:
        """Store a batch that returned; later chunks with the same content use its vectors."""
        if self.collection is None:
            self.collection = self._create(embedded.vectors.shape[1])
        self.writer().upsert(embedded.items, embedded.vectors)
        for entry in embedded.items:
            self._known.add(entry.chunk.id)
        self.texts += embedded.texts
        self._stored += len(embedded.items)
        self._report(Progress("embedding", self._stored, self._queued if self._all_read else None, "chunks"))

    def _write_reused(self) -> None:
        """Store the chunks whose vectors are known, with those."""
        reused, self._reused = self._reused, []
        for start in range(0, len(reused), WRITE_ROWS):
            part = reused[start : start + WRITE_ROWS]
            ids = [self._known[entry.chunk.id] for entry in part]
            self.writer().upsert(self._with_known_contexts(part, ids), self._known_vectors(ids))

    def writer(self) -> Writer:
        """The writer, opened with the first change."""
        if self._writer is None:
            assert self.collection is not None
            self._writer = self._stack.enter_context(self.collection.writing(self._scan.as_of))
            self._writer.describe(splitter=self._splitter.fingerprint, contextual=contextual_model(self._splitter))
        return self._writer

    def _with_known_contexts(self, entries: list[Entry], ids: list[str]) -> list[Entry]:
        if not contextual_model(self._splitter):
            return entries
        assert self.collection is not None
        contexts = self.collection.contexts(sorted(set(ids)))
        return [
            replace(entry, chunk=replace(entry.chunk, context=contexts[id]))
            for entry, id in zip(entries, ids, strict=True)
        ]

    def _known_vectors(self, ids: list[str]) -> Vectors:
        assert self.collection is not None
        vectors = self.collection.vectors(sorted(set(ids)))
        return np.stack([vectors[id] for id in ids])


def _indexed_text(entry: Entry) -> str:
    return entry.chunk.indexed_text
