"""A copy of a collection in which the headings that questions were made of cannot be found.

A heading makes a good question, but the chunk under it would be found by the heading itself. So the copy hides it: out
of the heading path of every chunk below it, and out of the text of the chunk that begins with it. For a question
that is not answerable the whole section is left out.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from citekite.embed.batching import Refused, embed_in_batches
from citekite.errors import SourceError
from citekite.evaluate.question import Question
from citekite.evaluate.relevance import is_source
from citekite.ingest.sections import plain_heading, scan
from citekite.knowledge_base import KnowledgeBase
from citekite.models import Models
from citekite.types import Chunk

if TYPE_CHECKING:
    from citekite.ports import Embedder
    from citekite.store.collection import Collection
    from citekite.store.writer import Entry

HeadingPath = tuple[str, ...]

# Rows that are read, hidden and written at once.
_WINDOW = 2048


@dataclass(frozen=True, slots=True)
class Mask:
    """The heading paths to hide and the sections to leave out, by source as it is stored."""

    headings: Mapping[str, frozenset[HeadingPath]]
    sections: Mapping[str, frozenset[HeadingPath]]

    @classmethod
    def of(cls, questions: Iterable[Question], sources: Iterable[str]) -> Mask:
        """What these questions hide in a collection of these sources; a path's end is enough of a question's source.

        Raises `SourceError` for a question whose document is not in the collection.
        """
        headings: dict[str, set[HeadingPath]] = {}
        sections: dict[str, set[HeadingPath]] = {}
        stored = dict.fromkeys(sources)
        for question in questions:
            if not question.heading:
                continue
            wanted = question.source
            found = [wanted] if wanted in stored else [source for source in stored if is_source(source, wanted)]
            if not found:
                raise SourceError(
                    f"question {question.id!r} was made of a heading of {wanted!r}, which is not in the "
                    "collection: sync that document, or take the question out of the file"
                )
            for source in found:
                (headings if question.answerable else sections).setdefault(source, set()).add(question.heading)
        return cls(_frozen(headings), _frozen(sections))

    @property
    def paths(self) -> set[tuple[str, HeadingPath]]:
        """All that is hidden or left out, as (source, heading path)."""
        return {(source, path) for part in (self.headings, self.sections) for source in part for path in part[source]}

    def apply(self, chunk: Chunk) -> Chunk | None:
        """The chunk as it may be searched; None where nothing of it is left. A chunk that hides nothing is itself.

        Its id stays, and `start`, `end` and `line` are those of the text that is left.
        """
        hidden = self.headings.get(chunk.source, frozenset())
        left_out = self.sections.get(chunk.source, frozenset())
        paths = [path for _, path in _paths(chunk)]
        if any(path in left_out for path in paths):
            return None
        kept = tuple(path[-1] for path in paths if path not in hidden)
        if len(kept) == len(paths):
            return chunk
        names = [path[-1] for path in paths if path in hidden]
        if chunk.headings in hidden:
            chunk = without_heading(chunk, chunk.headings[-1])
        if not chunk.text.strip():
            return None
        # The title is the first heading of every path, and is stored with the chunk too.
        title = "" if paths[0] in hidden else chunk.title
        return replace(chunk, headings=kept, title=title, context=_without(names, chunk.context))


def without_heading(chunk: Chunk, heading: str) -> Chunk:
    """The chunk without the line (or the underlined line) of that heading, where its text begins with it.

    >>> chunk = Chunk("1-a-0", "/a.md", "A", 0, start=10, end=27, text="## Red kite\\n\\nIt.", line=3)
    >>> left = without_heading(chunk, "Red kite")
    >>> left.text, left.start, left.end, left.line
    ('It.', 23, 27, 5)
    """
    mark = next(scan(chunk.text), None)
    if mark is not None and mark.level and not chunk.text[: mark.start].strip():
        first, cut = mark.text, mark.end
    else:
        first, cut = plain_heading(chunk.text.partition("\n")[0]), len(chunk.text.partition("\n")[0])
    # A long heading is stored cut short.
    if not first or not first.casefold().startswith(heading.casefold()):
        return chunk
    rest = chunk.text[cut:].lstrip()
    at = len(chunk.text) - len(rest)
    return replace(chunk, text=rest, start=chunk.start + at, line=chunk.line + chunk.text.count("\n", 0, at))


@contextmanager
def masked(kb: KnowledgeBase, questions: Sequence[Question]) -> Iterator[KnowledgeBase]:
    """A knowledge base on a temporary copy of `kb`'s collection that hides what the questions were made of.

    It searches with the settings of `kb`. Vectors are copied; only the chunks that change are embedded, by the same
    embedder. Where no question has a heading it is `kb` itself.
    """
    if not any(question.heading for question in questions):
        yield kb
        return
    collection = kb.collection()
    mask = Mask.of(questions, [document.source for document in collection.documents()])
    with tempfile.TemporaryDirectory(prefix="citekite-") as folder:
        settings = kb.settings.model_copy(
            update={"uri": str(Path(folder) / "masked.db"), "database": "default", "token": None}
        )
        _copy(collection, settings.uri, settings.collection, mask, Models(kb.settings).embedder(collection.record))
        with KnowledgeBase(settings=settings) as copy:
            yield copy


def _copy(collection: Collection, uri: str, name: str, mask: Mask, embedder: Embedder) -> None:
    """Write what the mask leaves of a collection into a new embedded database, under that name."""
    import numpy as np

    from citekite.store.milvus import MilvusStore

    with MilvusStore(uri) as store:
        new = store.create(name, collection.record)
        unseen = mask.paths
        with new.writing() as writer:
            for window in _windows(collection.entries()):
                left = [(entry, mask.apply(entry.chunk)) for entry in window]
                unseen -= {path for entry in window for path in _paths(entry.chunk)}
                same = [entry for entry, chunk in left if chunk is entry.chunk]
                vectors = collection.vectors([entry.chunk.id for entry in same])
                if same:
                    writer.upsert(same, np.stack([vectors[entry.chunk.id] for entry in same]))
                changed = [replace(entry, chunk=chunk) for entry, chunk in left if chunk and chunk is not entry.chunk]
                for result in embed_in_batches(embedder, changed, lambda entry: entry.chunk.indexed_text):
                    if isinstance(result, Refused):
                        raise result.error
                    writer.upsert(result.items, result.vectors)
        # The share of English chunks decides the weight of the lexical leg, and the copy has to search with the same.
        if unseen:
            source, path = min(unseen)
            raise SourceError(
                f"{source} has no heading {' > '.join(path)!r} in this collection, so it cannot be hidden: make the "
                "questions anew, or take that one out of the file"
            )
        old = collection.record
        new.save_record(replace(new.record, english_chunks=old.english_chunks, counted_chunks=old.counted_chunks))


def _paths(chunk: Chunk) -> Iterator[tuple[str, HeadingPath]]:
    """The sections that a chunk lies in, from the whole document down."""
    return ((chunk.source, chunk.headings[:length]) for length in range(1, len(chunk.headings) + 1))


def _windows(entries: Iterator[Entry]) -> Iterator[list[Entry]]:
    while window := list(islice(entries, _WINDOW)):
        yield window


def _without(names: Sequence[str], context: str) -> str:
    """What a model wrote about a chunk's place, without the headings it repeats word for word."""
    for name in names:
        context = re.sub(re.escape(name), "", context, flags=re.IGNORECASE)
    return context.strip()


def _frozen(paths: Mapping[str, set[HeadingPath]]) -> dict[str, frozenset[HeadingPath]]:
    return {source: frozenset(found) for source, found in paths.items()}
