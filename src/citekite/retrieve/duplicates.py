"""Near-duplicates among the hits of one search: the same text in several places is one passage with several sources."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import regex

from citekite.types import Chunk, Hit

# Broder, "On the resemblance and containment of documents" (1997): the Jaccard coefficient of the sets of word 5-grams.
_SHINGLE = 5
# Of the pairs in the Milvus documentation with equal numbers, all above this differed in nothing that matters; from 0.9
# on a third did ("cluster" against "instance"), and from 0.85 on "--gpus all" was missing (docs/retrieval.md).
_NEARLY_ALL = 0.95
# A shorter text has to be equal: one word may be all that it says.
_LEAST_WORDS = 40

_WORD = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]|[\w\p{M}]+")
_NUMBER = regex.compile(r"\d+")


# Texts whose lengths differ by more cannot share so many 5-grams, and need not be cut into them.
_LENGTHS = 0.8


class _Fingerprint:
    """What is compared of a chunk; its words are cut into 5-grams only when there is a text to compare them with."""

    def __init__(self, chunk: Chunk, plain: str) -> None:
        self.plain = plain
        self._headings = chunk.headings

    def resembles(self, other: _Fingerprint) -> bool:
        if self.plain == other.plain:
            # "None." means what the headings above it say.
            return len(self._words) >= _SHINGLE or self._headings == other._headings
        shorter, longer = sorted((len(self.plain), len(other.plain)))
        if shorter < _LENGTHS * longer:
            return False
        fewer, more = sorted((len(self._shingles), len(other._shingles)))
        if fewer == 0 or fewer < _NEARLY_ALL * more:
            return False
        shared = len(self._shingles & other._shingles)
        return shared >= _NEARLY_ALL * (fewer + more - shared)

    @cached_property
    def _words(self) -> list[str]:
        return _WORD.findall(self.plain)

    @cached_property
    def _shingles(self) -> frozenset[tuple[str, ...]]:
        """The word 5-grams; none of a short text."""
        words = self._words
        if len(words) < _LEAST_WORDS:
            return frozenset()
        return frozenset(tuple(words[i : i + _SHINGLE]) for i in range(len(words) - _SHINGLE + 1))


def collapse(hits: Sequence[Hit]) -> list[Hit]:
    """The hits without those that nearly repeat a better one, which lists their chunks in `others`; ranks from 1 on.

    Two texts are the same when they are equal but for case and white space or, from 40 words on, share 95 % of their
    word 5-grams. Texts with different numbers in them never are: they are about two versions, prices or dates.
    """
    kept: list[Hit] = []
    by_numbers: dict[tuple[str, ...], list[tuple[_Fingerprint, int]]] = {}
    for hit in hits:
        plain = _plain(hit.chunk.text)
        fingerprint = _Fingerprint(hit.chunk, plain)
        group = by_numbers.setdefault(tuple(_NUMBER.findall(plain)), [])
        place = next((place for known, place in group if known.resembles(fingerprint)), None)
        if place is None:
            group.append((fingerprint, len(kept)))
            kept.append(replace(hit, rank=len(kept) + 1))
        else:
            kept[place] = replace(kept[place], others=(*kept[place].others, hit.chunk, *hit.others))
    return kept


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
