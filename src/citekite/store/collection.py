"""One collection: reading, searching and writing its chunks, alike on Milvus Lite, a server and Zilliz Cloud."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from citekite.access import AccessList
from citekite.errors import AccessDenied, DiskFull, StoreError, UnknownDocument
from citekite.ports import Vectors
from citekite.reports import DocumentSummary
from citekite.retrieve.filter import quote
from citekite.retrieve.lexical import analyse
from citekite.store import schema
from citekite.store.bulk import PROPERTY as IMPORT
from citekite.store.bulk import Imports, Staging
from citekite.store.faults import translated
from citekite.store.gate import changing
from citekite.store.lease import PROPERTY as LEASE
from citekite.store.record import PROPERTY, CollectionRecord
from citekite.store.rows import ACCESS, READ_ROWS, WIDE_ROWS, Row, Rows, Scored, from_field
from citekite.store.search_index import SearchIndex, Selection, Version
from citekite.store.writer import Entry, SharedWriter, Writer
from citekite.types import Chunk, StoredDocument, joined

_REBUILD_ROWS = 2_000
_REMEMBERED_LISTS = 16  # readers whose list of documents is remembered


@dataclass(slots=True)
class DocumentState:
    """What the store holds of one source: the digest of each row by chunk id, and how many rows there should be.

    `access` has the access lists of its rows: one, unless a sync that was to change it was killed.
    """

    rows: dict[str, str] = field(default_factory=dict)
    chunks: int = 0
    access: set[AccessList] = field(default_factory=set)

    def is_complete(self, digest: str) -> bool:
        """Whether exactly the rows of that version of the document are stored."""
        return len(self.rows) == self.chunks and all(stored == digest for stored in self.rows.values())


@dataclass(frozen=True, slots=True)
class RowVersion:
    """Of which version of which document a row is, and how many rows that has."""

    id: str
    source: str
    digest: str
    chunks: int
    access: AccessList


class Collection:
    """A loaded collection, or what a reader of certain groups sees of it (`restricted_to`).

    Every method raises `StoreError`; filters are Milvus expressions.
    """

    def __init__(
        self,
        client: Any,
        uri: str,
        physical: str,
        record: CollectionRecord,
        consistency: str,
        index: SearchIndex | None,
        imports: Imports | None,
        staging: Staging | None,
    ) -> None:
        self._client = client
        self._uri = uri
        self._physical = physical
        self._consistency = consistency
        self._index = index
        self._imports = imports
        self._staging = staging
        wide_rows = WIDE_ROWS if index is None else READ_ROWS
        self._all = self._rows = Rows(client, uri, physical, consistency, wide_rows=wide_rows)
        self._restricted = False
        self._documents: dict[tuple[str, str], Sequence[DocumentSummary]] = {}
        missing = {name for name, there in (("context", record.has_contexts), (ACCESS, record.has_access)) if not there}
        self._fields = tuple(name for name in schema.CHUNK_FIELDS if name not in missing)
        self.record = record

    def restricted_to(self, groups: Iterable[str]) -> Collection:
        """The collection as a reader of these groups sees it: every read finds documents for everyone and theirs.

        It cannot be written. Where a collection of an earlier citekite has no access lists, all is for everyone.
        """
        view = copy.copy(self)
        view._restricted = True
        if self.record.has_access:
            view._rows = self._rows.restricted_to(groups)
        return view

    @property
    def has_lexical(self) -> bool:
        """Whether there is a lexical leg: an index beside the database, or the server's BM25 function."""
        return self._index is not None or self.record.lexical

    def count(self) -> int:
        """The number of chunks."""
        return self._rows.count()

    def search_dense(self, vector: npt.NDArray[np.float32], limit: int, filter: str) -> Scored:
        """The nearest chunks by inner product of unit vectors as (id, score), best first."""
        if self._index is not None:
            self._refresh_index(self._index)
            if not self._index.is_empty:  # else a first sync is at work: Milvus has what it has written so far
                return self._index.search_dense(vector, limit, self._selection(filter))
        return self._rows.search(vector, schema.DENSE, "IP", limit, filter)

    def search_lexical(self, question: str, limit: int, filter: str) -> Scored:
        """The best chunks by BM25 over the analysed text as (id, score), best first."""
        if self._index is not None:
            self._refresh_index(self._index)
            return self._index.search_lexical(question, limit, self._selection(filter))
        if not self.record.lexical:
            raise StoreError(
                f"the server at {self._uri} has no full text search (Milvus 2.5 or newer): use --mode dense"
            )
        analysed = analyse(question)
        return self._rows.search(analysed, schema.SPARSE, "BM25", limit, filter) if analysed else []

    def chunks(self, ids: Sequence[str]) -> list[Chunk]:
        """The chunks with these ids, in that order; ids that are not stored are left out."""
        rows = self._rows.get(ids, self._fields)
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

    def vectors(self, ids: Sequence[str], *, consistency: str | None = None) -> dict[str, npt.NDArray[np.float32]]:
        """The stored vectors by chunk id; `consistency` is another level than that of the collection."""
        rows = self._rows.get(ids, ("id", schema.DENSE), consistency)
        return {id: np.asarray(row[schema.DENSE], dtype=np.float32) for id, row in rows.items()}

    def contexts(self, ids: Sequence[str]) -> dict[str, str]:
        """The stored contexts by chunk id."""
        return {id: row["context"] for id, row in self._rows.get(ids, ("id", "context")).items()}

    def versions(self, root: str) -> Iterator[RowVersion]:
        """What is stored of each source that starts with `root` (a superset of what lies below it), row by row."""
        fields = ("id", "source", "digest", "chunks", *([ACCESS] if self.record.has_access else []))
        for row in self.scan(_starts_with(root), fields):
            access = from_field(row[ACCESS]) if self.record.has_access else ()
            yield RowVersion(row["id"], row["source"], row["digest"], row["chunks"], access)

    def states(self, roots: Sequence[str]) -> dict[str, DocumentState]:
        """What is stored of each source that starts with one of `roots`, by source."""
        states: dict[str, DocumentState] = {}
        for root in roots:
            for row in self.versions(root):
                state = states.setdefault(row.source, DocumentState())
                state.rows[row.id] = row.digest
                state.chunks = row.chunks
                state.access.add(row.access)
        return states

    def sources_of(self, ids: Sequence[str]) -> dict[str, str]:
        """The sources of chunks, by chunk id."""
        return {id: row["source"] for id, row in self._rows.get(ids, ("id", "source")).items()}

    def sources(self) -> list[str]:
        """The distinct sources, sorted."""
        return [document.source for document in self.documents()]

    def documents(self) -> Sequence[DocumentSummary]:
        """All documents, sorted by source; they are read again only where the content may have changed.

        Of each the first chunk is read alone, which tells how many there are: reading every row of 100,000 takes 12 s.
        """
        state = self.state()
        if (known := self._documents.get((self._rows.key, state))) is not None:
            return known
        found: dict[str, DocumentSummary] = {}
        fields = ("id", "source", "title", "chunks", *([ACCESS] if self.record.has_access else []))
        for row in self.scan("ordinal == 0", fields):
            found[row["source"]] = DocumentSummary(
                id=row["id"].partition("-")[0],
                source=row["source"],
                title=row["title"],
                chunks=row["chunks"],
                access=from_field(row[ACCESS]) if self.record.has_access else (),
            )
        documents = [found[source] for source in sorted(found)]
        if state:
            if len(self._documents) >= _REMEMBERED_LISTS:
                self._documents.clear()
            self._documents[self._rows.key, state] = documents
        return documents

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
            yield _to_entry(row)

    def stored(self, ids: Sequence[str]) -> list[tuple[Entry, npt.NDArray[np.float32]]]:
        """The chunks with these ids as they were stored, each with its vector, in that order; unknown ids left out."""
        rows = self._rows.get(ids, (*self._fields, "digest", "chunks", schema.DENSE))
        found = (rows[id] for id in ids if id in rows)
        return [(_to_entry(row), np.asarray(row[schema.DENSE], dtype=np.float32)) for row in found]

    def scan(self, filter: str, fields: Sequence[str], *, asked: bool = False) -> Iterator[Row]:
        """The named fields (at least) of all rows that match; `asked` tells that the user wrote the filter."""
        return self._rows.scan(filter, fields, asked=asked)

    @contextmanager
    def writing(self, as_of: str | None = None) -> Iterator[Writer]:
        """A writer whose changes are flushed once, at the end; also after an error, which keeps what was paid for.

        Where `as_of` names a content version, its first change raises `StoreError` if the content is another by then.

        After an error of the store itself nothing more is written: after a full disk, a flush would lose what the
        database's log still holds.
        """
        if self._restricted:
            raise AccessDenied("what some groups see of a collection cannot be written: use the whole collection")
        writer = Writer(self, self._client, self._uri, self._physical, self._index, self._imports, self._staging, as_of)
        with changing(self._uri):
            try:
                yield writer
            except StoreError:
                writer.give_up()
                raise
            except BaseException:
                writer.finish()
                raise
            writer.finish()

    def shared_writer(self) -> SharedWriter:
        """A writer of chunks alone, beside the `writing` of another process."""
        return SharedWriter(self, self._client, self._uri, self._physical, self._index, imports=None, staging=None)

    def save_record(self, record: CollectionRecord) -> None:
        """Replace what the collection says about itself."""
        with translated("writing the collection's record", self._uri):
            self._client.alter_collection_properties(self._physical, properties={PROPERTY: record.to_json()})
        self.record = record

    def is_importing(self) -> bool:
        """Whether an import into the collection was begun of which nobody has seen the end."""
        return bool(self._properties().get(IMPORT))

    def refresh(self) -> None:
        """Make the index beside the database current, where there is one."""
        if self._index is not None:
            self._make_current(self._index)

    def reload_record(self) -> CollectionRecord:
        """What the collection says about itself now; another writer may have changed it."""
        self.record = CollectionRecord.from_json(self._properties().get(PROPERTY, ""), self._physical)
        return self.record

    def _refresh_index(self, index: SearchIndex) -> None:
        """Make the index current for a search; on a full disk, what was committed last serves on.

        The chunks that it finds are looked up in Milvus all the same, so that one that was deleted is not shown.
        """
        try:
            self._make_current(index)
        except DiskFull:
            if index.is_empty:
                raise

    def _make_current(self, index: SearchIndex) -> None:
        if index.is_ready:
            return
        with index.lock:
            if index.is_ready:  # another thread has just seen to it
                return
            # The index is of all chunks, whoever searches.
            version = Version(self.reload_record().version, self._all.count())
            if not index.open(version):
                index.rebuild(self._batches(), version)

    def _batches(self) -> Iterator[tuple[list[Chunk], Vectors]]:
        """All chunks with their vectors, a few at a time, whoever reads."""
        rows = self._all.scan("", (*self._fields, schema.DENSE))
        while part := list(islice(rows, _REBUILD_ROWS)):
            vectors = np.array([row[schema.DENSE] for row in part], dtype=np.float32)
            yield [schema.to_chunk(row) for row in part], vectors

    def _selection(self, filter: str) -> Selection:
        return Selection(filter, lambda: self._ids(filter), self._rows.reader)

    def state(self) -> str:
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

    def _ids(self, filter: str) -> list[str]:
        return [row["id"] for row in self.scan(filter, ("id",), asked=True)]


def _to_entry(row: Row) -> Entry:
    return Entry(schema.to_chunk(row), row["digest"], row["chunks"])


def _starts_with(prefix: str, field: str = "source") -> str:
    """A filter for values that start with a prefix; a range, because `like` would read % and _ as wildcards."""
    return f"({field} >= {quote(prefix)} and {field} < {quote(prefix + chr(0x10FFFF))})"
