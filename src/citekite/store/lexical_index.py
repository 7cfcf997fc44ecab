"""The lexical leg of the embedded database: a tantivy index beside it, derived from what Milvus holds.

Milvus Lite's own BM25 is Python and counts by segment; tantivy is 100 times faster and counts over the collection
(docs/retrieval.md). The index also finds a chunk by its place in a document, for which Milvus Lite would read all rows.
It holds nothing of its own: it carries the version of the collection it was made from, and is made anew when it is
missing, of another version, of another size, or damaged.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from citekite.retrieve.lexical import analyse, terms
from citekite.types import Chunk

_FORMAT = "2"  # part of the version: raise it when the analysis or the fields change
_WRITER_BYTES = 32_000_000
_REMEMBERED_FILTERS = 16


@dataclass(frozen=True, slots=True)
class Version:
    """What an index was made from: the collection's content version and its number of chunks."""

    version: str
    chunks: int


class LexicalIndex:
    """BM25 over the analysed text of all chunks of one collection, in a folder of its own.

    `add` and `remove` take effect with `commit`; `search` sees what was committed last. Not safe for two processes,
    which the lock of the embedded database beside it rules out.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._index: Any = None
        self._writer: Any = None
        self._filters: OrderedDict[tuple[str, str], Any] = OrderedDict()

    @property
    def is_open(self) -> bool:
        """Whether the index was opened or made before."""
        return self._index is not None

    def is_current(self, version: Version) -> bool:
        """Whether the index on disk was made from that version of the collection, and opens."""
        if self._stamp() != _stamp_of(version):
            return False
        return self._index is not None or self._open()

    def begin(self, *, anew: bool = False) -> None:
        """Start changes: the stamp goes first, so that a process killed here leaves an index known to be stale."""
        (self._folder / "version.json").unlink(missing_ok=True)
        if anew or (self._index is None and not self._open()):
            self._create()
        self._writer = self._index.writer(_WRITER_BYTES, 1)

    def add(self, chunks: Iterable[Chunk]) -> None:
        """Add chunks; one with the id of a chunk already there replaces it."""
        import tantivy

        for chunk in chunks:
            self._writer.delete_documents_by_term("id", chunk.id)
            place = _place(chunk.source, chunk.ordinal)
            self._writer.add_document(tantivy.Document(id=chunk.id, place=place, terms=analyse(chunk.indexed_text)))

    def remove(self, ids: Iterable[str]) -> None:
        """Remove chunks by id; an unknown id is ignored."""
        for id in ids:
            self._writer.delete_documents_by_term("id", id)

    def prepare(self) -> None:
        """Make the changes durable, not visible yet; may run beside other work, `commit` has to follow."""
        self._writer.commit()
        self._writer.wait_merging_threads()
        self._writer = None

    def commit(self, version: Version) -> None:
        """Make the changes durable and visible, and stamp the index with the version they belong to."""
        if self._writer is not None:
            self.prepare()
        self._index.reload()
        self._filters.clear()
        temporary = self._folder / "version.json.new"
        temporary.write_text(_stamp_of(version), encoding="utf-8")
        temporary.replace(self._folder / "version.json")

    def search(
        self, question: str, limit: int, allowed: Callable[[], Sequence[str]] | None, filter: str
    ) -> list[tuple[str, float]]:
        """The best chunks by BM25 as (id, score), best first, ties by id.

        `allowed` gives the ids that the filter expression admits, as Milvus evaluates it; it is asked once for each
        expression and content version.
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
        if allowed is not None:
            only = tantivy.Query.const_score_query(self._allowed_query(filter, allowed), 0.0)
            query = tantivy.Query.boolean_query([(tantivy.Occur.Must, query), (tantivy.Occur.Must, only)])
        searcher = self._index.searcher()
        hits = searcher.search(query, limit, count=False).hits
        found = [(str(searcher.doc(address)["id"][0]), float(score)) for score, address in hits]
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
        self._index = self._writer = None
        shutil.rmtree(self._folder, ignore_errors=True)

    def _allowed_query(self, filter: str, allowed: Callable[[], Sequence[str]]) -> Any:
        import tantivy

        key = (filter, self._stamp())
        if key not in self._filters:
            ids = list(allowed())
            self._filters[key] = (
                tantivy.Query.term_set_query(self._index.schema, "id", ids) if ids else tantivy.Query.empty_query()
            )
            while len(self._filters) > _REMEMBERED_FILTERS:
                self._filters.popitem(last=False)
        self._filters.move_to_end(key)
        return self._filters[key]

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

    def _create(self) -> None:
        import tantivy

        self.drop()
        self._folder.mkdir(parents=True)
        schema = (
            tantivy.SchemaBuilder()
            .add_text_field("id", stored=True, tokenizer_name="raw", index_option="basic")
            .add_text_field("place", tokenizer_name="raw", index_option="basic")
            .add_text_field("terms", tokenizer_name="terms", index_option="freq")
            .build()
        )
        self._index = tantivy.Index(schema, path=str(self._folder))
        _register(self._index)


def _register(index: Any) -> None:
    """Give the index the tokenizer that its schema names; it is not stored with the index."""
    import tantivy

    index.register_tokenizer("terms", tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.whitespace()).build())


def _place(source: str, ordinal: int) -> str:
    return f"{source}#{ordinal}"


def _boosted(query: Any, count: int) -> Any:
    import tantivy

    return query if count == 1 else tantivy.Query.boost_query(query, float(count))


def _stamp_of(version: Version) -> str:
    return json.dumps({"format": _FORMAT, "version": version.version, "chunks": version.chunks}, sort_keys=True)
