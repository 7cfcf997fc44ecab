"""Citations: reads the markers of a streaming answer, and finds the span of the passage behind each.

This is the one place that knows what a marker looks like. `[1]`, `[1][2]`, `[1, 2]`, `[1-3]`, `[^1]`, `[passage 1]`,
`【1】` and full-width digits all come out as `[n]`; the number of a passage is kept, because the passages are shown
before the text comes. A marker has at most three digits, and a list with a zero in it is text: `[2024]` is a year
and `[0, 1]` an interval. What stands in code (a fence, or backticks on one line) is left alone: `a[1]` is an index.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import regex

from citekite.answer.sentences import Unit, units
from citekite.answer.verify import find_quote, quotations
from citekite.events import Cited, Delta
from citekite.retrieve.lexical import terms
from citekite.types import Citation, Hit

_LIST = r"(?:passages?\s{1,3})?\^?\d{1,3}(?:\s{0,3}[,;、，–-]\s{0,3}\^?\d{1,3}){0,20}"
MARKER = regex.compile(
    rf"[\[［]\s{{0,3}}(?P<numbers>{_LIST})\s{{0,3}}[\]］]|【\s{{0,3}}(?P<numbers>{_LIST})(?:†[^】\n]{{0,80}})?\s{{0,3}}】",
    regex.IGNORECASE,
)
_SPACED_MARKER = regex.compile(rf"(?P<space>[ \t]*)(?:{MARKER.pattern})", regex.IGNORECASE)
_NUMBERS = regex.compile(r"(\d+)(?:\s*[–-]\s*\^?(\d+))?")
_PLAIN = regex.compile(r"[^\s\[［【`~]+|[ \t]+")
_TICKS = regex.compile(r"`+|~+")
# May stand before a fence on its line: indentation, quote and list marks.
_BEFORE_FENCE = frozenset(" \t>-*+.)0123456789")


class CitationStream:
    """Turns the pieces of an answer into `Delta` and `Cited` events; any split into pieces gives the same result.

    `Cited` comes just before the `Delta` that is its marker: its position is the length of the text until then. A
    marker that points at no passage is left out together with the space before it, and counted in `dropped`. Only
    what may become a marker is held back. A lone backtick makes the rest of its line code.
    """

    def __init__(self, passages: int) -> None:
        self.text = ""
        self.cited: list[Cited] = []
        self.dropped = 0
        self._passages = passages
        self._pending = ""
        self._code = ""  # the run of backticks or tildes that opened the code being read
        self._fenced = False
        self._line_start = True

    def feed(self, piece: str) -> list[Delta | Cited]:
        """The events of a further piece of the answer."""
        return self._read(piece, final=False)

    def finish(self) -> list[Delta | Cited]:
        """The events of what was held back, when nothing more comes."""
        return self._read("", final=True)

    def _read(self, piece: str, *, final: bool) -> list[Delta | Cited]:
        events: list[Delta | Cited] = []
        buffer, position, copied = self._pending + piece, 0, 0
        while position < len(buffer):
            marker = None if self._code else _SPACED_MARKER.match(buffer, position, partial=not final)
            if marker and marker.partial:
                break
            if marker and (numbers := _numbers(marker["numbers"])):
                self._copy(buffer[copied:position], events)
                self._cite(marker["space"], numbers, events)
                position = copied = marker.end()
                self._line_start = False
            elif (after := self._step(buffer, position, final=final)) > position:
                position = after
            else:
                break
        self._copy(buffer[copied:position], events)
        self._pending = buffer[position:]
        return events

    def _copy(self, text: str, events: list[Delta | Cited]) -> None:
        if text:
            self.text += text
            events.append(Delta(text))

    def _cite(self, space: str, numbers: Sequence[int], events: list[Delta | Cited]) -> None:
        known = [number for number in numbers if 1 <= number <= self._passages]
        self.dropped += len(numbers) - len(known)
        # A marker dropped after "!" leaves a space: "![7][x](address)" must not turn into an image.
        if known or self.text.endswith("!"):
            self._copy(space if known else " ", events)
        for number in known:
            self.cited.append(Cited(number, len(self.text)))
            events.append(self.cited[-1])
            self._copy(f"[{number}]", events)

    def _step(self, buffer: str, position: int, *, final: bool) -> int:
        """The end of the next token (`position` while it is unfinished); notes whether code opens or closes."""
        if buffer[position] == "\n":
            self._line_start = True
            if not self._fenced:
                self._code = ""
            return position + 1
        if ticks := _TICKS.match(buffer, position):
            if ticks.end() == len(buffer) and not final:
                return position
            self._turn(ticks[0])
            self._line_start = False
            return int(ticks.end())
        plain = _PLAIN.match(buffer, position)
        after = plain.end() if plain else position + 1
        self._line_start = self._line_start and _BEFORE_FENCE.issuperset(buffer[position:after])
        return int(after)

    def _turn(self, run: str) -> None:
        """Open or close code at a run of backticks or tildes."""
        if self._fenced:
            if self._line_start and run.startswith(self._code):
                self._code, self._fenced = "", False
        elif self._code:
            if run == self._code:
                self._code = ""
        elif self._line_start and len(run) >= 3:
            self._code, self._fenced = run, True
        elif run[0] == "`":
            self._code = run


def resolve(answer_text: str, passages: Sequence[Hit], cited: Sequence[Cited]) -> tuple[Citation, ...]:
    """The citations of an answer, one for each number, in the order in which they are first cited.

    The span is the quotation in the citing sentence where it stands in the passage, else the sentence of the passage
    that shares most with the citing one, else (nothing shared, as across languages) the whole passage. A citation is
    not verified when a sentence that cites it has a quotation that stands in none of the passages it cites.
    """
    sentences = units(answer_text)
    beside: dict[tuple[int, int], set[int]] = {}  # the numbers that each sentence cites
    spans = [sentence_of(answer_text, sentences, mark.position) for mark in cited]
    for mark, span in zip(cited, spans, strict=True):
        beside.setdefault(span, set()).add(mark.number)
    claims: dict[int, list[tuple[str, set[int]]]] = {}
    for mark, span in zip(cited, spans, strict=True):
        claims.setdefault(mark.number, []).append((MARKER.sub("", answer_text[slice(*span)]), beside[span]))
    return tuple(_citation(number, found, passages) for number, found in claims.items())


def locate(number: int, hit: Hit, start: int, end: int, *, verified: bool = True) -> Citation:
    """The citation of `hit.chunk.text[start:end]`, with offsets and line moved from the chunk to its document.

    The hit's `others` are cited too where they hold these words: a passage may have grown beyond what they repeat.
    """
    chunk = hit.chunk
    quote = chunk.text[start:end]
    also = tuple(
        locate(number, replace(hit, chunk=other, others=()), *span, verified=verified)
        for other in hit.others
        if (span := _exactly(quote, other.text) or find_quote(quote, other.text))
    )
    line = chunk.line + chunk.text.count("\n", 0, start)
    return Citation(number, hit, quote, chunk.start + start, chunk.start + end, line, verified, also)


def _exactly(quote: str, passage: str) -> tuple[int, int] | None:
    at = passage.find(quote)
    return None if at < 0 else (at, at + len(quote))


def _numbers(text: str) -> list[int]:
    """The distinct numbers of a marker with its ranges spelled out; empty when it is no marker but an interval."""
    found: list[int] = []
    parts = _NUMBERS.findall(text)
    for first, last in parts:
        found += range(int(first), int(last or first) + 1)
    return [] if 0 in found and text.strip("^ ") != "0" else list(dict.fromkeys(found))


def sentence_of(text: str, sentences: Sequence[Unit], position: int) -> tuple[int, int]:
    """The sentence that a marker at `position` stands for: the one it stands in, or follows."""
    before = MARKER.sub(lambda marker: " " * len(marker[0]), text[:position]).rstrip()
    at = max(len(before) - 1, 0)
    for unit in sentences:
        if unit.start <= at < unit.end:
            return unit.start, unit.end
    return text.rfind("\n", 0, position) + 1, position


def _citation(number: int, claims: Sequence[tuple[str, set[int]]], passages: Sequence[Hit]) -> Citation:
    hit = passages[number - 1]
    verified = all(
        any(find_quote(quotation, passages[other - 1].chunk.text) for other in beside)
        for claim, beside in claims
        for quotation in quotations(claim)
    )
    start, end = _support(claims[0][0], hit.chunk.text)
    return locate(number, hit, start, end, verified=verified)


def _support(claim: str, passage: str) -> tuple[int, int]:
    """The span of a passage that supports a claim."""
    for quotation in quotations(claim):
        if span := find_quote(quotation, passage):
            return span
    wanted = set(terms(claim))
    best, span = 0.0, (0, len(passage))
    for unit in units(passage):
        if unit.kind != "heading" and (score := _likeness(wanted, passage, unit)) > best:
            best, span = score, (unit.start, unit.end)
    return span


def _likeness(wanted: set[str], passage: str, unit: Unit) -> float:
    """The cosine of two sets of terms: what is shared, without favour for long sentences."""
    offered = set(terms(passage[unit.start : unit.end]))
    return len(wanted & offered) / math.sqrt(len(wanted) * len(offered)) if wanted and offered else 0.0
