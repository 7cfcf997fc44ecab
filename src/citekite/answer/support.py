"""Checks each sentence of an answer against the passages it cites, by overlap, numbers, quotations and negation.

A sentence is supported when nearly all of its content words stand close together in what it cites, and every number,
name and quotation too. Overlap sees what is written, not what follows from it: another wording of the same fact may
come out as partly supported, and an answer in another language than its passages as not supported.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain

import regex

from citekite.answer.cite import MARKER, sentence_of
from citekite.answer.extract import readable
from citekite.answer.quantities import measures
from citekite.answer.sentences import Unit, units
from citekite.answer.verify import find_quote, quotations
from citekite.answer.wordlists import NEGATION, opposites
from citekite.events import Cited
from citekite.retrieve.lexical import word_terms
from citekite.types import Claim, Hit

# Shares of a sentence's content words, chosen on statements made from paragraphs by rule (`python -m bench claims`).
SUPPORTED, PARTLY = 0.6, 0.4
# Fewer content words than this, without a citation, claim nothing ("Here is how:").
_LEAST_WORDS = 3
# The share of its 4-grams by which a word counts as another form of one that stands there; more of a name.
_ALIKE, _NAME_ALIKE = 0.6, 0.8
_SHOWN_WORDS = 4
_WORD = regex.compile(r"(?!(?<=\p{L}['’])s\b)[\p{L}\p{M}][\w\p{M}]*")
_PARAGRAPH = regex.compile(r"\n\s*\n")


@dataclass(frozen=True, slots=True)
class _Word:
    text: str
    key: str
    grams: frozenset[str]
    is_name: bool


def check_claims(answer_text: str, passages: Sequence[Hit], cited: Sequence[Cited]) -> tuple[Claim, ...]:
    """The sentences of an answer that state something, in order, each with its verdict.

    Headings, code, questions, and short sentences without a citation that announce something are no claims. A sentence
    without a marker is checked against those of the next sentence of its paragraph that has one: a marker at the end
    of a paragraph stands for all of it.
    """
    found = [unit for unit in units(answer_text) if unit.kind not in ("heading", "code")]
    own: dict[tuple[int, int], list[int]] = {}
    for mark in cited:
        own.setdefault(sentence_of(answer_text, found, mark.position), []).append(mark.number)
    claims = []
    for place, unit in enumerate(found):
        span = unit.start, unit.end
        text = readable(MARKER.sub("", answer_text[unit.start : unit.end]))
        if _states_nothing(text) and (span not in own or _announces(text)):
            continue
        numbers = tuple(dict.fromkeys(own.get(span) or _borrowed(answer_text, found[place:], own)))
        claims.append(_claim(unit, text, numbers, passages))
    return tuple(claims)


def _states_nothing(text: str) -> bool:
    return text.endswith((":", "：", "?", "？")) or len(_words(text)) < _LEAST_WORDS


def _announces(text: str) -> bool:
    """Whether a text with a marker only says that something follows ("Run this [3]:")."""
    return text.endswith((":", "：")) and len(_words(text)) < _LEAST_WORDS


def _borrowed(text: str, following: Sequence[Unit], own: dict[tuple[int, int], list[int]]) -> list[int]:
    """The numbers of the next sentence in the same paragraph or list item that has any."""
    first = following[0]
    for unit in following[1:]:
        if unit.kind != first.kind or _PARAGRAPH.search(text, first.end, unit.start):
            break
        if first.kind != "sentence" and "\n" in text[first.end : unit.start]:
            break
        if numbers := own.get((unit.start, unit.end)):
            return numbers
    return []


def _claim(unit: Unit, text: str, numbers: tuple[int, ...], passages: Sequence[Hit]) -> Claim:
    if not numbers:
        return Claim(unit.start, unit.end, (), "not_supported", "it cites no passage")
    cited = [passages[number - 1] for number in numbers]
    if fault := next(_faults(text, cited), ""):
        return Claim(unit.start, unit.end, numbers, "not_supported", fault)
    words = _words(text)
    held = frozenset(term for hit in cited for term in _best_window(words, hit))
    missing = [word for word in words if not _stands(word, held)]
    share = 1 - len(missing) / len(words) if words else 1.0
    reason = _lacking(missing)
    if share >= SUPPORTED and not any(word.is_name for word in missing):
        return Claim(unit.start, unit.end, numbers, "supported")
    return Claim(unit.start, unit.end, numbers, "partly" if share >= PARTLY else "not_supported", reason)


def _faults(text: str, cited: Sequence[Hit]) -> Iterator[str]:
    """What contradicts the cited passages or is missing from all of them, whatever else they say."""
    source = "\n".join(f"{hit.chunk.indexed_text}\n{hit.chunk.title}" for hit in cited)
    known: dict[str, set[str]] = {}
    for _, forms, unit in measures(source):
        for form in forms:
            known.setdefault(form, set()).add(unit)
    for shown, forms, unit in measures(text):
        units_there = {other for form in forms for other in known.get(form, ())}
        if not units_there:
            yield f"{shown} is not in what it cites"
        elif unit and not units_there & {unit, ""}:
            yield f"{shown} {unit} is {shown} {min(units_there)} in what it cites"
    for quotation in quotations(text):
        if not any(find_quote(quotation, hit.chunk.text) for hit in cited):
            yield f"the quotation “{quotation}” is not in what it cites"
    words = _words(text)
    parts = [(shown, terms, _overlap(words, terms)) for hit in cited for shown, terms in _parts(hit, 1)]
    most = max((overlap for *_, overlap in parts), default=0.0)
    if most < PARTLY:
        return
    best = [part for part in parts if part[2] == most]
    if not any(bool(NEGATION.search(text)) == bool(NEGATION.search(shown)) for shown, *_ in best):
        yield "it denies what it cites, or states what is denied there"
    there = frozenset(word.lower() for shown, *_ in best for word in _WORD.findall(shown))
    for word in words:
        if not any(_stands(word, terms) for _, terms, _ in best) and (other := opposites(word.text) & there):
            yield f"it has {word.text} where what it cites has {min(other)}"


def _lacking(missing: Sequence[_Word]) -> str:
    names = [word.text for word in missing if word.is_name]
    shown = list(dict.fromkeys(names or [word.text for word in missing]))
    more = ", …" if len(shown) > _SHOWN_WORDS else ""
    return f"not found in what it cites: {', '.join(shown[:_SHOWN_WORDS])}{more}"


def _words(text: str) -> list[_Word]:
    """The content words of a statement; names are capitalised inside the sentence."""
    found: list[_Word] = []
    for match in _WORD.finditer(text):
        word = match[0]
        keys = word_terms(word.lower())
        if keys[0:1] == keys[1:2]:
            first = not text[: match.start()].strip(" \"'“‘(*_")
            shown = word if word[0].isupper() and not first else word.lower()
            found += [_Word(shown, keys[0], frozenset(keys[2:]), shown[0].isupper())] if keys else []
        else:
            found += [_Word(key, key, frozenset(), False) for key in keys]
    return found


def _parts(hit: Hit, sentences: int) -> tuple[tuple[str, frozenset[str]], ...]:
    """The runs of that many sentences of a passage with their terms, among them headings and a row's column names."""
    return _runs(hit.chunk.text, f"{hit.chunk.title} {' '.join(hit.chunk.headings)}", sentences)


