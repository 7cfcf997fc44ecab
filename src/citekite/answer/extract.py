"""Answers without a model: the sentences of the retrieved passages that answer a question best.

A sentence scores by its BM25 among the sentences of the passages, with something of its neighbours' (an answer often
stands next to the sentence that repeats the question); by the score of its passage; by holding the kind of thing that
is asked for; and by standing close under a heading that puts the question.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import regex

from citekite.answer.sentences import Kind, Unit, outside_code, units
from citekite.retrieve.lexical import terms, word_terms
from citekite.types import Hit

# Chosen on questions over encyclopaedia paragraphs in English, German and Chinese (bench/extractive.py prints the
# share of answers that hold a gold answer). b is low, because a long sentence is no worse an answer.
_K1, _B = 1.2, 0.3
_BEFORE_WEIGHT, _AFTER_WEIGHT = 0.2, 0.1
_PASSAGE_WEIGHT = 0.5
_KIND_WEIGHT = 0.25
_HEADING_WEIGHT = 2.0
_POINTER_WEIGHT = 1.0
_DEFINITION_WEIGHT = 1.0
# The longest run of list items that is shown together with the sentence that introduces it, in characters.
_LIST_CHARACTERS = 600

_SAME_QUESTION = 0.5
_YES_OR_NO = regex.compile(r"(?:yes|no|ja|nein|oui|non|sí)[.!]\s+(?=\S)", regex.IGNORECASE)
# A sentence that only says where to read on, or what is to come.
_POINTER = regex.compile(
    r"(?:please )?(?:see|refer to|check out|learn)\b|for (?:more|further|additional|detail(?:s|ed))\b"
    r"|th(?:is|e following) (?:topic|guide|page|section|chapter|tutorial|article|document|example) "
    r"(?:will |also )?(?:describe|explain|show|introduce|provide|walk|list|demonstrate|cover|help)",
    regex.IGNORECASE,
)
_ARTICLE = r"(?:(?:an?|the|eine?|der|die|das) )?"
_WHAT_IS = regex.compile(
    rf"(?:(?:what|who) (?:is|are|was|were)|was (?:ist|sind)) {_ARTICLE}(?P<subject>[^?]{{1,60}}?) ?\??",
    regex.IGNORECASE,
)
_WORD = regex.compile(r"[\w\p{M}]+")
_LINK = regex.compile(r"\[[^\]\n]*\]\([^)\n]*\)|<a\b[^<>]*>[^<>]*</a>|<[^<>]*>", regex.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Sentence:
    """What is shown of passage `passage_number` (from 1): `text` is `chunk.text[start:end]`."""

    passage_number: int
    start: int
    end: int
    text: str
    score: float


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A unit of a passage: its place (from 0, headings left out), how far the heading above asks the question, its
    span with what it announces, and the part that is scored."""

    number: int
    hit: Hit
    place: int
    asked: float
    start: int
    end: int
    scored: str
    kind: Kind


def extract(question: str, passages: Sequence[Hit], *, sentences: int = 2) -> list[Sentence]:
    """The at most `sentences` sentences that answer best; the best passage's first, in its own order within a passage.

    A sentence that announces a list or code ("Run the following:") comes together with it.
    """
    candidates = [found for number, hit in enumerate(passages, 1) for found in _candidates(question, number, hit)]
    candidates = [found for found in candidates if found.kind != "heading"] or candidates
    scores = _scores(question, candidates)
    ranked = sorted(zip(scores, candidates, strict=True), key=lambda pair: -pair[0])
    chosen = [
        Sentence(found.number, found.start, found.end, found.hit.chunk.text[found.start : found.end], score)
        for score, found in _without_overlap(ranked)[:sentences]
    ]
    best: dict[int, int] = {}
    for place, sentence in enumerate(chosen):
        best.setdefault(sentence.passage_number, place)
    return sorted(chosen, key=lambda sentence: (best[sentence.passage_number], sentence.start))


def content_words(text: str) -> list[tuple[str, ...]]:
    """The words of a text that carry its content: of each the stem, or its grams in a script without spaces.

    >>> content_words("Where are the indexes?")
    [('index',)]
    """
    found = [word_terms(word) for word in _WORD.findall(text.lower())]
    # `word_terms` begins with the stem, twice, where a word has one.
    return [words[:1] if words[0:1] == words[1:2] else words for words in found if words]


def readable(text: str) -> str:
    """A span of a document as prose: link targets, tags, footnote numbers and table frames off, lines joined.

    >>> readable("Stored in [MinIO](https://min.io)[2],\\nor <b>S3</b>.")
    'Stored in MinIO, or S3.'
    """
    return outside_code(_plain, text.strip().removeprefix("|").removesuffix("|").strip())


