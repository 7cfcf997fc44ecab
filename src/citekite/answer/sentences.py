"""Cuts a passage into the units that can be shown or cited alone: sentences, list items, table rows, code blocks.

A unit is a span of the passage's own text. Markdown that says nothing by itself (rules, comments, images, bare
addresses, template includes, tags alone on a line) belongs to no unit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import regex

Kind = Literal["sentence", "item", "heading", "row", "code"]


@dataclass(frozen=True, slots=True)
class Unit:
    """A part of a text, `text[start:end]`, that can be read alone; a sentence of a list has the kind `item`."""

    start: int
    end: int
    kind: Kind


CODE = regex.compile(r"(?s)(?P<fence>`{3,}|~{3,}).*?(?:(?P=fence)|\Z)|(?P<tick>`{1,2})(?!`)[^\n]*?(?P=tick)")
_FRONT_MATTER = regex.compile(r"\A---[ \t]*\n(?:[\w-]+:.*\n|[ \t]+.*\n|\n)*?---[ \t]*(?:\n|\Z)")
_COMMENT = regex.compile(r"[ \t]*<!--.*?(?:-->|\Z)[ \t]*\n?", regex.DOTALL)
_FENCE = regex.compile(r"[ \t]*(`{3,}|~{3,})")
_HEADING = regex.compile(r"[ \t]{0,3}#{1,6}(?:[ \t]|$)")
_UNDERLINE = regex.compile(r"[ \t]{0,3}(?:=+|-{2,})[ \t]*$")
_ITEM = regex.compile(r"[ \t]*(?:[-*+•]|\d{1,3}[.)])[ \t]+")
_ROW = regex.compile(r"[ \t]*\|")
_FRAME = regex.compile(r"[ \t]*\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*(?:\n|\Z)")
_FURNITURE = regex.compile(
    r"""[\s>]*(?:
        [-*_=|:+\s]*                                # rules, frames of tables, empty quotes
      | (?:\[?!\[[^\]]*\]\([^)]*\)(?:\]\([^)]*\))?\s*)+   # images, linked images
      | <?\w+://\S+>?                               # an address
      | \[[^\]]*\]:\s.*                             # a link definition
      | (?:\{\{.*\}\}|\{%.*%\})                     # a template include
      | (?:</?[A-Za-z][^<>]*>\s*)+                  # tags with nothing in them
    )\s*$""",
    regex.VERBOSE,
)

_END = regex.compile(r"""(?:[.!?…]+|[。！？｡।॥؟۔]+)[*_"'”’»)\]」』）】]*(?:\[\d{1,3}\])*""")
_WIDE_END = frozenset("。！？｡")
_CONTINUES = regex.compile(r"\s+[\p{Ll}]")
# "am 3. Oktober": a German ordinal takes a full stop, and its noun a capital.
_ORDINAL = regex.compile(
    r"(?<=\b\d{1,2}\.)\s+(?:Januar|Februar|März|April|Mai|Ju[nl]i|August|(?:Septem|Okto|Novem|Dezem)ber|Jahrhundert|Jh\b)"
)
_LAST_WORD = regex.compile(r"[\w.]+\.$")
_WORD = regex.compile(r"\w+")
# Written with a full stop in the middle of a sentence. Single letters (initials) are told by their length.
_ABBREVIATED = """
    al approx art bd bzw ca capt cf ch chap co col corp dept dr ed eds eg esp est etc ex fig figs ft gen gov hon hr
    ie inc jr lt ltd maj max mio mr mrs ms mt no nos nr op p pp prof rep rev sec sen sgt sr st str u.a usw vol vs z.b
    e.g i.e u.s d.h a.k.a
"""
_ABBREVIATIONS = frozenset(_ABBREVIATED.split())
_SHORT = 2  # words; "Yes." alone says nothing, so it stays with the sentence after it


@lru_cache(maxsize=512)
def units(text: str) -> tuple[Unit, ...]:
    """The units of a text, in order and without overlap; spans are free of surrounding white space.

    Cached, because one answer cuts each of its passages a dozen times: to judge, to choose, to cite and to check.

    >>> text = "# Storage\\n\\nYes, e.g. MinIO. Metadata is in etcd."
    >>> [text[u.start:u.end] for u in units(text)]
    ['# Storage', 'Yes, e.g. MinIO.', 'Metadata is in etcd.']
    """
    found: list[Unit] = []
    for start, end, kind in _blocks(text):
        if kind == "sentence" or kind == "item":
            found += _sentences(text, start, end, kind)
        else:
            found.append(_trimmed(text, start, end, kind))
    return tuple(unit for unit in found if unit.start < unit.end)


