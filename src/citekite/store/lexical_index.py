"""The lexical leg of the embedded database: a tantivy index beside it, derived from what Milvus holds.

Milvus Lite's own BM25 is Python and counts by segment; tantivy is 100 times faster and counts over the collection
(docs/retrieval.md). The index also finds a chunk by its place in a document, for which Milvus Lite would read all rows.
It holds nothing of its own: it carries the version of the collection it was made from, and is made anew when it is
missing, of another version, of another size, or damaged. That is found out when it is opened. From then on the lock of
the embedded database keeps other processes away, and all that writes in this one shares the object (`shared_index`).
"""

from __future__ import annotations

import json
import shutil
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from citekite.errors import StoreError
from citekite.retrieve.lexical import analyse, terms
from citekite.store.rows import Reader
from citekite.types import Chunk

_FORMAT = "3"  # part of the version: raise it when the analysis or the fields change
_WRITER_BYTES = 32_000_000
_EVERYONE = "*"  # the term of a chunk for everyone in the field with the groups
_REMEMBERED_FILTERS = 64  # readers times filters; with 20,000 chunks one takes up to 1 MB


@dataclass(frozen=True, slots=True)
class Version:
    """What an index was made from: the collection's content version and its number of chunks."""

    version: str
    chunks: int


class LexicalIndex:
    """BM25 over the analysed text of all chunks of one collection, in a folder of its own.

    `add` and `remove` take effect with `commit`; `search` sees what was committed last, also while a writer is at work.
    Threads may share it. Not safe for two processes, which the lock of the embedded database beside it rules out.
    """

    def __init__(self, folder: Path) -> None:
        self.lock = threading.RLock()  # held to open, to make anew, to begin and to end changes
        self._folder = folder
        self._index: Any = None
        self._writer: Any = None
        self._writing = False
        self._stamped = ""  # the stamp of what `_index` serves
        self._filters: OrderedDict[tuple[Hashable, str], Any] = OrderedDict()

    @property
    def is_ready(self) -> bool:
        """Whether it serves what was committed last; reads one small file, so that it can be asked at each search."""
        return self._writing or bool(self.state)

    @property
    def state(self) -> str:
        """What tells one content from another; empty while it changes, and where the index is not ready."""
        return self._stamped if not self._writing and self._stamp() == self._stamped else ""

    def open(self, version: Version) -> bool:
        """Open what is on disk, if it was made from that version of the collection; returns whether it was."""
        with self.lock:
            if self._stamp() != _stamp_of(version) or not self._open():
                return False
            self._stamped = _stamp_of(version)
            return True

    def rebuild(self, chunks: Iterable[Chunk], version: Version) -> None:
        """Make it anew from all chunks; the one that was open serves until then."""
        with self.lock, _writable(self._folder):
            self._stamped = ""
            index = self._create()
            writer = index.writer(_WRITER_BYTES, 1)
            for chunk in chunks:
                _put(writer, chunk)
            writer.commit()
            writer.wait_merging_threads()
            index.reload()
            self._index = index
            self._mark(version)

    def begin(self) -> None:
        """Start changes: the stamp goes first, so that a process killed here leaves an index known to be stale.

        Raises `StoreError` while another writer is at work.
        """
        with self.lock, _writable(self._folder):
            if self._writing:
                raise StoreError(
                    "another sync of this process writes to this collection: wait until it is done, then run this again"
                )
            (self._folder / "version.json").unlink(missing_ok=True)
            if self._index is None and not self._open():
                self._index = self._create()
            self._writer = self._index.writer(_WRITER_BYTES, 1)
            self._writing = True

    def add(self, chunks: Iterable[Chunk]) -> None:
        """Add chunks; one with the id of a chunk already there replaces it."""
        with _writable(self._folder):
            for chunk in chunks:
                self._writer.delete_documents_by_term("id", chunk.id)
                _put(self._writer, chunk)

    def remove(self, ids: Iterable[str]) -> None:
        """Remove chunks by id; an unknown id is ignored."""
        with _writable(self._folder):
            for id in ids:
                self._writer.delete_documents_by_term("id", id)

    def prepare(self) -> None:
        """Make the changes durable, not visible yet; may run beside other work, `commit` has to follow."""
        with _writable(self._folder):
            self._writer.commit()
            self._writer.wait_merging_threads()
            self._writer = None

    def commit(self, version: Version) -> None:
        """Make the changes durable and visible, and stamp the index with the version they belong to."""
        if self._writer is not None:
            self.prepare()
        with self.lock, _writable(self._folder):
            self._index.reload()
            self._mark(version)
            self._writing = False

    def abandon(self) -> None:
        """End changes that cannot be committed: the index has no stamp then, and the next search makes it anew."""
        with self.lock:
            if self._writing:
                self._writer = None
                self._stamped = ""
                self._writing = False

    def search(
        self,
        question: str,
        limit: int,
        allowed: Callable[[], Sequence[str]] | None,
        key: Hashable,
        reader: Reader | None = None,
    ) -> list[tuple[str, float]]:
        """The best chunks by BM25 that the reader may see, as (id, score), best first, ties by id.

        `allowed` gives the ids that may be found: those that the filter expression admits, as Milvus evaluates it, of
        what the reader may see. It is asked once for each `key`, which stands for both, and content version.
        """
        import tantivy

        schema = self._index.schema
        counts = Counter(terms(question))
        if not counts:
            return []
        should = [
            (
                tantivy.Occur.Should,
                _boosted(tantivy.Query.term_query(schema, "terms", term, index_option="freq"), count),
            )
            for term, count in counts.items()
        ]
        query = tantivy.Query.boolean_query(should)
        limits = [] if allowed is None else [self._allowed_query(key, allowed)]
        limits += [] if reader is None else [_visible_to(schema, reader)]
        for only in limits:
            scoreless = tantivy.Query.const_score_query(only, 0.0)
            query = tantivy.Query.boolean_query([(tantivy.Occur.Must, query), (tantivy.Occur.Must, scoreless)])
        searcher = self._index.searcher()
        hits = [(score, searcher.doc(address)) for score, address in searcher.search(query, limit, count=False).hits]
        found = [(str(hit["id"][0]), float(score)) for score, hit in hits if reader is None or _sees(reader, hit)]
        return sorted(found, key=lambda hit: (-hit[1], hit[0]))

    def at(self, places: Mapping[str, Iterable[int]]) -> list[str]:
        """The ids of the chunks at these ordinals, by source, in no order."""
        import tantivy

        wanted = [_place(source, ordinal) for source, ordinals in places.items() for ordinal in ordinals]
        if not wanted:
            return []
        query = tantivy.Query.term_set_query(self._index.schema, "place", wanted)
        searcher = self._index.searcher()
        hits = searcher.search(tantivy.Query.const_score_query(query, 0.0), len(wanted), count=False).hits
        return [str(searcher.doc(address)["id"][0]) for _, address in hits]

    def drop(self) -> None:
        """Delete the index from disk."""
        with self.lock:
            self.abandon()
            self._index, self._stamped = None, ""
            shutil.rmtree(self._folder, ignore_errors=True)

    def _allowed_query(self, key: Hashable, allowed: Callable[[], Sequence[str]]) -> Any:
        state = self.state
        with self.lock:
            known = self._filters.get((key, state))
        if known is not None:
            return known
        query = _any_of(self._index.schema, list(allowed()))
        if state:  # what is admitted while the content changes is not remembered
            with self.lock:
                self._filters[key, state] = query
                while len(self._filters) > _REMEMBERED_FILTERS:
                    self._filters.popitem(last=False)
        return query

    def _mark(self, version: Version) -> None:
        """Write the stamp; what was remembered of the content before is forgotten."""
        self._filters.clear()
        temporary = self._folder / "version.json.new"
        temporary.write_text(_stamp_of(version), encoding="utf-8")
        temporary.replace(self._folder / "version.json")
        self._stamped = _stamp_of(version)

    def _stamp(self) -> str:
        try:
            return (self._folder / "version.json").read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return ""

    def _open(self) -> bool:
        import tantivy

        try:
            index = tantivy.Index.open(str(self._folder))
            _register(index)
            index.searcher()
        except (ValueError, OSError):  # tantivy reports a missing, foreign or damaged index as ValueError
            return False
        self._index = index
        return True

    def _create(self) -> Any:
        import tantivy

        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        schema = (
            tantivy.SchemaBuilder()
            .add_text_field("id", stored=True, tokenizer_name="raw", index_option="basic")
            .add_text_field("place", tokenizer_name="raw", index_option="basic")
            .add_text_field("access", stored=True, tokenizer_name="raw", index_option="basic")
            .add_text_field("terms", tokenizer_name="terms", index_option="freq")
            .build()
        )
        index = tantivy.Index(schema, path=str(self._folder))
        _register(index)
        return index


