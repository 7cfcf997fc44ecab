"""Cutting what is too long into pieces that fit, at the best place its structure offers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from citekite.ingest.sections import scan
from citekite.tokens import estimate_tokens

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Budget:
    """How long a piece may be: at most `characters`, and at most `tokens` as `estimate_tokens` counts."""

    characters: int
    tokens: int

    def half(self) -> Budget:
        """Half of this budget, rounded up."""
        return Budget((self.characters + 1) // 2, (self.tokens + 1) // 2)

    def fits(self, text: str) -> bool:
        """Whether the text, without the whitespace around it, is within both limits."""
        return self._size(text.strip()) <= self._capacity

    def pieces(self, text: str, *, markdown: bool = False, trim: bool = True) -> Iterator[Span]:
        """Spans of the text that fit, cut between paragraphs, else sentences, else words, else characters.

        With `markdown` at the boundaries of Markdown's blocks and inline elements. What lies between two spans is
        whitespace; with `trim=False` nothing does.
        """
        from semantic_text_splitter import MarkdownSplitter, TextSplitter

        splitter = MarkdownSplitter if markdown else TextSplitter
        if text.isascii():
            cutter = splitter(min(self.characters, 4 * self.tokens), trim=trim)
        elif self._tokens_hold(self.characters):
            cutter = splitter(self.characters, trim=trim)
        else:
            cutter = splitter.from_callback(self._size, self._capacity, trim=trim)
        for offset, piece in cutter.chunk_indices(text):
            yield offset, offset + len(piece)

    def _tokens_hold(self, characters: int) -> bool:
        # The most that `estimate_tokens` makes of a text: five quarters a character (rare Han), rounded up.
        return 5 * characters <= 4 * (self.tokens - 1)

    @property
    def _capacity(self) -> int:
        """The unit of `_size`: the smaller limit, so that no text is larger than it has bytes.

        The splitters rely on that: a text of no more bytes than the capacity they take to fit, whatever its size.
        """
        return min(self.characters, self.tokens)

    def _size(self, text: str) -> int:
        """The larger share of the two limits that the text takes; all of a limit is `_capacity`, rounded up."""
        size = -(-len(text) * self._capacity // self.characters)
        if self._tokens_hold(len(text)):
            return size
        return max(size, -(-estimate_tokens(text) * self._capacity // self.tokens))


# A fence or row that fits is never cut; a table that does not fit is cut between its rows; lines are what is left of
# a fence or row that had to be cut.
Kind = Literal["prose", "fence", "table", "row", "lines"]


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of Markdown of one kind, in `[start, end)`."""

    start: int
    end: int
    kind: Kind


_DELIMITER = r"[ \t>]*(?=[^\n]*\|)\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$"
# A header over its delimiter row and all lines up to a blank one; or lines that begin with a bar.
_TABLE = re.compile(
    rf"^[^\n|]*\|[^\n]*\n{_DELIMITER}(?:\n[^\n]*\S[^\n]*)*|^[ \t>]*\|[^\n]*(?:\n[ \t>]*\|[^\n]*)*", re.MULTILINE
)
_ROW = re.compile(rf"[^\n]*\n{_DELIMITER}|[^\n]+", re.MULTILINE)


def cut_text(text: str, start: int, end: int, budget: Budget) -> list[Span]:
    """Spans of `text[start:end]` within the budget: whole, or as few paragraphs, sentences or words as need be."""
    if budget.fits(text[start:end]):
        return [(start, end)]
    return [(start + first, start + last) for first, last in budget.pieces(text[start:end])]


def cut_markdown(text: str, start: int, end: int, budget: Budget) -> list[Span]:
    """Spans of the Markdown `text[start:end]` within the budget.

    Fenced code and tables that fit stay whole, as do table rows. The heading on top is not left alone where what
    follows can be cut.
    """
    if budget.fits(text[start:end]):
        return [(start, end)]
    blocks = [part for block in _blocks(text, start, end) for part in _fitting(text, block, budget)]
    return list(_pack(text, _with_heading(text, blocks, budget), budget))


def _blocks(text: str, start: int, end: int) -> Iterator[Block]:
    for mark in scan(text, start, end):
        if not mark.level:
            yield from _prose_and_tables(text, start, mark.start)
            yield Block(mark.start, mark.end, "fence")
            start = mark.end
    yield from _prose_and_tables(text, start, end)


def _prose_and_tables(text: str, start: int, end: int) -> Iterator[Block]:
    for table in _TABLE.finditer(text, start, end):
        if text[start : table.start()].strip():
            yield Block(start, table.start(), "prose")
        yield Block(table.start(), table.end(), "table")
        start = table.end()
    if text[start:end].strip():
        yield Block(start, end, "prose")


def _fitting(text: str, block: Block, budget: Budget) -> Iterator[Block]:
    """The block itself if it fits, else its parts that do."""
    if budget.fits(text[block.start : block.end]):
        yield block
        return
    for part in _parts(text, block, budget):
        if part.kind == "row":
            yield from _fitting(text, part, budget)
        else:
            yield part


def _parts(text: str, block: Block, budget: Budget) -> Iterator[Block]:
    if block.kind == "table":
        for row in _ROW.finditer(text, block.start, block.end):
            yield Block(row.start(), row.end(), "row")
        return
    prose = block.kind == "prose"
    for first, last in budget.pieces(text[block.start : block.end], markdown=prose):
        yield Block(block.start + first, block.start + last, "prose" if prose else "lines")


def _with_heading(text: str, blocks: list[Block], budget: Budget) -> list[Block]:
    """Make what follows a heading small enough to stand with it, where it may be cut at all.

    In halves, since taking off only as much as the heading needs would leave a crumb behind.
    """
    if len(blocks) < 2 or not _is_heading(text, blocks[0]):
        return blocks
    heading, following = blocks[:2]
    if following.kind in ("fence", "row") or budget.fits(text[heading.start : following.end]):
        return blocks
    parts = _parts(text, following, budget.half())
    fitting = [piece for part in parts for piece in _fitting(text, part, budget)]
    return [heading, *fitting, *blocks[2:]]


def _is_heading(text: str, block: Block) -> bool:
    mark = next(scan(text, block.start, block.end), None)
    return mark is not None and mark.level > 0 and not text[mark.end : block.end].strip()


def _pack(text: str, blocks: Iterable[Block], budget: Budget) -> Iterator[Span]:
    """Join neighbours as long as they fit together."""
    start = end = -1
    for block in blocks:
        if start >= 0 and not budget.fits(text[start : block.end]):
            yield start, end
            start = -1
        start, end = (block.start if start < 0 else start), block.end
    if start >= 0:
        yield start, end
