"""What speaks for and against an answer in the passages, as a few figures that a person can check."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from itertools import chain

import regex

from citekite.answer.asked_for import holds_kind, holds_unit
from citekite.answer.sentences import units
from citekite.answer.wordlists import (
    EXCLUSION,
    FRAME,
    JOINED,
    NEGATION,
    PASSIVE,
    PRONOUN,
    QUALIFIER,
    SUPERLATIVE,
    opposites,
)
from citekite.retrieve.lexical import word_terms
from citekite.types import Hit

_WORD = regex.compile(r"[\p{L}\p{N}\p{M}]+(?:[.,]\p{N}+)*")
# Content words missing from the best window that count fully; a paraphrase misses one or two.
_MANY_MISSING = 4
# The share of its 4-grams by which a name counts as another form of one that stands there.
_SAME_NAME = 0.8
# The words that a German text has most; one in nine of its words or more, one in a hundred of an English one.
_GERMAN = regex.compile(r"\b(?:der|die|das|den|dem|des|und|ist|ein|eine|einen|mit|nicht|auf)\b")
_LEAST_GERMAN = 0.06


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is missing for an answer; each figure lies in 0..1, and 0 is best.

    Words are the question's content words without its frame ("how many", "what is the name of"), weighted by their
    rarity among the sentences of the passages. The best sentence is the one that holds most of them, of equals one
    that also holds what is asked for; the best passage is the one it stands in, the best window a sentence with the
    one after it. Headings count as part of each sentence.
    """

    # Whether the passages are about the subject of the question at all.
    absent: float  # weight of the words that stand in no passage
    unlike: float  # weight of the words missing from the best window, parts of words counted by their grams
    missing_words: float  # number of words missing from the best window, 4 or more being 1
    missing_names: float  # share of the names missing from the best passage

    # Whether they say of it what is asked.
    missing_kind: float  # the best sentence holds no date for "when", no number for "how many", ...
    distant_kind: float  # how much fewer of the words the best sentence of that passage has which does hold one
    missing_unit: float  # "how many votes", and neither it nor the sentences beside it have a number of votes
    missing_name: float  # it lacks a name of the question in any form, and no pronoun stands for the one before
    missing_number: float  # the best passage lacks a number or year of the question
    scattered: float  # share of the words that the best passage holds outside its best sentence
    negation: float  # the question denies, and no sentence with as many of its words does
    opposite: float  # the best sentence has the opposite of a word that it lacks
    superlative: float  # the question asks for another extreme (first, largest) than the best sentence has
    qualifier: float  # a word that narrows the question (only, first, directly, before) is missing there
    exclusion: float  # the question excludes something (instead of, other than)
    swapped: float  # its names stand in every such sentence in another order, and no passive explains it


@dataclass(frozen=True, slots=True)
class _Word:
    """A content word of a question: its key is its stem or, in a script without spaces, one of its grams."""

    text: str
    key: str
    grams: frozenset[str]
    is_name: bool
    is_number: bool


@dataclass(frozen=True, slots=True)
class _Part:
    """A sentence of passage `number` (from 0), or two in a row."""

    number: int
    text: str
    words: frozenset[str]
    terms: frozenset[str]


def evidence(question: str, hits: Sequence[Hit]) -> Evidence | None:
    """The evidence in the passages; None without a passage, or for a question without content words."""
    sentences = [part for number, hit in enumerate(hits) for part in _parts(number, hit, 1)]
    asked = _content(question, names=not _capitalises_nouns(hits))
    if not sentences or not asked:
        return None
    scale = _Scale(asked, sentences)
    equals = _closest(scale, sentences)
    best = max(
        equals, key=lambda part: (holds_kind(question, part.text) is True, holds_unit(question, part.text) is True)
    )
    near = [part for part in sentences if part.number == best.number]
    return Evidence(*_subject(scale, hits, sentences), *_statement(question, scale, best, near, equals))


class _Scale:
    """The question's words with their inverse document frequency, the sentences being the documents."""

    def __init__(self, asked: Sequence[_Word], sentences: Sequence[_Part]) -> None:
        count = len(sentences)
        keys = {word.key for word in asked}
        held = Counter(key for part in sentences for key in keys & part.terms)
        self.asked = asked
        self.weight = {key: math.log(1 + (count - held[key] + 0.5) / (held[key] + 0.5)) for key in keys}
        self.total = sum(self.weight[word.key] for word in asked)

    def share(self, terms: Set[str], *, grams: bool = False) -> float:
        """The weight of the words among the terms; with `grams`, a word that is missing counts by its grams there."""
        return sum(self.weight[word.key] * _held(word, terms, grams) for word in self.asked) / self.total


def _held(word: _Word, terms: Set[str], grams: bool) -> float:
    if word.key in terms:
        return 1.0
    return len(word.grams & terms) / len(word.grams) if grams and word.grams else 0.0


