"""The outline of a Markdown text: where its fenced code stands, and which section each heading opens.

Follows CommonMark (https://spec.commonmark.org/0.31.2/), read line by line rather than parsed to a tree, with
leanings towards how documents are really written: fenced code in a list item or a quotation may be indented as its
author liked, a heading indented by up to three spaces opens a section even where the list above it would take it in,
and only a paragraph of one line can be a heading by the line drawn under it.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mark:
    """A heading (`level` 1 to 6, `text` without Markdown) or a block of fenced code (`level` 0) in `[start, end)`."""

    start: int
    end: int
    level: int = 0
    text: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """The text from one heading up to the next; `path` leads from the highest heading down to its own."""

    start: int
    end: int
    path: tuple[str, ...] = ()


_MARK = re.compile(
    r"""^(?:
        [ ]{0,3}(?P<hashes>\#{1,6})(?:[ \t]+(?P<heading>[^\n]*))?
      | (?P<prefix>(?:[ \t>]|[-*+][ \t]|\d{1,9}[.)][ \t])*)(?P<fence>`{3,}(?=[^`\n]*$)|~{3,})[^\n]*
      | [ ]{0,3}(?P<underline>=+|-+)[ \t]*
    )$""",
    re.MULTILINE | re.VERBOSE,
)
# What a line drawn under it makes a heading of: no list item, quotation, table row, markup or indented code.
_UNDERLINED = re.compile(r" {0,3}(?![-*+][ \t]|\d{1,9}[.)][ \t]|[>|<# \t])[^\n]*\w")
_CLOSING_HASHES = re.compile(r"(?:^|[ \t]+)#+[ \t]*$")

# As much of a heading's line as is read: undoing marks inside marks takes quadratic time, and no heading is so long.
_LONGEST_HEADING = 2_000

_CODE_SPAN = re.compile(r"(`+)(.+?)\1(?!`)")
_ANCHOR = re.compile(r"\s*\{#[^{}]*\}\s*$")
_LINK = re.compile(r"!?\[([^\[\]]*)\](?:\([^()\s]*(?:\([^()]*\)[^()\s]*)*(?:\s+[^()]*)?\)|\[[^\[\]]*\])")
_TAG = re.compile(r"<!--.*?-->|</?[A-Za-z][^<>]*>")
_EMPHASIS = re.compile(r"(\*{1,3}|~~|(?<!\w)_{1,3})(?=\S)(.+?)(?<=\S)\1(?!(?<=_)\w)")
_ESCAPE = re.compile(r"\\([!-/:-@\[-`{-~])")


def scan(text: str, start: int = 0, end: int | None = None) -> Iterator[Mark]:
    """The headings and blocks of fenced code of `text[start:end]` in order; `start` is the start of a line.

    >>> [(mark.level, mark.text) for mark in scan("# A\\n```\\n# not a heading\\n```\\nB\\n---\\n")]
    [(1, 'A'), (0, ''), (2, 'B')]
    """
    end = len(text) if end is None else end
    unclosed: set[tuple[str, int]] = set()
    position = start
    while match := _MARK.search(text, position, end):
        mark = _mark(text, match, position, end, unclosed)
        if mark:
            yield mark
        position = min((mark.end if mark else match.end()) + 1, end)
        if position == end:
            return


def _mark(text: str, match: re.Match[str], floor: int, end: int, unclosed: set[tuple[str, int]]) -> Mark | None:
    """What a line that looks like a mark really is; None for a line that only looks like it."""
    if hashes := match["hashes"]:
        heading = _CLOSING_HASHES.sub("", (match["heading"] or "")[:_LONGEST_HEADING])
        return Mark(match.start(), match.end(), len(hashes), plain_heading(heading))
    if match["fence"]:
        closed = _fence_end(text, match, end, unclosed)
        return None if closed is None else Mark(match.start(), closed)
    return _underlined_heading(text, match, floor)


def _fence_end(text: str, match: re.Match[str], end: int, unclosed: set[tuple[str, int]]) -> int | None:
    """Where the fence that opens here is closed; None where it is none.

    Open to the end, it takes in the rest, as CommonMark has it; but in a list item, a quotation or indented code it
    then is no fence, because the rest of the document is none of theirs.
    """
    fence, width = match["fence"], len(match["prefix"].expandtabs(4))
    # What was searched for in vain is not searched for again: many open fences would take quadratic time.
    key = (fence, width)
    if key not in unclosed:
        line = rf"^[ \t>]{{0,{width + 3}}}{fence[0]}{{{len(fence)},}}[ \t]*$"
        if closing := re.compile(line, re.MULTILINE).search(text, match.end(), end):
            return closing.end()
        unclosed.add(key)
    return end if width <= 3 and not match["prefix"].strip() else None


def _underlined_heading(text: str, match: re.Match[str], floor: int) -> Mark | None:
    line_end = match.start() - 1
    line_start = max(text.rfind("\n", 0, max(line_end, 0)) + 1, floor)
    if line_end <= line_start or not _UNDERLINED.match(text, line_start, line_end):
        return None
    before = text.rfind("\n", 0, max(line_start - 1, 0)) + 1
    if line_start > floor and text[max(before, floor) : line_start].strip():
        return None
    level = 1 if match["underline"][0] == "=" else 2
    return Mark(line_start, match.end(), level, plain_heading(text[line_start:line_end]))


def sections(text: str, start: int = 0, end: int | None = None) -> Iterator[Section]:
    """The sections of `text[start:end]`, without gap or overlap: what precedes the first heading, then one a heading.

    >>> [section.path for section in sections("Intro\\n# A\\n## B\\n# C\\n")]
    [(), ('A',), ('A', 'B'), ('C',)]
    """
    end = len(text) if end is None else end
    opened: list[Mark] = []
    for mark in scan(text, start, end):
        if not mark.level:
            continue
        if mark.start > start:
            yield Section(start, mark.start, _path(opened))
        start = mark.start
        while opened and opened[-1].level >= mark.level:
            opened.pop()
        opened.append(mark)
    if start < end:
        yield Section(start, end, _path(opened))


def _path(opened: list[Mark]) -> tuple[str, ...]:
    return tuple(mark.text for mark in opened if mark.text)


def plain_heading(heading: str) -> str:
    """A heading as a reader sees it: no emphasis, links, anchors or tags; code keeps its characters.

    >>> plain_heading("**Use** [`max_length`](#x) of a <b>field</b> {#use}")
    'Use max_length of a field'
    """
    heading = _ANCHOR.sub("", heading[:_LONGEST_HEADING])
    spans: list[str] = []

    def keep(span: re.Match[str]) -> str:
        spans.append(span[2])
        return f"\0{len(spans) - 1}\0"

    heading = _CODE_SPAN.sub(keep, heading.replace("\0", ""))
    heading = _LINK.sub(r"\1", _LINK.sub(r"\1", _TAG.sub("", heading)))
    while (bare := _EMPHASIS.sub(r"\2", heading)) != heading:
        heading = bare
    heading = html.unescape(_ESCAPE.sub(r"\1", heading))
    heading = re.sub(r"\0(\d+)\0", lambda place: spans[int(place[1])], heading)
    return " ".join(heading.split())
