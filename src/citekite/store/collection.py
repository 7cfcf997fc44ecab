"""One collection: reading, searching and writing its chunks, alike on Milvus Lite, a server and Zilliz Cloud."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from citekite.errors import StoreError, UnknownDocument
from citekite.reports import DocumentSummary
from citekite.retrieve.filter import quote
from citekite.retrieve.lexical import analyse
from citekite.store import schema
from citekite.store.faults import translated
from citekite.store.lease import PROPERTY as LEASE
from citekite.store.lexical_index import LexicalIndex, Version
from citekite.store.record import PROPERTY, CollectionRecord
from citekite.store.writer import WRITE_ROWS, Entry, Writer
from citekite.types import Chunk, StoredDocument, joined

# The most a server returns at once (https://milvus.io/docs/limitations.md).
READ_ROWS = 16_000

Scored = list[tuple[str, float]]


@dataclass(slots=True)
class DocumentState:
    """What the store holds of one source: the digest of each row by chunk id, and how many rows there should be."""

    rows: dict[str, str] = field(default_factory=dict)
    chunks: int = 0

    def is_complete(self, digest: str) -> bool:
        """Whether exactly the rows of that version of the document are stored."""
        return len(self.rows) == self.chunks and all(stored == digest for stored in self.rows.values())


class Collection:
    """A loaded collection. Every method raises `StoreError`; filters are Milvus expressions."""

    def __init__(
        self,
        client: Any,
        uri: str,
        physical: str,
        record: CollectionRecord,
        consistency: str,
        index: LexicalIndex | None,
    ) -> None:
        self._client = client
        self._uri = uri
        self._physical = physical
        self._consistency = consistency
        self._index = index
        self._sources: tuple[str, Sequence[str]] = ("", ())
        self._fields = tuple(name for name in schema.CHUNK_FIELDS if name != "context" or record.has_contexts)
        self.record = record

    @property
    def has_lexical(self) -> bool:
        """Whether there is a lexical leg: an index beside the database, or the server's BM25 function."""
        return self._index is not None or self.record.lexical

    def count(self) -> int:
        """The number of chunks."""
        with translated("counting chunks", self._uri):
            rows = self._client.query(
                self._physical, filter="", output_fields=["count(*)"], consistency_level=self._consistency
            )
        return int(rows[0]["count(*)"])

    def search_dense(self, vector: npt.NDArray[np.float32], limit: int, filter: str) -> Scored:
        """The nearest chunks by inner product of unit vectors as (id, score), best first."""
        return self._search(vector, schema.DENSE, "IP", limit, filter)

    def search_lexical(self, question: str, limit: int, filter: str) -> Scored:
        """The best chunks by BM25 over the analysed text as (id, score), best first."""
        if self._index is not None:
            self._refresh_index(self._index)
            allowed = (lambda: self._ids(filter)) if filter else None
            return self._index.search(question, limit, allowed, filter)
        if not self.record.lexical:
            raise StoreError(
                f"the server at {self._uri} has no full text search (Milvus 2.5 or newer): use --mode dense"
            )
        analysed = analyse(question)
        return self._search(analysed, schema.SPARSE, "BM25", limit, filter) if analysed else []

    def chunks(self, ids: Sequence[str]) -> list[Chunk]:
        """The chunks with these ids, in that order; ids that are not stored are left out."""
        rows = self._get(ids, self._fields)
        return [schema.to_chunk(rows[id]) for id in ids if id in rows]

    def at(self, places: Mapping[str, Iterable[int]]) -> list[Chunk]:
        """The chunks at these ordinals, by source, in no order; ordinals that are not stored are left out."""
        if not places:
            return []
        if self._index is not None:
            self._refresh_index(self._index)
            return self.chunks(self._index.at(places))
        parts = (f"(source == {quote(source)} and ordinal in {sorted(places[source])})" for source in places)
        return [schema.to_chunk(row) for row in self.scan(" or ".join(parts), self._fields)]

    def vectors(self, ids: Sequence[str]) -> dict[str, npt.NDArray[np.float32]]:
        """The stored vectors by chunk id."""
        rows = self._get(ids, ("id", schema.DENSE))
        return {id: np.asarray(row[schema.DENSE], dtype=np.float32) for id, row in rows.items()}

    def contexts(self, ids: Sequence[str]) -> dict[str, str]:
        """The stored contexts by chunk id."""
        return {id: row["context"] for id, row in self._get(ids, ("id", "context")).items()}

    def states(self, roots: Sequence[str]) -> dict[str, DocumentState]:
        """What is stored of each source that starts with one of `roots` (a superset of what lies below them)."""
        states: dict[str, DocumentState] = {}
        digests: dict[str, str] = {}  # one string object for all rows of a document
        for root in roots:
            for row in self.scan(_starts_with(root), ("id", "source", "digest", "chunks")):
                state = states.setdefault(row["source"], DocumentState())
                state.rows[row["id"]] = digests.setdefault(row["digest"], row["digest"])
                state.chunks = row["chunks"]
        return states

    def sources(self) -> Sequence[str]:
        """The distinct sources, sorted; they are read again only where the content may have changed."""
        state = self._state()
        if not state or state != self._sources[0]:
            self._sources = state, sorted({row["source"] for row in self.scan("", ("source",))})
        return self._sources[1]

    def documents(self) -> list[DocumentSummary]:
        """All documents, sorted by source."""
        found: dict[str, DocumentSummary] = {}
        for row in self.scan("", ("id", "source", "title")):
            source = row["source"]
            known = found.get(source)
            found[source] = DocumentSummary(
                id=row["id"].partition("-")[0],
                source=source,
                title=row["title"],
                chunks=known.chunks + 1 if known else 1,
            )
        return [found[source] for source in sorted(found)]

    def document(self, id_or_source: str) -> StoredDocument:
        """A document by its id or its source, its text put together from its chunks; raises `UnknownDocument`."""
        filter = f"source == {quote(id_or_source)} or {_starts_with(id_or_source + '-', 'id')}"
        chunks = sorted(map(schema.to_chunk, self.scan(filter, self._fields)), key=lambda chunk: chunk.ordinal)
        if not chunks:
            raise UnknownDocument(f"there is no document {id_or_source!r}: `citekite documents` lists what is")
        first = chunks[0]
        return StoredDocument(
            id=first.document_id,
            source=first.source,
            title=first.title,
            text=joined(chunks),
            chunks=tuple(chunks),
            metadata=first.metadata,
            access=first.access,
        )

    def all_chunks(self) -> Iterator[Chunk]:
        """Every chunk, in the order of the store."""
        return (schema.to_chunk(row) for row in self.scan("", self._fields))

    def entries(self) -> Iterator[Entry]:
        """Every chunk with the digest and size of its document, as they were stored."""
        for row in self.scan("", (*self._fields, "digest", "chunks")):
            yield Entry(schema.to_chunk(row), row["digest"], row["chunks"])

    def scan(self, filter: str, fields: Sequence[str], *, asked: bool = False) -> Iterator[Mapping[str, Any]]:
        """The named fields of all rows that match, page by page; `asked` tells that the user wrote the filter."""
        with translated("reading rows", self._uri, filter=filter if asked else None):
            iterator = self._client.query_iterator(
                self._physical,
                batch_size=READ_ROWS,
                filter=filter,
                output_fields=list(fields),
                consistency_level=self._consistency,
            )
        try:
            while True:
                with translated("reading rows", self._uri):
                    page = iterator.next()
                if not page:
                    return
                yield from page
        finally:
            iterator.close()

    @contextmanager
    def writing(self) -> Iterator[Writer]:
        """A writer whose changes are flushed once, at the end; also after an error, which keeps what was paid for.

        After an error of the store itself nothing more is written: after a full disk, a flush would lose what the
        database's log still holds.
        """
        writer = Writer(self, self._client, self._uri, self._physical, self._index)
        try:
            yield writer
        except StoreError:
            writer.give_up()
            raise
        except BaseException:
            writer.finish()
            raise
        writer.finish()

    def save_record(self, record: CollectionRecord) -> None:
        """Replace what the collection says about itself."""
        with translated("writing the collection's record", self._uri):
            self._client.alter_collection_properties(self._physical, properties={PROPERTY: record.to_json()})
        self.record = record

    def refresh(self) -> None:
        """Make the index beside the database current, where there is one."""
        if self._index is not None:
            self._refresh_index(self._index)

    def reload_record(self) -> CollectionRecord:
        """What the collection says about itself now; another writer may have changed it."""
        self.record = CollectionRecord.from_json(self._properties().get(PROPERTY, ""), self._physical)
        return self.record

    def _refresh_index(self, index: LexicalIndex) -> None:
        if index.is_ready:
            return
        with index.lock:
            if index.is_ready:  # another thread has just seen to it
                return
            version = Version(self.reload_record().version, self.count())
            if not index.open(version):
                index.rebuild(self.all_chunks(), version)

    def _state(self) -> str:
        """What tells one content of the collection from another; empty while a writer is at work."""
        if self._index is not None:
            self._refresh_index(self._index)
            return self._index.state
        properties = self._properties()
        if properties.get(LEASE):
            return ""
        return CollectionRecord.from_json(properties.get(PROPERTY, ""), self._physical).version

    def _properties(self) -> Mapping[str, str]:
        with translated("reading the collection's record", self._uri):
            properties: Mapping[str, str] = self._client.describe_collection(self._physical).get("properties", {})
        return properties

    def _search(self, data: Any, vector_field: str, metric: str, limit: int, filter: str) -> Scored:
        with translated("searching", self._uri, filter=filter or None):
            found = self._client.search(
                self._physical,
                data=[data],
                anns_field=vector_field,
                search_params={"metric_type": metric},
                limit=limit,
                filter=filter,
                output_fields=["id"],
                consistency_level=self._consistency,
            )
        # Milvus Lite gives BM25 scores a minus sign; sorting makes ties independent of the server's order.
        scored = [
            (str(hit["id"]), abs(hit["distance"]) if metric == "BM25" else float(hit["distance"])) for hit in found[0]
        ]
        return sorted(scored, key=lambda hit: (-hit[1], hit[0]))

    def _ids(self, filter: str) -> list[str]:
        return [row["id"] for row in self.scan(filter, ("id",), asked=True)]

    def _get(self, ids: Sequence[str], fields: Sequence[str]) -> dict[str, Mapping[str, Any]]:
        rows: dict[str, Mapping[str, Any]] = {}
        for start in range(0, len(ids), WRITE_ROWS):
            with translated("reading rows", self._uri):
                found = self._client.get(
                    self._physical,
                    ids=list(ids[start : start + WRITE_ROWS]),
                    output_fields=list(fields),
                    consistency_level=self._consistency,
                )
            rows.update((row["id"], row) for row in found)
        return rows


def _starts_with(prefix: str, field: str = "source") -> str:
    """A filter for values that start with a prefix; a range, because `like` would read % and _ as wildcards."""
    return f"({field} >= {quote(prefix)} and {field} < {quote(prefix + chr(0x10FFFF))})"