@lru_cache(maxsize=128)  # every sentence of an answer is compared with the same few passages
def _runs(text: str, heading: str, sentences: int) -> tuple[tuple[str, frozenset[str]], ...]:
    above = _terms(heading)
    found = units(text)
    runs = []
    columns = ""
    for place, unit in enumerate(found):
        if unit.kind != "row":
            columns = text[unit.start : unit.end] if unit.kind == "heading" else ""
        shown = text[unit.start : found[min(place + sentences, len(found)) - 1].end]
        runs.append((shown, above | _terms(f"{columns} {shown}")))
    return tuple(runs)


def _terms(text: str) -> frozenset[str]:
    return frozenset(chain.from_iterable(map(word_terms, _WORD.findall(text.lower()))))


def _best_window(words: Sequence[_Word], hit: Hit) -> frozenset[str]:
    return max((terms for _, terms in _parts(hit, 2)), key=lambda terms: _overlap(words, terms), default=frozenset())


def _overlap(words: Sequence[_Word], terms: frozenset[str]) -> float:
    return sum(_stands(word, terms) for word in words) / len(words) if words else 0.0


def _stands(word: _Word, terms: frozenset[str]) -> bool:
    """Whether a word or another form of it is among the terms."""
    least = (_NAME_ALIKE if word.is_name else _ALIKE) * len(word.grams)
    return word.key in terms or (bool(word.grams) and len(word.grams & terms) >= least)
