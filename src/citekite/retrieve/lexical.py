"""Lexical analysis that needs no language setting: the same terms from a chunk and from a question.

A word gives its Snowball stem twice and the 4-grams of the marked word; runs of scripts without spaces give 2-grams
or 3-grams. Grams make one analysis work in every language and forgive typos; the doubled stem keeps whole words
ahead of parts of words. Milvus' `standard` analyzer and a whitespace tokenizer see the same terms in the result, so
ranking is alike on a server and in the embedded database. docs/retrieval.md has the measurements.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import regex

if TYPE_CHECKING:
    import Stemmer

# Combining marks belong to the word: without them Hindi falls apart into consonants.
_WORD = regex.compile(r"[\w\p{M}]+")
_TWO_GRAM_RUN = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}ー]+")
_THREE_GRAM_RUN = regex.compile(r"[\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]+")
_SPACELESS = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}ー]+|[\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]+")
# Marks the edges of a word inside its grams; a digit, because no analyzer splits a token at it.
_EDGE = "0"
_GRAM = 4

# English function words: left out of the terms, and their share tells whether a text is English.
_STOP_WORDS = """
a about above after again against all am an and any are as at be because been before being below between both but by
can could did do does doing down during each few for from further had has have having he her here hers him his how i
if in into is it its itself just me more most my no nor not now of off on once only or other our out over own same
she should so some such than that the their them then there these they this those through to too under until up very
was we were what when where which while who whom why will with would you your
"""
ENGLISH_STOP_WORDS = frozenset(_STOP_WORDS.split())


def terms(text: str) -> list[str]:
    """The terms of a text, in order and with repetitions (term frequency counts).

    >>> terms("Where are indexes?")
    ['index', 'index', '0ind', 'inde', 'ndex', 'dexe', 'exes', 'xes0']
    >>> terms("数据库")
    ['数据', '据库']
    """
    found: list[str] = []
    for word in _WORD.findall(text.lower()):
        found += word_terms(word)
    return found


def analyse(text: str) -> str:
    """The terms of a text joined by spaces: what a lexical index stores and a query is made of."""
    return " ".join(terms(text))


@lru_cache(maxsize=65536)
def word_terms(word: str) -> tuple[str, ...]:
    """The terms of one lower-case word; cached, because words repeat (a document costs little more than a lookup)."""
    if word in ENGLISH_STOP_WORDS:
        return ()
    if _SPACELESS.search(word):
        return tuple(_spaceless_terms(word))
    stem = _stemmer().stemWord(word)
    marked = f"{_EDGE}{word}{_EDGE}"
    grams = (marked[i : i + _GRAM] for i in range(max(1, len(marked) - _GRAM + 1)))
    return (stem, stem, *grams)


def english_share(text: str) -> float | None:
    """The share of English function words among a text's words, None for a text without words.

    English prose has 0.3 to 0.5; German, French or Spanish under 0.1; texts without spaces about 0.
    """
    words = _WORD.findall(text.lower())
    if not words:
        return None
    return sum(word in ENGLISH_STOP_WORDS for word in words) / len(words)


def _spaceless_terms(word: str) -> list[str]:
    found: list[str] = []
    end = 0
    for run in _SPACELESS.finditer(word):
        if between := word[end : run.start()]:
            found += word_terms(between)
        size = 2 if _TWO_GRAM_RUN.match(run.group()) else 3
        text = run.group()
        found += [text[i : i + size] for i in range(max(1, len(text) - size + 1))]
        end = run.end()
    if rest := word[end:]:
        found += word_terms(rest)
    return found


@lru_cache(maxsize=1)
def _stemmer() -> Stemmer.Stemmer:
    import Stemmer

    return Stemmer.Stemmer("english", 0)  # no cache of its own: `word_terms` has one