# Heading marks, images, links, footnote numbers, HTML tags, frames of tables, and line ends inside a paragraph.
_CLEANINGS = (
    (regex.compile(r"^[ \t]{0,3}#{1,6}[ \t]+", regex.MULTILINE), ""),
    (regex.compile(r"!\[[^\]\n]*\]\([^)\n]*\)"), ""),
    (regex.compile(r"\[([^\]\n]+)\](?:\([^)\n]*\)|\[[^\]\n]*\])"), r"\1"),
    (regex.compile(r"[ \t]*\[\^?\d{1,3}\]"), ""),
    (
        regex.compile(
            r"</?(?:a|b|br|code|details|div|em|font|i|li|ol|p|span|strong|su[bp]|summary|u|ul)\b[^<>]*>",
            regex.IGNORECASE,
        ),
        "",
    ),
    (regex.compile(r"[ \t]*\n(?![ \t]*(?:\n|[-*+•|]|\d{1,3}[.)][ \t]|\Z))[ \t]*(?<!\n\n)"), " "),
)


def _plain(text: str) -> str:
    for pattern, replacement in _CLEANINGS:
        text = pattern.sub(replacement, text)
    return text


def _candidates(question: str, number: int, hit: Hit) -> Iterator[_Candidate]:
    """What can be shown of a passage: each unit, with what it announces.

    "Yes." answers the heading above it: under a heading that puts another question it would mislead, and is left off.
    """
    text = hit.chunk.text
    found = _with_question_as_heading(text, units(text))
    heading = text[found[0].start : found[0].end] if found and found[0].kind == "heading" else ""
    asked = _heading_share(question, (*hit.chunk.headings[-1:], heading))
    headings = 0
    for place, unit in enumerate(found):
        headings += unit.kind == "heading"
        end = _announced_end(text, found, place)
        yes = _YES_OR_NO.match(text, unit.start, unit.end) if asked < _SAME_QUESTION else None
        start = yes.end() if yes else unit.start
        yield _Candidate(number, hit, place - headings, asked, start, end, text[start : unit.end], unit.kind)


def _with_question_as_heading(text: str, found: Sequence[Unit]) -> Sequence[Unit]:
    """The units, where a question in front is a heading: it is what the rest answers, and no answer itself."""
    if len(found) > 1 and text[found[0].end - 1] in "?？":
        return [replace(found[0], kind="heading"), *found[1:]]
    return found


def _announced_end(text: str, body: Sequence[Unit], place: int) -> int:
    """The end of a unit together with the list, table or code that it announces with a colon."""
    unit = body[place]
    end = unit.end
    if unit.kind != "sentence" or text[end - 1] not in ":：":
        return end
    for following in body[place + 1 :]:
        if following.kind == "code":
            return following.end if end == unit.end else end
        if following.kind not in ("item", "row") or following.end - unit.start > _LIST_CHARACTERS:
            break
        end = following.end
    return end


def _without_overlap(ranked: Sequence[tuple[float, _Candidate]]) -> list[tuple[float, _Candidate]]:
    """The ranked candidates without those that lie inside, hold or repeat a better one."""
    kept: list[tuple[float, _Candidate]] = []
    for score, found in ranked:
        if not any(_overlap(found, other) or found.scored == other.scored for _, other in kept):
            kept.append((score, found))
    return kept


def _overlap(one: _Candidate, other: _Candidate) -> bool:
    return one.number == other.number and one.start < other.end and other.start < one.end


def _scores(question: str, candidates: Sequence[_Candidate]) -> list[float]:
    if not candidates:
        return []
    overlap = _bm25(terms(question), [terms(found.scored) for found in candidates])
    most = max(overlap) or 1.0
    best = max(found.hit.score for found in candidates) or 1.0
    kind, defines = _kind_asked_for(question), _definition(question)
    scores = []
    for place, found in enumerate(candidates):
        score = overlap[place] / most + _PASSAGE_WEIGHT * found.hit.score / best
        for step, weight in ((-1, _BEFORE_WEIGHT), (1, _AFTER_WEIGHT)):
            beside = place + step
            if 0 <= beside < len(candidates) and candidates[beside].number == found.number:
                score += weight * overlap[beside] / most
        score += _KIND_WEIGHT * (kind is not None and _holds(kind, found.scored, question))
        score += _HEADING_WEIGHT * found.asked / 2**found.place
        score += _DEFINITION_WEIGHT * bool(defines and defines.match(readable(found.scored)))
        says_nothing = _says_nothing(found.scored) or (found.kind == "code" and _holds_question(found.scored, question))
        scores.append(score - _POINTER_WEIGHT * says_nothing)
    return scores


