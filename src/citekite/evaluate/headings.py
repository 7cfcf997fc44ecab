"""Questions without a model: the headings of a collection that put a question, or say enough to stand for one.

The heading is the question and its section the evidence; `citekite.evaluate.masked` hides it from what is searched. For
a part of the questions the whole section is left out, so that nothing answers them.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TypeVar

import regex

from citekite.answer.extract import content_words
from citekite.evaluate.masked import HeadingPath, without_heading
from citekite.evaluate.question import Question
from citekite.evaluate.subjects import Subjects
from citekite.types import Chunk

T = TypeVar("T", "Candidate", Chunk)

# A section with more chunks answers many questions, and none of them is its heading. To be left out it may be larger.
_MOST_CHUNKS, _MOST_CHUNKS_LEFT_OUT = 4, 20
# Letters of a section that can be evidence; a line and a link are none.
_LEAST_LETTERS = 60
# Content words of a heading: a question may have fewer, because its form says what is asked.
_LEAST_WORDS, _LEAST_WORDS_OF_QUESTION = 3, 2
_MOST_CHARACTERS = 200

# How questions begin, in English, German, French, Spanish; and the words that make one in Chinese.
_OPENINGS = """
how what what's why when where which who whose can could does do did is are should will must may
wie was warum weshalb wann wo woher wohin womit wodurch welche welcher welches wer wem wozu kann können darf muss gibt
comment que quoi pourquoi quand où quel quelle quels quelles qui combien est-ce peut-on faut-il
cómo qué por-qué cuándo dónde cuál cuáles quién quiénes cuánto cuánta cuántos puedo puede
"""
_OPENING = regex.compile(
    r"¿|(?:" + "|".join(regex.escape(word).replace(r"\-", r"[\s-]") for word in _OPENINGS.split()) + r")(?![\w'’-])",
    regex.IGNORECASE,
)
_CHINESE = regex.compile(r"(?:如何|怎么|怎样|为什么|为何|什么|哪|谁|何时|多少|是否|能否|可否)|吗$")
_SPACELESS = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]")
_QUESTION_MARK = regex.compile(r"[?？]\s*$")
# Words that say nothing of a subject: headings made of them stand in every document.
_GENERIC_WORDS = """
about additional appendix basics before begin chapter conclusion contents details example examples faq faqs features
follow following frequently further general getting guide guides help how-to information introduction know learn
limitations links more need next note notes other overview part point prerequisites question questions quick read
reference references related requirements resource resources result results section see setup start started still
step steps summary table troubleshooting tutorial usage use used using want way welcome
überblick übersicht einführung einleitung zusammenfassung beispiel beispiele voraussetzungen schritt schritte hinweis
aperçu introduction résumé exemple exemples prérequis étape étapes résumen introducción ejemplo ejemplos pasos
"""
_NUMBERING = regex.compile(
    r"^(?:(?:step|schritt|étape|paso|part|chapter|scenario|example)\s+)?\(?\d+(?:\.\d+)*[.):：]?\s+|^第.{1,3}[章节步]\s*",
    regex.IGNORECASE,
)
# One of a series: without the others it asks nothing.
_STEP = regex.compile(r"^(?:step|schritt|étape|paso|phase|scenario|example|option|method|figure|table)\b\s*\d", regex.I)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A heading that can be a question: its text, its path, and the chunks of its section without the heading."""

    text: str
    source: str
    path: HeadingPath
    passages: tuple[str, ...]
    is_question: bool


def questions_from_headings(chunks: Iterable[Chunk], *, count: int, unanswerable: float, seed: int) -> list[Question]:
    """At most `count` questions, the share `unanswerable` of them without an answer in what is left to search.

    Headings that put a question come first; the documents take turns. An unanswerable one is chosen only where no other
    chunk is about its subject (`Subjects.elsewhere`), so there may be fewer of them. The same chunks and seed give the
    same questions.
    """
    stored = sorted(chunks, key=lambda chunk: (chunk.source, chunk.ordinal))
    found = candidates(stored)
    rng = random.Random(seed)
    ordered = [
        *in_turn((one for one in found if one.is_question), rng),
        *in_turn((one for one in found if not one.is_question), rng),
    ]
    subjects = Subjects(stored, [one.text for one in found])
    ordered = [one for one in ordered if not subjects.says_verbatim(one.text, one.source, one.path)]
    chosen = [one for one in ordered if len(one.passages) <= _MOST_CHUNKS][:count]
    left_out = _unanswerable(ordered, chosen, subjects, round(unanswerable * count), rng)
    kept = [one for one in chosen if one not in left_out][: count - len(left_out)]
    questions = [one for one in ordered if one in kept or one in left_out]
    return [_question(number, one, one not in left_out) for number, one in enumerate(questions, start=1)]