_shared: WeakValueDictionary[Path, LexicalIndex] = WeakValueDictionary()
_guard = threading.Lock()


def shared_index(folder: Path) -> LexicalIndex:
    """The index in a folder, one object for the whole process: what one part of it writes, the others see."""
    with _guard:
        index = _shared.get(folder)
        if index is None:
            index = _shared[folder] = LexicalIndex(folder)
        return index


@contextmanager
def _writable(folder: Path) -> Iterator[None]:
    """Changes to the files of an index; tantivy reports a full disk or a missing file as ValueError."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise StoreError(
            f"the lexical index {folder} cannot be written: {error}. Free some space on the disk, or mend the "
            "folder's permissions; the next search makes the index anew"
        ) from error


def _register(index: Any) -> None:
    """Give the index the tokenizer that its schema names; it is not stored with the index."""
    import tantivy

    index.register_tokenizer("terms", tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.whitespace()).build())


def _put(writer: Any, chunk: Chunk) -> None:
    import tantivy

    place = _place(chunk.source, chunk.ordinal)
    access = list(chunk.access) or [_EVERYONE]
    terms = analyse(chunk.indexed_text)
    writer.add_document(tantivy.Document(id=chunk.id, place=place, access=access, terms=terms))


def _any_of(schema: Any, ids: Sequence[str]) -> Any:
    import tantivy

    return tantivy.Query.term_set_query(schema, "id", ids) if ids else tantivy.Query.empty_query()


def _visible_to(schema: Any, reader: Reader) -> Any:
    import tantivy

    return tantivy.Query.term_set_query(schema, "access", [_EVERYONE, *sorted(reader.groups)])


def _sees(reader: Reader, found: Any) -> bool:
    """The check of a row: whether the reader sees what the index holds of a chunk."""
    access = tuple(found["access"])
    return reader.sees(() if access == (_EVERYONE,) else access)


def _place(source: str, ordinal: int) -> str:
    return f"{source}#{ordinal}"


def _boosted(query: Any, count: int) -> Any:
    import tantivy

    return query if count == 1 else tantivy.Query.boost_query(query, float(count))


def _stamp_of(version: Version) -> str:
    return json.dumps({"format": _FORMAT, "version": version.version, "chunks": version.chunks}, sort_keys=True)