def _definition(question: str) -> regex.Pattern[str] | None:
    """What a sentence begins with that defines the subject of "What is X?": "X (abbreviated) is"; None for another."""
    asks = _WHAT_IS.fullmatch(question.strip())
    if asks is None:
        return None
    subject = rf"[*_`]*{regex.escape(asks['subject'])}[*_`]*(?: ?\([^()]*\))?"
    return regex.compile(rf"{_ARTICLE}{subject} (?:is|are|was|were|refers? to|means?|ist|sind)\b", regex.IGNORECASE)


def _says_nothing(text: str) -> bool:
    """Whether a sentence points elsewhere, asks a question itself, or consists of links."""
    shown = readable(text)
    return bool(_POINTER.match(shown)) or shown.endswith(("?", "？")) or not _WORD.search(_LINK.sub("", text))


def _holds_question(code: str, question: str) -> bool:
    """Whether code has the whole question in it: an example that asks it matches best, and answers nothing."""
    return " ".join(question.casefold().split()) in " ".join(code.casefold().split())


def _bm25(query: Sequence[str], texts: Sequence[Sequence[str]]) -> list[float]:
    """The BM25 of each text for the query, with the texts themselves as the collection."""
    counts = [Counter(text) for text in texts]
    mean = sum(map(len, texts)) / len(texts) or 1.0
    frequency = Counter(term for count in counts for term in count)
    weight = {
        term: times * math.log(1 + (len(texts) - frequency[term] + 0.5) / (frequency[term] + 0.5))
        for term, times in Counter(query).items()
    }
    scores = []
    for text, count in zip(texts, counts, strict=True):
        norm = _K1 * (1 - _B + _B * len(text) / mean)
        scores.append(
            sum(weight[term] * count[term] * (_K1 + 1) / (count[term] + norm) for term in weight if count[term])
        )
    return scores


def _heading_share(question: str, headings: Sequence[str]) -> float:
    """How far one of the headings puts the question: the F2 measure of their content words, to the fourth power.

    F2, because a heading may say more than the question; a high power, because one that shares half of the words
    commonly puts another question about the same subject.
    """
    asked = {word for words in content_words(question) for word in words}
    shares = [0.0]
    for heading in headings:
        said = {word for words in content_words(heading) for word in words}
        if asked and said:
            shares.append((5 * len(asked & said) / (4 * len(asked) + len(said))) ** 4)
    return max(shares)


# What a question asks for, told by its question word, and how a sentence shows that it holds it.
_ASKS_FOR = {
    "date": regex.compile(
        r"\bwhen\b|\b(?:what|which) (?:year|date|day|month|century|decade)\b|\bwann\b|\bin welchem jahr|\bquand\b"
        r"|\bcuándo\b|什么时候|何时|哪(?:一)?年|いつ",
        regex.IGNORECASE,
    ),
    "number": regex.compile(
        r"\bhow (?:many|much|long|old|far|tall|high|large|big|often|fast|deep|wide|heavy)\b"
        r"|\bwhat (?:percentage|percent|number|amount|proportion|size)\b|\bwie ?viele?\b|\bwie (?:lange|alt|hoch)\b"
        r"|\bcombien\b|\bcuánt[oa]s?\b|多少|几",
        regex.IGNORECASE,
    ),
    "name": regex.compile(
        r"\bwho(?:m|se)?\b|\bwhere\b|\b(?:what|which) (?:city|country|person|team|company)\b", regex.IGNORECASE
    ),
}
_HOLDS = {
    "date": regex.compile(
        r"(?<!\d)(?:1\d|20)\d{2}(?!\d)|\b(?:january|february|march|april|may|june|july|august|september|october|november"
        r"|december|century|monday|tuesday|wednesday|thursday|friday|saturday|sunday)\b|\d{1,2}(?:月|日|世纪)",
        regex.IGNORECASE,
    ),
    "number": regex.compile(
        r"\d|\b(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|dozen|hundred|thousand|million|billion"
        r"|half|third|quarter|twice|once|percent)\b",
        regex.IGNORECASE,
    ),
    # A capital that does not begin the sentence.
    "name": regex.compile(r"""(?<=[\p{L}\p{N},;:)] ['"“(]?)\p{Lu}[\p{L}.]+"""),
}


def _kind_asked_for(question: str) -> str | None:
    return next((kind for kind, pattern in _ASKS_FOR.items() if pattern.search(question)), None)


def _holds(kind: str, sentence: str, question: str) -> bool:
    """Whether a sentence holds a thing of that kind which the question does not name itself."""
    asked = set(_WORD.findall(question.casefold()))
    return any(not asked.issuperset(_WORD.findall(match[0].casefold())) for match in _HOLDS[kind].finditer(sentence))