def _subject(scale: _Scale, hits: Sequence[Hit], sentences: Sequence[_Part]) -> tuple[float, ...]:
    windows = [part for number, hit in enumerate(hits) for part in _parts(number, hit, 2)]
    best = max(windows, key=lambda part: scale.share(part.terms))
    near = _union(part for part in sentences if part.number == best.number)
    return (
        1 - scale.share(_union(sentences)),
        1 - scale.share(best.terms, grams=True),
        min(1.0, sum(word.key not in best.terms for word in scale.asked) / _MANY_MISSING),
        _share_missing([word for word in scale.asked if word.is_name], near),
    )


def _closest(scale: _Scale, sentences: Sequence[_Part]) -> list[_Part]:
    """The sentences that hold most of the question; there may be several."""
    shares = [scale.share(part.terms) for part in sentences]
    most = max(shares)
    return [part for part, share in zip(sentences, shares, strict=True) if share >= most]


def _statement(
    question: str, scale: _Scale, best: _Part, passage: Sequence[_Part], equals: Sequence[_Part]
) -> tuple[float, ...]:
    near = _union(passage)
    missing = [word for word in scale.asked if word.key not in best.terms]
    holding = [scale.share(part.terms) for part in passage if holds_kind(question, part.text)]
    kind = holds_kind(question, best.text)
    place = passage.index(best)
    around = " ".join(part.text for part in passage[max(0, place - 1) : place + 2])
    named = best.terms | passage[place - 1].terms if place and PRONOUN.match(best.text) else best.terms
    extremes = any(SUPERLATIVE.fullmatch(word.text) for word in missing)
    return (
        float(kind is False),
        0.0 if kind is None else scale.share(best.terms) - max(holding, default=0.0),
        float(holds_unit(question, around) is False),
        float(any(word.is_name and _held(word, named, grams=True) < _SAME_NAME for word in missing)),
        float(any(word.is_number and word.key not in near for word in scale.asked)),
        sum(word.key in near for word in missing) / len(scale.asked),
        float(bool(NEGATION.search(question)) and not any(NEGATION.search(part.text) for part in equals)),
        float(any(opposites(word.text) & best.words for word in missing)),
        float(extremes and any(map(SUPERLATIVE.fullmatch, best.words))),
        float(any(QUALIFIER.fullmatch(word.text) for word in missing)),
        float(bool(EXCLUSION.search(question))),
        float(all(_swapped(question, scale.asked, part.text) for part in equals)),
    )


def _swapped(question: str, asked: Sequence[_Word], text: str) -> bool:
    """Whether names of a question stand in a text in another order only, while both or neither may be passive.

    Who did what to whom is often told by order alone: "When did Kent declare war on Essex?" is not answered by "Essex
    declared war on Kent in 1756". Where names are joined by "and" or "or", their order says nothing.
    """
    if JOINED.search(question) or bool(PASSIVE.search(question)) != bool(PASSIVE.search(text)):
        return False
    names = dict.fromkeys(word.key for word in asked if word.is_name and not word.is_number)
    if len(names) < 2:
        return False
    keys = [key for word in _WORD.findall(text.lower()) for key in word_terms(word)[:1]]
    place = -1
    for name in names:
        if name in keys:
            if name not in keys[place + 1 :]:
                return True
            place = keys.index(name, place + 1)
    return False


def _capitalises_nouns(hits: Sequence[Hit]) -> bool:
    """Whether the passages are German, where a capital marks any noun."""
    words = sum(len(_WORD.findall(hit.chunk.text)) for hit in hits)
    return sum(len(_GERMAN.findall(hit.chunk.text)) for hit in hits) > _LEAST_GERMAN * words


def _content(question: str, *, names: bool) -> list[_Word]:
    """The content words of a question, without its frame; with `names`, a capital inside it marks one."""
    found: list[_Word] = []
    for match in _WORD.finditer(FRAME.sub(lambda frame: " " * len(frame[0]), question)):
        text = match[0]
        keys = word_terms(text.lower())
        name = names and text[0].isupper() and bool(question[: match.start()].strip())
        if keys[0:1] == keys[1:2]:  # `word_terms` begins with the stem, twice, where a word has one
            found += [_Word(text.lower(), keys[0], frozenset(keys[2:]), name, text[0].isdigit())] if keys else []
        else:
            found += [_Word(key, key, frozenset(), False, False) for key in dict.fromkeys(keys)]
    return found


def _parts(number: int, hit: Hit, sentences: int) -> Iterator[_Part]:
    """The runs of that many sentences of a passage, each with the words of the headings above it."""
    text = hit.chunk.text
    above = frozenset(_WORD.findall(" ".join((hit.chunk.title, *hit.chunk.headings, hit.chunk.context)).lower()))
    above_terms = _terms(above)
    found = units(text)
    for place, unit in enumerate(found):
        shown = text[unit.start : found[min(place + sentences, len(found)) - 1].end]
        words = frozenset(_WORD.findall(shown.lower()))
        yield _Part(number, shown, above | words, above_terms | _terms(words))


def _terms(words: Iterable[str]) -> frozenset[str]:
    return frozenset(chain.from_iterable(map(word_terms, words)))


def _union(parts: Iterable[_Part]) -> frozenset[str]:
    return frozenset().union(*(part.terms for part in parts))


def _share_missing(words: Sequence[_Word], terms: Set[str]) -> float:
    return sum(word.key not in terms for word in words) / len(words) if words else 0.0
