"""From a document to chunks: the two splitters, and the ids of chunks.

A chunk's id says what it holds and not where it stands, so a section that moves keeps its id and an edit touches only
the ids of the section it is in.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import pairwise

from citekite.errors import SettingsError
from citekite.ingest.pack import Budget, Span, cut_markdown, cut_text
from citekite.ingest.sections import Section, plain_heading, sections
from citekite.ports import Splitter
from citekite.settings import Settings
from citekite.tokens import estimate_tokens
from citekite.types import Chunk, Document

# A passage of a document with its heading path: start, end, headings.
Passage = tuple[int, int, tuple[str, ...]]

# Four bytes a character at most: 60,000 bytes, within the 65,535 of a Milvus VARCHAR.
MAX_CHARACTERS = 15_000
# Token counts are estimates, so this share of the model's limit is used.
TOKEN_MARGIN = 0.8
MIN_TOKENS = 64
MAX_HEADING = 200
PLAIN_FORMATS = frozenset({"text", "pdf"})


def document_id(source: str) -> str:
    """The id that all chunks of one source share: 16 hexadecimal digits."""
    return blake2b(source.encode(), digest_size=8).hexdigest()


def content_hash(indexed_text: str) -> str:
    """The hash of what is embedded of a chunk (`Chunk.indexed_text`): 24 hexadecimal digits."""
    return blake2b(indexed_text.encode(), digest_size=12).hexdigest()


def content_of(chunk_id: str) -> str:
    """The content hash in a chunk's id: equal for chunks with the same heading path and text in any document.

    >>> content_of("59cb1d3f41d7f04e-8d6a0c7b2f1e4d3c5b6a7988-0")
    '8d6a0c7b2f1e4d3c5b6a7988'
    """
    return chunk_id.split("-")[1]


def packed(chunk_id: str) -> tuple[int, int]:
    """A chunk's id as two numbers, in half of the memory: its content, and its document with the occurrence in it.

    >>> unpacked(*packed("59cb1d3f41d7f04e-8d6a0c7b2f1e4d3c5b6a7988-12"))
    '59cb1d3f41d7f04e-8d6a0c7b2f1e4d3c5b6a7988-12'
    """
    document, content, occurrence = chunk_id.split("-")
    return int(content, 16), int(document, 16) << 32 | int(occurrence)


def unpacked(content: int, place: int) -> str:
    """The chunk's id of which `packed` gave these numbers."""
    return f"{place >> 32:016x}-{content:024x}-{place & 0xFFFFFFFF}"


def make_splitter(settings: Settings, max_tokens: int) -> Splitter:
    """The splitter that the settings name, for an embedder that reads `max_tokens` of a text."""
    if settings.splitter == "separator":
        return SeparatorSplitter(settings.separator, max_tokens)
    return SectionSplitter(settings.chunk_characters, max_tokens)


