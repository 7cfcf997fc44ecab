"""Embedding a whole collection anew with another embedder, beside the old one, and swapping the two."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from citekite.embed.batching import Refused, embed_in_batches
from citekite.ingest.traced import traced_job
from citekite.ports import Embedder, Reporter
from citekite.reports import Progress
from citekite.store.collection import Collection
from citekite.store.milvus import MilvusStore
from citekite.store.record import SCHEMA_VERSION
from citekite.store.writer import Entry, Writer


def reindex(store: MilvusStore, name: str, embedder: Embedder, report: Reporter) -> int:
    """Build the next generation of a collection with `embedder` and let the name stand for it; returns its size.

    Texts come from the store, not from the sources. The old generation is dropped only after the swap. A generation
    that an interrupted run left is continued when it is for the same embedder, else made anew. The new generation has
    the fields of this version of citekite. One that was interrupted after the swap has nothing left to embed.
    """
    with traced_job("reindex", name) as traced:
        total, embedded = _reindex(store, name, embedder, report)
        traced.set({"citekite.chunks": total, "citekite.texts": embedded})
    return total


def _reindex(store: MilvusStore, name: str, embedder: Embedder, report: Reporter) -> tuple[int, int]:
    """The size of the new generation, and how many of its chunks were embedded."""
    ended = store.finish_swap(name)
    old = store.open(name)
    if ended and old.record.embedder == embedder.name:
        return old.count(), 0
    number = store.generation(name) + 1
    new = store.find_generation(name, number)
    made = None if new is None else (new.record.embedder, new.record.schema_version)
    if made not in (None, (embedder.name, SCHEMA_VERSION)):
        store.drop_generation(name, number)
        new = None
    total = old.count()
    done = {row["id"] for row in new.scan("", ("id",))} if new is not None else set()
    missing = (entry for entry in old.entries() if entry.chunk.id not in done)
    new = _fill(store, name, number, old, new, embedder, missing, total, len(done), report)
    if new is not None:
        store.swap(name, number)
    return total, total - len(done)


def _fill(
    store: MilvusStore,
    name: str,
    number: int,
    old: Collection,
    new: Collection | None,
    embedder: Embedder,
    missing: Iterator[Entry],
    total: int,
    done: int,
    report: Reporter,
) -> Collection | None:
    """Embed what is missing and store it as it returns, in the generation that the first vectors make."""
    writer: Writer | None = None
    from contextlib import ExitStack

    with ExitStack() as stack:
        for result in embed_in_batches(embedder, missing, lambda entry: entry.chunk.indexed_text):
            if isinstance(result, Refused):
                raise result.error
            if new is None:
                record = replace(
                    old.record,
                    embedder=embedder.name,
                    dimension=result.vectors.shape[1],
                    english_only=embedder.english_only,
                    english_chunks=0,
                    counted_chunks=0,
                    lexical_weight=None,  # what was tuned was tuned with the other embedder
                    k=None,
                    abstain_threshold=None,
                    schema_version=SCHEMA_VERSION,
                )
                new = store.create_generation(name, number, record)
            if writer is None:
                writer = stack.enter_context(new.writing())
            writer.upsert(result.items, result.vectors)
            done += len(result.items)
            report(Progress("embedding", done, total, "chunks"))
    return new
