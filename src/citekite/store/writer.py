"""Writing to one collection: one flush at the end of a job, and the index beside the database kept current."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from citekite.errors import StoreError
from citekite.ports import Vectors
from citekite.retrieve.lexical import english_share
from citekite.store import schema
from citekite.store.bulk import BulkLoad, Imports, Staging, mark
from citekite.store.durable import sync_tree
from citekite.store.embedded import database_path
from citekite.store.faults import translated
from citekite.store.lease import Lease
from citekite.store.limits import hurried
from citekite.store.record import SCHEMA_VERSION
from citekite.store.search_index import SearchIndex, Version
from citekite.store.sink import Batch, Parallel, Serial, Sink, batches
from citekite.timing import counted_as
from citekite.types import Chunk

if TYPE_CHECKING:
    from citekite.store.collection import Collection

# Rows of one request: 200 to 500 is fastest on Milvus Lite, and 512 vectors of 4,096 dimensions stay far under the
# 64 MB that a server takes.
WRITE_ROWS = 512
# A chunk with a smaller share of English function words is not counted as English (docs/retrieval.md).
ENGLISH_SHARE = 0.12
# One chunk in so many is looked at: only whether most are English matters.
ENGLISH_SAMPLE = 8


@dataclass(frozen=True, slots=True)
class Entry:
    """A chunk to store, with the digest and the number of chunks of the document that it belongs to."""

    chunk: Chunk
    digest: str
    chunks: int


class Writer:
    """Changes to one collection; the first one marks the index beside it as stale, `finish` makes it current again."""

    def __init__(
        self,
        collection: Collection,
        client: Any,
        uri: str,
        physical: str,
        index: SearchIndex | None,
        imports: Imports | None,
        staging: Staging | None,
        as_of: str | None = None,
    ) -> None:
        self._as_of = as_of
        self._imports = imports
        self._staging = staging
        self._collection = collection
        self._client = client
        self._uri = uri
        self._physical = physical
        self._index = index
        self._record = collection.record
        self._described: dict[str, Any] = {}
        self._started = False
        # Beside an index there is an embedded database, whose lock keeps other writers out.
        self._lease = Lease(client, uri, physical) if index is None else None
        self._sink: Sink = Parallel(self._send) if index is None else Serial(self._send)

    @counted_as("write")
    def upsert(self, entries: Sequence[Entry], vectors: Vectors) -> None:
        """Store chunks with their vectors, shape `(len(entries), dimension)`; they are stored when `settle` returns."""
        self._start()
        record = self._record
        fields = {"lexical": record.lexical, "contexts": record.has_contexts, "access": record.has_access}
        for start in range(0, len(entries), WRITE_ROWS):
            part = entries[start : start + WRITE_ROWS]
            rows = [schema.to_row(entry.chunk, entry.digest, entry.chunks, **fields) for entry in part]
            part_vectors = vectors[start : start + WRITE_ROWS]
            for row, vector in zip(rows, part_vectors, strict=True):
                row[schema.DENSE] = vector
            for batch in batches(rows, schema.row_bytes):
                self._sink.put(batch)
            if self._index is not None:
                self._index.add([entry.chunk for entry in part], part_vectors)
            self._count_english(entry.chunk.text for entry in part[::ENGLISH_SAMPLE])

    @counted_as("write")
    def settle(self) -> None:
        """Return when all chunks that were given are stored, so that they can be read."""
        self._sink.settle()

    @counted_as("write")
    def delete(self, ids: Sequence[str]) -> None:
        """Delete chunks by id; an unknown id is ignored."""
        self.settle()  # a chunk that is still on its way would be stored after it was deleted
        for start in range(0, len(ids), WRITE_ROWS):
            self._start()
            part = list(ids[start : start + WRITE_ROWS])
            with translated("deleting chunks", self._uri):
                self._client.delete(self._physical, ids=part)
            if self._index is not None:
                self._index.remove(part)

    def describe(self, *, splitter: str, contextual: str) -> None:
        """Record how chunks are made from now on; before they are written, so that a killed run is continued alike."""
        self._described = {"splitter": splitter, "contextual": contextual}
        if replace(self._record, **self._described) != self._record:
            self._start()

    def set_tuned(self, *, lexical_weight: float | None, k: int | None, abstain_threshold: float | None) -> None:
        """Record what tuning found better than the defaults; None stands for the default."""
        self._start()
        self._record = replace(self._record, lexical_weight=lexical_weight, k=k, abstain_threshold=abstain_threshold)

    def count(self, counted: int, english: int) -> None:
        """Add to the record what another process counted of the chunks that it stored."""
        self._start()
        self._record = replace(
            self._record,
            counted_chunks=self._record.counted_chunks + counted,
            english_chunks=self._record.english_chunks + english,
        )

    @counted_as("write")
    def finish(self) -> None:
        """Flush, once for the whole job, and bring the index beside the database up to date.

        What was written to an embedded database outlives a power cut from then on (docs/faults.md).
        """
        if not self._started:
            return
        try:
            self.settle()
            self._flush()
            self._collection.save_record(self._record)
            self._sync()
            if self._index is not None:
                self._index.commit(Version(self._record.version, self._collection.count()))
        except BaseException:
            self.give_up()
            raise
        self._started = False
        self._sink.close()
        if self._lease is not None:
            self._lease.release()

    def _send(self, rows: Batch) -> None:
        with translated("storing chunks", self._uri):
            self._client.upsert(self._physical, rows)

    def _flush(self) -> None:
        """Flush Milvus, and the index beside it at the same time: they use different cores."""
        with ThreadPoolExecutor(max_workers=1) as pool:
            prepared = pool.submit(self._index.prepare) if self._index is not None else None
            with translated("flushing", self._uri):
                self._client.flush(self._physical)
            if prepared is not None:
                prepared.result()

    def _sync(self) -> None:
        """Let what was written outlive a power cut; a server sees to that itself."""
        if self._index is not None:
            with translated("writing through to the disk", self._uri):
                sync_tree(database_path(self._uri))

    def give_up(self) -> None:
        """Let the next writer in, and write nothing more."""
        if not self._started:
            return
        self._started = False
        self._sink.close()
        if self._index is not None:
            self._index.abandon()
        if self._lease is not None:
            # The store has failed already, and is not waited for again; the lease then runs out by itself.
            with suppress(StoreError), hurried(0):
                self._lease.release()

    def _start(self) -> None:
        if self._started:
            self._renew()
            return
        if self._lease is not None:
            self._lease.take()
        if self._index is not None:
            with self._index.lock:
                self._collection.refresh()
                self._index.begin()
        self._started = True
        self._end_interrupted_import()
        latest = self._collection.reload_record()  # another writer may have changed it
        if self._as_of not in (None, latest.version):
            self.give_up()
            raise StoreError(
                "another sync has changed the collection since this one looked at it, and with it who may see what: "
                "run the same command again"
            )
        self._record = replace(latest, **self._described).renewed()
        self._collection.save_record(self._record)
        self._load_by_files_if_large()

    def _end_interrupted_import(self) -> None:
        """Let no row arrive behind the back of this writer, from an import that a killed one began."""
        if self._imports is None or not self._collection.is_importing():
            return
        self._imports.await_all(self._physical, self._renew)
        mark(self._client, self._uri, self._physical, "")
        self.give_up()
        raise StoreError(
            "the last rows of a sync that was interrupted have only now arrived: run the same command again"
        )

    def _load_by_files_if_large(self) -> None:
        if self._imports is None or self._staging is None or self._record.schema_version != SCHEMA_VERSION:
            return
        if self._collection.count() == 0:
            fields, _ = schema.build(self._client, self._record.dimension, lexical=self._record.lexical)
            self._sink = BulkLoad(
                self._sink,
                self._imports,
                self._staging,
                self._client,
                self._physical,
                fields,
                self._collection.count,
                self._renew,
            )

    def _renew(self) -> None:
        if self._lease is not None:
            self._lease.renew()

    def _count_english(self, texts: Iterable[str]) -> None:
        shares = [share for share in map(english_share, texts) if share is not None]
        self.count(len(shares), sum(share >= ENGLISH_SHARE for share in shares))


class SharedWriter(Writer):
    """Stores chunks for a `Writer` in another process, which has the right to write, keeps the record and flushes."""

    def store(self, entries: Sequence[Entry], vectors: Vectors) -> tuple[int, int]:
        """Store chunks; returns how many were counted and how many of these are English, for `Writer.count`."""
        before = self._record
        self.upsert(entries, vectors)
        self.settle()
        return (
            self._record.counted_chunks - before.counted_chunks,
            self._record.english_chunks - before.english_chunks,
        )

    def _start(self) -> None:
        pass