def outside_code(function: Callable[[str], str], text: str) -> str:
    """The text with `function` applied to all of it but code (fences, and backticks on one line)."""
    done, parts = 0, []
    for code in CODE.finditer(text):
        parts += [function(text[done : code.start()]), code[0]]
        done = code.end()
    return "".join([*parts, function(text[done:])])


def _blocks(text: str) -> Iterator[tuple[int, int, Kind]]:
    """Spans of paragraphs (kind sentence), list items, headings, table rows and fenced code."""
    front = _FRONT_MATTER.match(text)
    position = front.end() if front else 0
    begun: tuple[int, Kind] | None = None  # where the paragraph or item being read began
    while position < len(text):
        kind, end = _classify(text, position)
        if begun is not None and kind != "prose":
            underlined = kind == "nothing" and _UNDERLINE.match(text[position:end].rstrip("\n"))
            yield begun[0], position, "heading" if underlined else begun[1]
            begun = None
        if kind == "prose":
            begun = begun or (position, "sentence")
        elif kind == "item":
            begun = (_after_mark(text, position), "item")
        elif kind != "nothing":
            yield position, end, kind
        position = end
    if begun is not None:
        yield begun[0], len(text), begun[1]


def _after_mark(text: str, position: int) -> int:
    mark = _ITEM.match(text, position)
    return int(mark.end()) if mark else position


def _classify(text: str, position: int) -> tuple[Literal["heading", "row", "code", "item", "prose", "nothing"], int]:
    """What begins at a line's start, and where it ends."""
    stop = text.find("\n", position) + 1 or len(text)
    line = text[position:stop].rstrip("\n")
    if comment := _COMMENT.match(text, position):
        return "nothing", comment.end()
    if fence := _FENCE.match(line):
        return "code", _fence_end(text, stop, fence[1])
    if _FURNITURE.match(line):
        return "nothing", stop
    if _HEADING.match(line):
        return "heading", stop
    if _ROW.match(line):
        # The row of column names is followed by a frame; alone it says as little as a heading.
        return ("heading" if _FRAME.match(text, stop) else "row"), stop
    return ("item" if _ITEM.match(line) else "prose"), stop


def _fence_end(text: str, position: int, fence: str) -> int:
    closing = regex.compile(rf"^[ \t]*{regex.escape(fence[0])}{{{len(fence)},}}[ \t]*(?:\n|\Z)", regex.MULTILINE)
    found = closing.search(text, position)
    return found.end() if found else len(text)


def _sentences(text: str, start: int, end: int, kind: Kind) -> Iterator[Unit]:
    begin = start
    for mark in _END.finditer(text, start, end):
        if _ends_sentence(text, mark, begin, end) and len(_WORD.findall(text[begin : mark.end()])) >= _short(
            text, mark
        ):
            yield _trimmed(text, begin, mark.end(), kind)
            begin = mark.end()
    yield _trimmed(text, begin, end, kind)


def _short(text: str, mark: regex.Match[str]) -> int:
    return 1 if text[mark.start()] in _WIDE_END else _SHORT


def _ends_sentence(text: str, mark: regex.Match[str], begin: int, end: int) -> bool:
    """Whether punctuation ends a sentence: not inside a number, an address, a code span or after an abbreviation."""
    if mark.end() >= end or text[mark.start()] in _WIDE_END:
        return True
    if not text[mark.end()].isspace() or _CONTINUES.match(text, mark.end()) or _ORDINAL.match(text, mark.end()):
        return False
    if text.count("`", begin, mark.start()) % 2:
        return False
    word = _LAST_WORD.search(text, begin, mark.start() + 1)
    if mark[0][0] != "." or word is None:
        return True
    last = word[0].rstrip(".").lower()
    return not (last in _ABBREVIATIONS or (len(last) == 1 and last.isalpha()))


def _trimmed(text: str, start: int, end: int, kind: Kind) -> Unit:
    part = text[start:end]
    return Unit(start + len(part) - len(part.lstrip()), start + len(part.rstrip()), kind)