def candidates(chunks: Sequence[Chunk]) -> list[Candidate]:
    """The headings that can be questions, in the order of the documents."""
    sections: dict[tuple[str, HeadingPath], list[Chunk]] = defaultdict(list)
    for chunk in chunks:
        for length in range(1, len(chunk.headings) + 1):
            sections[chunk.source, chunk.headings[:length]].append(chunk)
    texts = Counter(_folded(path[-1]) for _, path in sections)
    found = []
    for (source, path), members in sections.items():
        if len(members) > _MOST_CHUNKS_LEFT_OUT or texts[_folded(path[-1])] > 1 or _is_file_name(path, source):
            continue
        text = heading_as_question(path[-1])
        bodies = [without_heading(c, c.headings[-1]).text.strip() for c in members]
        letters = sum(character.isalpha() for body in bodies for character in body)
        if text and letters >= _LEAST_LETTERS:
            passages = tuple(body for body in bodies if body)
            found.append(Candidate(text, source, path, passages, puts_question(text)))
    return found


def heading_as_question(heading: str) -> str:
    """The heading as a question, without its number; empty for one that says too little or is generic.

    >>> heading_as_question("2.1 Where does Milvus store data?"), heading_as_question("Next steps")
    ('Where does Milvus store data?', '')
    """
    if _STEP.match(heading):
        return ""
    text = _NUMBERING.sub("", " ".join(heading.split()))
    if not puts_question(text) and not _SPACELESS.search(text) and len(text.split()) < _LEAST_WORDS:
        return ""  # also a name such as `log.file.maxSize`, whatever it is made of
    least = _LEAST_WORDS_OF_QUESTION if puts_question(text) else _LEAST_WORDS
    return text if len(text) <= _MOST_CHARACTERS and len(_telling(text)) >= least else ""


def puts_question(text: str) -> bool:
    """Whether a heading is a question, by its mark or by how it begins (English, German, French, Spanish, Chinese).

    >>> [puts_question(text) for text in ("Is it scalable?", "Wie speichert man", "如何安装", "Red kite")]
    [True, True, True, False]
    """
    return bool(_QUESTION_MARK.search(text) or _OPENING.match(text) or _CHINESE.search(text))


def _is_file_name(path: HeadingPath, source: str) -> bool:
    """Whether a title was made of the file's name, for want of a better one."""
    name = PurePosixPath(source.rpartition("!")[2]).stem
    return len(path) == 1 and regex.findall(r"\w+", _folded(path[0])) == regex.findall(r"[^\W_]+", _folded(name))


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())


def _telling(text: str) -> set[tuple[str, ...] | str]:
    """The content words of a text that are about a subject; in a script without spaces, its grams."""
    found: set[tuple[str, ...] | str] = set()
    for word in regex.findall(r"[\w\p{M}'’-]+", text.lower()):
        if word in _UNTELLING:
            continue
        for words in content_words(word):
            found |= set(words) if len(words) > 1 else {words}
    return found


_UNTELLING = frozenset(_GENERIC_WORDS.split()) | frozenset(_OPENINGS.split())


def in_turn(found: Iterable[T], rng: random.Random) -> Iterator[T]:
    """Chunks or candidates in random order, one of each document before the second of any."""
    by_source: dict[str, list[T]] = defaultdict(list)
    for one in found:
        by_source[one.source].append(one)
    groups = list(by_source.values())
    rng.shuffle(groups)
    for group in groups:
        rng.shuffle(group)
    for turn in range(max(map(len, groups), default=0)):
        yield from (group[turn] for group in groups if turn < len(group))


def _unanswerable(
    ordered: Sequence[Candidate], chosen: Sequence[Candidate], subjects: Subjects, wanted: int, rng: random.Random
) -> list[Candidate]:
    """Candidates whose sections can be left out: those chosen already in random order, then the others."""
    rest = [one for one in ordered if one not in chosen]
    found: list[Candidate] = []
    for one in [*rng.sample(chosen, len(chosen)), *rest]:
        if len(found) == wanted:
            break
        nested = any(
            other is not one and other.source == one.source and _nested(other.path, one.path)
            for other in (*chosen, *found)
        )
        if not nested and not subjects.elsewhere(one.text, one.source, one.path):
            found.append(one)
    return found


def _nested(one: HeadingPath, other: HeadingPath) -> bool:
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]


def _question(number: int, one: Candidate, answerable: bool) -> Question:
    return Question(
        f"q{number}",
        one.text,
        sources=(one.source,) if answerable else (),
        passages=one.passages if answerable else (),
        answerable=answerable,
        heading=one.path,
        source=one.source,
    )