@dataclass(frozen=True, slots=True)
class SectionSplitter:
    """Cuts at every heading, never merges sections, and cuts inside a section only what is over the budget.

    Chunks are trimmed and begin with their heading's line. Plain text and PDF have no headings: they are cut between
    paragraphs. A page break always cuts. The budget is `chunk_characters` of text and a safe share of the embedder's
    `max_tokens` for heading path and text together. docs/retrieval.md compares ways to split.
    """

    chunk_characters: int = 1600
    max_tokens: int = 8192

    def __post_init__(self) -> None:
        if self.chunk_characters < 1:
            raise SettingsError(f"chunk_characters is {self.chunk_characters!r}: a chunk holds at least 1 character.")
        _check_tokens(self.max_tokens)

    @property
    def fingerprint(self) -> str:
        """Name, version and settings: chunks of equal fingerprints are comparable."""
        return f"sections/1 characters={self.chunk_characters} tokens={self.max_tokens}"

    def split(self, document: Document) -> list[Chunk]:
        """The chunks of a document in order; together they hold all its text from `body` on, but for whitespace."""
        return _chunks(document, self._passages(document))

    def _passages(self, document: Document) -> Iterator[Passage]:
        plain = document.format in PLAIN_FORMATS
        cut = cut_text if plain else cut_markdown
        tokens = int(self.max_tokens * TOKEN_MARGIN)
        for section in _outline(document, plain):
            headings = _fitting_headings(_heading_path(document.title, section.path), tokens // 2)
            budget = Budget(
                min(self.chunk_characters, MAX_CHARACTERS),
                tokens - estimate_tokens(" > ".join(headings) + "\n"),
            )
            for region in _pages(document, section):
                for start, end in cut(document.text, *region, budget):
                    yield *_trimmed(document.text, start, end), headings


@dataclass(frozen=True, slots=True)
class SeparatorSplitter:
    """Cuts the whole text, front matter included, at a separator, which is left out: `text.split(separator)`.

    Pieces keep their whitespace and have no heading path. A piece longer than Milvus can store or the embedder can
    read is cut further; pieces of whitespace alone are left out.
    """

    separator: str = "# "
    max_tokens: int = 8192

    def __post_init__(self) -> None:
        if not self.separator:
            raise SettingsError("separator is '': give the text to cut at, such as '# '.")
        _check_tokens(self.max_tokens)

    @property
    def fingerprint(self) -> str:
        """Name, version and settings: chunks of equal fingerprints are comparable."""
        return f"separator/1 separator={self.separator!r} tokens={self.max_tokens}"

    def split(self, document: Document) -> list[Chunk]:
        """The chunks of a document in order; together they hold all its text but for separators and whitespace."""
        return _chunks(document, self._passages(document.text))

    def _passages(self, text: str) -> Iterator[Passage]:
        budget = Budget(MAX_CHARACTERS, int(self.max_tokens * TOKEN_MARGIN))
        start = 0
        for piece in text.split(self.separator):
            end = start + len(piece)
            if len(piece) <= MAX_CHARACTERS and budget.fits(piece):
                yield start, end, ()
            else:
                for first, last in budget.pieces(piece, trim=False):
                    yield start + first, start + last, ()
            start = end + len(self.separator)


def _check_tokens(max_tokens: int) -> None:
    if max_tokens < MIN_TOKENS:
        raise SettingsError(
            f"the embedder reads {max_tokens!r} tokens of a text: too few to hold a heading path and a passage. "
            f"Use one that reads at least {MIN_TOKENS}."
        )


def _chunks(document: Document, passages: Iterable[Passage]) -> list[Chunk]:
    text, of_document = document.text, document_id(document.source)
    seen: Counter[str] = Counter()
    chunks: list[Chunk] = []
    line, counted = 1, 0
    for start, end, headings in passages:
        if not text[start:end].strip():
            continue
        line, counted = line + text.count("\n", counted, start), start
        chunk = Chunk(
            id="",
            source=document.source,
            title=document.title,
            ordinal=len(chunks),
            start=start,
            end=end,
            text=text[start:end],
            headings=headings,
            line=line,
            page=max(1, bisect_right(document.pages, start)) if document.pages else None,
            metadata=document.metadata,
        )
        content = content_hash(chunk.indexed_text)
        chunks.append(replace(chunk, id=f"{of_document}-{content}-{seen[content]}"))
        seen[content] += 1
    return chunks


def _outline(document: Document, plain: bool) -> Iterable[Section]:
    if plain:
        return [Section(document.body, len(document.text))]
    return sections(document.text, document.body)


def _pages(document: Document, section: Section) -> Iterator[Span]:
    """The section, cut where a page starts inside it."""
    pages = document.pages
    inside = pages[bisect_right(pages, section.start) : bisect_left(pages, section.end)]
    return pairwise((section.start, *inside, section.end))


def _heading_path(title: str, path: tuple[str, ...]) -> tuple[str, ...]:
    """The title in front of the headings, once where the highest heading repeats it."""
    title = " ".join(title.split())
    if path and title and plain_heading(title).casefold() == path[0].casefold():
        path = path[1:]
    return (title, *path) if title else path


def _fitting_headings(headings: tuple[str, ...], tokens: int) -> tuple[str, ...]:
    """The headings, each cut to `MAX_HEADING` characters, and shorter where the path would take over `tokens`."""
    longest = MAX_HEADING
    clipped = tuple(heading[:longest].rstrip() for heading in headings)
    while longest > 1 and estimate_tokens(" > ".join(clipped)) > tokens:
        longest //= 2
        clipped = tuple(heading[:longest].rstrip() for heading in headings)
    return clipped


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    piece = text[start:end]
    return start + len(piece) - len(piece.lstrip()), end - len(piece) + len(piece.rstrip())
