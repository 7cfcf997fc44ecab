"""The lexical leg of the embedded database: a tantivy index of the analysed text of all chunks.

Milvus Lite's own BM25 is Python and counts by segment; tantivy is 100 times faster and counts over the collection
(docs/retrieval.md). The index also finds a chunk by its place in a document, for which Milvus Lite would read all rows.
It holds nothing of its own: `SearchIndex` knows which content of the collection it was made from.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from citekite.retrieve.lexical import analyse, terms
from citekite.store.rows import Reader, Scored
from citekite.types import Chunk

_WRITER_BYTES = 32_000_000
_EVERYONE = "*"  # the term of a chunk for everyone in the field with the groups


class LexicalIndex:
    """BM25 in a folder of its own; what is added or removed is found after `prepare` and `serve`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._index: Any = None
        self._writer: Any = None

    def open(self) -> bool:
        """Serve what is on disk; returns whether it can be used."""
        import tantivy

        try:
            index = tantivy.Index.open(str(self._folder))
            _register(index)
            index.searcher()
        except (ValueError, OSError):  # tantivy reports a missing, foreign or damaged index as ValueError
            return False
        self._index = index
        return True

    def clear(self) -> None:
        """Serve an empty index in place of whatever is there."""
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
        self._index = index

    def begin(self) -> None:
        """Start changes to what is served."""
        self._writer = self._index.writer(_WRITER_BYTES, 1)

    def add(self, chunks: Iterable[Chunk]) -> None:
        """Add chunks; one with the id of a chunk already there replaces it."""
        for chunk in chunks:
            self._writer.delete_documents_by_term("id", chunk.id)
            _put(self._writer, chunk)

    def remove(self, ids: Iterable[str]) -> None:
        """Remove chunks by id; an unknown id is ignored."""
        for id in ids:
            self._writer.delete_documents_by_term("id", id)

    def prepare(self) -> None:
        """Make the changes durable; `serve` makes them visible."""
        self._writer.commit()
        self._writer.wait_merging_threads()
        self._writer = None

    def serve(self) -> None:
        """Let searches see what was prepared."""
        self._index.reload()

    def abandon(self) -> None:
        """End changes that are not to be seen."""
        self._writer = None

    def search(self, question: str, limit: int, allowed: Any, reader: Reader | None) -> Scored:
        """The best chunks by BM25 that are allowed and that the reader sees, best first, ties by id.

        `allowed` is what `admitting` gave, or None for all.
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
        limits = [] if allowed is None else [allowed]
        limits += [] if reader is None else [_visible_to(schema, reader)]
        for only in limits:
            scoreless = tantivy.Query.const_score_query(only, 0.0)
            query = tantivy.Query.boolean_query([(tantivy.Occur.Must, query), (tantivy.Occur.Must, scoreless)])
        searcher = self._index.searcher()
        hits = [(score, searcher.doc(address)) for score, address in searcher.search(query, limit, count=False).hits]
        found = [(str(hit["id"][0]), float(score)) for score, hit in hits if reader is None or _sees(reader, hit)]
        return sorted(found, key=lambda hit: (-hit[1], hit[0]))

    def admitting(self, ids: Sequence[str]) -> Any:
        """What lets a search find the chunks with these ids alone."""
        import tantivy

        return tantivy.Query.term_set_query(self._index.schema, "id", ids) if ids else tantivy.Query.empty_query()

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
